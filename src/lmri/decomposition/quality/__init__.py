"""Quality control, as in an MR laboratory: is a recording fit to be analysed? Numbers only; the report draws them."""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
