"""Sections on comparisons, evaluations and experiments."""

import base64
import re
from collections.abc import Sequence
from functools import partial
from itertools import groupby
from typing import Any

import pandas as pd

from lmri.lesions.controls.registry import family_words
from lmri.lesions.scores import ALPHA, INTACT, Scores
from lmri.lesions.scores.codec import SCORES_CODEC
from lmri.lesions.scores.figure import scores_figure
from lmri.networks.comparison import AnyComparison, Consensus, CourseComparison
from lmri.networks.comparison.codec import COMPARISON_CODEC
from lmri.report import figures
from lmri.report.environment import plural
from lmri.report.wording import INTERVENTIONS
from lmri.space import ModelInfo
from lmri.space.drawing import Drawing
from lmri.storage.entries import Entry
from lmri.storage.experiments import EXPERIMENT_CODEC
from lmri.storage.freshness import scored_sets
from lmri.storage.layout import Layout
from lmri.storage.outcome import Outcome
from lmri.storage.tolerant import ReportReader

N_ROWS = 200
"""Maximum number of rows per table; the file has all rows."""

_ID = re.compile(r'(\bid="|url\(#|xlink:href="#)')


def prefix_ids(svg: str, prefix: str) -> str:
    """Prefix the ids in a figure, so that figures of one page do not share ids.

    Examples
    --------
    >>> prefix_ids('<g id="a"/><use xlink:href="#a"/>', "f1-")
    '<g id="f1-a"/><use xlink:href="#f1-a"/>'
    """
    return _ID.sub(lambda match: match[1] + prefix, svg)


def comparisons(reader: ReportReader) -> list[dict[str, Any]]:
    """Format every comparison."""
    rows = []
    for entry in reader.entries["comparisons"]:
        description = f"Comparison {entry.name!r} at {entry.site}"
        comparison = reader.attempt(description, partial(reader.study.open, COMPARISON_CODEC, entry.name, entry.site))
        if comparison is not None:
            rows.append(_comparison(entry, comparison))
    return rows


def _comparison(entry: Entry, comparison: AnyComparison) -> dict[str, Any]:
    common = {
        "anchor": f"cmp-{entry.site}-{entry.name}",
        "name": entry.name,
        "site": entry.site,
        "figure": prefix_ids(figures.comparison_figure(comparison), f"cmp-{entry.site}-{entry.name}-"),
    }
    if isinstance(comparison, Consensus):
        return common | {
            "kind": "consensus",
            "names": comparison.names,
            "n_networks": len(comparison.table),
            "n_found_by_all": comparison.n_found_by_all,
            "rows": [
                row | {"maps": [row[name] for name in comparison.names]} for row in comparison.table.to_dict("records")
            ],
            "sets": comparison.overview.to_dict("records"),
        }
    return common | {
        "kind": "time courses" if isinstance(comparison, CourseComparison) else "maps",
        "first": comparison.first.method,
        "second": comparison.second.method,
        "mean_r": comparison.mean_r,
        "null_mean": comparison.null_mean,
        "null_95": comparison.null_95,
        "n_above": int(comparison.table["above_null"].sum()),
        "rows": comparison.table.to_dict("records"),
        "has_members": "iou" in comparison.table,
        "has_overlap": "iou" in comparison.table and bool(comparison.table["iou"].notna().any()),
    }


# -- evaluations ------------------------------------------------------------------------------------------------------


def evaluations(reader: ReportReader) -> list[dict[str, Any]]:
    """Format every evaluation; `is_written_up` marks evaluations that an experiment of the same name shows in full."""
    experiments_ = reader.entries["experiments"]
    written_up = {
        (experiment.site, experiment.name)
        for experiment in experiments_
        if experiment.inputs.get("scores") == experiment.name
    }
    rows = []
    for entry in reader.entries["scores"]:
        description = f"Scores {entry.name!r} at {entry.site}"
        scores = reader.attempt(description, partial(reader.study.open, SCORES_CODEC, entry.name, entry.site))
        if scores is not None:
            neurons = scored_neurons(entry, experiments_)
            rows.append(_scores(entry, scores, neurons, (entry.site, entry.name) in written_up))
    return rows


OTHER_NEURONS = "other neurons"
"""Description of evaluated neurons that belong to no stored network or region."""


def scored_neurons(entry: Entry, experiments: Sequence[Entry]) -> str:
    """Return the names of the evaluated neurons: sets of networks, or regions of interest."""
    regions = [str(roi["name"]) for roi in entry.parameters.get("rois", [])]
    names = scored_sets(entry, experiments) or regions
    return ", ".join(names) or OTHER_NEURONS


def _scores(entry: Entry, scores: Scores, of: str, is_written_up: bool) -> dict[str, Any]:
    summary = scores.summary()
    lesioned = summary[summary["condition"] != INTACT]
    tested = lesioned[lesioned["p"].notna()]
    anchor = f"sc-{entry.site}-{entry.name}"
    draws = bool(len(lesioned)) and not is_written_up
    kind = entry.parameters.get("intervention", "intervention")
    return {
        "anchor": anchor,
        "name": entry.name,
        "site": entry.site,
        "is_written_up": is_written_up,
        "intervention": kind,
        "what": INTERVENTIONS.get(kind, kind),
        "networks": of,
        "figure": prefix_ids(scores_figure(scores), anchor + "-") if draws else "",
        "by_task": _by_task(scores, summary),
        "of_items": _items(summary),
        "labels": scores.label_counts().to_dict("records"),
        "families": [family_words(name) for name in lesioned["control_family"].unique() if name],
        "notes": lesioned.loc[lesioned["note"] != "", ["condition", "note"]].drop_duplicates().to_dict("records"),
        "model": scores.model,
        "p_floor": scores.p_floor,
        "controls_needed": scores.controls_needed,
        "floor_too_high": bool(len(tested)) and scores.p_floor > ALPHA,
        "too_few": bool(len(tested)) and scores.p_floor * _n_together(tested) > ALPHA + 1e-12,
        "n_tested": len(tested),
        "n_q": int((tested["q"] <= ALPHA).sum()),
        "n_controls": int(tested["n_controls"].max()) if len(tested) else 0,
        "tasks": [task.name for task in scores.tasks],
        "n_conditions": int(lesioned["condition"].nunique()),
        "seed": scores.seed,
    }


def _by_task(scores: Scores, summary: pd.DataFrame) -> list[tuple[str, list[dict[Any, Any]]]]:
    """Group the rows by task and metric, with a heading each; the order stays."""
    better = {(task.name, task.metric): "higher" if task.higher_is_better else "lower" for task in scores.tasks}
    groups = []
    for key, rows in groupby(summary.to_dict("records"), lambda row: (row["task"], row["metric"])):
        side = f", {better[key]} is better" if key in better else ""
        groups.append((f"{key[0]}: {key[1].replace('_', ' ')}{side}", list(rows)))
    return groups


def _items(summary: pd.DataFrame) -> str:
    few, most = (int(count) for count in (summary["n_items"].min(), summary["n_items"].max()))
    return plural(most, "item") if few == most else f"{few:,} to {most:,} items"


def _n_together(tested: pd.DataFrame) -> int:
    """Return the largest number of tests that share one q correction: all tests of a task, metric and family."""
    return int(tested.groupby(["task", "metric", "control_family"], dropna=False).size().max())


# -- experiments ------------------------------------------------------------------------------------------------------


def experiments(reader: ReportReader) -> list[dict[str, Any]]:
    """Format every experiment."""
    rows = []
    for entry in reader.entries["experiments"]:
        description = f"Experiment {entry.name!r} at {entry.site}"
        outcome = reader.attempt(description, partial(reader.study.open, EXPERIMENT_CODEC, entry.name, entry.site))
        if outcome is not None:
            other = _other_weights(entry, reader.entries["scores"], reader.study.model)
            rows.append(_experiment(reader.layout, entry, outcome, other))
    return rows


def _other_weights(experiment: Entry, scores: Sequence[Entry], recorded: ModelInfo) -> str:
    """Return a sentence on the evaluated model if its weights differ from the recorded model, else an empty string."""
    for entry in scores:
        scored = entry.results.get("model")
        is_own = (entry.site, entry.name) == (experiment.site, experiment.inputs.get("scores"))
        if is_own and scored and scored["fingerprint"] != recorded.fingerprint:
            return (
                f"The evaluated model was {scored['id']}; its weights ({scored['fingerprint']}) differ from the "
                "recorded model."
            )
    return ""


def _experiment(layout: Layout, entry: Entry, outcome: Outcome, other_weights: str) -> dict[str, Any]:
    """Format an outcome: text, figures, layouts and main table are shown directly, further tables are collapsed."""
    tables = [_table(stem, table) for stem, table in outcome.tables.items()]
    return {
        "anchor": f"exp-{entry.site}-{entry.name}",
        "name": entry.name,
        "site": entry.site,
        "experiment": outcome.experiment,
        "title": outcome.title,
        "paragraphs": [part for part in [other_weights, *outcome.text.split("\n\n")] if part.strip()],
        "parameters": [f"{key} = {value}" for key, value in entry.parameters.items() if value != ""],
        "figures": [_figure(figure) for figure in outcome.figures.values()],
        "layouts": [_table(stem, table) for stem, table in outcome.layouts.items()],
        "main": tables[0] if tables else None,
        "others": tables[1:],
        "folder": layout.relative(entry.folder),
    }


def _figure(figure: Drawing) -> dict[str, str]:
    # Embedded as an image: browsers neither run scripts in it nor load resources for it.
    address = "data:image/svg+xml;base64," + base64.b64encode(figure.svg.encode()).decode()
    return {"address": address, "caption": figure.caption}


def _table(stem: str, table: pd.DataFrame) -> dict[str, Any]:
    """Format a table for the page; text columns are left-aligned."""
    text = [not pd.api.types.is_numeric_dtype(table[column]) for column in table]
    return {
        "stem": stem,
        "columns": list(zip(table.columns, text, strict=True)),
        "rows": [list(zip(row, text, strict=True)) for row in table.head(N_ROWS).itertuples(index=False)],
        "n_left_out": max(0, len(table) - N_ROWS),
    }
