"""Tokens in their text: at which of them a time course is highest or lowest, and what stands around these."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

N_TOP = 8
CONTEXT = 8
"""Tokens that are shown on either side."""


class Run(NamedTuple):
    """A run of a corpus, counted from 1."""

    corpus: str
    number: int


def tops(
    courses: Sequence[tuple[Run, np.ndarray]], around: Callable[[Run, int], tuple[str, str, str]]
) -> dict[str, list[dict[str, Any]]]:
    """Find the volumes at which a time course is highest, and those at which it is lowest, over all of its runs.

    Parameters
    ----------
    courses : sequence of (Run, ndarray of shape (n_volumes,))
        In order; of several volumes of one value the first ones are taken, and none without a value.
    around : callable
        Gives what stands before, at and after a volume of a run, as `in_context` does.

    Returns
    -------
    dict of str to list of dict
        ``highest`` and ``lowest``: ``before, token, after, value, corpus, run, volume``, the most extreme first.
    """
    values = np.concatenate([values for _, values in courses]) if courses else np.zeros(0)
    starts = np.cumsum([0, *(len(values) for _, values in courses)])

    def extreme(order: np.ndarray) -> list[dict[str, Any]]:
        found = []
        for place in order[:N_TOP]:  # NaN comes last
            if np.isnan(values[place]):
                break
            number = int(np.searchsorted(starts, place, side="right")) - 1
            run, volume = courses[number][0], int(place - starts[number])
            before, token, after = around(run, volume)
            told = {"before": before, "token": token, "after": after, "value": float(values[place])}
            found.append({**told, "corpus": run.corpus, "run": run.number, "volume": volume})
        return found

    highest, lowest = np.argsort(-values, kind="stable"), np.argsort(values, kind="stable")
    return {"highest": extreme(highest), "lowest": extreme(lowest)}


def in_context(events: pd.DataFrame, texts: Mapping[str, str], volume: int) -> tuple[str, str, str]:
    """Cut the token of a volume out of its text, with a few tokens on either side.

    Parameters
    ----------
    events : DataFrame
        Of one run, a row a volume.
    texts : mapping from str to str
        The text of every ``text_id``.
    volume : int
        Counted from 0.
    """
    text_id = events["text_id"].iloc[volume]
    own = events[events["text_id"] == text_id]
    place = int(own.index.get_loc(volume))
    near = own.iloc[max(0, place - CONTEXT) : place + CONTEXT + 1]
    start, end = int(own["start"].iloc[place]), int(own["end"].iloc[place])
    text = texts.get(text_id)
    if text is None or (near["start"] < 0).any() or start == end:  # it is not known where the token stands
        tokens, middle = list(near["token"]), min(place, CONTEXT)
        return " ".join(tokens[:middle]), tokens[middle], " ".join(tokens[middle + 1 :])
    return text[int(near["start"].iloc[0]) : start], text[start:end], text[end : int(near["end"].iloc[-1])]


def text_starts(text_ids: Sequence[str]) -> tuple[list[str], list[int]]:
    """Name the texts of a run, and the volume at which each begins.

    Examples
    --------
    >>> text_starts(["a", "a", "b"])
    (['a', 'b'], [0, 2])
    """
    starts = [place for place, one in enumerate(text_ids) if place == 0 or one != text_ids[place - 1]]
    return [text_ids[place] for place in starts], starts
