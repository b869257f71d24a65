"""Baselines: values that replace the activity of silenced neurons, one kind per file."""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
