from .consensus import Consensus as Consensus
from .consensus import compare_many as compare_many
from .courses import CourseComparison as CourseComparison
from .courses import compare_time_courses as compare_time_courses
from .kinds import AnyComparison as AnyComparison
from .pair import Comparison as Comparison
from .pair import check_standardization as check_standardization
from .pair import compare as compare
