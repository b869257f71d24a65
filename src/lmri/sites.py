"""Sites: where neurons are read and changed, found by shape and checked on the model at hand.

Both kinds of neuron live at the final projection of each MLP: its *output* is the paper's neuron (``mlp_out``), its
*input* the hidden unit (``mlp_hidden``). No registry of architectures: the stack of blocks is found from what
transformers declares, and within a block the projection is the widest linear map onto the hidden size that is not part
of attention, and the last of several. A self-test then reads, lesions and restores, so that a wrong guess is an error
and never a result.
"""

import contextlib
import re
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.pytorch_utils import Conv1D

from lmri.exceptions import SiteError
from lmri.models import describe_model, evaluation_mode, input_device, read, reader
from lmri.space import SITES, Layer, NeuronSpace

_NOT_MLP = re.compile(r"attn|attention|mixer|mamba|router|layer_?norm", re.IGNORECASE)


# ---------------------------------------------------------------------------------------------------------------------
# Finding
# ---------------------------------------------------------------------------------------------------------------------


def find_sites(model: PreTrainedModel, site: str = "mlp_out", projection: str | None = None) -> NeuronSpace:
    """Find the neurons of a site, and make sure that they are what they seem.

    Parameters
    ----------
    model : PreTrainedModel
        Any dense transformer: decoder, encoder, or the encoder of an encoder–decoder.
    site : {"mlp_out", "mlp_hidden"}
        Output or input of each MLP's final projection.
    projection : str, optional
        Path of the projection within a block, such as ``"mlp.down_proj"``, if it is not found by itself.

    Returns
    -------
    NeuronSpace
        One layer a block.

    Raises
    ------
    SiteError
        If no projection is found, or the self-test fails.
    """
    if site not in SITES:
        raise ValueError(f"site is {site!r}; accepted are {', '.join(map(repr, SITES))}.")
    base = model.base_model
    paths = {module: path for path, module in base.named_modules()}
    layers = []
    for z, block in enumerate(blocks(model)):
        module = _projection(model, block, z, projection)
        n_in, n_out = _features(module)
        layers.append(Layer(f"layer {z}", paths[module], n_out if site == "mlp_out" else n_in))
    if len({layer.module for layer in layers}) < len(layers):
        raise SiteError(f"Layers of {model.config.model_type!r} share one projection, which is not supported.")
    n_declared = getattr(model.config.get_text_config(), "num_hidden_layers", len(layers))
    if n_declared != len(layers):
        raise SiteError(
            f"{len(layers)} blocks were found in {model.config.model_type!r} (first projection: "
            f"{layers[0].module!r}), but its configuration says {n_declared} layers. "
            "Layers that share their weights are not supported."
        )
    space = NeuronSpace(tuple(layers), site, describe_model(model))
    check_sites(model, space)
    return space


def blocks(model: PreTrainedModel) -> list[nn.Module]:
    """Find the stack of blocks: first by what transformers declares of it, last by its length.

    Raises
    ------
    SiteError
        If there is none.
    """
    part = reader(model)
    stacks = [module for module in part.modules() if isinstance(module, nn.ModuleList) and len(module)]
    declared = _declared_blocks(part)
    undivided = set(getattr(part, "_no_split_modules", None) or getattr(model, "_no_split_modules", None) or [])
    n_layers = getattr(model.config.get_text_config(), "num_hidden_layers", None)
    signs: list[Callable[[nn.ModuleList], bool]] = [
        lambda stack: bool(declared) and all(isinstance(block, declared) for block in stack),
        lambda stack: all(type(block).__name__ in undivided for block in stack),
        lambda stack: all(isinstance(block, GradientCheckpointingLayer) for block in stack),
        lambda stack: len(stack) == n_layers and len({type(block) for block in stack}) == 1,
    ]
    for sign in signs:
        found = [stack for stack in stacks if sign(stack)]
        if found:
            return list(max(found, key=lambda stack: len(list(stack))))
    raise SiteError(
        f"No stack of transformer blocks found in {type(model).__name__} ({model.config.model_type!r}). "
        "Only models made of a list of blocks can be recorded."
    )


def _declared_blocks(part: nn.Module) -> tuple[type, ...]:
    classes: list[type] = []
    for module in part.modules():
        if isinstance(module, PreTrainedModel):
            declared = (getattr(module, "_can_record_outputs", None) or {}).get("hidden_states")
            for entry in declared if isinstance(declared, list | tuple) else [declared]:
                target = getattr(entry, "target_class", entry)
                if isinstance(target, type):
                    classes.append(target)
    return tuple(classes)


def _projection(model: PreTrainedModel, block: nn.Module, z: int, projection: str | None) -> nn.Module:
    linear = {name: module for name, module in block.named_modules() if _features(module)[0]}
    if projection is not None:
        if projection not in linear:
            raise SiteError(
                f"Block {z} has no linear module {projection!r}; it has {', '.join(map(repr, linear)) or 'none'}."
            )
        return linear[projection]
    experts = [name for name, _ in block.named_modules() if "expert" in name.split(".")[-1].lower()]
    if experts:
        # A shared expert would fit, but its output is only a part of the MLP's.
        raise SiteError(
            f"Layer {z} of {model.config.model_type!r} is a mixture of experts ({', '.join(map(repr, experts[:3]))}), "
            "which has no projection of its own and is not supported. A linear map in it can be recorded alone: "
            "find_sites(model, projection='mlp.shared_expert.down_proj'), or --projection."
        )
    width = model.config.get_text_config().hidden_size
    fitting = {
        name: module
        for name, module in linear.items()
        if _features(module)[1] == width and not _in_attention(block, name)
    }
    if not fitting:
        raise SiteError(
            f"No MLP final projection found in layer {z} of {model.config.model_type!r} "
            f"(linear modules: {', '.join(map(repr, linear)) or 'none'}; hidden size {width}). "
            "Name the module yourself: find_sites(model, projection='mlp.my_down'), or --projection."
        )
    # The last of the widest: where the hidden layer is as wide as the model, all maps of an MLP fit alike.
    return max(reversed(fitting.values()), key=lambda module: _features(module)[0])


def _features(module: nn.Module) -> tuple[int, int]:
    """Give input and output width of a linear map, ``(0, 0)`` of anything else."""
    if isinstance(module, Conv1D):
        return int(module.nx), int(module.nf)
    n_in, n_out = getattr(module, "in_features", 0), getattr(module, "out_features", 0)
    return (n_in, n_out) if isinstance(n_in, int) and isinstance(n_out, int) else (0, 0)


def _in_attention(block: nn.Module, path: str) -> bool:
    parts = path.split(".")[:-1]
    above = [block.get_submodule(".".join(parts[: end + 1])) for end in range(len(parts))]
    return any(_NOT_MLP.search(part) for part in parts) or any(
        _NOT_MLP.search(type(module).__name__) and not isinstance(module, nn.ModuleList) for module in above
    )


def projections(model: PreTrainedModel, space: NeuronSpace) -> list[nn.Module]:
    """Give the projection of every layer of `space` in `model`.

    Raises
    ------
    SiteError
        If the model has no such module.
    """
    try:
        return [model.base_model.get_submodule(layer.module) for layer in space.layers]
    except AttributeError as error:
        raise SiteError(
            f"{type(model).__name__} has no module of the space ({error}). Use the model that was recorded."
        ) from None


def widths(model: PreTrainedModel, space: NeuronSpace) -> list[int]:
    """Width that each layer of `space` has in `model`."""
    side = 1 if space.site == "mlp_out" else 0
    return [_features(module)[side] for module in projections(model, space)]


# ---------------------------------------------------------------------------------------------------------------------
# Reading and writing
# ---------------------------------------------------------------------------------------------------------------------


def attach(module: nn.Module, site: str, function: Callable[[torch.Tensor], torch.Tensor | None]) -> Any:
    """Show `function` the activations of a site at every forward pass; what it returns, unless None, replaces them.

    Returns
    -------
    RemovableHandle
        The caller removes it, and it alone: clearing all hooks of a module breaks transformers' own.
    """
    if site == "mlp_out":

        def after(module: nn.Module, args: Any, output: torch.Tensor) -> torch.Tensor | None:
            return function(output)

        return module.register_forward_hook(after)

    def before(module: nn.Module, args: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...] | None:
        replaced = function(args[0])
        return None if replaced is None else (replaced, *args[1:])

    return module.register_forward_pre_hook(before)


def by_text(activation: torch.Tensor, n_texts: int, n_tokens: int) -> torch.Tensor:
    """Bring what a hook sees to ``(n_texts, n_tokens, width)``.

    OPT hands its MLP ``(n_texts * n_tokens, width)``; ChatGLM runs tokens first.
    """
    if activation.shape[:-1] == (n_texts, n_tokens):
        return activation
    if activation.shape[:-1] == (n_texts * n_tokens,):
        return activation.reshape(n_texts, n_tokens, -1)
    if activation.shape[:-1] == (n_tokens, n_texts):
        return activation.transpose(0, 1)
    raise SiteError(
        f"A site gave activations of shape {tuple(activation.shape)} for {n_texts} texts of {n_tokens} tokens; "
        "they cannot be told apart. This model needs a site of its own."
    )


# ---------------------------------------------------------------------------------------------------------------------
# Self-test
# ---------------------------------------------------------------------------------------------------------------------


def check_sites(model: PreTrainedModel, space: NeuronSpace) -> None:
    """Read, lesion and restore on a few tokens.

    Checked are: one call a layer in each forward pass, the width, the order of texts and tokens; that silencing a
    neuron by a hook equals zeroing its weights and changes what comes out; and that the model is itself
    again afterwards.

    Raises
    ------
    SiteError
        If any of it fails.
    """
    part = reader(model)
    vocabulary = model.get_input_embeddings().weight.shape[0]
    ids = torch.arange(6, device=input_device(model)).reshape(2, 3) * 7 % max(1, vocabulary - 10) + min(
        9, vocabulary // 2
    )
    modules = projections(model, space)
    seen: list[list[torch.Tensor]] = [[] for _ in modules]

    def forward() -> torch.Tensor:
        return read(part, ids, torch.ones_like(ids)).clone()

    with evaluation_mode(model):
        with contextlib.ExitStack() as stack:
            for module, calls in zip(modules, seen, strict=True):
                handle = attach(module, space.site, lambda value, calls=calls: calls.append(value.clone()))  # type: ignore[misc]
                stack.callback(handle.remove)
            intact = forward()
        for layer, calls in zip(space.layers, seen, strict=True):
            if len(calls) != 1 or calls[0].shape[-1] != layer.width:
                found = f"{len(calls)} calls" if len(calls) != 1 else f"width {calls[0].shape[-1]}"
                raise SiteError(
                    f"{layer.module!r} showed {found} in a forward pass; one call of width {layer.width} was expected. "
                    "The module is bypassed, shared or chunked; name another one by projection=."
                )
            by_text(calls[0], *ids.shape)
        if not intact.isfinite().all():
            return  # nothing can be compared with NaN; the recorder names the neuron that it comes from
        z = len(modules) // 2
        _check_lesion(modules[z], space.site, by_text(seen[z][0], *ids.shape), intact, forward, space.layers[z])


def _check_lesion(
    module: nn.Module, site: str, activation: torch.Tensor, intact: torch.Tensor, forward: Any, layer: Layer
) -> None:
    neuron = int(activation.abs().amax(dim=(0, 1)).argmax())

    def silence(value: torch.Tensor) -> torch.Tensor:
        value = value.clone()
        value[..., neuron] = 0
        return value

    handle = attach(module, site, silence)
    try:
        lesioned = forward()
    finally:
        handle.remove()
    if not torch.equal(forward(), intact):
        raise SiteError(f"After a lesion of {layer.module!r} the model does not give what it gave before.")
    if torch.equal(lesioned, intact):
        raise SiteError(f"Silencing neuron {neuron} of {layer.module!r} changes nothing: its value is not used.")
    weight = getattr(module, "weight", None)
    if weight is None or not weight.is_floating_point() or weight.is_meta:
        return  # a quantized or offloaded weight cannot be edited in place
    zeroed = _with_zeroed_weight(module, site, neuron, forward)
    if not torch.allclose(lesioned.float(), zeroed.float(), atol=1e-5, rtol=1e-3):
        difference = (lesioned.float() - zeroed.float()).abs().max().item()
        raise SiteError(
            f"Silencing neuron {neuron} of {layer.module!r} differs by {difference:.2g} from zeroing its weights. "
            "The hook does not see what the layer passes on."
        )


def _with_zeroed_weight(module: nn.Module, site: str, neuron: int, forward: Any) -> torch.Tensor:
    weight: torch.Tensor = module.weight.data  # type: ignore[assignment]
    bias = getattr(module, "bias", None)
    # Linear keeps (out, in), Conv1D (in, out).
    rows = (site == "mlp_out") != isinstance(module, Conv1D)
    edited = [weight[neuron] if rows else weight[:, neuron]]
    if site == "mlp_out" and bias is not None:
        edited.append(bias.data[neuron : neuron + 1])
    kept = [values.clone() for values in edited]
    try:
        for values in edited:
            values.zero_()
        return forward()
    finally:
        for values, original in zip(edited, kept, strict=True):
            values.copy_(original)
