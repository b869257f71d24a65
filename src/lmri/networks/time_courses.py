"""Time courses for display: z-scores, extreme volumes, and the text around a volume."""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

CONTEXT = 8
"""Number of volumes of context that are displayed on either side of a volume, within the same text."""


def scaled(courses: Sequence[np.ndarray]) -> np.ndarray:
    """Concatenate the time courses of all runs, and z-score each over the concatenated volumes.

    Parameters
    ----------
    courses : sequence of ndarray of shape (n_volumes, n_networks)
        Time courses, one array per run.

    Returns
    -------
    ndarray of shape (n_volumes in all, n_networks)
        Z-scores; 0 for a constant time course.
    """
    stacked = np.concatenate([np.asarray(course, dtype=float) for course in courses])
    varies = stacked.min(axis=0) != stacked.max(axis=0)  # the sd of a constant is not always 0
    centred = stacked - stacked.mean(axis=0)
    return np.divide(centred, stacked.std(axis=0), out=np.zeros_like(stacked), where=varies)


def ends(values: np.ndarray, n: int) -> dict[str, list[int]]:
    """Find the indices of the `n` highest and the `n` lowest values.

    Both are returned because the sign of a map is often arbitrary: the highest values alone would be only half of the
    information.

    Parameters
    ----------
    values : ndarray of shape (n_values,)
        Values of a time course. The first of equal values is taken; NaN is ignored.
    n : int
        Number of indices per side.

    Returns
    -------
    dict of str to list of int
        ``highest`` and ``lowest``, the most extreme first. No index is in both lists, and both are empty if all values
        are equal.

    Examples
    --------
    >>> ends(np.array([3.0, -1.0, 2.0, 0.0]), 2)
    {'highest': [0, 2], 'lowest': [1, 3]}
    """
    known = np.flatnonzero(~np.isnan(values))
    if not len(known) or np.ptp(values[known]) == 0:
        return {"highest": [], "lowest": []}
    highest = known[np.argsort(-values[known], kind="stable")[:n]].tolist()
    lowest = known[np.argsort(values[known], kind="stable")[: 2 * n]].tolist()
    return {"highest": highest, "lowest": [index for index in lowest if index not in highest][:n]}


def text_bounds(text_ids: Sequence[str] | np.ndarray) -> np.ndarray:
    """Return the first volume of each text of a run, followed by the number of volumes.

    Examples
    --------
    >>> text_bounds(["a", "a", "b"])
    array([0, 2, 3])
    """
    ids = np.asarray(text_ids, dtype=object)
    return np.r_[0, 1 + np.flatnonzero(ids[1:] != ids[:-1]), len(ids)]


class RunText:
    """Texts of a run, from which the context of a volume is extracted.

    Parameters
    ----------
    events : DataFrame
        Events of one run, one row per volume.
    texts : mapping from str to str
        Texts by ``text_id``.
    """

    def __init__(self, events: pd.DataFrame, texts: Mapping[str, str]) -> None:
        self.ids = events["text_id"].to_numpy(dtype=object)
        self.bounds = text_bounds(self.ids)
        self.tokens = events["token"].tolist()
        self.start, self.end = (events[name].to_numpy(dtype=int) for name in ("start", "end"))
        self.texts = texts

    def around(self, volume: int) -> tuple[str, str, str]:
        """Return the text before, at and after a volume (counted from 0), all from the same text.

        If the tokenizer provides no character offsets, tokens joined by blanks are returned instead.
        """
        number = int(np.searchsorted(self.bounds, volume, side="right")) - 1
        first = max(int(self.bounds[number]), volume - CONTEXT)
        last = min(int(self.bounds[number + 1]), volume + CONTEXT + 1)
        start, end = int(self.start[volume]), int(self.end[volume])
        text = self.texts.get(self.ids[volume])
        if text is None or (self.start[first:last] < 0).any() or start == end:
            words = self.tokens
            return " ".join(words[first:volume]), words[volume], " ".join(words[volume + 1 : last])
        return text[int(self.start[first]) : start], text[start:end], text[end : int(self.end[last - 1])]


def check_runs(time_courses: Sequence[Any]) -> list[np.ndarray]:
    """Convert the time courses of all runs to arrays, or raise `ValueError` if they are invalid."""
    courses = [np.asarray(course, dtype=np.float64) for course in time_courses]
    if not courses:
        raise ValueError("time_courses is empty; pass one array (n_volumes, n_networks) per run.")
    for run, course in enumerate(courses, start=1):
        if course.ndim != 2 or not len(course) or course.shape[1] != courses[0].shape[-1]:
            raise ValueError(
                f"The time courses of run {run} have shape {course.shape}; accepted is (n_volumes, n_networks), with "
                "the same networks in every run."
            )
        if not np.isfinite(course).all():
            raise ValueError(f"The time courses of run {run} contain NaN or infinite values. Decompose again.")
    return courses


def split_by_text(courses: list[np.ndarray], texts: Sequence[Sequence[str]]) -> list[tuple[str, np.ndarray]]:
    """Split runs into texts; return the id of each text and its part of the time courses, in order."""
    if len(texts) != len(courses) or any(len(a) != len(b) for a, b in zip(texts, courses, strict=True)):
        raise ValueError(
            f"texts have {list(map(len, texts))} volumes and the time courses {list(map(len, courses))}. "
            "Pass the text id of every volume for each run: [table['text_id'] for table in recording.events]."
        )
    parts: dict[str, np.ndarray] = {}
    for run, (course, ids) in enumerate(zip(courses, texts, strict=True), start=1):
        names = np.asarray(ids, dtype=str)
        bounds = np.flatnonzero(np.r_[True, names[1:] != names[:-1], True])
        for first, last in itertools.pairwise(bounds):
            text = str(names[first])
            if text in parts:
                raise ValueError(
                    f"The text {text!r} is repeated in run {run}. The volumes of a text must be consecutive within one "
                    "run, and text ids must be unique. Rename the text ids of one corpus."
                )
            parts[text] = course[first:last]
    return list(parts.items())
