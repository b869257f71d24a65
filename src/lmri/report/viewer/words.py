"""Tokens in their text: at which of them a time course is highest or lowest, and what stands around these."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from lmri.networks.time_courses import ends, text_bounds

N_TOP = 8


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
        Gives what stands before, at and after a volume of a run, as `lmri.networks.time_courses.RunText` does.

    Returns
    -------
    dict of str to list of dict
        ``highest`` and ``lowest``: ``before, token, after, value, corpus, run, volume``, the most extreme first.
    """
    values = np.concatenate([values for _, values in courses]) if courses else np.zeros(0)
    starts = np.cumsum([0, *(len(values) for _, values in courses)])

    def told(place: int) -> dict[str, Any]:
        number = int(np.searchsorted(starts, place, side="right")) - 1
        run, volume = courses[number][0], int(place - starts[number])
        before, token, after = around(run, volume)
        own = {"before": before, "token": token, "after": after, "value": float(values[place])}
        return {**own, "corpus": run.corpus, "run": run.number, "volume": volume}

    return {side: [told(place) for place in places] for side, places in ends(values, N_TOP).items()}


def text_starts(text_ids: Sequence[str]) -> tuple[list[str], list[int]]:
    """Name the texts of a run, and the volume at which each begins.

    Examples
    --------
    >>> text_starts(["a", "a", "b"])
    (['a', 'b'], [0, 2])
    """
    starts = text_bounds(text_ids)[:-1].tolist() if text_ids else []
    return [text_ids[place] for place in starts], starts
