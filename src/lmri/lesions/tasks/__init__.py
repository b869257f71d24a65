"""Tasks on which models are scored, one file per task; any object with the interface of `Task` is a task."""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
