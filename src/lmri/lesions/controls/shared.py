"""Controls that networks of like size share, so that a lesion of each is scored once."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from lmri.lesions.controls.families import shared
from lmri.lesions.controls.matched import MatchedControls
from lmri.networks import Network
from lmri.storage import digest

SHARED = shared.FAMILY.family


@dataclass(frozen=True, eq=False)
class SharedControls:
    """Random neurons with at least as many in every layer as a network has, the same for networks of like size.

    Networks are put together, the largest first, as long as a set that covers the layer profile of each has at most
    `slack` more neurons than the smallest of them. Controls have that many neurons, so they do more harm than those by
    layer and size, if anything: p of a lesion errs to the safe side, and the effect beyond controls is understated.

    Parameters
    ----------
    networks : sequence of Network
        All that are to be controlled, of one space; empty ones have no controls.
    n : int, default=100
        Draws a group of networks.
    slack : float, default=0.25
        Share by which a control may be larger than its network.
    """

    networks: Sequence[Network]
    n: int = 100
    slack: float = 0.25

    def __post_init__(self) -> None:
        object.__setattr__(self, "networks", tuple(network for network in self.networks if network.n_neurons))
        if not (0 <= self.slack <= 1):
            raise ValueError(f"slack is {self.slack}; it must lie between 0 (the same layer profile) and 1.")
        _ = self._plain  # refuses a bad n
        for network in self.networks:
            self.networks[0].space.check_same(network.space, repr(network.name))

    @cached_property
    def _plain(self) -> MatchedControls:
        return MatchedControls(self.n)

    @property
    def family(self) -> str:
        """What tables call these controls."""
        return SHARED

    @cached_property
    def groups(self) -> list[tuple[np.ndarray, list[Network]]]:
        """Networks that share their controls, each group with the layer profile of these."""
        groups: list[tuple[np.ndarray, list[Network]]] = []
        for network in sorted(self.networks, key=lambda item: (-item.n_neurons, item.name)):
            profile = network.layer_profile()
            for index, (cover, members) in enumerate(groups):
                wider = np.maximum(cover, profile)
                # The network is the smallest so far.
                if wider.sum() <= (1 + self.slack) * network.n_neurons:
                    groups[index] = wider, [*members, network]
                    break
            else:
                groups.append((profile, [network]))
        return groups

    def _cover(self, network: Network) -> Network:
        """Make a set that has the profile which the network's group shares."""
        key = network.members.tobytes()
        for cover, members in self.groups:
            if any(other.members.tobytes() == key for other in members):
                space, taken = network.space, np.zeros(network.space.n_neurons, dtype=bool)
                for z, count in enumerate(cover):
                    taken[int(space.offsets[z]) : int(space.offsets[z]) + int(count)] = True
                return Network.from_members(space, taken, f"cover of {len(members)}", "control")
        raise ValueError(
            f"{network.name!r} is none of the {len(self.networks)} networks that share controls. Give it to "
            "SharedControls(networks), too."
        )

    def draw(self, network: Network, number: int, seed: int) -> Network:
        """Draw one control: the same neurons for all networks that share it.

        Parameters
        ----------
        network : Network
            One of `networks`.
        number, seed : int
            Which draw.
        """
        if not network.n_neurons:
            return self._plain.draw(network, number, seed)
        return self._plain.draw(self._cover(network), number, seed)

    def expected_overlap(self, network: Network) -> float:
        """Share of a control's neurons that belong to the network, on average over draws."""
        if not network.n_neurons:
            return 0.0
        cover, widths = self._cover(network).layer_profile(), np.array(network.space.widths)
        return float((cover * network.layer_profile() / widths).sum() / cover.sum())

    def n_possible(self, network: Network) -> float:
        """Count the different sets that can be drawn; may be infinity."""
        return self._plain.n_possible(self._cover(network) if network.n_neurons else network)

    def unavailable_reason(self, network: Network) -> str:
        """Say why the network has no control; empty if it has."""
        return self._plain.unavailable_reason(self._cover(network) if network.n_neurons else network)

    def note(self, network: Network) -> str:
        """Say what a reader has to know of these controls; empty if all is well."""
        if not network.n_neurons:
            return ""
        cover = self._cover(network)
        more = cover.n_neurons / network.n_neurons - 1
        larger = f"shared controls have {more:.0%} more neurons, so p errs to the safe side" if more else ""
        return "; ".join(filter(None, [larger, self._plain.note(cover)]))

    def identity(self) -> dict[str, Any]:
        """Give everything that draws depend on but network and seed, ready for JSON."""
        members = sorted(digest(np.flatnonzero(network.members).tolist()) for network in self.networks)
        return {"family": self.family, "n": self.n, "slack": self.slack, "networks": digest(members), "draws": "shared"}
