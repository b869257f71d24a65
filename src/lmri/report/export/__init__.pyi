from .accepting import Accepted as Accepted
from .accepting import accept as accept
from .labels import ComponentLabels as ComponentLabels
from .labels import format_labels as format_labels
from .labels import read_labels as read_labels
from .writing import FORMATS as FORMATS
from .writing import export as export
