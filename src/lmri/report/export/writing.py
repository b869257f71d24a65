"""Networks of a study written as one program or another takes them."""

import contextlib
from collections.abc import Callable
from pathlib import Path

import numpy as np

from lmri import storage
from lmri.decomposition.stored import DECOMPOSITION_CODEC
from lmri.exceptions import EntryExistsError
from lmri.networks.stored import NETWORKS_CODEC, NetworksInputs
from lmri.report.export.exported import Exported
from lmri.report.export.melodic import write_melodic
from lmri.report.export.workbench import write_workbench
from lmri.space.headers import stamp
from lmri.storage.store import Store

ABOUT = "lmri.json"
"""What an exported folder says of where it came from."""


def opened(study: Store, name: str | None, site: str | None) -> Exported:
    """Open stored networks or, if there are none of that name, a decomposition."""
    places = [(one.name, one.site) for one in study.entries.list("networks")]
    kind = (
        "networks"
        if name is None or any(name == own and site in (None, at) for own, at in places)
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
    """Write networks as another program takes them.

    Parameters
    ----------
    study : Store
        Opened.
    name : str, optional
        Of a network set, or of a decomposition; needed as far as there is a choice.
    to : {"melodic", "workbench", "strip"}
        An ``.ica`` folder, which FSLeyes opens with time courses and spectra and where a person can accept and reject
        components; CIFTI files for Connectome Workbench; or one image a network with a row a layer.
    site : str, optional
        Needed as far as there is a choice.
    out : str or Path, optional
        New folder to write. By default one in the study, ``lmri/export/SITE/NAME`` with an ending for the format.

    Returns
    -------
    Path
        The folder. If it was there, made of the same networks, it was left as it is, with labels that people put there.

    Raises
    ------
    EntryExistsError
        If something else is there.
    """
    if to not in FORMATS:
        raise ValueError(f"to is {to!r}; accepted are {', '.join(map(repr, FORMATS))}.")
    ending, write = FORMATS[to]
    found = opened(study, name, site)
    folder = study.layout.export(found.entry.site, found.entry.name + ending) if out is None else Path(out)
    if to == "melodic" and len(found.networks) < 2:
        raise ValueError(
            f"{found.entry.name!r} has one network; FSLeyes opens such a folder from two on. Open its map instead, "
            f"a *_statmap.nii.gz in {found.entry.folder}."
        )
    if to == "melodic" and folder.suffix != ".ica":
        raise ValueError(f"out is {str(folder)!r}; FSLeyes knows such a folder by its ending. Give {folder}.ica.")
    about = {
        "format": to,
        "name": found.entry.name,
        "site": found.entry.site,
        "kind": found.entry.kind,
        "made_of": found.entry.digest,
        "decomposition": found.decomposition,
        "decomposition_sha256": found.source.digest,
        "versions": storage.versions(),
    }
    if folder.exists():
        _check_same(folder, about)
        return folder
    held = storage.writing(study.root) if out is None else contextlib.nullcontext()
    with held, storage.whole(folder) as partial:
        partial.mkdir(parents=True)
        write(found, partial)
        storage.write_json(partial / ABOUT, about)
    return folder


def _check_same(folder: Path, about: dict) -> None:
    known = storage.read_json(folder / ABOUT) if (folder / ABOUT).is_file() else {}
    if any(known.get(key) != about[key] for key in ("format", "name", "site", "kind", "made_of")):
        raise EntryExistsError(
            f"{folder} exists, and is not {about['name']!r} at {about['site']} as {about['format']}. Nothing was "
            "overwritten: choose another --out, or delete it (labels that people saved in it would go with it)."
        )


def write_strips(found: Exported, folder: Path) -> None:
    """Write an image a network, ``x`` its neurons and ``y`` its layers: of members or, without, of all neurons."""
    for network, strength in zip(found.networks, found.strength, strict=True):
        shown = strength if network.mask is None else np.where(network.mask, strength, 0)
        img = found.space.to_strip_img(shown)
        storage.save_img(stamp(img, img.affine, network.stat), folder / f"{network.name}_strip.nii.gz")


FORMATS: dict[str, tuple[str, Callable[[Exported, Path], None]]] = {
    "melodic": (".ica", write_melodic),
    "workbench": ("_workbench", write_workbench),
    "strip": ("_strips", write_strips),
}
"""How the default name ends, and what writes."""
