"""Deprecated names of attributes and parameters of networks; using them gives a warning that names the new one."""

import functools
import inspect
import warnings
from collections.abc import Callable
from typing import Any, TypeVar

_Class = TypeVar("_Class")

REMOVED_IN = "0.2"
"""Version of lmri that removes these names."""


class FormerAttribute:
    """Deprecated name of an attribute.

    Parameters
    ----------
    name : str
        Current name of the attribute.
    read : callable, optional
        Function that returns the value, if reading the attribute under its current name can raise.
    """

    def __init__(self, name: str, read: Callable[[Any], Any] | None = None) -> None:
        self.name, self.read = name, read

    def __set_name__(self, owner: type, name: str) -> None:
        self.owner, self.former = f"lmri.{owner.__name__}", name

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        if instance is None:
            return self
        warnings.warn(
            f"{self.owner}.{self.former} is deprecated and will be removed in lmri {REMOVED_IN}. "
            f"Use {self.owner}.{self.name} instead.",
            DeprecationWarning,
            stacklevel=2,
        )
        return self.read(instance) if self.read else getattr(instance, self.name)


def accept_former(**names: str) -> Callable[[type[_Class]], type[_Class]]:
    """Accept the former names of parameters of a dataclass, in its constructor and in `dataclasses.replace`.

    Parameters
    ----------
    **names
        Current name by former name.

    Raises
    ------
    TypeError
        By the constructor, if a parameter is given under both names.
    """

    def decorate(cls: type[_Class]) -> type[_Class]:
        construct = cls.__init__

        @functools.wraps(construct)
        def __init__(self: Any, *args: Any, **parameters: Any) -> None:  # noqa: N807
            for former in [name for name in names if name in parameters]:
                current, replacing = names[former], is_dataclasses(inspect.currentframe())
                warnings.warn(
                    f"The parameter {former} of lmri.{cls.__name__} is deprecated and will be removed in lmri "
                    f"{REMOVED_IN}. Use {current} instead.",
                    DeprecationWarning,
                    stacklevel=3 if replacing else 2,
                )
                if current in parameters and not replacing:  # `replace` passes every field
                    raise TypeError(f"{former} and {current} are the same parameter. Use {current} alone.")
                parameters[current] = parameters.pop(former)
            construct(self, *args, **parameters)

        cls.__init__ = __init__  # type: ignore[method-assign]
        return cls

    return decorate


def is_dataclasses(frame: Any) -> bool:
    """Return whether the function of a frame was called by the module `dataclasses`, as by its `replace`."""
    return frame is not None and frame.f_back.f_globals.get("__name__") == "dataclasses"
