"""Thresholds computed from the maps alone; none of them tests whether a map contains signal."""

import numpy as np
import scipy  # loads submodules on first use; describing thresholds on the command line needs none

from lmri.networks.thresholds.method import ThresholdMethod


def z_scores(maps: np.ndarray) -> np.ndarray:
    """Z-score each map over its neurons; the scores of a constant map are 0.

    Parameters
    ----------
    maps : ndarray of shape (n_maps, n_neurons)
        Maps in any units.

    Returns
    -------
    ndarray of shape (n_maps, n_neurons)
        Scores, as float64.
    """
    centred = maps - maps.mean(axis=1, keepdims=True, dtype=np.float64)
    return _divide(centred, centred.std(axis=1, keepdims=True))


def map_scores(maps: np.ndarray) -> np.ndarray:
    """Z-score each map over its neurons, as used by thresholds, images and tables.

    A map that is exactly 0 at most neurons, such as a map of dictionary learning, is scaled without subtracting its
    mean: neurons of weight 0 keep the score 0, and scores keep the signs of the weights.

    Parameters
    ----------
    maps : ndarray of shape (n_maps, n_neurons)
        Maps in any units.

    Returns
    -------
    ndarray of shape (n_maps, n_neurons)
        Scores, as float64.
    """
    scores = z_scores(maps)
    sparse = (maps == 0).mean(axis=1) > 0.5
    sparse_maps = np.asarray(maps[sparse], dtype=np.float64)
    scores[sparse] = _divide(sparse_maps, np.sqrt((sparse_maps * sparse_maps).mean(axis=1, keepdims=True)))
    return scores


def robust_z_scores(maps: np.ndarray) -> np.ndarray:
    """Z-score each map by its median and its median absolute deviation (MAD), scaled to the SD of a Gaussian."""
    maps = np.asarray(maps, dtype=np.float64)
    centred = maps - np.median(maps, axis=1, keepdims=True)
    mad = np.median(np.abs(centred), axis=1, keepdims=True)
    return _divide(centred, mad / scipy.stats.norm.ppf(0.75))


def _divide(centred: np.ndarray, scale: np.ndarray) -> np.ndarray:
    return np.divide(centred, scale, out=np.zeros_like(centred), where=scale > 0)


def z(maps: np.ndarray, z: float = 3.0) -> np.ndarray:
    """Keep neurons whose absolute z-score over the map exceeds `z`."""
    _check_positive("z", z)
    return np.abs(map_scores(maps)) > z


def z_positive(maps: np.ndarray, z: float = 1.96) -> np.ndarray:
    """Keep neurons whose z-score over the map exceeds `z`, as in the paper; depends on the sign of the map."""
    _check_positive("z", z)
    return map_scores(maps) > z


def robust_z(maps: np.ndarray, z: float = 3.0) -> np.ndarray:
    """Keep neurons whose absolute robust z-score over the map exceeds `z`."""
    _check_positive("z", z)
    return np.abs(robust_z_scores(maps)) > z


def top(maps: np.ndarray, share: float = 0.01) -> np.ndarray:
    """Keep the given share of neurons with the largest absolute weights in each map, at least one, but never zeros."""
    _check_share("share", share)
    size = np.abs(maps)
    n_kept = max(1, round(share * maps.shape[1]))
    members = np.zeros(maps.shape, dtype=bool)
    # The sort is stable, so that ties stay in neuron order and the count is exact.
    largest = np.argsort(-size, axis=1, kind="stable")[:, :n_kept]
    np.put_along_axis(members, largest, True, axis=1)
    return members & (size > 0)


def support(maps: np.ndarray) -> np.ndarray:
    """Keep every neuron whose weight is not zero, as determined by a sparse decomposition."""
    return maps != 0


def auto(maps: np.ndarray, ratio: float = 1.0) -> np.ndarray:
    """Keep the ``ratio * n_neurons`` largest ``|weights|`` over all maps, as in nilearn's ``threshold="auto"``."""
    _check_positive("ratio", ratio)
    size = np.abs(maps)
    n_kept = min(size.size, max(1, round(ratio * maps.shape[1])))
    cut = np.partition(size.ravel(), size.size - n_kept)[size.size - n_kept]
    return (size >= cut) & (size > 0)


def fdr_gaussian(maps: np.ndarray, alpha: float = 0.05) -> np.ndarray:
    """Keep neurons that are significant in each map (Benjamini-Hochberg) if z-scores over neurons are Gaussian.

    Parameters
    ----------
    maps : ndarray of shape (n_maps, n_neurons)
        Maps in any units.
    alpha : float
        Nominal false discovery rate within each map, two-sided.

    References
    ----------
    Benjamini & Hochberg (1995). Controlling the false discovery rate. Journal of the Royal Statistical Society B, 57.
    """
    _check_share("alpha", alpha)
    p = 2 * scipy.stats.norm.sf(np.abs(map_scores(maps)))
    return np.stack([q_values(row) <= alpha for row in p])


def q_values(p: np.ndarray) -> np.ndarray:
    """Adjust p-values by the procedure of Benjamini and Hochberg.

    Parameters
    ----------
    p : ndarray of shape (n,)
        P-values of one family. Missing values (NaN) are not counted as tests, and their q-value is missing.

    Returns
    -------
    ndarray of shape (n,)
        Smallest false discovery rate at which each test is significant.

    Examples
    --------
    >>> q_values(np.array([0.01, 0.5, 0.02])).round(3).tolist()
    [0.03, 0.5, 0.03]
    """
    adjusted, tested = np.full(len(p), np.nan), np.flatnonzero(np.isfinite(p))
    order = tested[np.argsort(p[tested])]
    stepped = p[order] * len(order) / np.arange(1, len(order) + 1)
    adjusted[order] = np.minimum.accumulate(stepped[::-1])[::-1].clip(max=1)
    return adjusted


def _check_positive(name: str, value: float) -> None:
    if not value > 0:
        raise ValueError(f"The threshold {name} is {value}; it must be above 0.")


def _check_share(name: str, value: float) -> None:
    if not 0 < value < 1:
        raise ValueError(f"{name} is {value}; it must be between 0 and 1.")


_DESCRIPTIVE = "this threshold is descriptive and does not control an error rate"

Z = ThresholdMethod(
    "z",
    z,
    "two-sided, z over the neurons of each map; descriptive, no error rate is controlled",
    "by z",
    sentence="Neurons with |z| > {value} were selected, where z is the weight standardized over the neurons of the "
    f"map; {_DESCRIPTIVE}",
)

Z_POSITIVE = ThresholdMethod(
    "z_positive",
    z_positive,
    "one-sided, z over the neurons of each map, as in the paper; depends on the sign; no error rate is controlled",
    "by positive z",
    sentence="Neurons with z > {value} were selected, where z is the weight standardized over the neurons of the map; "
    "this threshold depends on the sign of the map and does not control an error rate",
)

ROBUST_Z = ThresholdMethod(
    "robust_z",
    robust_z,
    "two-sided, z over the neurons of each map from median and MAD; descriptive, no error rate is controlled",
    "by robust z",
    sentence="Neurons with |z| > {value} were selected, where z is the weight standardized by the median and the "
    f"median absolute deviation over the neurons of the map; {_DESCRIPTIVE}",
)

TOP = ThresholdMethod(
    "top",
    top,
    "a fixed share of the neurons of each map; a quota that keeps as many neurons in noise",
    "at the strongest {percent} % of all neurons",
    sentence="The {percent} % of neurons with the largest absolute weights were selected in each map; this quota does "
    "not control an error rate",
)

SUPPORT = ThresholdMethod(
    "support",
    support,
    "all weights that are not 0; the sparsity of the decomposition determines their number",
    "by every weight that is not 0",
    sentence="All neurons with nonzero weights were selected",
)

AUTO = ThresholdMethod(
    "auto",
    auto,
    "nilearn's quota over all maps, which keeps as many neurons in noise",
    "by a quota",
    sentence="Neurons were selected by nilearn's quota over all maps (ratio {value}), which does not control an error "
    "rate",
)

FDR_GAUSSIAN = ThresholdMethod(
    "fdr_gaussian",
    fdr_gaussian,
    "two-sided FDR, treating z over the neurons of each map as Gaussian; a heuristic, not calibrated for heavy tails",
    "at a false discovery rate of {value}",
    note="as if Gaussian",
    sentence="Neurons were selected at a two-sided false discovery rate of {value} within their map, treating the "
    "standardized weights as Gaussian; this heuristic is not calibrated for heavy-tailed maps",
)
