"""Networks section: a table per set, and per network its map, time course, spectrum, layer profile and neurons."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from lmri.decomposition.confounds import CONFOUNDS
from lmri.networks import Network, NetworkSet
from lmri.networks.codec import NETWORKS_CODEC, source_of, time_courses
from lmri.report import figures
from lmri.report.charts import profile_chart, sparkline
from lmri.report.sections.courses import MOST_VALUES, MOST_VALUES_TOGETHER, Courses
from lmri.report.wording import VIEWS, metric_heading, threshold_words, view_of
from lmri.space import NeuronSpace
from lmri.storage.entries import Entry
from lmri.storage.tolerant import ReportReader

N_NEURONS = 8

MOST_CARDS = 240
FEWEST_CARDS = 12
"""Maximum number of networks shown in detail on a page (shared between sets), and minimum number per set."""

METRICS = {
    "variance": "share of the variance of the standardized data that the map alone explains; overlapping maps share "
    "variance",
    "skewness": "absolute skewness of the map over neurons: about 0 if both tails are equally heavy; {signs}",
    "sign_determined": "{determined}",
    "kurtosis": "excess kurtosis of the map over neurons (0 for a Gaussian)",
    "sparsity": "Hoyer sparsity of the map: 0 if all weights are equal, 1 if only one is nonzero",
    "layer_centre": "mean layer of the whole map, weighted by squared weight",
    "layer_entropy": "normalized entropy of squared weight over layers: 0 if one layer has all of it, 1 if all layers "
    "have the same",
    "top_token_share": "share of the energy of the time course in its largest token; near 1 if the map reflects a "
    "single token",
    "iq": "cluster index over the initializations of the decomposition (ICASSO), at most 1",
    "iq_texts": "cluster index over bootstraps of the texts, at most 1",
    "split_half_r": "median |r| between maps from halves of the texts",
    "split_half_null": "95th percentile of the split-half |r| for arbitrary unmixings of both halves",
    "spectral_peak": "frequency (cycles per {unit}) at which the spectrum most exceeds red noise; none if it does not",
    "converged": "share of initializations that converged",
    "max_abs_t": "the largest |t| over neurons",
    "p_min": "the smallest p over neurons",
    **{f"r_{name}": confound.meaning for name, confound in CONFOUNDS.items()},
}
"""Definitions of the columns of the tables; `_meanings` fills the braces."""

P_VALUES = ("p_min",)


@dataclass(frozen=True)
class Opened:
    """A readable set of networks, its decomposition and its time courses."""

    entry: Entry
    source: Entry
    networks: NetworkSet
    courses: Courses


def opened(reader: ReportReader) -> list[Opened]:
    """Open every complete set of networks; sets of the same decomposition share its time courses."""
    n_cards = sum(int(entry.results.get("n_networks", 0)) for entry in reader.entries["networks"])
    most = min(MOST_VALUES, MOST_VALUES_TOGETHER // max(1, min(n_cards, MOST_CARDS)))
    courses: dict[tuple[str, str], Courses | None] = {}
    sets = []
    for entry in reader.entries["networks"]:
        description = f"Networks {entry.name!r} at {entry.site}"
        networks = reader.attempt(description, partial(reader.study.open, NETWORKS_CODEC, entry.name, entry.site))
        if networks is None:
            continue
        source = source_of(reader.study, entry)
        key = (source.name, source.site)
        if key not in courses:
            courses[key] = reader.attempt(
                f"Time courses of {key[0]!r} at {key[1]}", partial(_courses, reader, *key, most)
            )
        set_courses = courses[key]
        if set_courses is not None:
            sets.append(Opened(entry, source, networks, set_courses))
    return sets


def _courses(reader: ReportReader, name: str, site: str, most: int) -> Courses:
    return Courses(time_courses(reader.study, name, site), reader.inventory.at_site(site), most)


def network_sets(sets: Sequence[Opened]) -> list[dict[str, Any]]:
    """Format all sets for the template."""
    total = sum(len(opened_set.networks) for opened_set in sets)
    most = total if total <= MOST_CARDS else max(FEWEST_CARDS, MOST_CARDS // len(sets))
    return [_network_set(opened_set, most) for opened_set in sets]


def _network_set(opened_set: Opened, most: int) -> dict[str, Any]:
    entry, networks, courses = opened_set.entry, opened_set.networks, opened_set.courses
    anchor = f"set-{entry.site}-{entry.name}"
    threshold = dict(entry.parameters)
    table = networks.table
    shown = _shown(networks, most)
    first_shown = next((number for number in shown if networks.members[number].any()), shown[0] if shown else -1)
    records = table.to_dict("records")
    tops = dict(zip(shown, courses.tops(shown), strict=True))
    rejected = set(threshold.pop("rejected", []))
    by, method = threshold.pop("by", ""), threshold.pop("method")
    cards = [
        _card(networks[number], records[number], courses, number, anchor)
        | {"is_rejected": number in rejected}
        | {"is_open": number == first_shown, "tops": tops[number]}
        for number in shown
    ]
    metrics = networks.metrics.drop(columns=["network", "label"], errors="ignore").dropna(axis="columns", how="all")
    sizes = table["n_neurons"].to_numpy()
    return {
        "anchor": anchor,
        "name": entry.name,
        "site": entry.site,
        "method": networks.origin.method,
        "threshold": by or method,
        "label": threshold.pop("label", ""),
        "description": threshold.pop("description"),
        "limit": threshold_words(by or method, threshold),
        "cutoff": threshold.get("z"),
        "results": networks.origin.as_dict(),
        "parameters": networks.origin.parameters,
        "corpora": courses.corpora(),
        "n_volumes": len(courses.scaled),
        "courses": courses.about(),
        "window": courses.spectra.window,
        "n_segments": courses.spectra.n_segments,
        "cards": cards,
        "rows": _rows(networks, records, metrics, anchor, set(shown)),
        "metric_columns": list(metrics.columns),
        "heads": [metric_heading(name, slice_word(networks.space), courses.unit[0]) for name in metrics],
        "views": [view_of(name) for name in metrics],
        "view_names": {name: words for name, words in VIEWS.items() if name in {"main", *map(view_of, metrics)}},
        "p_columns": P_VALUES,
        "meanings": _meanings(networks, courses, metrics.columns),
        "unit": courses.unit[0],
        "units": courses.unit[1],
        "meaning": courses.meaning if courses.unit[0] == "volume" else "",
        "stat_type": networks.stat_type,
        "has_labels": "label" in table,
        "n_networks": len(networks),
        "n_empty": int((sizes == 0).sum()),
        "n_rejected": len(rejected),
        "slice": slice_word(networks.space),
        "median_size": float(np.median(sizes[sizes > 0])) if (sizes > 0).any() else 0.0,
        "iq": _median(metrics, "iq"),
        "columns": max(1, min(networks.space.n_layers, 12)),
    }


def slice_word(space: NeuronSpace) -> str:
    """Return the noun for a slice: "layer", or "slice" if layers have several, one per expert."""
    return "slice" if any(layer.block is not None for layer in space.layers) else "layer"


def _meanings(networks: NetworkSet, courses: Courses, columns: Sequence[str]) -> dict[str, str]:
    """Return the definitions of the columns of a set, which depend on its signs and on the unit of its volumes."""
    unit, is_t = courses.unit[0], networks.stat_type == "t"
    by_skewness = networks.origin.parameters.get("signs", "skewness") == "skewness"
    signs = "the map is signed so that the heavier tail is positive" if by_skewness else "signs do not depend on it"
    determined = "yes if the data determine which tail is heavier"
    means = unit in ("word", "sentence")
    words = {
        "unit": unit,
        "noun": "token" if courses.meaning.startswith("every ") else unit,
        "signs": "the contrast determines the sign" if is_t else signs,
        "determined": "yes: the contrast determines the sign" if is_t else determined,
        "summed": ", summed over its tokens" if means else "",
        "first": f" of the first token of the {unit}" if means else "",
    }
    slice_ = slice_word(networks.space)
    return {metric_heading(name, slice_, unit): METRICS[name].format(**words) for name in columns if name in METRICS}


def _median(metrics: pd.DataFrame, name: str) -> float | None:
    return float(metrics[name].median()) if name in metrics else None


def _shown(networks: NetworkSet, most: int) -> list[int]:
    """Choose the networks shown in detail: if there are too many, the first non-empty ones, then the first others."""
    numbers = list(range(len(networks)))
    if len(numbers) <= most:
        return numbers
    filled = np.asarray(networks.members.any(axis=1))
    return sorted(sorted(numbers, key=lambda number: (not filled[number], number))[:most])


def _rows(
    networks: NetworkSet, records: Sequence[Mapping[str, Any]], metrics: pd.DataFrame, anchor: str, shown: set[int]
) -> list[dict[str, Any]]:
    """Format the table: one row per network, with exact values of the metrics for sorting."""
    profiles = networks.space.count_per_layer(networks.members)
    # Column by column, so that whole numbers stay whole.
    values = list(zip(*(metrics[column].tolist() for column in metrics), strict=True)) or [()] * len(networks)
    return [
        {
            "name": row["network"],
            "anchor": f"{anchor}--{number:02d}" if number in shown else "",
            "label": row.get("label", ""),
            "spark": sparkline(profiles[number]),
            "n_neurons": row["n_neurons"],
            "n_positive": row["n_positive"],
            "mean_layer": row["mean_layer"],
            "values": values[number],
        }
        for number, row in enumerate(records)
    ]


def _card(network: Network, row: Mapping[str, Any], courses: Courses, number: int, anchor: str) -> dict[str, Any]:
    profile = network.layer_profile()
    card = {
        "anchor": f"{anchor}--{number:02d}",
        "number": f"{number:02d}",
        "name": network.name,
        "label": row.get("label", ""),
        "n_neurons": network.n_neurons,
        "share": row["share"],
        "n_positive": row["n_positive"],
        "mean_layer": row["mean_layer"],
        "variance": row.get("variance"),
        "iq": row.get("iq"),
        "split_half_r": row.get("split_half_r"),
        "sign_determined": bool(row.get("sign_determined", 1)),
        "course": courses.course(number),
        "spectrum": courses.spectrum(number),
    }
    if network.n_neurons:
        space = network.space
        stat_map = np.where(network.members, network.stat_map, 0)
        positive = space.count_per_layer(stat_map > 0)
        strongest = network.neurons().rename(columns={network.stat_type: "value"}).head(N_NEURONS)
        named = [space.layers[z].name.removeprefix("layer ") for z in strongest["layer"]]
        card |= {
            "layers": [
                {"name": layer.name, "img": img, "count": int(count)}
                for layer, img, count in zip(space.layers, figures.lightbox(space, stat_map), profile, strict=True)
            ],
            "strip": figures.strip(space, stat_map),
            "neurons": strongest.assign(layer=named).to_dict("records"),
            "strongest": float(np.abs(stat_map).max()),
            "profile": profile_chart(positive, profile - positive, slice_word(space)),
        }
    return card
