"""Seeded generator of short texts of four kinds, for the demonstration model.

The texts are assembled from grammars and word tables with the standard library's `random.Random` only, so the same call
returns the same texts on every machine. All persons, places and companies are fictitious; any resemblance to real ones
is coincidental.
"""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING

from lmri.demo.texts import code, encyclopedia, mathematics, news

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["KINDS", "generate"]

_TOPICS: dict[str, tuple[Callable[[Random], str], ...]] = {
    "news": news.TOPICS,
    "encyclopedia": encyclopedia.TOPICS,
    "mathematics": mathematics.TOPICS,
    "code": code.TOPICS,
}

KINDS: tuple[str, ...] = tuple(_TOPICS)
"""Kinds of text that `generate` accepts."""


def generate(kind: str, n: int, seed: int) -> list[str]:
    """Generate texts of one kind.

    The first texts do not depend on `n`: a longer list begins with the shorter one of the same seed.

    Parameters
    ----------
    kind : str
        Kind of the texts, one of `KINDS`.
    n : int
        Number of texts, at least 1.
    seed : int
        Seed of the generator; different seeds result in different texts.

    Returns
    -------
    list of str
        Generated texts, `n` in total.

    Raises
    ------
    ValueError
        If `kind` is not one of `KINDS`, or `n` is less than 1.

    Examples
    --------
    >>> generate("news", 3, seed=0) == generate("news", 3, seed=0)
    True
    """
    if kind not in _TOPICS:
        raise ValueError(f"unknown kind of text {kind!r}; choose from {', '.join(map(repr, KINDS))}")
    if n < 1:
        raise ValueError(f"the number of texts must be at least 1, not {n!r}")
    rng = Random(f"{kind}/{seed}")
    topics = _TOPICS[kind]
    return [rng.choice(topics)(rng) for _ in range(n)]
