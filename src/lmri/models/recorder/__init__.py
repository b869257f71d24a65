"""Recording: the activations of a model while it reads texts are saved as images on disk.

The recording is planned before the first forward pass (`plan`), read batch by batch (`write_activations`), and written
to files in a hidden folder of the study (`files`); a journal lists the finished batches (`journal`). An interrupted
recording can therefore be continued, and a recording can be split into `shards` for many processes, also on a cluster
(`cluster`), and combined by `merging`. A complete recording is moved to its final location in the study (`finalize`).
"""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
