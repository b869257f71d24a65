"""t statistics of every neuron for many permutations of labels or signs at once."""

import numpy as np


def two_sample_t(Y: np.ndarray, labels: np.ndarray, pooled_variance: bool = False) -> np.ndarray:
    """Compute t of every column for many labellings at once.

    Parameters
    ----------
    Y : ndarray of shape (n, n_neurons)
        Data, one row per text.
    labels : ndarray of bool, shape (n_labellings, n)
        Membership of each text in the first group, which has the same size in every labelling.
    pooled_variance : bool
        Whether t is Student's instead of Welch's.

    Returns
    -------
    ndarray of shape (n_labellings, n_neurons)
        t of the first group minus the second; 0 for constant columns.
    """
    n, n_first = len(Y), int(labels[0].sum())
    n_second = n - n_first
    Y = Y - Y.mean(axis=0)
    squares = Y**2
    total, total_squares = Y.sum(axis=0), squares.sum(axis=0)
    picked = labels.astype(np.float64)
    sums, sums_squares = picked @ Y, picked @ squares
    first, second = sums / n_first, (total - sums) / n_second
    spread_first = sums_squares - n_first * first**2
    spread_second = (total_squares - sums_squares) - n_second * second**2
    if pooled_variance:
        variance = (spread_first + spread_second) / (n - 2) * (1 / n_first + 1 / n_second)
    else:
        variance = spread_first / (n_first - 1) / n_first + spread_second / (n_second - 1) / n_second
    return _over_error(first - second, variance, total_squares)


def one_sample_t(Y: np.ndarray, signs: np.ndarray) -> np.ndarray:
    """Compute t of every column against 0 for many sign flips at once: ``(n_flips, n_neurons)``."""
    n = len(Y)
    squares = (Y**2).sum(axis=0)
    mean = signs @ Y / n
    variance = (squares - n * mean**2) / (n - 1) / n
    return _over_error(mean, variance, squares)


def _over_error(effect: np.ndarray, variance: np.ndarray, squares: np.ndarray) -> np.ndarray:
    """Divide effects by their standard errors; 0 without error."""
    # Variances are differences of sums of squares, so they are clipped at rounding error; t is at most about 1e6.
    error = np.sqrt(np.maximum(variance, 1e-12 * squares))
    return np.divide(effect, error, out=np.zeros_like(effect), where=error > 0)
