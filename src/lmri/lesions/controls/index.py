"""Controls that preserve which members of different layers share a neuron index."""

import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np

from lmri.lesions.controls.base import (
    DRAWS,
    Controls,
    check_n,
    common_notes,
    layer_overlap,
    only_itself,
    relocate_weights,
    whole_exp,
)
from lmri.lesions.controls.family import ControlFamily, Lesioned
from lmri.networks import Network
from lmri.space import NeuronSpace
from lmri.space.layers import is_input


@dataclass(frozen=True)
class PermutedControls:
    """The network with its neuron indices permuted, by one permutation for all layers.

    At ``mlp_out`` neuron 7 of every layer writes to coordinate 7 of the residual stream, and networks often contain the
    same coordinate in many layers. Neurons drawn layer by layer are spread over more coordinates than the network;
    these controls have the same number of coordinates, each in the same layers.

    Parameters
    ----------
    n : int, default=100
        Number of draws per network.
    """

    n: int = 100

    def __post_init__(self) -> None:
        check_n(self.n)

    @property
    def family(self) -> str:
        """Name of the family in tables."""
        return FAMILY.family

    def draw(self, network: Network, number: int, seed: int) -> Network:
        """Draw one control, which has the network's weights at other neurons.

        Parameters
        ----------
        network : Network
            Thresholded network at ``mlp_out``.
        number : int
            Number of the draw; the same number and seed permute the same neurons for every network.
        seed : int
            Seed of all draws.

        Raises
        ------
        ValueError
            If the site is ``mlp_hidden`` or ``attn_heads``, where equal indices in different layers are unrelated.
        """
        space = network.space
        width = _common_width(space)
        rng = np.random.default_rng([seed, number, zlib.crc32(b"index")])
        permutation = rng.permutation(width)
        origins = np.flatnonzero(network.members)
        places = space.layer_of[origins] * width + permutation[space.neuron_of[origins]]
        return relocate_weights(network, origins, places, f"{network.name}-index-control-{number:03d}")

    def expected_overlap(self, network: Network) -> float:
        """Compute the expected share of a control's neurons that belong to the network, over draws."""
        _common_width(network.space)
        return layer_overlap(network)

    def n_possible(self, network: Network) -> float:
        """Count the distinct sets that can be drawn, including the network itself; may be infinity."""
        from scipy.special import gammaln  # takes 0.1 s to load

        width = _common_width(network.space)
        # Swapping indices that are members in the same layers gives the same set.
        _, same = np.unique(network.members.reshape(-1, width), axis=1, return_counts=True)
        return whole_exp(float(gammaln(width + 1) - gammaln(same + 1).sum()))

    def unavailable_reason(self, network: Network) -> str:
        """Return the reason why no control can be drawn; empty if one can."""
        return only_itself(self.n_possible(network), network, "are in its layers")

    def note(self, network: Network) -> str:
        """Return the caveats of these controls; empty if there are none."""
        return "; ".join(common_notes(self, network))

    def identity(self) -> dict[str, Any]:
        """Return everything besides network and seed that draws depend on, ready for JSON."""
        return {"family": self.family, "n": self.n, "draws": DRAWS}


def _common_width(space: NeuronSpace) -> int:
    if is_input(space.site):
        raise ValueError(
            f"The site is {space.site!r}, where neuron 7 of one layer and neuron 7 of another have nothing in common, "
            "so a common permutation of all layers is meaningless. Use MatchedControls or EnergyMatchedControls; "
            "PermutedControls are for 'mlp_out' and 'attn_out'."
        )
    if len(set(space.widths)) > 1:
        raise ValueError(
            f"The layers have {min(space.widths)} to {max(space.widths)} neurons; a common permutation needs the same "
            "number in each layer. Use MatchedControls."
        )
    return space.widths[0]


def _make(_lesioned: Lesioned, n: int) -> Controls:
    return PermutedControls(n)


FAMILY = ControlFamily(
    "index",
    "layer+size+index",
    "as layer, and neurons that share their number across layers in the network also share it in a control",
    "the indices of the network's neurons after one random permutation that is common to all layers",
    _make,
)
