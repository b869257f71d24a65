"""Neuroimaging for language models: the functional networks of a transformer, with the tools of fMRI.

Public names are loaded on first use, so that ``import lmri``, opening a study and looking at it need no torch.
"""

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from lmri import qc as qc
    from lmri import tasks as tasks
    from lmri.annotation import annotate as annotate
    from lmri.comparison import Comparison as Comparison
    from lmri.comparison import Consensus as Consensus
    from lmri.comparison import compare as compare
    from lmri.comparison import compare_many as compare_many
    from lmri.controls import EnergyMatchedControls as EnergyMatchedControls
    from lmri.controls import MatchedControls as MatchedControls
    from lmri.controls import PermutedControls as PermutedControls
    from lmri.decomposition import CanICA as CanICA
    from lmri.decomposition import DictLearning as DictLearning
    from lmri.decomposition import FastICA as FastICA
    from lmri.decomposition import NeuronICA as NeuronICA
    from lmri.evaluation import conditions_of as conditions_of
    from lmri.evaluation import evaluate as evaluate
    from lmri.exceptions import SpaceMismatchError as SpaceMismatchError
    from lmri.finetuning import finetune as finetune
    from lmri.individuals import dual_regression as dual_regression
    from lmri.interventions import Donors as Donors
    from lmri.interventions import Intervention as Intervention
    from lmri.interventions import amplify as amplify
    from lmri.interventions import lesion as lesion
    from lmri.interventions import preserve as preserve
    from lmri.localizer import Localizer as Localizer
    from lmri.localizer import localize as localize
    from lmri.models import load_model as load_model
    from lmri.networks import Network as Network
    from lmri.networks import NetworkSet as NetworkSet
    from lmri.recorder import merge as merge
    from lmri.recorder import record as record
    from lmri.recorder import record_on_cluster as record_on_cluster
    from lmri.recording import Recording as Recording
    from lmri.rois import read_roi as read_roi
    from lmri.scores import Scores as Scores
    from lmri.sites import find_sites as find_sites
    from lmri.space import NeuronSpace as NeuronSpace
    from lmri.study import Study as Study
    from lmri.study import open_study as open_study
    from lmri.texts import read_texts as read_texts

_HOME = {
    "CanICA": "decomposition",
    "Comparison": "comparison",
    "Consensus": "comparison",
    "DictLearning": "decomposition",
    "FastICA": "decomposition",
    "Donors": "interventions",
    "EnergyMatchedControls": "controls",
    "Intervention": "interventions",
    "Localizer": "localizer",
    "MatchedControls": "controls",
    "Network": "networks",
    "NetworkSet": "networks",
    "NeuronICA": "decomposition",
    "NeuronSpace": "space",
    "PermutedControls": "controls",
    "Recording": "recording",
    "Scores": "scores",
    "SpaceMismatchError": "exceptions",
    "Study": "study",
    "amplify": "interventions",
    "annotate": "annotation",
    "compare": "comparison",
    "compare_many": "comparison",
    "conditions_of": "evaluation",
    "dual_regression": "individuals",
    "evaluate": "evaluation",
    "find_sites": "sites",
    "finetune": "finetuning",
    "lesion": "interventions",
    "load_model": "models",
    "localize": "localizer",
    "merge": "recorder",
    "open_study": "study",
    "preserve": "interventions",
    "read_roi": "rois",
    "read_texts": "texts",
    "record": "recorder",
    "record_on_cluster": "recorder",
}

__all__ = sorted([*_HOME, "qc", "tasks"])


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(importlib.import_module(f"lmri.{_HOME[name]}"), name)
    if name in ("qc", "tasks"):
        return importlib.import_module(f"lmri.{name}")
    raise AttributeError(f"module 'lmri' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
