from .quality import Quality as Quality
from .quality import inspect as inspect
from .runs import Carpet as Carpet
