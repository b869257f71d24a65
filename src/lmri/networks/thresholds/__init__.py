"""Thresholds that determine the members of a network from its map. Pure functions on arrays.

Every function takes maps ``(n_maps, n_neurons)`` and returns booleans of the same shape. `THRESHOLDS` describes each
function; the error rate that it controls, if any, is stored with every result.
"""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
