"""Regions of interest: neurons that a person picked or drew, as a mask image, and as a network that can be lesioned."""

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
from lmri.space import Img, NeuronSpace
from lmri.storage import Layout

RESERVED = ("intact",)
"""Names that scores have for something else."""


@dataclass(frozen=True, eq=False)
class RoiSet(NetworkSet):
    """Regions of interest as a set of networks, each under its own name.

    Parameters
    ----------
    labels : tuple of str
        The names, one a region; all else is as for `NetworkSet`.
    """

    labels: tuple[str, ...] = ()

    @classmethod
    def of(cls, regions: Sequence[Network]) -> "RoiSet":
        """Put regions of one space together.

        Raises
        ------
        ValueError
            If there is none, or two have one name.
        """
        labels = tuple(one.name for one in regions)
        if not labels or len(set(labels)) < len(labels):
            raise ValueError(
                f"The regions are called {', '.join(labels) or 'nothing'}; at least one is needed, each with a name of "
                "its own. Rename a file, or the name in the sidecar beside it."
            )
        for one in regions[1:]:
            regions[0].space.check_same(one.space, f"The region {one.name!r}")
        weights, members = (
            np.stack(arrays) for arrays in zip(*((one.weights, one.members) for one in regions), strict=True)
        )
        texts = frozenset().union(*(one.fit_texts for one in regions))
        return cls(regions[0].space, weights, members, "-".join(labels), fit_texts=texts, labels=labels)

    @property
    def names(self) -> list[str]:
        """Names of the regions."""
        return list(self.labels)


# -- reading ----------------------------------------------------------------------------------------------------------


def read_roi(img: Img, space: NeuronSpace, name: str | None = None, fit_texts: frozenset[str] = frozenset()) -> Network:
    """Read a region of interest: every voxel that is not 0 is one of its neurons.

    Images of other software are taken if they lie on the grid of `space`, flipped or not. Where numbers are stored as
    scaled integers, 0 may have become what is nearest to it: up to half a step counts as 0.

    Parameters
    ----------
    img : Nifti1Image or path
        3D.
    space : NeuronSpace
        The neurons.
    name : str, optional
        What tables call it; by default what the sidecar says, else the name of the file without its ending.
    fit_texts : frozenset of str
        Hashes of the texts of which the region was drawn, if they are known.

    Returns
    -------
    Network
        With these members, and the weight 1 for each.

    Raises
    ------
    SpaceMismatchError
        If the grid is another one, or the image says that it is of other neurons.
    NonFiniteError
        If a voxel holds NaN or infinity.
    ValueError
        If it is empty, has several volumes, or holds a voxel that is no neuron.

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
            "Whether these neurons are meant is not known: set them to 0 or 1."
        )
    chosen = (np.abs(data) > _half_step(original)).reshape(-1, order="F")
    outside = np.flatnonzero(chosen & ~space.inside)
    if len(outside):
        x, y, z = (int(one) for one in np.unravel_index(outside[0], space.shape, order="F"))
        raise ValueError(
            f"{what} is not 0 at voxel ({x}, {y}, {z}), which is no neuron: layer {z} has {space.widths[z]} of them "
            f"({len(outside)} such voxels in all). Set them to 0; the mask image in sub-*/func shows which are."
        )
    members = chosen[space.inside]
    if not members.any():
        raise ValueError(f"{what} is 0 everywhere: no neuron is chosen. Draw at least one.")
    found = Network.from_members(space, members, check_label(name or _name_of(img)))
    return Network(space, found.weights, found.mask, found.name, fit_texts)


def _data_of(img: nib.Nifti1Image, what: str) -> np.ndarray:
    if img.ndim == 4 and img.shape[3] != 1:
        raise ValueError(f"{what} has {img.shape[3]} volumes; a region is one. Save one volume of it as a 3D image.")
    try:
        data = np.asarray(img.dataobj)
    except (OSError, ValueError, EOFError) as error:
        raise ValueError(f"{what} cannot be read to its end ({error}). It was cut short: save it again.") from error
    if data.dtype.kind not in "biuf":
        raise ValueError(f"{what} holds {data.dtype}; accepted are images of numbers, such as a mask of 0 and 1.")
    return data.reshape(img.shape[:3])


def _half_step(img: nib.Nifti1Image) -> float:
    slope, inter = getattr(img.dataobj, "slope", 1.0), getattr(img.dataobj, "inter", 0.0)
    is_scaled = np.issubdtype(img.get_data_dtype(), np.integer) and (slope != 1 or inter != 0)
    return abs(float(slope)) / 2 if is_scaled else 0.0


def _check_neurons(loaded: nib.Nifti1Image, img: Img, space: NeuronSpace, what: str) -> None:
    """Refuse an image of other neurons that has the same grid by chance, as far as it says so."""
    for extension in loaded.header.extensions if hasattr(loaded.header, "extensions") else ():
        try:
            content = json.loads(extension.get_content())["lmri"]
            said = NeuronSpace.from_dict(content)
        except (ValueError, LookupError, TypeError):
            continue  # a comment of someone else's
        space.check_same(said, what)
    about = _about(img)
    site, geometry = about.get("site"), about.get("geometry")
    if site not in (None, space.site) or geometry not in (None, space.geometry):
        raise SpaceMismatchError(
            f"{what} is of neurons at {site}, as the sidecar beside it says; needed are {space.describe()}. "
            f"Choose the site: --site {site}."
        )
    weights, own = about.get("weights"), space.model.fingerprint if space.model else None
    if None not in (weights, own) and weights != own:
        warnings.warn(
            f"{what} was picked in a model with other weights ({weights}; here {own}): the same places, not the same "
            "neurons.",
            OtherWeightsWarning,
            stacklevel=4,
        )


def _about(img: Img) -> dict[str, Any]:
    """Read the sidecar beside an image; empty if there is none."""
    beside = storage.sidecar(Path(img)) if isinstance(img, str | Path) else None
    about = storage.read_json(beside) if beside is not None and beside.is_file() else {}
    return about if isinstance(about, dict) else {}


def _name_of(img: Img) -> str:
    if not isinstance(img, str | Path):
        return "roi"
    name = _about(img).get("name")
    return name if isinstance(name, str) and name else storage.sidecar(Path(img)).stem


def check_label(name: str) -> str:
    """Return `name` if conditions can be called so, else raise `ValueError`."""
    if not name.strip() or not name.isprintable() or "/" in name or name in RESERVED:
        raise ValueError(
            f"A region of interest cannot be called {name!r}: accepted are printable names without '/', and not "
            f"{', '.join(map(repr, RESERVED))}. Rename the file, or the name in the sidecar beside it."
        )
    return name


def site_of(img: Img) -> str | None:
    """Name the site that an image says it is of; None if it does not say."""
    site = _about(img).get("site")
    return site if isinstance(site, str) else None


# -- saving -----------------------------------------------------------------------------------------------------------


def members_of(space: NeuronSpace, neurons: Iterable[Sequence[int]]) -> np.ndarray:
    """Turn pairs of layer and neuron into members: bool, ``(n_neurons,)``.

    Raises
    ------
    IndexError
        If there is no such layer or neuron.
    TypeError
        If one is not a pair of whole numbers.
    ValueError
        If there is none.
    """
    members = np.zeros(space.n_neurons, dtype=bool)
    for pair in neurons:
        if not isinstance(pair, list | tuple) or len(pair) != 2 or any(type(one) is not int for one in pair):
            raise TypeError(f"A neuron is {pair!r}; accepted is a pair of whole numbers, [layer, neuron].")
        members[space.index(*pair)] = True
    if not members.any():
        raise ValueError("No neuron was chosen; a region needs at least one.")
    return members


def save(layout: Layout, space: NeuronSpace, name: str, members: np.ndarray) -> Path:
    """Save neurons as a region of interest of a study: an image of 0 and 1, and a sidecar.

    Parameters
    ----------
    layout : Layout
        Of the study.
    space : NeuronSpace
        The neurons.
    name : str
        As entries have them; also the name of its condition in scores.
    members : ndarray of bool, shape (n_neurons,)
        At least one.

    Returns
    -------
    Path
        The image.

    Raises
    ------
    EntryExistsError
        If there is a region of this name.
    """
    path = layout.roi(space.site, check_label(name))
    beside = storage.sidecar(path)
    if not members.any():
        raise ValueError(f"{name!r} has no neuron; a region needs at least one.")
    names = [one.name.removesuffix(".nii.gz") for one in layout.rois() if one.parent == path.parent]
    storage.check_new_name(name, names, f"region of interest at {space.site}")
    busy = f"Another region is being saved in {path.parent}. Try again."
    # A lock of its own: a recording that goes on for hours holds that of the study.
    with storage.locked(path.parent / storage.LOCK, busy, wait=5):
        if path.exists() or path.is_symlink() or beside.exists():
            raise EntryExistsError(
                f"There is a region {name!r} at {space.site} already ({path}). Nothing was overwritten: choose "
                "another name, or delete it."
            )
        storage.save_img(space.to_img(members), path)
        # Last, because by this file a region is whole.
        storage.write_json(
            beside,
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
        The image.
    name, site : str
        Which it is.
    n_neurons : int
        How many.
    problem : str
        Why it cannot be taken; empty if it can.
    """

    path: Path
    name: str
    site: str
    n_neurons: int
    problem: str = ""


def stored(layout: Layout) -> list[StoredRoi]:
    """List the regions of interest of a study, by site and name; also those that cannot be taken, with the reason."""
    return [_stored(layout, path) for path in layout.rois() if not path.name.startswith(".")]


def _stored(layout: Layout, path: Path) -> StoredRoi:
    name, site = path.name.removesuffix(".nii.gz"), path.parent.name
    try:
        root = layout.root.resolve()
        if not (path.resolve().is_relative_to(root) and storage.sidecar(path).resolve().is_relative_to(root)):
            raise StudyError("it leads out of the study. Put the file itself in its place")
        about = storage.read_json(storage.sidecar(path))
        found = StoredRoi(path, str(about["name"]), str(about["site"]), int(about["n_neurons"]))
        if layout.roi(found.site, found.name) != path:
            raise StudyError(f"its sidecar is of {found.name!r} at {found.site}")
        if storage.file_hash(path) != about["sha256"]:
            raise StudyError("it was changed since it was saved; lmri lesion --roi takes it as it is now")
    except (OSError, ValueError, LookupError, TypeError) as error:
        return StoredRoi(path, name, site, 0, f"Region {name!r} at {site}: {error}.")
    return found
