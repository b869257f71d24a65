"""Taps: what functions of ours see, and may change, of a live model while it runs."""

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeAlias

import torch
from torch import nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from lmri.exceptions import SiteError
from lmri.models.sites import experts
from lmri.space import NeuronSpace
from lmri.space.layers import Layer, is_input
from lmri.space.sites import ROUTER

Function: TypeAlias = Callable[[torch.Tensor], torch.Tensor | None]
"""Called with activations, ``(..., width)``; what it returns, unless None, replaces them."""


@contextlib.contextmanager
def hooked(model: PreTrainedModel, space: NeuronSpace, functions: Mapping[int, Function]) -> Iterator[None]:
    """Show functions the activations of layers at every forward pass, while the body runs.

    Parameters
    ----------
    model : PreTrainedModel
        That the space was found in, or one of the same geometry.
    space : NeuronSpace
        The neurons.
    functions : mapping from int to callable
        By slice. An expert's is called once a pass with all tokens, 0 where a token was not routed there; what it
        returns there is passed over, for a unit that does not run cannot be changed.
    """
    check_modules(model, space)
    with contextlib.ExitStack() as stack:
        for z, function in functions.items():
            layer = space.layers[z]
            module = model.base_model.get_submodule(layer.module)
            if space.site == ROUTER:
                stack.enter_context(experts.weighed(module, function))
            elif layer.expert is not None:
                stack.enter_context(experts.hooked(module, layer.expert, function))
            elif layer.call is not None:
                stack.enter_context(_at_call(model, layer, space.site, function))
            else:
                stack.callback(register_hook(module, space.site, function).remove)
        yield


def register_hook(module: nn.Module, site: str, function: Function) -> Any:
    """Show `function` the activations of a module's side; only for modules that are called once in a pass.

    Returns
    -------
    RemovableHandle
        The caller removes it, and it alone: clearing all hooks of a module breaks transformers' own.
    """
    if not is_input(site):

        def after(module: nn.Module, args: Any, output: Any) -> Any:
            if not isinstance(output, tuple):
                return function(output)
            replaced = function(output[0])  # a mixture of experts may give its router's scores, too
            return None if replaced is None else (replaced, *output[1:])

        return module.register_forward_hook(after)

    def before(module: nn.Module, args: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...] | None:
        replaced = function(args[0])
        return None if replaced is None else (replaced, *args[1:])

    return module.register_forward_pre_hook(before)


@contextlib.contextmanager
def _at_call(model: PreTrainedModel, layer: Layer, site: str, function: Function) -> Iterator[None]:
    """Tap one of the calls that layers with shared weights make of a module in each pass."""
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
    """List the models in a model that hold a module, the outermost first.

    Heads may call an inner one directly, as OPT's calls its decoder; and an inner one may be given embeddings where an
    outer one had tokens. So all are watched.
    """
    names = path.split(".")
    parts = [model.base_model.get_submodule(".".join(names[:end])) for end in range(len(names))]
    return list(dict.fromkeys([model, *(part for part in parts if isinstance(part, PreTrainedModel))]))


def to_batch_tokens(activation: torch.Tensor, n_texts: int, n_tokens: int) -> torch.Tensor:
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
# Modules of a space
# ---------------------------------------------------------------------------------------------------------------------


def features(module: nn.Module) -> tuple[int, int]:
    """Give input and output width of a linear map, ``(0, 0)`` of anything else."""
    if isinstance(module, Conv1D):
        return int(module.nx), int(module.nf)
    n_in, n_out = getattr(module, "in_features", 0), getattr(module, "out_features", 0)
    return (n_in, n_out) if isinstance(n_in, int) and isinstance(n_out, int) else (0, 0)


def projections(model: PreTrainedModel, space: NeuronSpace) -> list[nn.Module]:
    """Give the module of every layer of `space` in `model`.

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


def check_modules(model: PreTrainedModel, space: NeuronSpace) -> None:
    """Raise `SiteError` if a module of `space` is not in `model`."""
    projections(model, space)


def widths(model: PreTrainedModel, space: NeuronSpace) -> list[int]:
    """Width that each layer of `space` has in `model`."""
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
    return features(module)[0 if is_input(site) else 1]
