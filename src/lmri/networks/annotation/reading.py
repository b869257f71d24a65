"""Time courses and events brought together, and what is exchanged under the null hypothesis."""

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
"""What every table of events needs; ``surprisal`` is used where it is there."""

_BLOCK = 20  # texts that are exchanged with each other; fewer are closer in length, but allow fewer exchanges
_MOST_PERMUTATIONS = 200_000


@dataclass(frozen=True, eq=False)
class Reading:
    """Z-scored time courses ``(n_volumes, n_networks)`` of all runs, with a row of `events` a volume."""

    z: np.ndarray
    events: pd.DataFrame
    starts: np.ndarray  # first volume of every text, and the total: (n_texts + 1,)
    centred: bool  # whether every run has mean 0 in every network and holds one kind of text
    n_repeated: int

    @property
    def lengths(self) -> np.ndarray:
        """Volumes of every text."""
        return np.diff(self.starts)

    @property
    def n_texts(self) -> int:
        """Number of texts."""
        return len(self.starts) - 1

    @cached_property
    def text(self) -> np.ndarray:
        """Text of every volume."""
        return np.repeat(np.arange(self.n_texts), self.lengths)

    @cached_property
    def place(self) -> np.ndarray:
        """Place of every volume in its text, from 0."""
        return np.arange(len(self.text)) - self.starts[self.text]

    @cached_property
    def kinds(self) -> np.ndarray:
        """Kind of every text."""
        return self.events["trial_type"].to_numpy(dtype=str)[self.starts[:-1]]

    def head(self, n: int) -> "Reading":
        """Keep the first volumes of every text."""
        kept = self.place < n
        starts = np.r_[0, np.cumsum(np.minimum(self.lengths, n))]
        return replace(self, z=self.z[kept], events=self.events[kept].reset_index(drop=True), starts=starts)

    def sums(self, values: np.ndarray) -> np.ndarray:
        """Sum ``(n_volumes, ...)`` over the volumes of every text."""
        return np.add.reduceat(values, self.starts[:-1], axis=0)

    def centre(self, values: np.ndarray) -> np.ndarray:
        """Take the mean of its text from every value; missing ones become 0, the mean."""
        known = np.isfinite(values)
        filled = np.where(known, values, 0.0)
        means = self.sums(filled) / np.maximum(self.sums(known.astype(float)), 1)
        return np.where(known, filled - means[self.text], 0.0)


def gather(time_courses: Sequence[Any], events: Sequence[pd.DataFrame]) -> Reading:
    """Check that time courses and events belong together, and join all runs."""
    if len(time_courses) != len(events) or not len(events):
        raise ValueError(
            f"There are {len(time_courses)} time courses and {len(events)} tables of events; one of each a run is "
            "needed, in the same order."
        )
    courses = [np.asarray(course, dtype=np.float64) for course in time_courses]
    for run, (course, table) in enumerate(zip(courses, events, strict=True), start=1):
        missing = [column for column in COLUMNS if column not in table]
        if missing:
            raise ValueError(f"The events of run {run} lack {', '.join(missing)}. Give recording.events.")
        if course.ndim != 2 or course.shape != (len(table), courses[0].shape[1]) or not len(table):
            raise ValueError(
                f"The time courses of run {run} have shape {course.shape}; its events need ({len(table)}, "
                f"{courses[0].shape[-1]}), a row a volume and a column a network, and at least one. "
                "Give the runs of both in the same order."
            )
        if not np.isfinite(course).all():
            raise ValueError(f"The time courses of run {run} hold NaN or infinity. Decompose again.")
    joined = pd.concat([table.assign(run=run) for run, table in enumerate(events, start=1)], ignore_index=True)
    name = joined["text_id"].to_numpy(dtype=str)
    run_of = joined["run"].to_numpy()
    starts = np.flatnonzero(np.r_[True, (name[1:] != name[:-1]) | (run_of[1:] != run_of[:-1])])
    names, counts = np.unique(name[starts], return_counts=True)
    if counts.max() > 1:
        raise ValueError(
            f"The text {names[counts > 1][0]!r} is in several places of the events. The volumes of a text follow each "
            "other within one run, and text_id is another one for every text: rename those of one corpus."
        )
    stacked = np.concatenate(courses)
    z = z_scores(stacked.T).T
    run_means = np.array([z[run_of == run].mean(axis=0) for run in np.unique(run_of)])
    one_kind = bool((joined.groupby("run")["trial_type"].nunique() == 1).all())
    bounds = np.r_[starts, len(joined)]
    keep, n_repeated = _first_of_repeated(joined, stacked, bounds)
    if n_repeated:
        warnings.warn(
            f"{n_repeated} of {len(starts)} texts repeat another one, token by token, and are left out: the same text "
            "twice is no more evidence than once.",
            DataWarning,
            stacklevel=3,
        )
        lengths = np.diff(bounds)
        volumes = np.repeat(keep, lengths)
        joined, z = joined[volumes].reset_index(drop=True), z_scores(stacked[volumes].T).T
        bounds = np.r_[0, np.cumsum(lengths[keep])]
    return Reading(z, joined, bounds, one_kind and bool(np.abs(run_means).max() < 1e-4), n_repeated)


def _first_of_repeated(events: pd.DataFrame, courses: np.ndarray, bounds: np.ndarray) -> tuple[np.ndarray, int]:
    """Say which texts are not a repetition, tokens and kind, of an earlier one."""
    ids, kinds = events["token_id"].to_numpy(), events["trial_type"].to_numpy(dtype=str)
    seen: set[tuple[str, bytes]] = set()
    keep = np.ones(len(bounds) - 1, dtype=bool)
    for text, (first, last) in enumerate(itertools.pairwise(bounds)):
        key = (str(kinds[first]), ids[first:last].tobytes())
        keep[text] = key not in seen
        seen.add(key)
    return keep, int((~keep).sum())


def network_names(networks: NetworkSet | Sequence[str] | None, n: int) -> list[str]:
    """Give a name for each of `n` time courses, refusing names that are too few or alike."""
    names = [f"network-{number:02d}" for number in range(n)] if networks is None else networks
    names = list(names.names if isinstance(names, NetworkSet) else names)
    if len(names) != n or len(set(names)) != n:
        raise ValueError(f"There are {len(set(names))} different names for {n} time courses. Give one a network.")
    return names


@dataclass(frozen=True, eq=False)
class Null:
    """Time courses that each text could have had: its own, and in other *slots* those of others, or its own reversed.

    Parameters
    ----------
    own : ndarray of int, shape (n_texts,)
        The slot of a text's own time course.
    n_slots : ndarray of int, shape (n_texts,)
        How many slots each text has.
    blocks : list of ndarray
        Texts that are exchanged with each other; empty if every text draws by itself.
    sources : ndarray of int, shape (n_slots.max(), n_volumes)
        For every slot and volume, the volume that takes its place.
    """

    own: np.ndarray
    n_slots: np.ndarray
    blocks: list[np.ndarray]
    sources: np.ndarray

    def draw(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """Draw slots, ``(n, n_texts)``."""
        if not self.blocks:
            return rng.integers(0, self.n_slots, size=(n, len(self.own)))
        slots = np.empty((n, len(self.own)), dtype=np.int64)
        for block in self.blocks:
            slots[:, block] = np.argsort(rng.random((n, len(block))), axis=1)
        return slots

    @property
    def used(self) -> np.ndarray:
        """Which slots each text has, ``(n_slots.max(), n_texts)``."""
        return np.arange(self.n_slots.max())[:, None] < self.n_slots


def exchanged(reading: Reading) -> Null:
    """Let texts of one kind and of like length exchange their time courses, position by position.

    Where a text is longer than what it gets, the second half of that is read back and forth, so that no volume of the
    beginning, where position matters most, ever stands at the end.
    """
    blocks = []
    for kind in np.unique(reading.kinds):
        texts = np.flatnonzero(reading.kinds == kind)
        texts = texts[np.argsort(reading.lengths[texts], kind="stable")]
        blocks += np.array_split(texts, max(1, len(texts) // _BLOCK))
    own, n_slots = np.empty(reading.n_texts, dtype=np.int64), np.empty(reading.n_texts, dtype=np.int64)
    partners = np.tile(np.arange(reading.n_texts), (max(map(len, blocks)), 1))
    for block in blocks:
        own[block], n_slots[block] = np.arange(len(block)), len(block)
        partners[: len(block), block] = block[:, None]
    sources = np.empty((len(partners), len(reading.text)), dtype=np.int64)
    for slot, partner in enumerate(partners):
        given = partner[reading.text]
        sources[slot] = reading.starts[given] + _reflected(reading.place, reading.lengths[given])
    return Null(own, n_slots, blocks, sources)


def _reflected(place: np.ndarray, length: np.ndarray) -> np.ndarray:
    """Fold places beyond `length` back and forth over the second half of it."""
    half = (length + 1) // 2
    wave = np.abs((place - (length - 1)) % np.maximum(2 * (half - 1), 1))
    back = np.minimum(wave, np.maximum(2 * (half - 1), 1) - wave)
    return np.where(place < length, place, length - 1 - np.where(half > 1, back, 0))


def backwards(reading: Reading) -> Null:
    """Let every text read its time course forwards or backwards."""
    here = np.arange(len(reading.text))
    back = reading.starts[reading.text] + reading.lengths[reading.text] - 1 - reading.place
    ones = np.ones(reading.n_texts, dtype=np.int64)
    return Null(0 * ones, 2 * ones, [], np.stack([here, back]))


def permutations_needed(n_tests: int, n_permutations: int) -> int:
    """Permutations with which one test alone, among all, can reach ``q <= ALPHA``; no fewer than were asked for."""
    return min(max(n_permutations, math.ceil(n_tests / ALPHA)), max(n_permutations, _MOST_PERMUTATIONS))


def is_floor_too_high(count: np.ndarray, n_permutations: int) -> bool:
    """Say whether tests that no permutation reached exist, but are too few to be significant for it."""
    n_at_floor = int((count == 0).sum())
    return n_at_floor > 0 and count.size / (n_at_floor * (1 + n_permutations)) > ALPHA


def check_permutations(n_permutations: int) -> None:
    """Refuse to test without permutations."""
    if n_permutations < 1:
        raise ValueError(f"n_permutations is {n_permutations}; it must be at least 1, and 1000 is a good start.")


def without_position(reading: Reading, values: np.ndarray) -> np.ndarray:
    """Take out the course over positions, two steps an octave, that all texts share; estimated within texts."""
    steps = np.floor(2 * np.log2(1 + reading.place)).astype(int)
    design = reading.centre((steps[:, None] == np.unique(steps)[1:]).astype(float))
    slopes = np.linalg.lstsq(design, reading.centre(values), rcond=None)[0]
    course = (steps[:, None] == np.unique(steps)[1:]).astype(float) @ slopes
    return values - (course - course.mean(axis=0))
