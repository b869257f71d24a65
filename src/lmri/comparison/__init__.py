"""Comparison of sets of maps: matched one to one beside their nulls, and what several sets have in common."""

from lmri.comparison.consensus import Consensus, compare_many
from lmri.comparison.courses import CourseComparison, compare_time_courses
from lmri.comparison.pair import Comparison, check_standardization, compare

AnyComparison = Comparison | CourseComparison | Consensus

__all__ = [
    "AnyComparison",
    "Comparison",
    "Consensus",
    "CourseComparison",
    "check_standardization",
    "compare",
    "compare_many",
    "compare_time_courses",
]
