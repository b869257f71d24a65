from .consensus import Consensus as Consensus
from .consensus import compare_many as compare_many
from .kinds import AnyComparison as AnyComparison
from .maps import Comparison as Comparison
from .maps import check_standardization as check_standardization
from .maps import compare as compare
from .time_courses import CourseComparison as CourseComparison
from .time_courses import compare_time_courses as compare_time_courses
