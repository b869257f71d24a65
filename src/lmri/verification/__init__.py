"""Verification of a user's model and installation: the checks of the tests, run on the model itself."""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
