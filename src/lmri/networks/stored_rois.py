"""Regions of interest of a study: from image files to a set of networks, and to the parameters that name them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lmri.networks.network import Network
from lmri.networks.network_set import NetworkSet
from lmri.networks.rois import RoiSet, read_roi, site_of
from lmri.storage import file_hash
from lmri.storage.store import Store


def open_rois(store: Store, paths: Sequence[str | Path], site: str | None = None) -> RoiSet:
    """Read images of regions of interest over the neurons of a study.

    Parameters
    ----------
    store : Store
        Study of the neurons. All its fitted texts count as texts that the regions were drawn from.
    paths : sequence of str or Path
        Images, one per region.
    site : str, optional
        Site of the neurons; by default the site that the images name, else the only site that was recorded.
    """
    images = [Path(path) for path in paths]
    named = {one for one in map(site_of, images) if one is not None}
    space = store.space(site or (named.pop() if len(named) == 1 else None))
    texts = [one.texts for one in store.recordings()]
    fitted = frozenset(sha for table in texts for sha in table.loc[table["split"] == "fit", "sha256"])
    found = RoiSet.of([read_roi(path, space, fit_texts=fitted) for path in images])
    about = [
        {"name": one.name, "path": _place(store, path), "sha256": file_hash(path), "n_neurons": one.n_neurons}
        for one, path in zip(found, images, strict=True)
    ]
    return RoiSet(
        space, found.weights, found.mask, found.method, info={"rois": about}, fit_texts=fitted, labels=found.labels
    )


def _place(store: Store, path: Path) -> str:
    """Write the place of a file relative to the study, or its name alone: no result may depend on a folder."""
    root, full = store.root.resolve(), path.resolve()
    return full.relative_to(root).as_posix() if full.is_relative_to(root) else path.name


def lesion_targets(networks: NetworkSet) -> list[Network]:
    """List the networks that are lesioned: each network and their union; a single region without a union."""
    return [*networks] if isinstance(networks, RoiSet) and len(networks) == 1 else [*networks, networks.union()]


def roi_parameters(networks: NetworkSet) -> dict[str, Any]:
    """Return the parameters that name regions and their files; none for other networks."""
    return {"rois": networks.info["rois"]} if isinstance(networks, RoiSet) else {}


def roi_words(networks: NetworkSet) -> dict[str, Any]:
    """Return the parameters that name regions in words, for a write-up; none for other networks."""
    rois = roi_parameters(networks).get("rois", [])
    words = [f"{one['name']} ({one['path']}, {one['n_neurons']} neurons)" for one in rois]
    return {"rois": ", ".join(words)} if words else {}
