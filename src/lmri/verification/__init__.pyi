from .result import Check as Check
from .result import Verification as Verification
from .run import check_model as check_model
