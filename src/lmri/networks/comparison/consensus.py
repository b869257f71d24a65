"""Consensus of any number of network sets: networks that are replicated, and in how many sets."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from lmri.networks import NetworkSet
from lmri.networks.comparison.maps import (
    ALPHA,
    N_ROTATIONS,
    ROUNDING,
    Comparison,
    check_comparable,
    correlations,
    matched_sets,
    overlap,
    rotation_nulls,
)

Pair = tuple[int, int]

COLUMNS = ("network", "found_by", "mean_r", "r_limit", "mean_iou", "iou_null_95", "variance", "iq")


@dataclass(frozen=True, eq=False)
class Consensus:
    """Networks that several network sets have in common.

    Parameters
    ----------
    sets : tuple of NetworkSet
        Network sets over the same space.
    names : tuple of str
        Names, one per set.
    comparisons : dict
        `Comparison` of every pair of sets, by their indices ``(first, second)``.
    table : DataFrame
        Networks found in at least two sets, one row per network, sorted by decreasing number of sets: ``network,
        found_by, mean_r, r_limit, mean_iou, iou_null_95, variance, iq``, and one column per set with the name of its
        map. ``|r|``, IoU and both limits are means over the pairs of maps, variance and iq (stability) are means over
        the maps. Values that are not available are missing.
    strength : ndarray of shape (n_sets, n_consensus)
        Mean ``|r|`` of the map of each set with the other maps of its network; missing if a set does not contain the
        network.
    pairs : DataFrame
        Pairs of sets, one row per pair: ``first, second, mean_r, null_mean, null_95, n_pairs, n_found``, and
        ``mean_iou`` if both are thresholded.
    overview : DataFrame
        Sets, one row per set: ``set, n_networks, n_found, n_converged, n_starts, iq, seconds``; unknown values are
        missing.
    """

    sets: tuple[NetworkSet, ...]
    names: tuple[str, ...]
    comparisons: dict[Pair, Comparison]
    table: pd.DataFrame
    strength: np.ndarray
    pairs: pd.DataFrame
    overview: pd.DataFrame

    @property
    def n_found_by_all(self) -> int:
        """Number of networks that were found in every set."""
        return int((self.table["found_by"] == len(self.sets)).sum())


def compare_many(
    sets: Sequence[NetworkSet],
    seed: int = 0,
    names: Sequence[str] | None = None,
    same_standardization: bool = True,
) -> Consensus:
    """Compare all pairs of several decompositions, and group the maps that are replicated.

    Every pair of sets is matched one to one as in `compare`. A pair of maps is significant if it, and every better pair
    of the same two sets, exceeds the limit of arbitrary unmixings at its rank. Limits control 5 % over all comparisons
    together (Bonferroni), so sets that share only their subspaces yield a consensus in 5 % of cases.

    Maps are then grouped by average linkage on the ``|r|`` of significant pairs, with at most one map per set. Two
    groups are merged only if more than half of the pairs between them are significant, so that a network cannot result
    from a chain of pairwise similarities.

    Parameters
    ----------
    sets : sequence of NetworkSet
        Network sets, at least two, over spaces of the same geometry; methods, numbers of maps and seeds may differ, and
        sets may be thresholded or not.
    seed : int, default=0
        Seed of the rotations.
    names : sequence of str, optional
        Names, one per set; by default the methods, numbered if they repeat.
    same_standardization : bool, default=True
        Whether to raise an error if the recordings are known to be standardized differently.

    Returns
    -------
    Consensus
        Replicated networks with their number of sets, and the comparison of every pair of sets. An empty table is a
        valid result.

    Raises
    ------
    SpaceMismatchError
        If the spaces differ.
    ValueError
        If there are fewer than two sets, names do not fit, or the standardizations differ.
    """
    sets = tuple(sets)
    if len(sets) < 2:
        raise ValueError(f"{len(sets)} sets were given; a comparison needs at least 2.")
    labels = _labels(sets, names)
    places = list(itertools.combinations(range(len(sets)), 2))
    for first, second in places:
        check_comparable(sets[first], sets[second], same_standardization)
    comparisons: dict[Pair, Comparison] = {}
    limits: dict[Pair, np.ndarray] = {}
    for first, second in places:
        ours, theirs = sets[first], sets[second]
        nulls = rotation_nulls(ours.weights, theirs.weights, seed, _n_rotations(len(places)))
        correlation = correlations(ours.weights, theirs.weights)
        # The first rotations are the same as in `compare`, so that both return the same values.
        comparisons[first, second] = matched_sets(ours, theirs, correlation, [null[:N_ROTATIONS] for null in nulls])
        limits[first, second] = np.max([_limit(null, ALPHA / len(places)) for null in nulls], axis=0)
    significant = {key: _significant_pairs(comparison, limits[key]) for key, comparison in comparisons.items()}
    groups = _groups([len(networks) for networks in sets], comparisons, significant)
    table, strength = _table(sets, labels, comparisons, significant, groups)
    return Consensus(
        sets,
        labels,
        comparisons,
        table,
        strength,
        _pairs(labels, comparisons, significant),
        _overview(sets, labels, table),
    )


def _labels(sets: Sequence[NetworkSet], names: Sequence[str] | None) -> tuple[str, ...]:
    if names is None:
        methods = [networks.method for networks in sets]
        return tuple(
            f"{method}.{methods[: number + 1].count(method)}" if methods.count(method) > 1 else method
            for number, method in enumerate(methods)
        )
    if len(names) != len(sets) or len(set(names)) < len(names) or set(names) & set(COLUMNS):
        raise ValueError(
            f"names are {list(names)!r}; {len(sets)} different names are needed, one per set, and none "
            f"of {', '.join(COLUMNS)}, which are columns of the table. Choose other names."
        )
    return tuple(names)


# -- significant pairs ------------------------------------------------------------------------------------------------


def _n_rotations(n_comparisons: int) -> int:
    """Return a number of rotations for which the limit of 5 % over all comparisons is at least the third largest."""
    return max(N_ROTATIONS, round(3 * n_comparisons / ALPHA))


def _limit(null: np.ndarray, alpha: float) -> np.ndarray:
    """Compute the limit of every rank that another draw exceeds with a probability of at most `alpha`."""
    return np.sort(null, axis=0)[::-1][int(alpha * (len(null) + 1)) - 1]


def _significant_pairs(comparison: Comparison, limit: np.ndarray) -> dict[Pair, float]:
    """Return the significant pairs of maps, with the limit that each exceeds.

    A pair is significant only if all better pairs are, so the best pair decides whether there is any.
    """
    beyond = np.cumprod(comparison.table["r"].abs().to_numpy() > limit + ROUNDING).astype(bool)
    rows = [comparison.first.names.index(name) for name in comparison.table["first"]]
    columns = [comparison.second.names.index(name) for name in comparison.table["second"]]
    return {
        pair: float(pair_limit)
        for pair, pair_limit, counts in zip(zip(rows, columns, strict=True), limit, beyond, strict=True)
        if counts
    }


# -- groups -----------------------------------------------------------------------------------------------------------


def _groups(
    sizes: Sequence[int], comparisons: dict[Pair, Comparison], significant: dict[Pair, dict[Pair, float]]
) -> list[dict[int, int]]:
    """Group maps by average linkage, at most one per set; return the map of each set in groups of two or more."""
    start = np.concatenate([[0], np.cumsum(sizes)])
    groups: list[dict[int, int]] = [
        {set_number: number} for set_number, size in enumerate(sizes) for number in range(size)
    ]
    weight, count = np.zeros((len(groups), len(groups))), np.zeros((len(groups), len(groups)))
    for (first, second), pairs in significant.items():
        for row, column in pairs:
            i, j = start[first] + row, start[second] + column
            weight[i, j] = weight[j, i] = abs(comparisons[first, second].correlation[row, column])
            count[i, j] = count[j, i] = 1
    while True:
        size = np.array([len(group) for group in groups])
        has = np.array([[set_number in group for set_number in range(len(sizes))] for group in groups], dtype=float)
        possible = size[:, None] * size  # pairs between two groups
        allowed = (2 * count > possible) & (has @ has.T == 0)
        if not allowed.any():
            return [group for group in groups if len(group) > 1]
        i, j = sorted(np.unravel_index(np.where(allowed, weight / possible, -1).argmax(), allowed.shape))
        groups[i] |= groups.pop(j)
        for matrix in (weight, count):
            matrix[i] += matrix[j]
            matrix[:, i] += matrix[:, j]
        weight, count = (np.delete(np.delete(matrix, j, 0), j, 1) for matrix in (weight, count))


# -- tables -----------------------------------------------------------------------------------------------------------


def _table(
    sets: Sequence[NetworkSet],
    labels: Sequence[str],
    comparisons: dict[Pair, Comparison],
    significant: dict[Pair, dict[Pair, float]],
    groups: Sequence[dict[int, int]],
) -> tuple[pd.DataFrame, np.ndarray]:
    rows, strengths = [], []
    for group in groups:
        set_numbers = sorted(group)
        r = np.full((len(sets), len(sets)), np.nan)
        limits, overlaps = [], []
        for first, second in itertools.combinations(set_numbers, 2):
            pair = group[first], group[second]
            r[first, second] = r[second, first] = abs(comparisons[first, second].correlation[pair])
            limits.append(significant[first, second].get(pair, np.nan))
            if sets[first].is_thresholded and sets[second].is_thresholded:
                n = max(len(sets[first]), len(sets[second]))
                members = sets[first].members[pair[0]], sets[second].members[pair[1]]
                overlaps.append(overlap(sets[first].space, *members, n))
        iou, iou_null = np.array(overlaps).T if len(overlaps) == len(limits) else (np.array([]), np.array([]))
        row: dict[str, Any] = {"found_by": len(group), "mean_r": _mean(r), "r_limit": _mean(np.array(limits))}
        row |= {"mean_iou": _mean(iou)}
        row |= {"iou_null_95": _mean(iou_null)}
        for name in ("variance", "iq"):
            known = [
                sets[set_number].metrics[name].iloc[group[set_number]]
                for set_number in set_numbers
                if name in sets[set_number].metrics
            ]
            row[name] = _mean(np.array(known, dtype=float))
        rows.append(
            row
            | {
                label: sets[set_number].names[group[set_number]] if set_number in group else ""
                for set_number, label in enumerate(labels)
            }
        )
        strengths.append([_mean(r[set_number]) for set_number in range(len(sets))])
    order = sorted(range(len(rows)), key=lambda number: (-rows[number]["found_by"], -rows[number]["mean_r"]))
    table = pd.DataFrame([rows[number] for number in order], columns=[*COLUMNS, *labels])
    table["network"] = [f"consensus-{number:02d}" for number in range(len(rows))]
    kinds = {"found_by": int} | {name: float for name in COLUMNS[2:]}
    strength = np.array([strengths[number] for number in order], dtype=float).reshape(-1, len(sets)).T
    return table.astype(kinds), strength


def _mean(values: np.ndarray) -> float:
    """Compute the mean of finite values; NaN if there are none."""
    known = values[np.isfinite(values)]
    return float(known.mean()) if known.size else np.nan


def _pairs(
    labels: Sequence[str], comparisons: dict[Pair, Comparison], significant: dict[Pair, dict[Pair, float]]
) -> pd.DataFrame:
    rows = []
    for (first, second), comparison in comparisons.items():
        row: dict[str, Any] = {"first": labels[first], "second": labels[second], "mean_r": comparison.mean_r}
        row |= {"null_mean": comparison.null_mean, "null_95": comparison.null_95}
        row |= {"n_pairs": len(comparison.table), "n_found": len(significant[first, second])}
        if "iou" in comparison.table:
            row["mean_iou"] = _mean(comparison.table["iou"].to_numpy())
        rows.append(row)
    return pd.DataFrame(rows)


def _overview(sets: Sequence[NetworkSet], labels: Sequence[str], table: pd.DataFrame) -> pd.DataFrame:
    rows = []
    for networks, label in zip(sets, labels, strict=True):
        convergence = networks.origin.convergence
        convergence = convergence if convergence.get("n_starts") else {}  # some solvers do not report convergence
        rows.append(
            {
                "set": label,
                "n_networks": len(networks),
                "n_found": int((table[label] != "").sum()),
                "n_converged": convergence.get("n_converged", np.nan),
                "n_starts": convergence.get("n_starts", np.nan),
                "iq": _mean(networks.metrics["iq"].to_numpy(dtype=float)) if "iq" in networks.metrics else np.nan,
                "seconds": np.nan if networks.origin.seconds is None else networks.origin.seconds,
            }
        )
    return pd.DataFrame(rows)
