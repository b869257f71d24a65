"""Matching of networks over different neurons, such as two sites, by their time courses."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from lmri.networks.comparison.maps import (
    N_ROTATIONS,
    correlations,
    match_table,
    matched,
    null_of_mean,
    rotation_nulls,
)
from lmri.networks.thresholds import z_scores

MIN_TEXTS = 5


@dataclass(frozen=True)
class Side:
    """One side of a comparison of time courses: its name, and the names of its networks."""

    method: str
    names: list[str]


@dataclass(frozen=True, eq=False)
class CourseComparison:
    """Matching of the time courses of two network sets.

    Parameters
    ----------
    first, second : Side
        Network sets that were compared.
    correlation : ndarray of shape (n_first, n_second)
        Signed correlation over volumes of every pair of time courses.
    table : DataFrame
        Matched pairs, one row per pair, the best first: ``first, second, r, r_null_95, above_null, r_unmixing_95,
        r_texts_95``; `r_null_95` is the stricter of the other two limits.
    null_mean, null_95 : float
        Mean and 95th percentile of the mean matched ``|r|``, each the strictest of all nulls.
    n_texts : int
        Number of texts that were shuffled.
    """

    first: Side
    second: Side
    correlation: np.ndarray
    table: pd.DataFrame
    null_mean: float
    null_95: float
    n_texts: int

    @property
    def mean_r(self) -> float:
        """Mean ``|r|`` over the matched pairs."""
        return float(self.table["r"].abs().mean())


def compare_time_courses(
    first: Sequence[np.ndarray | pd.DataFrame],
    second: Sequence[np.ndarray | pd.DataFrame],
    texts: Sequence[Sequence[Hashable]],
    seed: int = 0,
    names: tuple[str, str] = ("first", "second"),
) -> CourseComparison:
    """Match two sets of time courses of the same texts one to one by ``|r|``.

    Maps of two sites have different neurons and cannot be correlated, but their time courses can. Two types of null are
    computed, and the stricter one is used at each rank. The first is an arbitrary unmixing of the time courses of one
    set (either one), as in `compare`: two sites of one model carry similar signals, and arbitrary mixtures of these
    match too. The second shuffles whole texts of one set and shifts its time courses circularly by a random number of
    volumes: neighbouring volumes of a text are correlated, so the text is the unit of exchange.

    Parameters
    ----------
    first, second : sequence of ndarray or DataFrame of shape (n_volumes, n_networks)
        Time courses, one table per run; the same runs in both sets.
    texts : sequence of sequence
        Text id of each volume, one sequence per run; unique over all runs.
    seed : int, default=0
        Seed of the unmixings and of the shuffling.
    names : tuple of str, default=("first", "second")
        Names of the two sets.

    Returns
    -------
    CourseComparison
        Matched pairs, correlations and nulls.

    Raises
    ------
    ValueError
        If the runs differ, or contain fewer than 5 texts.
    """
    lengths = [[len(run) for run in runs] for runs in (first, second, texts)]
    if not lengths[0] or not lengths[0] == lengths[1] == lengths[2]:
        raise ValueError(
            f"The runs have {lengths[0]}, {lengths[1]} and (texts) {lengths[2]} volumes; only time "
            "courses of the same runs can be compared. Decompose the same corpora at both sites."
        )
    a, b = (np.concatenate([np.asarray(run, dtype=np.float64) for run in runs]).T for runs in (first, second))
    blocks = _blocks(texts)
    if len(blocks) < MIN_TEXTS:
        raise ValueError(
            f"There are {len(blocks)} texts; at least {MIN_TEXTS} are needed for the null that shuffles texts. "
            "Record more texts."
        )
    ours, theirs = Side(names[0], _names(first, names[0])), Side(names[1], _names(second, names[1]))
    correlation = correlations(a, b)
    unmixed, shuffled = rotation_nulls(a, b, seed), _text_null(a, b, blocks, seed)
    table = match_table(ours.names, theirs.names, correlation, [*unmixed, shuffled])
    table["r_unmixing_95"] = np.max([np.percentile(null, 95, axis=0) for null in unmixed], axis=0)
    table["r_texts_95"] = np.percentile(shuffled, 95, axis=0)
    return CourseComparison(ours, theirs, correlation, table, *null_of_mean([*unmixed, shuffled]), len(blocks))


def _names(runs: Sequence[np.ndarray | pd.DataFrame], label: str) -> list[str]:
    if isinstance(runs[0], pd.DataFrame):
        return [str(name) for name in runs[0].columns]
    return [f"{label}-{number:02d}" for number in range(runs[0].shape[1])]


def _blocks(texts: Sequence[Sequence[Hashable]]) -> list[np.ndarray]:
    """Return the volumes of each text, counted over the concatenated runs."""
    codes, _ = pd.factorize(pd.Series([(run, text) for run, ids in enumerate(texts) for text in ids]))
    order = np.argsort(codes, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(codes[order])) + 1)


def _text_null(a: np.ndarray, b: np.ndarray, blocks: list[np.ndarray], seed: int) -> np.ndarray:
    """Compute the sorted matched ``|r|`` for texts in random order: ``(N_ROTATIONS, n_pairs)``."""
    rng = np.random.default_rng(seed)
    a, b = z_scores(a), z_scores(b)
    n = a.shape[1]
    null = np.zeros((N_ROTATIONS, min(len(a), len(b))))
    for number in range(N_ROTATIONS):
        order = np.concatenate([blocks[text] for text in rng.permutation(len(blocks))])
        # Without the shift, texts of equal length would stay aligned by position.
        correlation = a @ b[:, np.roll(order, rng.integers(n))].T / n
        null[number] = np.sort(np.abs(correlation[matched(correlation)]))[::-1]
    return null
