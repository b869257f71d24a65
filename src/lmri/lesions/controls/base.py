"""Interface of the families of controls, and functions that they share."""

import math
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from lmri.networks import Network

MUCH_OVERLAP = 0.5
"""Expected share of common neurons above which a control hardly differs from its network; its note warns of this."""


DRAWS = "joint"
"""Part of the identity of every family; in earlier versions draws were independent for each network."""


class Controls(Protocol):
    """Random sets of neurons that share properties with a network.

    Controls are drawn from all eligible neurons, including members, so that the network is one of the possible sets and
    p is exact; `expected_overlap` is the share of a control that belongs to the network itself. A draw permutes neurons
    in the same way for every network: disjoint networks have disjoint controls, and the control of a union is the union
    of the controls. Draws of the same number are therefore joint controls of a whole set of networks, as max-T tests
    require.
    """

    @property
    def n(self) -> int:
        """Number of draws per network."""
        ...

    @property
    def family(self) -> str:
        """Name of the family in tables."""
        ...

    def draw(self, network: Network, number: int, seed: int) -> Network:
        """Draw one control; the same number and seed permute the same neurons for every network."""
        ...

    def expected_overlap(self, network: Network) -> float:
        """Compute the expected share of a control's neurons that belong to the network, over draws."""
        ...

    def n_possible(self, network: Network) -> float:
        """Count the distinct sets that can be drawn, including the network itself; may be infinity."""
        ...

    def unavailable_reason(self, network: Network) -> str:
        """Return the reason why no control can be drawn; empty if one can."""
        ...

    def note(self, network: Network) -> str:
        """Return the caveats of these controls; empty if there are none."""
        ...

    def identity(self) -> dict[str, Any]:
        """Return everything besides network and seed that draws depend on, ready for JSON."""
        ...


def check_n(n: int) -> None:
    """Raise `ValueError` unless there is at least one draw."""
    if n < 1:
        raise ValueError(f"n is {n}; it must be at least 1. For no controls, use controls=None.")


def permutation_within(groups: np.ndarray, seed: Sequence[int]) -> np.ndarray:
    """Draw a random permutation of the neurons within each group; all permutations are equally likely.

    Parameters
    ----------
    groups : ndarray of int, shape (n_neurons,)
        Group of each neuron, such as its layer.
    seed : sequence of int
        Seed of the draw.
    """
    ordered = np.argsort(groups, kind="stable")
    # Sorting by group and then by random numbers gives a random order within each group.
    drawn = np.lexsort((np.random.default_rng(seed).random(len(groups)), groups))
    permutation = np.empty(len(groups), dtype=np.intp)
    permutation[ordered] = drawn
    return permutation


def permute_members(network: Network, permutation: np.ndarray) -> np.ndarray:
    """Return the neurons to which a permutation maps a network's members, in the order of the members."""
    return permutation[np.flatnonzero(network.members)]


def relocate_weights(network: Network, origins: np.ndarray, places: np.ndarray, name: str) -> Network:
    """Create the control that has the weight of member ``origins[i]`` at neuron ``places[i]``."""
    weights = np.zeros_like(network.weights)
    members = np.zeros(network.space.n_neurons, dtype=bool)
    weights[places] = network.weights[origins]
    members[places] = True
    return Network(network.space, weights, members, name, kind="control")


def overlap_within(sizes: np.ndarray, members: np.ndarray) -> float:
    """Compute the expected share of members in draws of ``members[i]`` out of ``sizes[i]`` neurons."""
    total = members.sum()
    return float((members**2 / sizes).sum() / total) if total else 0.0


def n_choices(sizes: np.ndarray, members: np.ndarray) -> float:
    """Count the ways to draw ``members[i]`` out of ``sizes[i]`` neurons of every stratum; infinity beyond floats."""
    from scipy.special import gammaln  # takes 0.1 s to load, and the command line lists the families at every start

    return whole_exp(float((gammaln(sizes + 1) - gammaln(members + 1) - gammaln(sizes - members + 1)).sum()))


def whole_exp(log_count: float) -> float:
    """Convert the logarithm of a count to the count; infinity beyond floats."""
    # Small counts are printed and compared with 1, so they must be integers.
    return float(round(math.exp(log_count))) if log_count < 30 else math.exp(log_count) if log_count < 700 else math.inf


def layer_overlap(network: Network) -> float:
    """Compute the expected overlap of a control with the same number of neurons in every layer."""
    return overlap_within(np.array(network.space.widths), network.layer_profile())


def only_itself(n_possible: float, network: Network, what: str) -> str:
    """Return the reason why there is no control if the network is the only possible set; empty otherwise."""
    if n_possible > 1 or not network.n_neurons:
        return ""
    return f"{network.name!r} has no control: no other neurons {what}"


def common_notes(controls: Controls, network: Network) -> list[str]:
    """List the caveats common to all families: too few distinct sets, and too much overlap."""
    notes = []
    possible, overlap = controls.n_possible(network), controls.expected_overlap(network)
    if possible <= controls.n:
        notes.append(f"only {possible:.0f} different sets can be drawn, so p cannot be much below {1 / possible:.2g}")
    if overlap > MUCH_OVERLAP:
        notes.append(f"controls share {overlap:.0%} of their neurons with the network")
    return notes
