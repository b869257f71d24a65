from .cost import estimate_cost as estimate_cost
from .plan import PAPER_SHARE as PAPER_SHARE
from .plan import conditions_of as conditions_of
from .plan import identity as identity
from .run import evaluate as evaluate
from .store import ItemStore as ItemStore
