from .codec import decomposition_identity as decomposition_identity
from .fastica import FastICA as FastICA
from .methods import METHODS as METHODS
from .methods import DecompositionMethod as DecompositionMethod
from .methods import build as build
from .neuronica import NeuronICA as NeuronICA
from .nilearn import CanICA as CanICA
from .nilearn import DictLearning as DictLearning
