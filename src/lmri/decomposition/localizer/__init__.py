"""Functional localizers: neurons that differ between conditions of an experimenter, tested over texts or runs."""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
