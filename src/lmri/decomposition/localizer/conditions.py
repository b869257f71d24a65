"""Conditions: which volume and which text is in which, as the events say."""

import hashlib
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from lmri.decomposition.localizer.contrast import Contrast
from lmri.decomposition.localizer.first_level import label_volumes
from lmri.exceptions import DataWarning
from lmri.networks.annotation.features import token_features

MADE_OF_TOKENS = ("is_punctuation", "has_digit", "is_capitalized")
"""Columns that need not be in the events."""

_UNEVEN = 1.5
"""Ratio of lengths, or spreads, beyond which conditions are said to differ in them."""


@dataclass(frozen=True, eq=False)
class Labelled:
    """Condition and text of every volume, run by run; None outside of the contrast.

    Parameters
    ----------
    labels : list of ndarray of object, shape (n_volumes,)
        Conditions.
    texts : list of ndarray of object, shape (n_volumes,)
        Texts; None where there is no condition.
    """

    labels: list[np.ndarray]
    texts: list[np.ndarray]

    @property
    def used(self) -> list[str]:
        """Texts with a volume in a condition, in order."""
        return list(dict.fromkeys(name for texts in self.texts for name in texts if name is not None))

    @property
    def digest(self) -> str:
        """Hash of all conditions and texts, volume by volume."""
        rows = [
            f"{label}\t{text}"
            for labels, texts in zip(self.labels, self.texts, strict=True)
            for label, text in zip(labels, texts, strict=True)
        ]
        return hashlib.sha256("\n".join(rows).encode()).hexdigest()[:16]

    def conditions(self) -> dict[str, set[str]]:
        """Give the conditions that each text holds."""
        found: dict[str, set[str]] = {name: set() for name in self.used}
        for labels, texts in zip(self.labels, self.texts, strict=True):
            for label, text in set(zip(labels.tolist(), texts.tolist(), strict=True)):
                if text is not None:
                    found[text].add(label)
        return found

    def condition_of_texts(self, contrast: Contrast) -> dict[str, str]:
        """Give the one condition of each text.

        Raises
        ------
        ValueError
            If a text holds several.
        """
        found = self.conditions()
        shared = [name for name, own in found.items() if len(own) > 1]
        if shared:
            raise ValueError(
                f"{len(shared)} of {len(found)} texts hold several of the conditions "
                f"{', '.join(map(repr, contrast.conditions))} (first: {shared[0]!r}), so they are in none of them. "
                "Compare tokens within texts (level='within', --level within), or name conditions of whole texts."
            )
        return {name: next(iter(own)) for name, own in found.items()}

    def lengths(self, condition: Mapping[str, str]) -> dict[str, int]:
        """Give the median number of volumes of the texts of every condition."""
        counts: dict[str, int] = dict.fromkeys(condition, 0)
        for texts in self.texts:
            for name, count in pd.Series(texts).value_counts().items():
                if name in counts:
                    counts[str(name)] += int(count)
        table = pd.DataFrame({"condition": list(condition.values()), "n": [counts[name] for name in condition]})
        return {str(name): int(n) for name, n in table.groupby("condition", sort=False)["n"].median().items()}

    def n_first(self, condition: Mapping[str, str], match: bool) -> int | None:
        """Give how many volumes of each text count; warn if conditions differ in length and all of them do."""
        lengths = self.lengths(condition)
        if not lengths:
            return None
        if match:
            return min(lengths.values())
        if max(lengths.values()) > _UNEVEN * min(lengths.values()):
            shown = ", ".join(f"{name!r} {length}" for name, length in lengths.items())
            warnings.warn(
                f"Texts differ in length between conditions (median volumes: {shown}). Activations follow the position "
                "in a text, so a contrast may be one of positions. Take those that all conditions reach: "
                "match_positions=True (--match-positions).",
                DataWarning,
                stacklevel=5,
            )
        return None

    def texts_in(self, condition: Mapping[str, str], n_first: int | None) -> list[np.ndarray]:
        """Give the text of every volume, None for texts that are in no condition, and beyond `n_first` volumes."""
        seen: dict[str, int] = {}
        found = []
        for texts in self.texts:
            own = texts.copy()
            for place, name in enumerate(texts):
                if name not in condition:
                    own[place] = None
                    continue
                seen[name] = seen.get(name, 0) + 1
                if n_first is not None and seen[name] > n_first:
                    own[place] = None
            found.append(own)
        return found


def labelled(events: Sequence[pd.DataFrame], column: str, n_volumes: Sequence[int], contrast: Contrast) -> Labelled:
    """Read the conditions of a contrast from the events of all runs.

    Raises
    ------
    ValueError
        If a condition is absent, the column is missing, or events do not belong to the runs.
    """
    if len(events) != len(n_volumes):
        raise ValueError(
            f"There are {len(events)} tables of events for {len(n_volumes)} runs. Give one a run, in order."
        )
    labels, texts = [], []
    for table, length in zip(events, n_volumes, strict=True):
        if column not in table and column in MADE_OF_TOKENS and {"token", "token_id", "position"} <= set(table):
            table = table.assign(**{column: token_features(table)[column].to_numpy()})
        if column not in table:
            made = ", ".join(MADE_OF_TOKENS)
            raise ValueError(
                f"The events have no column {column!r}; they have {', '.join(map(str, table))}, and {made} can be made "
                "of their tokens. Name one of these (--column), or add it to the events."
            )
        labels.append(label_volumes(table, column, length))
        texts.append(label_volumes(table, "text_id", length, plain=True))
    there = {label for run in labels for label in run if label is not None}
    contrast.check_present(there, f"the events (column {column!r})")
    for run, own in zip(labels, texts, strict=True):
        taken = np.isin(run, list(contrast.conditions))
        if any(name is None for name in own[taken]):
            raise ValueError("A volume in a condition has no text_id. Give every volume the text that it belongs to.")
        run[~taken], own[~taken] = None, None
    return Labelled(labels, texts)


def decide_level(rows: Labelled, contrast: Contrast, column: str) -> str:
    """Say whether conditions alternate within texts, or texts are in one condition each.

    Raises
    ------
    ValueError
        If some texts, but not most, hold several conditions.
    """
    if column in MADE_OF_TOKENS:
        return "within"
    own = rows.conditions()
    n_shared = sum(len(conditions) > 1 for conditions in own.values())
    if 0 < n_shared <= len(own) / 2:
        rows.condition_of_texts(contrast)  # says what is wrong
    return "within" if n_shared else "between"


def without_repeats(condition: Mapping[str, str], hashes: Mapping[str, str]) -> dict[str, str]:
    """Leave out texts that repeat another one of their condition.

    Raises
    ------
    ValueError
        If a text is in two conditions under two names.

    Warns
    -----
    DataWarning
        If any is left out.
    """
    first: dict[str, str] = {}
    kept: dict[str, str] = {}
    crossing = []
    for name, own in condition.items():
        before = first.setdefault(hashes.get(name, f"text {name}"), name)
        if before == name:
            kept[name] = own
        elif condition[before] != own:
            crossing.append((before, name))
    if crossing:
        before, name = crossing[0]
        raise ValueError(
            f"{len(crossing)} texts are in two conditions: {before!r} ({condition[before]!r}) and {name!r} "
            f"({condition[name]!r}) are the same. They say nothing of the difference: record corpora without them."
        )
    if len(kept) < len(condition):
        warnings.warn(
            f"{len(condition) - len(kept)} of {len(condition)} texts repeat another one and are left out: the same "
            "text twice is no more evidence than once.",
            DataWarning,
            stacklevel=4,
        )
    return kept


def warn_of_spread(means: np.ndarray, labels: list[str]) -> None:
    """Warn if texts vary more in one condition than in another, and are not far more there, so that p is too small."""
    counts = {label: labels.count(label) for label in labels}
    if min(counts.values()) < 2:
        return
    groups = {label: means[[one == label for one in labels]] for label in counts}
    spread = {label: float(np.median(own.std(axis=0, ddof=1))) for label, own in groups.items()}
    most, least = max(spread, key=spread.__getitem__), min(spread, key=spread.__getitem__)
    if spread[most] > _UNEVEN * spread[least] and counts[most] < _UNEVEN * counts[least]:
        ratio = spread[most] / spread[least] if spread[least] else np.inf
        warnings.warn(
            f"Texts differ {ratio:.1f} times as much from each other in {most!r} ({counts[most]} texts) as in "
            f"{least!r} ({counts[least]}). Tests take them for alike, and find too much in small samples: with twice "
            "the spread, an alpha of 0.05 is 0.10 with 15 texts each, 0.20 with 8 of the former and 22 of the latter, "
            "and right with 30 each. Take more texts, of the more varied condition above all.",
            DataWarning,
            stacklevel=5,
        )
