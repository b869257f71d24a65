"""Networks that a person accepted, of those that were found."""

import warnings
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from lmri import storage
from lmri.exceptions import DataWarning, StudyError
from lmri.networks import NetworkSet
from lmri.networks import labels as networks_labels
from lmri.networks.stored import (
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
"""The threshold of such a set, by name: another one was applied first, and then a person decided."""


@dataclass(frozen=True)
class Accepted:
    """What became of a person's labels.

    Parameters
    ----------
    networks : NetworkSet
        As stored: rejected ones keep their number, and are empty.
    rejected, unknown, labelled : list of str
        Names in the decomposition: of those that were rejected, of those that nobody decided on, and of those that
        are called something since.
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
    """Store the networks of a set that a person accepted, as a set that can be lesioned.

    Component 1 of the file is network 0. Networks keep their number, so ``accepted-03`` is ``ica-03``, and those that
    were rejected are empty. Labels beside Signal and Unknown become labels of the networks.

    Parameters
    ----------
    study : Store
        Opened.
    networks : str
        Name of a network set.
    labels : str or Path
        As `read_labels` takes it; of an exported folder if the file says so.
    name : str
        Of the set that is made.
    site : str, optional
        Needed as far as there is a choice.
    reject_unknown : bool, default=False
        Whether to reject components that nobody decided on.

    Raises
    ------
    ValueError
        If the file cannot be taken, see `read_labels`.
    StudyError
        If the file is of other maps than those of `networks`.
    """
    found = study.open(NETWORKS_CODEC, networks, site)
    read = read_labels(labels, len(found))
    made_of = NetworksInputs.of(study.find(NETWORKS, found.method, found.space.site))
    _check_origin(found, made_of.decomposition_sha256, read, Path(labels))
    source = made_of.decomposition
    rejected = read.rejected | (read.unknown & reject_unknown)
    own = names(source, len(found))
    before = found.info["threshold"]
    out = [own[number] for number in np.flatnonzero(rejected)]
    threshold = {
        **{key: value for key, value in before.items() if key != "label"},
        "method": ACCEPTED,
        "by": before["method"],
        "rejected": [int(number) for number in np.flatnonzero(rejected)],
        "description": f"{before['description']} ({before['method']}); of {found.method}, a person rejected "
        + (", ".join(out) or "none"),
    }
    kept = replace(found, mask=found.members & ~rejected[:, None], info={**found.info, "threshold": threshold})
    save_networks(study, kept, source, name)
    known = dict(
        networks_labels.of(study.layout, study.fresh(DECOMPOSITIONS, source, found.space.site))[
            ["network", "label"]
        ].to_numpy()
    )
    changed = {
        network: words
        for network, words in zip(own, read.words, strict=True)
        if words and words != _plain(known.get(network, ""))
    }
    for network, words in changed.items():
        networks_labels.edit(study, network, words, found.space.site)
    unknown = [own[number] for number in np.flatnonzero(read.unknown)]
    return Accepted(study.open(NETWORKS_CODEC, name, found.space.site), out, unknown, list(changed))


def _plain(label: str) -> str:
    """Say a label as the file has it."""
    return " ".join(label.replace(",", ";").split())


def _check_origin(found: NetworkSet, decomposition: str, read: ComponentLabels, path: Path) -> None:
    """Refuse labels of other maps, where they say what they are of; warn where they do not."""
    folders = [folder for folder in (read.folder, path.parent) if folder is not None and (folder / ABOUT).is_file()]
    if not folders:
        warnings.warn(
            f"{path} does not say which maps it is of (there is no {ABOUT} in the folder that it names). It is taken "
            f"to be of {found.method!r}, whose network 0 is its component 1.",
            DataWarning,
            stacklevel=3,
        )
        return
    about = storage.read_json(folders[0] / ABOUT)
    if about.get("decomposition_sha256") != decomposition:
        raise StudyError(
            f"{path} is of {about.get('name')!r} at {about.get('site')}: other maps than those of {found.method!r} at "
            f"{found.space.site}, or older ones. Nothing was changed: export {found.method!r}, and label that."
        )
