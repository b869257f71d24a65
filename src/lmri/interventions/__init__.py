"""Interventions: silence, keep or amplify neurons of a live model, and leave it as it was.

``lesion``, ``preserve`` and ``amplify`` are three constructors of one type: at some neurons, an activation ``x``
becomes ``scale * x + shift``, or its value at a donor token; all others pass untouched, and so do tokens that are
spared.
"""

from lmri.interventions.base import Edit, Intervention
from lmri.interventions.donors import Donors
from lmri.interventions.making import amplify, baseline_of, lesion, preserve
from lmri.interventions.outputs import output_norms
from lmri.interventions.positions import Spare

__all__ = ["Donors", "Edit", "Intervention", "Spare", "amplify", "baseline_of", "lesion", "output_norms", "preserve"]
