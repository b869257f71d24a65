"""Time courses as people look at them: in standard deviations, at their two ends, and in the text around a volume."""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

CONTEXT = 8
"""Volumes of the same text that are shown on either side of one."""


def scaled(courses: Sequence[np.ndarray]) -> np.ndarray:
    """Put the runs of time courses behind each other, and z-score each course over all of them together.

    Parameters
    ----------
    courses : sequence of ndarray of shape (n_volumes, n_networks)
        One a run.

    Returns
    -------
    ndarray of shape (n_volumes in all, n_networks)
        Standard deviations from the mean; 0 of a course that does not vary.
    """
    stacked = np.concatenate([np.asarray(one, dtype=float) for one in courses])
    varies = stacked.min(axis=0) != stacked.max(axis=0)  # the sd of a constant is not always 0
    centred = stacked - stacked.mean(axis=0)
    return np.divide(centred, stacked.std(axis=0), out=np.zeros_like(stacked), where=varies)


def ends(values: np.ndarray, n: int) -> dict[str, list[int]]:
    """Find the places of the `n` highest and of the `n` lowest values.

    Which end is the positive one follows from the sign of a map, and that is often a matter of convention: one end
    alone would be half of what there is to see.

    Parameters
    ----------
    values : ndarray of shape (n_values,)
        Of equal ones, the first is taken; values that are none are left out.
    n : int
        Of either end.

    Returns
    -------
    dict of str to list of int
        ``highest`` and ``lowest``, the most extreme first; no place is in both, and none is in either if all values
        are the same.

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
    return {"highest": highest, "lowest": [place for place in lowest if place not in highest][:n]}


def text_bounds(text_ids: Sequence[str] | np.ndarray) -> np.ndarray:
    """Find the volume at which each text of a run begins, and the number of volumes.

    Examples
    --------
    >>> text_bounds(["a", "a", "b"])
    array([0, 2, 3])
    """
    ids = np.asarray(text_ids, dtype=object)
    return np.r_[0, 1 + np.flatnonzero(ids[1:] != ids[:-1]), len(ids)]


class RunText:
    """The texts of a run, from which volumes are cut out.

    Parameters
    ----------
    events : DataFrame
        Of one run, a row a volume.
    texts : mapping from str to str
        The text of every ``text_id``.
    """

    def __init__(self, events: pd.DataFrame, texts: Mapping[str, str]) -> None:
        self.ids = events["text_id"].to_numpy(dtype=object)
        self.bounds = text_bounds(self.ids)
        self.tokens = events["token"].tolist()
        self.start, self.end = (events[name].to_numpy(dtype=int) for name in ("start", "end"))
        self.texts = texts

    def around(self, volume: int) -> tuple[str, str, str]:
        """Give what stands before, at and after a volume, counted from 0: never of another text.

        Where a tokenizer cannot tell where its tokens stand, these are the tokens.
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
    """Return the time courses of all runs as arrays, or raise `ValueError` if they are not usable."""
    courses = [np.asarray(course, dtype=np.float64) for course in time_courses]
    if not courses:
        raise ValueError("time_courses is empty; give one array (n_volumes, n_networks) a run.")
    for run, course in enumerate(courses, start=1):
        if course.ndim != 2 or not len(course) or course.shape[1] != courses[0].shape[-1]:
            raise ValueError(
                f"The time courses of run {run} have shape {course.shape}; accepted is (n_volumes, n_networks), with "
                "the same networks in every run."
            )
        if not np.isfinite(course).all():
            raise ValueError(f"The time courses of run {run} hold NaN or infinity. Decompose again.")
    return courses


def split_by_text(courses: list[np.ndarray], texts: Sequence[Sequence[str]]) -> list[tuple[str, np.ndarray]]:
    """Cut runs into texts: the id of each text with its part of the time courses, in order."""
    if len(texts) != len(courses) or any(len(a) != len(b) for a, b in zip(texts, courses, strict=True)):
        raise ValueError(
            f"texts have {[len(one) for one in texts]} volumes and the time courses {[len(one) for one in courses]}. "
            "Give the id of the text of every volume, run by run: [table['text_id'] for table in recording.events]."
        )
    found: dict[str, np.ndarray] = {}
    for run, (course, ids) in enumerate(zip(courses, texts, strict=True), start=1):
        names = np.asarray(ids, dtype=str)
        bounds = np.flatnonzero(np.r_[True, names[1:] != names[:-1], True])
        for first, last in itertools.pairwise(bounds):
            text = str(names[first])
            if text in found:
                raise ValueError(
                    f"The text {text!r} comes again in run {run}. The volumes of a text follow each other within one "
                    "run, and its id is its own: rename those of one corpus."
                )
            found[text] = course[first:last]
    return list(found.items())
