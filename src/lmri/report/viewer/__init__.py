"""The viewer: a local page on which a study is looked at, and what serves it. Nothing here loads a model.

`server` speaks HTTP, `guard` decides who may ask, `api` says what is answered at which address, `reader` reads the
study piece by piece, `words` finds tokens in their text, and `page/` is what the browser runs.
"""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
