"""Robust scores: deviations of values, in a unit that outliers do not affect."""

import numpy as np
from scipy.stats import theilslopes

OUTLYING = 3.5
"""Robust z beyond which a value is flagged (Iglewicz & Hoaglin, 1993); 0.02 % of Gaussian values on each side."""

FEWEST = 10
"""Smallest number of values for flags; with fewer, the median absolute deviation is too often small by chance."""

_TO_SD, _MEAN_TO_SD = 1.482602218505602, 1.2533141373155001
_ROUNDING = 1e-6
"""Smallest difference relative to the median that float32 resolves."""

_HALVINGS = 60

_MOST_TEXTS = 1000
"""Largest number of texts for the estimate of the slope over length."""


def spread(values: np.ndarray) -> float:
    """Compute the median absolute deviation, scaled to the sd of a Gaussian.

    If it is 0, because more than half of the values are equal, the scaled mean absolute deviation is returned.
    """
    if not len(values):
        return 0.0
    deviations = np.abs(values - np.median(values))
    middle = _TO_SD * float(np.median(deviations))
    return middle or _MEAN_TO_SD * float(deviations.mean(dtype=np.float64))


def robust_z(values: np.ndarray) -> np.ndarray:
    """Compute robust z: deviations from the median, in units of `spread`.

    Parameters
    ----------
    values : ndarray of shape (n,)
        Values; those that are not finite are ignored.

    Returns
    -------
    ndarray of shape (n,)
        Robust z; NaN for missing values, and throughout if there are fewer than `FEWEST` values.

    Examples
    --------
    >>> robust_z(np.r_[np.arange(19), 100])[-1].round(1)
    np.float64(12.2)
    """
    values = np.asarray(values, dtype=np.float64)
    scores = np.full(len(values), np.nan)
    known = np.isfinite(values)
    if known.sum() < FEWEST:
        return scores
    middle = float(np.median(values[known]))
    scale = max(spread(values[known]), _ROUNDING * abs(middle))
    scores[known] = (values[known] - middle) / scale if scale else 0.0
    return scores


def z_of_means(means: np.ndarray, within: float, counts: np.ndarray) -> np.ndarray:
    """Compute robust z of means over different numbers of values, accounting for the larger variance of short texts.

    Parameters
    ----------
    means : ndarray of shape (n_texts,)
        Mean of each text.
    within : float
        Variance of single values within texts.
    counts : ndarray of shape (n_texts,)
        Number of values of each text.

    Returns
    -------
    ndarray of shape (n_texts,)
        Robust z of ``(mean - median) / sqrt(between + within / count)``. The variance between texts is chosen such that
        the spread of these values is 1; it is 0 if their spread is smaller without it.
    """
    deviations, noise = means - np.median(means), within / counts
    floor = (_ROUNDING * float(np.median(means))) ** 2

    def scaled(between: float) -> np.ndarray:
        scale = np.sqrt(between + noise + floor)
        return np.divide(deviations, scale, out=np.zeros_like(deviations), where=scale > 0)

    low, high = 0.0, float(np.square(deviations).max(initial=0.0)) * 4
    for _ in range(_HALVINGS if spread(scaled(0.0)) > 1 else 0):
        middle = (low + high) / 2
        low, high = (middle, high) if spread(scaled(middle)) > 1 else (low, middle)
    return robust_z(scaled(low))


def z_of_distances(distances: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Compute robust z of distances of text means from the mean pattern, corrected for the length of texts.

    Short texts are more distant by chance: the logarithm of the distance decreases with the logarithm of the length,
    with slope -1/2 for noise and 0 for differences between texts. The slope is estimated (Theil-Sen), clipped to this
    range, and removed.

    Parameters
    ----------
    distances : ndarray of shape (n_texts,)
        Distances, above 0, or 0 without variance.
    counts : ndarray of shape (n_texts,)
        Number of volumes of each text.

    Returns
    -------
    ndarray of shape (n_texts,)
        Robust z of the corrected logarithms.
    """
    distances = np.asarray(distances, dtype=np.float64)
    known = distances > 0
    logs = np.log(distances, out=np.full(len(distances), np.nan), where=known)
    lengths = np.log(np.asarray(counts, dtype=np.float64))
    if known.sum() >= FEWEST and np.ptp(lengths[known]) > 0:
        order = np.flatnonzero(known)[np.argsort(lengths[known], kind="stable")]
        some = order[np.unique(np.linspace(0, len(order) - 1, _MOST_TEXTS).round().astype(int))]
        slope = float(np.clip(theilslopes(logs[some], lengths[some]).slope, -0.5, 0.0))
        logs = logs - slope * lengths
    return robust_z(logs)
