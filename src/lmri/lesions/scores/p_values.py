"""Significance beside controls: p by counting, p where counting stopped early, and p of the largest of many effects."""

import numpy as np

ROUNDING = 1e-9
"""Effects that differ by less count as equal."""


def at_least_as_bad(controls: np.ndarray, network: float, higher_is_better: bool) -> np.ndarray:
    """Say which controls do at least as much harm as a network: bool, ``(n_controls,)``.

    Parameters
    ----------
    controls : ndarray of shape (n_controls,)
        Differences of the metric from intact.
    network : float
        That of the network.
    higher_is_better : bool
        Of the metric.
    """
    worse = (controls <= network + ROUNDING) if higher_is_better else (controls >= network - ROUNDING)
    # A control that breaks the model does more harm than any number can say.
    return np.asarray(worse | ~np.isfinite(controls))


def permutation_p(bad: np.ndarray) -> float:
    """Compute (1 + controls at least as bad) / (1 + controls) [1]_.

    Parameters
    ----------
    bad : ndarray of bool, shape (n_controls,)
        As `at_least_as_bad` gives it.

    References
    ----------
    .. [1] Phipson and Smyth (2010). Permutation p-values should never be zero. Statistical Applications in Genetics
       and Molecular Biology, 9, 39.
    """
    return float((1 + bad.sum()) / (1 + len(bad)))


def sequential_p(bad: np.ndarray, stop_after: int) -> float:
    """Compute p of a count that stops as soon as enough controls were at least as bad [1]_.

    Parameters
    ----------
    bad : ndarray of bool, shape (n_controls,)
        In the order in which controls were drawn; what was drawn after the stop, for the sake of another task, does not
        count.
    stop_after : int
        Controls at least as bad with which counting stops, h. If they come with draw number L, p is h / L. If all
        draws that were planned are made before, p is (1 + controls at least as bad) / (1 + draws).

    References
    ----------
    .. [1] Besag and Clifford (1991). Sequential Monte Carlo p-values. Biometrika, 78, 301-304.
    """
    reached = np.flatnonzero(np.cumsum(bad) >= stop_after)
    return float(stop_after / (1 + reached[0])) if reached.size else permutation_p(bad)


def maxt_p(effect: np.ndarray) -> np.ndarray:
    """Adjust p of several networks by the largest effect in each joint draw of controls (single-step max-T) [1]_.

    Parameters
    ----------
    harm : ndarray of shape (1 + n_draws, n_networks)
        What the networks do, and in each further row controls of all of them that were drawn together; more is worse.

    Returns
    -------
    ndarray of shape (n_networks,)
        Share of rows, the networks' own among them, whose largest harm is at least that of the network: the chance
        that any of so many sets of neurons would stand out as much. Harm is measured in standard deviations over all
        rows, the same in each, so that no row is special. Missing where a network's own harm is, or where no row
        differs from any other.

    References
    ----------
    .. [1] Westfall and Young (1993). Resampling-based multiple testing. Wiley.
    """
    finite = np.isfinite(effect)
    broken = np.where(finite, effect, -np.inf).max(axis=0, initial=-np.inf)
    # A control that breaks the model stands as high as the highest: nothing can be said to exceed it.
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
