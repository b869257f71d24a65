"""Tasks: what a model is scored on. One file a task; anything with ``info``, ``texts`` and ``score`` is one."""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
