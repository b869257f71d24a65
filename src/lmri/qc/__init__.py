"""Quality control, as in an MR laboratory: is a recording fit to be analysed? Numbers only; the report draws them."""

from lmri.qc.quality import Quality, inspect
from lmri.qc.runs import Carpet

__all__ = ["Carpet", "Quality", "inspect"]
