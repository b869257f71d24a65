"""The command line: one command per stage, with the library's names. Heavy imports are deferred to the commands."""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
