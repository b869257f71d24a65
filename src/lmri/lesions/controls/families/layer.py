"""Controls with the same number of neurons in every layer."""

from typing import TYPE_CHECKING

from lmri.lesions.controls.families.kinds import ControlFamily, Lesioned

if TYPE_CHECKING:
    from lmri.lesions.controls.base import Controls


def _make(_lesioned: Lesioned, n: int) -> "Controls":
    from lmri.lesions.controls.matched import MatchedControls

    return MatchedControls(n)


FAMILY = ControlFamily(
    "layer", "layer+size", "same number of neurons per layer", "the same number of neurons in every layer", _make
)
