"""Hooks: functions that read, and may replace, activations of a model during its forward pass."""

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeAlias

import torch
from torch import nn
from torch.utils.hooks import RemovableHandle
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from lmri.exceptions import SiteError
from lmri.models.adapters import package
from lmri.models.sites import experts
from lmri.space import NeuronSpace
from lmri.space.layers import Layer, is_input
from lmri.space.sites import ROUTER

Function: TypeAlias = Callable[[torch.Tensor], torch.Tensor | None]
"""Function called with activations, ``(..., width)``; its return value, unless None, replaces them."""


@contextlib.contextmanager
def hooked(model: PreTrainedModel, space: NeuronSpace, functions: Mapping[int, Function]) -> Iterator[None]:
    """Call functions with the activations of layers in every forward pass, while the body runs.

    Parameters
    ----------
    model : PreTrainedModel
        Model in which the space was found, or a model of the same geometry.
    space : NeuronSpace
        Neurons.
    functions : mapping from int to callable
        Functions by slice. The function of an expert is called once per pass with all tokens; activations are 0 where a
        token was not routed to the expert. Values returned for these tokens are ignored, because a unit that is not
        computed cannot be changed.
    """
    check_modules(model, space)
    with contextlib.ExitStack() as stack:
        for z, function in functions.items():
            layer = space.layers[z]
            module = model.base_model.get_submodule(layer.module)
            if space.site == ROUTER:
                stack.enter_context(experts.hooked_router(module, function))
            elif layer.expert is not None:
                stack.enter_context(experts.hooked(module, layer.expert, function))
            elif layer.call is not None:
                stack.enter_context(_at_call(model, layer, space.site, function))
            else:
                stack.callback(register_hook(module, space.site, function).remove)
        yield


def register_hook(module: nn.Module, site: str, function: Function) -> RemovableHandle:
    """Register a hook that calls `function` with the input or output of a module called once per pass.

    Returns
    -------
    RemovableHandle
        Handle of the hook. Remove only this hook: clearing all hooks of a module breaks those of transformers.
    """
    if not is_input(site):

        def after(module: nn.Module, args: Any, output: Any) -> torch.Tensor | tuple[Any, ...] | None:
            if not isinstance(output, tuple):
                return function(output)
            replaced = function(output[0])  # a mixture of experts may also return router scores
            return None if replaced is None else (replaced, *output[1:])

        return module.register_forward_hook(after)

    def before(module: nn.Module, args: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...] | None:
        replaced = function(args[0])
        return None if replaced is None else (replaced, *args[1:])

    return module.register_forward_pre_hook(before)


@contextlib.contextmanager
def _at_call(model: PreTrainedModel, layer: Layer, site: str, function: Function) -> Iterator[None]:
    """Attach `function` to one call of a module that layers with shared weights call several times per pass."""
    n_calls = 0

    def start(*_: Any) -> None:
        nonlocal n_calls
        n_calls = 0

    def pick(activation: torch.Tensor) -> torch.Tensor | None:
        nonlocal n_calls
        n_calls += 1
        return function(activation) if n_calls - 1 == layer.call else None

    with contextlib.ExitStack() as stack:
        for part in around(model, layer.module):
            stack.callback(part.register_forward_pre_hook(start).remove)
        stack.callback(register_hook(model.base_model.get_submodule(layer.module), site, pick).remove)
        yield


def around(model: PreTrainedModel, path: str) -> list[nn.Module]:
    """List the nested models that contain a module, outermost first.

    A head may call an inner model directly, as OPT's head calls its decoder; and an inner model may receive embeddings
    where the outer model received tokens. Therefore all of them are hooked.
    """
    names = path.split(".")
    parts = [model.base_model.get_submodule(".".join(names[:end])) for end in range(len(names))]
    return list(dict.fromkeys([model, *(part for part in parts if isinstance(part, PreTrainedModel))]))


def to_batch_tokens(activation: torch.Tensor, n_texts: int, n_tokens: int) -> torch.Tensor:
    """Reshape hooked activations to ``(n_texts, n_tokens, width)``.

    The MLP of OPT receives ``(n_texts * n_tokens, width)``; ChatGLM has the token axis first.
    """
    if activation.shape[:-1] == (n_texts, n_tokens):
        return activation
    if activation.shape[:-1] == (n_texts * n_tokens,):
        return activation.reshape(n_texts, n_tokens, -1)
    if activation.shape[:-1] == (n_tokens, n_texts):
        return activation.transpose(0, 1)
    raise SiteError(
        f"Activations of shape {tuple(activation.shape)} cannot be assigned to {n_texts} texts of {n_tokens} tokens. "
        "This architecture is not supported."
    )


# ---------------------------------------------------------------------------------------------------------------------
# Modules of a space
# ---------------------------------------------------------------------------------------------------------------------


def features(module: nn.Module) -> tuple[int, int]:
    """Return the input and output width of a linear map, ``(0, 0)`` for other modules."""
    if isinstance(module, Conv1D):
        return int(module.nx), int(module.nf)
    n_in, n_out = getattr(module, "in_features", 0), getattr(module, "out_features", 0)
    return (n_in, n_out) if isinstance(n_in, int) and isinstance(n_out, int) else (0, 0)


def linear_maps(block: nn.Module) -> dict[str, nn.Module]:
    """List the linear maps of a block, without the parts of a linear map that consists of others."""
    linear: dict[str, nn.Module] = {}
    for name, module in block.named_modules():
        if features(module)[0] and not any(name.startswith(f"{above}.") for above in linear):
            linear[name] = module
    return linear


def is_plain(module: nn.Module) -> bool:
    """Check whether a linear map has no parameters but a weight and a bias, as an adapter would."""
    names = {name for name, _ in [*module.named_parameters(), *module.named_buffers()]}
    return features(module)[0] > 0 and names <= {"weight", "bias"} and not any(True for _ in module.children())


def is_inside_adapter(model: PreTrainedModel, path: str) -> bool:
    """Check whether a module is inside a wrapper of another library than that of the model."""
    names = path.split(".")
    above = (model.base_model.get_submodule(".".join(names[:end])) for end in range(1, len(names)))
    return any(is_inserted(model, part) for part in above)


def is_inserted(model: PreTrainedModel, module: nn.Module) -> bool:
    """Check whether a module is of another library than that of the model, as adapters and quantized layers are."""
    return package(module) not in ("torch", "transformers", package(model.base_model))


def projections(model: PreTrainedModel, space: NeuronSpace) -> list[nn.Module]:
    """Return the module of every layer of `space` in `model`.

    Raises
    ------
    SiteError
        If a module does not exist in the model.
    """
    try:
        return [model.base_model.get_submodule(layer.module) for layer in space.layers]
    except AttributeError as error:
        raise SiteError(
            f"{type(model).__name__} lacks a module of the space ({error}). Use the model that was recorded."
        ) from None


def check_modules(model: PreTrainedModel, space: NeuronSpace) -> None:
    """Raise `SiteError` if a module of `space` is not in `model`."""
    projections(model, space)


def widths(model: PreTrainedModel, space: NeuronSpace) -> list[int]:
    """Return the width of each layer of `space` in `model`."""
    return [
        _width(model, module, layer, space.site)
        for module, layer in zip(projections(model, space), space.layers, strict=True)
    ]


def _width(model: PreTrainedModel, module: nn.Module, layer: Layer, site: str) -> int:
    if site == ROUTER:
        return experts.count(module) if experts.is_fused(module) else 0
    if layer.expert is not None:
        return experts.width(module) if experts.is_fused(module) and layer.expert < experts.count(module) else 0
    if experts.within(module):
        return int(model.config.get_text_config().hidden_size)
    side = 0 if is_input(site) else 1
    if width := features(module)[side]:
        return width
    # A wrapper may not state its width, but contains a linear map of this width.
    return layer.width if any(features(part)[side] == layer.width for part in module.modules()) else 0
