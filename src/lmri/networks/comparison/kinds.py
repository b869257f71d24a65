"""Types of comparison of network sets."""

from lmri.networks.comparison.consensus import Consensus
from lmri.networks.comparison.courses import CourseComparison
from lmri.networks.comparison.pair import Comparison

AnyComparison = Comparison | CourseComparison | Consensus
