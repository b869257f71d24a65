"""Check that all that a block computes from its MLP or attention passes through the chosen modules.

With an adapter, the projection of an MLP is inside another module, whose additional branch bypasses it: the projection
can be recorded and lesioned, but is only part of the output. The check silences the site and then also everything
before it; the outputs of the blocks must stay the same, bit for bit.
"""

import contextlib
import functools
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from lmri.exceptions import SiteError
from lmri.models.sites.hooks import features, hooked, projections
from lmri.models.sites.stack import blocks
from lmri.space import NeuronSpace
from lmri.space.layers import is_attention, is_input, stack_of

_ATTENTION = re.compile(r"attn|attention", re.IGNORECASE)


def check_bypass(model: PreTrainedModel, space: NeuronSpace, run: Callable[[], object]) -> None:
    """Raise `SiteError` if part of the output of an MLP or attention does not pass through the modules of a site.

    Parameters
    ----------
    model : PreTrainedModel
        Model in evaluation mode.
    space : NeuronSpace
        Site, of which slices of experts and shared layers are not checked.
    run : callable
        Function that runs the model on a few tokens.
    """
    paths = {module: path for path, module in model.base_model.named_modules()}
    branches = [branch for branch in _branches(model, space) if branch is not None]
    if not branches:
        return
    silence = {branch.z: torch.zeros_like for branch in branches}

    def ends(hooks: Callable[[_Branch], Iterator[Any]] | None = None) -> list[torch.Tensor | None]:
        with contextlib.ExitStack() as stack:
            stack.enter_context(hooked(model, space, silence))
            for branch in branches:
                for handle in hooks(branch) if hooks is not None else ():
                    stack.callback(handle.remove)
                stack.callback(branch.block.register_forward_hook(branch.keep).remove)
            run()
        return [branch.output for branch in branches]

    silenced = ends()
    interferences: list[Callable[[_Branch], Iterator[Any]]] = [
        functools.partial(_perturb_input, hidden_size=_hidden_size(model))
    ]
    if not is_input(space.site):  # branches beside hidden units, as of an adapter around an MLP, are no hidden units
        interferences.append(_silence_others)
    for interfere in interferences:
        for branch, before, after in zip(branches, silenced, ends(interfere), strict=True):
            if before is not None and after is not None and not torch.equal(before.nan_to_num(), after.nan_to_num()):
                raise SiteError(
                    f"{paths[branch.module]!r} carries only part of what its layer adds: silencing it leaves another "
                    f"branch of {paths[branch.part]!r} ({type(branch.part).__name__}), as an adapter has. Merge the "
                    "adapter into the weights (merge_and_unload) and save the model, or name another module with "
                    "projection= (--projection)."
                )


@dataclass
class _Branch:
    """Projection of a block, and the part of the block that contains it."""

    z: int
    module: nn.Module
    block: nn.Module
    part: nn.Module
    """Outermost module below the block that contains the projection."""
    parent: nn.Module
    """Innermost module below the block that contains the projection and is called; the projection if there is none."""
    output: torch.Tensor | None = field(default=None, repr=False)

    def keep(self, module: nn.Module, args: object, output: Any) -> None:
        first = output[0] if isinstance(output, tuple | list) and output else output
        self.output = first.clone() if isinstance(first, torch.Tensor) else None


def _branches(model: PreTrainedModel, space: NeuronSpace) -> Iterator[_Branch | None]:
    whole = blocks(model, stack_of(space.site))
    numbers = range(space.n_layers)
    if is_attention(space.site):  # later layers may reuse the keys of an earlier one
        numbers = range(space.n_layers // 2, space.n_layers // 2 + 1)
    modules = projections(model, space)
    mixed = {layer.block for layer in space.layers if layer.expert is not None}
    for z in numbers:
        layer, module = space.layers[z], modules[z]
        if layer.call is not None or layer.expert is not None or (layer.block is not None and layer.block in mixed):
            continue
        yield _branch(z, module, whole, is_attention(space.site))


def _branch(z: int, module: nn.Module, whole: list[nn.Module], of_attention: bool) -> _Branch | None:
    for block in whole:
        path = next((path for path, other in block.named_modules() if other is module), None)
        if path is None:
            continue
        names = path.split(".")
        above = [block.get_submodule(".".join(names[:end])) for end in range(1, len(names))] if path else []
        called = [part for part in above if not isinstance(part, nn.ModuleList | nn.ModuleDict)] or [module]
        # A wrapper around a block contains the attention too, which is no branch of the MLP.
        parts = called if of_attention else [part for part in called if not _has_attention(part)] or [module]
        return _Branch(z, module, block, parts[0], called[-1])
    return None


def _has_attention(part: nn.Module) -> bool:
    names = [f"{path.rpartition('.')[2]} {type(inner).__name__}" for path, inner in part.named_modules()]
    return any(_ATTENTION.search(name) for name in names)


def _silence_others(branch: _Branch) -> Iterator[Any]:
    """Silence all other linear maps in the part of the block."""
    inside = set(branch.module.modules())
    for module in branch.part.modules():
        if features(module)[0] and module not in inside:
            yield module.register_forward_hook(_zeros)


def _zeros(module: nn.Module, args: object, output: Any) -> torch.Tensor | tuple[Any, ...]:
    if isinstance(output, tuple):  # I-BERT also returns a scale
        return (torch.zeros_like(output[0]), *output[1:])
    return torch.zeros_like(output)


def _perturb_input(branch: _Branch, hidden_size: int) -> Iterator[Any]:
    """Perturb what the innermost module around the projection reads, unless it may read the residual stream itself."""
    if branch.parent is not branch.module:
        yield branch.parent.register_forward_pre_hook(functools.partial(_shifted, hidden_size), with_kwargs=True)


def _shifted(
    hidden_size: int, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
    if not args or not isinstance(args[0], torch.Tensor) or args[0].shape[-1] == hidden_size:
        return None
    return (args[0] * 2 + 1, *args[1:]), kwargs


def _hidden_size(model: PreTrainedModel) -> int:
    return int(getattr(model.config.get_text_config(), "hidden_size", 0))
