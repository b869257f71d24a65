"""Two sets of networks over other neurons, such as those of two sites, matched by when they are active."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from lmri.networks.comparison.pair import (
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
    """One side of a comparison of time courses: what it is called, and its networks."""

    method: str
    names: list[str]


@dataclass(frozen=True, eq=False)
class CourseComparison:
    """How the time courses of two network sets match.

    Parameters
    ----------
    first, second : Side
        What was compared.
    correlation : ndarray of shape (n_first, n_second)
        Correlation over volumes of every pair of time courses, signed.
    table : DataFrame
        A row a matched pair, the best first: ``first, second, r, r_null_95, above_null, r_unmixing_95, r_texts_95``;
        `r_null_95` is the stricter of the other two.
    null_mean, null_95 : float
        Of the mean matched ``|r|``, the strictest of all nulls.
    n_texts : int
        Texts that were shuffled.
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

    Maps of two sites lie over other neurons, and cannot be correlated; what can is when they are active. Two nulls are
    taken, and the stricter counts, rank by rank. An arbitrary unmixing of either set's time courses, as `compare` has
    it: two sites of one model carry much the same signal, and arbitrary mixtures of it match too. And one set's
    time courses with whole texts in random order, and turned by a random number of volumes: within a text neighbouring
    volumes resemble each other, so the text is the unit.

    Parameters
    ----------
    first, second : sequence of ndarray or DataFrame of shape (n_volumes, n_networks)
        Time courses, one table a run; the same runs.
    texts : sequence of sequence
        For each run, which text every volume belongs to; unique over all runs.
    seed : int, default=0
        Of unmixings and orders.
    names : tuple of str, default=("first", "second")
        What the two are called.

    Returns
    -------
    CourseComparison
        Pairs, correlations and the null.

    Raises
    ------
    ValueError
        If the runs are not the same, or hold fewer than 5 texts.
    """
    lengths = [[len(run) for run in one] for one in (first, second, texts)]
    if not lengths[0] or not lengths[0] == lengths[1] == lengths[2]:
        raise ValueError(
            f"The runs have {lengths[0]}, {lengths[1]} and (texts) {lengths[2]} volumes; time courses can be compared "
            "of the same runs only. Decompose the same corpora at both sites."
        )
    a, b = (np.concatenate([np.asarray(run, dtype=np.float64) for run in one]).T for one in (first, second))
    blocks = _blocks(texts)
    if len(blocks) < MIN_TEXTS:
        raise ValueError(
            f"There are {len(blocks)} texts; at least {MIN_TEXTS} are needed, as the null puts them in random order. "
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
    """Find the volumes of each text, in all runs one after the other."""
    codes, _ = pd.factorize(pd.Series([(run, text) for run, own in enumerate(texts) for text in own]))
    order = np.argsort(codes, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(codes[order])) + 1)


def _text_null(a: np.ndarray, b: np.ndarray, blocks: list[np.ndarray], seed: int) -> np.ndarray:
    """Match with texts in random order: sorted ``|r|``, ``(N_ROTATIONS, n_pairs)``."""
    rng = np.random.default_rng(seed)
    a, b = z_scores(a), z_scores(b)
    n = a.shape[1]
    null = np.zeros((N_ROTATIONS, min(len(a), len(b))))
    for number in range(N_ROTATIONS):
        order = np.concatenate([blocks[place] for place in rng.permutation(len(blocks))])
        # Texts of one length would keep their places in the text; turned, they do not.
        correlation = a @ b[:, np.roll(order, rng.integers(n))].T / n
        null[number] = np.sort(np.abs(correlation[matched(correlation)]))[::-1]
    return null
