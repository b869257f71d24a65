"""Experiments: questions of the paper, and beyond it, each answered by one function of results or of a study."""

from lmri.experiments.dissociation import Dissociations, dissociate
from lmri.experiments.templates import find_templates_by_corpus

__all__ = ["Dissociations", "dissociate", "find_templates_by_corpus"]
