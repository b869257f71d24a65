"""Word tables and helper functions that are shared by the kinds of text."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from random import Random

T = TypeVar("T")


def words(text: str) -> tuple[str, ...]:
    """Return the words of a text as a tuple."""
    return tuple(text.split())


WOMEN = words(
    "Agnes Alma Anna Bettina Carla Celia Clara Dora Edith Elena Elsa Emilia Esther Freya Gloria Hanna Helga Ida Ingrid "
    "Irene Joan Judith Karin Laura Lena Lydia Maja Maria Marta Mira Nadia Nina Nora Olga Paula Petra Rosa Ruth Selma "
    "Sofia Tessa Thea Vera Wanda"
)
MEN = words(
    "Adam Albert Anton Arthur Axel Bruno Carl Conrad Daniel David Edgar Emil Felix Frank Georg Gustav Hans Henry Hugo "
    "Ivan Jakob Jonas Karl Leo Lorenz Lucas Martin Max Milan Oscar Otto Paul Peter Philip Ralph Robert Rudolf Simon "
    "Stefan Theo Thomas Victor Walter Werner"
)
_SURNAMES = (
    words(
        "Bark Berg Brand Carl Dahl Eng Falk Gard Hald Harm Holt Jans Kast Kell Lang Lind Marl Mor Nor Ost Pell Rand "
        "Rask Sand Sell Stein Thorn Vall Wald Wend Wint"
    ),
    words("er man sen son ton wick by feld quist mark ner ini ova art"),
)
_PLACES = (
    words(
        "Alder Ash Bell Black Bram Brook Cald Clear Dun East Elm Fair Glen Green Hart Hazel Kings Lang Mar Mill Nor "
        "Oak Pen Raven Red Stan Storm Thorn West White Winter Wood"
    ),
    words("bridge bury by dale field ford gate ham haven hill mouth port stead ton wick worth"),
)
_LANDS = (
    words("Arv Bel Cav Dalm Est Fer Gal Kar Lor Malv Nor Ost Ral Sar Tav Vel"),
    words("ania avia ia ona oria una"),
)
MONTHS = words("January February March April May June July August September October November December")
WEEKDAYS = words("Monday Tuesday Wednesday Thursday Friday Saturday Sunday")
NUMBERS = words("zero one two three four five six seven eight nine ten eleven twelve")
ORDINALS = words("first second third fourth fifth sixth seventh eighth ninth tenth")

_INNERMOST = re.compile(r"\[([^\[\]]*)\]")


class Person(NamedTuple):
    """Person with the pronouns that match the first name."""

    first: str
    last: str
    he: str
    him: str
    his: str

    @property
    def name(self) -> str:
        """First and last name."""
        return f"{self.first} {self.last}"


def person(rng: Random) -> Person:
    """Generate a person."""
    last = "".join(map(rng.choice, _SURNAMES))
    if rng.random() < 0.5:
        return Person(rng.choice(WOMEN), last, "she", "her", "her")
    return Person(rng.choice(MEN), last, "he", "him", "his")


def place(rng: Random) -> str:
    """Generate the name of a town."""
    return "".join(map(rng.choice, _PLACES))


def land(rng: Random) -> str:
    """Generate the name of a country."""
    return "".join(map(rng.choice, _LANDS))


def several(rng: Random, invent: Callable[[Random], T], number: int) -> list[T]:
    """Generate distinct items; persons differ in both first and last name."""
    items: list[T] = []
    while len(items) < number:
        new = invent(rng)
        taken = [part for old in items for part in (old[:2] if isinstance(old, Person) else (old,))]
        if not any(part in taken for part in (new[:2] if isinstance(new, Person) else (new,))):
            items.append(new)
    return items


def fill(rng: Random, template: str) -> str:
    """Choose one option of each bracket in a template.

    Parameters
    ----------
    rng : random.Random
        Random number generator.
    template : str
        Text with options in brackets, such as ``"[big|small] house[| by the sea]"``; they may be nested.

    Returns
    -------
    str
        Text on one line, with one option of each bracket.
    """
    n_replaced = 1
    while n_replaced:
        template, n_replaced = _INNERMOST.subn(lambda match: rng.choice(match[1].split("|")), template)
    return " ".join(template.split())


def cap(text: str) -> str:
    """Capitalize the first letter of a text."""
    return text[:1].upper() + text[1:]


def a(noun: str) -> str:
    """Add the indefinite article to a noun, chosen by its first letters."""
    return f"{'an' if noun[0] in 'aeiouAEIOU' and noun[:3] not in ('use', 'uni') else 'a'} {noun}"


def count(number: int, noun: str, plural: str = "") -> str:
    """Format a number with a noun, small numbers in words."""
    word = NUMBERS[number] if number < len(NUMBERS) else str(number)
    return f"{word} {noun if number == 1 else plural or noun + 's'}"


def listed(items: Sequence[str]) -> str:
    """Join items into a phrase: "a, b and c"."""
    return f"{', '.join(items[:-1])} and {items[-1]}" if len(items) > 1 else "".join(items)
