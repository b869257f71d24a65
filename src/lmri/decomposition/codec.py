"""Decompositions as entries of a study."""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from lmri import storage
from lmri.decomposition.confounds import joined
from lmri.decomposition.reproducibility import Reproducibility
from lmri.exceptions import DataWarning, StudyError
from lmri.networks import NetworkSet
from lmri.networks.annotation import confound_correlations
from lmri.networks.codec import DECOMPOSITIONS, DecompositionInputs, check_rows, labelled, mixing_suffix, names
from lmri.networks.origin import Origin
from lmri.networks.spectra import spectra, spectral_peak
from lmri.networks.thresholds import SurrogateNull, map_scores
from lmri.space import NeuronSpace
from lmri.space.headers import INTENTS
from lmri.storage.dataset_files import recording_digest
from lmri.storage.entries import RECORDINGS, Codec, Entry, File, Reference, make_address
from lmri.storage.freshness import references_by_name
from lmri.storage.identifiers import GROUP
from lmri.storage.recording import Recording
from lmri.storage.store import Store


def decomposition_identity(
    estimator: Any,
    recordings: Sequence[Recording],
    n_surrogates: int = 0,
    n_bootstraps: int = 0,
    n_splits: int = 0,
    in_group: bool = False,
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the identity of a decomposition: its inputs and parameters.

    Parameters
    ----------
    estimator : Decomposition
        Estimator, fitted or not.
    recordings : sequence of Recording
        Recordings that it is fitted on.
    n_surrogates, n_bootstraps, n_splits : int, default=0
        Repetitions.
    in_group : bool, default=False
        Whether the recordings are of several models, so that their addresses name the model.

    Returns
    -------
    inputs, parameters : dict
        Inputs and parameters of the entry.
    """
    hidden = ("space", "n_jobs", "verbose")
    parameters = {name: value for name, value in estimator.get_params().items() if name not in hidden}
    repeats = {"n_surrogates": n_surrogates, "n_bootstraps": n_bootstraps, "n_splits": n_splits}
    inputs = {
        "corpora": run_addresses(recordings, in_group),
        "recordings_sha256": [recording_digest(recording) for recording in recordings],
    }
    if (confounds := estimator.confounds_digest) is not None:
        inputs["confounds_sha256"] = confounds
        parameters |= {"confounds": estimator.confound_names} if estimator.confound_names else {}
    if (source := getattr(estimator, "source", None)) is not None:  # of a dual regression
        inputs |= {"decomposition": source.name, "decomposition_sha256": source.digest}
    label = {"label": estimator.label} if hasattr(estimator, "label") else {}  # such as "paper parity"
    return inputs, {"method": estimator.method_name, **parameters, **repeats, **label}


def run_addresses(recordings: Sequence[Recording], in_group: bool) -> list[str]:
    """Return the names of recordings in an entry: corpora or, in the group, addresses with model and site."""
    if not in_group:
        return [recording.corpus for recording in recordings]
    return [make_address(recording.scope, recording.corpus, recording.space.site) for recording in recordings]


def check_fitted_on(estimator: Any, recordings: Sequence[Recording]) -> None:
    """Raise an error if an estimator was not fitted on the images of `recordings`, in this order."""
    lengths = [len(course) for course in estimator.time_courses_]
    volumes = [run.n_volumes for recording in recordings for run in recording.runs]
    runs = [storage.texts_of([run.img]) for recording in recordings for run in recording.runs]
    if lengths != volumes or (any(estimator.fit_texts_by_run_) and estimator.fit_texts_by_run_ != runs):
        corpora = ", ".join(recording.corpus for recording in recordings)
        raise ValueError(
            f"The estimator was fitted on runs of {lengths} volumes, but the recordings ({corpora}) have {volumes} "
            "volumes or other texts. Fit it on the images of these recordings, in this order."
        )


def decomposition_metrics(
    estimator: Any, recordings: Sequence[Recording], stability: Reproducibility | None, in_group: bool = False
) -> pd.DataFrame:
    """Collect the metrics of each map: shape, stability, time course and correlation with confounds."""
    courses = estimator.time_courses_
    events = joined(recordings)
    if in_group:  # several models have read the same texts
        scopes = [recording.scope for recording in recordings for _ in recording.runs]
        events = [
            table.assign(text_id=f"{scope}/" + table["text_id"].astype(str))
            for scope, table in zip(scopes, events, strict=True)
        ]
    texts = [(table["trial_type"] + "/" + table["text_id"].astype(str)).tolist() for table in events]
    tables = [estimator.metrics_.reset_index(drop=True)]
    if stability is not None:
        tables.append(stability.metrics)
    with warnings.catch_warnings():
        if in_group:  # a text that several models have read is one text, and counts once
            warnings.filterwarnings("ignore", "[0-9]+ of [0-9]+ texts exactly repeat", DataWarning)
        tables.append(confound_correlations(courses, events).drop(columns="network"))
    start = estimator.info_["convergence"]
    last = {
        "spectral_peak": spectral_peak(spectra(courses, texts)),
        "converged": start["n_converged"] / start["n_starts"] if start["n_starts"] else np.nan,
    }
    return pd.concat([*tables, pd.DataFrame(last)], axis=1)


def write_decomposition(
    file: File,
    estimator: Any,
    recordings: Sequence[Recording],
    name: str,
    stability: Reproducibility | None,
    in_group: bool = False,
) -> None:
    """Write maps, metrics, time courses and, if present, the null distribution and the reliability curve.

    For viewers, each map is also written as a 3D image, with the mean of the recordings as a background.
    """
    space, maps = estimator.space, estimator.components_
    is_t = int(estimator.components_img_.header["intent_code"]) == INTENTS["t"]  # a localizer's
    storage.save_img(space.to_img(maps, "t" if is_t else "estimate"), file("components.nii.gz"))
    stat, shown = ("t", maps) if is_t else ("z", map_scores(maps))
    for number, volume in enumerate(shown):
        storage.save_img(space.to_img(volume, stat), file(f"component-{number:02d}_stat-{stat}_statmap.nii.gz"))
    storage.save_img(space.to_img(mean_of(recordings)), file("mean.nii.gz"))
    for suffix, img in getattr(estimator, "extra_imgs_", {}).items():  # such as a localizer's effects and p
        storage.save_img(img, file(suffix))
    metrics = decomposition_metrics(estimator, recordings, stability, in_group)
    metrics.insert(0, "network", names(name, len(metrics)))
    storage.write_table(file("metrics.tsv"), metrics)
    if (null := getattr(estimator, "null_", None)) is not None:
        storage.write_table(file("null.tsv.gz"), null.to_table())
        storage.write_table(file("null_maps.tsv"), pd.DataFrame({"smallest_q": null.smallest_q}))
    if stability is not None:
        storage.write_table(file("reliability.tsv"), stability.curve)
    if (order := getattr(estimator, "order_", None)) is not None:
        storage.write_table(file("order.tsv"), order.curves)
    courses = iter(estimator.time_courses_)
    for recording, corpus in zip(recordings, run_addresses(recordings, in_group), strict=True):
        for run in range(1, len(recording.runs) + 1):
            course = pd.DataFrame(next(courses), columns=list(metrics["network"]))
            storage.write_table(file(mixing_suffix(corpus, run)), course)


def mean_of(recordings: Sequence[Recording]) -> np.ndarray:
    """Compute the mean of all volumes of the recordings, ``(n_neurons,)``, the background of maps in viewers."""
    total = sum(recording.mean * recording.n_volumes for recording in recordings)
    return np.asarray(total / sum(recording.n_volumes for recording in recordings))


def read_decomposition(
    file: File, space: NeuronSpace, name: str, info: Mapping[str, Any], fit_texts: frozenset[str]
) -> NetworkSet:
    """Read the unthresholded maps with their metrics and null distribution."""
    maps = np.atleast_2d(space.from_img(file("components.nii.gz")))
    metrics = storage.read_table(file("metrics.tsv"), ["network"]).drop(columns="network")
    check_rows(file("metrics.tsv"), metrics, len(maps))
    null = None
    if (about := info.get("null")) is not None:
        null = partial(read_null, file, n_maps=len(maps), **about)
    return NetworkSet(space, maps, method=name, metrics=metrics, origin=Origin.of(info), fit_texts=fit_texts, null=null)


def read_null(file: File, n_values: int, n_surrogates: int, n_maps: int) -> SurrogateNull:
    """Read the null distribution from surrogates, each of which has as many maps as the data."""
    smallest_q = storage.read_table(file("null_maps.tsv"))["smallest_q"]
    if len(smallest_q) != n_surrogates * n_maps:
        raise StudyError(
            f"{file('null_maps.tsv')} has {len(smallest_q)} rows for {n_maps} maps of {n_surrogates} surrogates. The "
            "file is incomplete. Decompose again."
        )
    return SurrogateNull.from_table(storage.read_table(file("null.tsv.gz")), n_values, n_surrogates, smallest_q)


def read_reliability(file: File) -> pd.DataFrame | None:
    """Read the reliability curve, or return None if there is none."""
    path = file("reliability.tsv")
    return storage.read_table(path) if path.is_file() else None


class DecompositionsCodec(Codec[NetworkSet]):
    """Codec of decompositions: unthresholded maps."""

    kind = DECOMPOSITIONS

    def references(self, entry: Entry) -> list[Reference]:
        """List the recordings and, of a dual regression, the decomposition of the group."""
        inputs = DecompositionInputs.of(entry)
        references = [
            Reference(RECORDINGS, corpus, entry.site, sha)
            for corpus, sha in zip(inputs.corpora, inputs.recordings_sha256, strict=True)
        ]
        return references + references_by_name(
            {key: entry.inputs[key] for key in ("decomposition", "decomposition_sha256") if key in entry.inputs},
            entry.site,
        )

    def read(self, store: Store, entry: Entry) -> NetworkSet:
        """Read maps, metrics and null distribution, with the current labels."""
        fit_texts = store.fit_texts(entry)
        info = {**entry.results, **store.seconds(entry.name, entry.site)}
        maps = read_decomposition(store.file_of(entry), store.space_of(entry), entry.name, info, fit_texts)
        return labelled(store.layout, maps, entry)

    def renamed(self, stored: NetworkSet, address: str) -> NetworkSet:
        """Return maps of another scope under their address."""
        return replace(stored, method=address)


DECOMPOSITION_CODEC = DecompositionsCodec()


def save_decomposition(
    store: Store,
    estimator: Any,
    recordings: Sequence[Recording],
    name: str | None = None,
    reproducibility: Reproducibility | None = None,
) -> Entry:
    """Store a fitted decomposition; see `lmri.Study.save_decomposition`."""
    check_fitted_on(estimator, recordings)
    name, site, in_group = name or estimator.method_name, recordings[0].space.site, store.scope == GROUP
    null, stability = getattr(estimator, "null_", None), reproducibility

    def write(folder: Path) -> None:
        write_decomposition(store.file(site, name, folder), estimator, recordings, name, stability, in_group)

    repeats = (
        null.n_surrogates if null else 0,
        stability.n_bootstraps if stability else 0,
        stability.n_splits if stability else 0,
    )
    identity = decomposition_identity(estimator, recordings, *repeats, in_group=in_group)
    about = {"null": {"n_values": null.n_values, "n_surrogates": null.n_surrogates}} if null else {}
    order = getattr(estimator, "order_", None)
    about |= {"order": {"recommended": order.recommended, "at_ceiling": order.at_ceiling}} if order else {}
    is_new = not store.entries.has(DECOMPOSITIONS, site, name, *identity)
    entry = store.entries.write(DECOMPOSITIONS, site, name, *identity, {**estimator.info_, **about}, write)
    if is_new:
        storage.write_log(store.layout, "fit", name=name, site=site, seconds=round(estimator.seconds_, 3))
    return entry


def reliability(store: Store, name: str | None = None, site: str | None = None) -> pd.DataFrame | None:
    """Open the reliability curve of a stored decomposition; see `lmri.Study.reliability`."""
    return read_reliability(store.file_of(store.fresh(DECOMPOSITIONS, name, site)))
