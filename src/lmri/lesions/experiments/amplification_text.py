"""The outcome of an amplification: layouts of its tables, and its description as text."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from lmri.lesions.experiments.amplification import Dose, dose_tables
from lmri.lesions.experiments.curves import dose_figure
from lmri.lesions.experiments.dose_choice import best_table, in_both_splits
from lmri.lesions.scores import ALPHA, FEWEST_CLUSTERS, Scores, TaskInfo
from lmri.storage.outcome import Outcome

MOST_NAMED = 5
"""Largest number of best doses in the text; the table contains all."""


def dose_layout(table: pd.DataFrame) -> pd.DataFrame:
    """Format the table of doses: one row per task and network, one column per dose.

    Parameters
    ----------
    table : DataFrame
        Table as returned by `dose_table`.

    Returns
    -------
    DataFrame
        Layout whose cells are the difference from intact and, if there are controls, ``(p / p_better)``.
    """
    rows = []
    for (task, metric, network), group in table.groupby(["task", "metric", "network"], sort=False):
        cells = {f"{row.kind} {row.dose:g}": _cell(row) for row in group.drop_duplicates("condition").itertuples()}
        words = f"{task} ({str(metric).replace('_', ' ')}, {group['better'].iloc[0]} is better)"
        rows.append({"task": words, "network": network, "neurons": group["n_neurons"].iloc[0], **cells})
    return pd.DataFrame(rows)


def _cell(row: Any) -> str:
    if pd.isna(row.diff):
        return "–"
    text = "0" if row.diff == 0 else f"{row.diff:+.4f}"
    return text if pd.isna(row.p) else f"{text} ({row.p:.3g} / {_shown(row.p_better)})"


def _shown(number: float) -> str:
    return "–" if pd.isna(number) else f"{number:.3g}"


def best_layout(best: pd.DataFrame) -> pd.DataFrame:
    """Format the table of best doses: one row per task, network and family of controls."""
    rows = []
    for row in best.itertuples():
        ci = "" if pd.isna(row.ci_low) else f" [{row.ci_low:+.4f}, {row.ci_high:+.4f}]"
        control_mean = "–" if pd.isna(row.control_mean) else f"{row.control_mean:+.4f} ({row.control_family})"
        rows.append(
            {
                "task": row.task,
                "network": row.network,
                "best dose on select": f"{row.kind} {row.dose:g}" + ("" if row.improves_on_select else " (none helps)"),
                "difference on test [95 %]": f"{row.diff:+.4f}{ci}",
                "controls at their best": control_mean,
                "p": _shown(row.p),
                "p_better": _shown(row.p_better),
                "q_better": _shown(row.q_better),
            }
        )
    return pd.DataFrame(rows)


def amplification_outcome(scores: Scores, grid: Sequence[Dose]) -> Outcome:
    """Summarize the amplification of networks at all doses: tables, layouts, a figure and a text.

    Parameters
    ----------
    scores : Scores
        Scores of `dose_conditions`.
    grid : sequence of Dose
        Grid of networks and doses.
    """
    table, controls = dose_tables(scores, grid)
    best = best_table(scores, grid, table, controls)
    tables = {"doses": table, "controls": controls} | ({"best": best} if len(best) else {})
    layouts = {"doses": dose_layout(table)} | ({"best": best_layout(best)} if len(best) else {})
    title = "Effects of amplifying networks on the model"
    text = _text(scores, table, best)
    return Outcome("amplify", title, text, tables, layouts, {"doses": dose_figure(table, controls)})


def _text(scores: Scores, table: pd.DataFrame, best: pd.DataFrame) -> str:
    doses = dict.fromkeys(f"{row.kind} {row.dose:g}" for row in table.itertuples())
    n_networks, empty = table["network"].nunique(), table.loc[table["n_neurons"] == 0, "network"].nunique()
    lines = [f"{n_networks} networks at {', '.join(doses)}" + (f"; {empty} of them empty." if empty else ".")]
    # Scores on the split of the choice are not results.
    tested = table[table["n_neurons"] > 0]
    tested = tested[tested["split"] != "select"] if len(best) else tested
    for (task, metric), group in tested.groupby(["task", "metric"], sort=False):
        shown = group.drop_duplicates("condition").dropna(subset=["diff"])
        words = f"{str(metric).replace('_', ' ')}, {group['better'].iloc[0]} is better"
        if not len(shown):
            lines.append(f"{task} ({words}): no score at any dose, because the model gave NaN or infinity.")
            continue
        low, high = shown.loc[shown["diff"].idxmin()], shown.loc[shown["diff"].idxmax()]
        lines.append(
            f"{task} ({words}): differences from intact from {low['diff']:+.4f} ({low['condition']}) to "
            f"{high['diff']:+.4f} ({high['condition']}); {_significant(group)}."
        )
    if not len(best):
        lines.append(_why_no_best(scores.tasks, table))
    lines += _describe_best(best)
    lines.append(
        "p tests whether amplifying these neurons does more harm, and p_better whether it does more good, than "
        "amplifying matched sets, for this model and these items; for a two-sided test, double the smaller one. "
        f"Intervals are over texts, of which at least {FEWEST_CLUSTERS} are needed. Large doses drive a model to "
        "activity that does not occur naturally. One model is one subject."
    )
    return "\n\n".join(lines)


def _describe_best(best: pd.DataFrame) -> list[str]:
    """Summarize the best doses on test: how many improve the score, and the first by p_better."""
    if not len(best):
        return []
    sign = np.where(best["better"] == "more", 1, -1)
    once = best.assign(gain=sign * best["diff"]).sort_values(["p_better", "gain"], ascending=[True, False])
    once = once.drop_duplicates(["task", "network"])
    chosen = once[once["improves_on_select"] == 1]
    if best["q_better"].notna().any():
        n_beyond = int((best["q_better"] <= ALPHA).sum())
        beyond = f"{n_beyond} of all are better than controls at the controls' best doses at q ≤ {ALPHA}"
    else:
        beyond = "there are too few controls for a q"
    lines = [
        f"In {len(chosen)} of {len(once)} pairs of a network and a task, a dose is better than intact on select; on "
        f"test, {int((chosen['gain'] > 0).sum())} of these are better than intact; {beyond}."
    ]
    for row in chosen.head(MOST_NAMED).itertuples():
        ci = "" if pd.isna(row.ci_low) else f" (95 % {row.ci_low:+.4f} to {row.ci_high:+.4f})"
        p = "" if pd.isna(row.p_better) else f", p_better {row.p_better:.3g}"
        lines.append(f"{row.task}, {row.network}: chosen {row.kind} {row.dose:g}; on test {row.diff:+.4f}{ci}{p}.")
    if len(chosen) > MOST_NAMED:
        lines.append(f"See the table of best doses for the other {len(chosen) - MOST_NAMED}.")
    return lines


def _significant(rows: pd.DataFrame) -> str:
    tested = rows.dropna(subset=["p"])
    if not len(tested):
        return "no controls"
    if tested["q"].isna().all():
        return f"{int(tested['n_controls'].min())} controls each are too few for a q"
    counts = [int((tested[q] <= ALPHA).sum()) for q in ("q", "q_better")]
    return f"{counts[0]} of {len(tested)} worse and {counts[1]} better than controls at q ≤ {ALPHA}"


def _why_no_best(tasks: Sequence[TaskInfo], table: pd.DataFrame) -> str:
    if table["condition"].nunique() == table["network"].nunique():
        return "There is one dose, so none was chosen."
    if in_both_splits(tasks):
        return "No best dose was chosen: no network has both neurons and a score."
    splits = ", ".join(sorted({task.split or "all items" for task in tasks}))
    return (
        f"No best dose is given: it would have to be chosen on one split and reported on another, and scored were "
        f"only: {splits}. A best dose on the texts that it was chosen on looks better than it is."
    )
