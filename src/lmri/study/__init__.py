"""Studies: one folder, one model, named entries; the thread through all commands. Data only; no torch."""

from lmri.study.entries import Entry
from lmri.study.study import Study, open_or_create, open_study

__all__ = ["Entry", "Study", "open_or_create", "open_study"]
