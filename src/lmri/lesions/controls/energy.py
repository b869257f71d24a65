"""Controls matched by removed energy: drawn within strata of neurons with similar removed energy."""

import math
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from lmri.exceptions import SpaceMismatchError
from lmri.lesions.controls.base import (
    DRAWS,
    Controls,
    check_n,
    common_notes,
    n_choices,
    only_itself,
    overlap_within,
    permutation_within,
    permute_members,
    relocate_weights,
)
from lmri.lesions.controls.energy_balance import Balance, measure
from lmri.lesions.controls.energy_measurement import removed_energy
from lmri.lesions.controls.family import ControlFamily, Lesioned
from lmri.networks import Network
from lmri.space import NeuronSpace
from lmri.storage import digest
from lmri.storage.recording import Recording

IMBALANCED = 0.1
"""Conventional limit of the standardized mean difference, above which groups count as imbalanced."""


@dataclass(frozen=True, eq=False)
class EnergyMatchedControls:
    """Random neurons, the same number in every layer, with similar removed energy.

    The neurons of each layer are sorted by the energy that their lesion removes, and cut into strata within which it
    differs by at most the factor `ratio`. A control has the same number of neurons in each stratum as the network. All
    neurons of a stratum, including members, are equally likely to be drawn, so p is exact. A member whose stratum
    contains only members has no match and is in every control.

    Parameters
    ----------
    space : NeuronSpace
        Space of the neurons.
    energy : ndarray of shape (n_neurons,)
        Energy that a lesion of each neuron removes, as computed by `removed_energy`; 0 for a dead neuron.
    n : int, default=100
        Number of draws per network.
    baseline : str, default="zero"
        Baseline of the lesion for which the energy was measured.
    ratio : float, default=1.5
        Largest ratio of energies within a stratum.
    size : int, default=20
        Approximate number of neurons per stratum where energies are dense.
    """

    space: NeuronSpace
    energy: np.ndarray
    n: int = 100
    baseline: str = "zero"
    ratio: float = 1.5
    size: int = 20

    def __post_init__(self) -> None:
        check_n(self.n)
        if self.energy.shape != (self.space.n_neurons,):
            raise SpaceMismatchError(
                f"energy has shape {self.energy.shape}; ({self.space.n_neurons},) is needed, in (layer, neuron) order."
            )
        wrong = np.flatnonzero(~np.isfinite(self.energy) | (self.energy < 0))
        if wrong.size:
            layer, neuron = self.space.layer_of[wrong[0]], self.space.neuron_of[wrong[0]]
            raise ValueError(
                f"The energy of neuron {neuron} of layer {layer} is {self.energy[wrong[0]]}; energies must be finite "
                "and not negative. Measure them with removed_energy(recording)."
            )
        if not (math.isfinite(self.ratio) and self.ratio > 1):
            raise ValueError(f"ratio is {self.ratio}; it must be above 1, such as 1.5.")
        if self.size < 2:
            raise ValueError(f"size is {self.size}; a stratum needs at least 2 neurons to draw from.")

    @classmethod
    def measured(
        cls,
        recordings: Recording | Sequence[Recording],
        baseline: str = "zero",
        norms: np.ndarray | None = None,
        n: int = 100,
        given: Recording | None = None,
    ) -> "EnergyMatchedControls":
        """Create controls from energies measured on recordings of the fitted texts.

        Parameters
        ----------
        recordings : Recording or sequence of Recording
            Recordings at the site of the networks.
        baseline : {"zero", "mean", "resample"}
            Baseline of the lesion. The energy changed by a gain is proportional to the energy for ``"zero"``.
        norms : ndarray of shape (n_neurons,), optional
            Squared norms ``lmri.interventions.output_norms(model, recording.space)``; required at ``mlp_hidden``.
        n : int, default=100
            Number of draws per network.
        given : Recording, optional
            Recording of the baseline, if it is another one: its mean, or its tokens as donors.
        """
        energy = removed_energy(recordings, baseline, norms, given)
        space = (recordings if isinstance(recordings, Recording) else recordings[0]).space
        return cls(space, energy, n, baseline)

    @property
    def family(self) -> str:
        """Name of the family in tables."""
        return FAMILY.family

    @cached_property
    def strata(self) -> np.ndarray:
        """Stratum of every neuron: int, ``(n_neurons,)``; each stratum is within one layer."""
        labels = np.empty(self.space.n_neurons, dtype=np.intp)
        n_strata = 0
        for z in range(self.space.n_layers):
            in_layer = slice(int(self.space.offsets[z]), int(self.space.offsets[z + 1]))
            labels[in_layer] = n_strata + cut(self.energy[in_layer], self.ratio, self.size)
            n_strata = int(labels[in_layer].max()) + 1
        return labels

    @cached_property
    def _sizes(self) -> np.ndarray:
        return np.bincount(self.strata)

    def _counts(self, network: Network) -> np.ndarray:
        """Count the members in every stratum."""
        self.space.check_same(network.space, repr(network.name))
        return np.bincount(self.strata[network.members], minlength=len(self._sizes))

    def draw(self, network: Network, number: int, seed: int) -> Network:
        """Draw one control, which has the network's weights at other neurons.

        Parameters
        ----------
        network : Network
            Thresholded network.
        number : int
            Number of the draw; the same number and seed permute the same neurons for every network.
        seed : int
            Seed of all draws.
        """
        self._counts(network)  # raises if the geometry differs
        places = permute_members(network, permutation_within(self.strata, [seed, number, zlib.crc32(b"energy")]))
        return relocate_weights(
            network, np.flatnonzero(network.members), places, f"{network.name}-energy-control-{number:03d}"
        )

    def expected_overlap(self, network: Network) -> float:
        """Compute the expected share of a control's neurons that belong to the network, over draws."""
        return overlap_within(self._sizes, self._counts(network))

    def n_possible(self, network: Network) -> float:
        """Count the distinct sets that can be drawn, including the network itself; may be infinity."""
        return n_choices(self._sizes, self._counts(network))

    def unmatched(self, network: Network) -> pd.DataFrame:
        """List the members without a match, ``layer, neuron, energy``: their stratum contains only members."""
        full = self._counts(network) == self._sizes
        places = np.flatnonzero(network.members & full[self.strata])
        return pd.DataFrame(
            {
                "layer": self.space.layer_of[places],
                "neuron": self.space.neuron_of[places],
                "energy": self.energy[places],
            }
        )

    def balance(self, network: Network) -> Balance:
        """Measure the balance of removed energy between a network and its controls, before and after matching."""
        return measure(self.space, self.energy, self.strata, network, len(self.unmatched(network)))

    def unavailable_reason(self, network: Network) -> str:
        """Return the reason why no control can be drawn; empty if one can."""
        return only_itself(self.n_possible(network), network, f"remove as much, within a factor of {self.ratio:g}")

    def note(self, network: Network) -> str:
        """Return the caveats of these controls; empty if there are none."""
        if not network.n_neurons:
            return ""
        notes, balance = common_notes(self, network), self.balance(network)
        if balance.n_unmatched:
            notes.insert(
                0,
                f"{balance.n_unmatched} of {balance.n_neurons} neurons have no match in removed energy and are in "
                "every control",
            )
        if abs(balance.smd_after) > IMBALANCED:
            notes.append(f"removed energy differs by {balance.smd_after:.2f} standard deviations after matching")
        return "; ".join(notes)

    def identity(self) -> dict[str, Any]:
        """Return everything besides network and seed that draws depend on, ready for JSON."""
        # Draws depend on energies only through the strata, which are robust to rounding on other machines.
        strata = digest(np.asarray(self.strata).tolist())
        return {"family": self.family, "n": self.n, "baseline": self.baseline, "strata": strata, "draws": DRAWS}


def cut(energy: np.ndarray, ratio: float, size: int) -> np.ndarray:
    """Cut one layer into strata of similar energy.

    In descending order of energy, neurons are grouped while they are within `ratio` of the first in their group; groups
    are then divided into parts of approximately `size` neurons. Where energies are sparse, strata are small rather than
    wide.

    Parameters
    ----------
    energy : ndarray of shape (width,)
        Energies: finite, at least 0. Dead neurons, with energy 0, form a separate group.
    ratio : float
        Largest ratio of energies within a stratum, above 1.
    size : int
        Approximate number of neurons per stratum, at least 2.

    Returns
    -------
    ndarray of int, shape (width,)
        Stratum of every neuron, starting at 0 for the largest energies.

    Examples
    --------
    >>> cut(np.array([1.0, 100.0, 1.2, 0.0, 0.9]), ratio=1.5, size=20)
    array([1, 0, 1, 2, 1])
    """
    order = np.argsort(-energy, kind="stable")
    falling = energy[order]
    labels = np.empty(len(energy), dtype=np.intp)
    first = stratum = 0
    while first < len(energy):
        # `searchsorted` needs an ascending sequence, so energies are negated.
        group = falling[first:]
        n_within = int(np.searchsorted(-group, -group[0] / ratio, side="right"))
        for part in np.array_split(order[first : first + n_within], max(1, round(n_within / size))):
            labels[part] = stratum
            stratum += 1
        first += n_within
    return labels


def _make(lesioned: Lesioned, n: int) -> Controls:
    return EnergyMatchedControls.measured(
        lesioned.recordings(), lesioned.baseline, lesioned.norms(), n, lesioned.given()
    )


FAMILY = ControlFamily(
    "energy",
    "layer+size+energy",
    "as layer, and the lesion removes about the same amount of activity",
    "the same number of neurons in every layer as the network, and a lesion that removes about the same energy",
    _make,
)
