"""Reading of regions of interest from images that a user selected or drew in any viewer."""

import json
import logging
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from lmri import storage
from lmri.exceptions import NonFiniteError, OtherWeightsWarning, SpaceMismatchError
from lmri.networks import Network
from lmri.networks.roi_values import LABELS, interpret
from lmri.space import Img, NeuronSpace

logger = logging.getLogger(__name__)

RESERVED = ("intact",)
"""Names reserved for other conditions of the scores."""


@dataclass(frozen=True)
class RoiImage:
    """Regions of interest in an image.

    Parameters
    ----------
    kind : {"mask", "label image", "weight map"}
        Interpretation of the values.
    labels : tuple of int
        Value of each region in a label image; 1 for a mask and a weight map.
    regions : tuple of Network
        Regions. Weights are the values of a weight map, and 1 otherwise.
    """

    kind: str
    labels: tuple[int, ...]
    regions: tuple[Network, ...]

    def describe(self) -> str:
        """Describe the interpretation, with the number of neurons of each region."""
        sizes = [f"{region.name} ({region.n_neurons:,} neurons)" for region in self.regions]
        return f"a {self.kind}" + (f" of {len(sizes)} regions" if self.kind == LABELS else "") + f": {', '.join(sizes)}"


def read_roi(img: Img, space: NeuronSpace, name: str | None = None, fit_texts: frozenset[str] = frozenset()) -> Network:
    """Read an image of one region of interest: a mask or a weight map; see `read_rois`.

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
        Network with these members.

    Raises
    ------
    ValueError
        If the image contains several regions, or as in `read_rois`.

    Examples
    --------
    >>> space = NeuronSpace.build([6, 6])
    >>> img = space.to_img(np.arange(12) == 7)
    >>> read_roi(img, space, "one").neurons()[["layer", "neuron"]].values.tolist()
    [[1, 1]]
    """
    image = read_rois(img, space, name, fit_texts)
    if len(image.regions) > 1:
        what = str(img) if isinstance(img, str | Path) else "The image"
        raise ValueError(f"{what} is {image.describe()}. Read each region as a network: read_rois(img, space).")
    return image.regions[0]


def read_rois(
    img: Img, space: NeuronSpace, name: str | None = None, fit_texts: frozenset[str] = frozenset()
) -> RoiImage:
    """Read the regions of interest of an image.

    The values determine whether the image is a mask (0 and another value), a label image (0 and several positive whole
    numbers, each of which is a region) or a weight map (0 and other values, none of them close to 0); other images are
    refused. Images written by other software are accepted if they are on the grid of `space`, flipped or not. Rounding
    errors around 0 count as 0, as do values up to half a step in images stored as scaled integers.

    Parameters
    ----------
    img : Nifti1Image or path
        3D image.
    space : NeuronSpace
        Neurons that the image covers.
    name : str, optional
        Name in tables; by default the name in the sidecar, else the file name without its extension. The regions of a
        label image are called ``NAME-LABEL``.
    fit_texts : frozenset of str
        Hashes of the texts that the regions were drawn from, if they are known.

    Returns
    -------
    RoiImage
        Interpretation of the image, and its regions.

    Raises
    ------
    SpaceMismatchError
        If the grid differs, or if the metadata of the image name other neurons.
    NonFiniteError
        If the value of a neuron is NaN or infinite.
    ValueError
        If the image has several volumes or interpretations, selects no neuron or all, or covers a voxel without a
        neuron.

    Examples
    --------
    >>> space = NeuronSpace.build([6, 6])
    >>> read_rois(space.to_img(np.repeat([0, 1, 2], 4)), space, "drawn").describe()
    'a label image of 2 regions: drawn-1 (4 neurons), drawn-2 (4 neurons)'
    """
    what = str(img) if isinstance(img, str | Path) else "The image"
    canonical = space.check_img(img)
    original = nib.load(img) if isinstance(img, str | Path) else img
    _check_neurons(original, img, space, what)
    data = _data_of(canonical, what).reshape(-1, order="F")
    bad = np.flatnonzero(~np.isfinite(data) & space.inside)
    if len(bad):
        raise NonFiniteError(
            f"{what} holds {data[bad[0]]} at voxel {_voxel(space, bad[0])} ({len(bad)} such voxels in all). It is not "
            "known whether these neurons belong to the region. Set them to 0 or 1."
        )
    is_label = hasattr(original.header, "get_intent") and original.header.get_intent()[0] == "label"
    values = interpret(data[space.inside], space, what, _step(original), is_label)
    outside = np.flatnonzero((np.abs(data) > values.resolution) & ~space.inside)
    if len(outside):
        x, y, z = _voxel(space, outside[0])
        raise ValueError(
            f"{what} is not 0 at voxel ({x}, {y}, {z}), which holds no neuron: layer {z} has {space.widths[z]} neurons "
            f"({len(outside)} such voxels in all). Set them to 0; the mask image in sub-*/func shows valid voxels."
        )
    stem = check_label(name or _name_of(img))
    regions = [
        Network(
            space,
            np.where(members, values.weights, 0),
            members,
            f"{stem}-{label}" if values.kind == LABELS else stem,
            fit_texts,
        )
        for label, members in values.regions.items()
    ]
    image = RoiImage(values.kind, tuple(values.regions), tuple(regions))
    logger.info("%s is %s", what, image.describe())
    return image


def _voxel(space: NeuronSpace, index: int) -> tuple[int, int, int]:
    x, y, z = (int(coordinate) for coordinate in np.unravel_index(index, space.shape, order="F"))
    return x, y, z


def _data_of(img: nib.Nifti1Image, what: str) -> np.ndarray:
    if img.ndim == 4 and img.shape[3] != 1:
        raise ValueError(f"{what} has {img.shape[3]} volumes; a region has one. Save one volume as a 3D image.")
    try:
        data = np.asarray(img.dataobj)
    except (OSError, ValueError, EOFError) as error:
        raise ValueError(f"{what} cannot be read to its end ({error}). It is truncated. Save it again.") from error
    if data.dtype.kind not in "biuf":
        raise ValueError(f"{what} holds {data.dtype}; use a numeric image, such as a mask of 0 and 1.")
    return data.reshape(img.shape[:3]).astype(np.float64)  # because -128 has no absolute value in int8


def _step(img: nib.Nifti1Image) -> float:
    """Return the difference between neighbouring values of scaled integers, 0 if the values are stored exactly."""
    slope, inter = float(getattr(img.dataobj, "slope", 1.0)), float(getattr(img.dataobj, "inter", 0.0))
    is_exact = abs(slope) == 1 and inter.is_integer()
    return abs(slope) if np.issubdtype(img.get_data_dtype(), np.integer) and not is_exact else 0.0


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
