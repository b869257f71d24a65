"""nilearn's masker over a neuron space."""

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from nilearn.maskers import NiftiMasker

from lmri.exceptions import NonFiniteError, SpaceMismatchError
from lmri.space.headers import stamp


class NeuronMasker(NiftiMasker):
    """nilearn's masker, with columns in (layer, neuron) order.

    nilearn lists voxels with ``z`` fastest: of three layers of 40 neurons, its first columns are neurons 0, 40 and 80.
    It also resamples images of another grid with no more than a warning, which would mix unrelated neurons; here they
    are refused, and so is smoothing.
    """

    def fit(self, imgs: Any = None, y: Any = None) -> "NeuronMasker":
        """Prepare the masker; `imgs` are not needed."""
        if self.smoothing_fwhm is not None:
            raise ValueError(
                f"smoothing_fwhm is {self.smoothing_fwhm}; accepted is None. "
                "Neighbouring voxels hold unrelated neurons, and smoothing would mix them."
            )
        return super().fit(imgs, y)

    @property
    def _order(self) -> np.ndarray:
        x, y, z = np.nonzero(np.asarray(self.mask_img_.dataobj))
        return np.lexsort((x, y, z))

    def transform_single_imgs(self, imgs: Any, confounds: Any = None, sample_mask: Any = None) -> np.ndarray:
        """Extract ``(n_volumes, n_neurons)`` from one image, or from several one behind the other."""
        for img in imgs if isinstance(imgs, list | tuple) else [imgs]:
            self._check(nib.load(img) if isinstance(img, str | Path) else img)
        return super().transform_single_imgs(imgs, confounds=confounds, sample_mask=sample_mask)[..., self._order]

    def _check(self, img: Any) -> None:
        if hasattr(img, "shape"):
            if img.shape[:3] != self.mask_img_.shape or not np.allclose(img.affine, self.mask_img_.affine, atol=1e-3):
                raise SpaceMismatchError(
                    f"The image has shape {img.shape} and affine {img.affine.tolist()}; the mask has shape "
                    f"{self.mask_img_.shape} and the identity. nilearn would interpolate between neurons: "
                    "use images of one study and site, unresampled."
                )
            if not np.isfinite(np.asarray(img.dataobj)).all():
                raise NonFiniteError("The image holds NaN or infinity, which nilearn would turn into 0. Record again.")

    def inverse_transform(self, X: np.ndarray) -> nib.Nifti1Image:
        """Put ``(n_neurons,)`` or ``(n, n_neurons)`` back into an image."""
        X = np.asarray(X)
        back = np.empty_like(X)
        back[..., self._order] = X
        return stamp(super().inverse_transform(back), self.mask_img_.affine)
