"""Controls: random sets of neurons that have something in common with a network.

Three families, from loose to tight: by layer and size (`MatchedControls`); by what the lesion removes, too
(`EnergyMatchedControls`); and with the same index in the same layers (`PermutedControls`, at ``mlp_out``).
`SharedControls` are of the first family, and common to networks of like size, where time is short.
"""

from lmri.controls.balance import Balance
from lmri.controls.base import FAMILIES, SHARED, Controls
from lmri.controls.energy import moments, removed_energy
from lmri.controls.matched import MatchedControls, random_share
from lmri.controls.permuted import PermutedControls
from lmri.controls.shared import SharedControls
from lmri.controls.strata import EnergyMatchedControls

__all__ = [
    "FAMILIES",
    "SHARED",
    "Balance",
    "Controls",
    "EnergyMatchedControls",
    "MatchedControls",
    "PermutedControls",
    "SharedControls",
    "moments",
    "random_share",
    "removed_energy",
]
