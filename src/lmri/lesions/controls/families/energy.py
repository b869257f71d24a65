"""Controls with the same number of neurons in every layer whose lesion removes the same activity."""

from typing import TYPE_CHECKING

from lmri.lesions.controls.families.kinds import ControlFamily, Lesioned

if TYPE_CHECKING:
    from lmri.lesions.controls.base import Controls


def _make(lesioned: Lesioned, n: int) -> "Controls":
    from lmri.lesions.controls.strata import EnergyMatchedControls

    return EnergyMatchedControls.measured(
        lesioned.recordings(), lesioned.baseline, lesioned.norms(), n, lesioned.given()
    )


FAMILY = ControlFamily(
    "energy",
    "layer+size+energy",
    "also the activity removed by the lesion",
    "the same number of neurons in every layer, whose lesion removes similar energy",
    _make,
)
