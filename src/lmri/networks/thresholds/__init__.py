"""Thresholds: which neurons of a map belong to its network. Pure functions on arrays.

Every function takes maps ``(n_maps, n_neurons)`` and returns booleans of the same shape. `THRESHOLDS` describes each of
them: the error rate that it controls, if any, is stored with every result.
"""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
