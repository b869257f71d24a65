"""Types of comparison of network sets."""

from lmri.networks.comparison.consensus import Consensus
from lmri.networks.comparison.maps import Comparison
from lmri.networks.comparison.time_courses import CourseComparison

AnyComparison = Comparison | CourseComparison | Consensus
