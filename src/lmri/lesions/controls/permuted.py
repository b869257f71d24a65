"""Controls that keep which neurons of different layers have the same index."""

import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import gammaln

from lmri.lesions.controls.base import (
    DRAWS,
    check_n,
    common_notes,
    layer_overlap,
    only_itself,
    relocate_weights,
    whole_exp,
)
from lmri.lesions.controls.families import index
from lmri.networks import Network
from lmri.space import NeuronSpace
from lmri.space.layers import is_input


@dataclass(frozen=True)
class PermutedControls:
    """The network with its neuron indices permuted, by one permutation for all layers.

    At ``mlp_out`` neuron 7 of every layer writes to coordinate 7 of the residual stream, and networks often hold the
    same coordinate in many layers. Neurons drawn layer by layer scatter over more coordinates than the network does;
    these controls hold as many coordinates, each in the same layers.

    Parameters
    ----------
    n : int, default=100
        Draws a network.
    """

    n: int = 100

    def __post_init__(self) -> None:
        check_n(self.n)

    @property
    def family(self) -> str:
        """What tables call these controls."""
        return index.FAMILY.family

    def draw(self, network: Network, number: int, seed: int) -> Network:
        """Draw one control; it has the network's weights, at neurons of its own.

        Parameters
        ----------
        network : Network
            Thresholded, at ``mlp_out``.
        number : int
            Which draw: the same number and seed exchange the same neurons, whatever the network.
        seed : int
            Of all draws.

        Raises
        ------
        ValueError
            At ``mlp_hidden``, where an index means nothing across layers.
        """
        space = network.space
        width = _common_width(space)
        rng = np.random.default_rng([seed, number, zlib.crc32(b"index")])
        permutation = rng.permutation(width)
        origins = np.flatnonzero(network.members)
        places = space.layer_of[origins] * width + permutation[space.neuron_of[origins]]
        return relocate_weights(network, origins, places, f"{network.name}-index-control-{number:03d}")

    def expected_overlap(self, network: Network) -> float:
        """Share of a control's neurons that belong to the network, on average over draws."""
        _common_width(network.space)
        return layer_overlap(network)

    def n_possible(self, network: Network) -> float:
        """Count the different sets that can be drawn, the network among them; may be infinity."""
        width = _common_width(network.space)
        # Indices that lie in the same layers may change places without a difference.
        _, same = np.unique(network.members.reshape(-1, width), axis=1, return_counts=True)
        return whole_exp(float(gammaln(width + 1) - gammaln(same + 1).sum()))

    def unavailable_reason(self, network: Network) -> str:
        """Say why the network has no control; empty if it has."""
        return only_itself(self.n_possible(network), network, "are in its layers")

    def note(self, network: Network) -> str:
        """Say what a reader has to know of these controls; empty if all is well."""
        return "; ".join(common_notes(self, network))

    def identity(self) -> dict[str, Any]:
        """Give everything that draws depend on but network and seed, ready for JSON."""
        return {"family": self.family, "n": self.n, "draws": DRAWS}


def _common_width(space: NeuronSpace) -> int:
    if is_input(space.site):
        raise ValueError(
            f"The site is {space.site!r}, where neuron 7 of one layer and neuron 7 of another have nothing in common, "
            "so one permutation for all layers means nothing. Use MatchedControls or EnergyMatchedControls there; "
            "PermutedControls are for 'mlp_out' and 'attn_out'."
        )
    if len(set(space.widths)) > 1:
        raise ValueError(
            f"The layers have {min(space.widths)} to {max(space.widths)} neurons; one permutation for all layers needs "
            "the same number in each. Use MatchedControls."
        )
    return space.widths[0]
