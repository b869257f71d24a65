"""Mixtures of experts: hidden units of experts whose weights are fused into one tensor, without a module to hook.

transformers keeps the experts of a block in one module, sorts the routed tokens by expert, and multiplies group by
group. Between the two products it applies a gate or an activation function. At this point the hidden units are in one
tensor, with one row per pair of token and expert. This function is replaced, on this module only, while a hook is
active.
"""

import contextlib
import types
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn

from lmri.exceptions import SiteError

_SORTED, _UNSORTED = "grouped_mm", "batched_mm"


def is_fused(module: nn.Module) -> bool:
    """Check whether a module holds fused experts in the common format of transformers."""
    down = getattr(module, "down_proj", None)
    return isinstance(down, nn.Parameter) and down.ndim == 3 and hasattr(module, "is_transposed")


def within(module: nn.Module) -> list[nn.Module]:
    """List the fused experts inside a module."""
    return [part for part in module.modules() if is_fused(part)]


def count(module: Any) -> int:
    """Return the number of experts."""
    return int(module.down_proj.shape[0])


def width(module: Any) -> int:
    """Return the number of hidden units per expert."""
    return int(module.down_proj.shape[1 if module.is_transposed else 2])


def output_width(module: Any) -> int:
    """Return the width of the output of the experts."""
    return int(module.down_proj.shape[2 if module.is_transposed else 1])


def weights(module: Any, expert: int) -> torch.Tensor:
    """Return the output weights of one expert: ``(hidden_size, width)``."""
    down: torch.Tensor = module.down_proj.data[expert]
    return down.T if module.is_transposed else down


def output_weights(module: Any, expert: int, neuron: int) -> torch.Tensor:
    """Return the output weights of one hidden unit of an expert, as a view: ``(hidden_size,)``."""
    down: torch.Tensor = module.down_proj.data
    return down[expert, neuron] if module.is_transposed else down[expert, :, neuron]


def input_weights(module: Any, neuron: int) -> list[torch.Tensor]:
    """Return the weights of all experts to one coordinate of their output, as views."""
    down: torch.Tensor = module.down_proj.data
    views = [down[:, :, neuron] if module.is_transposed else down[:, neuron]]
    bias = getattr(module, "down_proj_bias", None)
    return views if bias is None else [*views, bias.data[:, neuron]]


@contextlib.contextmanager
def routed(module: nn.Module, see: Callable[[torch.Tensor, torch.Tensor], None]) -> Iterator[None]:
    """Call `see` with the experts and weights to which every token is routed: ``(n_tokens, n_experts_per_token)``."""

    def observe(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        see(*_routing(args, kwargs))

    handle = module.register_forward_pre_hook(observe, with_kwargs=True)
    try:
        yield
    finally:
        handle.remove()


@contextlib.contextmanager
def hooked_router(module: Any, function: Callable[[torch.Tensor], torch.Tensor | None]) -> Iterator[None]:
    """Call `function` with the weight of every expert at every token, ``(n_tokens, n_experts)``, read-only."""
    n_experts = count(module)

    def see(indices: torch.Tensor, weights: torch.Tensor) -> None:
        dense = weights.new_zeros((indices.shape[0], n_experts))
        # A mixture may return the weights of all experts or only of the selected experts.
        chosen = weights if weights.shape == indices.shape else weights.gather(-1, indices)
        if function(dense.scatter(-1, indices, chosen)) is not None:
            raise SiteError("Router weights can be recorded but not changed. Use the site 'mlp_hidden'.")

    with routed(module, see):
        yield


def _routing(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[torch.Tensor, torch.Tensor]:
    """Find the indices and weights among positional and keyword arguments."""
    values = [*args[1:], *(value for name, value in kwargs.items() if name != "hidden_states")]
    tensors = [value for value in values if isinstance(value, torch.Tensor)]
    if len(tensors) != 2 or tensors[0].is_floating_point() or not tensors[1].is_floating_point():
        raise SiteError(
            "A mixture of experts was called without the indices and weights of its router; its neurons cannot be "
            "identified. This architecture is not supported."
        )
    return tensors[0], tensors[1]


@contextlib.contextmanager
def hooked(module: nn.Module, expert: int, function: Callable[[torch.Tensor], torch.Tensor | None]) -> Iterator[None]:
    """Call `function` with the hidden units of one expert, while the body runs.

    Parameters
    ----------
    module : Module
        Module with fused experts.
    expert : int
        Number of the expert.
    function : callable
        Function called with ``(n_tokens, width)``, 0 where a token was not routed to this expert. Its return value,
        unless None, replaces the activations at the tokens that were routed to it.
    """
    if getattr(module, "_is_expert_parallel", False):
        raise SiteError(
            "The experts are distributed over several processes, so no process has them all. Load the model with "
            "device_map='auto' instead of expert parallelism."
        )
    chosen: list[torch.Tensor] = []
    config: Any = module.config

    def see(indices: torch.Tensor, weights: torch.Tensor) -> None:
        chosen[:] = [indices]

    def change(hidden: torch.Tensor) -> torch.Tensor:
        if not chosen:
            raise SiteError(
                "Experts were run outside a forward pass of their module. This architecture is not supported."
            )
        indices = chosen[0]
        per_token, experts = indices.shape[-1], indices.reshape(-1)
        if hidden.shape[0] != experts.numel():
            raise SiteError(
                f"Experts returned {hidden.shape[0]} rows for {experts.numel()} pairs of token and expert. "
                "This implementation of experts is not supported."
            )
        order = torch.arange(experts.numel(), device=experts.device)
        if config._experts_implementation == _SORTED:
            experts, order = torch.sort(experts)
        rows = torch.nonzero(experts == expert).flatten()
        tokens = order[rows] // per_token
        dense = hidden.new_zeros((indices.numel() // per_token, hidden.shape[-1]))
        dense[tokens] = hidden[rows]
        replaced = function(dense)
        return hidden if replaced is None else hidden.index_copy(0, rows, replaced[tokens])

    with contextlib.ExitStack() as stack:
        stack.enter_context(_grouped_implementation(module))
        stack.enter_context(routed(module, see))
        stack.enter_context(_after_activation(module, change))
        yield


@contextlib.contextmanager
def _grouped_implementation(module: Any) -> Iterator[None]:
    """Prevent the implementation that computes experts one by one, in which hidden units cannot be hooked."""
    config: Any = module.config
    before = config._experts_implementation
    if before not in (_SORTED, _UNSORTED):
        config._experts_implementation = _SORTED
    try:
        yield
    finally:
        config._experts_implementation = before


@contextlib.contextmanager
def _after_activation(module: Any, change: Callable[[torch.Tensor], torch.Tensor]) -> Iterator[None]:
    """Apply `change` after the gate or the activation function of this module only."""
    name = "_apply_gate" if module.has_gate else "act_fn"
    original: Any = getattr(module, name)
    if isinstance(original, nn.Module):
        handle = original.register_forward_hook(lambda module, args, output: change(output))
        try:
            yield
        finally:
            handle.remove()
        return
    before = module.__dict__.get(name)

    def changed(self: nn.Module, values: torch.Tensor) -> torch.Tensor:
        return change(original(values))

    module.__dict__[name] = types.MethodType(changed, module)
    try:
        yield
    finally:
        if before is None:
            del module.__dict__[name]
        else:
            module.__dict__[name] = before
