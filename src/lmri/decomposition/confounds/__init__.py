"""Confounds: token properties unrelated to the hypothesis, one table per run, with file names as in fMRIPrep.

`compute` computes the columns, `write` stores them next to the images, ``recording.confounds`` reads them, and `select`
returns the regressors for a decomposition or a localizer. Surprisal and entropy are predictions of the model itself,
from `lmri.surprisal.predictions`; this package loads no model.
"""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
