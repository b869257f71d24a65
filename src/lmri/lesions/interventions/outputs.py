"""Output weights: the projection of each hidden neuron to the residual stream."""

import numpy as np
import torch
from torch import nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from lmri.exceptions import SiteError
from lmri.models.adapters import MERGE, is_packed
from lmri.models.sites import experts, projections, widths
from lmri.models.sites.hooks import is_inside_adapter, is_plain
from lmri.space import NeuronSpace
from lmri.space.layers import is_input

_AT_ONCE = 1024


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
        if layer.expert is None and not is_plain(module) and not is_packed(module):
            norms.append(_norms_with_adapter(module, layer.width))
            continue
        weight = getattr(module, "weight", None) if layer.expert is None else experts.weights(module, layer.expert)
        if weight is None or not weight.is_floating_point() or weight.is_meta:
            raise SiteError(
                f"The weights of {layer.module!r} cannot be read: they are quantized or offloaded. "
                "Load the model in float32 on one device."
            )
        if layer.expert is not None and is_inside_adapter(model, layer.module):
            raise SiteError(f"The experts {layer.module!r} have an adapter, in addition to weights. {MERGE}")
        # Linear stores (out, in), Conv1D (in, out); weights of experts are returned in the layout of Linear.
        norms.append(weight.detach().double().pow(2).sum(1 if isinstance(module, Conv1D) else 0).cpu().numpy())
    return np.concatenate(norms)


def _norms_with_adapter(module: nn.Module, width: int) -> np.ndarray:
    """Compute the squared norms of the output weights of a linear map with an adapter, from its outputs."""
    values = next(values for values in module.parameters() if values.is_floating_point())
    if values.is_meta:
        raise SiteError("The weights of a projection with an adapter are offloaded. Load the model on one device.")
    norms = []
    with torch.inference_mode():
        zero = module(torch.zeros((1, width), dtype=values.dtype, device=values.device))
        for first in range(0, width, _AT_ONCE):
            units = torch.arange(first, min(first + _AT_ONCE, width), device=values.device)
            single = torch.nn.functional.one_hot(units, width).to(values.dtype)
            norms.append((module(single) - zero).double().pow(2).sum(1).cpu().numpy())
    return np.concatenate(norms)
