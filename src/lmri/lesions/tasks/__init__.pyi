from .base import Task as Task
from .classification import SCORINGS as SCORINGS
from .classification import Classification as Classification
from .free_text import FreeText as FreeText
from .lm_eval import LMEval as LMEval
from .loading import NAMES as NAMES
from .loading import load as load
from .perplexity import Perplexity as Perplexity
