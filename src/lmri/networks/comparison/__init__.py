"""Comparison of sets of maps: matched one to one beside their nulls, and what several sets have in common."""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
