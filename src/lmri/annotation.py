"""Annotation: what a network is, told from its time course: tokens, kinds of text, features, and a suggested label.

A *text* is the unit of all inference here; tokens never are. Time courses come as arrays ``(n_volumes, n_networks)``,
one a run, with the table of events of each run, a row a volume. They are z-scored over all volumes, so that effects are
in standard deviations of a network's own time course.

What is exchanged under a null hypothesis is always whole: a text's time course stays as it is, and so do a text's
tokens. The null breaks only which of them belong together (see `enrichment` and `decode`).
"""

import itertools
import math
import unicodedata
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from scipy import sparse
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold

from lmri.exceptions import DataWarning
from lmri.networks import NetworkSet
from lmri.thresholds import q_values, z_scores

ALPHA = 0.05
COLUMNS = ("text_id", "token", "token_id", "position", "trial_type")
"""What every table of events needs; ``surprisal`` is used where it is there."""
FEATURES = ("position", "log_frequency", "surprisal", "is_punctuation", "has_digit", "is_capitalized")
BINARY = ("is_punctuation", "has_digit", "is_capitalized")
ENRICHMENT_COLUMNS = ("network", "feature", "value", "n_volumes", "n_texts", "mean", "effect", "p", "q")
DECODING_COLUMNS = (
    "network", "feature", "model", "metric", "score", "r", "correlation", "n_volumes", "n_texts", "p", "q",
)  # fmt: skip
LABEL_R = 0.1
"""A feature that is decoded worse than this is not worth a place in a label, however small its p."""
LABEL_EFFECT = 0.1
"""Nor is a token or a kind of text with a smaller effect than this."""

_BLOCK = 20  # texts that are exchanged with each other; fewer are closer in length, but allow fewer exchanges
_FEWEST_PER_KIND = 4
_FEWEST_TEXTS = 6  # reversing 6 texts gives 64 arrangements: p can fall to 0.016
_SHORTEST = 8  # volumes; a correlation over fewer is mostly noise
_MOST_PERMUTATIONS = 200_000
_TABLE = 30_000_000  # numbers in the table of sums that is held at once, 240 MB


# ---------------------------------------------------------------------------------------------------------------------
# Time courses and events, brought together
# ---------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _Reading:
    """Z-scored time courses ``(n_volumes, n_networks)`` of all runs, with a row of `events` a volume."""

    z: np.ndarray
    events: pd.DataFrame
    starts: np.ndarray  # first volume of every text, and the total: (n_texts + 1,)
    centred: bool  # whether every run has mean 0 in every network and holds one kind of text
    n_repeated: int

    @property
    def lengths(self) -> np.ndarray:
        return np.diff(self.starts)

    @property
    def n_texts(self) -> int:
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

    def head(self, n: int) -> "_Reading":
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


def _gather(time_courses: Sequence[Any], events: Sequence[pd.DataFrame]) -> _Reading:
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
    return _Reading(z, joined, bounds, one_kind and bool(np.abs(run_means).max() < 1e-4), n_repeated)


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


def _names(networks: NetworkSet | Sequence[str] | None, n: int) -> list[str]:
    names = [f"network-{number:02d}" for number in range(n)] if networks is None else networks
    names = list(names.names if isinstance(names, NetworkSet) else names)
    if len(names) != n or len(set(names)) != n:
        raise ValueError(f"There are {len(set(names))} different names for {n} time courses. Give one a network.")
    return names


# ---------------------------------------------------------------------------------------------------------------------
# Nulls
# ---------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _Null:
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


def _exchanged(reading: _Reading) -> _Null:
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
    return _Null(own, n_slots, blocks, sources)


def _reflected(place: np.ndarray, length: np.ndarray) -> np.ndarray:
    """Fold places beyond `length` back and forth over the second half of it."""
    half = (length + 1) // 2
    wave = np.abs((place - (length - 1)) % np.maximum(2 * (half - 1), 1))
    back = np.minimum(wave, np.maximum(2 * (half - 1), 1) - wave)
    return np.where(place < length, place, length - 1 - np.where(half > 1, back, 0))


def _reversed(reading: _Reading) -> _Null:
    """Let every text read its time course forwards or backwards."""
    here = np.arange(len(reading.text))
    back = reading.starts[reading.text] + reading.lengths[reading.text] - 1 - reading.place
    ones = np.ones(reading.n_texts, dtype=np.int64)
    return _Null(0 * ones, 2 * ones, [], np.stack([here, back]))


def _enough(n_tests: int, n_permutations: int) -> int:
    """Permutations with which one test alone, among all, can reach ``q <= ALPHA``; no fewer than were asked for."""
    return min(max(n_permutations, math.ceil(n_tests / ALPHA)), max(n_permutations, _MOST_PERMUTATIONS))


def _is_floor_too_high(count: np.ndarray, n_permutations: int) -> bool:
    """Say whether tests that no permutation reached exist, but are too few to be significant for it."""
    n_at_floor = int((count == 0).sum())
    return n_at_floor > 0 and count.size / (n_at_floor * (1 + n_permutations)) > ALPHA


def _check_permutations(n_permutations: int) -> None:
    if n_permutations < 1:
        raise ValueError(f"n_permutations is {n_permutations}; it must be at least 1, and 1000 is a good start.")


def _family(p: np.ndarray) -> np.ndarray:
    """Adjust all p-values that are there, of all networks together."""
    q, tested = np.full(len(p), np.nan), np.isfinite(p)
    if tested.any():
        q[tested] = q_values(p[tested])
    return q


# ---------------------------------------------------------------------------------------------------------------------
# Tokens at the top
# ---------------------------------------------------------------------------------------------------------------------


def top_tokens(
    time_courses: Sequence[Any], events: Sequence[pd.DataFrame], network: int, n: int = 10, width: int = 8
) -> pd.DataFrame:
    """List the volumes at which a network is most active, on either side of its time course.

    Descriptive: the largest of anything look large. `enrichment` tests.

    Parameters
    ----------
    time_courses : list of ndarray of shape (n_volumes, n_networks)
        One a run.
    events : list of DataFrame
        One a run, a row a volume.
    network : int
        Column of the time courses.
    n : int, default=10
        Rows of either side.
    width : int, default=8
        Tokens of context on either side of a token; never from another text.

    Returns
    -------
    DataFrame
        ``rank, side, z, token, before, after, kind, text_id, position, run``; the positive side first, the largest
        ``|z|`` of each side first.
    """
    return _top_tokens(_gather(time_courses, events), network, n, width)


def _top_tokens(reading: _Reading, network: int, n: int, width: int) -> pd.DataFrame:
    if not 0 <= network < reading.z.shape[1]:
        raise IndexError(f"network is {network}; there are {reading.z.shape[1]}, counted from 0.")
    if n < 1 or width < 0:
        raise ValueError(f"n is {n} and width is {width}; n must be at least 1, and width at least 0.")
    z, table = reading.z[:, network], reading.events
    tokens = table["token"].to_numpy(dtype=object)
    rows = []
    for side, size in (("positive", z), ("negative", -z)):
        largest = np.argsort(-size, kind="stable")[:n]
        for rank, volume in enumerate(largest[size[largest] > 0], start=1):
            first, last = reading.starts[reading.text[volume]], reading.starts[reading.text[volume] + 1]
            rows.append(
                {
                    "rank": rank,
                    "side": side,
                    "z": z[volume],
                    "token": tokens[volume],
                    "before": "".join(tokens[max(first, volume - width) : volume]),
                    "after": "".join(tokens[volume + 1 : min(last, volume + 1 + width)]),
                    "kind": table["trial_type"].iloc[volume],
                    "text_id": table["text_id"].iloc[volume],
                    "position": table["position"].iloc[volume],
                    "run": table["run"].iloc[volume],
                }
            )
    return pd.DataFrame(
        rows, columns=["rank", "side", "z", "token", "before", "after", "kind", "text_id", "position", "run"]
    )


# ---------------------------------------------------------------------------------------------------------------------
# Enrichment
# ---------------------------------------------------------------------------------------------------------------------


def enrichment(
    time_courses: Sequence[Any],
    events: Sequence[pd.DataFrame],
    networks: NetworkSet | Sequence[str] | None = None,
    n_permutations: int = 1000,
    random_state: int = 0,
    min_texts: int = 3,
    max_types: int = 500,
) -> pd.DataFrame:
    """Test at which tokens, and in which kinds of text, each network is more or less active than elsewhere.

    *Tokens.* The statistic is the mean z of the time course at a type of token: within each text first, then over the
    texts that have it, so that no text counts for more. The course over positions that all texts share is taken out.
    Under the null hypothesis a text's time course says nothing of that text's tokens beyond its kind and the position
    in it: texts of one kind are exchangeable. Whole time courses are therefore exchanged among texts of the same kind
    (and of like length), position by position. That keeps everything a time course may be besides (autocorrelated,
    skewed, noisier at the start of every text), and the burstiness of tokens; nothing is assumed stationary, as
    circular shifts would, or symmetric, as flips of sign would. A token that stands at the same position of all texts
    can therefore not be told from the position, and a token that is common only in one kind is compared within that
    kind; neither is found for these reasons. Exact if texts are as long as those they are exchanged with, and close to
    it otherwise, but for a token that ends every text, where p below 0.05 come about twice as often as they should.

    *Kinds.* The statistic is the difference between the mean over the texts of a kind and the mean over all others,
    of the mean time course of each text (``feature == "kind"``) and of its mean ``|z|`` (``"kind_activity"``). Short
    texts would differ from long ones, if the time course follows position: only positions that the median text of every
    kind reaches count, and the course over positions, estimated within texts, is taken out there. Under the null
    hypothesis texts of all kinds have the same distribution, and labels of kinds are permuted over texts. The
    difference is studentized as by Welch, so that kinds may differ in spread and in number (Chung & Romano 2013). Where
    each kind has runs of its own, and every run has mean 0, as after standardization by run, kinds cannot differ in
    their mean; p is missing then.

    Parameters
    ----------
    time_courses : list of ndarray of shape (n_volumes, n_networks)
        One a run.
    events : list of DataFrame
        One a run, a row a volume.
    networks : NetworkSet or sequence of str, optional
        Names.
    n_permutations : int, default=1000
        The smallest p is ``1 / (n_permutations + 1)``. Where that could not become significant among all tests, what no
        permutation has reached is permuted further.
    random_state : int, default=0
        Of the permutations.
    min_texts : int, default=3
        In how many texts a type of token has to be.
    max_types : int, default=500
        The types in most texts are tested; which ones does not depend on the time courses.

    Returns
    -------
    DataFrame
        With `ENRICHMENT_COLUMNS`. ``mean`` is the statistic; ``effect`` is what it exceeds, in sd of the time course:
        the other texts at these positions, or the other kinds. ``p`` is ``(1 + at least as extreme) / (1 +
        permutations)``, two-sided. ``q`` is p adjusted for the false discovery rate over all tests of the same
        ``feature``, of all networks together: with 20 networks each on its own, noise would give some finding in most
        studies.

    References
    ----------
    Chung & Romano (2013). Exact and asymptotically robust permutation tests. Annals of Statistics, 41.
    """
    _check_permutations(n_permutations)
    reading = _gather(time_courses, events)
    names = _names(networks, reading.z.shape[1])
    return _enrichment(reading, names, n_permutations, random_state, min_texts, max_types)


def _enrichment(
    reading: _Reading, names: list[str], n_permutations: int, random_state: int, min_texts: int, max_types: int
) -> pd.DataFrame:
    rng = np.random.default_rng([random_state, 1])
    parts = [
        _token_enrichment(reading, names, n_permutations, rng, min_texts, max_types),
        _kind_enrichment(reading, names, n_permutations, np.random.default_rng([random_state, 2])),
    ]
    table = pd.concat([part for part in parts if len(part)] or parts[:1], ignore_index=True)
    for _, family in table.groupby("feature"):
        table.loc[family.index, "q"] = _family(family["p"].to_numpy(dtype=float))
    return table[list(ENRICHMENT_COLUMNS)]


def _token_enrichment(
    reading: _Reading,
    names: list[str],
    n_permutations: int,
    rng: np.random.Generator,
    min_texts: int,
    max_types: int,
) -> pd.DataFrame:
    types, kept = _types(reading, min_texts, max_types)
    if not len(types):
        return pd.DataFrame(columns=list(ENRICHMENT_COLUMNS))
    null = _exchanged(reading)
    # An entry is a type in a text; entries are sorted by type, and volumes by entry.
    volumes = np.flatnonzero(kept >= 0)
    volumes = volumes[np.lexsort((reading.text[volumes], kept[volumes]))]
    pairs = np.column_stack([kept[volumes], reading.text[volumes]])
    firsts = np.flatnonzero(np.r_[True, (pairs[1:] != pairs[:-1]).any(axis=1)])
    type_of, text_of = pairs[firsts].T
    n_texts = np.bincount(type_of, minlength=len(types))
    entries = _Entries(null, volumes, firsts, text_of, np.r_[0, np.cumsum(n_texts)])

    n_slots, n_networks = len(null.sources), reading.z.shape[1]
    z = _without_position(reading, reading.z)
    slots = null.draw(n_permutations, rng)
    observed, expected, count = (np.zeros((len(types), n_networks)) for _ in range(3))
    step = max(1, _TABLE // (n_slots * len(firsts)))
    for first in range(0, n_networks, step):
        part = slice(first, first + step)
        table = entries.table(z[:, part])
        observed[:, part], expected[:, part] = entries.mean(table, null.own[None])[0], entries.expected(table)
        count[:, part] = entries.count(table, slots, observed[:, part], expected[:, part])
    n_used = np.full(count.shape, n_permutations)
    _refine(entries, z, observed, expected, count, n_used, rng)
    p = (1 + count) / (1 + n_used)

    lengths = np.bincount(kept[volumes], minlength=len(types))
    return pd.DataFrame(
        {
            "network": np.repeat(names, len(types)),
            "feature": "token",
            "value": np.tile(types, n_networks),
            "n_volumes": np.tile(lengths, n_networks),
            "n_texts": np.tile(n_texts, n_networks),
            "mean": observed.T.ravel(),
            "effect": (observed - expected).T.ravel(),
            "p": p.T.ravel(),
            "q": np.nan,
        }
    )


def _types(reading: _Reading, min_texts: int, max_types: int) -> tuple[np.ndarray, np.ndarray]:
    """Choose the types that are in most texts: their tokens, and for every volume its type, or -1."""
    codes, first_of = np.unique(reading.events["token_id"].to_numpy(), return_index=True)
    code = np.searchsorted(codes, reading.events["token_id"].to_numpy())
    seen = np.unique(np.column_stack([code, reading.text]), axis=0)
    n_texts = np.bincount(seen[:, 0], minlength=len(codes))
    chosen = np.argsort(-n_texts, kind="stable")[:max_types]
    chosen = chosen[n_texts[chosen] >= min_texts]
    new = np.full(len(codes), -1)
    new[chosen] = np.arange(len(chosen))
    return reading.events["token"].to_numpy(dtype=object)[first_of[chosen]], new[code]


@dataclass(frozen=True, eq=False)
class _Entries:
    """Types of token in texts, with the mean of every time course that a text may get: a table ``(slot, entry)``."""

    null: _Null
    volumes: np.ndarray  # sorted by entry
    firsts: np.ndarray  # first of `volumes` of every entry
    text_of: np.ndarray  # of every entry
    bounds: np.ndarray  # first entry of every type, and the total

    @property
    def n_texts(self) -> np.ndarray:
        return np.diff(self.bounds)

    def table(self, z: np.ndarray) -> np.ndarray:
        """Average ``(n_volumes, n)`` over the volumes of every entry, for every slot: ``(n_slots, n_entries, n)``."""
        sizes = np.diff(np.r_[self.firsts, len(self.volumes)])[:, None]
        return np.stack(
            [np.add.reduceat(z[source[self.volumes]], self.firsts, axis=0) / sizes for source in self.null.sources]
        )

    def mean(self, table: np.ndarray, slots: np.ndarray) -> np.ndarray:
        """Average over the texts of every type, ``(n_draws, n_types, n)``."""
        n_entries = len(self.firsts)
        columns = slots[:, self.text_of] * n_entries + np.arange(n_entries)
        n_rows = len(slots) * len(self.n_texts)
        bounds = np.r_[0, np.cumsum(np.tile(self.n_texts, len(slots)))]
        weights = np.tile(np.repeat(1 / self.n_texts, self.n_texts), len(slots))
        chosen = sparse.csr_array((weights, columns.ravel(), bounds), shape=(n_rows, table.shape[0] * n_entries))
        return (chosen @ table.reshape(-1, table.shape[2])).reshape(len(slots), -1, table.shape[2])

    def expected(self, table: np.ndarray) -> np.ndarray:
        """Average over all exchanges: exact, and the same for every one of them."""
        used = self.null.used[:, self.text_of, None]
        mean = np.where(used, table, 0).sum(axis=0) / used.sum(axis=0)
        return np.add.reduceat(mean, self.bounds[:-1], axis=0) / self.n_texts[:, None]

    def count(
        self, table: np.ndarray, slots: np.ndarray, observed: np.ndarray, expected: np.ndarray, step: int = 50
    ) -> np.ndarray:
        """Count the draws at least as far from what is expected as what was observed."""
        limit = _limit(observed, expected)
        draws = (slots[first : first + step] for first in range(0, len(slots), step))
        return np.sum([(np.abs(self.mean(table, draw) - expected) >= limit).sum(axis=0) for draw in draws], axis=0)

    def only(self, number: int) -> "_Entries":
        """Keep one type."""
        first, last = self.bounds[number], self.bounds[number + 1]
        ends = np.r_[self.firsts, len(self.volumes)]
        volumes = self.volumes[ends[first] : ends[last]]
        return replace(
            self,
            volumes=volumes,
            firsts=self.firsts[first:last] - ends[first],
            text_of=self.text_of[first:last],
            bounds=np.array([0, last - first]),
        )


def _limit(observed: np.ndarray, expected: np.ndarray) -> np.ndarray:
    # Equal up to rounding counts as equally extreme.
    return np.abs(observed - expected) - 1e-9


def _refine(
    entries: _Entries,
    z: np.ndarray,
    observed: np.ndarray,
    expected: np.ndarray,
    count: np.ndarray,
    n_used: np.ndarray,
    rng: np.random.Generator,
) -> None:
    """Permute further what no permutation reached, if it is too little to be significant at the smallest p there is.

    P-values stay valid: one below the first floor needs few enough of all permutations, and one above it few enough of
    the first ones.
    """
    n_first = int(n_used.flat[0])
    if not _is_floor_too_high(count, n_first):
        return
    at_floor = np.argwhere(count == 0)
    n_more = _enough(count.size, n_first) - n_first
    types = np.unique(at_floor[:, 0])
    columns = [at_floor[at_floor[:, 0] == number, 1] for number in types]
    parts = [entries.only(int(number)) for number in types]
    tables = [part.table(z[:, own]) for part, own in zip(parts, columns, strict=True)]
    for first in range(0, n_more, 1000):
        slots = entries.null.draw(min(1000, n_more - first), rng)
        for number, own, part, table in zip(types, columns, parts, tables, strict=True):
            was, mean = observed[number, own][None], expected[number, own][None]
            count[number, own] += part.count(table, slots, was, mean, step=1000)[0]
    n_used[at_floor[:, 0], at_floor[:, 1]] += n_more


def _kind_enrichment(
    reading: _Reading, names: list[str], n_permutations: int, rng: np.random.Generator
) -> pd.DataFrame:
    kinds, counts = np.unique(reading.kinds, return_counts=True)
    if len(kinds) < 2:
        return pd.DataFrame(columns=list(ENRICHMENT_COLUMNS))
    n_networks = len(names)
    # No further than texts of all kinds reach: what long texts do at their end has nothing to be compared with.
    reach = min(int(np.median(reading.lengths[reading.kinds == kind])) for kind in kinds)
    short = reading.head(reach)
    values = _without_position(short, np.hstack([short.z, np.abs(short.z)]))
    means = short.sums(values) / short.lengths[:, None]  # (n_texts, 2 * n_networks)
    member = (reading.kinds == kinds[:, None]).astype(float)  # (n_kinds, n_texts)
    observed, difference = _welch(member, means)
    count, n_used = np.zeros(observed.shape), _enough(len(kinds) * n_networks, n_permutations)
    for _ in range(n_used):
        drawn, _ = _welch(member[:, rng.permutation(reading.n_texts)], means)
        count += np.abs(drawn) >= np.abs(observed) - 1e-9
    p = (1 + count) / (1 + n_used)
    p[~np.isfinite(observed)] = np.nan
    p[(np.minimum(counts, reading.n_texts - counts) < _FEWEST_PER_KIND)] = np.nan
    if reading.centred:
        p[:, :n_networks] = np.nan
    own = member @ means / counts[:, None]
    volumes = member @ short.lengths
    parts = []
    for feature, first in (("kind", 0), ("kind_activity", n_networks)):
        part = slice(first, first + n_networks)
        parts.append(
            pd.DataFrame(
                {
                    "network": np.repeat(names, len(kinds)),
                    "feature": feature,
                    "value": np.tile(kinds.astype(object), n_networks),
                    "n_volumes": np.tile(volumes.astype(int), n_networks),
                    "n_texts": np.tile(counts, n_networks),
                    "mean": own[:, part].T.ravel(),
                    "effect": difference[:, part].T.ravel(),
                    "p": p[:, part].T.ravel(),
                    "q": np.nan,
                }
            )
        )
    return pd.concat(parts, ignore_index=True)


def _welch(member: np.ndarray, means: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Welch's t and the difference of the texts of each kind from all others; ``(n_kinds, n)`` both."""
    n = member.sum(axis=1, keepdims=True)
    rest = member.shape[1] - n
    centred = means - means.mean(axis=0)
    total, squares = member @ centred, member @ centred**2
    a, b = total / n, -total / rest
    with np.errstate(divide="ignore", invalid="ignore"):
        var_a = (squares / n - a**2) * n / (n - 1) / n
        var_b = ((centred**2).sum(axis=0) - squares) / rest - b**2
        var_b = var_b * rest / (rest - 1) / rest
        error = np.sqrt(np.maximum(var_a + var_b, 0))
        return (a - b) / np.where(error > 0, error, np.nan), a - b


def _without_position(reading: _Reading, values: np.ndarray) -> np.ndarray:
    """Take out the course over positions, two steps an octave, that all texts share; estimated within texts."""
    steps = np.floor(2 * np.log2(1 + reading.place)).astype(int)
    design = reading.centre((steps[:, None] == np.unique(steps)[1:]).astype(float))
    slopes = np.linalg.lstsq(design, reading.centre(values), rcond=None)[0]
    course = (steps[:, None] == np.unique(steps)[1:]).astype(float) @ slopes
    return values - (course - course.mean(axis=0))


# ---------------------------------------------------------------------------------------------------------------------
# Features of tokens
# ---------------------------------------------------------------------------------------------------------------------


def token_features(events: pd.DataFrame) -> pd.DataFrame:
    """Compute simple features of the token of every volume.

    Parameters
    ----------
    events : DataFrame
        Of all runs together: frequencies are counted in it.

    Returns
    -------
    DataFrame
        ``position`` (logarithm of it), ``log_frequency`` (of the token among all volumes), ``surprisal`` (if events
        have it, NaN where it is unknown), ``is_punctuation`` (nothing but punctuation and symbols), ``has_digit``,
        ``is_capitalized`` (the first character is upper case), and ``token_length`` (characters, without blanks).
    """
    tokens = [str(token).strip() for token in events["token"]]
    share = events["token_id"].map(events["token_id"].value_counts(normalize=True))
    found: dict[str, Any] = {
        "position": np.log1p(events["position"].to_numpy(dtype=float)),
        "log_frequency": np.log(share.to_numpy(dtype=float)),
    }
    if "surprisal" in events:
        surprisal = events["surprisal"].to_numpy(dtype=float)
        found["surprisal"] = np.where(np.isfinite(surprisal), surprisal, np.nan)
    found["is_punctuation"] = [float(bool(one) and all(_is_symbol(char) for char in one)) for one in tokens]
    found["has_digit"] = [float(any(char.isdigit() for char in one)) for one in tokens]
    found["is_capitalized"] = [float(one[:1].isupper()) for one in tokens]
    found["token_length"] = [float(len(one)) for one in tokens]
    return pd.DataFrame(found)


def _is_symbol(char: str) -> bool:
    return unicodedata.category(char)[0] in "PS"


def confound_correlations(
    time_courses: Sequence[Any], events: Sequence[pd.DataFrame], networks: NetworkSet | Sequence[str] | None = None
) -> pd.DataFrame:
    """Correlate each network with what any text has: position, length of the token, and its frequency.

    Within texts: both sides are taken around the mean of each text, and all texts are pooled. Descriptive; a large
    ``|r|`` says that a network may be no more than that.

    Parameters
    ----------
    time_courses : list of ndarray of shape (n_volumes, n_networks)
        One a run.
    events : list of DataFrame
        One a run, a row a volume.
    networks : NetworkSet or sequence of str, optional
        Names.

    Returns
    -------
    DataFrame
        ``network, r_position, r_token_length, r_log_frequency``, signed; position and frequency are logarithms. NaN
        where either side does not vary.
    """
    reading = _gather(time_courses, events)
    return _confounds(reading, _names(networks, reading.z.shape[1]))


def _confounds(reading: _Reading, names: list[str]) -> pd.DataFrame:
    features = token_features(reading.events)
    wanted = ("position", "token_length", "log_frequency")
    r = _correlation(reading.centre(reading.z), reading.centre(features[list(wanted)].to_numpy()))
    return pd.DataFrame({"network": names, **{f"r_{feature}": r[:, number] for number, feature in enumerate(wanted)}})


def _correlation(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Correlate all columns of `a` with all of `b`, centred both."""
    norms = np.linalg.norm(a, axis=0)[:, None] * np.linalg.norm(b, axis=0)
    return np.divide(a.T @ b, norms, out=np.full(norms.shape, np.nan), where=norms > 1e-9 * math.sqrt(len(a)))


# ---------------------------------------------------------------------------------------------------------------------
# Decoding
# ---------------------------------------------------------------------------------------------------------------------


def decode(
    time_courses: Sequence[Any],
    events: Sequence[pd.DataFrame],
    networks: NetworkSet | Sequence[str] | None = None,
    n_permutations: int = 1000,
    random_state: int = 0,
    n_folds: int = 5,
) -> pd.DataFrame:
    """Decode simple features of tokens from the time course of one network at a time, in texts that are held out.

    The predictors are the time course and its absolute value, around the mean of each text. Ridge regression
    (``alpha=1``) is fitted on four fifths of the texts (`GroupKFold`, texts are the groups) and predicts the others;
    ``r`` is the correlation of prediction and feature within each of these texts, averaged over texts. For features
    that are there or not, ``score`` is the area under the ROC curve of a logistic regression in the same folds, within
    each text that has both, averaged over texts; ``p`` is of ``r`` for all of them.

    The null refits everything with other time courses. For all features but position these are exchanged among texts
    of the same kind, as in `enrichment`, after the course over positions that all texts share is taken out: a feature
    that follows position, or kind, is not found for that reason. For position itself the time course of each text is
    read forwards or backwards at random: under the null hypothesis, a time course that is stationary within texts, both
    are alike.

    Parameters
    ----------
    time_courses : list of ndarray of shape (n_volumes, n_networks)
        One a run.
    events : list of DataFrame
        One a run, a row a volume. Without a column ``surprisal`` that feature is not there.
    networks : NetworkSet or sequence of str, optional
        Names.
    n_permutations : int, default=1000
        As in `enrichment`: what none of them reaches is permuted further where it takes more to become significant.
    random_state : int, default=0
        Of the permutations.
    n_folds : int, default=5
        Or as many as there are texts.

    Returns
    -------
    DataFrame
        With `DECODING_COLUMNS`. ``correlation`` is that of the time course itself with the feature, within texts: it
        tells the direction. ``p`` is one-sided, ``(1 + at least as good) / (1 + permutations)``, and missing where
        fewer than 6 texts of 8 volumes have tokens that differ in the feature; ``q`` is p adjusted for the false
        discovery rate over all features and networks.
    """
    _check_permutations(n_permutations)
    if n_folds < 2:
        raise ValueError(f"n_folds is {n_folds}; it must be at least 2.")
    reading = _gather(time_courses, events)
    return _decode(reading, _names(networks, reading.z.shape[1]), n_permutations, random_state, n_folds)


def _decode(reading: _Reading, names: list[str], n_permutations: int, random_state: int, n_folds: int) -> pd.DataFrame:
    features = token_features(reading.events)
    wanted = [feature for feature in FEATURES if feature in features]
    beyond = _without_position(reading, reading.z)
    y = reading.centre(features[wanted].to_numpy(dtype=float))
    y /= np.maximum(y.std(axis=0), 1e-12)
    spread = reading.sums(y**2)
    counted = (spread > 1e-9) & (reading.lengths[:, None] >= _SHORTEST)  # (n_texts, n_features)
    n_networks, n_folds = len(names), min(n_folds, reading.n_texts)
    enough = counted.sum(axis=0) >= _FEWEST_TEXTS
    fold = _folds(reading, n_folds) if enough.any() else np.zeros(reading.n_texts, dtype=int)
    r, count = np.full((n_networks, len(wanted)), np.nan), np.zeros((n_networks, len(wanted)))
    n_used = np.full(r.shape, n_permutations)
    started = []
    for make, of_position in ((_exchanged, False), (_reversed, True)):
        chosen = np.flatnonzero(np.array([(feature == "position") == of_position for feature in wanted]) & enough)
        if not len(chosen):
            continue
        null, rng = make(reading), np.random.default_rng([random_state, 3, int(of_position)])
        ridge = _Ridge.build(
            reading, reading.z if of_position else beyond, null, y[:, chosen], counted[:, chosen], fold
        )
        r[:, chosen] = ridge.score(null.own[None])[0]
        count[:, chosen] = ridge.count(null, n_permutations, rng)
        started.append((chosen, null, rng, ridge))
    tested = np.isfinite(r)
    if _is_floor_too_high(count[tested], n_permutations):
        n_more = _enough(int(tested.sum()), n_permutations) - n_permutations
        for chosen, null, rng, ridge in started:
            numbers = np.flatnonzero((count[:, chosen] == 0).any(axis=1))
            again = np.zeros(r.shape, dtype=bool)
            again[np.ix_(numbers, chosen)] = count[np.ix_(numbers, chosen)] == 0
            more = np.zeros(r.shape)
            more[np.ix_(numbers, chosen)] = ridge.only(numbers).count(null, n_more, rng) if len(numbers) else 0
            count[again] += more[again]
            n_used[again] += n_more
    p = np.where(tested, (1 + count) / (1 + n_used), np.nan)
    score = r.copy()
    for number, feature in enumerate(wanted):
        if feature in BINARY:
            score[:, number] = np.nan
            if enough[number]:
                truth = features[feature].to_numpy() > 0
                score[:, number] = [_auc(reading, column, truth, counted[:, number], fold) for column in beyond.T]
    binary = np.isin(wanted, BINARY)
    table = pd.DataFrame(
        {
            "network": np.repeat(names, len(wanted)),
            "feature": np.tile(np.array(wanted, dtype=object), n_networks),
            "model": np.tile(np.where(binary, "logistic", "ridge").astype(object), n_networks),
            "metric": np.tile(np.where(binary, "roc_auc", "r").astype(object), n_networks),
            "score": score.ravel(),
            "r": r.ravel(),
            "correlation": np.where(
                np.array(wanted) == "position",
                _correlation(reading.centre(reading.z), y),
                _correlation(reading.centre(beyond), y),
            ).ravel(),
            "n_volumes": len(y),
            "n_texts": np.tile(counted.sum(axis=0), n_networks),
            "p": p.ravel(),
        }
    )
    table["q"] = _family(table["p"].to_numpy())
    return table[list(DECODING_COLUMNS)]


def _folds(reading: _Reading, n_folds: int) -> np.ndarray:
    """Give every text the fold in which it is held out."""
    fold = np.empty(reading.n_texts, dtype=int)
    splits = GroupKFold(n_folds).split(reading.text, groups=reading.text)
    for number, (_, held_out) in enumerate(splits):
        fold[reading.text[held_out]] = number
    return fold


def _predictors(reading: _Reading, z: np.ndarray) -> np.ndarray:
    """Time courses and their absolute values, around the mean of each text: ``(n_volumes, n, 2)``."""
    return reading.centre(np.stack([z, np.abs(z)], axis=-1))


@dataclass(frozen=True, eq=False)
class _Ridge:
    """Held-out ridge regression from sums per text, for every slot of a null: what makes refitting cheap."""

    xx: np.ndarray  # (n_slots, n_texts, n_networks, 2, 2)
    xy: np.ndarray  # (n_slots, n_texts, n_networks, 2, n_features)
    yy: np.ndarray  # (n_texts, n_features)
    counted: np.ndarray  # (n_texts, n_features)
    fold: np.ndarray  # (n_texts,)

    @classmethod
    def build(
        cls, reading: _Reading, z: np.ndarray, null: _Null, y: np.ndarray, counted: np.ndarray, fold: np.ndarray
    ) -> "_Ridge":
        xx, xy = [], []
        for source in null.sources:
            x = _predictors(reading, z[source])
            xx.append(reading.sums(x[..., :, None] * x[..., None, :]))
            # A feature at a time: all products at once would be the largest array of all.
            xy.append(np.stack([reading.sums(x * column[:, None, None]) for column in y.T], axis=-1))
        return cls(np.stack(xx), np.stack(xy), reading.sums(y**2), counted, fold)

    def only(self, networks: np.ndarray) -> "_Ridge":
        """Keep some networks."""
        return replace(self, xx=self.xx[:, :, networks], xy=self.xy[:, :, networks])

    def count(self, null: _Null, n: int, rng: np.random.Generator) -> np.ndarray:
        """Count the draws at least as good as what was observed, ``(n_networks, n_features)``."""
        step = max(1, 100_000 // (self.xx.shape[1] * self.xx.shape[2]))
        observed, count = self.score(null.own[None])[0], 0
        for first in range(0, n, step):
            count = count + (self.score(null.draw(min(step, n - first), rng)) >= observed - 1e-9).sum(axis=0)
        return np.asarray(count)

    def score(self, slots: np.ndarray, alpha: float = 1.0) -> np.ndarray:
        """Mean correlation within texts that are held out, ``(n_draws, n_networks, n_features)``."""
        texts = np.arange(slots.shape[1])
        xx, xy = self.xx[slots, texts], self.xy[slots, texts]  # (n_draws, n_texts, n_networks, 2, ...)
        total = np.zeros((len(slots), xy.shape[2], xy.shape[4]))
        for number in np.unique(self.fold):
            held_out = self.fold == number
            gram = xx[:, ~held_out].sum(axis=1) + alpha * np.eye(2)
            slope = np.linalg.solve(gram, xy[:, ~held_out].sum(axis=1))[:, None]  # (n_draws, 1, n_networks, 2, n_f)
            with_truth = (slope * xy[:, held_out]).sum(axis=-2)
            with_itself = ((xx[:, held_out] @ slope) * slope).sum(axis=-2)
            norms = np.sqrt(np.maximum(with_itself, 0) * self.yy[held_out][None, :, None])
            r = np.divide(with_truth, norms, out=np.zeros_like(norms), where=norms > 1e-12)
            total += (r * self.counted[held_out][None, :, None]).sum(axis=1)
        return total / self.counted.sum(axis=0)


def _auc(reading: _Reading, z: np.ndarray, truth: np.ndarray, counted: np.ndarray, fold: np.ndarray) -> float:
    """Area under the ROC curve of a held-out logistic regression, within texts, averaged over texts."""
    x, score = _predictors(reading, z), np.full(len(z), np.nan)
    for number in np.unique(fold):
        held_out = fold[reading.text] == number
        if truth[~held_out].any() and not truth[~held_out].all():
            model = LogisticRegression(solver="newton-cholesky").fit(x[~held_out], truth[~held_out])
            score[held_out] = model.decision_function(x[held_out])
    ranks = _ranks_within(reading.text, score)
    n = reading.sums(truth.astype(float))
    with np.errstate(divide="ignore", invalid="ignore"):
        areas = (reading.sums(ranks * truth) - n * (n + 1) / 2) / (n * (reading.lengths - n))
    areas = areas[counted & np.isfinite(reading.sums(score))]
    return float(areas.mean()) if len(areas) else np.nan


def _ranks_within(group: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Rank values from 1 within each group (sorted); equal values share the mean of their ranks."""
    order = np.lexsort((values, group))
    first = np.r_[True, np.diff(group) != 0]
    place = np.arange(len(group)) - np.maximum.accumulate(np.where(first, np.arange(len(group)), 0))
    tie = np.cumsum(first | np.r_[True, np.diff(values[order]) != 0]) - 1
    ranks = np.empty(len(group))
    ranks[order] = 1 + (np.bincount(tie, place) / np.bincount(tie))[tie]
    return ranks


# ---------------------------------------------------------------------------------------------------------------------
# Labels
# ---------------------------------------------------------------------------------------------------------------------

UNCLEAR = "unclear"

_WORDS = {
    "position": ("late tokens", "early tokens"),
    "log_frequency": ("frequent tokens", "rare tokens"),
    "surprisal": ("surprising tokens", "predictable tokens"),
    "is_punctuation": ("punctuation", "words"),
    "has_digit": ("digits", "no digits"),
    "is_capitalized": ("capitals", "no capitals"),
}


def suggest_label(enriched: pd.DataFrame, decoded: pd.DataFrame, network: str, alpha: float = ALPHA) -> str:
    """Suggest a short label for a network, of significant results only.

    Parameters
    ----------
    enriched, decoded : DataFrame
        As `enrichment` and `decode` give them.
    network : str
        Its name.
    alpha : float, default=0.05
        Largest q.

    Returns
    -------
    str
        Up to two features, three tokens and a kind of text at which the network is high, such as
        ``"digits; 'return', '='; code"``; what it is low at, after ``"low:"``, if there is nothing of the former;
        ``"unclear"`` if nothing passes.
    """
    found = enriched[(enriched["network"] == network) & (enriched["q"] <= alpha)]
    found = found[found["effect"].abs() >= LABEL_EFFECT]
    features = decoded[(decoded["network"] == network) & (decoded["q"] <= alpha) & (decoded["r"] >= LABEL_R)]
    parts = []
    for feature in features.sort_values("r", ascending=False, kind="stable").head(2).itertuples():
        high, low = _WORDS[str(feature.feature)]
        # Where the absolute value decodes and the value does not, either side does it.
        both = abs(feature.correlation) < feature.r / 2
        parts.append(f"{high} (either sign)" if both else high if feature.correlation > 0 else low)
    high_part = _tokens_and_kind(found[found["effect"] > 0], descending=True)
    if parts or high_part:
        return "; ".join(parts + high_part)
    low_part = _tokens_and_kind(found[found["effect"] < 0], descending=False)
    return f"low: {'; '.join(low_part)}" if low_part else UNCLEAR


def _tokens_and_kind(found: pd.DataFrame, descending: bool) -> list[str]:
    parts = []
    ordered = found.sort_values("effect", ascending=not descending, kind="stable")
    tokens = [str(token) for token in ordered.loc[ordered["feature"] == "token", "value"]]
    if tokens:
        shown = dict.fromkeys(repr(token.strip() or token) for token in tokens)
        parts.append(", ".join(list(shown)[:3]))
    kinds = [str(kind) for kind in ordered.loc[ordered["feature"].isin(["kind", "kind_activity"]), "value"]]
    return parts + list(dict.fromkeys(kinds))[:1]


# ---------------------------------------------------------------------------------------------------------------------
# All of it
# ---------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Annotation:
    """What networks are, as far as their time courses tell.

    Parameters
    ----------
    labels : DataFrame
        A row a network: ``network, label, suggested``; `label` is what people call it, and may be edited.
    top : DataFrame
        As `top_tokens` gives it, with ``network``.
    enrichment : DataFrame
        As `enrichment` gives it.
    decoding : DataFrame
        As `decode` gives it.
    confounds : DataFrame
        As `confound_correlations` gives it.
    info : dict
        Parameters, numbers of texts and volumes, and `notes`: what was not tested, and why.
    """

    labels: pd.DataFrame
    top: pd.DataFrame
    enrichment: pd.DataFrame
    decoding: pd.DataFrame
    confounds: pd.DataFrame
    info: Mapping[str, Any] = field(default_factory=dict)

    def label(self, network: str) -> str:
        """Give the label of a network."""
        return str(self.labels["label"].iloc[self._row(network)])

    def with_label(self, network: str, label: str) -> "Annotation":
        """Give the same annotation with one label edited; what was suggested stays beside it."""
        if not label.strip():
            raise ValueError(f"The label for {network!r} is {label!r}; give at least a word, such as {UNCLEAR!r}.")
        labels = self.labels.copy()
        labels.loc[labels.index[self._row(network)], "label"] = label.strip()
        return replace(self, labels=labels)

    def _row(self, network: str) -> int:
        known = list(self.labels["network"])
        if network not in known:
            raise KeyError(f"There is no network {network!r}; there are {', '.join(known)}.")
        return known.index(network)

    @property
    def tables(self) -> dict[str, pd.DataFrame]:
        """All tables by name, as they are to be written."""
        return {
            "labels": self.labels,
            "top": self.top,
            "enrichment": self.enrichment,
            "decoding": self.decoding,
            "confounds": self.confounds,
        }

    @classmethod
    def from_tables(cls, tables: Mapping[str, pd.DataFrame], info: Mapping[str, Any]) -> "Annotation":
        """Undo `tables`."""
        return cls(**dict(tables), info=info)

    def to_dict(self) -> dict[str, Any]:
        """Give labels and `info` as JSON, with what is significant of each network."""
        found, decoded = (one[one["q"] <= ALPHA] for one in (self.enrichment, self.decoding))
        return {
            **self.info,
            "networks": [
                {
                    "network": row.network,
                    "label": row.label,
                    "suggested": row.suggested,
                    "enriched": _rows(found[found["network"] == row.network]),
                    "decoded": _rows(decoded[decoded["network"] == row.network]),
                }
                for row in self.labels.itertuples()
            ],
        }

    def __repr__(self) -> str:
        n_unclear = int((self.labels["label"] == UNCLEAR).sum())
        return f"<Annotation of {len(self.labels)} networks, {n_unclear} of them {UNCLEAR}>"


TABLE_TEXT = (
    "network", "label", "suggested", "feature", "value", "model", "metric", "side", "token", "before", "after", "kind",
    "text_id",
)  # fmt: skip
"""Columns of the tables of an annotation that hold text, for reading them back."""


def _rows(table: pd.DataFrame) -> list[dict[str, Any]]:
    plain = table.drop(columns="network").astype(object)
    return [
        {key: getattr(value, "item", lambda value=value: value)() for key, value in row.items()}
        for row in plain.where(plain.notna(), None).to_dict("records")
    ]


def annotate(
    networks: NetworkSet | Sequence[str],
    time_courses: Sequence[Any],
    events: Sequence[pd.DataFrame],
    n_permutations: int = 1000,
    random_state: int = 0,
    n_top: int = 10,
) -> Annotation:
    """Annotate the networks of a decomposition from their time courses.

    Parameters
    ----------
    networks : NetworkSet or sequence of str
        Of which only the names matter.
    time_courses : list of ndarray of shape (n_volumes, n_networks)
        One a run, as ``estimator.time_courses_`` has them.
    events : list of DataFrame
        One a run, a row a volume, as ``recording.events`` has them.
    n_permutations : int, default=1000
        At least; see `enrichment` and `decode`.
    random_state : int, default=0
        Of the permutations.
    n_top : int, default=10
        Rows of `top_tokens` on either side of each network.

    Returns
    -------
    Annotation
        Tables, and a suggested label for every network.

    Raises
    ------
    ValueError
        If time courses and events do not belong together.
    """
    _check_permutations(n_permutations)
    reading = _gather(time_courses, events)
    names = _names(networks, reading.z.shape[1])
    enriched = _enrichment(reading, names, n_permutations, random_state, min_texts=3, max_types=500)
    decoded = _decode(reading, names, n_permutations, random_state, n_folds=5)
    suggested = [suggest_label(enriched, decoded, name) for name in names]
    top = [_top_tokens(reading, number, n_top, 8).assign(network=name) for number, name in enumerate(names)]
    info = {
        "parameters": {"n_permutations": n_permutations, "random_state": random_state},
        "n_texts": reading.n_texts,
        "n_volumes": len(reading.z),
        "n_repeated_texts": reading.n_repeated,
        "notes": _notes(reading, enriched, decoded),
    }
    first = ["network", *[column for column in top[0] if column != "network"]]
    return Annotation(
        pd.DataFrame({"network": names, "label": suggested, "suggested": suggested}),
        pd.concat(top, ignore_index=True)[first],
        enriched,
        decoded,
        _confounds(reading, names),
        info,
    )


def _notes(reading: _Reading, enriched: pd.DataFrame, decoded: pd.DataFrame) -> list[str]:
    notes = []
    kinds, counts = np.unique(reading.kinds, return_counts=True)
    skipped = [feature for feature in FEATURES if feature not in set(decoded["feature"])]
    if skipped:
        notes.append(f"Not decoded, as the events do not have it: {', '.join(skipped)}.")
    untested = decoded.groupby("feature", sort=False)["p"].apply(lambda p: p.isna().all())
    if untested.any():
        notes.append(
            f"Not tested, as fewer than {_FEWEST_TEXTS} texts have tokens that differ in it: "
            f"{', '.join(untested.index[untested])}."
        )
    if not (enriched["feature"] == "token").any():
        notes.append("No token was tested, as none is in enough texts.")
    if len(kinds) < 2:
        notes.append("Kinds of text were not tested, as there is only one.")
    elif reading.centred:
        notes.append(
            "Kinds of text were tested in activity only, not in the mean: every run has mean 0 and holds one kind "
            "(decompose with scope='study' to compare means)."
        )
    few = [str(kind) for kind in kinds[(counts < _FEWEST_PER_KIND)]] if len(kinds) > 1 else []
    if few:
        notes.append(f"Not tested, as they have fewer than {_FEWEST_PER_KIND} texts: {', '.join(few)}.")
    return notes
