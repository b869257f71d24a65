"""Sites: where neurons are read and changed, found by shape and tested on the model.

Both kinds of neurons of an MLP belong to its output projection: the *output* is the paper's neuron (``mlp_out``), the
*input* is the hidden unit (``mlp_hidden``). Likewise for the output projection of attention: ``attn_out`` is its
output, and ``attn_heads`` its input, the output of the heads. There is no registry of architectures: the stack of
blocks is found from the declarations of transformers, and the projection within a block by its shape. A self-test then
reads, lesions and restores, so that a wrong guess is an error and never a result.
"""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
