"""Images as the page asks for them: one volume, one map, or the values of one neuron, and nothing else read."""

import gzip
from pathlib import Path

import nibabel as nib
import numpy as np

from lmri.exceptions import StudyError
from lmri.space import NeuronSpace


def packed(img: nib.Nifti1Image) -> bytes:
    """Write an image as ``.nii.gz``; it stays on this machine, so that little is gained by packing it well."""
    return gzip.compress(img.to_bytes(), compresslevel=1, mtime=0)


def values_of(space: NeuronSpace, path: Path, volume: int) -> np.ndarray:
    """Read one volume of a run: ``(n_neurons,)``, float32, in (layer, neuron) order."""
    img = _on_grid(space, path, volume + 1)
    data = np.asarray(img.dataobj[..., volume], dtype=np.float32)  # an uncompressed file is read there only
    return np.ascontiguousarray(data.reshape(-1, order="F")[space.inside])


def course_of(space: NeuronSpace, path: Path, layer: int, neuron: int, n_volumes: int) -> np.ndarray:
    """Read one neuron of a run: ``(n_volumes,)``, float32."""
    img = _on_grid(space, path, n_volumes)
    nx = space.shape[0]
    place = (neuron % nx, neuron // nx, layer)
    proxy = img.dataobj
    if not hasattr(proxy, "get_unscaled"):  # turned round by other software, so that it is in memory
        return np.asarray(proxy, dtype=np.float32)[place][:n_volumes]
    # A memory map: one number of every volume.
    raw = np.asarray(proxy.get_unscaled()[place][:n_volumes], dtype=np.float64)
    return (raw * proxy.slope + proxy.inter).astype(np.float32)


def _on_grid(space: NeuronSpace, path: Path, n_volumes: int) -> nib.Nifti1Image:
    img = space.check_img(path)
    if img.ndim != 4 or img.shape[3] < n_volumes:
        raise StudyError(f"{path} has the shape {img.shape}; its index says {n_volumes} volumes or more. Record again.")
    return img


def slices(space: NeuronSpace, values: np.ndarray) -> list[list[float | None]]:
    """Lay values out slice by slice, a row a layer, x fastest; None where there is no neuron or no finite value."""
    nx, ny, nz = space.shape
    volume = np.full(space.inside.size, np.nan)
    volume[space.inside] = values
    rows = volume.reshape(nz, nx * ny).tolist()
    if space.is_padded or not np.isfinite(values).all():
        return [[value if -np.inf < value < np.inf else None for value in row] for row in rows]
    return rows
