"""Balance between a network and its controls in the energy that their lesions remove."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from lmri.networks import Network
from lmri.space import NeuronSpace


@dataclass(frozen=True)
class Balance:
    """Removed energy of a network compared with its controls, in expectation over all draws.

    Parameters
    ----------
    network : str
        Name of the network.
    n_neurons, n_unmatched : int
        Numbers of members, and of members without a match.
    smd_before, smd_after : float
        Standardized mean difference of log energy between members and controls, for matching by layer and size only and
        for matching by energy too. The unit is the standard deviation within layers, the same before and after, so that
        matching cannot reduce the difference by inflating the standard deviation [1]_.
    energy_before, energy_after : float
        Energy that the lesion of the network removes, divided by the average energy that lesions of its controls
        remove.
    overlap : float
        Expected share of a control's neurons that belong to the network.

    References
    ----------
    .. [1] Stuart (2010). Matching methods for causal inference: a review and a look forward. Statistical Science, 25,
       1-21.
    """

    network: str
    n_neurons: int
    n_unmatched: int
    smd_before: float
    smd_after: float
    energy_before: float
    energy_after: float
    overlap: float

    def row(self) -> dict[str, Any]:
        """Return the balance as a row of a table."""
        return asdict(self)


def measure(
    space: NeuronSpace, energy: np.ndarray, strata: np.ndarray, network: Network, n_unmatched: int = 0
) -> Balance:
    """Measure the balance of controls that are drawn within strata.

    Parameters
    ----------
    space : NeuronSpace
        Space of the neurons.
    energy : ndarray of shape (n_neurons,)
        Energy that a lesion of each neuron removes.
    strata : ndarray of int, shape (n_neurons,)
        Stratum of each neuron; each stratum is within one layer.
    network : Network
        Thresholded network; all values are missing if it is empty.
    n_unmatched : int
        Number of members without a match, reported unchanged.
    """
    members = network.members
    n_members = int(members.sum())
    if not n_members:
        return Balance(network.name, 0, n_unmatched, *[float("nan")] * 5)
    logs = _log(space, energy)
    layers = space.layer_of
    by_layer, by_stratum = _mean_of(layers, logs), _mean_of(strata, logs)
    # The expected value of a drawn neuron is the mean of its layer or stratum.
    before = float((logs - by_layer)[members].mean())
    after = float((logs - by_stratum)[members].mean())
    member_variance = float((logs - by_layer)[members].var())
    control_variance = float(_mean_of(layers, (logs - by_layer) ** 2)[members].mean())
    scale = np.sqrt((member_variance + control_variance) / 2)
    removed = float(energy[members].sum())
    in_stratum = _mean_of(strata, members.astype(float))
    return Balance(
        network.name,
        n_members,
        n_unmatched,
        _ratio(before, scale),
        _ratio(after, scale),
        _ratio(removed, float(_mean_of(layers, energy)[members].sum())),
        _ratio(removed, float(_mean_of(strata, energy)[members].sum())),
        float(in_stratum[members].mean()),
    )


def _log(space: NeuronSpace, energy: np.ndarray) -> np.ndarray:
    """Compute logarithms; dead neurons get the smallest positive energy of their layer."""
    logs = np.zeros(space.n_neurons)
    for z in range(space.n_layers):
        in_layer = slice(int(space.offsets[z]), int(space.offsets[z + 1]))
        living = energy[in_layer][energy[in_layer] > 0]
        if living.size:
            logs[in_layer] = np.log(np.maximum(energy[in_layer], living.min()))
    return logs


def _mean_of(groups: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Return, for every neuron, the mean of its group."""
    return (np.bincount(groups, weights=values) / np.bincount(groups))[groups]


def _ratio(value: float, scale: float) -> float:
    # Rounding may leave a tiny difference where the true one is 0.
    if scale > 1e-12:
        return float(value / scale)
    return 0.0 if abs(value) <= 1e-9 else float(np.copysign(np.inf, value))
