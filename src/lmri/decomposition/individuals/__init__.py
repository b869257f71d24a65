"""Individuals: group networks in single texts, by dual regression or by decomposition of each text."""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
