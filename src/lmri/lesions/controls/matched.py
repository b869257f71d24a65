"""Controls by layer and size, and the paper's, which are matched to nothing but size."""

import zlib
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from lmri.lesions.controls.base import (
    DRAWS,
    check_n,
    common_notes,
    layer_overlap,
    n_choices,
    only_itself,
    permutation_within,
    permute_members,
    relocate_weights,
)
from lmri.networks import Network
from lmri.space import NeuronSpace


@dataclass(frozen=True)
class MatchedControls:
    """Random neurons with as many in every layer as a network has.

    Draws are from all neurons of each layer, members included, so a control may overlap with its network by chance.
    A control uniform over layers, as in the paper, would compare deep layers with shallow ones.

    Parameters
    ----------
    n : int, default=100
        Draws a network.
    match : tuple of str, default=("layer", "size")
        What a control has in common with its network.
    """

    n: int = 100
    match: tuple[str, ...] = ("layer", "size")

    def __post_init__(self) -> None:
        check_n(self.n)
        if tuple(self.match) != ("layer", "size"):
            raise ValueError(f"match is {self.match!r}; accepted is ('layer', 'size').")

    @property
    def family(self) -> str:
        """What tables call these controls."""
        return "+".join(self.match)

    def draw(self, network: Network, number: int, seed: int) -> Network:
        """Draw one control; it has the network's weights, at neurons of its own.

        Parameters
        ----------
        network : Network
            Thresholded.
        number : int
            Which draw: the same number and seed exchange the same neurons, whatever the network.
        seed : int
            Of all draws.
        """
        places = permute_members(network, permutation_within(network.space.layer_of, [seed, number]))
        return relocate_weights(
            network, np.flatnonzero(network.members), places, f"{network.name}-control-{number:03d}"
        )

    def expected_overlap(self, network: Network) -> float:
        """Share of a control's neurons that belong to the network, on average over draws."""
        return layer_overlap(network)

    def n_possible(self, network: Network) -> float:
        """Count the different sets that can be drawn, the network among them; may be infinity."""
        return n_choices(np.array(network.space.widths), network.layer_profile())

    def unavailable_reason(self, network: Network) -> str:
        """Say why the network has no control; empty if it has."""
        return only_itself(self.n_possible(network), network, "are in its layers")

    def note(self, network: Network) -> str:
        """Say what a reader has to know of these controls; empty if all is well."""
        return "; ".join(common_notes(self, network))

    def identity(self) -> dict[str, Any]:
        """Give everything that draws depend on but network and seed, ready for JSON."""
        return {**asdict(self), "draws": DRAWS}


def random_share(space: NeuronSpace, share: float, seed: int) -> Network:
    """Draw the paper's control: a share of all neurons, uniform over layers.

    Parameters
    ----------
    space : NeuronSpace
        The neurons.
    share : float
        0.15 in the paper.
    seed : int
        Of the draw.
    """
    if not 0 < share < 1:
        raise ValueError(f"share is {share}; it must lie between 0 and 1.")
    rng = np.random.default_rng([seed, zlib.crc32(b"random")])
    members = np.zeros(space.n_neurons, dtype=bool)
    members[rng.choice(space.n_neurons, size=round(share * space.n_neurons), replace=False)] = True
    return Network.from_members(space, members, f"random-{100 * share:.0f}%", "random")
