"""Joined time courses and events, and the permutations of the null hypothesis."""

import itertools
import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from lmri.exceptions import DataWarning
from lmri.networks import NetworkSet
from lmri.networks.thresholds import z_scores

ALPHA = 0.05
COLUMNS = ("text_id", "token", "token_id", "position", "trial_type")
"""Required columns of events; ``surprisal`` is optional."""

_BLOCK = 20  # number of texts exchanged with each other; smaller blocks match length better, but allow fewer exchanges
_MOST_PERMUTATIONS = 200_000


@dataclass(frozen=True, eq=False)
class Reading:
    """Z-scored time courses ``(n_volumes, n_networks)`` of all runs, with one row of `events` per volume."""

    z: np.ndarray
    events: pd.DataFrame
    starts: np.ndarray  # first volume of every text, and the total: (n_texts + 1,)
    centred: bool  # whether every run has mean 0 in every network and holds one kind of text
    n_repeated: int

    @property
    def lengths(self) -> np.ndarray:
        """Number of volumes of each text."""
        return np.diff(self.starts)

    @property
    def n_texts(self) -> int:
        """Number of texts."""
        return len(self.starts) - 1

    @cached_property
    def text(self) -> np.ndarray:
        """Index of the text of each volume."""
        return np.repeat(np.arange(self.n_texts), self.lengths)

    @cached_property
    def place(self) -> np.ndarray:
        """Index of each volume in its text, from 0."""
        return np.arange(len(self.text)) - self.starts[self.text]

    @cached_property
    def kinds(self) -> np.ndarray:
        """Kind of each text."""
        return self.events["trial_type"].to_numpy(dtype=str)[self.starts[:-1]]

    def head(self, n: int) -> "Reading":
        """Return the first `n` volumes of each text."""
        is_head = self.place < n
        starts = np.r_[0, np.cumsum(np.minimum(self.lengths, n))]
        return replace(self, z=self.z[is_head], events=self.events[is_head].reset_index(drop=True), starts=starts)

    def sums(self, values: np.ndarray) -> np.ndarray:
        """Sum ``(n_volumes, ...)`` over the volumes of each text."""
        return np.add.reduceat(values, self.starts[:-1], axis=0)

    def centre(self, values: np.ndarray) -> np.ndarray:
        """Centre values within each text; missing values become 0, the mean."""
        known = np.isfinite(values)
        filled = np.where(known, values, 0.0)
        means = self.sums(filled) / np.maximum(self.sums(known.astype(float)), 1)
        return np.where(known, filled - means[self.text], 0.0)


def gather(time_courses: Sequence[Any], events: Sequence[pd.DataFrame]) -> Reading:
    """Join the time courses and events of all runs, or raise `ValueError` if they do not belong together."""
    if len(time_courses) != len(events) or not len(events):
        raise ValueError(
            f"There are {len(time_courses)} time courses and {len(events)} tables of events; one of each per run is "
            "needed, in the same order."
        )
    courses = [np.asarray(course, dtype=np.float64) for course in time_courses]
    for run, (course, table) in enumerate(zip(courses, events, strict=True), start=1):
        missing = [column for column in COLUMNS if column not in table]
        if missing:
            raise ValueError(f"The events of run {run} lack {', '.join(missing)}. Pass recording.events.")
        if course.ndim != 2 or course.shape != (len(table), courses[0].shape[1]) or not len(table):
            raise ValueError(
                f"The time courses of run {run} have shape {course.shape}; accepted is ({len(table)}, "
                f"{courses[0].shape[-1]}), one row per volume and one column per network, at least one row. "
                "Pass the runs of both in the same order."
            )
        if not np.isfinite(course).all():
            raise ValueError(f"The time courses of run {run} contain NaN or infinite values. Decompose again.")
    joined = pd.concat([table.assign(run=run) for run, table in enumerate(events, start=1)], ignore_index=True)
    name = joined["text_id"].to_numpy(dtype=str)
    run_of = joined["run"].to_numpy()
    starts = np.flatnonzero(np.r_[True, (name[1:] != name[:-1]) | (run_of[1:] != run_of[:-1])])
    names, counts = np.unique(name[starts], return_counts=True)
    if counts.max() > 1:
        raise ValueError(
            f"The text {names[counts > 1][0]!r} is in several places of the events. The volumes of a text must be "
            "consecutive within one run, and each text needs its own text_id. Rename the text ids of one corpus."
        )
    stacked = np.concatenate(courses)
    z = z_scores(stacked.T).T
    run_means = np.array([z[run_of == run].mean(axis=0) for run in np.unique(run_of)])
    one_kind = bool((joined.groupby("run")["trial_type"].nunique() == 1).all())
    bounds = np.r_[starts, len(joined)]
    keep, n_repeated = _first_of_repeated(joined, stacked, bounds)
    if n_repeated:
        warnings.warn(
            f"{n_repeated} of {len(starts)} texts exactly repeat another text and are excluded, because texts "
            "are the unit of inference and a repetition is not independent evidence.",
            DataWarning,
            stacklevel=3,
        )
        lengths = np.diff(bounds)
        volumes = np.repeat(keep, lengths)
        joined, z = joined[volumes].reset_index(drop=True), z_scores(stacked[volumes].T).T
        bounds = np.r_[0, np.cumsum(lengths[keep])]
    return Reading(z, joined, bounds, one_kind and bool(np.abs(run_means).max() < 1e-4), n_repeated)


def _first_of_repeated(events: pd.DataFrame, courses: np.ndarray, bounds: np.ndarray) -> tuple[np.ndarray, int]:
    """Return a mask of texts that do not repeat an earlier text (tokens and kind), and the number of repetitions."""
    ids, kinds = events["token_id"].to_numpy(), events["trial_type"].to_numpy(dtype=str)
    seen: set[tuple[str, bytes]] = set()
    keep = np.ones(len(bounds) - 1, dtype=bool)
    for text, (first, last) in enumerate(itertools.pairwise(bounds)):
        key = (str(kinds[first]), ids[first:last].tobytes())
        keep[text] = key not in seen
        seen.add(key)
    return keep, int((~keep).sum())


def network_names(networks: NetworkSet | Sequence[str] | None, n: int) -> list[str]:
    """Return one name for each of `n` time courses, or raise `ValueError` if names are too few or repeated."""
    names = [f"network-{number:02d}" for number in range(n)] if networks is None else networks
    names = list(names.names if isinstance(names, NetworkSet) else names)
    if len(names) != n or len(set(names)) != n:
        raise ValueError(
            f"There are {len(set(names))} different names for {n} time courses. Pass one name per network."
        )
    return names


@dataclass(frozen=True, eq=False)
class Null:
    """Time courses that each text may be assigned: its own, and in other *slots* of other texts, or its own reversed.

    Parameters
    ----------
    own_slot : ndarray of int, shape (n_texts,)
        Slot of the time course of the text itself.
    n_slots : ndarray of int, shape (n_texts,)
        Number of slots of each text.
    blocks : list of ndarray
        Blocks of texts that are exchanged with each other; empty if each text is drawn independently.
    sources : ndarray of int, shape (n_slots.max(), n_volumes)
        Volume that replaces each volume in each slot.
    """

    own_slot: np.ndarray
    n_slots: np.ndarray
    blocks: list[np.ndarray]
    sources: np.ndarray

    def draw(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """Draw `n` random assignments of slots, ``(n, n_texts)``."""
        if not self.blocks:
            return rng.integers(0, self.n_slots, size=(n, len(self.own_slot)))
        slots = np.empty((n, len(self.own_slot)), dtype=np.int64)
        for block in self.blocks:
            slots[:, block] = np.argsort(rng.random((n, len(block))), axis=1)
        return slots

    @property
    def used(self) -> np.ndarray:
        """Mask of the slots of each text, ``(n_slots.max(), n_texts)``."""
        return np.arange(self.n_slots.max())[:, None] < self.n_slots


def exchange_time_courses(reading: Reading) -> Null:
    """Build the null that exchanges time courses, position by position, among texts of one kind and similar length.

    If a text is longer than the time course that it is assigned, the second half of that time course is read back and
    forth. Volumes of the beginning, where the effect of position is largest, are therefore never used at the end.
    """
    blocks = []
    for kind in np.unique(reading.kinds):
        texts = np.flatnonzero(reading.kinds == kind)
        texts = texts[np.argsort(reading.lengths[texts], kind="stable")]
        blocks += np.array_split(texts, max(1, len(texts) // _BLOCK))
    own_slot, n_slots = np.empty(reading.n_texts, dtype=np.int64), np.empty(reading.n_texts, dtype=np.int64)
    partners = np.tile(np.arange(reading.n_texts), (max(map(len, blocks)), 1))
    for block in blocks:
        own_slot[block], n_slots[block] = np.arange(len(block)), len(block)
        partners[: len(block), block] = block[:, None]
    sources = np.empty((len(partners), len(reading.text)), dtype=np.int64)
    for slot, partner in enumerate(partners):
        given = partner[reading.text]
        sources[slot] = reading.starts[given] + _reflected(reading.place, reading.lengths[given])
    return Null(own_slot, n_slots, blocks, sources)


def _reflected(index: np.ndarray, length: np.ndarray) -> np.ndarray:
    """Reflect indices beyond `length` back and forth over the second half."""
    half = (length + 1) // 2
    wave = np.abs((index - (length - 1)) % np.maximum(2 * (half - 1), 1))
    back = np.minimum(wave, np.maximum(2 * (half - 1), 1) - wave)
    return np.where(index < length, index, length - 1 - np.where(half > 1, back, 0))


def reverse_time_courses(reading: Reading) -> Null:
    """Build the null that reverses the time course of each text at random."""
    here = np.arange(len(reading.text))
    back = reading.starts[reading.text] + reading.lengths[reading.text] - 1 - reading.place
    ones = np.ones(reading.n_texts, dtype=np.int64)
    return Null(0 * ones, 2 * ones, [], np.stack([here, back]))


def permutations_needed(n_tests: int, n_permutations: int) -> int:
    """Return the permutations with which a single test can reach ``q <= ALPHA``, at least `n_permutations`."""
    return min(max(n_permutations, math.ceil(n_tests / ALPHA)), max(n_permutations, _MOST_PERMUTATIONS))


def is_floor_too_high(count: np.ndarray, n_permutations: int) -> bool:
    """Return whether there are tests that no permutation exceeded, but too few to be significant."""
    n_at_floor = int((count == 0).sum())
    return n_at_floor > 0 and count.size / (n_at_floor * (1 + n_permutations)) > ALPHA


def check_permutations(n_permutations: int) -> None:
    """Raise `ValueError` if the number of permutations is below 1."""
    if n_permutations < 1:
        raise ValueError(f"n_permutations is {n_permutations}; it must be at least 1. Start with 1000.")


def without_position(reading: Reading, values: np.ndarray) -> np.ndarray:
    """Regress out the mean time course over positions (two steps per octave) that all texts share, within texts."""
    steps = np.floor(2 * np.log2(1 + reading.place)).astype(int)
    design = reading.centre((steps[:, None] == np.unique(steps)[1:]).astype(float))
    slopes = np.linalg.lstsq(design, reading.centre(values), rcond=None)[0]
    course = (steps[:, None] == np.unique(steps)[1:]).astype(float) @ slopes
    return values - (course - course.mean(axis=0))
