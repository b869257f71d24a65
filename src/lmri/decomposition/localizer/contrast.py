"""Contrasts: weights of conditions, parsed from text."""

import math
import re
from collections.abc import Collection
from dataclasses import dataclass
from fractions import Fraction

_NUMBER = r"(?:\d+\.?\d*|\.\d+)"
_TERM = re.compile(
    rf"""\s*(?P<sign>[+\-−])?\s*
    (?:(?P<weight>{_NUMBER}(?:\s*/\s*{_NUMBER})?)\s*\*\s*)?
    (?:"(?P<double>[^"]+)"|'(?P<single>[^']+)'|(?P<plain>[^\s*+\-−'"()]+))\s*""",
    re.VERBOSE,
)
_PLAIN = re.compile(r"[^\s*+\-−'\"()]+")

_EXAMPLE = '"code - prose" or "code - 0.5*news - 0.5*wiki"; names with blanks or hyphens need quotes'


@dataclass(frozen=True)
class Contrast:
    """Weighted sum of the means of conditions, with weights that sum to 0.

    Parameters
    ----------
    weights : tuple of (str, float)
        Conditions and weights, in the order of the text.

    Examples
    --------
    >>> Contrast.parse("code - 1/2*news - 1/2*wiki").weights
    (('code', 1.0), ('news', -0.5), ('wiki', -0.5))
    >>> print(Contrast.parse("code - 'short stories'"))
    code - 'short stories'
    """

    weights: tuple[tuple[str, float], ...]

    def __post_init__(self) -> None:
        shown = ", ".join(f"{name}: {weight:g}" for name, weight in self.weights)
        if not all(math.isfinite(weight) for _, weight in self.weights):
            raise ValueError(f"The weights are {shown}; they must be finite numbers.")
        if cancelled := [name for name, weight in self.weights if weight == 0]:
            raise ValueError(
                f"The weight of {cancelled[0]!r} is 0, so the condition has no effect. Leave it out, or name another "
                "condition."
            )
        total = sum(weight for _, weight in self.weights)
        if not self.weights or abs(total) > 1e-6:
            raise ValueError(
                f"The weights ({shown}) sum to {total:g}; accepted is 0. A neuron's mean has no meaningful zero, so "
                f"conditions can only be compared with each other: write {_EXAMPLE}. Fractions such as 1/3*news are "
                "exact."
            )

    @classmethod
    def parse(cls, text: str) -> "Contrast":
        """Read a contrast such as ``"code - 0.5*news - 0.5*wiki"``.

        Raises
        ------
        ValueError
            If the text cannot be parsed, or its weights do not sum to 0.
        """
        weights: dict[str, float] = {}
        position = 0
        while position < len(text) or not weights:
            term = _TERM.match(text, position)
            if term is None or (weights and term["sign"] is None):
                raise ValueError(
                    f"The contrast {text!r} cannot be read from {text[position:].strip()!r} on; accepted forms are "
                    f"{_EXAMPLE}."
                )
            name = term["double"] or term["single"] or term["plain"]
            weight = -_number(term["weight"]) if term["sign"] in ("-", "−") else _number(term["weight"])
            weights[name] = weights.get(name, 0.0) + weight
            position = term.end()
        return cls(tuple(weights.items()))

    @property
    def conditions(self) -> tuple[str, ...]:
        """Names of the conditions."""
        return tuple(name for name, _ in self.weights)

    @property
    def values(self) -> tuple[float, ...]:
        """Weights of the conditions, in the same order."""
        return tuple(weight for _, weight in self.weights)

    def check_present(self, known: Collection[str], where: str) -> None:
        """Raise an error if conditions are absent.

        Parameters
        ----------
        known : collection of str
            Available conditions.
        where : str
            Source of the conditions, for the message.

        Raises
        ------
        ValueError
            If a condition is absent; the message names the available ones.
        """
        absent = [name for name in self.conditions if name not in known]
        if not absent:
            return
        there = sorted(known)
        listed = ", ".join(map(repr, there[:20])) + (f" and {len(there) - 20} more" if len(there) > 20 else "")
        quoted = [name for name in there if not _PLAIN.fullmatch(name)]
        hint = f" Put names with blanks or hyphens in quotes: \"'{quoted[0]}' - ...\"." if quoted else ""
        raise ValueError(
            f"The contrast names {', '.join(map(repr, absent))}, which {'is' if len(absent) == 1 else 'are'} not among "
            f"{where}: {listed or 'there are none'}.{hint}"
        )

    def __str__(self) -> str:
        parts = []
        for name, weight in self.weights:
            size = "" if abs(weight) == 1 else f"{_shown(abs(weight))}*"
            sign = "- " if weight < 0 else "+ "
            parts.append(f"{sign}{size}{_quoted(name)}")
        return " ".join(parts).removeprefix("+ ")


def _number(text: str | None) -> float:
    """Parse a number or fraction; 1 without a weight."""
    if text is None:
        return 1.0
    above, _, below = text.partition("/")
    if below and float(below) == 0:
        raise ValueError(f"The weight {text!r} divides by 0.")
    return float(above) / float(below or 1)


def _shown(weight: float) -> str:
    """Format a weight so that parsing recovers it: a third as 1/3."""
    short, fraction = f"{weight:g}", Fraction(weight).limit_denominator(100)
    return short if float(short) == weight else str(fraction) if float(fraction) == weight else repr(weight)


def _quoted(name: str) -> str:
    """Quote a name that contains blanks or operators."""
    if _PLAIN.fullmatch(name):
        return name
    return f'"{name}"' if "'" in name else f"'{name}'"
