from .layers import Layer as Layer
from .space import Img as Img
from .space import ModelInfo as ModelInfo
from .space import NeuronSpace as NeuronSpace
from .space import fold as fold
