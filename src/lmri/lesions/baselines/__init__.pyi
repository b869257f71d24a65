from .baseline import Baseline as Baseline
from .kinds import BaselineKind as BaselineKind
from .registry import BASELINES as BASELINES
