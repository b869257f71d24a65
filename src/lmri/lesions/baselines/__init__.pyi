from .baseline import Baseline as Baseline
from .kinds import BaselineKind as BaselineKind
from .registry import BASELINES as BASELINES
from .resample_source import ResampleSource as ResampleSource
