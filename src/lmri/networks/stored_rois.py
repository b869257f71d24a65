"""Regions of interest of a study: conversion of image files to a network set and to stored parameters."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lmri.networks.network import Network
from lmri.networks.network_set import NetworkSet
from lmri.networks.origin import Origin
from lmri.networks.roi_values import LABELS, MASK
from lmri.networks.rois import RoiSet, read_rois, site_of
from lmri.storage import file_hash
from lmri.storage.notices import notice
from lmri.storage.store import Store


def open_rois(store: Store, paths: Sequence[str | Path], site: str | None = None) -> RoiSet:
    """Read images of regions of interest over the neurons of a study; see `read_rois`.

    Parameters
    ----------
    store : Store
        Study of the neurons. The regions are assumed to be drawn from all its texts of the split "fit".
    paths : sequence of str or Path
        Images: masks, weight maps, or label images, each label of which is a region.
    site : str, optional
        Site of the neurons; by default the site named by the images, else the only recorded site.
    """
    images = [Path(path) for path in paths]
    named = {image_site for image_site in map(site_of, images) if image_site is not None}
    space = store.space(site or (named.pop() if len(named) == 1 else None))
    texts = [recording.texts for recording in store.recordings()]
    fitted = frozenset(sha for table in texts for sha in table.loc[table["split"] == "fit", "sha256"])
    read: list[Network] = []
    about: list[dict[str, Any]] = []
    for path in images:
        image = read_rois(path, space, fit_texts=fitted)
        notice(f"{path} is {image.describe()}")
        file = {"path": _relative_path(store, path), "sha256": file_hash(path)}
        # Masks have no kind, as in studies of earlier versions, so that their stored scores are found again.
        kind = {} if image.kind == MASK else {"kind": image.kind}
        for label, region in zip(image.labels, image.regions, strict=True):
            value = {"label": label} if image.kind == LABELS else {}
            about.append({"name": region.name, **file, "n_neurons": region.n_neurons, **kind, **value})
        read += image.regions
    regions = RoiSet.of(read)
    return RoiSet(
        space,
        regions.weights,
        regions.members,
        regions.method,
        origin=Origin(other={"rois": about}),
        fit_texts=fitted,
        labels=regions.labels,
    )


def _relative_path(store: Store, path: Path) -> str:
    """Return the path of a file relative to the study, or its name alone: no result may depend on a folder."""
    root, full = store.root.resolve(), path.resolve()
    return full.relative_to(root).as_posix() if full.is_relative_to(root) else path.name


def lesion_targets(networks: NetworkSet) -> list[Network]:
    """List the networks to lesion: each network and their union; no union for a single region."""
    return [*networks] if isinstance(networks, RoiSet) and len(networks) == 1 else [*networks, networks.union()]


def roi_parameters(networks: NetworkSet) -> dict[str, Any]:
    """Return the parameters that name regions and their files; empty for other networks."""
    return {"rois": networks.origin.other["rois"]} if isinstance(networks, RoiSet) else {}


def roi_words(networks: NetworkSet) -> dict[str, Any]:
    """Return the parameters that name regions in words, for a write-up; empty for other networks."""
    rois = roi_parameters(networks).get("rois", [])
    words = [f"{roi['name']} ({_origin(roi)}, {roi['n_neurons']} neurons)" for roi in rois]
    return {"rois": ", ".join(words)} if words else {}


def _origin(roi: Mapping[str, Any]) -> str:
    """Describe the image of a region and, unless it is a mask, the interpretation of its values."""
    label = f"label {roi['label']} of " if "label" in roi else ""
    return f"{label}{roi['path']}" + (f", a {roi['kind']}" if "kind" in roi else "")
