"""Any number of sets of maps: which networks are found again, by how many."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from lmri.networks import NetworkSet
from lmri.networks.comparison.pair import (
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
    """What several network sets have in common.

    Parameters
    ----------
    sets : tuple of NetworkSet
        Over one space.
    names : tuple of str
        What they are called, one name a set.
    comparisons : dict
        The `Comparison` of every two, by their places ``(first, second)``.
    table : DataFrame
        A row a network that at least two sets found, those of most sets first: ``network, found_by, mean_r, r_limit,
        mean_iou, iou_null_95, variance, iq``, and a column a set with the name of its map. ``|r|``, IoU and both limits
        are means over the pairs of its maps, variance and iq (stability) means over its maps. Values that the sets do
        not have are missing.
    strength : ndarray of shape (n_sets, n_consensus)
        Mean ``|r|`` of each set's map with the other maps of its network; missing where a set did not find it.
    pairs : DataFrame
        A row two sets: ``first, second, mean_r, null_mean, null_95, n_pairs, n_found``, and ``mean_iou`` if both are
        thresholded.
    overview : DataFrame
        A row a set: ``set, n_networks, n_found, n_converged, n_starts, iq, seconds``, missing where it is not known.
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
        """Number of networks that every set found."""
        return int((self.table["found_by"] == len(self.sets)).sum())


def compare_many(
    sets: Sequence[NetworkSet],
    seed: int = 0,
    names: Sequence[str] | None = None,
    same_standardization: bool = True,
) -> Consensus:
    """Compare every two of several decompositions, and group the maps that are found again.

    Every two sets are matched one to one as `compare` does. A pair counts if it, and every better pair of the same two
    sets, exceeds what an arbitrary unmixing gives at its rank; the limits are those of 5 % over all comparisons
    together (Bonferroni), so sets that have no more than their subspaces in common find a consensus in 5 % of cases.

    Maps are then grouped by average linkage on the ``|r|`` of the pairs that count, with at most one map a set. Two
    groups merge only if more than half of the pairs between them count, so no chain of likenesses makes a network.

    Parameters
    ----------
    sets : sequence of NetworkSet
        At least two, over spaces of the same geometry: other methods, numbers of maps or seeds; thresholded or not.
    seed : int, default=0
        Of the rotations.
    names : sequence of str, optional
        One a set; by default their methods, numbered where these repeat.
    same_standardization : bool, default=True
        Refuse sets of which it is known that they standardized the recording differently.

    Returns
    -------
    Consensus
        The networks that were found again, by how many, and every two sets compared. An empty table is a result.

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
        # The first rotations are those of `compare`, which so gives the same numbers.
        comparisons[first, second] = matched_sets(ours, theirs, correlation, [null[:N_ROTATIONS] for null in nulls])
        limits[first, second] = np.max([_limit(null, ALPHA / len(places)) for null in nulls], axis=0)
    counting = {key: _counting(found, limits[key]) for key, found in comparisons.items()}
    groups = _groups([len(one) for one in sets], comparisons, counting)
    table, strength = _table(sets, labels, comparisons, counting, groups)
    return Consensus(
        sets,
        labels,
        comparisons,
        table,
        strength,
        _pairs(labels, comparisons, counting),
        _overview(sets, labels, table),
    )


def _labels(sets: Sequence[NetworkSet], names: Sequence[str] | None) -> tuple[str, ...]:
    if names is None:
        methods = [one.method for one in sets]
        return tuple(
            f"{method}.{methods[: place + 1].count(method)}" if methods.count(method) > 1 else method
            for place, method in enumerate(methods)
        )
    if len(names) != len(sets) or len(set(names)) < len(names) or set(names) & set(COLUMNS):
        raise ValueError(
            f"names are {list(names)!r}; {len(sets)} different ones are needed, one a set, and none of "
            f"{', '.join(COLUMNS)}, which are columns of the table."
        )
    return tuple(names)


# -- which pairs count ------------------------------------------------------------------------------------------------


def _n_rotations(n_comparisons: int) -> int:
    """Give rotations enough that the limit of 5 % over all comparisons is at least the third largest."""
    return max(N_ROTATIONS, round(3 * n_comparisons / ALPHA))


def _limit(null: np.ndarray, alpha: float) -> np.ndarray:
    """Give the limit of every rank that one more draw would exceed with a probability of at most `alpha`."""
    return np.sort(null, axis=0)[::-1][int(alpha * (len(null) + 1)) - 1]


def _counting(found: Comparison, limit: np.ndarray) -> dict[Pair, float]:
    """Give the pairs of maps that count, with the limit that each exceeds.

    A worse pair counts only if all better ones do, so the first decides whether there is anything at all.
    """
    beyond = np.cumprod(found.table["r"].abs().to_numpy() > limit + ROUNDING).astype(bool)
    rows = [found.first.names.index(name) for name in found.table["first"]]
    columns = [found.second.names.index(name) for name in found.table["second"]]
    return {
        pair: float(one)
        for pair, one, counts in zip(zip(rows, columns, strict=True), limit, beyond, strict=True)
        if counts
    }


# -- groups -----------------------------------------------------------------------------------------------------------


def _groups(
    sizes: Sequence[int], comparisons: dict[Pair, Comparison], counting: dict[Pair, dict[Pair, float]]
) -> list[dict[int, int]]:
    """Group maps by average linkage, at most one a set: for each group of two or more, which map of which set."""
    start = np.concatenate([[0], np.cumsum(sizes)])
    groups: list[dict[int, int]] = [{place: number} for place, size in enumerate(sizes) for number in range(size)]
    weight, count = np.zeros((len(groups), len(groups))), np.zeros((len(groups), len(groups)))
    for (first, second), pairs in counting.items():
        for row, column in pairs:
            i, j = start[first] + row, start[second] + column
            weight[i, j] = weight[j, i] = abs(comparisons[first, second].correlation[row, column])
            count[i, j] = count[j, i] = 1
    while True:
        size = np.array([len(group) for group in groups])
        has = np.array([[place in group for place in range(len(sizes))] for group in groups], dtype=float)
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
    counting: dict[Pair, dict[Pair, float]],
    groups: Sequence[dict[int, int]],
) -> tuple[pd.DataFrame, np.ndarray]:
    rows, strengths = [], []
    for group in groups:
        places = sorted(group)
        r = np.full((len(sets), len(sets)), np.nan)
        limits, overlaps = [], []
        for first, second in itertools.combinations(places, 2):
            pair = group[first], group[second]
            r[first, second] = r[second, first] = abs(comparisons[first, second].correlation[pair])
            limits.append(counting[first, second].get(pair, np.nan))
            if sets[first].is_thresholded and sets[second].is_thresholded:
                n = max(len(sets[first]), len(sets[second]))
                members = sets[first].members[pair[0]], sets[second].members[pair[1]]
                overlaps.append(overlap(sets[first].space, *members, n))
        iou, iou_null = np.array(overlaps).T if len(overlaps) == len(limits) else (np.array([]), np.array([]))
        row: dict[str, Any] = {"found_by": len(group), "mean_r": _mean(r), "r_limit": _mean(np.array(limits))}
        row |= {"mean_iou": _mean(iou)}
        row |= {"iou_null_95": _mean(iou_null)}
        for name in ("variance", "iq"):
            known = [sets[place].metrics[name].iloc[group[place]] for place in places if name in sets[place].metrics]
            row[name] = _mean(np.array(known, dtype=float))
        rows.append(
            row
            | {label: sets[place].names[group[place]] if place in group else "" for place, label in enumerate(labels)}
        )
        strengths.append([_mean(r[place]) for place in range(len(sets))])
    order = sorted(range(len(rows)), key=lambda number: (-rows[number]["found_by"], -rows[number]["mean_r"]))
    table = pd.DataFrame([rows[number] for number in order], columns=[*COLUMNS, *labels])
    table["network"] = [f"consensus-{number:02d}" for number in range(len(rows))]
    kinds = {"found_by": int} | {name: float for name in COLUMNS[2:]}
    strength = np.array([strengths[number] for number in order], dtype=float).reshape(-1, len(sets)).T
    return table.astype(kinds), strength


def _mean(values: np.ndarray) -> float:
    """Give the mean of the values that are there, and nothing of none."""
    known = values[np.isfinite(values)]
    return float(known.mean()) if known.size else np.nan


def _pairs(
    labels: Sequence[str], comparisons: dict[Pair, Comparison], counting: dict[Pair, dict[Pair, float]]
) -> pd.DataFrame:
    rows = []
    for (first, second), found in comparisons.items():
        row: dict[str, Any] = {"first": labels[first], "second": labels[second], "mean_r": found.mean_r}
        row |= {"null_mean": found.null_mean, "null_95": found.null_95}
        row |= {"n_pairs": len(found.table), "n_found": len(counting[first, second])}
        if "iou" in found.table:
            row["mean_iou"] = _mean(found.table["iou"].to_numpy())
        rows.append(row)
    return pd.DataFrame(rows)


def _overview(sets: Sequence[NetworkSet], labels: Sequence[str], table: pd.DataFrame) -> pd.DataFrame:
    rows = []
    for one, label in zip(sets, labels, strict=True):
        convergence = one.info.get("convergence", {})
        convergence = convergence if convergence.get("n_starts") else {}  # solvers that do not say
        rows.append(
            {
                "set": label,
                "n_networks": len(one),
                "n_found": int((table[label] != "").sum()),
                "n_converged": convergence.get("n_converged", np.nan),
                "n_starts": convergence.get("n_starts", np.nan),
                "iq": _mean(one.metrics["iq"].to_numpy(dtype=float)) if "iq" in one.metrics else np.nan,
                "seconds": one.info.get("seconds", np.nan),
            }
        )
    return pd.DataFrame(rows)
