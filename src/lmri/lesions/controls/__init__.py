"""Matched controls: random sets of neurons that share properties with a network.

Three families, from loosely to tightly matched: by layer and size (`MatchedControls`); also by the activity that the
lesion removes (`EnergyMatchedControls`); and with a common permutation of the neuron index in all layers
(`PermutedControls`, at ``mlp_out``). `SharedControls` are matched by layer and size and shared by networks of similar
size, which saves time.
"""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
