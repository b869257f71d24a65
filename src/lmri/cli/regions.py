"""Regions of interest on the command line: from image files to what is lesioned, and what is said of them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lmri.networks import Network, NetworkSet
from lmri.networks.rois import RoiSet, read_roi, site_of
from lmri.storage import file_hash
from lmri.study import Study


def open_rois(study: Study, paths: Sequence[Path], site: str | None) -> RoiSet:
    """Read images of regions of interest over the neurons of a study.

    The site is, unless it is given, the one that the images say they are of, else the only one that was recorded. All
    texts that were fitted in the study count as those that the regions were drawn from.
    """
    said = {one for one in map(site_of, paths) if one is not None}
    space = study.space(site or (said.pop() if len(said) == 1 else None))
    texts = [one.texts for one in study.recordings()]
    fitted = frozenset(sha for table in texts for sha in table.loc[table["split"] == "fit", "sha256"])
    found = RoiSet.of([read_roi(path, space, fit_texts=fitted) for path in paths])
    about = [
        {"name": one.name, "path": _place(study, path), "sha256": file_hash(path), "n_neurons": one.n_neurons}
        for one, path in zip(found, paths, strict=True)
    ]
    return RoiSet(
        space, found.weights, found.mask, found.method, info={"rois": about}, fit_texts=fitted, labels=found.labels
    )


def _place(study: Study, path: Path) -> str:
    """Say where a file is: relative to the study, or by its name alone, as no result is to depend on a folder."""
    root, full = study.root.resolve(), path.resolve()
    return full.relative_to(root).as_posix() if full.is_relative_to(root) else path.name


def targets_of(networks: NetworkSet) -> list[Network]:
    """List what is lesioned: each network and their union, which of one region would be the region once more."""
    return [*networks] if isinstance(networks, RoiSet) and len(networks) == 1 else [*networks, networks.union()]


def said_of(networks: NetworkSet) -> dict[str, Any]:
    """Give what parameters say of regions: where each came from; nothing of other networks."""
    return {"rois": networks.info["rois"]} if isinstance(networks, RoiSet) else {}


def written_of(networks: NetworkSet) -> dict[str, Any]:
    """Give the same in words, for people."""
    words = [f"{one['name']} ({one['path']}, {one['n_neurons']} neurons)" for one in said_of(networks).get("rois", [])]
    return {"rois": ", ".join(words)} if words else {}
