"""Functional connectivity between networks, with the text as the unit of inference.

Functional network connectivity is the correlation of the time courses of two networks. It is computed per run and, if
text ids are given, per text. Tests are over texts, never over tokens, because successive tokens are not independent.
"""

import warnings
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from lmri.exceptions import DataWarning
from lmri.networks.thresholds import q_values, z_scores
from lmri.networks.time_courses import check_runs, split_by_text

KINDS = ("correlation", "partial correlation")

FEWEST_TEXTS = 6
"""Smallest number of texts for a test of the mean over texts."""

FEWEST_PER_SIDE = 4
"""Smallest number of texts per set for a comparison of two sets: 4 and 4 texts have 70 arrangements."""

_ALPHA = 0.05

_R_LIMIT = 1 - 1e-7  # beyond it Fisher's z is infinite


@dataclass(frozen=True, eq=False)
class Connectivity:
    """Functional connectivity between networks.

    Parameters
    ----------
    kind : {"correlation", "partial correlation"}
        Type of the matrices.
    runs : ndarray of shape (n_runs, n_networks, n_networks)
        Matrices, one per run; NaN for a network that is constant in a run.
    texts : ndarray of shape (n_texts, n_networks, n_networks)
        Matrices, one per text, computed from the tokens of that text only; empty if no text ids were given.
    text_ids : tuple of str
        Ids of the texts.
    n_left_out : int
        Number of texts that were excluded as too short.
    names : tuple of str
        Names of the networks.
    left_out_ids : tuple of str
        Ids of the texts that were excluded as too short.
    """

    kind: str
    runs: np.ndarray
    texts: np.ndarray
    text_ids: tuple[str, ...]
    n_left_out: int
    names: tuple[str, ...]
    left_out_ids: tuple[str, ...] = ()

    @property
    def runs_z(self) -> np.ndarray:
        """Fisher's z of the matrix of every run; NaN on the diagonal, where it would be infinite."""
        return fisher_z(self.runs)

    @property
    def texts_z(self) -> np.ndarray:
        """Fisher's z of the matrix of every text; NaN on the diagonal."""
        return fisher_z(self.texts)

    @property
    def mean(self) -> np.ndarray:
        """Mean over texts, or over runs if no text ids were given: ``(n_networks, n_networks)``, 1 on the diagonal.

        Fisher's z is averaged with equal weights and transformed back to r.
        """
        matrices = self.texts if len(self.texts) else self.runs
        mean = np.tanh(_mean(fisher_z(matrices)))
        np.fill_diagonal(mean, 1.0)
        return mean

    @cached_property
    def table(self) -> pd.DataFrame:
        """Table with one row per pair of networks, tested over texts.

        The test is a two-sided t-test of Fisher's z against 0 over texts. Texts are independent even if tokens within
        a text are autocorrelated: autocorrelation only increases the variance between texts, which the test estimates.
        `q` is p adjusted for the false discovery rate over all pairs. With fewer than 6 texts, p is missing.

        Returns
        -------
        DataFrame
            ``first, second, r, z, ci_low, ci_high, n_texts, t, p, q``; `r` is the mean over texts (over runs if there
            are none), with a 95 % confidence interval.
        """
        rows, columns = np.triu_indices(len(self.names), 1)
        z = self.texts_z[:, rows, columns]  # (n_texts, n_pairs)
        n = np.isfinite(z).sum(axis=0)
        mean, error = _mean(z), _sd(z) / np.sqrt(np.maximum(n, 1))
        tested = (n >= FEWEST_TEXTS) & (error > 0)
        t = np.divide(mean, error, out=np.full(len(mean), np.nan), where=tested)
        p = np.where(tested, 2 * stats.t.sf(np.abs(t), np.maximum(n - 1, 1)), np.nan)
        half = np.where(tested, stats.t.isf(0.025, np.maximum(n - 1, 1)) * error, np.nan)
        shown = self.mean[rows, columns]
        return pd.DataFrame(
            {
                "first": [self.names[row] for row in rows],
                "second": [self.names[column] for column in columns],
                "r": shown,
                "z": np.arctanh(np.clip(shown, -_R_LIMIT, _R_LIMIT)),
                "ci_low": np.tanh(mean - half),
                "ci_high": np.tanh(mean + half),
                "n_texts": n,
                "t": t,
                "p": p,
                "q": q_values(p),
            }
        )

    def contrast(
        self,
        a_texts: Collection[str],
        b_texts: Collection[str],
        n_permutations: int = 10_000,
        random_state: int = 0,
    ) -> pd.DataFrame:
        """Compare the connectivity in two sets of texts.

        Under the null hypothesis the texts of both sets are exchangeable, so the assignment of texts to sets is
        permuted. The difference of the means of Fisher's z is studentized as in Welch's test, because the texts of one
        set may be shorter, and therefore noisier, than the texts of the other set.

        Parameters
        ----------
        a_texts, b_texts : collection of str
            Ids of the texts of each set, of which at least 4 must be long enough. Texts that were excluded as too
            short are not compared; `n_a` and `n_b` count the texts that are.
        n_permutations : int, default=10000
            Number of permutations. The smallest p is ``1 / (n_permutations + 1)``, or the smallest p that the number of
            arrangements allows.
        random_state : int, default=0
            Seed of the permutations.

        Returns
        -------
        DataFrame
            ``first, second, r_a, r_b, difference, n_a, n_b, p, q``; `difference` is the difference of
            Fisher's z, a minus b; `p` is two-sided, and `q` is adjusted over all pairs.

        Raises
        ------
        ValueError
            If a text is unknown or in both sets, or if too few texts are long enough.
        """
        if n_permutations < 1:
            raise ValueError(f"n_permutations is {n_permutations}; it must be at least 1. Start with 10000.")
        a, b = set(map(str, a_texts)), set(map(str, b_texts))
        if both := a & b:
            raise ValueError(f"{len(both)} texts are in both sets (first: {min(both)!r}). Assign each text to one set.")
        if unknown := (a | b) - {*self.text_ids, *self.left_out_ids}:
            raise ValueError(
                f"{len(unknown)} of {len(a | b)} texts are unknown (first: {min(unknown)!r}). "
                + (
                    f"Use ids of text_ids, such as {self.text_ids[0]!r}."
                    if self.text_ids
                    else "Pass texts=... with the text id of each volume to connectivity."
                )
            )
        indices = [number for number, text in enumerate(self.text_ids) if text in a | b]
        is_a = np.array([self.text_ids[number] in a for number in indices], dtype=bool)
        n_a, n_b = int(is_a.sum()), int((~is_a).sum())
        if min(n_a, n_b) < FEWEST_PER_SIDE:
            raise ValueError(
                f"{n_a} and {n_b} of the {len(a)} and {len(b)} texts given are long enough; at least "
                f"{FEWEST_PER_SIDE} per set are needed. Record more or longer texts."
            )
        rows, columns = np.triu_indices(len(self.names), 1)
        z = self.texts_z[indices][:, rows, columns]
        whole = np.isfinite(z).all(axis=0)
        values = np.where(whole, z, 0.0)
        rng = np.random.default_rng(random_state)
        observed = _welch(is_a[None], values)[0]
        count = np.zeros(len(rows))
        for first in range(0, n_permutations, 1000):
            n = min(1000, n_permutations - first)
            drawn = is_a[np.argsort(rng.random((n, len(is_a))), axis=1)]
            count += (np.abs(_welch(drawn, values)) >= np.abs(observed) - 1e-9).sum(axis=0)
        p = np.where(whole & np.isfinite(observed), (1 + count) / (1 + n_permutations), np.nan)
        mean_a, mean_b = _mean(z[is_a]), _mean(z[~is_a])
        return pd.DataFrame(
            {
                "first": [self.names[row] for row in rows],
                "second": [self.names[column] for column in columns],
                "r_a": np.tanh(mean_a),
                "r_b": np.tanh(mean_b),
                "difference": mean_a - mean_b,
                "n_a": n_a,
                "n_b": n_b,
                "p": p,
                "q": q_values(p),
            }
        )

    def __repr__(self) -> str:
        return (
            f"<Connectivity ({self.kind}) of {len(self.names)} networks: {len(self.runs)} runs, "
            f"{len(self.texts)} texts, {self.n_left_out} left out>"
        )


def connectivity(
    time_courses: Sequence[Any],
    kind: str = "correlation",
    texts: Sequence[Sequence[str]] | None = None,
    names: Sequence[str] | None = None,
    min_volumes: int = 20,
) -> Connectivity:
    """Compute functional network connectivity, by nilearn's `ConnectivityMeasure`.

    Each run, and each text, is z-scored separately first. Correlations are computed from the empirical covariance,
    without shrinkage. Partial correlations (given all other networks) are computed from the Ledoit-Wolf covariance,
    which can be inverted even if there are as many networks as volumes. It shrinks them towards 0, more strongly the
    shorter a text is: compare them only between texts of similar length.

    The matrix of a run also includes differences between its texts; the matrix of a text does not. Temporal ICA makes
    all time courses uncorrelated over all data that were fitted. For networks from temporal ICA, the matrices of runs
    are therefore near 0 by construction, and the matrices of texts show residual correlations. Two networks that both
    follow position are correlated too.

    Parameters
    ----------
    time_courses : list of ndarray of shape (n_volumes, n_networks)
        Time courses, one array per run; any units.
    kind : {"correlation", "partial correlation"}, default="correlation"
        Type of the matrices.
    texts : list of sequence of str, optional
        Text id of each volume, one sequence per run, as in ``events["text_id"]``.
    names : sequence of str, optional
        Names of the networks.
    min_volumes : int, default=20
        Minimum length of a text in volumes. Shorter texts are excluded and counted.

    Returns
    -------
    Connectivity
        Connectivity matrices, their mean and tests.

    Raises
    ------
    ValueError
        If shapes differ, or values are not finite.

    References
    ----------
    Allen et al. (2011). A baseline for the multivariate comparison of resting-state networks. Frontiers in Systems
    Neuroscience, 5, 2.
    """
    if kind not in KINDS:
        raise ValueError(f"kind is {kind!r}; choose from {', '.join(map(repr, KINDS))}.")
    if min_volumes < 4:
        raise ValueError(
            f"min_volumes is {min_volumes}; it must be at least 4 (Fisher's z of 3 volumes has no standard error)."
        )
    courses = check_runs(time_courses)
    n_networks = courses[0].shape[1]
    names = [f"network-{number:02d}" for number in range(n_networks)] if names is None else list(names)
    if len(names) != n_networks:
        raise ValueError(f"There are {len(names)} names for {n_networks} networks. Pass one name per network.")
    shortest = min(map(len, courses))
    if shortest < 4:
        raise ValueError(f"The shortest run has {shortest} volumes; at least 4 are needed. Record longer runs.")
    segments = split_by_text(courses, texts) if texts is not None else []
    long = [(text, course) for text, course in segments if len(course) >= min_volumes]
    n_left_out = len(segments) - len(long)
    if n_left_out:
        warnings.warn(
            f"{n_left_out} of {len(segments)} texts have fewer than {min_volumes} volumes and are excluded from the "
            "tests over texts.",
            DataWarning,
            stacklevel=2,
        )
    return Connectivity(
        kind,
        _matrices(courses, kind),
        _matrices([course for _, course in long], kind).reshape(-1, n_networks, n_networks),
        tuple(text for text, _ in long),
        n_left_out,
        tuple(names),
        tuple(text for text, course in segments if len(course) < min_volumes),
    )


def fisher_z(matrices: np.ndarray) -> np.ndarray:
    """Apply Fisher's z to correlation matrices ``(..., n, n)``; NaN on the diagonal."""
    z = np.arctanh(np.clip(matrices, -_R_LIMIT, _R_LIMIT))
    diagonal = np.arange(z.shape[-1])
    z[..., diagonal, diagonal] = np.nan
    return z


def _matrices(segments: Sequence[np.ndarray], kind: str) -> np.ndarray:
    """Compute one matrix per segment; NaN where a network is constant, and 1 on the diagonal."""
    from nilearn.connectome import ConnectivityMeasure  # takes seconds to load, and spectra do not need it
    from sklearn.covariance import EmpiricalCovariance, LedoitWolf

    estimator = EmpiricalCovariance() if kind == "correlation" else LedoitWolf()
    measure = ConnectivityMeasure(cov_estimator=estimator, kind=kind)
    matrices = []
    for segment in segments:
        spread, size = segment.std(axis=0), np.abs(segment).max(axis=0, initial=0)
        alive = spread > 1e-9 * size
        matrix = np.full((segment.shape[1],) * 2, np.nan)
        if alive.any():
            # z-scored here: nilearn does it for correlations only, and Ledoit-Wolf shrinkage depends on the scale.
            scored = z_scores(segment[:, alive].T).T
            matrix[np.ix_(alive, alive)] = measure.fit_transform([np.ascontiguousarray(scored)])[0]
        np.fill_diagonal(matrix, 1.0)
        matrices.append(matrix)
    return np.array(matrices)


def _mean(values: np.ndarray) -> np.ndarray:
    """Average finite values over the first axis; NaN where all values are missing."""
    known = np.isfinite(values)
    n = known.sum(axis=0)
    return np.divide(np.where(known, values, 0).sum(axis=0), n, out=np.full(n.shape, np.nan), where=n > 0)


def _sd(values: np.ndarray) -> np.ndarray:
    """Compute the standard deviation (n - 1) of finite values over the first axis."""
    n = np.isfinite(values).sum(axis=0)
    squares = np.nansum((values - _mean(values)) ** 2, axis=0)
    return np.sqrt(np.divide(squares, n - 1, out=np.full(n.shape, np.nan), where=n > 1))


def _welch(is_a: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Compute Welch's t of ``(n, n_pairs)`` between two sets, for every row of `is_a` ``(n_draws, n)``."""
    member = is_a.astype(float)
    n_a, n_b = member.sum(axis=1, keepdims=True), (1 - member).sum(axis=1, keepdims=True)
    centred = values - values.mean(axis=0)
    a, b = member @ centred / n_a, (1 - member) @ centred / n_b
    var_a = (member @ centred**2 / n_a - a**2) / (n_a - 1)
    var_b = ((1 - member) @ centred**2 / n_b - b**2) / (n_b - 1)
    error = np.sqrt(np.maximum(var_a + var_b, 0))
    return np.divide(a - b, error, out=np.full(error.shape, np.nan), where=error > 1e-12)
