"""Evaluation of variants of a robustness analysis: effect relative to controls, and whether the conclusion holds."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from lmri.lesions.experiments.choices import Variant
from lmri.lesions.scores import FEWEST_CLUSTERS, INTACT, Scores, TaskInfo

COLUMNS = (
    "kind", "choice", "task", "metric", "status", "reason", "network", "n_neurons", "matched_by", "r", "r_null_95",
    "value", "diff", "ci_low", "ci_high", "control_mean", "control_low", "control_high", "effect", "effect_low",
    "effect_high", "effect_sd", "p", "n_controls", "n_items", "site", "method", "seed", "threshold", "baseline",
    "spared", "control_family", "n_converged", "n_starts", "note",
)  # fmt: skip

HOLDS, FAILS = "holds", "does not hold"
NOT_FOUND, EMPTY, NO_CONTROLS, NO_NETWORK = "not found again", "empty", "no controls", "no network"
STATUSES = (HOLDS, FAILS, NOT_FOUND, EMPTY, NO_CONTROLS, NO_NETWORK)


def variant_row(
    variant: Variant, scored: tuple[Scores, pd.DataFrame] | None, task: TaskInfo, alpha: float
) -> dict[str, object]:
    """Return the row of a variant on a task: choices, effect relative to controls, and whether the conclusion holds."""
    network, choice = variant.network, variant.choice
    row: dict[str, Any] = dict.fromkeys(COLUMNS, np.nan)
    row |= {
        **choice.cells(),
        "task": task.name,
        "metric": task.metric,
        "network": network.name if network else "",
        "n_neurons": network.n_neurons if network else 0,
        "matched_by": variant.matched_by,
        "r": variant.r,
        "r_null_95": variant.limit,
        "control_family": choice.controls,
        "n_controls": 0,
        "n_items": 0,
        "n_converged": variant.n_converged,
        "n_starts": variant.n_starts,
        "note": "",
    }
    if scored is not None:
        row |= measured(
            *scored, next(candidate for candidate in scored[0].tasks if candidate.name == task.name), choice.name
        )
    row["status"], row["reason"] = judge(variant, row, task.higher_is_better, alpha)
    if variant.n_starts and not variant.n_converged:
        row["note"] = "; ".join(filter(None, ["no start of the decomposition converged", row["note"]]))
    return row


def measured(scores: Scores, summary: pd.DataFrame, task: TaskInfo, condition: str) -> dict[str, Any]:
    """Measure the effect of one condition relative to its controls on one task.

    Parameters
    ----------
    scores : Scores
        Scores with one family of controls.
    summary : DataFrame
        Summary ``scores.summary()``.
    task : TaskInfo
        Task of the scores; its main metric is used.
    condition : str
        Condition of a network.

    Returns
    -------
    dict
        Measures by column; undefined ones, such as an interval over too few texts, are omitted.
    """
    chosen = (summary["condition"] == condition) & (summary["task"] == task.name) & (summary["metric"] == task.metric)
    summary_row = summary[chosen].iloc[0]
    names = ["value", "diff", "ci_low", "ci_high", "control_mean", "effect", "p", "n_controls", "n_items", "note"]
    result = {name: summary_row[name] for name in names}
    table = scores.conditions
    controls = [str(name) for name in table.loc[table["control_of"] == condition, "condition"]]
    if not controls:
        return result
    whole, resampled = scores.diffs(task, [condition, *controls])
    result["control_family"] = summary_row["control_family"]
    result["control_low"], result["control_high"] = np.percentile(whole[1:], [2.5, 97.5])
    sd = whole[1:].std(ddof=1)
    if sd > 0:
        result["effect_sd"] = summary_row["effect"] / sd
    scored = scores.items[(scores.items["task"] == task.name) & (scores.items["condition"] == INTACT)]
    if scored["cluster"].nunique() >= FEWEST_CLUSTERS and np.isfinite(summary_row["effect"]):
        # Bootstrap samples of texts are the same for the network and its controls.
        beyond = resampled[:, 0] - resampled[:, 1:].mean(axis=1)
        result["effect_low"], result["effect_high"] = np.nanpercentile(beyond, [2.5, 97.5])
    return result


def judge(variant: Variant, row: Mapping[str, Any], higher_is_better: bool, alpha: float) -> tuple[str, str]:
    """Return whether the conclusion holds, one of `STATUSES`, and the reason if it does not."""
    if variant.network is None:
        return (NOT_FOUND if variant.matched_by else NO_NETWORK), variant.problem
    if not variant.above_null:
        return NOT_FOUND, f"|r| = {abs(variant.r):.2f} of the closest is within the null ({variant.limit:.2f})"
    if not variant.network.n_neurons:
        return EMPTY, "no neuron passes the threshold"
    if not row["n_controls"]:
        return NO_CONTROLS, str(row["note"]) or "no control could be drawn"
    sign = -1 if higher_is_better else 1
    low = min(sign * row["effect_low"], sign * row["effect_high"])  # the bound nearer to no harm; NaN if unknown
    reasons = []
    if not sign * row["effect"] > 0:
        reasons.append("it does no more harm than its controls")
    if not row["p"] <= alpha:
        reasons.append(f"p = {row['p']:.2g}")
    if np.isnan(low):
        reasons.append(f"fewer than {FEWEST_CLUSTERS} texts give no interval")
    elif not low > 0 and sign * row["effect"] > 0:
        reasons.append("the interval includes 0")
    return (FAILS, "; ".join(reasons)) if reasons else (HOLDS, "")
