"""Sites: where neurons are read and changed, found by shape and checked on the model at hand.

Both kinds of neuron of an MLP live at its final projection: its *output* is the paper's neuron (``mlp_out``), its
*input* the hidden unit (``mlp_hidden``); and so it is at the output projection of attention (``attn_out``, and
``attn_heads``, what the heads give). No registry of architectures: the stack of blocks is found from what transformers
declares, and within a block the projection by its shape. A self-test then reads, lesions and restores, so that a wrong
guess is an error and never a result.
"""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
