"""Top tokens: tokens with the highest and lowest values of a time course, with their context."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from lmri.networks.time_courses import ends, text_bounds

N_TOP = 8


class Run(NamedTuple):
    """Run of a corpus, numbered from 1."""

    corpus: str
    number: int


def tops(
    courses: Sequence[tuple[Run, np.ndarray]], around: Callable[[Run, int], tuple[str, str, str]]
) -> dict[str, list[dict[str, Any]]]:
    """Find the volumes with the highest and the lowest values of a time course over all of its runs.

    Parameters
    ----------
    courses : sequence of (Run, ndarray of shape (n_volumes,))
        Time course of each run, in order; earlier volumes win ties, and missing values are ignored.
    around : callable
        Function that returns the text before, at and after a volume of a run, as in
        `lmri.networks.time_courses.RunText`.

    Returns
    -------
    dict of str to list of dict
        ``highest`` and ``lowest``: ``before, token, after, value, corpus, run, volume``, the most extreme first.
    """
    values = np.concatenate([values for _, values in courses]) if courses else np.zeros(0)
    starts = np.cumsum([0, *(len(values) for _, values in courses)])

    def describe(position: int) -> dict[str, Any]:
        number = int(np.searchsorted(starts, position, side="right")) - 1
        run, volume = courses[number][0], int(position - starts[number])
        before, token, after = around(run, volume)
        context = {"before": before, "token": token, "after": after, "value": float(values[position])}
        return {**context, "corpus": run.corpus, "run": run.number, "volume": volume}

    return {side: [describe(position) for position in positions] for side, positions in ends(values, N_TOP).items()}


def text_starts(text_ids: Sequence[str]) -> tuple[list[str], list[int]]:
    """Return the texts of a run, and the first volume of each.

    Examples
    --------
    >>> text_starts(["a", "a", "b"])
    (['a', 'b'], [0, 2])
    """
    starts = text_bounds(text_ids)[:-1].tolist() if text_ids else []
    return [text_ids[start] for start in starts], starts
