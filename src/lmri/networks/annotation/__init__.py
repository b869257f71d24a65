"""Annotation: what a network is, told from its time course: tokens, kinds of text, features, and a suggested label.

A *text* is the unit of all inference here; tokens never are. Time courses come as arrays ``(n_volumes, n_networks)``,
one a run, with the table of events of each run, a row a volume. They are z-scored over all volumes, so that effects are
in standard deviations of a network's own time course.

What is exchanged under a null hypothesis is always whole: a text's time course stays as it is, and so do a text's
tokens. The null breaks only which of them belong together (see `enrichment` and `decode`).
"""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
