"""Description of a threshold in the registry."""

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
        Function of maps ``(n_maps, n_neurons)``, a parameter ``null`` if it needs surrogates, and at most one number
        with a default. Returns booleans of the same shape.
    description : str
        Error rate that it controls, if any; stored with every result.
    words : str
        Wording of the report, with its preposition: ``"by robust z"``. ``{value}`` and ``{percent}`` are replaced by
        the number; without them, the report appends the number in brackets.
    note : str
        Remark that the report adds in brackets.
    calibrated : bool, default=False
        Whether the threshold controls the error rate that it names.
    sentence : str
        Sentence of the methods section, without a full stop, with ``{value}`` and ``{percent}`` as in `words`; by
        default, a sentence is composed from `words` and `description`.

    Examples
    --------
    >>> def largest(maps, size=2.0):
    ...     return maps > size
    >>> method = ThresholdMethod("largest", largest, "weights above a limit; controls no error rate", "by weight")
    >>> method.parameter, method.usage, method.needs_null
    ('size', 'largest:2.0', False)
    """

    name: str
    function: Callable[..., np.ndarray]
    description: str
    words: str
    note: str = ""
    calibrated: bool = False
    sentence: str = ""

    @cached_property
    def defaults(self) -> dict[str, Any]:
        """Default of the number by its name; empty if the threshold takes none."""
        parameters = inspect.signature(self.function).parameters
        return {name: parameter.default for name, parameter in parameters.items() if name not in ("maps", "null")}

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
        """Threshold with its default, in the syntax of the command line."""
        return ":".join([self.name, *map(str, self.defaults.values())])

    def __call__(self, maps: np.ndarray, *null: Any, **values: float) -> np.ndarray:
        """Return the members of each map."""
        return self.function(maps, *null, **values)
