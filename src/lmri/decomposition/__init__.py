"""Decompositions: from images to maps, by NeuronICA and by safe versions of nilearn's and scikit-learn's estimators."""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
