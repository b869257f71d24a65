"""Recording: a model reads texts, and what its neurons do becomes images on disk.

What is to be recorded is planned before the first forward pass (`plan`), read batch by batch (`write_activations`), and written
to its place in files of a hidden folder of the study (`files`), of which a journal says what is done (`journal`). So a
recording that was interrupted can be continued, and one can be made in `shards` by many processes, on a cluster too
(`cluster`), and be put together by `merging`. Whole, it is put into its place in the study (`finalize`).
"""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
