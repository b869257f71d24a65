"""Evaluation: tasks × conditions → item rows, each lesion beside its matched controls."""

from lmri.evaluation.cost import estimate_cost
from lmri.evaluation.plan import PAPER_SHARE, conditions_of, identity
from lmri.evaluation.run import evaluate
from lmri.evaluation.store import ItemStore

__all__ = ["PAPER_SHARE", "ItemStore", "conditions_of", "estimate_cost", "evaluate", "identity"]
