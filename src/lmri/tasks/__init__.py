"""Tasks: what a model is scored on. One file a task; anything with ``info``, ``texts`` and ``score`` is one."""

from lmri.tasks.base import Task
from lmri.tasks.classification import SCORINGS, Classification
from lmri.tasks.free_text import FreeText
from lmri.tasks.lm_eval import LMEval
from lmri.tasks.loading import NAMES, load
from lmri.tasks.perplexity import Perplexity

__all__ = ["NAMES", "SCORINGS", "Classification", "FreeText", "LMEval", "Perplexity", "Task", "load"]
