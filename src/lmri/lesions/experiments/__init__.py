"""Experiments: analyses of the paper and further ones, each a function of results or of a study."""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
