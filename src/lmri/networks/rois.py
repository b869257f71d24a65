"""Regions of interest: neurons selected or drawn by a user, stored as mask images and lesioned as networks."""

import json
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from lmri import storage
from lmri.exceptions import EntryExistsError, NonFiniteError, OtherWeightsWarning, SpaceMismatchError, StudyError
from lmri.networks import Network, NetworkSet
from lmri.networks.former_names import accept_former
from lmri.space import Img, NeuronSpace
from lmri.storage import Layout

RESERVED = ("intact",)
"""Names reserved for other conditions of the scores."""


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


# -- reading ----------------------------------------------------------------------------------------------------------


def read_roi(img: Img, space: NeuronSpace, name: str | None = None, fit_texts: frozenset[str] = frozenset()) -> Network:
    """Read a region of interest; its non-zero voxels are the members.

    Images written by other software are accepted if they are on the grid of `space`, flipped or not. In images stored
    as scaled integers, 0 may have been rounded to the nearest step: values up to half a step count as 0.

    Parameters
    ----------
    img : Nifti1Image or path
        3D image.
    space : NeuronSpace
        Neurons that the image covers.
    name : str, optional
        Name in tables; by default the name in the sidecar, else the file name without its extension.
    fit_texts : frozenset of str
        Hashes of the texts that the region was drawn from, if they are known.

    Returns
    -------
    Network
        Network with these members; each has the weight 1.

    Raises
    ------
    SpaceMismatchError
        If the grid differs, or if the metadata of the image name other neurons.
    NonFiniteError
        If a voxel is NaN or infinite.
    ValueError
        If the region is empty, has several volumes, or covers a voxel without a neuron.

    Examples
    --------
    >>> space = NeuronSpace.build([6, 6])
    >>> img = space.to_img(np.arange(12) == 7)
    >>> read_roi(img, space, "one").neurons()[["layer", "neuron"]].values.tolist()
    [[1, 1]]
    """
    what = str(img) if isinstance(img, str | Path) else "The image"
    canonical = space.check_img(img)
    original = nib.load(img) if isinstance(img, str | Path) else img
    _check_neurons(original, img, space, what)
    data = _data_of(canonical, what)
    bad = np.argwhere(~np.isfinite(data))
    if len(bad):
        raise NonFiniteError(
            f"{what} holds {data[tuple(bad[0])]} at voxel {tuple(map(int, bad[0]))} ({len(bad)} such voxels in all). "
            "It is not known whether these neurons belong to the region. Set them to 0 or 1."
        )
    is_member = (np.abs(data) > _half_step(original)).reshape(-1, order="F")
    outside = np.flatnonzero(is_member & ~space.inside)
    if len(outside):
        x, y, z = (int(index) for index in np.unravel_index(outside[0], space.shape, order="F"))
        raise ValueError(
            f"{what} is not 0 at voxel ({x}, {y}, {z}), which holds no neuron: layer {z} has {space.widths[z]} neurons "
            f"({len(outside)} such voxels in all). Set them to 0; the mask image in sub-*/func shows valid voxels."
        )
    members = is_member[space.inside]
    if not members.any():
        raise ValueError(f"{what} is 0 everywhere: it selects no neuron. Draw at least one.")
    network = Network.from_members(space, members, check_label(name or _name_of(img)))
    return Network(space, network.weights, network.members, network.name, fit_texts)


def _data_of(img: nib.Nifti1Image, what: str) -> np.ndarray:
    if img.ndim == 4 and img.shape[3] != 1:
        raise ValueError(f"{what} has {img.shape[3]} volumes; a region has one. Save one volume as a 3D image.")
    try:
        data = np.asarray(img.dataobj)
    except (OSError, ValueError, EOFError) as error:
        raise ValueError(f"{what} cannot be read to its end ({error}). It is truncated. Save it again.") from error
    if data.dtype.kind not in "biuf":
        raise ValueError(f"{what} holds {data.dtype}; use a numeric image, such as a mask of 0 and 1.")
    return data.reshape(img.shape[:3])


def _half_step(img: nib.Nifti1Image) -> float:
    slope, inter = getattr(img.dataobj, "slope", 1.0), getattr(img.dataobj, "inter", 0.0)
    is_scaled = np.issubdtype(img.get_data_dtype(), np.integer) and (slope != 1 or inter != 0)
    return abs(float(slope)) / 2 if is_scaled else 0.0


def _check_neurons(loaded: nib.Nifti1Image, img: Img, space: NeuronSpace, what: str) -> None:
    """Raise an error if the metadata of an image name other neurons, although its grid is the same."""
    for extension in loaded.header.extensions if hasattr(loaded.header, "extensions") else ():
        try:
            content = json.loads(extension.get_content())["lmri"]
            named_space = NeuronSpace.from_dict(content)
        except (ValueError, LookupError, TypeError):
            continue  # a header extension of other software
        space.check_same(named_space, what)
    about = _about(img)
    site, geometry = about.get("site"), about.get("geometry")
    if site not in (None, space.site) or geometry not in (None, space.geometry):
        raise SpaceMismatchError(
            f"{what} belongs to neurons at {site} according to its sidecar; this space is {space.describe()}. "
            f"Choose the site: --site {site}."
        )
    weights, fingerprint = about.get("weights"), space.model.fingerprint if space.model else None
    if None not in (weights, fingerprint) and weights != fingerprint:
        warnings.warn(
            f"{what} was selected in a model with other weights ({weights}; here {fingerprint}). The positions are the "
            "same, the neurons are not.",
            OtherWeightsWarning,
            stacklevel=4,
        )


def _about(img: Img) -> dict[str, Any]:
    """Read the sidecar of an image; return an empty dictionary if there is none."""
    sidecar = storage.sidecar(Path(img)) if isinstance(img, str | Path) else None
    return storage.read_json(sidecar) if sidecar is not None and sidecar.is_file() else {}


def _name_of(img: Img) -> str:
    if not isinstance(img, str | Path):
        return "roi"
    name = _about(img).get("name")
    return name if isinstance(name, str) and name else storage.sidecar(Path(img)).stem


def check_label(name: str) -> str:
    """Return `name` if it is accepted as the name of a condition, else raise `ValueError`."""
    if not name.strip() or not name.isprintable() or "/" in name or name in RESERVED:
        raise ValueError(
            f"A region of interest cannot be named {name!r}; use a printable name without '/', except "
            f"{', '.join(map(repr, RESERVED))}. Rename the file, or edit the name in its sidecar."
        )
    return name


def site_of(img: Img) -> str | None:
    """Return the site named in the sidecar of an image; None if it names none."""
    site = _about(img).get("site")
    return site if isinstance(site, str) else None


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
    if not members.any():
        raise ValueError(f"{name!r} has no neuron; a region needs at least one.")
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
