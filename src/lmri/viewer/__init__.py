"""The viewer: a local page on which a study is looked at, and what serves it. Nothing here loads a model.

`server` speaks HTTP, `guard` decides who may ask, `api` says what is answered at which address, `holdings` reads the
study piece by piece, `words` finds tokens in their text, and `page/` is what the browser runs.
"""

from lmri.viewer.server import make_app, niivue_path, open_browser, serve, serving

__all__ = ["make_app", "niivue_path", "open_browser", "serve", "serving"]
