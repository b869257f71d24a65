from .network import LOCALIZER as LOCALIZER
from .network import Network as Network
from .network_set import NetworkSet as NetworkSet
from .origin import Origin as Origin
