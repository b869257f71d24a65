"""API of the viewer: each address returns data or the bytes of an image; all numbers are read from the study."""

import importlib.metadata
import math
import shlex
from collections.abc import Mapping
from typing import Any

import numpy as np
from starlette.exceptions import HTTPException

from lmri import storage
from lmri.networks import LOCALIZER
from lmri.networks import rois as regions
from lmri.networks.thresholds import value_name
from lmri.report.viewer import images, top_tokens
from lmri.report.viewer.cached_reader import CachedReader, source_of
from lmri.report.viewer.query import Answer, Query, network_of, networks_of, recording_of, run_of, set_of, space_of
from lmri.report.viewer.results_api import is_of_maps, matches, roi_img, rois, scores
from lmri.space import NeuronSpace
from lmri.storage.entries import Entry
from lmri.storage.recording import Recording, volume_unit
from lmri.storage.tolerant import Inventory

JSON = dict[str, "JSON"] | list["JSON"] | str | int | float | bool | None
"""Content of a JSON file."""


def plain(content: Any) -> JSON:
    """Convert data for strict JSON: NumPy numbers become Python numbers, and non-finite numbers become None."""
    if isinstance(content, dict):
        return {str(key): plain(value) for key, value in content.items()}
    if isinstance(content, np.ndarray):
        content = content.tolist()
    if isinstance(content, list | tuple):
        return [plain(value) for value in content]
    if isinstance(content, np.generic):
        content = content.item()
    if isinstance(content, float) and not math.isfinite(content):
        return None
    return content


# -- overview ---------------------------------------------------------------------------------------------------------


def study(reader: CachedReader, query: Query) -> dict[str, Any]:
    """Return an overview of one model; ``folder`` has the arguments with which a command finds it."""
    inventory = reader.contents(now=True)  # the page compares it with its own state
    rois = regions.stored(reader.layout)
    problems = [*inventory.problems, *(roi.problem for roi in rois if roi.problem)]
    return {
        "name": reader.layout.root.resolve().name,
        "folder": shlex.join([str(reader.layout.root), *reader.options]),
        "root": str(reader.layout.root.resolve()),
        "state": reader.state(inventory),
        "model": reader.study.model.id,
        "fingerprint": reader.study.model.fingerprint,
        "version": importlib.metadata.version("lmri"),
        "problems": problems,
        "sites": [_site(inventory, site) for site in sorted(inventory.spaces)],
    }


def _site(inventory: Inventory, site: str) -> dict[str, Any]:
    space = inventory.spaces[site]
    return {
        "site": site,
        "geometry": storage.digest(space.to_dict()),
        "shape": list(space.shape),
        "layers": [{"name": layer.name, "width": layer.width} for layer in space.layers],
        "n_neurons": space.n_neurons,
        "corpora": [
            {
                "corpus": corpus,
                "runs": [run.n_volumes for run in recording.runs],
                "unit": volume_unit([recording])[0],
            }
            for (entry_site, corpus), recording in inventory.recordings.items()
            if entry_site == site
        ],
        "sets": [
            _stored_set(inventory, entry)
            for (entry_site, _), entry in inventory.entries["networks"].items()
            if entry_site == site
        ],
        "comparisons": [
            {"name": entry.name, "first": entry.inputs["first"], "second": entry.inputs["second"]}
            for (entry_site, _), entry in inventory.entries["comparisons"].items()
            if entry_site == site and is_of_maps(entry)
        ],
    }


def _stored_set(inventory: Inventory, entry: Entry) -> dict[str, Any]:
    source = source_of(inventory, entry)
    return {
        "name": entry.name,
        "decomposition": source.name,
        "method": source.parameters.get("method", source.name),
        "threshold": threshold_of(entry),
        "stat": "t" if source.parameters.get("method") == LOCALIZER else "z",
        "description": entry.parameters.get("description", ""),
        "corpora": source.inputs["corpora"],
        "n_networks": entry.results.get("n_networks"),
        "n_empty": entry.results.get("n_empty"),
    }


def threshold_of(entry: Entry) -> str:
    """Return the threshold of a set as on the command line, such as ``"z:3"``."""
    parameters = entry.parameters
    method = str(parameters.get("method", "unknown"))
    try:
        name = value_name(method)
    except KeyError:  # of a later version
        return method
    value = parameters.get(name) if name else None
    return method if value is None else f"{method}:{value:g}"


# -- networks ---------------------------------------------------------------------------------------------------------


def networks(reader: CachedReader, query: Query) -> dict[str, Any]:
    """List the networks of a set with their metrics."""
    entry, network_set = networks_of(reader, reader.contents(), query)
    profiles = network_set.space.count_per_layer(network_set.members)
    largest = np.abs(network_set.stat_map).max(axis=1, initial=0)
    parameters = entry.parameters
    rejected = parameters.get("rejected", [])
    rows = [
        {"label": "", "variance": None, "iq": None, **_numbers(row), "max": peak, "profile": profile}
        | {"rejected": number in rejected}
        for number, (row, peak, profile) in enumerate(
            zip(network_set.table.to_dict("records"), largest, profiles, strict=True)
        )
    ]
    return {
        "networks": rows,
        "threshold": threshold_of(entry),
        "z": parameters["z"] if parameters.get("method") in ("z", "z_positive") else None,
        "description": parameters.get("description", ""),
    }


def _numbers(row: Mapping[Any, Any]) -> dict[str, Any]:
    renamed = {"network": "name"}
    return {renamed.get(str(key), str(key)): value for key, value in row.items()}


def _map_values(
    reader: CachedReader, inventory: Inventory, query: Query, members: bool
) -> tuple[NeuronSpace, np.ndarray, str]:
    _, network_set, number = network_of(reader, inventory, query)
    stat_map = network_set[number].stat_map
    return (
        network_set.space,
        np.where(network_set.members[number], stat_map, 0) if members else stat_map,
        network_set.stat_type,
    )


def map_img(reader: CachedReader, query: Query) -> bytes:
    """Return the unthresholded map of a network: z, or t of a localizer."""
    space, values, stat = _map_values(reader, reader.contents(), query, members=False)
    return images.packed(space.to_img(values, stat))


def members_img(reader: CachedReader, query: Query) -> bytes:
    """Return the map of a network, z or t of a localizer, with 0 for neurons that are not members."""
    space, values, stat = _map_values(reader, reader.contents(), query, members=True)
    return images.packed(space.to_img(values, stat))


def course(reader: CachedReader, query: Query) -> dict[str, Any]:
    """Return the time course of a network in one run, in standard deviations of its time course over all runs."""
    inventory = reader.contents()
    entry, network_set, number = network_of(reader, inventory, query)
    recording = recording_of(inventory, query)
    corpora = source_of(inventory, entry).inputs["corpora"]
    if recording.corpus not in corpora:
        raise HTTPException(
            404,
            f"{entry.name!r} was computed from {', '.join(corpora)}, not from {recording.corpus!r}.",
        )
    run = top_tokens.Run(recording.corpus, run_of(recording, query))
    return {
        "values": reader.courses(inventory, entry)[run][:, number],
        "unit": "sd",
        "network": network_set.names[number],
    }


def tops(reader: CachedReader, query: Query) -> dict[str, list[dict[str, Any]]]:
    """Return the tokens with the highest and lowest values of a network's time course, with their context."""
    inventory = reader.contents()
    entry, network_set, number = network_of(reader, inventory, query)
    courses = [(run, values[:, number]) for run, values in reader.courses(inventory, entry).items()]
    return top_tokens.tops(courses, reader.around(inventory, network_set.space.site))


# -- recordings -------------------------------------------------------------------------------------------------------


def mask_img(reader: CachedReader, query: Query) -> bytes:
    """Return the mask of voxels that contain a neuron."""
    return images.packed(space_of(reader.contents(), query).mask_img)


def mean_img(reader: CachedReader, query: Query) -> bytes:
    """Return the mean of every neuron over all runs of a corpus."""
    recording = recording_of(reader.contents(), query)
    return images.packed(recording.space.to_img(reader.mean(recording)))


def _volume_values(inventory: Inventory, query: Query) -> tuple[NeuronSpace, np.ndarray]:
    recording = recording_of(inventory, query)
    run = recording.runs[run_of(recording, query) - 1]
    volume = query.number("volume", 0, run.n_volumes - 1)
    return recording.space, images.values_of(recording.space, run.img, volume)


def volume_img(reader: CachedReader, query: Query) -> bytes:
    """Return one volume of a run."""
    space, values = _volume_values(reader.contents(), query)
    return bytes(space.to_img(values).to_bytes())


def slices(reader: CachedReader, query: Query) -> dict[str, Any]:
    """Return the values of an image by slice."""
    kind, inventory = query.text("kind"), reader.contents()
    if kind in ("map", "members"):
        space, values, _ = _map_values(reader, inventory, query, kind == "members")
    elif kind == "mean":
        recording = recording_of(inventory, query)
        space, values = recording.space, reader.mean(recording)
    elif kind == "volume":
        space, values = _volume_values(inventory, query)
    else:
        raise HTTPException(400, f"kind is {kind!r}; accepted values are map, members, mean and volume.")
    return {"shape": list(space.shape), "values": images.slices(space, np.asarray(values, dtype=np.float32))}


def tokens(reader: CachedReader, query: Query) -> dict[str, Any]:
    """Return the token of every volume of a run, and the first volume of each text."""
    recording = recording_of(reader.contents(), query)
    events = reader.events(recording, run_of(recording, query))
    text_ids, starts = top_tokens.text_starts(list(events["text_id"]))
    return {"tokens": list(events["token"]), "text_ids": text_ids, "text_starts": starts}


def neuron(reader: CachedReader, query: Query) -> dict[str, Any]:
    """Return the time course of one neuron in one run; mean, sd and top tokens are over all runs of the corpus.

    ``baseline`` has the mean and sd for scaling the time course: if a set is named, over the same corpora as the time
    courses of its networks.
    """
    inventory = reader.contents()
    recording = recording_of(inventory, query)
    space, number = recording.space, run_of(recording, query)
    layer = query.number("layer", 0, space.n_layers - 1)
    neuron_number = query.number("neuron", 0, space.widths[layer] - 1)

    def read(recording: Recording) -> list[np.ndarray]:
        return [images.course_of(space, run.img, layer, neuron_number, run.n_volumes) for run in recording.runs]

    values = read(recording)
    courses = [
        (top_tokens.Run(recording.corpus, run_number), course) for run_number, course in enumerate(values, start=1)
    ]
    stacked = np.concatenate(values).astype(np.float64)
    corpora = _scaled_by(inventory, query, recording)
    others = [read(inventory.recordings[space.site, corpus]) for corpus in corpora if corpus != recording.corpus]
    base = np.concatenate([stacked, *(course for runs in others for course in runs)])
    return {
        "layer": layer,
        "layer_name": space.layers[layer].name,
        "neuron": neuron_number,
        "values": courses[number - 1][1],
        "mean": stacked.mean(),
        "sd": stacked.std(),
        "baseline": {"corpora": corpora, "mean": base.mean(), "sd": base.std()},
        **top_tokens.tops(courses, reader.around(inventory, space.site)),
    }


def _scaled_by(inventory: Inventory, query: Query, recording: Recording) -> list[str]:
    """List the corpora that scale the time courses; only the corpus shown, if the set has no time course in it."""
    if not query.has("set"):
        return [recording.corpus]
    corpora = list(source_of(inventory, set_of(inventory, query)).inputs["corpora"])
    complete = all((recording.space.site, corpus) in inventory.recordings for corpus in corpora)
    return corpora if recording.corpus in corpora and complete else [recording.corpus]


ANSWERS: dict[str, Answer] = {
    "study": study,
    "networks": networks,
    "map.nii.gz": map_img,
    "members.nii.gz": members_img,
    "mean.nii.gz": mean_img,
    "mask.nii.gz": mask_img,
    "volume.nii": volume_img,
    "slices": slices,
    "tokens": tokens,
    "course": course,
    "tops": tops,
    "neuron": neuron,
    "scores": scores,
    "matches": matches,
    "rois": rois,
    "roi.nii.gz": roi_img,
}
"""Functions by address below ``/api/``."""
