"""Both tails relative to matched controls: whether a set of neurons is worse or better than matched sets."""

import numpy as np
import pandas as pd

from lmri.lesions.scores import ALPHA, INTACT, Scores
from lmri.lesions.scores.p_values import ROUNDING
from lmri.networks.thresholds import q_values

CONTROL_COLUMNS = ("task", "metric", "condition", "control_family", "draw", "n_neurons", "value", "diff")


def control_table(scores: Scores, summary: pd.DataFrame) -> pd.DataFrame:
    """List all controls of all conditions, for every task and metric.

    Parameters
    ----------
    scores : Scores
        Scores, with or without controls.
    summary : DataFrame
        Summary of the scores, passed because it is slow to compute.

    Returns
    -------
    DataFrame
        Table with `CONTROL_COLUMNS`; `condition` is the condition that is controlled.
    """
    controls = scores.conditions[scores.conditions["kind"] == "control"]
    intact = summary[summary["condition"] == INTACT].set_index(["task", "metric"])["value"]
    parts = []
    for task in scores.tasks:
        for metric in task.metrics:
            for condition, diffs in scores.control_diffs(task, metric).items():
                rows = controls[controls["control_of"] == condition]  # in the order of `diffs`
                part = rows[["control_family", "draw", "n_neurons"]].assign(
                    task=task.name, metric=metric, condition=condition, diff=diffs
                )
                parts.append(part.assign(value=part["diff"] + intact[task.name, metric]))
    return pd.concat(parts)[list(CONTROL_COLUMNS)] if parts else pd.DataFrame(columns=list(CONTROL_COLUMNS))


def p_better(diff: float, control_diffs: np.ndarray, higher_is_better: bool) -> float:
    """Compute the share of sets, including this one, that are at least as good: the tail opposite to `Scores.summary`.

    Parameters
    ----------
    diff : float
        Difference from intact; NaN returns NaN.
    control_diffs : ndarray of shape (n_controls,)
        Differences of the controls. A non-finite one counts as not good. An empty array returns NaN.
    higher_is_better : bool
        Whether higher values of the metric are better.

    Returns
    -------
    float
        Share ``(1 + controls at least as good) / (1 + controls)``.

    Examples
    --------
    >>> p_better(0.5, np.array([0.1, 0.7, 0.5]), higher_is_better=True)
    0.75
    """
    if not np.isfinite(diff) or not len(control_diffs):
        return float("nan")
    # Equality up to rounding counts as equally good, as it counts as equally harmful in the other tail.
    good = (control_diffs >= diff - ROUNDING) if higher_is_better else (control_diffs <= diff + ROUNDING)
    return float((1 + (good & np.isfinite(control_diffs)).sum()) / (1 + len(control_diffs)))


def with_better(summary: pd.DataFrame, scores: Scores, controls: pd.DataFrame) -> pd.DataFrame:
    """Add ``p_better``, ``q_better`` and ``better`` (``"more"`` or ``"less"``) to a summary.

    Like `q`, ``q_better`` is computed over all conditions of a task, metric and family, if the smallest p could reach
    0.05. Both are missing if draws stopped early: stopping depends on harm, so the other tail is biased.
    """
    more = {task.name: task.higher_is_better for task in scores.tasks}
    keys = ["condition", "task", "metric", "control_family"]
    diffs = {key: group["diff"].to_numpy() for key, group in controls.groupby(keys)}
    p_values = [
        p_better(row["diff"], diffs.get(tuple(row[key] for key in keys), np.empty(0)), more[row["task"]])
        for row in summary.to_dict("records")
    ]
    better = ["more" if more[task] else "less" for task in summary["task"]]
    if scores.design.stop_after:
        p_values = [float("nan")] * len(p_values)
    table = summary.assign(p_better=p_values, q_better=np.nan, better=better)
    return with_q(table, "p_better", "q_better", ["task", "metric", "control_family"])


def with_q(table: pd.DataFrame, p: str, q: str, by: list[str]) -> pd.DataFrame:
    """Compute column `q` from column `p` within groups in which the smallest possible p would reach 0.05."""
    for _, family in table[table[p].notna()].groupby(by):
        if (1 / (1 + family["n_controls"])).max() <= ALPHA:
            table.loc[family.index, q] = q_values(family[p].to_numpy(dtype=float))
    return table
