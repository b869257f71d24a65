"""Significance relative to controls: permutation p, sequential Monte Carlo p, and max-T adjusted p."""

import numpy as np

ROUNDING = 1e-9
"""Tolerance below which effects count as equal."""


def at_least_as_bad(controls: np.ndarray, network: float, higher_is_better: bool) -> np.ndarray:
    """Compare the harm of controls with the harm of a network: True where it is at least as large, ``(n_controls,)``.

    Parameters
    ----------
    controls : ndarray of shape (n_controls,)
        Differences of the metric from intact.
    network : float
        Difference of the metric from intact for the network.
    higher_is_better : bool
        Whether higher values of the metric are better.
    """
    worse = (controls <= network + ROUNDING) if higher_is_better else (controls >= network - ROUNDING)
    # A control under which the model gives no finite value counts as more harmful than any network.
    return np.asarray(worse | ~np.isfinite(controls))


def permutation_p(bad: np.ndarray) -> float:
    """Compute the Monte Carlo permutation p, (1 + controls at least as harmful) / (1 + controls) [1]_.

    Parameters
    ----------
    bad : ndarray of bool, shape (n_controls,)
        Whether each control is at least as harmful, as returned by `at_least_as_bad`.

    References
    ----------
    .. [1] Phipson and Smyth (2010). Permutation p-values should never be zero. Statistical Applications in Genetics
       and Molecular Biology, 9, 39.
    """
    return float((1 + bad.sum()) / (1 + len(bad)))


def sequential_p(bad: np.ndarray, stop_after: int) -> float:
    """Compute the sequential Monte Carlo p, for draws that stop after enough controls at least as harmful [1]_.

    Parameters
    ----------
    bad : ndarray of bool, shape (n_controls,)
        Whether each control is at least as harmful, in the order of the draws. Draws after the stop, made for another
        task, do not count.
    stop_after : int
        Number h of controls at least as harmful after which counting stops. If it is reached at draw number L, p is h /
        L. If it is not reached in all planned draws, p is (1 + controls at least as harmful) / (1 + draws).

    References
    ----------
    .. [1] Besag and Clifford (1991). Sequential Monte Carlo p-values. Biometrika, 78, 301-304.
    """
    reached = np.flatnonzero(np.cumsum(bad) >= stop_after)
    return float(stop_after / (1 + reached[0])) if reached.size else permutation_p(bad)


def maxt_p(effect: np.ndarray) -> np.ndarray:
    """Compute p adjusted for several networks by the largest effect per joint draw (single-step max-T) [1]_.

    Parameters
    ----------
    harm : ndarray of shape (1 + n_draws, n_networks)
        Effects of the networks in the first row, and of their jointly drawn controls in each further row; larger is
        worse.

    Returns
    -------
    ndarray of shape (n_networks,)
        Share of rows, including the row of the networks, whose largest effect is at least as large as the network's
        effect: the probability that any of this number of random sets reaches such an effect. Effects are standardized
        over all rows, so that the rows are exchangeable. NaN if the network's effect is missing, or if all rows are
        equal.

    References
    ----------
    .. [1] Westfall and Young (1993). Resampling-based multiple testing. Wiley.
    """
    finite = np.isfinite(effect)
    broken = np.where(finite, effect, -np.inf).max(axis=0, initial=-np.inf)
    # A control under which the model gives no finite value counts as the largest effect, so that no network exceeds it.
    filled = np.where(finite, effect, np.where(np.isfinite(broken), broken, 0.0))
    spread = filled.std(axis=0)
    usable = finite[0] & (spread > ROUNDING)
    adjusted = np.full(effect.shape[1], np.nan)
    if usable.any():
        scaled = (filled[:, usable] - filled[:, usable].mean(axis=0)) / spread[usable]
        scaled[~finite[:, usable]] = np.inf
        largest = scaled.max(axis=1)
        adjusted[usable] = (largest[:, None] >= scaled[0] - ROUNDING).mean(axis=0)
    return adjusted
