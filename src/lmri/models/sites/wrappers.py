"""Checks of wrappers by forward passes: whether a hook at a wrapper reads and changes the intended values."""

from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from lmri.exceptions import SiteError
from lmri.models import evaluation_mode, input_device
from lmri.models.adapters import MERGE, is_packed
from lmri.models.sites.architecture import Architecture
from lmri.models.sites.checking import probe
from lmri.models.sites.hooks import features, is_inserted
from lmri.models.sites.stack import n_tokens_known
from lmri.space.layers import Layer

_LONG = 600
"""Number of tokens at which an embedding is tested: more than the virtual tokens of common adapters."""

_ROUNDING = 64
"""Largest deviation due to rounding, in units of the rounding of the largest value."""


def check_transparent(wrapper: nn.Module, model: PreTrainedModel) -> None:
    """Check that a wrapper around a model returns what the model inside it returns.

    Raises
    ------
    SiteError
        If the outputs differ, as with virtual tokens or with an adapter that is chosen by the input.
    """
    if wrapper is model:
        return
    ids = torch.arange(9, 21, device=input_device(model)).reshape(2, 6) % n_tokens_known(model)
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    if model.config.is_encoder_decoder:
        inputs["decoder_input_ids"] = ids
    with evaluation_mode(wrapper):
        try:
            outside, inside = (_first(part(**inputs)) for part in (wrapper, model))
        except (ValueError, TypeError, RuntimeError) as error:
            raise SiteError(
                f"The adapter of the {type(wrapper).__name__} does not run on a text alone ({error}). {MERGE}"
            ) from error
    if outside.shape != inside.shape or not torch.equal(outside.nan_to_num(), inside.nan_to_num()):
        raise SiteError(
            f"The outputs of the {type(wrapper).__name__} differ from those of the {type(model).__name__} inside it: "
            f"its adapter acts outside the layers. {MERGE}"
        )


def check_embedding(model: PreTrainedModel, architecture: Architecture) -> None:
    """Check that a replaced token embedding assigns one vector to each token, at every position.

    Raises
    ------
    SiteError
        If the embedding inserts virtual tokens or replaces the first tokens, as in prompt tuning.
    """
    n_tokens_known(model)
    embedding = model.get_input_embeddings()
    if type(embedding) is type(architecture.declared.get_input_embeddings()):
        return
    tokens = torch.arange(5, device=input_device(model))
    with evaluation_mode(model):
        vectors = _first(embedding(tokens[:, None]))
        ids = tokens[torch.arange(2 * _LONG, device=tokens.device).reshape(2, _LONG) % len(tokens)]
        values = _first(embedding(ids))
    looked_up = vectors.shape[:2] == (len(tokens), 1) and values.shape == (*ids.shape, vectors.shape[-1])
    if not looked_up or not _close(values, vectors[:, 0][ids]):
        raise SiteError(
            f"The token embedding is a {type(embedding).__name__}, in which the vector of a token depends on its "
            "position: an adapter that adds or replaces tokens, as in prompt tuning. Such a model cannot be recorded "
            "or lesioned."
        )


def check_outputs(model: PreTrainedModel, stack: str, pairs: Sequence[tuple[str, str]]) -> None:
    """Check that a part of a block returns the output of a module inside it, also if another library replaced it.

    Parameters
    ----------
    model : PreTrainedModel
        Model.
    stack : {"encoder", "decoder"}
        Stack to run.
    pairs : sequence of tuple of str
        Paths of the part and of the module.

    Raises
    ------
    SiteError
        If the outputs differ in a pair.
    """
    if not pairs:
        return
    seen = _observe(model, stack, [path for pair in pairs for path in pair])
    for part, module in pairs:
        outputs = [seen[path][1] for path in (part, module) if path in seen]
        if len(outputs) == 2 and not _same(*outputs):
            kind = type(model.base_model.get_submodule(part)).__name__
            raise SiteError(
                f"{part!r} ({kind}) does not return the output of {module!r}, so the output of an adapter cannot be "
                f"separated from the rest of the block. {MERGE}"
            )


def check_inputs(model: PreTrainedModel, stack: str, layers: Iterable[Layer]) -> None:
    """Check that the hidden units at the input of a wrapped projection equal those of the model with a merged adapter.

    A wrapper that passes its input on to a projection has the same hidden units as the projection. A wrapper that
    changes its input has the hidden units of a merged projection if it is linear, such as a rotation or a scale.

    Raises
    ------
    SiteError
        If a wrapper changes its input in another way.
    """
    modules = {layer.module: model.base_model.get_submodule(layer.module) for layer in layers if layer.expert is None}
    wrapped = [layer for layer in layers if layer.module in modules and _is_wrapper(model, modules[layer.module])]
    inside = {
        layer.module: [
            f"{layer.module}.{name}"
            for name, part in modules[layer.module].named_modules()
            if name and features(part)[0] == layer.width
        ]
        for layer in wrapped
    }
    if not wrapped:
        return
    seen = _observe(model, stack, [path for outer, parts in inside.items() for path in (outer, *parts)])
    for path, parts in inside.items():
        if path not in seen:
            continue  # the self-test reports modules that are not called
        value, output = seen[path]
        projections = [seen[part] for part in parts if part in seen and seen[part][1].shape == output.shape]
        if any(_same(projection[0], value) for projection in projections):
            continue
        with evaluation_mode(model):
            if not _is_affine(modules[path], value):
                raise SiteError(
                    f"{path!r} ({type(modules[path]).__name__}) is an adapter that changes its input, and not "
                    f"linearly: the hidden units of the projection inside it cannot be determined. {MERGE}"
                )


def _is_wrapper(model: PreTrainedModel, module: nn.Module) -> bool:
    """Check whether a module may change its input before it multiplies it: no plain or quantized linear map."""
    has_parts = any(True for _ in module.children())
    return has_parts or (is_inserted(model, module) and not is_packed(module))


def _is_affine(module: nn.Module, value: torch.Tensor) -> bool:
    """Test ``f(x + y) - f(x) - f(y) + f(0) = 0`` on two halves of a batch."""
    first, second = value[: len(value) // 2], value[len(value) // 2 : len(value) // 2 * 2]
    inputs = (first + second, first, second, torch.zeros_like(first))
    outputs = [_first(module(values)) for values in inputs]
    largest = max(float(values.abs().max()) for values in outputs)
    return _close(outputs[0] - outputs[1], outputs[2] - outputs[3], largest)


def _observe(model: PreTrainedModel, stack: str, paths: Iterable[str]) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """Run a model on a few tokens; return the first input and output of the first call of modules."""
    seen: dict[str, tuple[torch.Tensor, torch.Tensor]] = {}
    with ExitStack() as handles:
        for path in dict.fromkeys(paths):

            def note(module: nn.Module, args: tuple[Any, ...], kwargs: Any, output: Any, path: str = path) -> None:
                value = args[0] if args else next(iter(kwargs.values()))
                seen.setdefault(path, (value.clone(), _first(output).clone()))

            module = model.base_model.get_submodule(path)
            handles.callback(module.register_forward_hook(note, with_kwargs=True).remove)
        with evaluation_mode(model):
            probe(model, stack)
    return seen


def _first(output: Any) -> torch.Tensor:
    """Return the first tensor of an output."""
    value: torch.Tensor = output if isinstance(output, torch.Tensor) else output[0]
    return value


def _close(values: torch.Tensor, others: torch.Tensor, largest: float | None = None) -> bool:
    """Check whether values are equal up to rounding."""
    size = float(others.abs().max()) if largest is None else largest
    return float((values - others).abs().max()) <= _ROUNDING * torch.finfo(values.dtype).eps * size


def _same(value: torch.Tensor, other: torch.Tensor) -> bool:
    return value.shape == other.shape and torch.equal(value.nan_to_num(), other.nan_to_num())
