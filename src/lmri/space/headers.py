"""What every image says of itself in its header."""

import nibabel as nib
import numpy as np

INTENTS = {"none": 0, "t": 3, "p": 22, "z": 5, "estimate": 1001, "label": 1002}
"""Kinds of image, with their NIfTI intent codes."""


def stamp(
    img: nib.Nifti1Image, affine: np.ndarray, intent: str = "none", extension: str | None = None
) -> nib.Nifti1Image:
    """Write orientation, units, intent and, if given, a comment into the header of `img`.

    Parameters
    ----------
    img : Nifti1Image
        Changed in place, and returned.
    affine : ndarray of shape (4, 4)
        For both sform and qform, with code 1: code 0 makes readers disagree, and 4 would mean a brain's standard space.
    intent : {"none", "z", "t", "p", "estimate", "label"}
        What the numbers are.
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
