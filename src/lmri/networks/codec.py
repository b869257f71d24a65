"""Network sets as entries of a study, and the time courses of their decomposition."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from lmri import storage
from lmri.exceptions import StudyError
from lmri.networks import labels
from lmri.networks.network_set import NetworkSet
from lmri.networks.origin import Origin
from lmri.space import NeuronSpace
from lmri.storage import Layout
from lmri.storage.entries import Codec, Entry, File, Reference, parse_address
from lmri.storage.layout import run_suffix
from lmri.storage.store import Store

DECOMPOSITIONS, NETWORKS = "decompositions", "networks"
"""Kinds of entries."""

_TABLE_OF_MEMBERS = ("network", "n_neurons", "share", "n_positive", "mean_layer")


def names(name: str, n: int) -> list[str]:
    """Return the names of the networks of a set, numbered from 0."""
    return [f"{name}-{number:02d}" for number in range(n)]


def write_networks(file: File, networks: NetworkSet, name: str) -> None:
    """Write weights, members, z (or t) maps for viewers (one 4D image, and one 3D image per network), and tables."""
    space, stat = networks.space, networks.stat_type
    table = networks.table.assign(network=names(name, len(networks)))
    shown = np.where(networks.members, networks.stat_map, 0)
    storage.save_img(space.to_img(networks.weights, "estimate"), file("weights.nii.gz"))
    storage.save_img(space.to_img(networks.members), file("members.nii.gz"))
    storage.save_img(space.to_img(shown, stat), file(f"stat-{stat}_statmap.nii.gz"))
    for number, volume in enumerate(shown):
        storage.save_img(space.to_img(volume, stat), file(f"network-{number:02d}_stat-{stat}_statmap.nii.gz"))
    storage.write_table(file("networks.tsv"), table)
    neurons = [
        network.neurons().assign(network=label) for network, label in zip(networks, table["network"], strict=True)
    ]
    storage.write_table(file("neurons.tsv"), pd.concat(neurons)[["network", "layer", "neuron", "weight", stat]])


def read_networks(
    file: File, space: NeuronSpace, name: str, info: Mapping[str, Any], fit_texts: frozenset[str]
) -> NetworkSet:
    """Read thresholded networks."""
    weights = np.atleast_2d(space.from_img(file("weights.nii.gz")))
    members = np.atleast_2d(space.from_img(file("members.nii.gz"))) > 0
    table = storage.read_table(file("networks.tsv"), ["network"])
    check_rows(file("networks.tsv"), table, len(weights))
    metrics = table.drop(columns=[column for column in _TABLE_OF_MEMBERS if column in table])
    return NetworkSet(space, weights, members, name, metrics, Origin.of(info), fit_texts)


def check_rows(path: Path, table: pd.DataFrame, n_maps: int) -> None:
    """Raise `StudyError` if a table does not have one row per map."""
    if len(table) != n_maps:
        raise StudyError(
            f"{path} has {len(table)} rows for {n_maps} maps: the file is truncated. Compute the entry again."
        )


def read_time_courses(file: File, corpus: str, run: int, n_volumes: int) -> pd.DataFrame:
    """Read the time courses of one run, with one row per volume and one column per network.

    Raises
    ------
    StudyError
        If the number of rows is not the number of volumes.
    """
    path = file(mixing_suffix(corpus, run))
    table = storage.read_table(path)
    if len(table) != n_volumes:
        raise StudyError(
            f"{path} has {len(table)} rows, but run {run} of {corpus!r} has {n_volumes} volumes. Decompose again "
            "under another name."
        )
    return table


def mixing_suffix(corpus: str, run: int) -> str:
    """Return the suffix of the table of time courses of one run; see `lmri.storage.layout.run_suffix`."""
    return run_suffix(corpus, run, "mixing.tsv")


@dataclass(frozen=True)
class DecompositionInputs:
    """Inputs of a decomposition.

    Parameters
    ----------
    corpora : tuple of str
        Corpora, in the order in which they were stacked; in the group, their addresses with model and site.
    recordings_sha256 : tuple of str
        Digest of the recording of each corpus.
    confounds_sha256 : str or None
        Digest of the confounds that were regressed out.
    """

    corpora: tuple[str, ...]
    recordings_sha256: tuple[str, ...]
    confounds_sha256: str | None = None

    @classmethod
    def of(cls, entry: Entry) -> "DecompositionInputs":
        """Return the inputs of a stored decomposition."""
        inputs = entry.inputs
        return cls(tuple(inputs["corpora"]), tuple(inputs["recordings_sha256"]), inputs.get("confounds_sha256"))


@dataclass(frozen=True)
class NetworksInputs:
    """Inputs of a network set.

    Parameters
    ----------
    decomposition : str
        Name of the decomposition at the same site.
    decomposition_sha256 : str
        Digest of the decomposition.
    """

    decomposition: str
    decomposition_sha256: str

    @classmethod
    def of(cls, entry: Entry) -> "NetworksInputs":
        """Return the inputs of a stored network set."""
        return cls(str(entry.inputs["decomposition"]), str(entry.inputs["decomposition_sha256"]))


class NetworksCodec(Codec[NetworkSet]):
    """Codec of thresholded network sets."""

    kind = NETWORKS
    opens_sources = True

    def references(self, entry: Entry) -> list[Reference]:
        """Return the reference to the decomposition."""
        inputs = NetworksInputs.of(entry)
        return [Reference(DECOMPOSITIONS, inputs.decomposition, entry.site, inputs.decomposition_sha256)]

    def read(self, store: Store, entry: Entry) -> NetworkSet:
        """Read weights, members and metrics, with the current labels."""
        source = source_of(store, entry)
        info = {**source.results, **store.seconds(source.name, source.site), "threshold": entry.parameters}
        fit_texts = store.fit_texts(source)
        networks = read_networks(store.file_of(entry), store.space_of(entry), entry.name, info, fit_texts)
        return labelled(store.layout, networks, source)

    def renamed(self, stored: NetworkSet, address: str) -> NetworkSet:
        """Return networks of another scope under their address."""
        return replace(stored, method=address)


NETWORKS_CODEC = NetworksCodec()


def source_of(store: Store, networks: Entry) -> Entry:
    """Return the decomposition of a stored network set."""
    scoped = store.at(networks.scope)
    return scoped.find(DECOMPOSITIONS, NetworksInputs.of(networks).decomposition, networks.site)


def labelled(layout: Layout, networks: NetworkSet, decomposition: Entry) -> NetworkSet:
    """Add the labels of the networks of a decomposition to their metrics, if there are any."""
    table = labels.of(layout, decomposition)
    source_names = names(decomposition.name, len(networks))
    return replace(networks, metrics=labels.joined(networks.metrics, source_names, table)) if len(table) else networks


def save_networks(store: Store, networks: NetworkSet, decomposition: str, name: str | None = None) -> Entry:
    """Store thresholded networks; see `lmri.Study.save_networks`."""
    name, site = name or decomposition, networks.space.site
    sizes = networks.members.sum(axis=1)  # raises if they are not thresholded
    if not networks.origin.threshold:
        raise ValueError(
            f"The threshold of {networks.method!r} is not known, but it identifies stored networks. Name it: "
            "dataclasses.replace(networks, origin=lmri.Origin(threshold={'method': ..., 'description': ...}))."
        )
    # Labels may be edited, and no result may depend on them.
    if "label" in networks.metrics:
        networks = replace(networks, metrics=networks.metrics.drop(columns="label"))
    source = store.fresh(DECOMPOSITIONS, decomposition, site)
    maps = np.atleast_2d(store.space_of(source).from_img(store.file_of(source)("components.nii.gz")))
    if maps.shape != networks.weights.shape or not np.allclose(maps, networks.weights, rtol=1e-4, atol=1e-6):
        raise ValueError(
            f"These networks are not the maps of the decomposition {decomposition!r} at {site}. Save "
            "their own decomposition under another name first, and pass that name."
        )
    inputs = {"decomposition": decomposition, "decomposition_sha256": source.digest}
    counts = {"n_networks": len(networks), "n_empty": int((sizes == 0).sum())}
    hint = f"store a second set under another name (lmri threshold STUDY {decomposition} --by ... --name OTHER)"

    def write(folder: Path) -> None:
        write_networks(store.file(site, name, folder), networks, name)

    threshold = dict(networks.origin.threshold)
    return store.entries.write(NETWORKS, site, name, inputs, threshold, counts, write, hint)


def time_courses(
    store: Store, decomposition: str | None = None, site: str | None = None
) -> list[tuple[str, int, pd.DataFrame]]:
    """Open the time courses of a stored decomposition; see `lmri.Study.time_courses`."""
    entry = store.fresh(DECOMPOSITIONS, decomposition, site)
    return [
        (corpus, number, read_time_courses(store.file_of(entry), corpus, number, run.n_volumes))
        for corpus, recording in zip(DecompositionInputs.of(entry).corpora, store.recordings_of(entry), strict=True)
        for number, run in enumerate(recording.runs, start=1)
    ]


def corpora_of(store: Store, networks: str, site: str) -> list[str]:
    """List the names of the corpora that stored networks were fitted on, by this or by other models."""
    addresses = DecompositionInputs.of(source_of(store, store.find(NETWORKS, networks, site))).corpora
    return list(dict.fromkeys(parse_address(address)[1] for address in addresses))
