"""The report: everything in a study as one self-contained HTML file, from data alone."""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
