"""Experiments: questions of the paper, and beyond it, each answered by one function of results or of a study."""

from lmri.experiments.amplification import amplification_outcome, dose_conditions, dose_grid
from lmri.experiments.dissociation import Dissociations, dissociate, dissociation_outcome
from lmri.experiments.lesions import lesion_outcome
from lmri.experiments.preservation import preservation_conditions, preservation_grid, preservation_outcome
from lmri.experiments.robustness import Robustness, robustness
from lmri.experiments.templates import find_templates_by_corpus, templates_outcome

__all__ = [
    "Dissociations",
    "Robustness",
    "amplification_outcome",
    "dissociate",
    "dissociation_outcome",
    "dose_conditions",
    "dose_grid",
    "find_templates_by_corpus",
    "lesion_outcome",
    "preservation_conditions",
    "preservation_grid",
    "preservation_outcome",
    "robustness",
    "templates_outcome",
]
