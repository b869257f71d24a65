"""Confounds: what any token has, whatever a network may be about, a table a run, named as fMRIPrep names its own.

`compute` makes the columns, `write` stores them beside the images, ``recording.confounds`` reads them, and `select`
gives those that a decomposition or a localizer is to regress out. Surprisal and entropy come from the model itself, by
`lmri.surprisal.predictions`; nothing here loads one.
"""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
