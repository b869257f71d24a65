"""Output weights: the projection of each hidden neuron to the residual stream."""

import numpy as np
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from lmri.exceptions import SiteError
from lmri.models.sites import experts, projections, widths
from lmri.space import NeuronSpace
from lmri.space.layers import is_input


def output_norms(model: PreTrainedModel, space: NeuronSpace) -> np.ndarray:
    """Compute the squared norm of every hidden neuron's output weights.

    Parameters
    ----------
    model : PreTrainedModel
        Model with readable weights: neither quantized nor offloaded.
    space : NeuronSpace
        Neurons at ``mlp_hidden`` or ``attn_heads``, including those of experts.

    Returns
    -------
    ndarray of float64, shape (n_neurons,)
        Sum of squares of the neuron's column of the MLP's final projection.

    Raises
    ------
    ValueError
        If the site is ``mlp_out`` or ``attn_out``, where a neuron is a coordinate of the output and has no output
        weights.
    SiteError
        If the layers of the model differ, or its weights cannot be read.
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
        # Linear stores (out, in), Conv1D (in, out); weights of experts are returned in the layout of Linear.
        norms.append(weight.detach().double().pow(2).sum(1 if isinstance(module, Conv1D) else 0).cpu().numpy())
    return np.concatenate(norms)
