"""Robust scores: how far a value lies from the others, in a unit that outliers do not stretch."""

import numpy as np
from scipy.stats import theilslopes

OUTLYING = 3.5
"""Robust z beyond which a value is flagged (Iglewicz & Hoaglin, 1993); 0.02 % of Gaussian values on either side."""

FEWEST = 10
"""Of fewer values none is flagged: their median absolute deviation is small by accident too often."""

_TO_SD, _MEAN_TO_SD = 1.482602218505602, 1.2533141373155001
_ROUNDING = 1e-6
"""Of the median: float32 tells no smaller differences apart."""

_HALVINGS = 60

_MOST_TEXTS = 1000
"""Pairs of so many texts give the slope over length."""


def spread(values: np.ndarray) -> float:
    """Give the median absolute deviation, scaled to a Gaussian's sd.

    If more than half of the values are the same it is 0; then the mean absolute deviation stands in, scaled likewise.
    """
    if not len(values):
        return 0.0
    deviations = np.abs(values - np.median(values))
    middle = _TO_SD * float(np.median(deviations))
    return middle or _MEAN_TO_SD * float(deviations.mean(dtype=np.float64))


def robust_z(values: np.ndarray) -> np.ndarray:
    """Score values by their distance from the median, in units of `spread`.

    Parameters
    ----------
    values : ndarray of shape (n,)
        Values that are not finite are passed over.

    Returns
    -------
    ndarray of shape (n,)
        NaN where there is no value, and everywhere if fewer than `FEWEST` are left.

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
    """Score means of unlike numbers of values: those of few scatter more, and must not be flagged for that.

    Parameters
    ----------
    means : ndarray of shape (n_texts,)
        Mean of each text.
    within : float
        Variance of single values within texts.
    counts : ndarray of shape (n_texts,)
        Values of each text.

    Returns
    -------
    ndarray of shape (n_texts,)
        Robust z of ``(mean - median) / sqrt(between + within / count)``; the variance between texts is that at which
        the spread of these is 1, or 0.
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
    """Score distances of text means from the mean pattern; short texts are further away by chance alone.

    The logarithm of the distance falls with that of the length, with slope -1/2 for noise and 0 for differences between
    texts. The slope is estimated (Theil-Sen), kept between these two, and taken out.

    Parameters
    ----------
    distances : ndarray of shape (n_texts,)
        Above 0, or 0 where nothing varies.
    counts : ndarray of shape (n_texts,)
        Volumes of each text.

    Returns
    -------
    ndarray of shape (n_texts,)
        Robust z of what is left.
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
