"""Masker of nilearn for a neuron space."""

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from nilearn.maskers import NiftiMasker

from lmri.exceptions import NonFiniteError, SpaceMismatchError
from lmri.space.headers import stamp


class NeuronMasker(NiftiMasker):
    """Masker of nilearn with columns in (layer, neuron) order.

    nilearn orders voxels with ``z`` fastest: for three layers of 40 neurons, its first columns are neurons 0, 40 and
    80. It also resamples images of another grid with only a warning, which would mix unrelated neurons; this masker
    raises an error for such images and for smoothing.
    """

    def fit(self, imgs: Any = None, y: Any = None) -> "NeuronMasker":
        """Fit the masker; `imgs` are not needed."""
        if self.smoothing_fwhm is not None:
            raise ValueError(
                f"smoothing_fwhm is {self.smoothing_fwhm}; accepted is None. "
                "Neighbouring voxels represent unrelated neurons, which smoothing would mix. Omit smoothing_fwhm."
            )
        return super().fit(imgs, y)

    @property
    def _order(self) -> np.ndarray:
        x, y, z = np.nonzero(np.asarray(self.mask_img_.dataobj))
        return np.lexsort((x, y, z))

    def transform_single_imgs(self, imgs: Any, confounds: Any = None, sample_mask: Any = None) -> np.ndarray:
        """Extract an array ``(n_volumes, n_neurons)`` from one image, or from several concatenated images."""
        for img in imgs if isinstance(imgs, list | tuple) else [imgs]:
            self._check(nib.load(img) if isinstance(img, str | Path) else img)
        return super().transform_single_imgs(imgs, confounds=confounds, sample_mask=sample_mask)[..., self._order]

    def _check(self, img: Any) -> None:
        if hasattr(img, "shape"):
            if img.shape[:3] != self.mask_img_.shape or not np.allclose(img.affine, self.mask_img_.affine, atol=1e-3):
                raise SpaceMismatchError(
                    f"The image has shape {img.shape} and affine {img.affine.tolist()}; the mask has shape "
                    f"{self.mask_img_.shape} and the identity as affine. nilearn would interpolate between "
                    "neurons: use images of one study and site, without resampling."
                )
            if not np.isfinite(np.asarray(img.dataobj)).all():
                raise NonFiniteError(
                    "The image contains NaN or infinity, which nilearn would replace with 0. Record again."
                )

    def inverse_transform(self, X: np.ndarray) -> nib.Nifti1Image:
        """Convert values ``(n_neurons,)`` or ``(n, n_neurons)`` to an image."""
        X = np.asarray(X)
        reordered = np.empty_like(X)
        reordered[..., self._order] = X
        return stamp(super().inverse_transform(reordered), self.mask_img_.affine)
