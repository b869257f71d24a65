"""Comparison of network sets: one-to-one matching with null distributions, and consensus of several sets."""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
