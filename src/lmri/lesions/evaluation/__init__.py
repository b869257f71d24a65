"""Evaluation: tasks × conditions → item rows, each lesion beside its matched controls."""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
