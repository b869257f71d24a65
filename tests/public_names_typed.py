"""Uses of public names for type checking: checked by mypy in ``make lint``, and never run.

One assignment is an error on purpose: mypy reports an ignore that is not needed, as where a module is not found.
"""

import lmri.tasks
from lmri import NetworkSet, open_study, qc, tasks
from lmri.confounds import select
from lmri.controls import MatchedControls
from lmri.experiments import lesion_outcome
from lmri.interventions import lesion
from lmri.outcome import Outcome
from lmri.sites import find_sites
from lmri.surprisal import predictions
from lmri.tasks import Perplexity
from lmri.thresholds import z
from lmri.viewer import serving


def use() -> object:
    """Use the names as a program would."""
    networks: NetworkSet = open_study("study").networks()
    task = Perplexity(["a text"])
    same: lmri.tasks.Perplexity = task
    again: tasks.Perplexity = same
    wrong: int = Perplexity(["a text"])  # type: ignore[assignment]
    functions = (qc.inspect, select, MatchedControls, lesion, lesion_outcome, find_sites, predictions, z, serving)
    return networks, again, wrong, functions, Outcome
