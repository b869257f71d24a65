from .cluster import record_on_cluster as record_on_cluster
from .merging import merge as merge
from .run import record as record
