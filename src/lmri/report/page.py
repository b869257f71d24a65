"""The page: what a study holds, put into words and tables, and through the template."""

import base64
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
import pandas as pd

from lmri import storage
from lmri.comparison import AnyComparison, Consensus, CourseComparison
from lmri.controls import FAMILIES
from lmri.exceptions import StudyError
from lmri.networks import Network
from lmri.outcome import Drawing, Outcome
from lmri.recording import Recording
from lmri.report import figures
from lmri.scores import ALPHA, INTACT, Scores
from lmri.space import ModelInfo, NeuronSpace
from lmri.study import Entry, Study

_GENERATOR = '<meta name="generator" content="lmri">'

N_TOP = 8
CONTEXT = 8
N_ROWS = 200
"""More rows of a table are left to its file."""

TimeCourses = list[tuple[str, int, pd.DataFrame]]
"""Corpus, run (from 1) and a table with a row a volume and a column a network."""


def write_report(study: Study, path: Path) -> Path:
    """Write the report of a study: one file, nothing outside it is loaded, all text in it escaped.

    Parameters
    ----------
    study : Study
        What is shown: everything that is in it.
    path : Path
        A new file, or an older report.

    Returns
    -------
    Path
        The same.

    Raises
    ------
    StudyError
        If `path` is another file, or an entry of the study does not belong to what it was made from.
    """
    if path.exists() and not is_report(path):
        raise StudyError(f"{path} exists and is not a report. Nothing was overwritten: choose another --out.")
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("lmri.report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["number"] = number
    recordings = study.recordings()
    entries = {kind: study.entries.list(kind) for kind in storage.ENTRY_KINDS}
    evaluations = [_scores(one, study.scores(one.name, one.site)) for one in entries["scores"]]
    written_up = _written_up(entries["experiments"])
    page = environment.get_template("report.html.j2").render(
        model=study.model,
        recordings=[_recording(one) for one in recordings],
        sets=[_network_set(study, one) for one in entries["networks"]],
        comparisons=[_comparison(one, study.comparison(one.name, one.site)) for one in entries["comparisons"]],
        evaluations=evaluations,
        scores=[one for one in evaluations if (one["site"], one["name"]) not in written_up],
        experiments=[
            _experiment(one, study.experiment(one.name, one.site), _other_weights(one, entries["scores"], study.model))
            for one in entries["experiments"]
        ],
        sites=study.sites,
        recorded_with=", ".join(sorted({one.info["versions"]["lmri"] for one in recordings})),
        version=storage.versions()["lmri"],
        version_groups=_by_versions([*entries["decompositions"], *entries["scores"], *entries["experiments"]]),
        n_dummy=sorted({one.info["parameters"]["n_dummy"] for one in recordings}),
    )
    storage.write_text(path, page)
    return path


def _written_up(experiments: Sequence[Entry]) -> set[tuple[str, str]]:
    """Find the evaluations, by site and name, that an experiment of the same name shows whole."""
    return {(one.site, one.name) for one in experiments if one.info["inputs"].get("scores") == one.name}


def _by_versions(entries: Sequence[Entry]) -> list[tuple[list[tuple[str, str]], str]]:
    """Group entries by the versions that they were made with."""
    groups: dict[tuple[tuple[str, str], ...], list[str]] = {}
    for entry in entries:
        groups.setdefault(tuple(entry.info["versions"].items()), []).append(f"{entry.name} at {entry.site}")
    return [(list(versions), ", ".join(names)) for versions, names in groups.items()]


def is_report(path: Path) -> bool:
    """Say whether a file is a report, which may be written again."""
    with path.open("rb") as stream:
        return _GENERATOR.encode() in stream.read(1000)


def number(value: Any, digits: int = 3) -> str:
    """Show a number as tables do: a dash where there is none."""
    if value is None or (isinstance(value, float | np.floating) and not np.isfinite(value)):
        return "–"
    if isinstance(value, int | np.integer):
        return f"{value:,}"
    return f"{value:.{digits}f}".replace("-", "−")


def _recording(recording: Recording) -> dict[str, Any]:
    texts = recording.texts
    return {
        "corpus": recording.corpus,
        "site": recording.space.site,
        "neurons": _widths(recording.space),
        "grid": " × ".join(map(str, recording.space.shape)),
        "n_fit": int((texts["split"] == "fit").sum()),
        "n_test": int((texts["split"] == "test").sum()),
        "n_runs": len(recording.runs),
        "n_volumes": recording.n_volumes,
        "n_cut": int((texts["n_cut"] > 0).sum()),
    }


def _widths(space: NeuronSpace) -> str:
    low, high = min(space.widths), max(space.widths)
    return f"{space.n_layers} × {low}" if low == high else f"{space.n_layers} × {low} to {high}"


def _network_set(study: Study, entry: Entry) -> dict[str, Any]:
    networks = study.networks(entry.name, entry.site)
    decomposition = study.entries.find("decompositions", entry.info["inputs"]["decomposition"], entry.site)
    courses = study.time_courses(decomposition.name, entry.site)
    tops = top_tokens(courses, {one.corpus: one for one in study.recordings(entry.site)})
    cards = [
        _card(network, row, own)
        for network, row, own in zip(networks, networks.table.to_dict("records"), tops, strict=True)
    ]
    threshold = dict(entry.info["parameters"])
    metrics = networks.metrics.drop(columns=["network", "label"], errors="ignore").dropna(axis="columns", how="all")
    curve = study.reliability(decomposition.name, entry.site)
    return {
        "anchor": f"{entry.site}-{entry.name}",
        "name": entry.name,
        "site": entry.site,
        "threshold": threshold.pop("method"),
        "label": threshold.pop("label", ""),
        "description": threshold.pop("description"),
        "threshold_values": ", ".join(f"{name} = {value:g}" for name, value in threshold.items()),
        "results": networks.info,
        "parameters": networks.info["parameters"],
        "versions": decomposition.info["versions"],
        "corpora": decomposition.info["inputs"]["corpora"],
        "cards": cards,
        "metric_columns": list(metrics.columns),
        "metrics": metrics.assign(network=networks.names).to_dict("records"),
        "reliability": None if curve is None or not len(curve) else figures.reliability_figure(curve),
        "n_empty": sum(card["n_neurons"] == 0 for card in cards),
        "first_shown": next((card["name"] for card in cards if card["n_neurons"]), ""),
        "columns": max(1, min(networks.space.n_layers, 12)),
    }


def _card(network: Network, row: Mapping[str, Any], tops: list[dict[str, Any]]) -> dict[str, Any]:
    profile = network.layer_profile()
    card = {
        "name": network.name,
        "label": row.get("label", ""),
        "n_neurons": network.n_neurons,
        "share": row["share"],
        "n_positive": row["n_positive"],
        "mean_layer": row["mean_layer"],
        "variance": row.get("variance"),
        "skewness": row.get("skewness"),
        "iq": row.get("iq"),
        "split_half_r": row.get("split_half_r"),
        "sign_determined": bool(row.get("sign_determined", 1)),
        "tops": tops,
    }
    if network.n_neurons:
        card |= {
            "layers": [
                {"name": layer.name, "img": img, "count": int(count), "height": float(count / profile.max())}
                for layer, img, count in zip(network.space.layers, figures.lightbox(network), profile, strict=True)
            ],
            "strip": figures.strip(network),
            "neurons": network.neurons().head(N_TOP).to_dict("records"),
            "max_z": float(np.abs(network.z[network.members]).max()),
            "profile": ", ".join(
                f"{count} in {layer.name}" for count, layer in zip(profile, network.space.layers, strict=True)
            ),
        }
    return card


def top_tokens(courses: TimeCourses, recordings: Mapping[str, Recording]) -> list[list[dict[str, Any]]]:
    """Find, for every network, the tokens at which its time course is highest, with the text around them.

    Returns
    -------
    list of list of dict
        ``before, token, after, value, corpus``; values in standard deviations of the network's whole time course.
    """
    stacked = np.concatenate([table.to_numpy() for _, _, table in courses])  # (n_volumes, n_networks)
    origin = [(corpus, run, row) for corpus, run, table in courses for row in range(len(table))]
    sd = stacked.std(axis=0)
    scaled = np.divide(stacked, sd, out=np.zeros_like(stacked), where=sd > 0)
    found = []
    for column in scaled.T:
        tops = []
        for place in np.argsort(-column, kind="stable")[:N_TOP]:
            corpus, run, row = origin[place]
            events = recordings[corpus].events[run - 1]
            before, token, after = _context(recordings[corpus], events, row)
            value = float(column[place])
            tops.append({"before": before, "token": token, "after": after, "value": value, "corpus": corpus})
        found.append(tops)
    return found


def _context(recording: Recording, events: pd.DataFrame, row: int) -> tuple[str, str, str]:
    """Cut a token out of its text, with a few tokens on either side."""
    own = events[events["text_id"] == events["text_id"].iloc[row]]
    place = int(own.index.get_loc(row))
    near = own.iloc[max(0, place - CONTEXT) : place + CONTEXT + 1]
    start, end = int(own["start"].iloc[place]), int(own["end"].iloc[place])
    if (near["start"] < 0).any() or start == end:  # a tokenizer that cannot tell where a token stands
        words = list(near["token"])
        middle = min(place, CONTEXT)
        return " ".join(words[:middle]), words[middle], " ".join(words[middle + 1 :])
    texts = recording.texts
    text = texts.loc[texts["text_id"] == events["text_id"].iloc[row], "text"].iloc[0]
    return text[int(near["start"].iloc[0]) : start], text[start:end], text[end : int(near["end"].iloc[-1])]


def _comparison(entry: Entry, comparison: AnyComparison) -> dict[str, Any]:
    own = {"anchor": f"{entry.site}-{entry.name}", "site": entry.site, "figure": figures.comparison_figure(comparison)}
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
    }


def _scores(entry: Entry, scores: Scores) -> dict[str, Any]:
    summary = scores.summary()
    lesioned = summary[summary["condition"] != INTACT]
    tested = lesioned[lesioned["p"].notna()]
    return {
        "anchor": f"{entry.site}-{entry.name}-scores",
        "name": entry.name,
        "site": entry.site,
        "intervention": entry.info["parameters"].get("intervention", "intervention"),
        "networks": entry.info["inputs"].get("networks", "other neurons"),
        "versions": entry.info["versions"],
        "figure": figures.scores_figure(scores) if len(lesioned) else "",
        "rows": summary.to_dict("records"),
        "labels": scores.label_counts().to_dict("records"),
        "families": [FAMILIES.get(name, name) for name in lesioned["control_family"].unique() if name],
        "notes": lesioned.loc[lesioned["note"] != "", ["condition", "note"]].drop_duplicates().to_dict("records"),
        "model": scores.model,
        "p_floor": scores.p_floor,
        "controls_needed": scores.controls_needed,
        "floor_too_high": bool(len(tested)) and scores.p_floor > ALPHA,
        "n_tested": len(tested),
        "n_q": int((tested["q"] <= ALPHA).sum()),
    }


def _other_weights(experiment: Entry, scores: Sequence[Entry], recorded: ModelInfo) -> str:
    """Say which other weights than the recorded ones an experiment scored, if it did."""
    for one in scores:
        scored = one.info["results"]["model"]
        is_own = (one.site, one.name) == (experiment.site, experiment.info["inputs"].get("scores"))
        if is_own and scored and scored["fingerprint"] != recorded.fingerprint:
            return (
                f"Scored was {scored['id']}, whose weights ({scored['fingerprint']}) are not those that were recorded."
            )
    return ""


def _experiment(entry: Entry, outcome: Outcome, other_weights: str) -> dict[str, Any]:
    """Show an outcome: words, figures and layouts at once, its main table as well, further tables folded."""
    tables = [_table(stem, table) for stem, table in outcome.tables.items()]
    return {
        "anchor": f"{entry.site}-{entry.name}-experiment",
        "name": entry.name,
        "site": entry.site,
        "experiment": outcome.experiment,
        "title": outcome.title,
        "paragraphs": [part for part in [other_weights, *outcome.text.split("\n\n")] if part.strip()],
        "parameters": ", ".join(f"{key} = {value}" for key, value in entry.info["parameters"].items() if value != ""),
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
