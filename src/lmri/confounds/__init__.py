"""Confounds: what any token has, whatever a network may be about, a table a run, named as fMRIPrep names its own.

`compute` makes the columns, `write` stores them beside the images, ``recording.confounds`` reads them, and `select`
gives those that a decomposition or a localizer is to regress out. Surprisal and entropy come from the model itself, by
`lmri.surprisal.predictions`; nothing here loads one.
"""

from lmri.confounds.columns import COLUMNS, MASSIVE, SITE_COLUMNS, TEXT_COLUMNS, Predictions
from lmri.confounds.selection import joined, select
from lmri.confounds.tables import compute, has_predictions, has_site, has_text, predicted_by, reasons, write

__all__ = [
    "COLUMNS",
    "MASSIVE",
    "SITE_COLUMNS",
    "TEXT_COLUMNS",
    "Predictions",
    "compute",
    "has_predictions",
    "has_site",
    "has_text",
    "joined",
    "predicted_by",
    "reasons",
    "select",
    "write",
]
