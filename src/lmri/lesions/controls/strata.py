"""Controls matched by what the lesion removes: drawn within strata of neurons of like removed energy."""

import math
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from lmri.exceptions import SpaceMismatchError
from lmri.lesions.controls.balance import Balance, measure
from lmri.lesions.controls.base import (
    DRAWS,
    check_n,
    common_notes,
    n_choices,
    only_itself,
    overlap_within,
    permutation_within,
    permute_members,
    relocate_weights,
)
from lmri.lesions.controls.energy import removed_energy
from lmri.lesions.controls.families import energy
from lmri.networks import Network
from lmri.space import NeuronSpace
from lmri.storage import digest
from lmri.storage.recording import Recording

IMBALANCED = 0.1
"""Beyond this standardized mean difference groups are called different, by custom."""


@dataclass(frozen=True, eq=False)
class EnergyMatchedControls:
    """Random neurons with as many in every layer, and of like removed energy.

    The neurons of each layer are sorted by the energy that their lesion removes, and cut into strata within which it
    differs by a factor of `ratio` at most. A control has as many neurons of each stratum as the network. Within a
    stratum every neuron is as likely as any other, members included, so p stays exact; a member whose stratum holds
    members only has no match, and is in every control.

    Parameters
    ----------
    space : NeuronSpace
        The neurons.
    energy : ndarray of shape (n_neurons,)
        What a lesion of each neuron removes, such as `removed_energy` gives; 0 is a dead neuron.
    n : int, default=100
        Draws a network.
    baseline : str, default="zero"
        Of the lesion that the energy belongs to.
    ratio : float, default=1.5
        Largest factor between two neurons of a stratum.
    size : int, default=20
        About how many neurons a stratum has where they lie close.
    """

    space: NeuronSpace
    energy: np.ndarray
    n: int = 100
    baseline: str = "zero"
    ratio: float = 1.5
    size: int = 20

    def __post_init__(self) -> None:
        check_n(self.n)
        if self.energy.shape != (self.space.n_neurons,):
            raise SpaceMismatchError(
                f"energy has shape {self.energy.shape}; ({self.space.n_neurons},) is needed, in (layer, neuron) order."
            )
        wrong = np.flatnonzero(~np.isfinite(self.energy) | (self.energy < 0))
        if wrong.size:
            layer, neuron = self.space.layer_of[wrong[0]], self.space.neuron_of[wrong[0]]
            raise ValueError(
                f"The energy of neuron {neuron} of layer {layer} is {self.energy[wrong[0]]}; energies are finite and "
                "not negative. Measure them with removed_energy(recording)."
            )
        if not (math.isfinite(self.ratio) and self.ratio > 1):
            raise ValueError(f"ratio is {self.ratio}; it must be above 1, such as 1.5.")
        if self.size < 2:
            raise ValueError(f"size is {self.size}; a stratum needs at least 2 neurons to draw from.")

    @classmethod
    def measured(
        cls,
        recordings: Recording | Sequence[Recording],
        baseline: str = "zero",
        norms: np.ndarray | None = None,
        n: int = 100,
        given: Recording | None = None,
    ) -> "EnergyMatchedControls":
        """Measure energies on recordings of the fitted texts, and match by them.

        Parameters
        ----------
        recordings : Recording or sequence of Recording
            Of the site of the networks.
        baseline : {"zero", "mean", "resample"}
            That of the lesion which is controlled. A gain removes or adds in proportion to ``"zero"``.
        norms : ndarray of shape (n_neurons,), optional
            ``lmri.interventions.output_norms(model, recording.space)``; needed at ``mlp_hidden``.
        n : int, default=100
            Draws a network.
        given : Recording, optional
            What the baseline is of, if that is another recording: its mean, or its tokens as donors.
        """
        energy = removed_energy(recordings, baseline, norms, given)
        space = (recordings if isinstance(recordings, Recording) else recordings[0]).space
        return cls(space, energy, n, baseline)

    @property
    def family(self) -> str:
        """What tables call these controls."""
        return energy.FAMILY.family

    @cached_property
    def strata(self) -> np.ndarray:
        """Stratum of every neuron: int, ``(n_neurons,)``; a stratum lies in one layer."""
        labels = np.empty(self.space.n_neurons, dtype=np.intp)
        n_strata = 0
        for z in range(self.space.n_layers):
            in_layer = slice(int(self.space.offsets[z]), int(self.space.offsets[z + 1]))
            labels[in_layer] = n_strata + cut(self.energy[in_layer], self.ratio, self.size)
            n_strata = int(labels[in_layer].max()) + 1
        return labels

    @cached_property
    def _sizes(self) -> np.ndarray:
        return np.bincount(self.strata)

    def _counts(self, network: Network) -> np.ndarray:
        """Count the members in every stratum."""
        self.space.check_same(network.space, repr(network.name))
        return np.bincount(self.strata[network.members], minlength=len(self._sizes))

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
        self._counts(network)  # refuses another geometry
        places = permute_members(network, permutation_within(self.strata, [seed, number, zlib.crc32(b"energy")]))
        return relocate_weights(
            network, np.flatnonzero(network.members), places, f"{network.name}-energy-control-{number:03d}"
        )

    def expected_overlap(self, network: Network) -> float:
        """Share of a control's neurons that belong to the network, on average over draws."""
        return overlap_within(self._sizes, self._counts(network))

    def n_possible(self, network: Network) -> float:
        """Count the different sets that can be drawn, the network among them; may be infinity."""
        return n_choices(self._sizes, self._counts(network))

    def unmatched(self, network: Network) -> pd.DataFrame:
        """List the members without a match, ``layer, neuron, energy``: their stratum holds members only."""
        full = self._counts(network) == self._sizes
        places = np.flatnonzero(network.members & full[self.strata])
        return pd.DataFrame(
            {
                "layer": self.space.layer_of[places],
                "neuron": self.space.neuron_of[places],
                "energy": self.energy[places],
            }
        )

    def balance(self, network: Network) -> Balance:
        """Say how alike a network and its controls are in removed energy, before and after matching."""
        return measure(self.space, self.energy, self.strata, network, len(self.unmatched(network)))

    def unavailable_reason(self, network: Network) -> str:
        """Say why the network has no control; empty if it has."""
        return only_itself(self.n_possible(network), network, f"remove as much, within a factor of {self.ratio:g}")

    def note(self, network: Network) -> str:
        """Say what a reader has to know of these controls; empty if all is well."""
        if not network.n_neurons:
            return ""
        notes, balance = common_notes(self, network), self.balance(network)
        if balance.n_unmatched:
            notes.insert(
                0,
                f"{balance.n_unmatched} of {balance.n_neurons} neurons have no match in removed energy and are in "
                "every control",
            )
        if abs(balance.smd_after) > IMBALANCED:
            notes.append(f"removed energy differs by {balance.smd_after:.2f} standard deviations after matching")
        return "; ".join(notes)

    def identity(self) -> dict[str, Any]:
        """Give everything that draws depend on but network and seed, ready for JSON."""
        # Draws depend on energies only through the strata, which rounding on another machine leaves as they are.
        strata = digest(np.asarray(self.strata).tolist())
        return {"family": self.family, "n": self.n, "baseline": self.baseline, "strata": strata, "draws": DRAWS}


def cut(energy: np.ndarray, ratio: float, size: int) -> np.ndarray:
    """Cut one layer into strata of like energy.

    From the largest energy down, neurons are grouped while they are within `ratio` of the first of their group; groups
    are then divided into parts of about `size`. Where neurons are sparse, strata are small, rather than wide.

    Parameters
    ----------
    energy : ndarray of shape (width,)
        Finite, at least 0. Dead neurons, of energy 0, are a group of their own.
    ratio : float
        Above 1.
    size : int
        At least 2.

    Returns
    -------
    ndarray of int, shape (width,)
        Stratum of every neuron, from 0 for the largest energies.

    Examples
    --------
    >>> cut(np.array([1.0, 100.0, 1.2, 0.0, 0.9]), ratio=1.5, size=20)
    array([1, 0, 1, 2, 1])
    """
    order = np.argsort(-energy, kind="stable")
    falling = energy[order]
    labels = np.empty(len(energy), dtype=np.intp)
    first = stratum = 0
    while first < len(energy):
        # Searched is in a rising sequence, so the energies are taken negative.
        group = falling[first:]
        n_within = int(np.searchsorted(-group, -group[0] / ratio, side="right"))
        for part in np.array_split(order[first : first + n_within], max(1, round(n_within / size))):
            labels[part] = stratum
            stratum += 1
        first += n_within
    return labels
