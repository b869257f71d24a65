"""What is answered at which address, as plain data or as the bytes of an image; every number is one of the study's."""

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
from lmri.report.viewer import images, words
from lmri.report.viewer.asking import Answer, Query, network_of, networks_of, recording_of, run_of, set_of, space_of
from lmri.report.viewer.cached_reader import CachedReader, source_of
from lmri.report.viewer.outcomes import is_of_maps, matches, roi_img, rois, scores
from lmri.space import NeuronSpace
from lmri.storage.entries import Entry
from lmri.storage.recording import Recording, volume_unit
from lmri.storage.tolerant import Inventory


def plain(content: Any) -> Any:
    """Make data ready for strict JSON: numbers of numpy become numbers, and what is not finite becomes null."""
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
    """Say what is in the study."""
    found = reader.contents(now=True)  # the page compares it with what it shows
    rois = regions.stored(reader.layout)
    problems = [*found.problems, *(one.problem for one in rois if one.problem)]
    return {
        "name": reader.layout.root.resolve().name,
        "folder": shlex.quote(str(reader.layout.root)),
        "root": str(reader.layout.root.resolve()),
        "state": reader.state(found),
        "model": reader.study.model.id,
        "fingerprint": reader.study.model.fingerprint,
        "version": importlib.metadata.version("lmri"),
        "problems": problems,
        "sites": [_site(found, site) for site in sorted(found.spaces)],
    }


def _site(found: Inventory, site: str) -> dict[str, Any]:
    space = found.spaces[site]
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
            for (at, corpus), recording in found.recordings.items()
            if at == site
        ],
        "sets": [_stored_set(found, entry) for (at, _), entry in found.entries["networks"].items() if at == site],
        "comparisons": [
            {"name": entry.name, "first": entry.inputs["first"], "second": entry.inputs["second"]}
            for (at, _), entry in found.entries["comparisons"].items()
            if at == site and is_of_maps(entry)
        ],
    }


def _stored_set(found: Inventory, entry: Entry) -> dict[str, Any]:
    source = source_of(found, entry)
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
    """Name the threshold of a set as the command line does, such as ``"z:3"``."""
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
    entry, found = networks_of(reader, reader.contents(), query)
    profiles = found.space.count_per_layer(found.members)
    largest = np.abs(found.strength).max(axis=1, initial=0)
    parameters = entry.parameters
    rejected = parameters.get("rejected", [])
    rows = [
        {"label": "", "variance": None, "iq": None, **_numbers(row), "max": one, "profile": profile}
        | {"rejected": number in rejected}
        for number, (row, one, profile) in enumerate(
            zip(found.table.to_dict("records"), largest, profiles, strict=True)
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
    reader: CachedReader, found: Inventory, query: Query, members: bool
) -> tuple[NeuronSpace, np.ndarray, str]:
    _, one, number = network_of(reader, found, query)
    strength = one[number].strength
    return one.space, np.where(one.members[number], strength, 0) if members else strength, one.stat


def map_img(reader: CachedReader, query: Query) -> bytes:
    """Give the map of a network, unthresholded: z, or t of a localizer."""
    space, values, stat = _map_values(reader, reader.contents(), query, members=False)
    return images.packed(space.to_img(values, stat))


def members_img(reader: CachedReader, query: Query) -> bytes:
    """Give the map of a network's members, 0 elsewhere: z, or t of a localizer."""
    space, values, stat = _map_values(reader, reader.contents(), query, members=True)
    return images.packed(space.to_img(values, stat))


def course(reader: CachedReader, query: Query) -> dict[str, Any]:
    """Give the time course of a network in one run, in standard deviations of its whole time course."""
    found = reader.contents()
    entry, own, number = network_of(reader, found, query)
    recording = recording_of(found, query)
    corpora = source_of(found, entry).inputs["corpora"]
    if recording.corpus not in corpora:
        raise HTTPException(
            404, f"{recording.corpus!r} was not decomposed for {entry.name!r}, which was found in {', '.join(corpora)}."
        )
    run = words.Run(recording.corpus, run_of(recording, query))
    return {"values": reader.courses(found, entry)[run][:, number], "unit": "sd", "network": own.names[number]}


def tops(reader: CachedReader, query: Query) -> dict[str, list[dict[str, Any]]]:
    """Give the tokens at which the time course of a network is highest, and lowest, over all runs, in their text."""
    found = reader.contents()
    entry, own, number = network_of(reader, found, query)
    courses = [(run, values[:, number]) for run, values in reader.courses(found, entry).items()]
    return words.tops(courses, reader.around(found, own.space.site))


# -- recordings -------------------------------------------------------------------------------------------------------


def mask_img(reader: CachedReader, query: Query) -> bytes:
    """Give the mask: which voxels hold a neuron."""
    return images.packed(space_of(reader.contents(), query).mask_img)


def mean_img(reader: CachedReader, query: Query) -> bytes:
    """Give the mean of every neuron over all runs of a corpus."""
    recording = recording_of(reader.contents(), query)
    return images.packed(recording.space.to_img(reader.mean(recording)))


def _volume_values(found: Inventory, query: Query) -> tuple[NeuronSpace, np.ndarray]:
    recording = recording_of(found, query)
    run = recording.runs[run_of(recording, query) - 1]
    volume = query.number("volume", 0, run.n_volumes - 1)
    return recording.space, images.values_of(recording.space, run.img, volume)


def volume_img(reader: CachedReader, query: Query) -> bytes:
    """Give one volume of a run."""
    space, values = _volume_values(reader.contents(), query)
    return bytes(space.to_img(values).to_bytes())


def slices(reader: CachedReader, query: Query) -> dict[str, Any]:
    """Give the numbers of an image, slice by slice."""
    kind, found = query.text("kind"), reader.contents()
    if kind in ("map", "members"):
        space, values, _ = _map_values(reader, found, query, kind == "members")
    elif kind == "mean":
        recording = recording_of(found, query)
        space, values = recording.space, reader.mean(recording)
    elif kind == "volume":
        space, values = _volume_values(found, query)
    else:
        raise HTTPException(400, f"kind is {kind!r}; accepted are map, members, mean and volume.")
    return {"shape": list(space.shape), "values": images.slices(space, np.asarray(values, dtype=np.float32))}


def tokens(reader: CachedReader, query: Query) -> dict[str, Any]:
    """Give the token of every volume of a run, and where texts begin."""
    recording = recording_of(reader.contents(), query)
    events = reader.events(recording, run_of(recording, query))
    text_ids, starts = words.text_starts(list(events["text_id"]))
    return {"tokens": list(events["token"]), "text_ids": text_ids, "text_starts": starts}


def neuron(reader: CachedReader, query: Query) -> dict[str, Any]:
    """Give the time course of one neuron in one run; mean, sd and top tokens are over all runs of the corpus.

    ``baseline`` is what its course is to be scaled by: if a set is named, over the corpora that the courses of its
    networks are scaled by.
    """
    found = reader.contents()
    recording = recording_of(found, query)
    space, number = recording.space, run_of(recording, query)
    layer = query.number("layer", 0, space.n_layers - 1)
    place = query.number("neuron", 0, space.widths[layer] - 1)

    def read(recording: Recording) -> list[np.ndarray]:
        return [images.course_of(space, run.img, layer, place, run.n_volumes) for run in recording.runs]

    values = read(recording)
    courses = [(words.Run(recording.corpus, one), own) for one, own in enumerate(values, start=1)]
    stacked = np.concatenate(values).astype(np.float64)
    corpora = _scaled_by(found, query, recording)
    others = [read(found.recordings[space.site, corpus]) for corpus in corpora if corpus != recording.corpus]
    base = np.concatenate([stacked, *(own for runs in others for own in runs)])
    return {
        "layer": layer,
        "layer_name": space.layers[layer].name,
        "neuron": place,
        "values": courses[number - 1][1],
        "mean": stacked.mean(),
        "sd": stacked.std(),
        "baseline": {"corpora": corpora, "mean": base.mean(), "sd": base.std()},
        **words.tops(courses, reader.around(found, space.site)),
    }


def _scaled_by(found: Inventory, query: Query, recording: Recording) -> list[str]:
    """List the corpora that time courses are scaled by; the one shown alone, where the set has no course there."""
    if not query.has("set"):
        return [recording.corpus]
    corpora = list(source_of(found, set_of(found, query)).inputs["corpora"])
    whole = all((recording.space.site, corpus) in found.recordings for corpus in corpora)
    return corpora if recording.corpus in corpora and whole else [recording.corpus]


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
"""By the address below ``/api/``."""
