"""Sites: where neurons are read and changed, found by shape and checked on the model at hand.

Both kinds of neuron of an MLP live at its final projection: its *output* is the paper's neuron (``mlp_out``), its
*input* the hidden unit (``mlp_hidden``); and so it is at the output projection of attention (``attn_out``, and
``attn_heads``, what the heads give). No registry of architectures: the stack of blocks is found from what transformers
declares, and within a block the projection by its shape. A self-test then reads, lesions and restores, so that a wrong
guess is an error and never a result.
"""

from lmri.sites import experts
from lmri.sites.checking import check_sites
from lmri.sites.finding import find_sites
from lmri.sites.forward import forward
from lmri.sites.stack import blocks, n_declared
from lmri.sites.taps import around, attach, by_text, projections, tapped, widths

__all__ = [
    "around",
    "attach",
    "blocks",
    "by_text",
    "check_sites",
    "experts",
    "find_sites",
    "forward",
    "n_declared",
    "projections",
    "tapped",
    "widths",
]
