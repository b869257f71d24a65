"""Telling models apart: by name, by their weights, and by what is done to them now."""

import contextlib
import hashlib
import weakref
from collections.abc import Iterator
from pathlib import Path

import torch
from torch.utils._python_dispatch import is_traceable_wrapper_subclass
from transformers import PreTrainedModel

from lmri.models.offloading import OffloadedWeight, find_offloaded
from lmri.models.quantization import keep_layout, precision, quantization_of
from lmri.space import ModelInfo

EMBEDDED = "lmri-demo"
"""Name of the small model that comes with the package."""


def describe_model(model: PreTrainedModel) -> ModelInfo:
    """Say which weights these are."""
    path = str(getattr(model.config, "_name_or_path", "") or "") or f"unnamed-{model.config.model_type}"
    # A local folder would put an absolute path into files that are to be the same on every machine.
    identity = Path(path).resolve().name if _is_folder(path) else path
    return ModelInfo(
        id=identity,
        revision=getattr(model.config, "_commit_hash", None),
        fingerprint=fingerprint(model),
        model_type=str(model.config.model_type),
        dtype=precision(model),
    )


def location(model: PreTrainedModel) -> str:
    """Where the model was loaded from: a hub name, or an absolute path."""
    path = str(getattr(model.config, "_name_or_path", "") or "")
    return str(Path(path).resolve()) if _is_folder(path) else path


def _is_folder(path: str) -> bool:
    # The embedded model's name is also the default name of the demo's study.
    return path != EMBEDDED and Path(path).is_dir()


def fingerprint(model: PreTrainedModel, head: bool = False) -> str:
    """Hash the weights: names, shapes and every byte of every tensor.

    A model has one fingerprint wherever its weights lie, on a device or offloaded to a disk. Quantized weights are
    other weights, and have another one.

    Parameters
    ----------
    model : PreTrainedModel
        Any.
    head : bool, default=False
        Hash the head too. Without it a language model and a classifier on the same body agree.

    Raises
    ------
    ValueError
        If there are weights that are nowhere: the model was built, but not loaded.
    """
    keep_layout(model)
    part: torch.nn.Module = model if head else model.base_model
    weights = _weights(part)
    stored_as = precision(model)
    # Reading all weights takes seconds for a large model, and an intervention asks each time it is applied.
    key = (head, _glance(weights) + stored_as)
    known = _FINGERPRINTS.setdefault(model, {})
    if key not in known:
        digest = hashlib.sha256()
        if quantization_of(model.config):
            digest.update(stored_as.encode())
        for name, weight in weights:
            for path, values in _plain(name, weight.read() if isinstance(weight, OffloadedWeight) else weight):
                digest.update(f"{path}{tuple(values.shape)}{values.dtype}".encode())
                digest.update(values.cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
        known[key] = digest.hexdigest()[:16]
        _SUMS.setdefault(model, {})[head] = _sums(weights)
    return known[key]


def look_closely(model: PreTrainedModel) -> None:
    """Forget what is known of a model's weights if any value has changed, however it was changed.

    An edit through ``.data`` of a few values is not seen at a glance; every value is looked at here, which takes as
    long as reading the weights from memory once.
    """
    for head, before in _SUMS.get(model, {}).items():
        if _sums(_weights(model if head else model.base_model)) != before:
            _FINGERPRINTS.pop(model, None)
            _SUMS.pop(model, None)
            return


_SUMS: weakref.WeakKeyDictionary[torch.nn.Module, dict[bool, list[str]]] = weakref.WeakKeyDictionary()
"""By whether the head counts: what `_sums` said of every tensor when it was hashed."""


def _sums(weights: list[tuple[str, "torch.Tensor | OffloadedWeight"]]) -> list[str]:
    """Tell the values of all tensors that are in memory, at the speed at which it is read."""
    return [
        _row_and_column_sums(values)
        for name, weight in weights
        if not isinstance(weight, OffloadedWeight)
        for _, values in _plain(name, weight)
    ]


def _row_and_column_sums(values: torch.Tensor) -> str:
    """Hash sums of the bytes of a tensor, taken as 64-bit integers that wrap around, in rows of 512.

    One value that changes changes its row; two that change places change their rows or, in one row, their columns.
    """
    content = values.reshape(-1).view(torch.uint8)
    n_whole = len(content) // 4096 * 4096
    whole = content[:n_whole]
    if whole.storage_offset() % 8:
        whole = whole.clone()
    rows = whole.view(torch.int64).view(-1, 512)
    digest = hashlib.sha256()
    for part in (rows.sum(0), rows.sum(1), content[n_whole:]):
        digest.update(part.cpu().numpy().tobytes())
    return digest.hexdigest()


_FINGERPRINTS: weakref.WeakKeyDictionary[torch.nn.Module, dict[tuple[bool, str], str]] = weakref.WeakKeyDictionary()


def _weights(part: torch.nn.Module) -> list[tuple[str, "torch.Tensor | OffloadedWeight"]]:
    """List all weights of a part by name; an offloaded one is not read yet."""
    state = [(name, values) for name, values in part.state_dict().items() if isinstance(values, torch.Tensor)]
    return [(name, find_offloaded(part, name) if values.is_meta else values) for name, values in sorted(state)]


def _plain(name: str, values: torch.Tensor) -> Iterator[tuple[str, torch.Tensor]]:
    """Give the tensors that a weight is stored as: quantized ones are made of several."""
    if is_traceable_wrapper_subclass(values):
        for inner in values.__tensor_flatten__()[0]:
            yield from _plain(f"{name}.{inner}", getattr(values, inner))
    else:
        # Without its class: moving or slicing a parameter of a quantization library may do more than that.
        yield name, values.detach().as_subclass(torch.Tensor)


def _glance(weights: list[tuple[str, "torch.Tensor | OffloadedWeight"]]) -> str:
    """Tell whether weights have changed since they were hashed: by their versions, and 512 values of each.

    An offloaded weight is not read for this: it cannot be edited in place, so its file's size and time do.
    """
    digest = hashlib.sha256()
    for name, weight in weights:
        if isinstance(weight, OffloadedWeight):
            digest.update(f"{name}{weight.origin()}".encode())
            continue
        for path, values in _plain(name, weight):
            flat = values.reshape(-1)
            # A prime stride, so that the sample does not run along one column.
            places = torch.arange(min(512, flat.numel()), device=flat.device) * 7919 % max(1, flat.numel())
            # Tensors made in inference mode, as by some quantized layers, count no versions.
            version = None if values.is_inference() else values._version
            digest.update(f"{path}{tuple(values.shape)}{version}".encode())
            digest.update(flat[places].double().cpu().numpy().tobytes())
    return digest.hexdigest()


@contextlib.contextmanager
def altered(model: PreTrainedModel, how: str) -> Iterator[None]:
    """Remember, while the body runs, that a model does not behave as its weights say."""
    stack = _ALTERED.setdefault(model, [])
    stack.append(how)
    try:
        yield
    finally:
        stack.remove(how)


def alterations(model: PreTrainedModel) -> list[str]:
    """List how a model is altered now; empty if it is intact."""
    return list(_ALTERED.get(model, []))


_ALTERED: weakref.WeakKeyDictionary[torch.nn.Module, list[str]] = weakref.WeakKeyDictionary()
