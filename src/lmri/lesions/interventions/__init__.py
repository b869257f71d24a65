"""Interventions: silence, keep or amplify neurons of a live model, and leave it as it was.

``lesion``, ``preserve`` and ``amplify`` are three constructors of one type: at some neurons, an activation ``x``
becomes ``scale * x + shift``, or its value at a donor token; all others pass untouched, and so do tokens that are
spared.
"""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
