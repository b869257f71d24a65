"""What neurons write with: the weights by which a hidden neuron reaches the residual stream."""

import numpy as np
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from lmri.exceptions import SiteError
from lmri.models.sites import experts, projections, widths
from lmri.space import NeuronSpace
from lmri.space.layers import is_input


def output_norms(model: PreTrainedModel, space: NeuronSpace) -> np.ndarray:
    """Compute the squared norm of the weights that every hidden neuron writes with.

    Parameters
    ----------
    model : PreTrainedModel
        With weights that can be read: neither quantized nor offloaded.
    space : NeuronSpace
        At ``mlp_hidden`` or ``attn_heads``, also of experts.

    Returns
    -------
    ndarray of float64, shape (n_neurons,)
        Sum of squares of its column of the MLP's final projection.

    Raises
    ------
    ValueError
        At ``mlp_out`` and ``attn_out``, where a neuron has no weights to write with: it is a coordinate of the output.
    SiteError
        If the model has other layers, or weights that cannot be read.
    """
    if not is_input(space.site):
        raise ValueError(
            f"The site is {space.site!r}; only neurons at 'mlp_hidden' and 'attn_heads' have output weights."
        )
    if tuple(widths(model, space)) != space.widths:
        raise SiteError(
            f"{type(model).__name__} has layers of width {widths(model, space)}; {list(space.widths)} are needed. "
            "Use the model that was recorded."
        )
    norms = []
    for layer, module in zip(space.layers, projections(model, space), strict=True):
        weight = getattr(module, "weight", None) if layer.expert is None else experts.weights(module, layer.expert)
        if weight is None or not weight.is_floating_point() or weight.is_meta:
            raise SiteError(
                f"The weights of {layer.module!r} cannot be read: they are quantized or offloaded. "
                "Load the model in float32 on one device."
            )
        # Linear keeps (out, in), Conv1D (in, out); experts are given as Linear keeps them.
        norms.append(weight.detach().double().pow(2).sum(1 if isinstance(module, Conv1D) else 0).cpu().numpy())
    return np.concatenate(norms)
