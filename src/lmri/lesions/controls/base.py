"""What every family of controls offers, and what all of them have to say about themselves."""

import math
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from scipy.special import gammaln

from lmri.networks import Network

MUCH_OVERLAP = 0.5
"""From this expected share of common neurons on, a control is hardly another set, and its note says so."""


DRAWS = "joint"
"""Part of the identity of every family, since draws were once made for each network by itself."""


class Controls(Protocol):
    """Random sets of neurons that have something in common with a network.

    Draws are from all neurons that qualify, members included, so that the network is one of the sets that could have
    been drawn and p is exact; `expected_overlap` says how much of a control is the network itself. A draw exchanges
    neurons, the same for every network: networks that share no neuron have controls that share none, and the control of
    a union is the union of controls. So draws of the same number are controls of a whole set of networks at once, which
    tests of the largest effect need.
    """

    @property
    def n(self) -> int:
        """Draws a network."""
        ...

    @property
    def family(self) -> str:
        """What tables call these controls."""
        ...

    def draw(self, network: Network, number: int, seed: int) -> Network:
        """Draw one control; the same number and seed exchange the same neurons, whatever the network."""
        ...

    def expected_overlap(self, network: Network) -> float:
        """Share of a control's neurons that belong to the network, on average over draws."""
        ...

    def n_possible(self, network: Network) -> float:
        """Count the different sets that can be drawn, the network among them; may be infinity."""
        ...

    def unavailable_reason(self, network: Network) -> str:
        """Say why the network has no control; empty if it has."""
        ...

    def note(self, network: Network) -> str:
        """Say what a reader has to know of these controls; empty if all is well."""
        ...

    def identity(self) -> dict[str, Any]:
        """Give everything that draws depend on but network and seed, ready for JSON."""
        ...


def check_n(n: int) -> None:
    """Raise `ValueError` unless there is a draw at least."""
    if n < 1:
        raise ValueError(f"n is {n}; it must be at least 1. Leave controls out altogether with controls=None.")


def permutation_within(groups: np.ndarray, seed: Sequence[int]) -> np.ndarray:
    """Draw where every neuron goes: another of its group, all permutations being as likely.

    Parameters
    ----------
    groups : ndarray of int, shape (n_neurons,)
        Such as the layer of each.
    seed : sequence of int
        Of the draw.
    """
    ordered = np.argsort(groups, kind="stable")
    # Sorted by group and then by random numbers, neurons stand in random order within their group.
    drawn = np.lexsort((np.random.default_rng(seed).random(len(groups)), groups))
    permutation = np.empty(len(groups), dtype=np.intp)
    permutation[ordered] = drawn
    return permutation


def permute_members(network: Network, permutation: np.ndarray) -> np.ndarray:
    """Give the neurons to which a permutation takes a network's members, in their order."""
    return permutation[np.flatnonzero(network.members)]


def relocate_weights(network: Network, origins: np.ndarray, places: np.ndarray, name: str) -> Network:
    """Make the control that has the weight of member ``origins[i]`` at neuron ``places[i]``."""
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
    return whole_exp(float((gammaln(sizes + 1) - gammaln(members + 1) - gammaln(sizes - members + 1)).sum()))


def whole_exp(log_count: float) -> float:
    """Give a count, of which the logarithm is known; infinity beyond floats."""
    # Small counts are printed and compared with 1, so they have to be whole.
    return float(round(math.exp(log_count))) if log_count < 30 else math.exp(log_count) if log_count < 700 else math.inf


def layer_overlap(network: Network) -> float:
    """Compute the expected overlap of a control that has as many neurons in every layer."""
    return overlap_within(np.array(network.space.widths), network.layer_profile())


def only_itself(n_possible: float, network: Network, what: str) -> str:
    """Say that the network is the only set that could be drawn, if it is."""
    if n_possible > 1 or not network.n_neurons:
        return ""
    return f"{network.name!r} has no control: no other neurons {what}"


def common_notes(controls: Controls, network: Network) -> list[str]:
    """List what is said of any family: too few different sets, and too much overlap."""
    notes = []
    possible, overlap = controls.n_possible(network), controls.expected_overlap(network)
    if possible <= controls.n:
        notes.append(f"only {possible:.0f} different sets can be drawn, so p is hardly below {1 / possible:.2g}")
    if overlap > MUCH_OVERLAP:
        notes.append(f"controls share {overlap:.0%} of their neurons with the network")
    return notes
