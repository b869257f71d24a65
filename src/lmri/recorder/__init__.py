"""Recording: a model reads texts, and what its neurons do becomes images on disk.

What is to be recorded is planned before the first forward pass (`plan`), read batch by batch (`filling`), and written
to its place in files of a hidden folder of the study (`files`), of which a journal says what is done (`journal`). So a
recording that was interrupted can be continued, and one can be made in `shards` by many processes, on a cluster too
(`cluster`), and be put together by `merging`. Whole, it is put into its place in the study (`committing`).
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lmri.recorder.cluster import record_on_cluster as record_on_cluster
    from lmri.recorder.merging import merge as merge
    from lmri.recorder.run import record as record

_HOME = {"merge": "merging", "record": "run", "record_on_cluster": "cluster"}

__all__ = ["merge", "record", "record_on_cluster"]


def __getattr__(name: str) -> Any:
    # On first use: merging shards needs no torch.
    if name in _HOME:
        return getattr(importlib.import_module(f"lmri.recorder.{_HOME[name]}"), name)
    raise AttributeError(f"module 'lmri.recorder' has no attribute {name!r}")
