"""Controls that permute the neuron index in the same way in every layer."""

from typing import TYPE_CHECKING

from lmri.lesions.controls.families.kinds import ControlFamily, Lesioned

if TYPE_CHECKING:
    from lmri.lesions.controls.base import Controls


def _make(_lesioned: Lesioned, n: int) -> "Controls":
    from lmri.lesions.controls.permuted import PermutedControls

    return PermutedControls(n)


FAMILY = ControlFamily(
    "index",
    "layer+size+index",
    "the same permutation of neuron indices in every layer (mlp_out)",
    "the neurons of the network under one permutation of the index, common to all layers",
    _make,
)
