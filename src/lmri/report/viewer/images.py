"""Images for the page: one volume, one map, or the values of one neuron, read without the rest of the file."""

import gzip
from pathlib import Path

import nibabel as nib
import numpy as np

from lmri.exceptions import StudyError
from lmri.space import NeuronSpace


def packed(img: nib.Nifti1Image) -> bytes:
    """Return an image as ``.nii.gz`` with fast compression, because it stays on this machine."""
    return gzip.compress(img.to_bytes(), compresslevel=1, mtime=0)


def values_of(space: NeuronSpace, path: Path, volume: int) -> np.ndarray:
    """Read one volume of a run: ``(n_neurons,)``, float32, in (layer, neuron) order."""
    img = _on_grid(space, path, volume + 1)
    data = np.asarray(img.dataobj[..., volume], dtype=np.float32)  # only this part of an uncompressed file is read
    return np.ascontiguousarray(data.reshape(-1, order="F")[space.inside])


def course_of(space: NeuronSpace, path: Path, layer: int, neuron: int, n_volumes: int) -> np.ndarray:
    """Read one neuron of a run: ``(n_volumes,)``, float32."""
    img = _on_grid(space, path, n_volumes)
    nx = space.shape[0]
    voxel = (neuron % nx, neuron // nx, layer)
    proxy = img.dataobj
    if not hasattr(proxy, "get_unscaled"):  # reoriented by other software, and therefore in memory
        return np.asarray(proxy, dtype=np.float32)[voxel][:n_volumes]
    # Memory map: one value per volume is read.
    raw = np.asarray(proxy.get_unscaled()[voxel][:n_volumes], dtype=np.float64)
    return (raw * proxy.slope + proxy.inter).astype(np.float32)


def _on_grid(space: NeuronSpace, path: Path, n_volumes: int) -> nib.Nifti1Image:
    img = space.check_img(path)
    if img.ndim != 4 or img.shape[3] < n_volumes:
        raise StudyError(
            f"{path} has the shape {img.shape}, but its index lists {n_volumes} volumes or more. Record again."
        )
    return img


def slices(space: NeuronSpace, values: np.ndarray) -> list[list[float | None]]:
    """Return values by slice, one row per layer, x fastest; None for voxels without a neuron or finite value."""
    nx, ny, nz = space.shape
    volume = np.full(space.inside.size, np.nan)
    volume[space.inside] = values
    rows = volume.reshape(nz, nx * ny).tolist()
    if space.is_padded or not np.isfinite(values).all():
        return [[value if -np.inf < value < np.inf else None for value in row] for row in rows]
    return rows
