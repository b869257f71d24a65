"""Tasks: what a model is scored on. One file a task; anything with ``info``, ``texts`` and ``score`` is one."""

from lmri.tasks.base import Task
from lmri.tasks.classification import Classification
from lmri.tasks.perplexity import Perplexity

__all__ = ["Classification", "Perplexity", "Task"]
