"""Comparison of a device with the CPU, because some drivers compute wrong values without an error."""

import contextlib
import copy
import os
import weakref
from collections.abc import Iterator, Sequence
from typing import Any, TypeAlias

import torch
from torch import nn
from transformers import PreTrainedModel

from lmri.exceptions import DeviceError
from lmri.models.batching import relative_difference, tolerance
from lmri.models.loading.quantization import quantization_of
from lmri.models.reading import evaluation_mode, input_device, right_pad
from lmri.models.sites.forward import forward
from lmri.models.sites.stack import blocks

N_TOKENS = 32
"""Number of tokens that are compared."""

_Nested: TypeAlias = Any
"""Tensors in tuples, lists and dictionaries."""

NOT_DONE = "not done"
"""Result of a comparison that was skipped or is not possible."""


def check_device(model: PreTrainedModel, ids: Sequence[int]) -> str:
    """Compare the values of a model on its device with those on the CPU, once per model and process.

    A copy of the model on the CPU reads the first 32 tokens. If the memory does not suffice, or the model is
    distributed over devices, its first and last block are compared instead.

    Parameters
    ----------
    model : PreTrainedModel
        Model.
    ids : sequence of int
        Token ids of a text, of which the first 32 are read.

    Returns
    -------
    str
        Description of the comparison, for the sidecar of a recording; ``"not done"`` with the reason if the CPU cannot
        run the model; empty for a model on the CPU.

    Raises
    ------
    DeviceError
        If the values differ by more than rounding.
    """
    devices = devices_of(model)
    if not devices - {"cpu", "meta"}:
        return ""
    if model not in _RESULTS:
        _RESULTS[model] = _compare(model, list(ids[:N_TOKENS]), sorted(devices - {"cpu", "meta"}))
    return _RESULTS[model]


_RESULTS: weakref.WeakKeyDictionary[torch.nn.Module, str] = weakref.WeakKeyDictionary()


def devices_of(model: nn.Module) -> set[str]:
    """Return the types of the devices that hold the weights of a model."""
    return {values.device.type for values in model.parameters()}


def _compare(model: PreTrainedModel, ids: list[int], devices: list[str]) -> str:
    if quantization_of(model.config):
        return f"{NOT_DONE}: the weights are quantized for {', '.join(devices)}"
    try:
        if not getattr(model, "hf_device_map", None) and _n_bytes(model) < _free_memory() / 2:
            what, difference = "the model", _whole(model, ids)
        else:
            what, difference = "its first and last block", _both_ends(model, ids)
    except (RuntimeError, NotImplementedError, TypeError) as error:
        return f"{NOT_DONE}: the CPU cannot run the model ({type(error).__name__})"
    allowed = tolerance(model)
    if not difference <= allowed:
        raise DeviceError(
            f"On the device {', '.join(devices)}, {what} gives other values than on the CPU: the largest relative "
            f"difference at {len(ids)} tokens is {difference:.2g}, and rounding explains {allowed:.2g}. The device or "
            "its driver computes wrong values. Record on the CPU (device='cpu'), or update PyTorch and the driver. "
            "lmri check MODEL --device DEVICE repeats the comparison; device_check=False (--no-device-check) skips it."
        )
    return (
        f"{len(ids)} tokens on {', '.join(devices)} and on the CPU: {what} differs by at most {difference:.2g} "
        f"(allowed: {allowed:.2g})"
    )


def _whole(model: PreTrainedModel, ids: list[int]) -> float:
    """Compare the last hidden states with those of a copy of the model on the CPU."""
    reference = copy.deepcopy(model).to("cpu")
    values, expected = (_hidden(each, ids) for each in (model, reference))
    return relative_difference(values, expected)


def _hidden(model: PreTrainedModel, ids: list[int]) -> torch.Tensor:
    with evaluation_mode(model):
        return forward(model, *right_pad([ids], input_device(model)))[0].float().cpu()


def _both_ends(model: PreTrainedModel, ids: list[int]) -> float:
    """Compare the outputs of the first and the last block with those of copies on the CPU, for the same inputs."""
    whole = blocks(model)
    largest = 0.0
    with evaluation_mode(model):
        for block in {id(block): block for block in (whole[0], whole[-1])}.values():
            calls: list[tuple[Any, Any, Any]] = []
            with _noted(block, calls):
                forward(model, *right_pad([ids], input_device(model)))
            args, kwargs, output = calls[0]
            reference = copy.deepcopy(block).to("cpu")
            expected = reference(*_on_cpu(args), **_on_cpu(kwargs))
            largest = max(largest, relative_difference(_first(_on_cpu(output)), _first(expected)))
    return largest


@contextlib.contextmanager
def _noted(block: nn.Module, calls: list[tuple[Any, Any, Any]]) -> Iterator[None]:
    def note(module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
        calls.append((args, kwargs, output))

    handle = block.register_forward_hook(note, with_kwargs=True)
    try:
        yield
    finally:
        handle.remove()


def _on_cpu(value: _Nested) -> _Nested:
    if isinstance(value, torch.Tensor):
        return value.detach().to("cpu", copy=True)
    if isinstance(value, dict):
        return {name: _on_cpu(part) for name, part in value.items()}
    return type(value)(map(_on_cpu, value)) if type(value) in (tuple, list) else value


def _first(output: Any) -> torch.Tensor:
    tensor: torch.Tensor = output[0] if isinstance(output, tuple | list) else output
    return tensor.float().reshape(-1, tensor.shape[-1])


def _n_bytes(model: nn.Module) -> int:
    return sum(values.numel() * values.element_size() for values in model.parameters())


def _free_memory() -> int:
    """Return the free memory of the machine in bytes; 0 where the system does not report it."""
    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return 0
