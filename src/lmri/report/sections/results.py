"""Comparisons, evaluations and experiments."""

import base64
import re
from collections.abc import Sequence
from functools import partial
from itertools import groupby
from typing import Any

import pandas as pd

from lmri import storage
from lmri.lesions.controls.registry import family_words
from lmri.lesions.scores import ALPHA, INTACT, Scores
from lmri.lesions.scores.figure import scores_figure
from lmri.lesions.scores.stored import SCORES_CODEC
from lmri.networks.comparison import AnyComparison, Consensus, CourseComparison
from lmri.networks.comparison.stored import COMPARISON_CODEC
from lmri.report import figures
from lmri.report.environment import plural
from lmri.report.wording import INTERVENTIONS
from lmri.space import ModelInfo
from lmri.space.drawing import Drawing
from lmri.storage.entries import Entry
from lmri.storage.experiments import EXPERIMENT_CODEC
from lmri.storage.freshness import scored_sets
from lmri.storage.outcome import Outcome
from lmri.storage.tolerant import ReportReader

N_ROWS = 200
"""More rows of a table are left to its file."""

_ID = re.compile(r'(\bid="|url\(#|xlink:href="#)')


def apart(svg: str, prefix: str) -> str:
    """Give the names within a figure a prefix of its own: figures of one page share them otherwise.

    Examples
    --------
    >>> apart('<g id="a"/><use xlink:href="#a"/>', "f1-")
    '<g id="f1-a"/><use xlink:href="#f1-a"/>'
    """
    return _ID.sub(lambda match: match[1] + prefix, svg)


def comparisons(reader: ReportReader) -> list[dict[str, Any]]:
    """Lay out every comparison."""
    found = []
    for entry in reader.entries["comparisons"]:
        what = f"Comparison {entry.name!r} at {entry.site}"
        comparison = reader.attempt(what, partial(reader.study.open, COMPARISON_CODEC, entry.name, entry.site))
        if comparison is not None:
            found.append(_comparison(entry, comparison))
    return found


def _comparison(entry: Entry, comparison: AnyComparison) -> dict[str, Any]:
    own = {
        "anchor": f"cmp-{entry.site}-{entry.name}",
        "name": entry.name,
        "site": entry.site,
        "figure": apart(figures.comparison_figure(comparison), f"cmp-{entry.site}-{entry.name}-"),
    }
    if isinstance(comparison, Consensus):
        return own | {
            "kind": "consensus",
            "names": comparison.names,
            "n_networks": len(comparison.table),
            "n_found_by_all": comparison.n_found_by_all,
            "rows": [
                row | {"maps": [row[name] for name in comparison.names]} for row in comparison.table.to_dict("records")
            ],
            "sets": comparison.overview.to_dict("records"),
        }
    return own | {
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
    """Lay out every evaluation; those that an experiment of the same name shows whole say so."""
    experiments_ = reader.entries["experiments"]
    written_up = {(one.site, one.name) for one in experiments_ if one.inputs.get("scores") == one.name}
    found = []
    for entry in reader.entries["scores"]:
        what = f"Scores {entry.name!r} at {entry.site}"
        scores = reader.attempt(what, partial(reader.study.open, SCORES_CODEC, entry.name, entry.site))
        if scores is not None:
            of = scored_neurons(entry, experiments_)
            found.append(_scores(entry, scores, of, (entry.site, entry.name) in written_up))
    return found


def scored_neurons(entry: Entry, experiments: Sequence[Entry]) -> str:
    """Say which neurons scores are of: sets of networks, or regions of interest."""
    regions = [str(one["name"]) for one in entry.parameters.get("rois", [])]
    names = scored_sets(entry, experiments) or regions
    return ", ".join(names) or "other neurons"


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
        "figure": apart(scores_figure(scores), anchor + "-") if draws else "",
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
        "tasks": [one.name for one in scores.tasks],
        "n_conditions": int(lesioned["condition"].nunique()),
        "seed": scores.seed,
    }


def _by_task(scores: Scores, summary: pd.DataFrame) -> list[tuple[str, list[dict[Any, Any]]]]:
    """Part the rows by what was scored, and say it in words; the order stays."""
    better = {(one.name, one.metric): "more" if one.higher_is_better else "less" for one in scores.tasks}
    found = []
    for key, rows in groupby(summary.to_dict("records"), lambda row: (row["task"], row["metric"])):
        side = f", {better[key]} is better" if key in better else ""
        found.append((f"{key[0]}: {key[1].replace('_', ' ')}{side}", list(rows)))
    return found


def _items(summary: pd.DataFrame) -> str:
    few, most = (int(one) for one in (summary["n_items"].min(), summary["n_items"].max()))
    return plural(most, "item") if few == most else f"{few:,} to {most:,} items"


def _n_together(tested: pd.DataFrame) -> int:
    """Count the tests among which a single one has to stand out: q is over those of a task, metric and family."""
    return int(tested.groupby(["task", "metric", "control_family"], dropna=False).size().max())


# -- experiments ------------------------------------------------------------------------------------------------------


def experiments(reader: ReportReader) -> list[dict[str, Any]]:
    """Lay out every experiment."""
    found = []
    for entry in reader.entries["experiments"]:
        what = f"Experiment {entry.name!r} at {entry.site}"
        outcome = reader.attempt(what, partial(reader.study.open, EXPERIMENT_CODEC, entry.name, entry.site))
        if outcome is not None:
            other = _other_weights(entry, reader.entries["scores"], reader.study.model)
            found.append(_experiment(entry, outcome, other))
    return found


def _other_weights(experiment: Entry, scores: Sequence[Entry], recorded: ModelInfo) -> str:
    """Say which other weights than the recorded ones an experiment scored, if it did."""
    for one in scores:
        scored = one.results.get("model")
        is_own = (one.site, one.name) == (experiment.site, experiment.inputs.get("scores"))
        if is_own and scored and scored["fingerprint"] != recorded.fingerprint:
            return (
                f"Scored was {scored['id']}, whose weights ({scored['fingerprint']}) are not those that were recorded."
            )
    return ""


def _experiment(entry: Entry, outcome: Outcome, other_weights: str) -> dict[str, Any]:
    """Show an outcome: words, figures and layouts at once, its main table as well, further tables folded."""
    tables = [_table(stem, table) for stem, table in outcome.tables.items()]
    return {
        "anchor": f"exp-{entry.site}-{entry.name}",
        "name": entry.name,
        "site": entry.site,
        "experiment": outcome.experiment,
        "title": outcome.title,
        "paragraphs": [part for part in [other_weights, *outcome.text.split("\n\n")] if part.strip()],
        "parameters": [f"{key} = {value}" for key, value in entry.parameters.items() if value != ""],
        "figures": [_figure(one) for one in outcome.figures.values()],
        "layouts": [_table(stem, table) for stem, table in outcome.layouts.items()],
        "main": tables[0] if tables else None,
        "others": tables[1:],
        "folder": f"lmri/experiments/{storage.bids_label(entry.site)}/{entry.name}",
    }


def _figure(figure: Drawing) -> dict[str, str]:
    # As an image: whatever a stored file may hold, a browser runs nothing in it and loads nothing for it.
    address = "data:image/svg+xml;base64," + base64.b64encode(figure.svg.encode()).decode()
    return {"address": address, "caption": figure.caption}


def _table(stem: str, table: pd.DataFrame) -> dict[str, Any]:
    """Lay a table out for the page; columns of text are set flush left."""
    text = [not pd.api.types.is_numeric_dtype(table[column]) for column in table]
    return {
        "stem": stem,
        "columns": list(zip(table.columns, text, strict=True)),
        "rows": [list(zip(row, text, strict=True)) for row in table.head(N_ROWS).itertuples(index=False)],
        "n_left_out": max(0, len(table) - N_ROWS),
    }
