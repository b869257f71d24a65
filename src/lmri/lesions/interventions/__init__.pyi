from .base import Edit as Edit
from .base import Intervention as Intervention
from .constructors import amplify as amplify
from .constructors import lesion as lesion
from .constructors import preserve as preserve
from .outputs import output_norms as output_norms
from .positions import TokenMask as TokenMask
