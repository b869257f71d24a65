"""First level: conditions of tokens, and their effects on every neuron within one run.

Indicators are computed here. nilearn's ``hrf_model=None`` samples events on a fine grid, whose rounding shifts the
design by one token for about a tenth of all run lengths (78, 99, 156, ...) unless frames are timed at the middle of a
token.
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
"""Time of a token relative to its onset, in tokens, so that rounding cannot shift it to a neighbour."""


_ROUNDING = 1e-10
"""Share of the largest singular value of a design that is within rounding error."""


def name_of(value: Any) -> str | None:
    """Return the name of a condition from a table cell: None if empty, and ``"1"`` for 1, 1.0 and ``"1.0"``."""
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
    """Return the entry of a column of the events for every volume.

    A volume belongs to the event that covers the middle of its token. Events have one row per volume, as in recordings,
    or one row per block.

    Parameters
    ----------
    events : DataFrame
        Events of one run, with ``onset`` and ``duration`` in tokens, and `column`.
    column : str
        Column of the conditions.
    n_volumes : int
        Number of volumes of the run.
    plain : bool, default=False
        Whether names are used literally, so that ``"1e3"`` differs from ``"1000"``.

    Returns
    -------
    ndarray of object, shape (n_volumes,)
        Names of conditions; None without an event, or if its cell is empty.

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
        raise ValueError("The events have an onset or duration that is negative or not a number. Correct the events.")
    first = np.ceil(times[:, 0] - MIDDLE).astype(int)
    last = np.ceil(times.sum(axis=1) - MIDDLE).astype(int)
    if len(last) and last.max() > n_volumes:
        raise ValueError(
            f"An event ends at {times.sum(axis=1).max():g}, but the run has {n_volumes} volumes. Pass events of the "
            "same run, in tokens."
        )
    counts = last - first
    volumes = np.repeat(first, counts) + np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    if (np.bincount(volumes, minlength=1) > 1).any():
        volume = int(np.argmax(np.bincount(volumes) > 1))
        raise ValueError(
            f"Several events cover volume {volume} of a run; a token must be in one condition. Correct the events."
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
    """Build the design matrix of one run: one indicator per condition, and one per text except the first.

    Each text has an intercept, so that only effects within texts are estimated. Confounds follow, as an orthonormal
    basis of their span.

    Parameters
    ----------
    labels : sequence of str or None, length n_volumes
        Condition of every volume.
    conditions : sequence of str
        Conditions with a column.
    texts : sequence of str or None, length n_volumes
        Text of every volume.
    confounds : DataFrame of shape (n_volumes, n_confounds), optional
        Nuisance regressors, finite.

    Returns
    -------
    DataFrame of shape (n_volumes, n_columns)
        Design matrix of 0 and 1, except for confounds; indexed by frame times, at the middle of tokens. Rows without a
        condition are 0 and have no effect.
    """
    label, text = np.asarray(labels, dtype=object), np.asarray(texts, dtype=object)
    taken = np.isin(label, list(conditions))
    columns = {name: label == name for name in conditions}
    texts_of_run = list(dict.fromkeys(text[taken]))
    columns |= {f"text {name}": (text == name) & taken for name in texts_of_run[1:]}
    design = pd.DataFrame(columns, index=np.arange(len(label)) + MIDDLE, dtype=float)
    if confounds is None or not taken.any():
        return design
    # Orthonormal, so that small units, or nearly equal confounds, cause no rounding errors.
    columns_of_basis = basis(confounds[taken])
    Q = np.zeros((len(label), columns_of_basis.shape[1]))
    Q[taken] = columns_of_basis
    names = [f"confound {number}" for number in range(columns_of_basis.shape[1])]
    return pd.concat([design, pd.DataFrame(Q, design.index, names)], axis=1)


def first_level(
    array: np.ndarray, labels: Names, texts: Names, contrast: Contrast, confounds: pd.DataFrame | None = None
) -> np.ndarray | None:
    """Estimate the effect of a contrast on every neuron within one run, by ordinary least squares.

    Only the estimate is returned. Its t or z would assume independent tokens, which is wrong, and is never computed.

    Parameters
    ----------
    array : ndarray of shape (n_volumes, n_neurons)
        Activity of one run.
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
        Effect, in units of `array`; None if it is not estimable from this run, because a condition is missing, no text
        contains several conditions, or a confound is equal to the contrast.
    """
    design = design_matrix(labels, contrast.conditions, texts, confounds)
    X = design.to_numpy()
    weights = np.zeros(X.shape[1])
    weights[: len(contrast.values)] = contrast.values
    rows = weights @ np.linalg.pinv(X, rcond=_ROUNDING)  # weights of volumes in the estimate
    if not np.allclose(rows @ X, weights, atol=1e-8):
        return None
    taken = np.flatnonzero(rows)
    return np.asarray(rows[taken] @ array[taken].astype(np.float64))


def text_means(arrays: Iterable[np.ndarray], texts: Sequence[np.ndarray]) -> tuple[list[str], np.ndarray]:
    """Compute the mean volume of every text, including texts that continue across runs.

    Parameters
    ----------
    arrays : iterable of ndarray of shape (n_volumes, n_neurons)
        Activity of each run.
    texts : sequence of ndarray of object
        Text of every volume, one array per run; None for volumes that are left out.

    Returns
    -------
    names : list of str
        Names of the texts, in order.
    means : ndarray of shape (n_texts, n_neurons)
        Means, float64.
    """
    sums: dict[str, np.ndarray] = {}
    counts: dict[str, int] = {}
    for array, names in zip(arrays, texts, strict=True):
        for name in dict.fromkeys(text for text in names if text is not None):
            rows = array[names == name]
            sums[name] = sums.get(name, 0.0) + rows.sum(axis=0, dtype=np.float64)
            counts[name] = counts.get(name, 0) + len(rows)
    return list(sums), np.stack([sums[name] / counts[name] for name in sums])
