"""Viewer: a local web page for exploring a study, and its server. No model is loaded.

`server` handles HTTP, `guard` authorizes requests, `models` finds the model that a request names, `api` and
`results_api` answer them, `query` validates their parameters, `cached_reader` reads a model piece by piece,
`top_tokens` finds tokens in their text, and `page/` runs in the browser.
"""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
