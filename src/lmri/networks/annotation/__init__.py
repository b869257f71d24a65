"""Annotation of networks from their time courses: tokens, kinds of text, features, and a suggested label.

The unit of all inference is the *text*, never the token. Time courses are arrays ``(n_volumes, n_networks)``, one per
run, with a table of events per run, one row per volume. Time courses are z-scored over all volumes, so that effects are
in standard deviations of the time course of a network.

Permutations exchange whole texts: the time course of a text stays intact, and so do its tokens. Only the assignment of
time courses to texts is permuted (see `enrichment` and `decode`).
"""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
