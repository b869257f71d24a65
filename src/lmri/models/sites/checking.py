"""Self-test: read, lesion and restore on a few tokens, so that a wrong guess is an error and never a result."""

import contextlib
import functools
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from lmri.exceptions import SiteError
from lmri.models import evaluation_mode, input_device
from lmri.models.sites import experts
from lmri.models.sites.bypass import check_bypass
from lmri.models.sites.forward import forward
from lmri.models.sites.hooks import (
    features,
    hooked,
    is_inserted,
    is_inside_adapter,
    is_plain,
    projections,
    to_batch_tokens,
)
from lmri.models.sites.stack import blocks, n_tokens_known
from lmri.space import NeuronSpace
from lmri.space.layers import Layer, is_attention, is_input, stack_of
from lmri.space.sites import ROUTER

_ACTIVATIONS = ("transformers.activations", "torch.nn.modules.activation")
_SOFTMAX = re.compile(r"softmax|attn|attention|mixer|mamba", re.IGNORECASE)
_TEXTS, _TOKENS, _ROUTED_TOKENS = 2, 3, 16


def check_sites(model: PreTrainedModel, space: NeuronSpace, is_named: bool = False) -> None:
    """Test reading, lesioning and restoring a site on a few tokens.

    The test checks that each layer is called once per forward pass, its width, and the order of texts and tokens; that
    silencing a neuron by a hook equals zeroing its weights and changes the output; for attention, that no module after
    the projection is missed; that no other branch of the MLP or attention bypasses the site; that two readings agree;
    and that the model is unchanged afterwards.

    Parameters
    ----------
    model : PreTrainedModel
        Model.
    space : NeuronSpace
        Site.
    is_named : bool, default=False
        Whether the user named the projection, which may then be one of several branches.

    Raises
    ------
    SiteError
        If any check fails.
    """
    has_experts = any(layer.expert is not None for layer in space.layers)
    ids = _ids(model, _ROUTED_TOKENS if has_experts else _TOKENS)
    stack = stack_of(space.site)
    shape = (ids.shape[0], ids.shape[1] + (stack == "decoder"))
    seen: list[list[torch.Tensor]] = [[] for _ in space.layers]
    run = functools.partial(_run, model, ids, stack)
    with evaluation_mode(model):
        keepers = {z: functools.partial(_keep, calls) for z, calls in enumerate(seen)}
        with hooked(model, space, keepers):
            intact = run()
        for layer, calls in zip(space.layers, seen, strict=True):
            if len(calls) != 1 or calls[0].shape[-1] != layer.width:
                observed = f"{len(calls)} calls" if len(calls) != 1 else f"width {calls[0].shape[-1]}"
                raise SiteError(
                    f"{layer.module!r} had {observed} in a forward pass; one call of width {layer.width} was expected. "
                    "The module is bypassed, shared or chunked. Name another module with projection= (--projection)."
                )
            to_batch_tokens(calls[0], *shape)
        if is_attention(space.site):
            _check_last(model, space, run)
        if not torch.equal(run().nan_to_num(), intact.nan_to_num()):
            raise SiteError(
                f"Two readings of the same tokens by {type(model).__name__} differ: it computes with random numbers, "
                "such as dropout that ignores model.eval(), or with values that it keeps from earlier texts. Such a "
                "model cannot be recorded reproducibly."
            )
        if not is_named and not space.site.endswith(ROUTER):
            check_bypass(model, space, run)
        if not intact.isfinite().all():
            return  # NaN cannot be compared; the recorder names the neuron that causes it
        z = _busiest(seen)
        if z is not None and space.site != ROUTER:  # routers are only read
            _check_lesion(model, space, z, to_batch_tokens(seen[z][0], *shape), run)


def check_activation(model: PreTrainedModel, space: NeuronSpace) -> None:
    """Check that the input of a projection is as wide as the output of an activation function before it.

    The last linear map of a MobileBERT block does not read hidden units: it widens the output of its MLP. The check is
    skipped if activation functions are not modules.

    Raises
    ------
    SiteError
        If activation functions run in the block and none has this width.
    """
    plain = [layer for layer in space.layers if layer.expert is None and features(_module(model, layer.module))[0]]
    if not plain:
        return
    layer = plain[len(plain) // 2]
    module = _module(model, layer.module)
    block = next((block for block in blocks(model, stack_of(space.site)) if module in block.modules()), None)
    widths: list[int] = []
    before: list[int] = []
    with contextlib.ExitStack() as handles:
        for name, part in block.named_modules() if block is not None else []:
            if type(part).__module__ in _ACTIVATIONS and not _SOFTMAX.search(f"{name} {type(part).__name__}"):
                note = functools.partial(_note_width, widths)
                handles.callback(part.register_forward_hook(note).remove)
        handles.callback(module.register_forward_pre_hook(lambda module, args: before.extend(widths)).remove)
        with evaluation_mode(model):
            probe(model, stack_of(space.site))
    width = features(module)[0]
    if before and width not in before:
        raise SiteError(
            f"{layer.module!r} was taken for the final projection of the MLP, but its input has width {width}, and the "
            f"activation function before it has width {before[-1]}: the hidden units are elsewhere. Name their "
            "projection with projection= (--projection)."
        )


def _module(model: PreTrainedModel, path: str) -> nn.Module:
    module: nn.Module = model.base_model.get_submodule(path)
    return module


def _note_width(widths: list[int], module: nn.Module, args: object, output: object) -> None:
    if isinstance(output, torch.Tensor):
        widths.append(output.shape[-1])


def probe(model: PreTrainedModel, stack: str) -> None:
    """Run a model on a few tokens, for hooks."""
    _run(model, _ids(model, _TOKENS), stack)


def calls_in_order(model: PreTrainedModel, paths: Iterable[str], stack: str) -> list[str]:
    """List the calls of some modules in a forward pass, in order, one entry per call."""
    called: list[str] = []
    with contextlib.ExitStack() as handles:
        for path in paths:
            module = model.base_model.get_submodule(path)
            note = functools.partial(_note, called, path)
            handles.callback(module.register_forward_hook(note).remove)
        with evaluation_mode(model):
            probe(model, stack)
    return called


def _note(called: list[str], path: str, module: nn.Module, args: object, output: object) -> None:
    called.append(path)


def _keep(calls: list[torch.Tensor], value: torch.Tensor) -> None:
    calls.append(value.clone())


def _ids(model: PreTrainedModel, n_tokens: int) -> torch.Tensor:
    vocabulary = n_tokens_known(model)
    numbers = torch.arange(_TEXTS * n_tokens, device=input_device(model)).reshape(_TEXTS, n_tokens)
    return numbers * 7 % max(1, vocabulary - 10) + min(9, vocabulary // 2)


def _run(model: PreTrainedModel, ids: torch.Tensor, stack: str) -> torch.Tensor:
    return forward(model, ids, torch.ones_like(ids), [stack]).clone()


def _busiest(seen: list[list[torch.Tensor]]) -> int | None:
    """Choose an active slice to lesion, near the middle; None if no token was routed to a chosen expert."""
    order = sorted(range(len(seen)), key=lambda z: abs(z - len(seen) // 2))
    return next((z for z in order if seen[z][0].any()), None)


def _check_last(model: PreTrainedModel, space: NeuronSpace, run: Callable[[], torch.Tensor]) -> None:
    """Check that no other linear map of the same width runs after the projection in an attention."""
    layer = space.layers[space.n_layers // 2]
    projection = model.base_model.get_submodule(layer.module)
    root = layer.module
    while root and not any(part in root.rpartition(".")[2].lower() for part in ("attn", "attention")):
        root = root.rpartition(".")[0]
    parts = [*model.base_model.get_submodule(root).modules()] if root else []
    if any(is_inserted(model, part) for part in parts):
        return  # parts of an adapter may run after the projection; the search compares the declared ones
    siblings = [module for module in parts if features(module)[1] == features(projection)[1]]
    called: list[nn.Module] = []
    with contextlib.ExitStack() as stack:
        for module in siblings:
            handle = module.register_forward_hook(lambda module, args, output: called.append(module))
            stack.callback(handle.remove)
        run()
    if called and called[-1] is not projection:
        paths = {module: path for path, module in model.base_model.named_modules()}
        raise SiteError(
            f"{layer.module!r} was taken for the output projection of attention, but {paths[called[-1]]!r} runs after "
            "it. Name it with projection= (--projection)."
        )


def _check_lesion(
    model: PreTrainedModel,
    space: NeuronSpace,
    z: int,
    activation: torch.Tensor,
    run: Callable[[], torch.Tensor],
) -> None:
    layer, neuron = space.layers[z], int(activation.abs().amax(dim=(0, 1)).argmax())
    module = layer.module
    sharing = [index for index, other in enumerate(space.layers) if other.call is not None and other.module == module]

    def silence(value: torch.Tensor) -> torch.Tensor:
        value = value.clone()
        value[..., neuron] = 0
        return value

    intact = _like(model, space, z, run)
    with hooked(model, space, dict.fromkeys(sharing or [z], silence)):  # shared weights: in all layers
        lesioned = run()
    if not torch.equal(_like(model, space, z, run), intact):
        raise SiteError(
            f"After a lesion of {layer.module!r} was removed, the output of the model differs from before. "
            "This model is not supported."
        )
    if torch.equal(lesioned, intact):
        raise SiteError(
            f"Silencing neuron {neuron} of {layer.module!r} does not change the output: its value is not used. "
            "Name another module with projection= (--projection)."
        )
    weights = _weights(projections(model, space)[z], layer, space.site, neuron)
    if weights is None or (layer.expert is not None and is_inside_adapter(model, module)):
        return  # a quantized or offloaded weight cannot be edited in place; an adapter of experts is added to theirs
    with _zeroed(weights):
        zeroed = _like(model, space, z, run)
    if not torch.allclose(lesioned.float(), zeroed.float(), atol=1e-5, rtol=1e-3):
        difference = (lesioned.float() - zeroed.float()).abs().max().item()
        raise SiteError(
            f"Silencing neuron {neuron} of {layer.module!r} differs by {difference:.2g} from zeroing its weights. "
            "The hook does not see the output that the layer passes on."
        )


def _like(model: PreTrainedModel, space: NeuronSpace, z: int, run: Callable[[], torch.Tensor]) -> torch.Tensor:
    """Run with a hook that changes nothing, so that experts are computed by the same implementation as in a lesion."""
    with hooked(model, space, {z: lambda value: None}):
        return run()


def _weights(module: nn.Module, layer: Layer, site: str, neuron: int) -> list[torch.Tensor] | None:
    """Return the output weights and bias of a neuron, as views; None if they cannot be edited."""
    if layer.expert is not None:
        views = [experts.output_weights(module, layer.expert, neuron)]
    elif mixtures := experts.within(module):
        if any(getattr(mixture, "has_post_expert_norm", False) for mixture in mixtures):
            return None  # after a norm, no weight corresponds to a single coordinate
        views = [view for mixture in mixtures for view in experts.input_weights(mixture, neuron)]
        width = experts.output_width(mixtures[0])
        for part in module.modules():
            if features(part)[0] and features(part)[1] == width:
                views += _linear(part, site, neuron)
    else:
        views = _linear(module, site, neuron)
    editable = all(view.is_floating_point() and not view.is_meta for view in views)
    return views if views and editable else None


def _linear(module: Any, site: str, neuron: int) -> list[torch.Tensor]:
    if not is_plain(module):
        return []  # with an adapter, zeroing the weight of the projection is not enough
    weight, bias = getattr(module, "weight", None), getattr(module, "bias", None)
    # A quantized weight may report a floating-point dtype, but cannot be sliced.
    if not isinstance(weight, torch.Tensor) or type(weight.data) is not torch.Tensor:
        return []
    if weight.ndim != 2 or not weight.is_floating_point():
        return []
    # Weights of Linear are (out, in), of Conv1D (in, out).
    rows = (not is_input(site)) != isinstance(module, Conv1D)
    edited = [weight.data[neuron] if rows else weight.data[:, neuron]]
    if not is_input(site) and bias is not None:
        edited.append(bias.data[neuron : neuron + 1])
    return edited


@contextlib.contextmanager
def _zeroed(weights: Sequence[torch.Tensor]) -> Iterator[None]:
    originals = [values.clone() for values in weights]
    try:
        for values in weights:
            values.zero_()
        yield
    finally:
        for values, original in zip(weights, originals, strict=True):
            values.copy_(original)
