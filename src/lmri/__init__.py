"""Neuroimaging for language models: the functional networks of a transformer, with the tools of fMRI.

Public names are loaded on first use, so that importing lmri, opening a study and writing its report do not load torch.
They are listed in ``__init__.pyi``, which type checkers also read.
"""

import importlib
import importlib.abc
import importlib.machinery
import logging
import os
import sys
import types
import warnings
from collections.abc import Sequence

import lazy_loader as _lazy

__version__ = "0.1.0"

_PUBLIC_SUBMODULES = {
    "annotation": "networks.annotation",
    "comparison": "networks.comparison",
    "confounds": "decomposition.confounds",
    "connectivity": "networks.connectivity",
    "controls": "lesions.controls",
    "drawing": "space.drawing",
    "evaluation": "lesions.evaluation",
    "experiments": "lesions.experiments",
    "export": "report.export",
    "finetuning": "lesions.finetuning",
    "individuals": "decomposition.individuals",
    "interventions": "lesions.interventions",
    "localizer": "decomposition.localizer",
    "outcome": "storage.outcome",
    "phantom": "decomposition.phantom",
    "qc": "decomposition.quality",
    "recorder": "models.recorder",
    "recording": "storage.recording",
    "reproducibility": "decomposition.reproducibility",
    "rois": "networks.rois",
    "scores": "lesions.scores",
    "sites": "models.sites",
    "splits": "storage.splits",
    "surprisal": "models.surprisal",
    "tasks": "lesions.tasks",
    "texts": "storage.texts",
    "thresholds": "networks.thresholds",
    "viewer": "report.viewer",
}
"""Documented modules and their paths in the package; ``src/lmri-stubs`` lists them for type checkers (decision 25)."""


_DEPRECATED = {"Donors": "ResampleSource"}
"""Former spellings of public names, which stay for one minor version, and the names that replaced them."""


class _SubmoduleFinder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Importer that makes ``import lmri.tasks`` return the module itself instead of a second copy of it."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: types.ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        package, _, rest = fullname.partition(".")
        is_public = package == __name__ and rest.split(".")[0] in _PUBLIC_SUBMODULES
        return importlib.machinery.ModuleSpec(fullname, self) if is_public else None

    def exec_module(self, module: types.ModuleType) -> None:
        first, dot, rest = module.__name__.removeprefix(f"{__name__}.").partition(".")
        path = f"{__name__}.{_PUBLIC_SUBMODULES[first]}{dot}{rest}"
        sys.modules[module.__name__] = importlib.import_module(path)


sys.meta_path.insert(0, _SubmoduleFinder())

_LOG_LEVELS = ("debug", "info", "warning", "error")

_log_handler: logging.Handler = logging.NullHandler()
logging.getLogger(__name__).addHandler(_log_handler)


def set_log_level(level: str) -> None:
    """Print the log messages of lmri at or above a level on standard error.

    The environment variable LMRI_LOG has the same effect.

    Parameters
    ----------
    level : {"debug", "info", "warning", "error"}
        Lowest level that is printed.

    Raises
    ------
    ValueError
        If there is no such level.
    """
    global _log_handler
    if level not in _LOG_LEVELS:
        raise ValueError(f"The log level is {level!r}; choose from {', '.join(map(repr, _LOG_LEVELS))}.")
    logger, handler = logging.getLogger(__name__), logging.StreamHandler()
    handler.setLevel(level.upper())
    handler.setFormatter(logging.Formatter("%(levelname)s %(name)s: %(message)s"))
    logger.removeHandler(_log_handler)
    logger.addHandler(handler)
    logger.setLevel(level.upper())
    _log_handler = handler


if _level := os.environ.get("LMRI_LOG"):
    set_log_level(_level)

_load, _, _names = _lazy.attach_stub(__name__, __file__)

__all__ = sorted([*_names, "qc", "set_log_level", "tasks"])


def __getattr__(name: str) -> object:
    if name in _DEPRECATED:
        warnings.warn(
            f"lmri.{name} is now called lmri.{_DEPRECATED[name]}. The former name will be removed in version 0.2.",
            DeprecationWarning,
            stacklevel=2,
        )
        return _load(_DEPRECATED[name])
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return importlib.import_module(f"{__name__}.{name}") if name in ("qc", "tasks") else _load(name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
