"""What every family of controls offers, and what all of them have to say about themselves."""

import math
from typing import Any, Protocol

import numpy as np
from scipy.special import gammaln

from lmri.networks import Network

MUCH_OVERLAP = 0.5
"""From this expected share of common neurons on, a control is hardly another set, and its note says so."""


class Controls(Protocol):
    """Random sets of neurons that have something in common with a network.

    Draws are from all neurons that qualify, members included, so that the network is one of the sets that could have
    been drawn and p is exact; `expected_overlap` says how much of a control is the network itself.
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
        """Draw one control; the same number and seed give the same neurons, whatever else is drawn."""
        ...

    def expected_overlap(self, network: Network) -> float:
        """Share of a control's neurons that belong to the network, on average over draws."""
        ...

    def n_possible(self, network: Network) -> float:
        """Count the different sets that can be drawn, the network among them; may be infinity."""
        ...

    def problem(self, network: Network) -> str:
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


def moved(network: Network, origins: np.ndarray, places: np.ndarray, name: str) -> Network:
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
