"""Settings of the calling program that change the computation of a model, such as autocast, hooks and dropout.

Why such a model is refused: decision 38.
"""

import functools
import inspect
from collections.abc import Iterator
from typing import Any

import torch
from torch.nn.modules import module as torch_module

from lmri.exceptions import ModelStateError

_TRUSTED = (
    "lmri",
    "torch.nn.utils",
    "transformers",
    "transformers_modules",
    "accelerate",
    "bitsandbytes",
    "torchao",
    "peft",
)
"""Packages whose hooks and methods are part of a loaded model. transformers_modules is code that came with weights."""

_PUBLISHED = ("torch", "transformers")
"""Packages whose classes have methods of their own."""

_HOOKS = ("_forward_pre_hooks", "_forward_hooks")
_GLOBAL_HOOKS = ("_global_forward_pre_hooks", "_global_forward_hooks")


def check_runtime_state(model: torch.nn.Module) -> None:
    """Raise `ModelStateError` if the calling program changes the computation of a model.

    Values measured in this state would be taken for those of the model itself.

    Parameters
    ----------
    model : Module
        Model that is about to be measured.

    Raises
    ------
    ModelStateError
        If autocast is active; if float32 products are computed with reduced precision; if a hook or a replaced
        ``forward`` of another program is on the model; or if a module stays in training mode.
    """
    for reason, remedy in _disturbances(model):
        raise ModelStateError(f"{reason}, so values would not be those of the model as loaded. {remedy}")


def _disturbances(model: torch.nn.Module) -> Iterator[tuple[str, str]]:
    """Iterate over what changes the computation, and the next step."""
    weights = [values for values in model.parameters() if values.is_floating_point()]
    for device in sorted({values.device.type for values in weights} | {"cpu"}):
        if device != "meta" and torch.is_autocast_enabled(device):
            kind = str(torch.get_autocast_dtype(device)).removeprefix("torch.")
            yield (
                f"torch.autocast is active (device {device!r}, {kind})",
                f"Call this function outside of autocast; to measure in {kind}, load the model with dtype={kind!r}.",
            )
    if any(values.dtype == torch.float32 for values in weights) and torch.get_float32_matmul_precision() != "highest":
        yield (
            f"The precision of float32 matrix products is {torch.get_float32_matmul_precision()!r}",
            "Call torch.set_float32_matmul_precision('highest').",
        )
    for name in _GLOBAL_HOOKS:
        for hook in getattr(torch_module, name, {}).values():
            yield (
                f"A hook on all modules is registered ({_describe(hook)})",
                "Remove it: call .remove() on the handle that its registration returned.",
            )
    for path, module in model.named_modules():
        yield from _disturbances_of(path, module)
    for module_class in {type(module) for module in model.modules()}:
        yield from _disturbances_of_class(module_class)
    yield from _in_training(model)


def _disturbances_of(path: str, module: torch.nn.Module) -> Iterator[tuple[str, str]]:
    where = f"module {path!r}" if path else "the model"
    for name in _HOOKS:
        for hook in getattr(module, name).values():
            if not _is_trusted(_origin(hook)):
                yield (
                    f"A hook of another program is registered on {where} ({_describe(hook)})",
                    "Remove it (handle.remove()), or load the model again. To change activations, use lmri.lesion, "
                    "lmri.preserve or lmri.amplify.",
                )
    replacement = vars(module).get("forward")
    if replacement is not None and not _is_trusted(_origin(replacement), type(module).__module__):
        yield (
            f"The method forward of {where} was replaced ({_describe(replacement)})",
            "Load the model again, and do not patch it.",
        )


def _disturbances_of_class(kind: type) -> Iterator[tuple[str, str]]:
    """Look for methods of published classes that code of another package replaced."""
    for name in ("forward", "__call__"):
        owner = next((base for base in kind.__mro__ if name in vars(base)), None)
        if owner is None or owner.__module__.partition(".")[0] not in _PUBLISHED:
            continue
        method = vars(owner)[name]
        for function in (method, inspect.unwrap(method)):  # a replacement may be decorated, or be a decorator
            if _origin(function).partition(".")[0] not in _PUBLISHED and not _is_trusted(_origin(function)):
                yield (
                    f"The method {name} of the class {kind.__name__} was replaced ({_describe(function)})",
                    "Start a new process that does not patch this class.",
                )
                break


def _in_training(model: torch.nn.Module) -> Iterator[tuple[str, str]]:
    """Look for modules that stay in training mode after ``eval()``, such as Monte-Carlo dropout."""
    modes = [(module, module.training) for module in model.modules()]
    try:
        model.eval()
        stuck = [path for path, module in model.named_modules() if module.training]
    finally:
        for module, mode in modes:
            module.training = mode
    if stuck:
        yield (
            f"Module {stuck[0]!r} stays in training mode after model.eval(), so that dropout may be active",
            "Load the model again, without changing its methods train or eval.",
        )


def _origin(function: Any) -> str:
    """Return the module in which a function was defined, looking through methods, partials and callable objects."""
    while isinstance(function, functools.partial):
        function = function.func
    function = getattr(function, "__func__", function)
    if not hasattr(function, "__globals__") and not inspect.isbuiltin(function):
        function = getattr(type(function).__call__, "__func__", type(function).__call__)
    named = getattr(function, "__globals__", {}).get("__name__")
    return str(named or getattr(function, "__module__", "") or "")


def _is_trusted(origin: str, own_module: str = "") -> bool:
    return origin == own_module or any(origin == name or origin.startswith(f"{name}.") for name in _TRUSTED)


def _describe(function: Any) -> str:
    while isinstance(function, functools.partial):
        function = function.func
    name = getattr(function, "__qualname__", type(function).__qualname__)
    return f"{_origin(function) or 'unknown module'}.{name}"
