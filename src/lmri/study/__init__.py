"""Studies: one folder, one model, named entries; the thread through all commands. Data only; no torch."""

from lmri.study.baselines import Baseline
from lmri.study.entries import Entry
from lmri.study.study import Study, open_study, writing_to

__all__ = ["Baseline", "Entry", "Study", "open_study", "writing_to"]
