"""Localizers: which neurons differ between conditions that an experimenter names, tested over texts or runs."""

from lmri.localizer.contrast import Contrast
from lmri.localizer.estimator import Localizer, localize
from lmri.localizer.first_level import design_matrix, first_level, label_volumes, text_means
from lmri.localizer.overlap import overlap_p, overlap_table
from lmri.localizer.second_level import SecondLevel, between_texts, within_units

__all__ = [
    "Contrast",
    "Localizer",
    "SecondLevel",
    "between_texts",
    "design_matrix",
    "first_level",
    "label_volumes",
    "localize",
    "overlap_p",
    "overlap_table",
    "text_means",
    "within_units",
]
