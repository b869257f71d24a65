"""Interventions: lesion, preserve or amplify neurons of a live model, which is restored afterwards.

``lesion``, ``preserve`` and ``amplify`` are three constructors of one type: at the target neurons, an activation ``x``
becomes ``scale * x + shift``, or its value at a donor token. All other neurons, and all spared tokens, are unchanged.
"""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
