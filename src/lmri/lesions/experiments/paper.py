"""The paper's tables with its published values alongside; its settings are in `lmri.decomposition.parity`.

Published values are from arXiv 2502.20408v1. They are shown only where task and metric are the same: accuracy with
accuracy, and F1 of answers with F1 of answers. Model, texts, prompts and the definition of an answer may still differ,
so the published values are for orientation and not a target. The paper counts generated answers that cannot be parsed
as wrong; here they are excluded, and their share is reported.
"""

import re
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from lmri.decomposition.parity import PARITY, paper_estimator, paper_networks
from lmri.lesions.experiments.paper_values import (
    AG_NEWS_INTACT,
    AG_NEWS_NETWORKS,
    COMPONENTS,
    CORPORA,
    LESIONS,
    MODELS,
    NAMES,
    PRESERVED,
    TASKS,
    TEMPLATES,
)
from lmri.lesions.experiments.parity import check_parity
from lmri.lesions.scores import INTACT, Scores

__all__ = [
    "AG_NEWS_INTACT",
    "AG_NEWS_NETWORKS",
    "COMPONENTS",
    "CORPORA",
    "LESIONS",
    "MODELS",
    "NAMES",
    "PARITY",
    "PRESERVED",
    "TASKS",
    "TEMPLATES",
    "check_model",
    "check_parity",
    "lesion_layout",
    "networks_layout",
    "paper_estimator",
    "paper_networks",
    "paper_task",
    "preserve_layout",
    "templates_layout",
]


def check_model(model: str | None) -> str | None:
    """Check the name of a model of the paper; None if no published values are requested."""
    if model is not None and model not in MODELS:
        raise ValueError(f"The paper's model is {model!r}; choose from {', '.join(MODELS)}, or None.")
    return model


def paper_task(task: str, metric: str) -> str | None:
    """Find the paper's task that is comparable with a row of scores: the same task with the same metric.

    Parameters
    ----------
    task : str
        Name of a task, such as ``"sst2"``.
    metric : str
        Metric of the row.

    Returns
    -------
    str or None
        Task in `TASKS`; None if the paper has no such task, or uses a different metric.

    Examples
    --------
    >>> paper_task("ag-news", "accuracy")
    'ag-news'
    >>> paper_task("cola", "matthews") is None
    True
    """
    plain = task.lower().replace("-", "").replace("_", "").replace("mnlimatched", "mnli")
    known_task = {name.replace("-", ""): name for name in TASKS}.get(plain)
    if known_task is None or metric != ("answer_f1" if known_task == "squad" else "accuracy"):
        return None
    return known_task


def templates_layout(table: pd.DataFrame, model: str | None = None) -> pd.DataFrame:
    """Format counts of templates as Tables 1 to 3: one row per template, one column per corpus.

    Templates of two models do not correspond, so both lists are sorted by their counts over all corpora and aligned by
    rank. The 95 % level of random networks with the same layer profiles follows each count in parentheses. Counts
    depend on the number of single texts, which is given in the headings; the paper has 100.

    Parameters
    ----------
    table : DataFrame
        Templates of one corpus: rows of `CorpusTemplates.table` with one ``templates_of``.
    model : {"gpt2", "qwen2.5-3b", "chatglm3-6b"}, optional
        Model of the paper whose counts are shown alongside.
    """
    if "templates_of" in table and table["templates_of"].nunique() > 1:
        raise ValueError(
            f"The templates come from {', '.join(table['templates_of'].unique())}; a layout accepts one corpus. Make "
            "one layout per corpus."
        )
    model = check_model(model)
    order = table.groupby("template", sort=False)["n_above"].sum().sort_values(ascending=False, kind="stable").index
    columns = {"template (neurons)": [f"{template} ({_first(table, template)['n_template']})" for template in order]}
    for label in dict.fromkeys(table["label"]):
        rows = table[table["label"] == label].set_index("template").loc[order]
        heading = f"{label} ({rows['n_individuals'].iloc[0]} texts)"
        columns[heading] = [f"{row.n_above} ({row.chance_95:g})" for row in rows.itertuples()]
    if model is None:
        return pd.DataFrame(columns)
    theirs = sorted(enumerate(TEMPLATES[model], start=1), key=lambda template: -sum(template[1]))
    columns["paper: template"] = [str(number) for number, _ in theirs]
    for index, corpus in enumerate(CORPORA):
        columns[f"paper: {corpus} (100 texts)"] = [str(counts[index]) for _, counts in theirs]
    return _filled(columns)


def _first(table: pd.DataFrame, template: str) -> pd.Series:
    return table[table["template"] == template].iloc[0]


def networks_layout(scores: Scores | pd.DataFrame, task: str, model: str | None = None) -> pd.DataFrame:
    """Format a task's lesions of single networks as Table 4: network (neurons) → score.

    Networks of two models do not correspond, so both lists are sorted, the most harmful lesion first, and aligned by
    rank.

    Parameters
    ----------
    scores : Scores or DataFrame
        Scores of lesions, or their summary.
    task : str
        Name of the task; published values are shown only for AG News, scored by accuracy.
    model : {"gpt2", "qwen2.5-3b", "chatglm3-6b"}, optional
        Model of the paper; published values exist only for GPT-2.

    Returns
    -------
    DataFrame
        Score and difference from intact, with the 95 % interval over texts.
    """
    model = check_model(model)
    rows = _rows(scores, task)
    metric, better = str(rows["metric"].iloc[0]), _better(scores, task)
    intact = rows[rows["condition"] == INTACT].iloc[0]
    kinds = kinds_of(scores, rows)
    single = rows[[kinds[name] == "network" for name in rows["condition"]]]
    tested = _tested_rows(_summary(scores), task, metric)
    single = single.sort_values("diff", ascending=better, kind="stable", na_position="last")
    shown = [intact, *(row for _, row in single.iterrows())]
    layout = {
        "network (neurons)": ["intact", *(f"{row['condition']} ({int(row['n_neurons'])})" for row in shown[1:])],
        metric.replace("_", " "): [_value(row) for row in shown],
        "difference [95 % over texts]": ["–", *(_difference(row) for row in shown[1:])],
    }
    for family, group in tested.groupby("control_family", sort=False):
        known = group.set_index("condition")
        layout[f"beyond {family} controls [95 %]; p; q"] = [
            "–",
            *(_tested(known.loc[row["condition"]]) if row["condition"] in known.index else "–" for row in shown[1:]),
        ]
    if model == "gpt2" and paper_task(task, metric) == "ag-news":
        theirs = sorted(enumerate(AG_NEWS_NETWORKS, start=1), key=lambda ranked: ranked[1][1])
        layout["paper: network (neurons)"] = ["intact", *(f"{number} ({n})" for number, (n, _) in theirs)]
        layout["paper: accuracy"] = [number(AG_NEWS_INTACT), *(number(value) for _, (_, value) in theirs)]
    return _filled(layout)


def _tested_rows(summary: pd.DataFrame, task: str, metric: str) -> pd.DataFrame:
    """Select the rows of a task's conditions that were tested against controls."""
    return summary[(summary["task"] == task) & (summary["metric"] == metric) & summary["p"].notna()]


def _tested(row: pd.Series) -> str:
    """Format the effect of a condition relative to its controls: effect, interval over texts, p and q."""
    effect = number(row["effect"], "+")
    if np.isfinite(row["effect_low"]):
        effect += f" [{number(row['effect_low'], '+')}, {number(row['effect_high'], '+')}]"
    q = f"{row['q']:.3g}" if np.isfinite(row["q"]) else "–"
    return f"{effect}; {row['p']:.3g}; {q}"


def lesion_layout(scores: Scores | pd.DataFrame, model: str | None = None) -> pd.DataFrame:
    """Format lesions as Tables 5 to 7: task → intact, lesion of random neurons, lesion of the union of all networks.

    Parameters
    ----------
    scores : Scores or DataFrame
        Scores of lesions, or their summary.
    model : {"gpt2", "qwen2.5-3b", "chatglm3-6b"}, optional
        Model of the paper whose values are shown alongside, where task and metric are the same.

    Returns
    -------
    DataFrame
        One row per task and metric: scores, with the difference from intact and its 95 % interval over texts.
    """
    model = check_model(model)
    summary = _summary(scores)
    layout = []
    for (task, metric), rows in summary.groupby(["task", "metric"], sort=False):
        kinds = kinds_of(scores, rows)
        first = rows.drop_duplicates("condition").set_index("condition")
        row = {"task": task, "metric": str(metric).replace("_", " "), "scoring": first["scoring"].iloc[0]}
        row["intact"] = _value(first.loc[INTACT])
        for kind, heading in (("random", "random neurons"), ("union", "all networks")):
            names = [name for name in first.index if kinds[name] == kind]
            row[heading] = "; ".join(_scored(first.loc[name]) for name in names) or "–"
            tested = rows[rows["condition"].isin(names) & rows["p"].notna()]
            if len(tested):
                results = (f"{entry['control_family']}: {_tested(entry)}" for _, entry in tested.iterrows())
                row[f"{heading}, beyond controls [95 %]; p; q"] = "; ".join(results)
        if model is not None:
            theirs = LESIONS[model].get(paper_task(str(task), str(metric)) or "", (None, None, None))
            row |= {f"paper: {name}": number(entry) for name, entry in zip(_LESIONED, theirs, strict=True)}
        layout.append(row)
    return _without_empty(pd.DataFrame(layout))


_LESIONED = ("intact", "random 15 %", "10 networks")


def preserve_layout(by_components: Mapping[int, Scores | pd.DataFrame], model: str | None = None) -> pd.DataFrame:
    """Format preservations as Tables 8 to 10: task × number of components → score (neurons).

    Parameters
    ----------
    by_components : mapping of int to Scores or DataFrame
        Scores, or their summary, of preserving the union of the networks, by the number of components of the
        decomposition.
    model : {"gpt2", "qwen2.5-3b", "chatglm3-6b"}, optional
        Model of the paper whose values are shown alongside, where task, metric and number of components are the same.

    Returns
    -------
    DataFrame
        One row per task and metric: score (neurons), and the difference from intact with its 95 % interval over texts.
    """
    model = check_model(model)
    table: dict[tuple[str, str], dict[str, str]] = {}
    for n_components in sorted(by_components):
        scores = by_components[n_components]
        for (task, metric), rows in _summary(scores).groupby(["task", "metric"], sort=False):
            kinds = kinds_of(scores, rows)
            first = rows.drop_duplicates("condition").set_index("condition")
            union = [name for name in first.index if kinds[name] == "union"]
            if len(union) != 1:
                raise ValueError(
                    f"With {n_components} components, {task!r} has the unions {union}; a layout accepts exactly one. "
                    "Preserve the union of one set of networks."
                )
            cells = table.setdefault((str(task), str(metric)), {"intact": _value(first.loc[INTACT])})
            row = first.loc[union[0]]
            cells[f"K = {n_components}"] = f"{_value(row)} ({int(row['n_neurons'])}); {_difference(row)}"
            if model is None or n_components not in COMPONENTS:
                continue
            theirs = PRESERVED[model].get(paper_task(str(task), str(metric)) or "")
            value, n_neurons = theirs[COMPONENTS.index(n_components)] if theirs else (None, 0)
            cells[f"paper: K = {n_components}"] = f"{number(value)} ({n_neurons})" if value is not None else "–"
    rows = [{"task": task, "metric": metric.replace("_", " "), **cells} for (task, metric), cells in table.items()]
    return _without_empty(pd.DataFrame(rows))


def _summary(scores: Scores | pd.DataFrame) -> pd.DataFrame:
    return scores.summary() if isinstance(scores, Scores) else scores


def _rows(scores: Scores | pd.DataFrame, task: str) -> pd.DataFrame:
    """Select a task's rows with its main metric, one per condition."""
    summary = _summary(scores)
    rows = summary[summary["task"] == task]
    if rows.empty:
        raise ValueError(f"There are no scores of {task!r}; choose from {', '.join(summary['task'].unique())}.")
    return rows[rows["metric"] == rows["metric"].iloc[0]].drop_duplicates("condition")


def kinds_of(scores: Scores | pd.DataFrame, rows: pd.DataFrame) -> dict[str, str]:
    """Return the kind of each condition, from the scores or by the names of unions and random neurons."""
    if isinstance(scores, Scores):
        return {str(name): str(kind) for name, kind in scores.conditions[["condition", "kind"]].to_numpy()}

    def kind(name: str, network: str) -> str:
        if name == INTACT:
            return INTACT
        return (
            "union"
            if network.endswith("-union")
            else "random"
            if re.fullmatch(r"random-[0-9.]+%", network)
            else "network"
        )

    return {str(row.condition): kind(str(row.condition), str(row.network)) for row in rows.itertuples()}


def _better(scores: Scores | pd.DataFrame, task: str) -> bool:
    """Return whether higher is better; for a summary alone, inferred from the name of the metric."""
    if isinstance(scores, Scores):
        return next(info.higher_is_better for info in scores.tasks if info.name == task)
    return not str(_rows(scores, task)["metric"].iloc[0]).startswith(("nats", "perplexity", "loss"))


def _value(row: pd.Series) -> str:
    unread = row.get("unparseable", 0.0)
    return number(row["value"]) + (f" ({unread:.0%} unread)" if np.isfinite(unread) and unread > 0 else "")


def number(value: float | None, sign: str = "") -> str:
    return "–" if value is None or not np.isfinite(value) else f"{value:{sign}.4f}".replace("-", "−")


def _difference(row: pd.Series) -> str:
    interval = f" [{number(row['ci_low'], '+')}, {number(row['ci_high'], '+')}]" if np.isfinite(row["ci_low"]) else ""
    return f"{number(row['diff'], '+')}{interval}"


def _scored(row: pd.Series) -> str:
    return f"{_value(row)} ({int(row['n_neurons'])}); {_difference(row)}"


def _filled(columns: Mapping[str, Sequence[str]]) -> pd.DataFrame:
    """Combine columns of different lengths into a table, padded with dashes."""
    n = max(map(len, columns.values()))
    return pd.DataFrame({name: [*values, *["–"] * (n - len(values))] for name, values in columns.items()})


def _without_empty(layout: pd.DataFrame) -> pd.DataFrame:
    """Drop columns of the paper without values."""
    layout = layout.fillna("–")
    return layout[[name for name in layout if not name.startswith("paper: ") or (layout[name] != "–").any()]]
