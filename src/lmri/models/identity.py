"""Identity of models: name, fingerprint of the weights, and active interventions."""

import contextlib
import hashlib
import weakref
from collections.abc import Iterator
from pathlib import Path

import torch
from torch.utils._python_dispatch import is_traceable_wrapper_subclass
from transformers import PreTrainedModel

from lmri.demo import EMBEDDED
from lmri.models.adapters import Identity, transformer
from lmri.models.loading.offloading import OffloadedWeight, find_offloaded
from lmri.models.loading.quantization import keep_layout, precision, quantization_of
from lmri.space import ModelInfo


def describe_model(model: PreTrainedModel) -> ModelInfo:
    """Describe a model by its name, revision, fingerprint, type and precision; its name includes active adapters."""
    model = transformer(model)
    path = str(getattr(model.config, "_name_or_path", "") or "") or f"unnamed-{model.config.model_type}"
    # The path of a local folder would make files differ between machines; only its name is used.
    identity = Path(path).resolve().name if _is_folder(path) else path
    return ModelInfo(
        id="+".join([identity, *Identity(model).adapters]),
        revision=getattr(model.config, "_commit_hash", None),
        fingerprint=fingerprint(model),
        model_type=str(model.config.model_type),
        dtype=precision(model),
    )


def location(model: PreTrainedModel) -> str:
    """Return the location from which the model was loaded: a name on the hub, or an absolute path.

    A model with active adapters cannot be loaded from one location, so the location is empty.
    """
    model = transformer(model)
    if Identity(model).adapters:
        return ""
    path = str(getattr(model.config, "_name_or_path", "") or "")
    return str(Path(path).resolve()) if _is_folder(path) else path


def _is_folder(path: str) -> bool:
    # The name of the embedded model is also the default name of the demo study.
    return path not in ("", EMBEDDED) and Path(path).is_dir()


def fingerprint(model: PreTrainedModel, head: bool = False) -> str:
    """Hash the weights: names, shapes and every byte of every tensor.

    The fingerprint does not depend on the location of the weights, on a device or offloaded to disk. Quantized weights
    have a different fingerprint. Active adapters belong to it, with their scale; adapters that are off do not, and
    merged adapters only by the weights into which they are merged (`lmri.models.adapters`).

    Parameters
    ----------
    model : PreTrainedModel
        Model.
    head : bool, default=False
        Whether to include the head. Without it, a language model and a classifier with the same body agree.

    Raises
    ------
    ValueError
        If weights have no values, because the model was built but not loaded.
    """
    model = transformer(model)
    keep_layout(model)
    part: torch.nn.Module = model if head else model.base_model
    inserted = Identity(part)
    weights, settings = _weights(part, inserted), "\n".join(inserted.settings())
    stored_as = precision(model)
    # Reading all weights of a large model takes seconds, and every intervention needs the fingerprint.
    key = (head, _glance(weights) + stored_as + settings)
    known = _FINGERPRINTS.setdefault(model, {})
    if key not in known:
        digest = hashlib.sha256()
        if quantization_of(model.config):
            digest.update(stored_as.encode())
        digest.update(settings.encode())
        for name, weight in weights:
            for path, values in _plain(name, weight.read() if isinstance(weight, OffloadedWeight) else weight):
                digest.update(f"{path}{tuple(values.shape)}{values.dtype}".encode())
                digest.update(values.cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
        known[key] = digest.hexdigest()[:16]
        _SUMS.setdefault(model, {})[head] = _sums(weights)
    return known[key]


def look_closely(model: PreTrainedModel) -> None:
    """Discard cached fingerprints of a model if any weight has changed, by any kind of edit.

    An edit of a few values through ``.data`` can escape the quick check of `fingerprint`. This function checks every
    value, which takes as long as reading the weights from memory once.
    """
    model = transformer(model)
    for head, before in _SUMS.get(model, {}).items():
        part = model if head else model.base_model
        if _sums(_weights(part, Identity(part))) != before:
            _FINGERPRINTS.pop(model, None)
            _SUMS.pop(model, None)
            return


_SUMS: weakref.WeakKeyDictionary[torch.nn.Module, dict[bool, list[str]]] = weakref.WeakKeyDictionary()
"""Result of `_sums` when the weights were hashed, with and without the head."""


def _sums(weights: list[tuple[str, "torch.Tensor | OffloadedWeight"]]) -> list[str]:
    """Compute a fast checksum of every tensor in memory, at memory bandwidth."""
    return [
        _row_and_column_sums(values)
        for name, weight in weights
        if not isinstance(weight, OffloadedWeight)
        for _, values in _plain(name, weight)
    ]


def _row_and_column_sums(values: torch.Tensor) -> str:
    """Hash the row and column sums of the bytes of a tensor, as wrapping 64-bit integers in rows of 512.

    A changed value changes the sum of its row; two swapped values change the sums of their rows or, within one row, of
    their columns.
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


def _weights(part: torch.nn.Module, inserted: Identity) -> list[tuple[str, "torch.Tensor | OffloadedWeight"]]:
    """List all weights of a part that have an effect, by name; offloaded weights are not read yet."""
    state = [
        (name, find_offloaded(part, path) if values.is_meta else values)
        for path, values in part.state_dict().items()
        if isinstance(values, torch.Tensor) and (name := inserted.name(path)) is not None
    ]
    return sorted([*state, *inserted.hidden_tensors()], key=lambda weight: weight[0])


def _plain(name: str, values: torch.Tensor) -> Iterator[tuple[str, torch.Tensor]]:
    """Iterate over the tensors of a weight; a quantized weight consists of several."""
    if is_traceable_wrapper_subclass(values):
        for inner in values.__tensor_flatten__()[0]:
            yield from _plain(f"{name}.{inner}", getattr(values, inner))
    else:
        # As a plain tensor: moving or slicing a parameter of a quantization library may have side effects.
        yield name, values.detach().as_subclass(torch.Tensor)


def _glance(weights: list[tuple[str, "torch.Tensor | OffloadedWeight"]]) -> str:
    """Compute a quick digest that detects changes of weights, from their versions and 512 values of each.

    Offloaded weights are not read: they cannot be edited in place, so the size and time of their files suffice.
    """
    digest = hashlib.sha256()
    for name, weight in weights:
        if isinstance(weight, OffloadedWeight):
            digest.update(f"{name}{weight.origin()}".encode())
            continue
        for path, values in _plain(name, weight):
            flat = values.reshape(-1)
            # A prime stride, so that the sample does not run along one column.
            indices = torch.arange(min(512, flat.numel()), device=flat.device) * 7919 % max(1, flat.numel())
            # Tensors created in inference mode, as in some quantized layers, have no version counter.
            version = None if values.is_inference() else values._version
            digest.update(f"{path}{tuple(values.shape)}{version}".encode())
            digest.update(flat[indices].double().cpu().numpy().tobytes())
    return digest.hexdigest()


@contextlib.contextmanager
def altered(model: PreTrainedModel, how: str) -> Iterator[None]:
    """Mark a model as altered while the body runs, because its behavior differs from its weights."""
    stack = _ALTERED.setdefault(transformer(model), [])
    stack.append(how)
    try:
        yield
    finally:
        stack.remove(how)


def alterations(model: PreTrainedModel) -> list[str]:
    """List the active interventions on a model; empty if it is intact."""
    return list(_ALTERED.get(transformer(model), []))


_ALTERED: weakref.WeakKeyDictionary[torch.nn.Module, list[str]] = weakref.WeakKeyDictionary()
