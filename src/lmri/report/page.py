"""The page: what a study holds, put into words and tables, and through the template."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
import pandas as pd

from lmri import storage
from lmri.comparison import Comparison
from lmri.networks import Network, NetworkSet
from lmri.recording import Recording
from lmri.report import figures
from lmri.scores import ALPHA, INTACT, Scores
from lmri.space import ModelInfo, NeuronSpace

_GENERATOR = '<meta name="generator" content="lmri">'

N_TOP = 8
CONTEXT = 5

TimeCourses = list[tuple[str, int, pd.DataFrame]]
"""Corpus, run (from 1) and a table with a row a volume and a column a network."""


@dataclass(frozen=True)
class Contents:
    """What a report is made of.

    Parameters
    ----------
    model : ModelInfo
        What was recorded.
    recordings : sequence of Recording
        All of them.
    networks : sequence of (dict, NetworkSet)
        Each with its entry: ``name, site, inputs, parameters, results``.
    time_courses : mapping of (site, decomposition) to TimeCourses
        For the top tokens.
    comparisons : sequence of (dict, Comparison)
        Each with its entry.
    scores : sequence of (dict, Scores)
        Each with its entry.
    versions : mapping of str to str
        Of the packages.
    """

    model: ModelInfo
    recordings: Sequence[Recording]
    networks: Sequence[tuple[Mapping[str, Any], NetworkSet]]
    time_courses: Mapping[tuple[str, str], TimeCourses]
    comparisons: Sequence[tuple[Mapping[str, Any], Comparison]]
    scores: Sequence[tuple[Mapping[str, Any], Scores]]
    versions: Mapping[str, str]


def write_report(path: Path, contents: Contents) -> None:
    """Write the report to `path`: one file, nothing outside it is loaded, all text in it escaped."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("lmri.report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["number"] = number
    page = environment.get_template("report.html.j2").render(
        model=contents.model,
        recordings=[_recording(one) for one in contents.recordings],
        sets=[_network_set(info, one, contents) for info, one in contents.networks],
        comparisons=[_comparison(info, one) for info, one in contents.comparisons],
        scores=[_scores(info, one) for info, one in contents.scores],
        sites=sorted({one.space.site for one in contents.recordings}),
        versions=contents.versions,
        n_dummy=sorted({one.info["parameters"]["n_dummy"] for one in contents.recordings}),
    )
    storage.write_text(path, page)


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


def _network_set(info: Mapping[str, Any], networks: NetworkSet, contents: Contents) -> dict[str, Any]:
    decomposition = info["inputs"]["decomposition"]
    own = {one.corpus: one for one in contents.recordings if one.space.site == info["site"]}
    courses = contents.time_courses[info["site"], decomposition]
    table = networks.table
    tops = top_tokens(courses, own)
    cards = [
        _card(network, row, tops[place])
        for place, (network, row) in enumerate(zip(networks, table.to_dict("records"), strict=True))
    ]
    threshold = dict(info["parameters"])
    return {
        "anchor": f"{info['site']}-{info['name']}",
        "name": info["name"],
        "site": info["site"],
        "threshold": threshold.pop("method"),
        "description": threshold.pop("description"),
        "threshold_values": ", ".join(f"{name} = {value:g}" for name, value in threshold.items()),
        "results": networks.info,
        "parameters": networks.info["parameters"],
        "corpora": [corpus for corpus, _, _ in courses],
        "cards": cards,
        "n_empty": sum(card["n_neurons"] == 0 for card in cards),
        "columns": max(1, min(networks.space.n_layers, 12)),
    }


def _card(network: Network, row: Mapping[str, Any], tops: list[dict[str, Any]]) -> dict[str, Any]:
    profile = network.layer_profile()
    card = {
        "name": network.name,
        "n_neurons": network.n_neurons,
        "share": row["share"],
        "n_positive": row["n_positive"],
        "mean_layer": row["mean_layer"],
        "variance": row.get("variance"),
        "skewness": row.get("skewness"),
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
            same = events["text_id"] == events["text_id"].iloc[row]
            before = events["token"][same & (events.index < row)].iloc[-CONTEXT:]
            after = events["token"][same & (events.index > row)].iloc[:CONTEXT]
            tops.append(
                {
                    "before": "".join(before),
                    "token": events["token"].iloc[row],
                    "after": "".join(after),
                    "value": float(column[place]),
                    "corpus": corpus,
                }
            )
        found.append(tops)
    return found


def _comparison(info: Mapping[str, Any], comparison: Comparison) -> dict[str, Any]:
    return {
        "anchor": f"{info['site']}-{info['name']}",
        "site": info["site"],
        "first": comparison.first.method,
        "second": comparison.second.method,
        "mean_r": comparison.mean_r,
        "null_mean": comparison.null_mean,
        "null_95": comparison.null_95,
        "n_above": int(comparison.table["above_null"].sum()),
        "rows": comparison.table.to_dict("records"),
        "has_members": "iou" in comparison.table,
        "figure": figures.comparison_figure(comparison),
    }


def _scores(info: Mapping[str, Any], scores: Scores) -> dict[str, Any]:
    summary = scores.summary()
    lesioned = summary[summary["condition"] != INTACT]
    tested = lesioned[lesioned["p"].notna()]
    return {
        "anchor": f"{info['site']}-{info['name']}-scores",
        "name": info["name"],
        "site": info["site"],
        "intervention": info["parameters"].get("intervention", ""),
        "networks": info["inputs"].get("networks", ""),
        "figure": figures.scores_figure(scores) if len(lesioned) else "",
        "rows": summary.to_dict("records"),
        "labels": scores.label_counts().to_dict("records"),
        "model": scores.model,
        "p_floor": scores.p_floor,
        "controls_needed": scores.controls_needed,
        "floor_too_high": bool(len(tested)) and scores.p_floor > ALPHA,
        "n_tested": len(tested),
        "n_q": int((tested["q"] <= ALPHA).sum()),
    }
