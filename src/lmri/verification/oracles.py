"""Direct computations with torch, independent of the code that they check."""

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch.utils.hooks import RemovableHandle
from transformers import PreTrainedModel

from lmri.models.module_state import ModuleState
from lmri.space import NeuronSpace
from lmri.space.layers import is_input


def hidden_and_logits(
    model: PreTrainedModel, space: NeuronSpace | None, ids: Sequence[int]
) -> tuple[np.ndarray, np.ndarray]:
    """Run the model on one text alone, with plain hooks on the modules of a space.

    Parameters
    ----------
    model : PreTrainedModel
        Model.
    space : NeuronSpace, optional
        Site whose modules are called once per forward pass.
    ids : sequence of int
        Token ids of the text.

    Returns
    -------
    activations : ndarray of shape (n_tokens, n_neurons)
        Input or output of the modules, side by side; without columns if there is no space.
    output : ndarray of shape (n_tokens, n_outputs) or (n_outputs,)
        Logits of the model, or the last hidden states of a model without head.
    """
    seen: dict[int, torch.Tensor] = {}
    device = model.get_input_embeddings().weight.device
    row = torch.tensor([list(ids)], device=device)
    inputs: dict[str, Any] = {"input_ids": row, "attention_mask": torch.ones_like(row)}
    if model.config.is_encoder_decoder:
        inputs["decoder_input_ids"] = row
    with contextlib.ExitStack() as stack, torch.no_grad(), _evaluation(model):
        if space is not None:
            for z, layer in enumerate(space.layers):
                module = model.base_model.get_submodule(layer.module)
                stack.callback(_keep(module, is_input(space.site), seen, z).remove)
        outputs = model(**inputs)
    first = outputs["logits"] if "logits" in outputs else outputs[0]
    layers = [seen[z].float().reshape(len(ids), -1).cpu().numpy() for z in sorted(seen)]
    activations = np.concatenate(layers, axis=1) if layers else np.zeros((len(ids), 0), dtype=np.float32)
    return activations, first[0].float().cpu().numpy()


def _keep(module: torch.nn.Module, is_hidden: bool, seen: dict[int, torch.Tensor], z: int) -> RemovableHandle:
    if is_hidden:
        return module.register_forward_pre_hook(lambda module, args: seen.__setitem__(z, args[0].clone()))

    def after(module: torch.nn.Module, args: Any, output: Any) -> None:
        seen[z] = (output[0] if isinstance(output, tuple) else output).clone()

    return module.register_forward_hook(after)


@contextlib.contextmanager
def _evaluation(model: torch.nn.Module) -> Iterator[None]:
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    state = ModuleState(model)  # some models change their attributes when they read a short text
    try:
        yield
    finally:
        state.restore()
        for module, mode in modes:
            module.training = mode


@contextlib.contextmanager
def zeroed_neuron(model: PreTrainedModel, space: NeuronSpace, z: int, neuron: int) -> Iterator[bool]:
    """Set the output weights of a neuron to zero while the body runs; yield whether they can be edited."""
    module: Any = model.base_model.get_submodule(space.layers[z].module)
    weight: Any = getattr(module, "weight", None)
    bias = getattr(module, "bias", None)
    plain = isinstance(weight, torch.nn.Parameter) and type(weight.data) is torch.Tensor and weight.is_floating_point()
    simple = type(module).__name__ in ("Linear", "Conv1D", "FalconLinear", "NonDynamicallyQuantizableLinear")
    if not (plain and simple and weight.ndim == 2 and not weight.is_meta and space.layers[z].expert is None):
        yield False
        return
    is_transposed = type(module).__name__ == "Conv1D"
    hidden = is_input(space.site)
    views = [weight.data[neuron] if hidden == is_transposed else weight.data[:, neuron]]
    if not hidden and isinstance(bias, torch.nn.Parameter):
        views.append(bias.data[neuron : neuron + 1])
    before = [view.clone() for view in views]
    try:
        for view in views:
            view.zero_()
        yield True
    finally:
        for view, values in zip(views, before, strict=True):
            view.copy_(values)
