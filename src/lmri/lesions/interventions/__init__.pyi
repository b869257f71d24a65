from .base import Edit as Edit
from .base import Intervention as Intervention
from .making import amplify as amplify
from .making import lesion as lesion
from .making import preserve as preserve
from .outputs import output_norms as output_norms
from .positions import Spare as Spare
