"""Controls shared by networks of similar size, so that the lesion of each control is scored once."""

from typing import TYPE_CHECKING

from lmri.lesions.controls.families.kinds import ControlFamily, Lesioned

if TYPE_CHECKING:
    from lmri.lesions.controls.base import Controls


def _make(lesioned: Lesioned, n: int) -> "Controls":
    from lmri.lesions.controls.shared import SharedControls

    return SharedControls(lesioned.targets(), n)


FAMILY = ControlFamily(
    "shared",
    "layer+size, shared",
    "as layer, but shared by networks of similar size, which is faster",
    "at least as many neurons in every layer, and are shared by networks of similar size",
    _make,
    same_size=False,
)
