"""Files of a study: file names, atomic writes, tables, recordings, texts and entries. No statistics."""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
