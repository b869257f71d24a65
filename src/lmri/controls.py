"""Controls: random sets of neurons, matched to a network."""

import zlib
from dataclasses import dataclass

import numpy as np

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
        if self.n < 1:
            raise ValueError(f"n is {self.n}; it must be at least 1. Leave controls out altogether with controls=None.")
        if tuple(self.match) != ("layer", "size"):
            raise ValueError(f"match is {self.match!r}; accepted is ('layer', 'size').")

    @property
    def family(self) -> str:
        """What tables call these controls."""
        return "+".join(self.match)

    def draw(self, network: Network, number: int, seed: int) -> Network:
        """Draw one control.

        Parameters
        ----------
        network : Network
            Thresholded.
        number : int
            Which draw; the same number and seed give the same neurons, whatever else is drawn.
        seed : int
            Of all draws.
        """
        rng = np.random.default_rng([seed, zlib.crc32(network.name.encode()), number])
        space = network.space
        members = np.zeros(space.n_neurons, dtype=bool)
        for z, count in enumerate(network.layer_profile()):
            if count:
                first = int(space.offsets[z])
                members[first + rng.choice(space.widths[z], size=int(count), replace=False)] = True
        return Network.from_members(space, members, f"{network.name}-control-{number:03d}", "control")


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
