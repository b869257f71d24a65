"""One-to-one matching of two sets of maps, compared with arbitrary bases of the same subspaces."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.optimize import linear_sum_assignment
from scipy.special import gammaln

from lmri.exceptions import SpaceMismatchError
from lmri.networks import NetworkSet
from lmri.networks.thresholds import z_scores
from lmri.space import NeuronSpace

N_ROTATIONS = 200
ALPHA = 0.05

ROUNDING = 1e-6
"""Tolerance for rounding: every rotation of a single map is the map itself."""


@dataclass(frozen=True, eq=False)
class Comparison:
    """Matching of two network sets.

    Parameters
    ----------
    first, second : NetworkSet
        Network sets over the same space.
    correlation : ndarray of shape (n_first, n_second)
        Signed correlation over neurons of every pair of maps.
    table : DataFrame
        Matched pairs, one row per pair, the best first: ``first, second, r, r_null_95, above_null``, and if both sets
        are thresholded ``iou, iou_null_95, above_iou_null, n_first, n_second, n_both``: intersection over union (IoU)
        of the members, its null and the sizes.
    null_mean, null_95 : float
        Mean and 95th percentile, over random unmixings, of the mean matched ``|r|``; the stricter of the nulls of
        both sets.
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


def compare(first: NetworkSet, second: NetworkSet, seed: int = 0, same_standardization: bool = True) -> Comparison:
    """Match the maps of two decompositions one to one by ``|r|``.

    Two arbitrary bases of the same 20-dimensional subspace already match with a mean ``|r|`` of about 0.47, so ``|r|``
    alone is not informative. The null keeps the subspaces of both sets and replaces one set by an arbitrary unmixing of
    its subspace; the stricter of the two resulting nulls is used. It is a null for whole sets: if most maps agree, a
    pair above it may still belong to a few maps that the two sets mix differently. Any two bases of a shared plane
    match with ``|r|`` of 0.71 or more; interpret ``|r|`` as well.

    The null of IoU draws random members, with the number of neurons per layer of each map. A map is matched with the
    best of several candidates, so its limit is corrected for the number of candidates.

    Parameters
    ----------
    first, second : NetworkSet
        Network sets over spaces of the same geometry, thresholded or not.
    seed : int, default=0
        Seed of the rotations.
    same_standardization : bool, default=True
        Whether to raise an error if the recordings are known to be standardized differently.

    Returns
    -------
    Comparison
        Matched pairs, correlations and nulls.

    Raises
    ------
    SpaceMismatchError
        If the spaces differ.
    ValueError
        If the standardizations differ.
    """
    check_comparable(first, second, same_standardization)
    correlation = correlations(first.weights, second.weights)
    nulls = rotation_nulls(first.weights, second.weights, seed)
    return matched_sets(first, second, correlation, nulls)


def check_comparable(first: NetworkSet, second: NetworkSet, same_standardization: bool) -> None:
    """Raise an error if two sets have different neurons, or recordings that were standardized differently.

    Raises
    ------
    SpaceMismatchError
        If the spaces differ.
    ValueError
        If the standardizations differ.
    """
    if first.space.site != second.space.site:
        raise SpaceMismatchError(
            f"{first.method!r} is at {first.space.site} and {second.method!r} at {second.space.site}. Maps over "
            "different neurons cannot be correlated. Compare their time courses: compare_time_courses, "
            "or `lmri compare STUDY FIRST@SITE SECOND@SITE`."
        )
    first.space.check_same(second.space, f"The network set {second.method!r}")
    if same_standardization:
        check_standardization(first, second)


def check_standardization(first: NetworkSet, second: NetworkSet) -> None:
    """Raise an error if the recordings of two sets are known to be standardized differently.

    Raises
    ------
    ValueError
        If the standardizations differ; the message names the parameters.
    """
    ours, theirs = (networks.origin.parameters for networks in (first, second))
    differing = [
        f"{name} ({ours[name]!r} and {theirs[name]!r})"
        for name in ("standardize", "scope")
        if name in ours and name in theirs and ours[name] != theirs[name]
    ]
    if differing:
        raise ValueError(
            f"{first.method!r} and {second.method!r} differ in {' and '.join(differing)}. Differences between "
            "their maps may be caused by the standardization rather than by the method. Decompose both with the same "
            "standardization, or allow the comparison with same_standardization=False (--mixed-standardization)."
        )


def matched_sets(first: NetworkSet, second: NetworkSet, correlation: np.ndarray, nulls: list[np.ndarray]) -> Comparison:
    """Match two sets, given their correlations ``(n_first, n_second)`` and nulls of the sorted matched ``|r|``."""
    table = match_table(first.names, second.names, correlation, nulls)
    if first.is_thresholded and second.is_thresholded:
        rows = [first.names.index(name) for name in table["first"]]
        columns = [second.names.index(name) for name in table["second"]]
        n_candidates = max(len(first), len(second))
        overlaps = [
            overlap(first.space, first.members[row], second.members[column], n_candidates)
            for row, column in zip(rows, columns, strict=True)
        ]
        table["iou"], table["iou_null_95"] = np.array(overlaps).reshape(-1, 2).T
        table["above_iou_null"] = (table["iou"] > table["iou_null_95"]).astype(int)
        ours, theirs = first.members[rows], second.members[columns]
        table["n_first"], table["n_second"] = ours.sum(axis=1), theirs.sum(axis=1)
        table["n_both"] = (ours & theirs).sum(axis=1)
    return Comparison(first, second, correlation, table, *null_of_mean(nulls))


# -- correlation ------------------------------------------------------------------------------------------------------


def correlations(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Correlate the rows of two arrays: ``(n_first, n_second)``, and 0 where a row is constant."""
    return z_scores(first) @ z_scores(second).T / first.shape[1]


def match_table(first: list[str], second: list[str], correlation: np.ndarray, nulls: list[np.ndarray]) -> pd.DataFrame:
    """Match one to one by ``|r|``: one row per pair, the best first, with the limit of its rank."""
    rows, columns = matched(correlation)
    r = correlation[rows, columns]
    order = np.argsort(-np.abs(r), kind="stable")
    rows, columns, r = rows[order], columns[order], r[order]
    # The best pair is compared with the best pair of each rotation, the second with the second, and so on.
    limit = np.max([np.percentile(null, 95, axis=0) for null in nulls], axis=0)
    return pd.DataFrame(
        {
            "first": [first[row] for row in rows],
            "second": [second[column] for column in columns],
            "r": r,
            "r_null_95": limit,
            "above_null": (np.abs(r) > limit + ROUNDING).astype(int),
        }
    )


def null_of_mean(nulls: list[np.ndarray]) -> tuple[float, float]:
    """Compute the mean and 95th percentile of the mean matched ``|r|``, each the strictest of several nulls."""
    means = [null.mean(axis=1) for null in nulls]
    return max(float(mean.mean()) for mean in means), max(float(np.percentile(mean, 95)) for mean in means)


def matched(correlation: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Match rows with columns one to one so that the sum of ``|r|`` is maximal."""
    return linear_sum_assignment(-np.abs(correlation))


def rotation_nulls(
    first: np.ndarray, second: np.ndarray, seed: int, n_rotations: int = N_ROTATIONS
) -> list[np.ndarray]:
    """Draw arbitrary bases of either set: two nulls of the sorted matched ``|r|``, ``(n_rotations, n_pairs)``."""
    # The basis of either set may be the arbitrary one; the stricter null is used.
    return [
        _rotation_null(rotated, z_scores(other), seed, n_rotations)
        for rotated, other in ((first, second), (second, first))
    ]


def _rotation_null(weights: np.ndarray, other: np.ndarray, seed: int, n_rotations: int) -> np.ndarray:
    """Match `other` (z-scored) with arbitrary bases of the maps `weights`: sorted ``|r|``, ``(n_rotations, n_pairs)``.

    The rotation is applied to the whitened maps: if ``s`` and ``V`` are the singular values and singular vectors of the
    centred maps, ``R s V`` with a random rotation ``R`` is another unmixing of the same data. For spatial ICA ``s`` is
    flat, and this is a rotation of the maps; for temporal ICA it is not, and all unmixings share leading directions.
    """
    rng = np.random.default_rng(seed)
    centred = weights - weights.mean(axis=1, keepdims=True, dtype=np.float64)
    alive = centred[np.abs(centred).max(axis=1) > 0]  # a map of zeros does not contribute to the subspace
    null = np.zeros((n_rotations, min(len(weights), len(other))))
    if not len(alive):
        return null
    _, values, vectors = np.linalg.svd(alive, full_matrices=False)
    basis = values[:, None] * vectors  # (n_alive, n_neurons)
    projected = basis @ other.T / len(other.T)
    for number in range(n_rotations):
        q, r = np.linalg.qr(rng.normal(size=(len(alive), len(alive))))
        rotation = q * np.sign(np.diag(r))  # uniform over rotations (Haar)
        sd = np.sqrt(((rotation * values) ** 2).sum(axis=1) / len(other.T))
        correlation = rotation @ projected / sd[:, None]
        matched_r = np.sort(np.abs(correlation[matched(correlation)]))[::-1]
        null[number, : len(matched_r)] = matched_r
    return null


# -- overlap ----------------------------------------------------------------------------------------------------------


def overlap(space: NeuronSpace, ours: np.ndarray, theirs: np.ndarray, n_candidates: int = 1) -> tuple[float, float]:
    """Compute the IoU of two sets of members, and its limit for random sets with the same layer profiles.

    The overlap of random members is hypergeometric in each layer and independent between layers, so the null is exact.
    A matched map was selected among `n_candidates`. The 5 % are divided by the number of candidates (Bonferroni), so
    that the selected map exceeds its limit in at most 5 % of cases, however it was selected.

    Parameters
    ----------
    space : NeuronSpace
        Neurons that both sets cover.
    ours, theirs : ndarray of bool, shape (n_neurons,)
        Members of each set.
    n_candidates : int, default=1
        Number of candidates among which a map was selected for the other.

    Returns
    -------
    iou, limit : float
        IoU and its limit; missing if both networks are empty.
    """
    n_ours, n_theirs = space.count_per_layer(ours), space.count_per_layer(theirs)
    total, both = int(n_ours.sum() + n_theirs.sum()), int((ours & theirs).sum())
    if not total:
        return np.nan, np.nan
    chance, least = np.ones(1), 0  # probability of every size of the overlap, from the smallest
    for width, a, b in zip(space.widths, n_ours, n_theirs, strict=True):
        size, layer_chance = _hypergeometric(width, int(a), int(b))
        chance, least = np.convolve(chance, layer_chance), least + size
    # The tail is summed from its smallest probabilities, to avoid rounding errors.
    beyond = np.append(np.cumsum(chance[::-1])[::-1][1:], 0.0)  # P(overlap > size)
    limit = least + int(np.argmax(beyond <= ALPHA / n_candidates))
    return both / (total - both), limit / (total - limit)


def _hypergeometric(width: int, a: int, b: int) -> tuple[int, np.ndarray]:
    """Compute the smallest overlap of `a` and `b` random neurons of `width`, and the probabilities from there on."""
    sizes = np.arange(max(0, a + b - width), min(a, b) + 1)
    chance = np.exp(_log_choose(a, sizes) + _log_choose(width - a, b - sizes) - _log_choose(width, b))
    likely = np.flatnonzero(chance > 1e-20)  # in a layer with thousands of members only few sizes occur
    return int(sizes[likely[0]]), chance[likely[0] : likely[-1] + 1]


def _log_choose(n: int, k: int | np.ndarray) -> np.ndarray:
    return gammaln(n + 1) - gammaln(np.asarray(k) + 1) - gammaln(n - np.asarray(k) + 1)
