"""Conditions of volumes and texts, from the events."""

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
"""Columns that are computed from the tokens if the events lack them."""

_UNEVEN = 1.5
"""Ratio of lengths, or of spreads, beyond which a warning reports a difference between conditions."""


@dataclass(frozen=True, eq=False)
class Labelled:
    """Condition and text of every volume, per run; None outside of the contrast.

    Parameters
    ----------
    labels : list of ndarray of object, shape (n_volumes,)
        Conditions, one array per run.
    texts : list of ndarray of object, shape (n_volumes,)
        Texts, one array per run; None without a condition.
    """

    labels: list[np.ndarray]
    texts: list[np.ndarray]

    @property
    def used(self) -> list[str]:
        """Texts with at least one volume in a condition, in order."""
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
        """Return the conditions in each text."""
        conditions_of: dict[str, set[str]] = {name: set() for name in self.used}
        for labels, texts in zip(self.labels, self.texts, strict=True):
            for label, text in set(zip(labels.tolist(), texts.tolist(), strict=True)):
                if text is not None:
                    conditions_of[text].add(label)
        return conditions_of

    def condition_of_texts(self, contrast: Contrast) -> dict[str, str]:
        """Return the condition of each text.

        Raises
        ------
        ValueError
            If a text contains several conditions.
        """
        conditions = self.conditions()
        shared = [name for name, names in conditions.items() if len(names) > 1]
        if shared:
            raise ValueError(
                f"{len(shared)} of {len(conditions)} texts contain several of the conditions "
                f"{', '.join(map(repr, contrast.conditions))} (first: {shared[0]!r}). A contrast between texts needs "
                "one condition per text. Compare tokens within texts (level='within', --level within), or name "
                "conditions of whole texts."
            )
        return {name: next(iter(names)) for name, names in conditions.items()}

    def lengths(self, condition: Mapping[str, str]) -> dict[str, int]:
        """Compute the median number of volumes of the texts in every condition."""
        counts: dict[str, int] = dict.fromkeys(condition, 0)
        for texts in self.texts:
            for name, count in pd.Series(texts).value_counts().items():
                if name in counts:
                    counts[str(name)] += int(count)
        table = pd.DataFrame({"condition": list(condition.values()), "n": [counts[name] for name in condition]})
        return {str(name): int(n) for name, n in table.groupby("condition", sort=False)["n"].median().items()}

    def n_first(self, condition: Mapping[str, str], match: bool) -> int | None:
        """Return the number of volumes to use per text, None for all; warn if conditions then differ in length."""
        lengths = self.lengths(condition)
        if not lengths:
            return None
        if match:
            return min(lengths.values())
        if max(lengths.values()) > _UNEVEN * min(lengths.values()):
            shown = ", ".join(f"{name!r} {length}" for name, length in lengths.items())
            warnings.warn(
                f"Texts differ in length between conditions (median volumes: {shown}). Activations depend on the "
                "position in a text, so the contrast may reflect positions. Use only positions that all conditions "
                "reach: match_positions=True (--match-positions).",
                DataWarning,
                stacklevel=5,
            )
        return None

    def texts_in(self, condition: Mapping[str, str], n_first: int | None) -> list[np.ndarray]:
        """Return the text of every volume; None for texts without a condition, and after `n_first` volumes."""
        seen: dict[str, int] = {}
        texts_by_run = []
        for texts in self.texts:
            selected = texts.copy()
            for volume, name in enumerate(texts):
                if name not in condition:
                    selected[volume] = None
                    continue
                seen[name] = seen.get(name, 0) + 1
                if n_first is not None and seen[name] > n_first:
                    selected[volume] = None
            texts_by_run.append(selected)
        return texts_by_run


def labelled(events: Sequence[pd.DataFrame], column: str, n_volumes: Sequence[int], contrast: Contrast) -> Labelled:
    """Read the conditions of a contrast from the events of all runs.

    Raises
    ------
    ValueError
        If a condition is absent, the column is missing, or events do not belong to the runs.
    """
    if len(events) != len(n_volumes):
        raise ValueError(
            f"There are {len(events)} tables of events for {len(n_volumes)} runs. Pass one table per run, in order."
        )
    labels, texts = [], []
    for table, length in zip(events, n_volumes, strict=True):
        if column not in table and column in MADE_OF_TOKENS and {"token", "token_id", "position"} <= set(table):
            table = table.assign(**{column: token_features(table)[column].to_numpy()})
        if column not in table:
            computed = ", ".join(MADE_OF_TOKENS)
            raise ValueError(
                f"The events have no column {column!r}; they have {', '.join(map(str, table))}, and {computed} can be "
                "computed from their tokens. Name one of these (--column), or add the column to the events."
            )
        labels.append(label_volumes(table, column, length))
        texts.append(label_volumes(table, "text_id", length, plain=True))
    there = {label for run in labels for label in run if label is not None}
    contrast.check_present(there, f"the values of the column {column!r} of the events")
    for run, texts_of_run in zip(labels, texts, strict=True):
        taken = np.isin(run, list(contrast.conditions))
        if any(name is None for name in texts_of_run[taken]):
            raise ValueError("A volume in a condition has no text_id. Add the text of every volume to the events.")
        run[~taken], texts_of_run[~taken] = None, None
    return Labelled(labels, texts)


def decide_level(rows: Labelled, contrast: Contrast, column: str) -> str:
    """Return ``"within"`` if conditions alternate within texts, or ``"between"`` if each text is in one condition.

    Raises
    ------
    ValueError
        If some texts, but not most, contain several conditions.
    """
    if column in MADE_OF_TOKENS:
        return "within"
    conditions_of = rows.conditions()
    n_shared = sum(len(conditions) > 1 for conditions in conditions_of.values())
    if 0 < n_shared <= len(conditions_of) / 2:
        rows.condition_of_texts(contrast)  # raises an error
    return "within" if n_shared else "between"


def without_repeats(condition: Mapping[str, str], hashes: Mapping[str, str]) -> dict[str, str]:
    """Remove texts that are copies of another text in the same condition.

    Raises
    ------
    ValueError
        If a text is in two conditions, with different names.

    Warns
    -----
    DataWarning
        If texts are left out.
    """
    first: dict[str, str] = {}
    unique: dict[str, str] = {}
    crossing = []
    for name, label in condition.items():
        before = first.setdefault(hashes.get(name, f"text {name}"), name)
        if before == name:
            unique[name] = label
        elif condition[before] != label:
            crossing.append((before, name))
    if crossing:
        before, name = crossing[0]
        raise ValueError(
            f"{len(crossing)} texts are in two conditions: {before!r} ({condition[before]!r}) and {name!r} "
            f"({condition[name]!r}) are the same. Such texts carry no difference. Record corpora without them."
        )
    if len(unique) < len(condition):
        warnings.warn(
            f"{len(condition) - len(unique)} of {len(condition)} texts are copies of other texts and are left out: a "
            "copy is not an independent observation.",
            DataWarning,
            stacklevel=4,
        )
    return unique


def warn_of_spread(means: np.ndarray, labels: list[str]) -> None:
    """Warn if texts vary more in one condition without being more numerous there, which makes p too small."""
    counts = {label: labels.count(label) for label in labels}
    if min(counts.values()) < 2:
        return
    groups = {label: means[[other == label for other in labels]] for label in counts}
    spread = {label: float(np.median(texts.std(axis=0, ddof=1))) for label, texts in groups.items()}
    most, least = max(spread, key=spread.__getitem__), min(spread, key=spread.__getitem__)
    if spread[most] > _UNEVEN * spread[least] and counts[most] < _UNEVEN * counts[least]:
        ratio = spread[most] / spread[least] if spread[least] else np.inf
        warnings.warn(
            f"Texts vary {ratio:.1f} times as much in {most!r} ({counts[most]} texts) as in {least!r} "
            f"({counts[least]}). Tests assume equal variability, and are too liberal in small samples: with twice the "
            "spread, the error rate at alpha 0.05 is 0.10 with 15 texts each, 0.20 with 8 of the former and 22 of the "
            "latter, and correct with 30 each. Use more texts, especially of the more variable condition.",
            DataWarning,
            stacklevel=5,
        )
