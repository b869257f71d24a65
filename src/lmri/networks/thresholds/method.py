"""One threshold as the registry describes it."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np


@dataclass(frozen=True)
class ThresholdMethod:
    """A threshold and its descriptions.

    Parameters
    ----------
    name : str
        Name in Python and on the command line.
    function : callable
        Takes maps ``(n_maps, n_neurons)``, a parameter ``null`` if it needs surrogates, and at most one number with a
        default. Returns booleans of the same shape.
    description : str
        Error rate that it controls, if any; stored with every result.
    words : str
        Wording of the report, with its preposition: ``"by robust z"``. ``{value}`` and ``{percent}`` stand for the
        number; without them, the report appends the number in brackets.
    note : str
        Remark that the report adds in brackets.
    calibrated : bool, default=False
        Whether the threshold controls the error rate that it names.

    Examples
    --------
    >>> def largest(maps, size=2.0):
    ...     return maps > size
    >>> one = ThresholdMethod("largest", largest, "weights above a limit; controls no error rate", "by weight")
    >>> one.parameter, one.usage, one.needs_null
    ('size', 'largest:2.0', False)
    """

    name: str
    function: Callable[..., np.ndarray]
    description: str
    words: str
    note: str = ""
    calibrated: bool = False

    @cached_property
    def defaults(self) -> dict[str, Any]:
        """Default of the number by its name; empty if the threshold takes none."""
        parameters = inspect.signature(self.function).parameters
        return {name: one.default for name, one in parameters.items() if name not in ("maps", "null")}

    @property
    def parameter(self) -> str | None:
        """Name of the number; None if the threshold takes none."""
        return next(iter(self.defaults), None)

    @property
    def needs_null(self) -> bool:
        """Whether the threshold needs a `SurrogateNull`."""
        return "null" in inspect.signature(self.function).parameters

    @property
    def usage(self) -> str:
        """The threshold with its default, as the command line takes it."""
        return ":".join([self.name, *map(str, self.defaults.values())])

    def __call__(self, maps: np.ndarray, *null: Any, **values: float) -> np.ndarray:
        """Return the members of each map."""
        return self.function(maps, *null, **values)
