"""Phantoms: planted networks in any space, nulls, and the performance of methods and thresholds on both."""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
