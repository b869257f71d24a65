"""Caveats: operations between the output of a site and the residual stream, found by perturbing the output.

In most models the output is added unchanged. If a normalization follows, silencing one neuron rescales all others; if a
factor follows, the activations differ from the increments of the stream. Neither is an error, but both matter for the
interpretation.
"""

import contextlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import nn
from transformers import PreTrainedModel

from lmri.exceptions import SiteError
from lmri.models import evaluation_mode
from lmri.models.sites.checking import probe
from lmri.models.sites.finding import find_sites
from lmri.models.sites.hooks import register_hook
from lmri.models.sites.stack import blocks
from lmri.space import NeuronSpace
from lmri.space.layers import is_attention, stack_of
from lmri.space.sites import DECODER

_Change: TypeAlias = Callable[[torch.Tensor], torch.Tensor]

_FAR = 100.0
"""Factor relative to the size of the stream at which a normalization of a sum depends only on the added term."""

_NORMALIZED = (
    "What the {} gives is normalized before it is added to the residual stream: changing one neuron rescales the "
    "others of its layer at the same token."
)
_OTHER = "What the {} gives is not simply added to the residual stream."
_POST_NORM = (
    "The sum of residual stream and {} is normalized in the block (post-norm): changing one neuron rescales the whole "
    "stream at the same token."
)


def caveats(model: PreTrainedModel, space: NeuronSpace) -> list[str]:
    """Describe the operations between the neurons of a site and the residual stream, other than a sum.

    The output of one projection of every kind is perturbed, in a few forward passes over a few tokens, and the effect
    on the output of its block is measured.

    Parameters
    ----------
    model : PreTrainedModel
        Model in which the space was found.
    space : NeuronSpace
        Neurons.

    Returns
    -------
    list of str
        One readable sentence per caveat; empty if outputs are added to the residual stream unchanged.

    Raises
    ------
    SiteError
        If the space does not belong to the model.
    """
    sentences: dict[str, None] = {}
    part = "attention" if is_attention(space.site) else "MLP"
    with evaluation_mode(model):
        for path in _one_of_each(space):
            for caveat in _examine(model, space.site, path, part):
                sentences[caveat] = None
    return list(sentences)


def _one_of_each(space: NeuronSpace) -> list[str]:
    """Choose one module of every kind; paths that differ only in numbers are of the same kind."""
    kinds: dict[str, list[str]] = {}
    for path in dict.fromkeys(layer.module for layer in space.layers):
        kinds.setdefault(re.sub(r"\d+", "", path), []).append(path)
    return [paths[len(paths) // 2] for paths in kinds.values()]


def _examine(model: PreTrainedModel, site: str, path: str, part: str) -> list[str]:
    stack = stack_of(site)
    module: nn.Module = model.base_model.get_submodule(path)
    block = next((block for block in blocks(model, stack) if module in block.modules()), None)
    if block is None:
        return [f"{path!r} is in none of the model's blocks; how it reaches the residual stream is not known."]
    silent = _mlp_in(model, block, site) if is_attention(site) else None
    if is_attention(site) and silent is None:
        return ["The block's MLP was not found; how attention reaches the residual stream is not known."]
    trial = _Trial(model, stack, module, block, silent)
    output, end = trial.run(lambda value: value)
    if end is None or (output.shape == end.shape and torch.equal(output, end)):
        return [f"Blocks do not give the residual stream; how what the {part} gives reaches it is not known."]
    return _compare(trial, output, end, part)


def _mlp_in(model: PreTrainedModel, block: nn.Module, site: str) -> nn.Module | None:
    """Find the MLP between attention and the end of a block, which is to be silenced."""
    try:
        space = find_sites(model, DECODER * site.startswith(DECODER) + "mlp_out")
    except SiteError:
        return None
    modules = [model.base_model.get_submodule(layer.module) for layer in space.layers]
    return next((module for module in modules if module in block.modules()), None)


def _compare(trial: "_Trial", output: torch.Tensor, end: torch.Tensor, part: str) -> list[str]:
    size = max(_size(output), _size(end))
    noise = torch.randn(output.shape, generator=torch.Generator().manual_seed(0)).to(output) * size
    # Sums are rounded: half precision represents a large stream only coarsely.
    rounding = 8 * torch.finfo(trial.dtype).eps * float(end.abs().max())
    if end.numel() != output.numel():
        return [f"What the {part} gives is spread over several residual streams, not added to one."]
    near = (trial.end(_Added(noise)) - end).reshape(noise.shape)
    if not near.any():
        return [f"Blocks do not give the residual stream; how what the {part} gives reaches it is not known."]
    factor = float((near * noise).sum() / (noise * noise).sum())
    if float((near - factor * noise).abs().max()) <= rounding + 1e-3 * float(noise.abs().max()):
        if abs(factor - 1) < 0.01:
            return []
        return [f"What the {part} gives is multiplied by {factor:.4g} before it is added to the residual stream."]
    changed = _size(near)
    if _size(trial.end(lambda value: 2 * value) - end) < 0.02 * changed + rounding:
        return [_NORMALIZED.format(part)]
    far, further, back = (trial.end(_Added(noise, steps)) for steps in (_FAR, 2 * _FAR, -_FAR))
    if _size(further - far) < 0.1 * _size(far):
        # A normalized sum no longer contains the stream; otherwise the mean of two opposite perturbations equals it.
        remainder = ((far + back) / 2).reshape(-1, far.shape[-1])
        wiped_out = _size(remainder - remainder.mean(dim=0)) < 0.05 * _size(far)
        if _size((trial.end(_Added(_amplify_first(noise), _FAR)) - far)[..., 1:]) > 0.01 * _size(far):
            return [(_POST_NORM if wiped_out else _NORMALIZED).format(part)]
        return [_OTHER.format(part)]
    twice = (trial.end(_Added(noise, 2)) - end).reshape(noise.shape)
    if _size(twice - 2 * near) < 0.01 * changed + rounding:
        return [f"What the {part} gives is weighted, by token or neuron, before it is added to the residual stream."]
    return [_OTHER.format(part)]


def _amplify_first(noise: torch.Tensor) -> torch.Tensor:
    """Amplify the first neuron, which a normalization would compensate by reducing all others."""
    amplified = noise.clone()
    amplified[..., 0] *= 10
    return amplified


def _size(values: torch.Tensor) -> float:
    return float(values.square().mean().sqrt())


@dataclass(frozen=True)
class _Added:
    """Addition of a multiple of noise to a value."""

    noise: torch.Tensor
    steps: float = 1.0

    def __call__(self, value: torch.Tensor) -> torch.Tensor:
        return value + self.steps * self.noise


@dataclass
class _Trial:
    """Perturbation of the first output of a module in a forward pass, and measurement of the output of its block."""

    model: PreTrainedModel
    stack: str
    module: nn.Module
    block: nn.Module
    silent: nn.Module | None
    dtype: torch.dtype = torch.float32

    def end(self, change: _Change) -> torch.Tensor:
        """Return the output of the block after a change."""
        output = self.run(change)[1]
        if output is None:
            raise SiteError("A block returned a tensor in one forward pass, but not in another. Not supported.")
        return output

    def run(self, change: _Change) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Return the output of the module before a change and of the block after it, in single precision."""
        outputs: list[torch.Tensor] = []
        ends: list[Any] = []

        def alter(value: torch.Tensor) -> torch.Tensor | None:
            if outputs:  # with shared weights only the first call is changed
                return None
            outputs.append(value.float().clone())
            return change(value.float()).to(value.dtype)

        def observe(module: nn.Module, args: Any, output: Any) -> None:
            first = output[0] if isinstance(output, tuple | list) else output
            ends.append(first.clone() if isinstance(first, torch.Tensor) else None)

        with contextlib.ExitStack() as handles:
            handles.callback(register_hook(self.module, "mlp_out", alter).remove)
            handles.callback(self.block.register_forward_hook(observe).remove)
            if self.silent is not None:
                handles.callback(register_hook(self.silent, "mlp_out", torch.zeros_like).remove)
            probe(self.model, self.stack)
        if not outputs:
            raise SiteError(
                "A module of the space is not called in a forward pass. Use the model in which the space was found."
            )
        if not ends or ends[0] is None:
            return outputs[0], None
        self.dtype = ends[0].dtype
        return outputs[0], ends[0].float()
