"""Where a neuron is: neuron ↔ voxel, mask image, layers, headers, masker and drawing."""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
