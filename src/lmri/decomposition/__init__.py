"""Decompositions: from images to maps. NeuronICA, and beside it nilearn's and scikit-learn's own, made safe."""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
