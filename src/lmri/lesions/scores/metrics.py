"""Metrics of item rows, as functions of sums over clusters, so that a bootstrap of clusters is one matrix product.

A mean needs two sums per cluster. F1, Matthews' correlation and balanced accuracy need the confusion table of each
cluster: the counts of predicted labels by true label.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd


def f1(tables: np.ndarray, positive: int) -> np.ndarray:
    """Compute F1 of one label, ``2 TP / (2 TP + FP + FN)``; 0 if it never occurs, as in scikit-learn.

    Parameters
    ----------
    tables : ndarray of shape (..., n_labels, n_labels)
        Counts; rows are true labels, columns are predicted ones.
    positive : int
        Index of the positive label.
    """
    hits = tables[..., positive, positive]
    both = tables[..., positive, :].sum(-1) + tables[..., :, positive].sum(-1)
    return np.divide(2 * hits, both, out=np.zeros_like(hits), where=both > 0)


def matthews(tables: np.ndarray, positive: int = -1) -> np.ndarray:
    """Compute Matthews' correlation for any number of labels [1]_; 0 if there is only one, as in scikit-learn.

    Parameters
    ----------
    tables : ndarray of shape (..., n_labels, n_labels)
        Counts; rows are true labels, columns are predicted ones.
    positive : int
        Not used, as the metric is symmetric in the labels.

    References
    ----------
    .. [1] Gorodkin (2004). Comparing two K-category assignments by a K-category correlation coefficient. Computational
       Biology and Chemistry, 28, 367-374.
    """
    true, predicted = tables.sum(-1), tables.sum(-2)
    right, n = np.trace(tables, axis1=-2, axis2=-1), tables.sum((-2, -1))
    covariance = right * n - (true * predicted).sum(-1)
    spread = (n**2 - (true**2).sum(-1)) * (n**2 - (predicted**2).sum(-1))
    return np.divide(covariance, np.sqrt(spread), out=np.zeros_like(covariance), where=spread > 0)


def balanced_accuracy(tables: np.ndarray, positive: int = -1) -> np.ndarray:
    """Compute the mean recall over the labels that occur.

    Parameters
    ----------
    tables : ndarray of shape (..., n_labels, n_labels)
        Counts; rows are true labels, columns are predicted ones.
    positive : int
        Not used.
    """
    true, right = tables.sum(-1), np.diagonal(tables, axis1=-2, axis2=-1)
    recall = np.divide(right, true, out=np.zeros_like(true), where=true > 0)
    occur = (true > 0).sum(-1)
    return np.divide(recall.sum(-1), occur, out=np.full(np.shape(occur), np.nan), where=occur > 0)


CONFUSION: dict[str, Callable[[np.ndarray, int], np.ndarray]] = {
    "f1": f1,
    "matthews": matthews,
    "balanced_accuracy": balanced_accuracy,
}
"""Metrics computed from labels; any other metric is a mean."""


@dataclass(frozen=True)
class ClusterSums:
    """Sums per condition and cluster from which a metric is computed.

    Parameters
    ----------
    clusters : list of str
        Names of the clusters, sorted.
    parts : dict of str to ndarray of shape (n_clusters, n_parts)
        Sums by condition; NaN for a condition under which the model gave no finite value.
    combine : callable
        Function from sums, ``(n_draws, n_parts)``, to the metric, ``(n_draws,)``.
    unparseable : dict of str to float
        Share of items without a value, by condition.
    n_items : int
        Number of items of the task.
    """

    clusters: list[str]
    parts: dict[str, np.ndarray]
    combine: Callable[[np.ndarray], np.ndarray]
    unparseable: dict[str, float]
    n_items: int

    def metric(self, condition: str, counts: np.ndarray) -> np.ndarray:
        """Compute the metric, ``(n_draws,)``, with clusters weighted by `counts`, ``(n_draws, n_clusters)``."""
        return self.combine(counts @ self.parts[condition])


def cluster_sums(
    items: pd.DataFrame, metric: str, column: str, per_token: bool, can_fail: bool, positive: str = ""
) -> ClusterSums:
    """Sum up the items of one task.

    Parameters
    ----------
    items : DataFrame
        Item rows with ``condition, item, cluster, n_tokens, value``; for a metric of labels also ``label, predicted``.
    metric : str
        Metric in `CONFUSION`, or any other name for the mean of `column`.
    column : str
        Column that a mean is computed from.
    per_token : bool
        Whether a mean weights items by their number of tokens.
    can_fail : bool
        Whether a missing value means an answer that could not be parsed, which is excluded. Otherwise, a missing value
        makes the metric of its condition missing.
    positive : str
        Positive label of F1.
    """
    missing = ~np.isfinite(items["value"].to_numpy(dtype=float))
    unread = missing & can_fail
    conditions, condition = np.unique(items["condition"].to_numpy(dtype=str), return_inverse=True)
    clusters, cluster = np.unique(items["cluster"].to_numpy(dtype=str), return_inverse=True)
    if metric in CONFUSION:
        parts, combine = _tables(items, metric, positive)
    else:
        parts, combine = _means(items, column, per_token)
    parts[missing] = 0.0
    n_cells = len(conditions) * len(clusters)
    cell = condition * len(clusters) + cluster
    sums = np.stack([np.bincount(cell, part, minlength=n_cells) for part in parts.T], axis=-1)
    sums = sums.reshape(len(conditions), len(clusters), -1)
    sums[np.unique(condition[missing & ~unread])] = np.nan
    shares = np.bincount(condition, unread) / np.bincount(condition)
    return ClusterSums(
        clusters.tolist(),
        dict(zip(conditions.tolist(), sums, strict=True)),
        combine,
        dict(zip(conditions.tolist(), shares.tolist(), strict=True)),
        int(items["item"].nunique()),
    )


def _means(items: pd.DataFrame, column: str, per_token: bool) -> tuple[np.ndarray, Callable[[np.ndarray], np.ndarray]]:
    if column not in items:
        raise ValueError(
            f"The items have no column {column!r}, which their task names as a metric. Remove it from the metrics of "
            "the task."
        )
    weight = items["n_tokens"].to_numpy(dtype=float) if per_token else np.ones(len(items))

    def ratio(sums: np.ndarray) -> np.ndarray:
        with np.errstate(invalid="ignore"):
            return sums[..., 0] / sums[..., 1]

    return np.stack([items[column].to_numpy(dtype=float) * weight, weight], axis=-1), ratio


def _tables(items: pd.DataFrame, metric: str, positive: str) -> tuple[np.ndarray, Callable[[np.ndarray], np.ndarray]]:
    true, predicted = items["label"].to_numpy(dtype=str), items["predicted"].to_numpy(dtype=str)
    labels = np.union1d(true, predicted)
    if metric == "f1" and positive not in labels:
        # Neither true nor predicted under any condition: it gets an empty row and column.
        labels = np.append(labels, positive)
    order = np.argsort(labels)
    rows, columns = (order[np.searchsorted(labels, names, sorter=order)] for names in (true, predicted))
    n = len(labels)
    one_hot = np.zeros((len(items), n * n))
    one_hot[np.arange(len(items)), rows * n + columns] = 1.0
    index = int(np.flatnonzero(labels == positive)[0]) if metric == "f1" else -1

    def measure(sums: np.ndarray) -> np.ndarray:
        tables = sums.reshape(*sums.shape[:-1], n, n)
        values = CONFUSION[metric](tables, index)
        # The metric is undefined if no answer was parsed or the model gave NaN.
        return np.where(tables.sum((-2, -1)) > 0, values, np.nan)

    return one_hot, measure
