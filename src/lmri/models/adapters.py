"""Adapters: modules that peft and other libraries insert into a model, and wrappers around a whole model.

A model with an adapter computes the same function as a model into whose weights the adapter is merged, if the adapter
is linear. Its identity is therefore that of the function: an adapter that is off or already merged is not part of it,
and the weights of a wrapped projection have the name that they have without the wrapper. Active adapters belong to it
with their weights, their scale and their settings.
"""

import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from types import NoneType
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import is_traceable_wrapper_subclass
from transformers import PreTrainedModel

from lmri.exceptions import SiteError

MERGE = "Merge the adapter into the weights (with peft: model = model.merge_and_unload()), or use the model without it."
"""Next step for a user whose adapter cannot be handled."""

PACKED = (torch.int8, torch.uint8, torch.int32)
"""Data types of packed quantized weights."""

_ORIGINALS = ("base_layer", "original_module", "token_adapter")
_COPIES = "modules_to_save"
_PLAIN = bool | int | float | complex | str | torch.dtype
_BOOKKEEPING = {"_caches", "forward"}


# ---------------------------------------------------------------------------------------------------------------------
# Wrappers around a model
# ---------------------------------------------------------------------------------------------------------------------


def transformer(model: nn.Module) -> PreTrainedModel:
    """Return the transformer inside a wrapper of peft; a transformer is returned as it is.

    Parameters
    ----------
    model : Module
        Transformer, or a wrapper of peft around it, such as ``PeftModel``.

    Raises
    ------
    SiteError
        If the wrapper or an adapter acts outside the layers of the transformer, as virtual tokens do, or the wrapper is
        not one of peft.
    """
    configurations: Any = getattr(model, "peft_config", None) or {}
    for name in _active(model, configurations):
        if reason := _acts_outside(configurations[name]):
            raise SiteError(f"The adapter {name!r} of the model {reason}, which cannot be recorded or lesioned.")
    if isinstance(model, PreTrainedModel):
        return model
    inner = next((part for part in model.modules() if isinstance(part, PreTrainedModel)), None)
    if inner is None or not configurations:
        raise SiteError(
            f"The model is a {type(model).__name__}, not a transformer. If it is a wrapper, such as an adapter, pass "
            "the transformer inside it, provided that the wrapper does not change its outputs."
        )
    return inner


def _active(model: nn.Module, configurations: Mapping[str, Any]) -> list[str]:
    """List the active adapters of a model, or all of them if this is not known."""
    active = getattr(model, "active_adapter", None) if configurations else None
    names = [active] if isinstance(active, str) else active
    return [name for name in names if name in configurations] if isinstance(names, list) else list(configurations)


def _acts_outside(configuration: Any) -> str:
    """Explain why an adapter is no change of the layers; empty if it is one."""
    if getattr(configuration, "is_prompt_learning", False):
        kind = getattr(configuration.peft_type, "value", configuration.peft_type)
        return f"({kind}) adds virtual tokens or cached keys and values to every text"
    if getattr(configuration, "alora_invocation_tokens", None):
        return "(aLoRA) is active only after certain tokens"
    return ""


# ---------------------------------------------------------------------------------------------------------------------
# Identity
# ---------------------------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class _Tuner:
    """Wrapper around a module that has one or several adapters, of which some are engaged: active and not merged."""

    original: str
    known: frozenset[str]
    engaged: tuple[str, ...]

    @staticmethod
    def of(module: nn.Module) -> "_Tuner | None":
        """Read the state of a module; None if it is no such wrapper."""
        original = next((name for name in _ORIGINALS if module._modules.get(name) is not None), None)
        if original is None or not isinstance(getattr(module, "disable_adapters", None), bool):
            return None
        active = getattr(module, "active_adapters", getattr(module, "active_adapter", None))
        names = [active] if isinstance(active, str) else list(active or ())
        known = _keys(part for name, part in module.named_children() if name != original)
        off = module.disable_adapters or is_merged(module)
        return _Tuner(original, frozenset(known | set(names)), () if off else tuple(n for n in names if n in known))

    def rename(self, path: list[str]) -> list[str] | None:
        """Return the name of a tensor or setting, relative to the wrapper; None if it has no effect."""
        if path[0] == self.original:
            return None if self.engaged and self.original == "original_module" else path[1:]
        if not self.engaged or any(part in self.known and part not in self.engaged for part in path[1:]):
            return None
        ranked = [str(self.engaged.index(part)) if part in self.engaged else part for part in path]
        return path[2:] if path[0] == _COPIES else ["adapter", *ranked]


def is_merged(module: nn.Module) -> bool:
    """Check whether adapters are merged into the weights of a wrapped module, and would be merged out if disabled."""
    return bool(getattr(module, "merged", None) or getattr(module, "merged_adapters", None))


def _keys(parts: Iterable[nn.Module]) -> set[str]:
    """Return the names of adapters: the keys of the containers of a wrapper."""
    keyed = (nn.ModuleDict, nn.ParameterDict)
    return {
        str(key)
        for part in parts
        if isinstance(part, keyed) or type(part).__name__ == "BufferDict"
        for key in (part.keys() if isinstance(part, keyed) else part._buffers)
    }


class Identity:
    """Names under which the weights and settings of a part of a model belong to its identity.

    Parameters
    ----------
    part : Module
        Model, or its body.
    """

    def __init__(self, part: nn.Module) -> None:
        self._tuners: dict[str, _Tuner] = {}
        self._inserted: dict[str, nn.Module] = {}
        native = ("torch", "transformers", package(part))
        for path, module in part.named_modules():
            tuner = _Tuner.of(module)
            if tuner is not None:
                self._tuners[path] = tuner
            if tuner is not None or (package(module) not in native and not is_packed(module)):
                self._inserted[path] = module

    @property
    def adapters(self) -> list[str]:
        """Names of the engaged adapters."""
        return sorted({name for tuner in self._tuners.values() for name in tuner.engaged})

    def name(self, path: str) -> str | None:
        """Return the name of a tensor or setting; None if it has no effect on the outputs."""
        if not self._tuners:
            return path
        steps, named, n_done = path.split("."), [], 0
        while n_done < len(steps):
            tuner = self._tuners.get(".".join(steps[:n_done]))
            if tuner is None:
                named.append(steps[n_done])
                n_done += 1
                continue
            renamed = tuner.rename(steps[n_done:])
            if renamed is None:
                return None
            if len(renamed) > len(steps) - n_done:  # a part of the adapter itself
                return ".".join([*named, *renamed])
            n_done = len(steps) - len(renamed)  # steps of the wrapper are no part of the name
        return ".".join(named)

    def hidden_tensors(self) -> Iterator[tuple[str, torch.Tensor]]:
        """Iterate over tensors of inserted modules that are not in the state dict of the model."""
        for path, value in self._attributes():
            if isinstance(value, torch.Tensor):
                yield path, value

    def settings(self) -> list[str]:
        """List the settings of inserted modules: numbers, switches and texts, such as the scale of an adapter."""
        lines = [f"{path}={value}" for path, value in self._attributes() if not isinstance(value, torch.Tensor)]
        return sorted(lines)

    def _attributes(self) -> Iterator[tuple[str, Any]]:
        """Iterate over the named plain attributes of inserted modules that have an effect on the outputs.

        A switch that is off, and other values that count as false, are omitted: libraries add such attributes later.
        """
        ordinary = vars(nn.Module()).keys() | _BOOKKEEPING
        for path, module in self._inserted.items():
            tuner = self._tuners.get(path)
            names = tuner.known if tuner is not None else frozenset()
            attributes = _class_switches(module) if tuner is None else {}
            attributes |= {name: value for name, value in vars(module).items() if name not in ordinary}
            attributes |= {name: module._buffers[name] for name in module._non_persistent_buffers_set}
            for attribute, value in attributes.items():
                if attribute.startswith(("_hf_", "_is_hf_", "_old_forward")):
                    continue  # set by accelerate and transformers
                for steps, plain in _flat(value, names):
                    name = self.name(".".join(filter(None, [path, attribute, *steps])))
                    if name is not None:
                        yield name, plain


def _class_switches(module: nn.Module) -> dict[str, Any]:
    """Return the plain attributes of the classes of a module outside torch and transformers."""
    switches: dict[str, Any] = {}
    for kind in reversed(type(module).__mro__):
        if kind.__module__.partition(".")[0] not in ("torch", "transformers", "builtins"):
            plain = {name: value for name, value in vars(kind).items() if isinstance(value, _PLAIN)}
            switches |= {name: value for name, value in plain.items() if not name.startswith("__")}
    return switches


def _flat(value: Any, adapters: frozenset[str], depth: int = 4) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Iterate over the plain values in nested containers; lists of the names of adapters are no values."""
    if isinstance(value, str) and value in adapters:
        return
    if isinstance(value, torch.Tensor) or (isinstance(value, _PLAIN) and value):
        yield (), value
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        yield from _flat(vars(value), adapters, depth - 1)
    elif isinstance(value, Mapping | list | tuple | set | frozenset) and depth:
        pairs = value.items() if isinstance(value, Mapping) else enumerate(value)
        if isinstance(value, set | frozenset):
            pairs = enumerate(sorted(value, key=repr))
        for key, inner in pairs:
            for steps, plain in _flat(inner, adapters, depth - 1):
                yield (str(key).replace(".", "_") if str(key) not in adapters else str(key), *steps), plain
    elif not isinstance(value, nn.Module | NoneType | Mapping | list | tuple | set | frozenset | _PLAIN):
        yield (), f"{type(value).__module__}.{type(value).__qualname__}"


def package(module: nn.Module) -> str:
    """Return the package of the class of a module; remote code of the hub is a package per repository."""
    name = type(module).__module__
    return name.rpartition(".")[0] if name.startswith("transformers_modules.") else name.partition(".")[0]


def is_packed(module: nn.Module) -> bool:
    """Check whether a module is a quantized layer, whose attributes change while it runs."""
    tensors = [*module.parameters(recurse=False), *module.buffers(recurse=False)]
    return any(is_traceable_wrapper_subclass(values) or values.dtype in PACKED for values in tensors)
