"""Controls matched by layer and size, and the paper's random control, which is matched by nothing."""

import zlib
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from lmri.lesions.controls.base import (
    DRAWS,
    Controls,
    check_n,
    common_notes,
    layer_overlap,
    n_choices,
    only_itself,
    permutation_within,
    permute_members,
    relocate_weights,
)
from lmri.lesions.controls.family import ControlFamily, Lesioned
from lmri.networks import Network
from lmri.space import NeuronSpace


@dataclass(frozen=True)
class MatchedControls:
    """Random neurons, the same number in every layer as the network has.

    Controls are drawn from all neurons of each layer, including members, so a control may overlap with its network by
    chance. A control uniform over layers, as in the paper, would compare deep layers with shallow ones.

    Parameters
    ----------
    n : int, default=100
        Number of draws per network.
    match : tuple of str, default=("layer", "size")
        Properties that a control shares with its network.
    """

    n: int = 100
    match: tuple[str, ...] = ("layer", "size")

    def __post_init__(self) -> None:
        check_n(self.n)
        if tuple(self.match) != ("layer", "size"):
            raise ValueError(f"match is {self.match!r}; accepted is ('layer', 'size').")

    @property
    def family(self) -> str:
        """Name of the family in tables."""
        return "+".join(self.match)

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
        places = permute_members(network, permutation_within(network.space.layer_of, [seed, number]))
        return relocate_weights(
            network, np.flatnonzero(network.members), places, f"{network.name}-control-{number:03d}"
        )

    def expected_overlap(self, network: Network) -> float:
        """Compute the expected share of a control's neurons that belong to the network, over draws."""
        return layer_overlap(network)

    def n_possible(self, network: Network) -> float:
        """Count the distinct sets that can be drawn, including the network itself; may be infinity."""
        return n_choices(np.array(network.space.widths), network.layer_profile())

    def unavailable_reason(self, network: Network) -> str:
        """Return the reason why no control can be drawn; empty if one can."""
        return only_itself(self.n_possible(network), network, "are in its layers")

    def note(self, network: Network) -> str:
        """Return the caveats of these controls; empty if there are none."""
        return "; ".join(common_notes(self, network))

    def identity(self) -> dict[str, Any]:
        """Return everything besides network and seed that draws depend on, ready for JSON."""
        return {**asdict(self), "draws": DRAWS}


def random_share(space: NeuronSpace, share: float, seed: int) -> Network:
    """Draw the paper's control: a share of all neurons, uniform over layers.

    Parameters
    ----------
    space : NeuronSpace
        Space of the neurons.
    share : float
        Share of all neurons; 0.15 in the paper.
    seed : int
        Seed of the draw.
    """
    if not 0 < share < 1:
        raise ValueError(f"share is {share}; it must lie between 0 and 1.")
    rng = np.random.default_rng([seed, zlib.crc32(b"random")])
    members = np.zeros(space.n_neurons, dtype=bool)
    members[rng.choice(space.n_neurons, size=round(share * space.n_neurons), replace=False)] = True
    return Network.from_members(space, members, f"random-{100 * share:.0f}%", "random")


def _make(_lesioned: Lesioned, n: int) -> Controls:
    return MatchedControls(n)


FAMILY = ControlFamily(
    "layer",
    "layer+size",
    "random neurons, the same number in every layer",
    "the same number of neurons in every layer as the network",
    _make,
)
