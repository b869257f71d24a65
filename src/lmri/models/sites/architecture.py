"""Architecture: the modules that a configuration declares, and their places in a model with adapters.

peft and other libraries replace a projection, an MLP or another part of a model by a wrapper that contains it. The
search for a site must not see the parts of an adapter. If a model contains modules that may have been inserted, the
architecture is therefore built again from the configuration, without memory for weights, and searched instead; the
modules are then located in the model. An adapter is any module that the architecture lacks, so that no list of
libraries is needed.
"""

import contextlib
import copy
import logging
import warnings
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from lmri.exceptions import SiteError
from lmri.models.adapters import MERGE, package
from lmri.models.sites.hooks import features, linear_maps

_CONTAINERS = (nn.ModuleList, nn.ModuleDict, nn.ParameterList, nn.ParameterDict)
# Errors that constructors raise if they need more than a configuration, or values of tensors.
_ERRORS = (ValueError, TypeError, KeyError, AttributeError, RuntimeError, NotImplementedError, ImportError, OSError)


class Architecture:
    """Modules of a model without adapters, with the place of each in the model.

    Parameters
    ----------
    model : PreTrainedModel
        Model, with or without adapters.

    Attributes
    ----------
    declared : PreTrainedModel
        Model in which sites are searched: the model itself, or the model that its configuration declares, on the meta
        device.
    added : list of str
        Paths of modules with weights that the architecture lacks, and that no wrapper explains.

    Raises
    ------
    SiteError
        If a wrapper replaces the whole body of the model, or modules of another library cannot be distinguished from
        those of the architecture.
    """

    def __init__(self, model: PreTrainedModel) -> None:
        self.model, self.declared = model, model
        self.added: list[str] = []
        self._body = ""
        self._paths: dict[str, tuple[str, str]] | None = None
        foreign = [path for path, module in model.named_modules() if path and _may_be_inserted(module)]
        if not foreign:
            return
        declared = _build(model)
        if declared is None:
            self._refuse_unknown(foreign)
            return
        self.declared, self._paths = declared, {}
        self._pair(self._paths, "", declared, "", model)
        self._body = _path_of(model.base_model, model)
        if self._paths.get(self._body) != (self._body, self._body):
            raise SiteError(f"The body of the {type(model).__name__} is wrapped in an adapter. {MERGE}")

    def _refuse_unknown(self, foreign: list[str]) -> None:
        """Refuse modules of other packages than that of the model, if the architecture cannot be built."""
        libraries = {"torch", package(self.model), package(self.model.base_model)}
        for path in foreign:
            module = self.model.get_submodule(path)
            if package(module) not in libraries:
                raise SiteError(
                    f"Module {path!r} of the {type(self.model).__name__} is a {type(module).__name__} of another "
                    "library. The architecture cannot be built from its configuration alone, which would show whether "
                    f"the module is an adapter. {MERGE}"
                )

    def _pair(
        self, paths: dict[str, tuple[str, str]], path: str, declared: nn.Module, outer: str, actual: nn.Module
    ) -> None:
        """Note the place of a declared module, and of its parts."""
        inner, inside = outer, actual
        if type(actual) is not type(declared):
            originals = _outermost(actual, type(declared))
            if len(originals) == 1:
                [(below, inside)] = originals.items()
                inner = _join(outer, below)
        paths[path] = (outer, inner)
        parts = dict(declared.named_children())
        for name, part in inside.named_children() if parts else ():  # all parts of a wrapped projection are its own
            if name in parts:
                self._pair(paths, _join(path, name), parts[name], _join(inner, name), part)
            elif any(True for _ in part.parameters()):
                self.added.append(_join(inner, name))

    @property
    def inserted(self) -> str | None:
        """Path of a module that is not of the class which the configuration declares, or that it lacks."""
        if self._paths is None:
            return None
        for path, (outer, _) in self._paths.items():
            if type(self.model.get_submodule(outer)) is not type(self.declared.get_submodule(path)):
                return outer
        return next(iter(self.added), None)

    def outer(self, path: str) -> str:
        """Return the place of a declared module in the body of the model: that of the outermost wrapper around it."""
        return self._located(path)[0]

    def inner(self, path: str) -> str:
        """Return the place of a declared module in the body of the model, inside all wrappers."""
        return self._located(path)[1]

    def _located(self, path: str) -> tuple[str, str]:
        if self._paths is None:
            return path, path
        known = self._paths.get(_join(self._body, path))
        if known is None:
            raise SiteError(
                f"{type(self.model).__name__} has no {path!r}, which its configuration declares: an adapter or another "
                f"library has replaced a module around it. {MERGE}"
            )
        outer, inner = (located.removeprefix(f"{self._body}.") for located in known)
        return outer, inner

    def is_wrapped(self, path: str) -> bool:
        """Check whether a declared module is inside a wrapper."""
        outer, inner = self._located(path)
        return outer != inner

    def is_replaced(self, path: str) -> bool:
        """Check whether a module of another class is at the place of a declared module, inside all wrappers."""
        if self._paths is None:
            return False
        actual = self.model.base_model.get_submodule(self.inner(path))
        return type(actual) is not type(self.declared.base_model.get_submodule(path))

    def added_below(self, path: str) -> list[str]:
        """List the unexplained modules inside a declared module, by their paths within it."""
        if self._paths is None:
            return []
        prefix = f"{_join(self._body, self.inner(path))}."
        return [added.removeprefix(prefix) for added in self.added if added.startswith(prefix)]

    def added_linear(self, path: str) -> dict[str, tuple[str, nn.Module]]:
        """List the unexplained linear maps inside a declared module by name, with their paths in the body."""
        root = self.inner(path)
        block, added = self.model.base_model.get_submodule(root), self.added_below(path)
        return {
            name: (_join(root, name), module)
            for name, module in linear_maps(block).items()
            if any(name == part or name.startswith(f"{part}.") for part in added)
        }


def _may_be_inserted(module: nn.Module) -> bool:
    """Check whether a module could be a wrapper: it is not of transformers, and no simple layer or container."""
    library = package(module)
    if library == "transformers" or isinstance(module, _CONTAINERS):
        return False
    has_parts = any(True for _ in module.children())
    return has_parts or (library != "torch" and not features(module)[0])


def _build(model: PreTrainedModel) -> PreTrainedModel | None:
    """Build a model from its configuration, without memory for its weights; None if this is not possible.

    A class of a user may need more than a configuration; the class of transformers that it extends does not.
    """
    known: list[Any] = [kind for kind in type(model).__mro__ if kind.__module__.startswith("transformers.models.")]
    level = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        for kind in dict.fromkeys([type(model), *known[:1]]):
            with (
                contextlib.suppress(*_ERRORS),
                warnings.catch_warnings(action="ignore"),
                torch.random.fork_rng(devices=[]),
                torch.device("meta"),
            ):
                built: PreTrainedModel = kind(copy.deepcopy(model.config))
                return built
    finally:
        logging.disable(level)
    return None


def _outermost(module: nn.Module, kind: type) -> dict[str, nn.Module]:
    """List the modules of exactly this class below a module, but not those inside another one of them."""
    outermost: dict[str, nn.Module] = {}
    part: nn.Module
    for path, part in module.named_modules():
        if path and type(part) is kind and not any(path.startswith(f"{above}.") for above in outermost):
            outermost[path] = part
    return outermost


def _path_of(part: nn.Module, model: nn.Module) -> str:
    return next(path for path, module in model.named_modules() if module is part)


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path and name else path or name
