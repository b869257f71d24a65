"""Export as CIFTI files for Connectome Workbench: named maps and named layers on one grid of voxels."""

from pathlib import Path

import nibabel as nib
import numpy as np
from nibabel import cifti2

from lmri import storage
from lmri.report.export.exported import Exported

STRUCTURE = "CIFTI_STRUCTURE_OTHER"
"""CIFTI requires a brain structure for every voxel; this one is unspecific."""


def write_workbench(exported: Exported, folder: Path) -> None:
    """Write maps (and thresholded maps, if available) as ``dscalar``, and layers as ``dlabel``.

    Parameters
    ----------
    found : Exported
        Networks to export.
    folder : Path
        Empty folder.
    """
    space, names = exported.space, exported.networks.names
    labelled = [f"{name} {label}".strip() for name, label in zip(names, exported.labels, strict=True)]
    inside = np.asarray(space.mask_img.dataobj) != 0
    voxels = cifti2.BrainModelAxis.from_mask(inside, name=STRUCTURE, affine=space.affine)

    def save(values: np.ndarray, axis: cifti2.cifti2_axes.Axis, name: str) -> None:
        # Voxels are in the order of the CIFTI axis, which differs from the order of the arrays.
        volumes = np.asarray(space.to_img(values).dataobj)[tuple(voxels.voxel.T)].T  # (n_maps, n_voxels)
        img = cifti2.Cifti2Image(volumes.astype(np.float32), (axis, voxels))
        img.nifti_header.set_intent(f"ConnDense{'Label' if name.endswith('dlabel.nii') else 'Scalar'}")
        with storage.atomic_path(folder / name) as partial:
            nib.save(img, partial)

    stat = exported.networks.stat_type
    save(exported.stat_map, cifti2.ScalarAxis(labelled), f"maps_stat-{stat}.dscalar.nii")
    if exported.networks.is_thresholded:
        members = np.where(exported.networks.members, exported.stat_map, 0)
        save(members, cifti2.ScalarAxis(labelled), f"networks_stat-{stat}.dscalar.nii")
    table = space.labels_table
    key = {0: ("???", (0.0, 0.0, 0.0, 0.0))}
    for number, name, color in zip(table["index"], table["name"], table["color"], strict=True):
        r, g, b = (int(color[at : at + 2], 16) / 255 for at in (1, 3, 5))
        key[int(number)] = (str(name), (r, g, b, 1.0))
    save((space.layer_of + 1)[None], cifti2.LabelAxis(["layers"], [key]), "layers.dlabel.nii")
    storage.save_img(space.mask_img, folder / "mask.nii.gz")
    storage.write_table(folder / "components.tsv", exported.table)
