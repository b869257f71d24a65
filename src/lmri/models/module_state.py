"""Attributes of modules that a forward pass changes, and their restoration.

Some models choose an algorithm when they read a text, and keep it: BigBird replaces sparse by full attention at the
first short text. Each text then depends on the texts before it. Every attribute that a forward pass replaces is
therefore restored after the pass.
"""

import contextlib
import logging
from collections.abc import Iterator
from typing import Any

import torch

logger = logging.getLogger(__name__)

_OWN_NAMES = frozenset(vars(torch.nn.Module())) | {"forward", "config", "generation_config"}
"""Attributes that no forward pass replaces: parameters, hooks, modes and settings."""

_CONTAINERS = (list, dict, set)


class ModuleState:
    """Attributes, submodules and buffers of every module of a model, for restoration.

    Attributes that a forward pass adds are kept, because transformers marks modules in this way. Values modified in
    place, other than lists, dictionaries and sets, are not restored.

    Parameters
    ----------
    model : Module
        Model.
    """

    def __init__(self, model: torch.nn.Module) -> None:
        self._tables: list[tuple[str, dict[str, Any], dict[str, Any]]] = []
        self._contents: list[tuple[Any, Any]] = []
        for path, module in model.named_modules():
            attributes = {name: value for name, value in vars(module).items() if name not in _OWN_NAMES}
            self._tables.append((path, vars(module), attributes))
            for table in (module._modules, module._buffers):
                if table:
                    self._tables.append((path, table, dict(table)))
            self._contents += [(value, value.copy()) for value in attributes.values() if type(value) in _CONTAINERS]

    def restore(self) -> list[str]:
        """Restore every replaced value; return the paths of the attributes that had other values."""
        changed = []
        for path, table, known in self._tables:
            for name, value in known.items():
                current = table.get(name, self)
                if current is not value:
                    table[name] = value
                    if not _is_same(current, value):
                        changed.append(f"{path}.{name}".lstrip("."))
        for value, content in self._contents:
            if len(value) != len(content) or not all(map(_is_identical, _items(value), _items(content))):
                _refill(value, content)
        return changed


@contextlib.contextmanager
def preserved_state(model: torch.nn.Module) -> Iterator[None]:
    """Restore the attributes of modules after every forward pass of a model, and when the body ends."""
    state = ModuleState(model)
    reported: set[str] = set()

    def restore(*_: Any) -> None:
        new = [path for path in state.restore() if path not in reported]
        if new:
            reported.update(new)
            logger.info("Reading a text changed %s of the model; restored after each text", ", ".join(new[:5]))

    with contextlib.ExitStack() as stack:
        for part in _entrances(model):
            stack.callback(part.register_forward_hook(restore).remove)
        stack.callback(restore)
        yield


def _entrances(model: torch.nn.Module) -> list[torch.nn.Module]:
    """List the parts whose forward pass is called from outside: the model, its body, and its encoder."""
    parts = [model, getattr(model, "base_model", model)]
    if getattr(getattr(model, "config", None), "is_encoder_decoder", False):
        parts.append(model.get_encoder())  # type: ignore[operator]
    return list(dict.fromkeys(parts))


def _is_same(value: Any, other: Any) -> bool:
    """Compare plain values; caches that were computed again count as the same."""
    plain = (str, int, float, bool, type(None), tuple, torch.nn.Module)
    if not isinstance(value, plain) or not isinstance(other, plain):
        return isinstance(value, torch.Tensor) or isinstance(other, torch.Tensor)
    return type(value) is type(other) and bool(value == other)


def _is_identical(value: Any, other: Any) -> bool:
    return value is other


def _items(container: Any) -> list[Any]:
    return [part for item in container.items() for part in item] if isinstance(container, dict) else list(container)


def _refill(container: Any, content: Any) -> None:
    container.clear()
    if isinstance(container, list):
        container.extend(content)
    else:
        container.update(content)
