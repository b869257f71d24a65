"""Results on disk: each kind has a writer and a reader that gives back what was written.

`file` turns a suffix into the path of a file of the entry.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from lmri import storage
from lmri.annotation import confound_correlations
from lmri.confounds import joined
from lmri.connectivity import spectra, spectral_peak
from lmri.exceptions import StudyError
from lmri.headers import INTENTS
from lmri.networks import NetworkSet
from lmri.recording import Recording
from lmri.reproducibility import Reproducibility
from lmri.scores import CONDITION_TEXT, ITEM_TEXT, Design, Scores, TaskInfo
from lmri.space import ModelInfo, NeuronSpace
from lmri.study.dataset import recording_digest
from lmri.thresholds import SurrogateNull, map_scores

File = Callable[[str], Path]

_TABLE_OF_MEMBERS = ("network", "n_neurons", "share", "n_positive", "mean_layer")


def names(name: str, n: int) -> list[str]:
    """Names of the networks of a set, counted from 0."""
    return [f"{name}-{number:02d}" for number in range(n)]


# -- decompositions ---------------------------------------------------------------------------------------------------


def decomposition_identity(
    estimator: Any, recordings: Sequence[Recording], n_surrogates: int = 0, n_bootstraps: int = 0, n_splits: int = 0
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Say what a decomposition is a function of: inputs and parameters."""
    hidden = ("space", "n_jobs", "verbose")
    parameters = {name: value for name, value in estimator.get_params().items() if name not in hidden}
    repeats = {"n_surrogates": n_surrogates, "n_bootstraps": n_bootstraps, "n_splits": n_splits}
    inputs = {
        "corpora": [recording.corpus for recording in recordings],
        "recordings_sha256": [recording_digest(recording) for recording in recordings],
    }
    if (confounds := estimator.confounds_digest) is not None:
        inputs["confounds_sha256"] = confounds
        parameters |= {"confounds": estimator.confound_names} if estimator.confound_names else {}
    label = {"label": estimator.label} if hasattr(estimator, "label") else {}  # such as "paper parity"
    return inputs, {"method": estimator.method_name, **parameters, **repeats, **label}


def check_fitted_on(estimator: Any, recordings: Sequence[Recording]) -> None:
    """Refuse an estimator that was not fitted on the images of `recordings`, in this order."""
    lengths = [len(course) for course in estimator.time_courses_]
    volumes = [run.n_volumes for recording in recordings for run in recording.runs]
    runs = [storage.texts_of([run.img]) for recording in recordings for run in recording.runs]
    if lengths != volumes or (any(estimator.fit_texts_by_run_) and estimator.fit_texts_by_run_ != runs):
        corpora = ", ".join(recording.corpus for recording in recordings)
        raise ValueError(
            f"The estimator was fitted on runs of {lengths} volumes; the recordings ({corpora}) have {volumes}, or "
            "other texts. Fit it on the images of these recordings, in this order."
        )


def decomposition_metrics(
    estimator: Any, recordings: Sequence[Recording], found: Reproducibility | None
) -> pd.DataFrame:
    """Put together what is known of each map: of its shape, its stability, its time course and its confounds."""
    courses = estimator.time_courses_
    events = joined(recordings)
    texts = [(table["trial_type"] + "/" + table["text_id"].astype(str)).tolist() for table in events]
    tables = [estimator.metrics_.reset_index(drop=True)]
    if found is not None:
        tables.append(found.metrics)
    tables.append(confound_correlations(courses, events).drop(columns="network"))
    start = estimator.info_["convergence"]
    last = {
        "spectral_peak": spectral_peak(spectra(courses, texts)),
        "converged": start["n_converged"] / start["n_starts"] if start["n_starts"] else np.nan,
    }
    return pd.concat([*tables, pd.DataFrame(last)], axis=1)


def write_decomposition(
    file: File, estimator: Any, recordings: Sequence[Recording], name: str, found: Reproducibility | None
) -> None:
    """Write maps, metrics, time courses and, where they were made, surrogates and the reliability curve.

    Viewers get each map as a 3D image too, and the mean of what was recorded to lay it on.
    """
    space, maps = recordings[0].space, estimator.components_
    is_t = int(estimator.components_img_.header["intent_code"]) == INTENTS["t"]  # a localizer's
    storage.save_img(space.to_img(maps, "t" if is_t else "estimate"), file("components.nii.gz"))
    stat, shown = ("t", maps) if is_t else ("z", map_scores(maps))
    for number, volume in enumerate(shown):
        storage.save_img(space.to_img(volume, stat), file(f"component-{number:02d}_stat-{stat}_statmap.nii.gz"))
    storage.save_img(space.to_img(mean_of(recordings)), file("mean.nii.gz"))
    for suffix, img in getattr(estimator, "extra_imgs_", {}).items():  # such as a localizer's effects and p
        storage.save_img(img, file(suffix))
    metrics = decomposition_metrics(estimator, recordings, found)
    metrics.insert(0, "network", names(name, len(metrics)))
    storage.write_table(file("metrics.tsv"), metrics)
    if (null := getattr(estimator, "null_", None)) is not None:
        storage.write_table(file("null.tsv.gz"), null.to_table())
        storage.write_table(file("null_maps.tsv"), pd.DataFrame({"smallest_q": null.smallest_q}))
    if found is not None:
        storage.write_table(file("reliability.tsv"), found.curve)
    if (order := getattr(estimator, "order_", None)) is not None:
        storage.write_table(file("order.tsv"), order.curves)
    courses = iter(estimator.time_courses_)
    for recording in recordings:
        for run in range(1, len(recording.runs) + 1):
            course = pd.DataFrame(next(courses), columns=list(metrics["network"]))
            storage.write_table(file(_mixing(recording.corpus, run)), course)


def mean_of(recordings: Sequence[Recording]) -> np.ndarray:
    """Average the volumes of all recordings, ``(n_neurons,)``: what maps are laid on in a viewer."""
    total = sum(one.mean * one.n_volumes for one in recordings)
    return np.asarray(total / sum(one.n_volumes for one in recordings))


def read_decomposition(
    file: File, space: NeuronSpace, name: str, info: Mapping[str, Any], fit_texts: frozenset[str]
) -> NetworkSet:
    """Read the maps, not thresholded, with their metrics and surrogates."""
    maps = np.atleast_2d(space.from_img(file("components.nii.gz")))
    metrics = storage.read_table(file("metrics.tsv"), ["network"]).drop(columns="network")
    _check_rows(file("metrics.tsv"), metrics, len(maps))
    null = None
    if (about := info.get("null")) is not None:
        null = partial(read_null, file, n_maps=len(maps), **about)
    return NetworkSet(space, maps, method=name, metrics=metrics, info=info, fit_texts=fit_texts, null=null)


def read_null(file: File, n_values: int, n_surrogates: int, n_maps: int) -> SurrogateNull:
    """Read what the pipeline found in surrogates, each of which has as many maps as the data."""
    smallest_q = storage.read_table(file("null_maps.tsv"))["smallest_q"]
    if len(smallest_q) != n_surrogates * n_maps:
        raise StudyError(
            f"{file('null_maps.tsv')} has {len(smallest_q)} rows for {n_maps} maps of {n_surrogates} surrogates: it "
            "was cut short. Decompose again."
        )
    return SurrogateNull.from_table(storage.read_table(file("null.tsv.gz")), n_values, n_surrogates, smallest_q)


def read_reliability(file: File) -> pd.DataFrame | None:
    """Read the reliability curve, where it was made."""
    path = file("reliability.tsv")
    return storage.read_table(path) if path.is_file() else None


def read_time_courses(file: File, corpus: str, run: int, n_volumes: int) -> pd.DataFrame:
    """Read the time courses of one run: a row a volume, a column a network.

    Raises
    ------
    StudyError
        If there are more or fewer rows than volumes.
    """
    path = file(_mixing(corpus, run))
    table = storage.read_table(path)
    if len(table) != n_volumes:
        raise StudyError(
            f"{path} has {len(table)} rows, and run {run} of {corpus!r} has {n_volumes} volumes. Decompose again, "
            "under another name."
        )
    return table


def _mixing(corpus: str, run: int) -> str:
    return f"task-{corpus}_run-{run:03d}_mixing.tsv"


# -- networks ---------------------------------------------------------------------------------------------------------


def write_networks(file: File, networks: NetworkSet, name: str) -> None:
    """Write weights and members, maps of z (or t) for viewers (4D, and 3D one by one), and tables."""
    space, stat = networks.space, networks.stat
    table = networks.table.assign(network=names(name, len(networks)))
    shown = np.where(networks.members, networks.strength, 0)
    storage.save_img(space.to_img(networks.weights, "estimate"), file("weights.nii.gz"))
    storage.save_img(space.to_img(networks.members), file("members.nii.gz"))
    storage.save_img(space.to_img(shown, stat), file(f"stat-{stat}_statmap.nii.gz"))
    for number, volume in enumerate(shown):
        storage.save_img(space.to_img(volume, stat), file(f"network-{number:02d}_stat-{stat}_statmap.nii.gz"))
    storage.write_table(file("networks.tsv"), table)
    neurons = [one.neurons().assign(network=label) for one, label in zip(networks, table["network"], strict=True)]
    storage.write_table(file("neurons.tsv"), pd.concat(neurons)[["network", "layer", "neuron", "weight", stat]])


def read_networks(
    file: File, space: NeuronSpace, name: str, info: Mapping[str, Any], fit_texts: frozenset[str]
) -> NetworkSet:
    """Read thresholded networks."""
    weights = np.atleast_2d(space.from_img(file("weights.nii.gz")))
    members = np.atleast_2d(space.from_img(file("members.nii.gz"))) > 0
    table = storage.read_table(file("networks.tsv"), ["network"])
    _check_rows(file("networks.tsv"), table, len(weights))
    metrics = table.drop(columns=[column for column in _TABLE_OF_MEMBERS if column in table])
    return NetworkSet(space, weights, members, name, metrics, info, fit_texts)


def _check_rows(path: Path, table: pd.DataFrame, n_maps: int) -> None:
    if len(table) != n_maps:
        raise StudyError(f"{path} has {len(table)} rows for {n_maps} maps: it was cut short. Make the entry again.")


# -- scores -----------------------------------------------------------------------------------------------------------


def write_scores(file: File, scores: Scores) -> None:
    """Write items, conditions, the summary made of them, and label counts if there are labels."""
    storage.write_table(file("items.tsv.gz"), scores.items)
    storage.write_table(file("conditions.tsv"), scores.conditions)
    storage.write_table(file("scores.tsv"), scores.summary())
    if len(labels := scores.label_counts()):
        storage.write_table(file("labels.tsv"), labels)


def read_scores(file: File, info: Mapping[str, Any], seed: int) -> Scores:
    """Read items and conditions; the summary is made of them again."""
    model = ModelInfo(**info["model"]) if info["model"] else None
    items = storage.read_table(file("items.tsv.gz"), ITEM_TEXT)
    conditions = storage.read_table(file("conditions.tsv"), CONDITION_TEXT)
    design = Design(**info.get("design", {}))
    return Scores(items, conditions, [TaskInfo(**task) for task in info["tasks"]], seed, model, design=design)
