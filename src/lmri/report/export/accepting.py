"""Import of manually accepted networks."""

import warnings
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from lmri import storage
from lmri.exceptions import DataWarning, StudyError
from lmri.networks import NetworkSet
from lmri.networks import labels as networks_labels
from lmri.networks.codec import (
    DECOMPOSITIONS,
    NETWORKS,
    NETWORKS_CODEC,
    NetworksInputs,
    names,
    save_networks,
)
from lmri.report.export.labels import ComponentLabels, read_labels
from lmri.report.export.writing import ABOUT
from lmri.storage.store import Store

ACCEPTED = "accepted"
"""Name of the threshold of such a set: manual selection after another threshold."""


@dataclass(frozen=True)
class Accepted:
    """Result of applying manual labels.

    Parameters
    ----------
    networks : NetworkSet
        Stored networks; rejected networks keep their number and are empty.
    rejected, unknown, labelled : list of str
        Names in the decomposition of networks that were rejected, that are labelled Unknown, and whose label was
        changed.
    """

    networks: NetworkSet
    rejected: list[str]
    unknown: list[str]
    labelled: list[str]


def accept(
    study: Store,
    networks: str,
    labels: str | Path,
    name: str,
    site: str | None = None,
    reject_unknown: bool = False,
) -> Accepted:
    """Store the manually accepted networks of a set as a new set, which can be lesioned.

    Component 1 of the file is network 0. Networks keep their number, so ``accepted-03`` is ``ica-03``, and rejected
    networks are empty. Labels other than Signal and Unknown become labels of the networks.

    Parameters
    ----------
    study : Store
        Study with the networks.
    networks : str
        Name of a network set.
    labels : str or Path
        File of labels, see `read_labels`; its origin is checked if it is in, or names, an exported folder.
    name : str
        Name of the new set.
    site : str, optional
        Site; required if there are several.
    reject_unknown : bool, default=False
        Whether to reject components labelled Unknown.

    Returns
    -------
    Accepted
        The stored set, and the names of rejected, unknown and labelled networks.

    Raises
    ------
    ValueError
        If the file is not valid, see `read_labels`.
    StudyError
        If the file labels maps other than the maps of `networks`.
    """
    original = study.open(NETWORKS_CODEC, networks, site)
    component_labels = read_labels(labels, len(original))
    inputs = NetworksInputs.of(study.find(NETWORKS, original.method, original.space.site))
    _check_origin(original, inputs.decomposition_sha256, component_labels, Path(labels))
    source = inputs.decomposition
    rejected = component_labels.rejected | (component_labels.unknown & reject_unknown)
    component_names = names(source, len(original))
    previous = original.origin.threshold
    rejected_names = [component_names[number] for number in np.flatnonzero(rejected)]
    threshold = {
        **{key: value for key, value in previous.items() if key != "label"},
        "method": ACCEPTED,
        "by": previous["method"],
        "rejected": [int(number) for number in np.flatnonzero(rejected)],
        "description": f"{previous['description']} ({previous['method']}); of {original.method}, a person rejected "
        + (", ".join(rejected_names) or "none"),
    }
    accepted = replace(
        original, members=original.members & ~rejected[:, None], origin=replace(original.origin, threshold=threshold)
    )
    save_networks(study, accepted, source, name)
    known = dict(
        networks_labels.of(study.layout, study.fresh(DECOMPOSITIONS, source, original.space.site))[
            ["network", "label"]
        ].to_numpy()
    )
    changed = {
        network: words
        for network, words in zip(component_names, component_labels.words, strict=True)
        if words and words != _plain(known.get(network, ""))
    }
    for network, words in changed.items():
        networks_labels.edit(study, network, words, original.space.site)
    unknown = [component_names[number] for number in np.flatnonzero(component_labels.unknown)]
    return Accepted(study.open(NETWORKS_CODEC, name, original.space.site), rejected_names, unknown, list(changed))


def _plain(label: str) -> str:
    """Return a label as it is written in the file."""
    return " ".join(label.replace(",", ";").split())


def _check_origin(networks: NetworkSet, decomposition: str, read: ComponentLabels, path: Path) -> None:
    """Raise StudyError if the labels belong to other maps; warn if their origin is unknown."""
    folders = [folder for folder in (read.folder, path.parent) if folder is not None and (folder / ABOUT).is_file()]
    if not folders:
        warnings.warn(
            f"{path} does not identify its maps (there is no {ABOUT} in the folder that it names). It is assumed to "
            f"label {networks.method!r}: network 0 is component 1.",
            DataWarning,
            stacklevel=3,
        )
        return
    about = storage.read_json(folders[0] / ABOUT)
    if about.get("decomposition_sha256") != decomposition:
        raise StudyError(
            f"{path} labels {about.get('name')!r} at {about.get('site')}: different maps from {networks.method!r} at "
            f"{networks.space.site}, or an older version. Nothing was changed. Export {networks.method!r} and label it "
            "again."
        )
