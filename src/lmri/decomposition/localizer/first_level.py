"""The first level: which token is in which condition, and what that does to every neuron within one run.

Indicators are built here. nilearn's ``hrf_model=None`` samples events on a fine grid whose rounding moves the design by
one token for about a tenth of all run lengths (78, 99, 156, ...), unless frames are timed at the middle of a token.
"""

import math
from collections.abc import Iterable, Sequence
from typing import Any, TypeAlias

import numpy as np
import pandas as pd

from lmri.decomposition.localizer.contrast import Contrast
from lmri.decomposition.nuisance import basis

Names: TypeAlias = Sequence[str | None] | np.ndarray

MIDDLE = 0.5
"""When a token is read, in tokens after its onset: far from where rounding could move it to a neighbour."""


_ROUNDING = 1e-10
"""Share of the largest singular value of a design that rounding alone can give."""


def name_of(value: Any) -> str | None:
    """Name a condition by what stands in a table: None where nothing does, and ``"1"`` for 1, 1.0 and ``"1.0"``."""
    if value is None or (isinstance(value, float | np.floating) and math.isnan(value)):
        return None
    text = str(value).strip()
    if text in ("", "n/a"):
        return None
    try:
        number = float(text)
    except ValueError:
        return text
    return str(int(number)) if math.isfinite(number) and number == int(number) else text


def label_volumes(events: pd.DataFrame, column: str, n_volumes: int, plain: bool = False) -> np.ndarray:
    """Say what stands in a column of the events at every volume.

    A volume belongs to the event that covers the middle of its token. Events are a row a volume, as recordings have
    them, or blocks.

    Parameters
    ----------
    events : DataFrame
        Of one run; with ``onset`` and ``duration`` in tokens, and `column`.
    column : str
        Where the conditions stand.
    n_volumes : int
        Of the run.
    plain : bool, default=False
        Take names as they stand there, so that ``"1e3"`` is another one than ``"1000"``.

    Returns
    -------
    ndarray of object, shape (n_volumes,)
        Names of conditions; None where there is no event, or nothing stands in its column.

    Raises
    ------
    ValueError
        If a column is missing, an event lies outside of the run, or two events cover one volume.

    Examples
    --------
    >>> events = pd.DataFrame({"onset": [0.0, 2.0], "duration": [2.0, 1.0], "kind": ["noun", "verb"]})
    >>> label_volumes(events, "kind", 4).tolist()
    ['noun', 'noun', 'verb', None]
    """
    missing = [name for name in ("onset", "duration", column) if name not in events]
    if missing:
        raise ValueError(f"The events lack {', '.join(missing)}; they have {', '.join(map(str, events))}.")
    times = events[["onset", "duration"]].to_numpy(dtype=float)
    if not np.isfinite(times).all() or (times < 0).any():
        raise ValueError("The events have an onset or a duration that is negative or no number. Mend them first.")
    first = np.ceil(times[:, 0] - MIDDLE).astype(int)
    last = np.ceil(times.sum(axis=1) - MIDDLE).astype(int)
    if len(last) and last.max() > n_volumes:
        raise ValueError(
            f"An event ends at {times.sum(axis=1).max():g}, but the run has {n_volumes} volumes. Events and images "
            "have to be of the same run, in tokens."
        )
    counts = last - first
    volumes = np.repeat(first, counts) + np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    if (np.bincount(volumes, minlength=1) > 1).any():
        volume = int(np.argmax(np.bincount(volumes) > 1))
        raise ValueError(
            f"Several events cover volume {volume} of a run; a token is in one condition. Mend them first."
        )
    labels = np.full(n_volumes, None, dtype=object)
    known: dict[Any, str | None] = {}
    names = [known.setdefault(value, name_of(value)) for value in events[column]]
    if plain:
        names = [None if name is None else str(value) for name, value in zip(names, events[column], strict=True)]
    labels[volumes] = np.repeat(np.array(names, dtype=object), counts)
    return labels


def design_matrix(
    labels: Names, conditions: Sequence[str], texts: Names, confounds: pd.DataFrame | None = None
) -> pd.DataFrame:
    """Build the design of one run: an indicator for each condition, and one for each text but the first.

    Texts have an intercept each, so that only what happens within texts counts. Confounds follow, as an orthonormal
    basis of what they span.

    Parameters
    ----------
    labels : sequence of str or None, length n_volumes
        Condition of every volume.
    conditions : sequence of str
        Those that get a column.
    texts : sequence of str or None, length n_volumes
        Text of every volume.
    confounds : DataFrame of shape (n_volumes, n_confounds), optional
        Nuisance regressors, finite.

    Returns
    -------
    DataFrame of shape (n_volumes, n_columns)
        0 and 1, but for confounds; indexed by frame times, at the middle of tokens. Rows in none of the conditions are
        0 throughout, and add nothing.
    """
    label, text = np.asarray(labels, dtype=object), np.asarray(texts, dtype=object)
    taken = np.isin(label, list(conditions))
    columns = {name: label == name for name in conditions}
    own = list(dict.fromkeys(text[taken]))
    columns |= {f"text {name}": (text == name) & taken for name in own[1:]}
    design = pd.DataFrame(columns, index=np.arange(len(label)) + MIDDLE, dtype=float)
    if confounds is None or not taken.any():
        return design
    # Orthonormal, so that small units, or two that are nearly the same, are no matter of rounding.
    found = basis(confounds[taken])
    Q = np.zeros((len(label), found.shape[1]))
    Q[taken] = found
    names = [f"confound {number}" for number in range(found.shape[1])]
    return pd.concat([design, pd.DataFrame(Q, design.index, names)], axis=1)


def first_level(
    array: np.ndarray, labels: Names, texts: Names, contrast: Contrast, confounds: pd.DataFrame | None = None
) -> np.ndarray | None:
    """Estimate the effect of a contrast on every neuron within one run, by ordinary least squares.

    It is an estimate only. Its t or z would take tokens for independent, which they are not: it is never computed.

    Parameters
    ----------
    array : ndarray of shape (n_volumes, n_neurons)
        One run.
    labels : sequence of str or None, length n_volumes
        Condition of every volume.
    texts : sequence of str or None, length n_volumes
        Text of every volume.
    contrast : Contrast
        Weights of the conditions.
    confounds : DataFrame of shape (n_volumes, n_confounds), optional
        Nuisance regressors, finite.

    Returns
    -------
    ndarray of shape (n_neurons,) or None
        In units of `array`; None if this run cannot tell, as where a condition is missing, conditions never meet in
        one text, or a confound is the same as the contrast.
    """
    design = design_matrix(labels, contrast.conditions, texts, confounds)
    X = design.to_numpy()
    weights = np.zeros(X.shape[1])
    weights[: len(contrast.values)] = contrast.values
    rows = weights @ np.linalg.pinv(X, rcond=_ROUNDING)  # the estimate is this combination of volumes
    if not np.allclose(rows @ X, weights, atol=1e-8):
        return None
    taken = np.flatnonzero(rows)
    return np.asarray(rows[taken] @ array[taken].astype(np.float64))


def text_means(arrays: Iterable[np.ndarray], texts: Sequence[np.ndarray]) -> tuple[list[str], np.ndarray]:
    """Average the volumes of every text, also of one that crosses runs.

    Parameters
    ----------
    arrays : iterable of ndarray of shape (n_volumes, n_neurons)
        Run by run.
    texts : sequence of ndarray of object
        Text of every volume of every run; None for volumes that are left out.

    Returns
    -------
    names : list of str
        Of the texts, in order.
    means : ndarray of shape (n_texts, n_neurons)
        Float64.
    """
    sums: dict[str, np.ndarray] = {}
    counts: dict[str, int] = {}
    for array, names in zip(arrays, texts, strict=True):
        for name in dict.fromkeys(one for one in names if one is not None):
            rows = array[names == name]
            sums[name] = sums.get(name, 0.0) + rows.sum(axis=0, dtype=np.float64)
            counts[name] = counts.get(name, 0) + len(rows)
    return list(sums), np.stack([sums[name] / counts[name] for name in sums])
