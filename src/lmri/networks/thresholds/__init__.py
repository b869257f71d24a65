"""Thresholds: which neurons of a map belong to its network. Pure functions on arrays.

Every function takes maps ``(n_maps, n_neurons)`` and gives booleans of the same shape. What each does and does not
control is in `DESCRIPTIONS`, which travels with every result.
"""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
