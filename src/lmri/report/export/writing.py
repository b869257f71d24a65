"""Export of networks in the formats of other programs."""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np

from lmri import storage
from lmri.decomposition.codec import DECOMPOSITION_CODEC
from lmri.exceptions import EntryExistsError
from lmri.networks.codec import NETWORKS_CODEC, NetworksInputs
from lmri.report.export.exported import Exported
from lmri.report.export.melodic import write_melodic
from lmri.report.export.workbench import write_workbench
from lmri.space.headers import stamp
from lmri.storage.files import remove_empty
from lmri.storage.placing import move_command, placing
from lmri.storage.store import Store

ABOUT = "lmri.json"
"""File with the provenance of an exported folder."""


def opened(study: Store, name: str | None, site: str | None) -> Exported:
    """Open stored networks or, if no set has this name, a decomposition."""
    stored = [(entry.name, entry.site) for entry in study.entries.list("networks")]
    kind = (
        "networks"
        if name is None
        or any(name == stored_name and site in (None, stored_site) for stored_name, stored_site in stored)
        else "decompositions"
    )
    networks = (
        study.open(NETWORKS_CODEC, name, site) if kind == "networks" else study.open(DECOMPOSITION_CODEC, name, site)
    )
    entry = study.entries.find(kind, networks.method, networks.space.site)
    source = NetworksInputs.of(entry).decomposition if kind == "networks" else entry.name
    return Exported(study, networks, entry, source)


def export(
    study: Store, name: str | None = None, to: str = "melodic", site: str | None = None, out: str | Path | None = None
) -> Path:
    """Export networks in the format of another program.

    Parameters
    ----------
    study : Store
        Study with the networks.
    name : str, optional
        Name of a network set or of a decomposition; required if there are several.
    to : {"melodic", "workbench", "strip"}
        Format: an ``.ica`` folder, which FSLeyes opens with time courses and spectra for manual classification of
        components; CIFTI files for Connectome Workbench; or one image per network with one row per layer.
    site : str, optional
        Site; required if there are several.
    out : str or Path, optional
        New folder; by default ``lmri/SCOPE/export/SITE/NAME`` in the study, with a suffix for the format.

    Returns
    -------
    Path
        Path of the folder. An existing folder of the same networks is not changed, so that manual labels are kept.

    Raises
    ------
    EntryExistsError
        If the folder exists with other content.
    """
    if to not in FORMATS:
        raise ValueError(f"to is {to!r}; choose from {', '.join(map(repr, FORMATS))}.")
    ending, write = FORMATS[to]
    exported = opened(study, name, site)
    folder = study.layout.export(exported.entry.site, exported.entry.name + ending) if out is None else Path(out)
    if to == "melodic" and len(exported.networks) < 2:
        raise ValueError(
            f"{exported.entry.name!r} has one network; FSLeyes opens an .ica folder only with two or more. Open its "
            f"map instead: *_statmap.nii.gz in {exported.entry.folder}."
        )
    if to == "melodic" and folder.suffix != ".ica":
        raise ValueError(f"out is {str(folder)!r}; FSLeyes requires the suffix .ica. Use {folder}.ica.")
    about = {
        "format": to,
        "name": exported.entry.name,
        "site": exported.entry.site,
        "kind": exported.entry.kind,
        "made_of": exported.entry.digest,
        "decomposition": exported.decomposition,
        "decomposition_sha256": exported.source.digest,
        "versions": storage.versions(),
    }
    if folder.exists():
        _check_same(folder, about)
        return folder
    # A folder in the study is written elsewhere, so that the lock is held only to move it into place.
    finished = (
        study.layout.new_kept_entry("export", exported.entry.site, exported.entry.name) if out is None else folder
    )
    with storage.atomic_path(finished, f"-{os.getpid()}") as partial:
        partial.mkdir(parents=True)
        write(exported, partial)
        storage.write_json(partial / ABOUT, about)
    if out is None:
        _move_into_place(study, finished, folder, about)
    return folder


def _move_into_place(study: Store, finished: Path, folder: Path, about: dict) -> None:
    next_step = f"Run the command again later, or move it: {move_command(finished, folder)}"
    with placing(study.root, finished, next_step):
        if folder.exists():  # exported by another command meanwhile
            _check_same(folder, about)
            storage.remove(finished)
        else:
            folder.parent.mkdir(parents=True, exist_ok=True)
            finished.replace(folder)
    for path in study.layout.kept_entries("export", about["site"], about["name"]):
        if storage.read_json(path / ABOUT)["format"] == about["format"]:  # kept earlier, because the study was locked
            storage.remove(path)
    remove_empty(finished.parent, study.layout.folder)


def _check_same(folder: Path, about: dict) -> None:
    known = storage.read_json(folder / ABOUT) if (folder / ABOUT).is_file() else {}
    if any(known.get(key) != about[key] for key in ("format", "name", "site", "kind", "made_of")):
        raise EntryExistsError(
            f"{folder} exists and is not {about['name']!r} at {about['site']} in the format {about['format']}. Nothing "
            "was overwritten. Choose another --out, or delete the folder (including any labels saved in it)."
        )


def write_strips(exported: Exported, folder: Path) -> None:
    """Write one image per network (``x`` neurons, ``y`` layers) of its members or, if unthresholded, of all neurons."""
    for network, stat_map in zip(exported.networks, exported.stat_map, strict=True):
        shown = np.where(network.members, stat_map, 0) if network.is_thresholded else stat_map
        img = exported.space.to_strip_img(shown)
        storage.save_img(stamp(img, img.affine, network.stat_type), folder / f"{network.name}_strip.nii.gz")


FORMATS: dict[str, tuple[str, Callable[[Exported, Path], None]]] = {
    "melodic": (".ica", write_melodic),
    "workbench": ("_workbench", write_workbench),
    "strip": ("_strips", write_strips),
}
"""Suffix of the default name, and function that writes the format."""
