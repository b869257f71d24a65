"""Controls: random sets of neurons that have something in common with a network.

Three families, from loose to tight: by layer and size (`MatchedControls`); by what the lesion removes, too
(`EnergyMatchedControls`); and with the same index in the same layers (`PermutedControls`, at ``mlp_out``).
`SharedControls` are of the first family, and common to networks of like size, where time is short.
"""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
