"""Phantoms: planted networks in any space, nulls, and what methods and thresholds make of both."""

from lmri.phantom.docs import markdown
from lmri.phantom.evaluation import FalseMaps, measure, measure_null, power_by_effect
from lmri.phantom.nulls import NULLS, salmon
from lmri.phantom.planting import Phantom, plant
from lmri.phantom.tables import PHANTOMS, THRESHOLDS, make, table

__all__ = [
    "NULLS",
    "PHANTOMS",
    "THRESHOLDS",
    "FalseMaps",
    "Phantom",
    "make",
    "markdown",
    "measure",
    "measure_null",
    "plant",
    "power_by_effect",
    "salmon",
    "table",
]
