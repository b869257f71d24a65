"""Regions of interest: neurons selected or drawn by a user, stored as mask images and lesioned as networks."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lmri import storage
from lmri.exceptions import EntryExistsError, StudyError
from lmri.networks import Network, NetworkSet
from lmri.networks.former_names import accept_former
from lmri.networks.roi_images import RoiImage as RoiImage
from lmri.networks.roi_images import check_label
from lmri.networks.roi_images import read_roi as read_roi
from lmri.networks.roi_images import read_rois as read_rois
from lmri.networks.roi_images import site_of as site_of
from lmri.space import NeuronSpace
from lmri.storage import Layout


@accept_former(mask="members", info="origin")
@dataclass(frozen=True, eq=False)
class RoiSet(NetworkSet):
    """Regions of interest as a set of networks, each under its own name.

    Parameters
    ----------
    labels : tuple of str
        Names, one per region. All other parameters are inherited from `NetworkSet`.
    """

    labels: tuple[str, ...] = ()

    @classmethod
    def of(cls, regions: Sequence[Network]) -> "RoiSet":
        """Combine regions of the same space.

        Raises
        ------
        ValueError
            If there is no region, or if two regions have the same name.
        """
        labels = tuple(region.name for region in regions)
        if not labels or len(set(labels)) < len(labels):
            raise ValueError(
                f"The regions are named {', '.join(labels) or 'nothing'}; at least one is needed, with different "
                "names. Rename a file, or edit the name in its sidecar."
            )
        for region in regions[1:]:
            regions[0].space.check_same(region.space, f"The region {region.name!r}")
        weights, members = (
            np.stack(arrays) for arrays in zip(*((region.weights, region.members) for region in regions), strict=True)
        )
        texts = frozenset().union(*(region.fit_texts for region in regions))
        return cls(regions[0].space, weights, members, "-".join(labels), fit_texts=texts, labels=labels)

    @property
    def names(self) -> list[str]:
        """Names of the regions."""
        return list(self.labels)


# -- saving -----------------------------------------------------------------------------------------------------------


def members_of(space: NeuronSpace, neurons: Iterable[Sequence[int]]) -> np.ndarray:
    """Convert pairs of layer and neuron to members: bool, ``(n_neurons,)``.

    Raises
    ------
    IndexError
        If a layer or neuron does not exist.
    TypeError
        If an entry is not a pair of integers.
    ValueError
        If no neuron is given.
    """
    members = np.zeros(space.n_neurons, dtype=bool)
    for pair in neurons:
        if not isinstance(pair, list | tuple) or len(pair) != 2 or any(type(number) is not int for number in pair):
            raise TypeError(f"A neuron is {pair!r}; accepted is a pair of integers, [layer, neuron].")
        members[space.index(*pair)] = True
    if not members.any():
        raise ValueError("No neuron was selected; a region needs at least one.")
    return members


def save(layout: Layout, space: NeuronSpace, name: str, members: np.ndarray) -> Path:
    """Save neurons as a region of interest of a study: a mask image and a sidecar.

    Parameters
    ----------
    layout : Layout
        Folders of the study.
    space : NeuronSpace
        Neurons of the region.
    name : str
        Name of the region, as of other entries; also the name of its condition in scores.
    members : ndarray of bool, shape (n_neurons,)
        Neurons of the region, at least one.

    Returns
    -------
    Path
        Path of the image.

    Raises
    ------
    EntryExistsError
        If a region of this name exists.
    """
    path = layout.roi(space.site, check_label(name))
    sidecar = storage.sidecar(path)
    if not members.any() or members.all():
        extent = "every neuron, so it has no matched controls" if members.any() else "no neuron"
        raise ValueError(f"{name!r} has {extent}; a region needs at least one, and not all.")
    names = [roi.name.removesuffix(".nii.gz") for roi in layout.rois() if roi.parent == path.parent]
    storage.check_new_name(name, names, f"region of interest at {space.site}")
    busy = f"Another region is being saved in {path.parent}. Try again."
    # A separate lock, because a recording holds the lock of the study for hours.
    with storage.locked(path.parent / storage.LOCK, busy, wait=5):
        if path.exists() or path.is_symlink() or sidecar.exists():
            raise EntryExistsError(
                f"A region {name!r} already exists at {space.site} ({path}). It was not overwritten. Choose another "
                "name, or delete it."
            )
        storage.save_img(space.to_img(members), path)
        # Written last: a region is complete once its sidecar exists.
        storage.write_json(
            sidecar,
            {
                "name": name,
                "site": space.site,
                "n_neurons": int(members.sum()),
                "geometry": space.geometry,
                "weights": space.model.fingerprint if space.model else None,
                "sha256": storage.file_hash(path),
                "versions": storage.versions(),
            },
        )
    return path


@dataclass(frozen=True)
class StoredRoi:
    """A region of interest in a study.

    Parameters
    ----------
    path : Path
        Path of the image.
    name, site : str
        Name and site of the region.
    n_neurons : int
        Number of neurons.
    problem : str
        Reason why the region cannot be used; empty if it can.
    """

    path: Path
    name: str
    site: str
    n_neurons: int
    problem: str = ""


def stored(layout: Layout) -> list[StoredRoi]:
    """List the regions of interest of a study by site and name, including unusable ones with the reason."""
    return [_stored(layout, path) for path in layout.rois() if not path.name.startswith(".")]


def _stored(layout: Layout, path: Path) -> StoredRoi:
    name, site = path.name.removesuffix(".nii.gz"), path.parent.name
    try:
        root = layout.root.resolve()
        if not (path.resolve().is_relative_to(root) and storage.sidecar(path).resolve().is_relative_to(root)):
            raise StudyError("the link leads out of the study. Replace it by the file itself")
        about = storage.read_json(storage.sidecar(path))
        roi = StoredRoi(path, str(about["name"]), str(about["site"]), int(about["n_neurons"]))
        if layout.roi(roi.site, roi.name) != path:
            raise StudyError(f"its sidecar names {roi.name!r} at {roi.site}")
        if storage.file_hash(path) != about["sha256"]:
            raise StudyError("the image was changed since it was saved; lmri lesion --roi uses the changed image")
    except (OSError, ValueError, LookupError, TypeError) as error:
        return StoredRoi(path, name, site, 0, f"Region {name!r} at {site}: {error}.")
    return roi
