"""Controls shared by networks of similar size, so that the lesion of each control is scored once."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from lmri.lesions.controls.base import Controls
from lmri.lesions.controls.family import ControlFamily, Lesioned
from lmri.lesions.controls.layer import MatchedControls
from lmri.networks import Network
from lmri.storage import digest


@dataclass(frozen=True, eq=False)
class SharedControls:
    """Random neurons, at least as many in every layer as a network has, shared by networks of similar size.

    Networks are grouped, the largest first, as long as a set that covers every layer profile in the group exceeds the
    smallest network by at most the share `slack`. Controls have the size of this set, so they tend to do more harm than
    controls matched by layer and size: p of a lesion is conservative, and the effect beyond controls is underestimated.

    Parameters
    ----------
    networks : sequence of Network
        All networks that need controls, in one space; empty ones have no controls.
    n : int, default=100
        Number of draws per group of networks.
    slack : float, default=0.25
        Largest share by which a control may exceed the size of its network.
    """

    networks: Sequence[Network]
    n: int = 100
    slack: float = 0.25

    def __post_init__(self) -> None:
        object.__setattr__(self, "networks", tuple(network for network in self.networks if network.n_neurons))
        if not (0 <= self.slack <= 1):
            raise ValueError(f"slack is {self.slack}; it must be between 0 (the same layer profile) and 1.")
        _ = self._plain  # raises if n is invalid
        for network in self.networks:
            self.networks[0].space.check_same(network.space, repr(network.name))

    @cached_property
    def _plain(self) -> MatchedControls:
        return MatchedControls(self.n)

    @property
    def family(self) -> str:
        """Name of the family in tables."""
        return SHARED

    @cached_property
    def groups(self) -> list[tuple[np.ndarray, list[Network]]]:
        """Groups of networks that share controls, each with the layer profile of the controls."""
        groups: list[tuple[np.ndarray, list[Network]]] = []
        for network in sorted(self.networks, key=lambda item: (-item.n_neurons, item.name)):
            profile = network.layer_profile()
            for index, (cover, members) in enumerate(groups):
                wider = np.maximum(cover, profile)
                # Networks come in falling order of size, so this one is the smallest.
                if wider.sum() <= (1 + self.slack) * network.n_neurons:
                    groups[index] = wider, [*members, network]
                    break
            else:
                groups.append((profile, [network]))
        return groups

    def _cover(self, network: Network) -> Network:
        """Create a set with the layer profile of the network's group."""
        key = network.members.tobytes()
        for cover, members in self.groups:
            if any(other.members.tobytes() == key for other in members):
                space, taken = network.space, np.zeros(network.space.n_neurons, dtype=bool)
                for z, count in enumerate(cover):
                    taken[int(space.offsets[z]) : int(space.offsets[z]) + int(count)] = True
                return Network.from_members(space, taken, f"cover of {len(members)}", "control")
        raise ValueError(
            f"{network.name!r} is not among the {len(self.networks)} networks that share controls. Include it in "
            "SharedControls(networks)."
        )

    def draw(self, network: Network, number: int, seed: int) -> Network:
        """Draw one control, the same for all networks of the group.

        Parameters
        ----------
        network : Network
            Member of `networks`.
        number, seed : int
            Number of the draw and seed of all draws.
        """
        if not network.n_neurons:
            return self._plain.draw(network, number, seed)
        return self._plain.draw(self._cover(network), number, seed)

    def expected_overlap(self, network: Network) -> float:
        """Compute the expected share of a control's neurons that belong to the network, over draws."""
        if not network.n_neurons:
            return 0.0
        cover, widths = self._cover(network).layer_profile(), np.array(network.space.widths)
        return float((cover * network.layer_profile() / widths).sum() / cover.sum())

    def n_possible(self, network: Network) -> float:
        """Count the distinct sets that can be drawn; may be infinity."""
        return self._plain.n_possible(self._cover(network) if network.n_neurons else network)

    def unavailable_reason(self, network: Network) -> str:
        """Return the reason why no control can be drawn; empty if one can."""
        return self._plain.unavailable_reason(self._cover(network) if network.n_neurons else network)

    def note(self, network: Network) -> str:
        """Return the caveats of these controls; empty if there are none."""
        if not network.n_neurons:
            return ""
        cover = self._cover(network)
        more = cover.n_neurons / network.n_neurons - 1
        larger = f"shared controls have {more:.0%} more neurons, so p is conservative" if more else ""
        return "; ".join(filter(None, [larger, self._plain.note(cover)]))

    def identity(self) -> dict[str, Any]:
        """Return everything besides network and seed that draws depend on, ready for JSON."""
        members = sorted(digest(np.flatnonzero(network.members).tolist()) for network in self.networks)
        return {"family": self.family, "n": self.n, "slack": self.slack, "networks": digest(members), "draws": "shared"}


def _make(lesioned: Lesioned, n: int) -> Controls:
    return SharedControls(lesioned.targets(), n)


FAMILY = ControlFamily(
    "shared",
    "layer+size, shared",
    "as layer, but networks of similar size share their controls, which is faster",
    "at least as many neurons in every layer as the network, in sets that networks of similar size share",
    _make,
    same_size=False,
)

SHARED = FAMILY.family
"""Name of this family in tables."""
