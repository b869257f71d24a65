"""The outcome of a preservation: layouts of its table, and its description as text."""

from collections.abc import Sequence
from typing import Any

import pandas as pd

from lmri.lesions.experiments.curves import preservation_figure
from lmri.lesions.experiments.paper import paper_task
from lmri.lesions.experiments.paper_values import COMPONENTS, MODELS, PRESERVED
from lmri.lesions.experiments.preservation import NOTHING, Kept, preservation_tables
from lmri.lesions.scores import ALPHA, INTACT, Scores
from lmri.storage.outcome import Outcome


def preservation_layout(table: pd.DataFrame) -> pd.DataFrame:
    """Format a table like the paper's Table 8: one row per task, one column per K, cells ``score (neurons)``.

    The first column is the intact model. Rows of controls of equal size follow, with their mean score and ``p_better``.

    Parameters
    ----------
    table : DataFrame
        Table as returned by `preservation_table`.
    """
    points = table[~table["condition"].isin([INTACT, NOTHING])].drop_duplicates("condition")
    shared = points.loc[points["share"].isna(), "k"].duplicated(keep=False)
    names = {INTACT: "intact"}
    for row in points.sort_values(["share", "k"], na_position="first", kind="stable").itertuples():
        label = f"K = {row.k}" + (f" ({row.set})" if shared.get(row.Index, False) else "")
        names[str(row.condition)] = label if pd.isna(row.share) else f"strongest {100 * row.share:g} % of {row.set}"
    names[NOTHING] = "nothing kept"
    rows = []
    for (task, metric), group in table.groupby(["task", "metric"], sort=False):
        values = group.drop_duplicates("condition").set_index("condition")
        words = f"{task} ({str(metric).replace('_', ' ')}, {group['better'].iloc[0]} is better)"
        cells = {
            label: _cell(values.loc[name, "value"], values.loc[name, "n_neurons"]) for name, label in names.items()
        }
        rows.append({"task": words, **cells})
        intact = float(values.loc[INTACT, "value"])
        for family, control_rows in group[group["p_better"].notna()].groupby("control_family", sort=False):
            known = control_rows.set_index("condition")
            control_cells = {
                label: f"{intact + known.loc[name, 'control_mean']:.4f} ({known.loc[name, 'p_better']:.3g})"
                for name, label in names.items()
                if name in known.index
            }
            rows.append({"task": f"{family} controls: mean (p_better)", **control_cells})
    return pd.DataFrame(rows).fillna("–")


def _cell(value: float, n_neurons: int) -> str:
    return f"– ({n_neurons})" if pd.isna(value) else f"{value:.4f} ({n_neurons})"


def paper_layout(table: pd.DataFrame, model: str = "gpt2") -> pd.DataFrame:
    """Return the paper's rows for tasks with the same metric; empty if there are none.

    Parameters
    ----------
    table : DataFrame
        Table as returned by `preservation_table`.
    model : {"gpt2", "qwen2.5-3b", "chatglm3-6b"}, default="gpt2"
        Model of the paper.
    """
    pairs = dict.fromkeys(zip(table["task"], table["metric"], strict=True))
    known = {str(task): PRESERVED[model].get(paper_task(str(task), str(metric)) or "") for task, metric in pairs}
    rows = [
        {"task": f"{task} (the paper's {MODELS[model]})"}
        | {f"K = {k}": _cell(*cell) for k, cell in zip(COMPONENTS, cells, strict=True)}
        for task, cells in known.items()
        if cells
    ]
    return pd.DataFrame(rows)


def preservation_outcome(scores: Scores, grid: Sequence[Kept], baseline: str = "zero") -> Outcome:
    """Summarize the preservation of the neurons of a grid: tables, the paper's layout, a figure and a text.

    Parameters
    ----------
    scores : Scores
        Scores of `preservation_conditions`.
    grid : sequence of Kept
        Grid of preserved neurons.
    baseline : str, default="zero"
        Value assigned to silenced neurons, for the text.
    """
    table, controls = preservation_tables(scores, grid)
    layouts = {"table-8": preservation_layout(table), "table-8-paper": paper_layout(table)}
    return Outcome(
        "preserve",
        "Preservation: networks preserved, all other neurons silenced",
        _text(table, baseline),
        {"preservation": table, "controls": controls},
        {name: layout for name, layout in layouts.items() if len(layout)},
        {"preservation": preservation_figure(table, controls)},
    )


def _text(table: pd.DataFrame, baseline: str) -> str:
    lines = [
        f"All neurons except the named ones were silenced (to: {baseline}). The recovered share is 0 % with no neurons "
        "preserved and 100 % for the intact model."
    ]
    points = table[~table["condition"].isin([INTACT, NOTHING])]
    for (task, metric), group in points.groupby(["task", "metric"], sort=False):
        whole = table[(table["task"] == task) & (table["metric"] == metric)].drop_duplicates("condition")
        ends = whole.set_index("condition")["value"]
        descriptions = "; ".join(_describe(row) for row in group.itertuples())
        lines.append(
            f"{task} ({str(metric).replace('_', ' ')}, {group['better'].iloc[0]} is better): intact "
            f"{ends[INTACT]:.3f}, nothing kept {ends[NOTHING]:.3f}, {group['n_items'].iloc[0]} items. {descriptions}."
        )
    tested = points.dropna(subset=["p_better"])
    if len(tested):
        n_q = int((tested["q_better"] <= ALPHA).sum())
        known = tested["q_better"].notna().any()
        few = int(tested["n_controls"].min())
        lines.append(
            f"{n_q} of {len(tested)} points preserve more than their controls at q ≤ {ALPHA} (q is over the points of "
            f"a task; with {few} controls no p can be below {1 / (1 + few):.2g})."
            if known
            else f"No q was computed: {few} controls per point are too few for any p to reach {ALPHA}."
        )
    lines.append(
        "p_better tests whether this set preserves more, and p whether it preserves less, than matched sets, for this "
        "model and these items; intervals are over texts. Larger sets preserve more regardless of their members, so "
        "compare points with their controls first. One model is one subject."
    )
    return "\n\n".join(lines)


def _describe(row: Any) -> str:
    where = f"K = {row.k} of {row.set}" if pd.isna(row.share) else f"strongest {100 * row.share:g} % of {row.set}"
    text = f"{where}, {row.n_neurons} neurons ({100 * row.share_kept:.1f} %)"
    if not row.n_neurons:
        return f"{text}: nothing"
    text += ": no score" if pd.isna(row.value) else f": {row.value:.3f}"
    if pd.notna(row.recovered):
        text += f", {_whole(row.recovered)} recovered"
    if row.n_controls:
        recovered = f"{_whole(row.control_recovered)}, " if pd.notna(row.control_recovered) else ""
        text += f" ({row.control_family} controls {recovered}p_better {row.p_better:.3g})"
    return text


def _whole(share: float) -> str:
    return f"{round(100 * share)} %"
