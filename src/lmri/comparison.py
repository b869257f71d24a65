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
        Mean and 95th percentile, over random unmixings, of the mean matched ``|r|``; the stricter of both sides.
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
    says little. The null keeps the subspaces of both sets, and takes an arbitrary unmixing of either; the stricter
    of the two counts.

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
    # Either set may be the one whose basis is arbitrary; the stricter null counts.
    nulls = [_rotation_null(first.weights, b, seed), _rotation_null(second.weights, a, seed)]
    matched = correlation[rows, columns]
    order = np.argsort(-np.abs(matched), kind="stable")
    rows, columns, matched = rows[order], columns[order], matched[order]
    # The best pair is compared with the best of each rotation, the second with the second, and so on.
    limit = np.max([np.percentile(null, 95, axis=0) for null in nulls], axis=0)
    table = pd.DataFrame(
        {
            "first": [first.names[row] for row in rows],
            "second": [second.names[column] for column in columns],
            "r": matched,
            "r_null_95": limit,
            # With one map, every rotation is the map itself, up to rounding.
            "above_null": (np.abs(matched) > limit + 1e-6).astype(int),
        }
    )
    if first.is_thresholded and second.is_thresholded:
        ours, theirs = first.members[rows], second.members[columns]
        both, any_ = (ours & theirs).sum(axis=1), (ours | theirs).sum(axis=1)
        # Two empty networks share nothing that could be compared: IoU is missing, not 0 or 1.
        table["iou"] = np.divide(both, any_, out=np.full(len(both), np.nan), where=any_ > 0)
        table["n_first"], table["n_second"], table["n_both"] = ours.sum(axis=1), theirs.sum(axis=1), both
    means = [null.mean(axis=1) for null in nulls]
    null_mean = max(float(mean.mean()) for mean in means)
    null_95 = max(float(np.percentile(mean, 95)) for mean in means)
    return Comparison(first, second, correlation, table, null_mean, null_95)


def _matched(correlation: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return linear_sum_assignment(-np.abs(correlation))


def _rotation_null(weights: np.ndarray, other: np.ndarray, seed: int) -> np.ndarray:
    """Match `other` (z-scored) with arbitrary bases of the maps `weights`: sorted ``|r|``, ``(N_ROTATIONS, n_pairs)``.

    The basis is rotated where the maps are white: maps ``A`` (centred) have singular values ``s`` and singular vectors
    ``V``, and ``R s V`` with a random rotation ``R`` is another unmixing of the same data. For spatial ICA ``s`` is
    flat, and this is a rotation of the maps; for temporal ICA it is not, and all unmixings share leading directions.
    """
    rng = np.random.default_rng(seed)
    centred = weights - weights.mean(axis=1, keepdims=True, dtype=np.float64)
    alive = centred[np.abs(centred).max(axis=1) > 0]  # a map of zeros has no part in the subspace
    null = np.zeros((N_ROTATIONS, min(len(weights), len(other))))
    if not len(alive):
        return null
    _, values, vectors = np.linalg.svd(alive, full_matrices=False)
    basis = values[:, None] * vectors  # (n_alive, n_neurons)
    projected = basis @ other.T / len(other.T)
    for number in range(N_ROTATIONS):
        q, r = np.linalg.qr(rng.normal(size=(len(alive), len(alive))))
        rotation = q * np.sign(np.diag(r))  # uniform over rotations (Haar)
        sd = np.sqrt(((rotation * values) ** 2).sum(axis=1) / len(other.T))
        correlation = rotation @ projected / sd[:, None]
        found = np.sort(np.abs(correlation[_matched(correlation)]))[::-1]
        null[number, : len(found)] = found
    return null
