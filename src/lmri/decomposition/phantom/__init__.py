"""Phantoms: planted networks in any space, nulls, and what methods and thresholds make of both."""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
