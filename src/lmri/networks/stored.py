"""Results on disk: each kind has a writer and a reader that gives back what was written.

`file` turns a suffix into the path of a file of the entry.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from lmri import storage
from lmri.exceptions import StudyError
from lmri.networks import NetworkSet
from lmri.space import NeuronSpace
from lmri.storage.entries import File

_TABLE_OF_MEMBERS = ("network", "n_neurons", "share", "n_positive", "mean_layer")


def names(name: str, n: int) -> list[str]:
    """Names of the networks of a set, counted from 0."""
    return [f"{name}-{number:02d}" for number in range(n)]


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
