"""Comparison of two sets of maps: matched one to one, beside what arbitrary bases of the same subspaces would give."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.optimize import linear_sum_assignment

from lmri.networks import NetworkSet
from lmri.thresholds import z_scores

N_ROTATIONS = 200


@dataclass(frozen=True, eq=False)
class Comparison:
    """How two network sets match.

    Parameters
    ----------
    first, second : NetworkSet
        Over one space.
    correlation : ndarray of shape (n_first, n_second)
        Correlation over neurons of every pair of maps, signed.
    table : DataFrame
        A row a matched pair, the best first: ``first, second, r, r_null_95, above_null, iou, n_first, n_second,
        n_both``; sizes and IoU (intersection over union of the members) need both sets thresholded.
    null_mean, null_95 : float
        Mean and 95th percentile, over random rotations, of the mean matched ``|r|``.
    """

    first: NetworkSet
    second: NetworkSet
    correlation: np.ndarray
    table: pd.DataFrame
    null_mean: float
    null_95: float

    @property
    def mean_r(self) -> float:
        """Mean ``|r|`` over the matched pairs."""
        return float(self.table["r"].abs().mean())


def compare(first: NetworkSet, second: NetworkSet, seed: int = 0) -> Comparison:
    """Match the maps of two decompositions one to one by ``|r|``.

    Two arbitrary bases of one subspace of 20 dimensions already match at a mean ``|r|`` of about 0.47, so ``|r|`` alone
    says little. The null here keeps the subspaces of both sets, and rotates the basis of the first at random.

    Parameters
    ----------
    first, second : NetworkSet
        Over spaces of the same geometry; thresholded or not.
    seed : int, default=0
        Of the rotations.

    Returns
    -------
    Comparison
        Pairs, correlations and the null.

    Raises
    ------
    SpaceMismatchError
        If the spaces differ.
    """
    first.space.check_same(second.space, f"The network set {second.method!r}")
    a, b = z_scores(first.weights), z_scores(second.weights)
    n = first.space.n_neurons
    correlation = a @ b.T / n
    rows, columns = _matched(correlation)
    null = _rotation_null(a, b, seed)  # (n_rotations, n_pairs), each row sorted, largest first
    matched = correlation[rows, columns]
    order = np.argsort(-np.abs(matched), kind="stable")
    rows, columns, matched = rows[order], columns[order], matched[order]
    # The best pair is compared with the best of each rotation, the second with the second, and so on.
    limit = np.percentile(null, 95, axis=0)
    table = pd.DataFrame(
        {
            "first": [first.names[row] for row in rows],
            "second": [second.names[column] for column in columns],
            "r": matched,
            "r_null_95": limit,
            "above_null": (np.abs(matched) > limit).astype(int),
        }
    )
    if first.is_thresholded and second.is_thresholded:
        ours, theirs = first.members[rows], second.members[columns]
        both, any_ = (ours & theirs).sum(axis=1), (ours | theirs).sum(axis=1)
        # Two empty networks share nothing that could be compared: IoU is missing, not 0 or 1.
        table["iou"] = np.divide(both, any_, out=np.full(len(both), np.nan), where=any_ > 0)
        table["n_first"], table["n_second"], table["n_both"] = ours.sum(axis=1), theirs.sum(axis=1), both
    means = null.mean(axis=1)
    return Comparison(first, second, correlation, table, float(means.mean()), float(np.percentile(means, 95)))


def _matched(correlation: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return linear_sum_assignment(-np.abs(correlation))


def _rotation_null(a: np.ndarray, b: np.ndarray, seed: int) -> np.ndarray:
    """Match `b` with random rotations of the subspace of `a`: sorted ``|r|``, ``(N_ROTATIONS, n_pairs)``."""
    rng = np.random.default_rng(seed)
    basis = np.linalg.svd(a, full_matrices=False)[2]  # orthonormal rows, zero mean as the maps have
    projected = basis @ b.T / np.sqrt(a.shape[1])  # correlation of each basis map with each map of b
    null = np.empty((N_ROTATIONS, min(len(a), len(b))))
    for number in range(N_ROTATIONS):
        q, r = np.linalg.qr(rng.normal(size=(len(a), len(a))))
        rotation = q * np.sign(np.diag(r))  # uniform over rotations (Haar)
        correlation = rotation @ projected
        rows, columns = _matched(correlation)
        null[number] = np.sort(np.abs(correlation[rows, columns]))[::-1]
    return null
