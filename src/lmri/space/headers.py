"""NIfTI headers of all images: orientation, units, intent and a comment."""

import nibabel as nib
import numpy as np

INTENTS = {"none": 0, "t": 3, "p": 22, "z": 5, "estimate": 1001, "label": 1002}
"""NIfTI intent codes by kind of image."""


def stamp(
    img: nib.Nifti1Image, affine: np.ndarray, intent: str = "none", extension: str | None = None
) -> nib.Nifti1Image:
    """Write orientation, units, intent and, if given, a comment into the header of `img`.

    Parameters
    ----------
    img : Nifti1Image
        Image, which is changed in place and returned.
    affine : ndarray of shape (4, 4)
        Affine for both sform and qform, with code 1: readers interpret code 0 differently, and code 4 would mean a
        standard brain space.
    intent : {"none", "z", "t", "p", "estimate", "label"}
        Kind of the values.
    extension : str, optional
        Text of a header extension; others are removed.
    """
    img.set_sform(affine, code=1)
    img.set_qform(affine, code=1)
    header = img.header
    header.set_xyzt_units("mm", "sec")
    zooms = np.sqrt((affine[:3, :3] ** 2).sum(axis=0))
    header.set_zooms((*zooms, 1.0)[: len(img.shape)])
    header.set_intent(INTENTS[intent], allow_unknown=True)
    header.extensions.clear()
    if extension is not None:
        header.extensions.append(nib.nifti1.Nifti1Extension(6, extension.encode()))
    return img
