"""Controls with as many neurons in every layer, of which a lesion removes as much activity."""

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
    "as many neurons in every layer, of which a lesion removes as much",
    _make,
)
