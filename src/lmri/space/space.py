"""Neuron spaces: the mapping of neurons to voxels.

A *neuron* is one coordinate at a site, addressed (layer, neuron). A *space* orders the layers of one site of a model
and folds each into an axial slice, so that

* slice ``z`` of an image is layer ``z``;
* neuron ``n`` of that layer is the voxel ``x = n % nx, y = n // nx``;
* voxels beyond a layer's width are outside the mask.

The affine is the identity (millimetres are voxel indices) and the orientation is RAS, so "z = 3" in a viewer is layer
3. The last axis of arrays has length ``n_neurons``, ordered by layer and then by neuron. nilearn orders voxels
differently, and every conversion of an image to an array uses this module.

The module is longer than most because it is one class: properties, conversions and checks of the same mapping.
"""

import colorsys
import hashlib
import json
import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import nibabel as nib
import numpy as np
import pandas as pd
from nibabel.filebasedimages import ImageFileError

from lmri.exceptions import DataWarning, NonFiniteError, OtherWeightsWarning, SpaceMismatchError
from lmri.space.headers import stamp
from lmri.space.layers import Layer, ModelInfo
from lmri.space.sites import check_site, with_sites

if TYPE_CHECKING:
    from lmri.space.masker import NeuronMasker

Img: TypeAlias = nib.Nifti1Image | str | Path


@with_sites
@dataclass(frozen=True)
class NeuronSpace:
    """Neurons of one site of a model, and their voxels in an image.

    Two spaces are equal if their geometries are equal: the site, and the name, module and width of every layer. The
    model is stored as well, but not compared.

    Parameters
    ----------
    layers : tuple of Layer
        Layers in the order of the slices.
    site : %(sites)s
        Site of the neurons: output or input of the final projection of each MLP or of each attention, or the router of
        a mixture of experts; in the decoder of an encoder–decoder ``"decoder_mlp_out"`` and so on.
    model : ModelInfo, optional
        Model in which the neurons were found.

    Examples
    --------
    >>> space = NeuronSpace.build([768] * 12)
    >>> space.n_neurons, space.shape
    (9216, (32, 24, 12))
    >>> space.to_img(np.arange(9216)).get_fdata()[5, 2, 3] == 3 * 768 + 2 * 32 + 5
    np.True_
    """

    layers: tuple[Layer, ...]
    site: str = "mlp_out"
    model: ModelInfo | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        check_site(self.site)
        if not self.layers:
            raise ValueError("A neuron space needs at least one layer.")
        for layer in self.layers:
            if layer.width < 1:
                raise ValueError(f"Layer {layer.name!r} has width {layer.width}; it must be at least 1.")

    @classmethod
    def build(cls, widths: Sequence[int], site: str = "mlp_out", model: ModelInfo | None = None) -> "NeuronSpace":
        """Create a space from the widths of its layers, for example for simulated data."""
        layers = tuple(Layer(f"layer {z}", f"layers.{z}", int(width)) for z, width in enumerate(widths))
        return cls(layers, site, model)

    # -- sizes --------------------------------------------------------------------------------------------------------

    @property
    def n_layers(self) -> int:
        """Number of layers."""
        return len(self.layers)

    @property
    def n_neurons(self) -> int:
        """Number of neurons in all layers."""
        return sum(self.widths)

    @property
    def widths(self) -> tuple[int, ...]:
        """Number of neurons in each layer."""
        return tuple(layer.width for layer in self.layers)

    @cached_property
    def offsets(self) -> np.ndarray:
        """Index of the first neuron of each layer, and the total: shape ``(n_layers + 1,)``."""
        return np.concatenate([[0], np.cumsum(self.widths)])

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape of a volume, ``(nx, ny, n_layers)``."""
        return (*fold(max(self.widths)), self.n_layers)

    @property
    def is_padded(self) -> bool:
        """Whether some voxels do not represent a neuron."""
        return math.prod(self.shape) != self.n_neurons

    @property
    def affine(self) -> np.ndarray:
        """Affine of the images, the identity: millimetres are voxel indices."""
        return np.eye(4)

    @cached_property
    def layer_of(self) -> np.ndarray:
        """Layer of each neuron, ``(n_neurons,)``."""
        return np.repeat(np.arange(self.n_layers), self.widths)

    @cached_property
    def neuron_of(self) -> np.ndarray:
        """Index of each neuron within its layer, ``(n_neurons,)``."""
        return np.concatenate([np.arange(width) for width in self.widths])

    @property
    def blocks(self) -> tuple[int, ...]:
        """Block of the model for each slice; several experts share one block."""
        return tuple(z if layer.block is None else layer.block for z, layer in enumerate(self.layers))

    @cached_property
    def head_of(self) -> np.ndarray:
        """Attention head of each neuron within its layer, ``(n_neurons,)``; -1 in layers without heads."""
        heads = [
            np.arange(layer.width) // (layer.width // layer.n_heads) if layer.n_heads else np.full(layer.width, -1)
            for layer in self.layers
        ]
        return np.concatenate(heads)

    def index(self, layer: int, neuron: int) -> int:
        """Return the index of a neuron in arrays.

        Raises
        ------
        IndexError
            If there is no such layer or neuron.
        """
        if not 0 <= layer < self.n_layers:
            raise IndexError(f"layer is {layer}; this space has layers 0 to {self.n_layers - 1}.")
        if not 0 <= neuron < self.widths[layer]:
            raise IndexError(f"neuron is {neuron}; layer {layer} has neurons 0 to {self.widths[layer] - 1}.")
        return int(self.offsets[layer]) + neuron

    def count_per_layer(self, members: np.ndarray) -> np.ndarray:
        """Count the members ``(..., n_neurons)`` in each layer: ``(..., n_layers)``."""
        return np.add.reduceat(np.asarray(members, dtype=np.int64), self.offsets[:-1], axis=-1)

    # -- images -------------------------------------------------------------------------------------------------------

    @cached_property
    def inside(self) -> np.ndarray:
        """Mask of the voxels that represent a neuron, flattened with x fastest and z slowest: (layer, neuron) order."""
        nx, ny, _ = self.shape
        return (np.arange(nx * ny) < np.array(self.widths)[:, None]).ravel()

    @property
    def mask_img(self) -> nib.Nifti1Image:
        """Mask image (uint8): 1 in voxels that represent a neuron, 0 elsewhere."""
        return self._img(self.inside.astype(np.uint8)[None], intent="none", extension=False, ndim=3)

    @property
    def labels_img(self) -> nib.Nifti1Image:
        """Image of layer labels (int16): layer ``z`` has label ``z + 1``, and 0 is background."""
        labels = np.zeros(self.inside.size, dtype=np.int16)
        labels[self.inside] = self.layer_of + 1
        # Without a JSON extension, which MRIcroGL would read as the text of the labels.
        return self._img(labels[None], intent="label", extension=False, ndim=3)

    @property
    def labels_table(self) -> pd.DataFrame:
        """Names and colours of the layer labels, as in a BIDS ``dseg.tsv``."""
        hues = np.linspace(0.66, 0.0, self.n_layers) if self.n_layers > 1 else [0.66]
        rgb = [colorsys.hsv_to_rgb(hue, 0.65, 0.9) for hue in hues]
        return pd.DataFrame(
            {
                "index": np.arange(1, self.n_layers + 1),
                "name": [layer.name for layer in self.layers],
                "color": ["#" + "".join(f"{round(255 * part):02x}" for part in color) for color in rgb],
                "module": [layer.module for layer in self.layers],
                "n_neurons": list(self.widths),
            }
        )

    def to_img(self, values: np.ndarray, intent: str = "none") -> nib.Nifti1Image:
        """Convert values to an image.

        Parameters
        ----------
        values : ndarray of shape (n_neurons,) or (n, n_neurons)
            Values in (layer, neuron) order. Booleans become uint8, integers int16 if they fit, all others float32.
        intent : {"none", "z", "t", "p", "estimate", "label"}
            Kind of the values, for the header.

        Returns
        -------
        Nifti1Image
            3D image for one row of values, 4D image for ``n`` rows; 0 outside the mask.

        Raises
        ------
        SpaceMismatchError
            If the last axis is not ``n_neurons``.
        """
        values = np.asarray(values)
        if values.ndim not in (1, 2) or values.shape[-1] != self.n_neurons:
            raise SpaceMismatchError(
                f"values have shape {values.shape}; they must have ({self.n_neurons},) or (n, {self.n_neurons}), "
                "in (layer, neuron) order."
            )
        if values.ndim == 2 and len(values) == 0:
            raise ValueError("values have no rows; an image needs at least one volume.")
        dtype: type = np.float32
        if values.dtype == bool:
            dtype = np.uint8
        elif np.issubdtype(values.dtype, np.integer) and np.abs(values).max(initial=0) <= np.iinfo(np.int16).max:
            dtype = np.int16
        volumes: np.ndarray = np.zeros((len(np.atleast_2d(values)), self.inside.size), dtype=dtype)
        volumes[:, self.inside] = values
        return self._img(volumes, intent=intent, extension=True, ndim=3 if values.ndim == 1 else 4)

    def _img(self, volumes: np.ndarray, *, intent: str, extension: bool, ndim: int) -> nib.Nifti1Image:
        nx, ny, nz = self.shape
        data = volumes.reshape(len(volumes), nz, ny, nx).transpose(
            3, 2, 1, 0
        )  # [t, z, y, x] in C order is the order of NIfTI
        return self.stamp(nib.Nifti1Image(data[..., 0] if ndim == 3 else data, self.affine), intent, extension)

    def stamp(self, img: nib.Nifti1Image, intent: str = "none", extension: bool = True) -> nib.Nifti1Image:
        """Write this space to the header of `img`: orientation, units, intent and, as an extension, the layers."""
        content = json.dumps({"lmri": self.to_dict()}, separators=(",", ":")) if extension else None
        return stamp(img, self.affine, intent, content)

    def check_img(self, img: Img, what: str = "The image") -> nib.Nifti1Image:
        """Load `img`, reorient it to RAS, and check that it has the grid of this space.

        The voxels of a NIfTI image without orientation are taken in the order in which they are stored, with a warning.

        Raises
        ------
        SpaceMismatchError
            If the shape or affine differs.
        FileNotFoundError
            If the file is missing.
        ValueError
            If the file is not an image, or is cut short.
        """
        if isinstance(img, str | Path):
            what, path = str(img), Path(img)
            if not path.is_file():
                raise FileNotFoundError(f"{path} does not exist. Check the path.")
            try:
                img = nib.load(path)
            except ImageFileError as error:
                raise ValueError(f"{path} is not an image that nibabel can read ({error}).") from error
        if isinstance(img.header, nib.Nifti1Header) and not (img.header["sform_code"] or img.header["qform_code"]):
            # nibabel would assume that such an image runs from right to left.
            warnings.warn(
                f"{what} has no orientation (sform_code and qform_code are 0): its voxels are taken in stored order.",
                DataWarning,
                stacklevel=3,
            )
            img = nib.Nifti1Image(img.dataobj, self.affine, img.header)
        # Other software may have saved the file from right to left (LAS), as its affine shows.
        canonical = img if np.array_equal(img.affine, self.affine) else nib.as_closest_canonical(img)
        if canonical.ndim not in (3, 4) or canonical.shape[:3] != self.shape:
            raise SpaceMismatchError(
                f"{what} has shape {canonical.shape}; this space has {self.shape} voxels: {self.describe()}. "
                "Use images of the same study and site."
            )
        if not np.allclose(canonical.affine, self.affine, atol=1e-3):
            raise SpaceMismatchError(
                f"{what} has the affine {canonical.affine.tolist()}; accepted is the identity, possibly flipped. "
                "The image was moved or resampled: export it again without resampling."
            )
        return canonical

    def from_img(self, img: Img, check: bool = True) -> np.ndarray:
        """Extract values from an image: the inverse of `to_img`, also for files that other software has saved.

        Parameters
        ----------
        img : Nifti1Image or path
            3D or 4D image on the grid of this space.
        check : bool, default=True
            Whether to check that values are finite; False for callers that check it themselves.

        Returns
        -------
        ndarray of float32, shape (n_neurons,) or (n, n_neurons)
            Values in (layer, neuron) order.

        Raises
        ------
        SpaceMismatchError
            If the grid differs.
        NonFiniteError
            If the value of a neuron is NaN or infinite.
        """
        what = str(img) if isinstance(img, str | Path) else "The image"
        canonical = self.check_img(img)
        try:
            data = np.asarray(canonical.dataobj)
        except (OSError, ValueError, EOFError) as error:
            raise ValueError(
                f"{what} cannot be read completely ({error}). The file was cut short: create it again."
            ) from error
        volumes = data.reshape(self.inside.size, -1, order="F").T
        if self.is_padded:
            # Software that stores scaled integers causes rounding errors in voxels that were 0.
            limit = 1e-3 * np.abs(volumes[:, self.inside]).max(initial=0)
            outside = (np.abs(volumes[:, ~self.inside]) > limit).any(axis=0).sum()
            if outside:
                warnings.warn(
                    f"{what} is not 0 in {outside} voxels that do not represent a neuron; these voxels are ignored.",
                    DataWarning,
                    stacklevel=2,
                )
            volumes = volumes[:, self.inside]
        values = np.ascontiguousarray(volumes, dtype=np.float32)
        if check:
            self.check_finite(values, what)
        return values[0] if canonical.ndim == 3 else values

    def check_finite(self, values: np.ndarray, what: str) -> None:
        """Raise `NonFiniteError`, with the first layer, neuron and volume, if `values` contain NaN or infinity."""
        if np.isfinite(values).all():
            return
        bad = np.argwhere(~np.isfinite(np.atleast_2d(values)))
        volume, neuron = bad[0]
        raise NonFiniteError(
            f"{what} holds {np.atleast_2d(values)[volume, neuron]} at layer {self.layer_of[neuron]}, "
            f"neuron {self.neuron_of[neuron]}, volume {volume} ({len(bad)} such values in total). "
            "Means and correlations would be meaningless. Record again, in float32 if the model ran in float16."
        )

    def masker(self, **kwargs: Any) -> "NeuronMasker":
        """Return a fitted nilearn masker that transforms images in (layer, neuron) order.

        Parameters
        ----------
        **kwargs
            Options of `nilearn.maskers.NiftiMasker`, such as ``standardize="zscore_sample"``.
        """
        from lmri.space.masker import NeuronMasker  # nilearn takes seconds to import, and is rarely needed

        return NeuronMasker(mask_img=self.mask_img, **{"standardize": None, **kwargs}).fit()

    def to_strip_img(self, values: np.ndarray) -> nib.Nifti1Image:
        """Convert values to a 2D image as in the paper's Figure 2, with neuron ``x`` and layer ``y``, for export only.

        Parameters
        ----------
        values : ndarray of shape (n_neurons,)
            Values in (layer, neuron) order.

        Returns
        -------
        Nifti1Image
            Image of shape ``(width, n_layers, 1)``, with tall voxels so that viewers show more than a thin line.
        """
        strip = np.zeros((max(self.widths), self.n_layers, 1), dtype=np.float32)
        strip[self.neuron_of, self.layer_of, 0] = values
        height = max(1.0, max(self.widths) / (2 * self.n_layers))
        affine = np.diag([1.0, height, height, 1.0])
        return stamp(nib.Nifti1Image(strip, affine), affine)

    # -- identity -----------------------------------------------------------------------------------------------------

    def describe(self) -> str:
        """Return a one-line description of the layers, neurons and site."""
        widths = sorted(set(self.widths))
        width = str(widths[0]) if len(widths) == 1 else f"{widths[0]} to {widths[-1]}"
        return f"{self.n_layers} layers of {width} neurons at {self.site}"

    @property
    def geometry(self) -> str:
        """Hash of the site and layers, which is the same for equal spaces."""
        content = json.dumps([self.site, [layer.to_dict() for layer in self.layers]])
        return hashlib.sha256(content.encode()).hexdigest()[:16]

    def check_same(self, other: "NeuronSpace", what: str, strict: bool = False) -> None:
        """Raise if the geometry of another space differs; warn if only its weights differ.

        Parameters
        ----------
        other : NeuronSpace
            Space to compare with this one.
        what : str
            Name of the object with the space `other`, for the message.
        strict : bool, default=False
            Whether to raise if the weights differ, too.

        Raises
        ------
        SpaceMismatchError
            If the geometry differs or, with `strict`, the weights.
        """
        if self != other:
            raise SpaceMismatchError(
                f"{what} has {other.describe()} (first module {other.layers[0].module!r}), but {self.describe()} "
                f"(first module {self.layers[0].module!r}) are required. Use the model and the site of the recording."
            )
        if self.model and other.model and self.model.fingerprint != other.model.fingerprint:
            message = (
                f"{what} has the geometry of the recorded model {self.model.id!r}, but other weights (fingerprint "
                f"{other.model.fingerprint} instead of {self.model.fingerprint})."
            )
            if strict:
                raise SpaceMismatchError(message + " Use the recorded model, or strict=False.")
            warnings.warn(message, OtherWeightsWarning, stacklevel=3)

    def to_dict(self) -> dict[str, Any]:
        """Return the space as JSON content; `from_dict` is the inverse."""
        return {
            "site": self.site,
            "grid": list(self.shape),
            "layout": "x = neuron % nx, y = neuron // nx, z = layer",
            "layers": [layer.to_dict() for layer in self.layers],
            "model": asdict(self.model) if self.model else None,
        }

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> "NeuronSpace":
        """Create a space from the content that `to_dict` returned."""
        model = ModelInfo(**content["model"]) if content.get("model") else None
        return cls(tuple(Layer(**layer) for layer in content["layers"]), content["site"], model)


def fold(width: int) -> tuple[int, int]:
    """Fold a layer to a nearly square grid: the most square exact factor pair with aspect at most 2, else padded.

    Parameters
    ----------
    width : int
        Number of neurons.

    Returns
    -------
    nx, ny : int
        Size of the grid, with ``nx >= ny`` and ``nx * ny >= width``.

    Examples
    --------
    >>> fold(768), fold(11008), fold(193)
    ((32, 24), (128, 86), (14, 14))
    """
    for ny in range(math.isqrt(width), 0, -1):
        if width % ny == 0:
            if width // ny <= 2 * ny:
                return width // ny, ny
            break
    nx = math.ceil(math.sqrt(width))
    return nx, math.ceil(width / nx)
