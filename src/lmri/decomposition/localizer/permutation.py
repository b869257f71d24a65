"""Relabellings of texts, and t of a contrast for many relabellings at once."""

import itertools
from collections.abc import Iterator, Sequence

import numpy as np
from scipy.linalg import null_space

from lmri.decomposition.individuals.t_statistics import two_sample_t


def contrast_t(Y: np.ndarray, codes: np.ndarray, weights: Sequence[float]) -> np.ndarray:
    """Compute t of a contrast for every column and many labellings at once.

    Parameters
    ----------
    Y : ndarray of shape (n, n_neurons)
        Data, one row per text.
    codes : ndarray of int, shape (n_labellings, n)
        Condition of every text; each condition has the same size in every labelling.
    weights : sequence of float
        Weights of the conditions.

    Returns
    -------
    ndarray of shape (n_labellings, n_neurons)
        t; 0 for constant columns.
    """
    if len(weights) == 2:
        return float(np.sign(weights[0])) * two_sample_t(Y, codes == 0)
    return weighted_t(Y, codes, weights)


def weighted_t(Y: np.ndarray, codes: np.ndarray, weights: Sequence[float]) -> np.ndarray:
    """Compute t of a contrast of any number of conditions with separate variances; see `contrast_t`."""
    Y = Y - Y.mean(axis=0)
    squares = Y**2
    effect, variance = np.zeros((len(codes), Y.shape[1])), np.zeros((len(codes), Y.shape[1]))
    for code, weight in enumerate(weights):
        picked = (codes == code).astype(np.float64)
        n = picked[0].sum()
        mean = picked @ Y / n
        effect += weight * mean
        variance += weight**2 * (picked @ squares - n * mean**2) / (n - 1) / n
    # Variances are clipped at rounding error of the sums of squares, as in `two_sample_t`.
    error = np.sqrt(np.maximum(variance, 1e-12 * squares.sum(axis=0)))
    return np.divide(effect, error, out=np.zeros_like(effect), where=error > 0)


def without_contrast(Y: np.ndarray, codes: np.ndarray, weights: Sequence[float]) -> np.ndarray:
    """Fit means of conditions whose contrast is 0, ``(n, n_neurons)``; for two conditions, the common mean."""
    design = (codes[:, None] == np.arange(len(weights))) @ null_space(np.array([weights]))
    return np.asarray(design @ np.linalg.lstsq(design, Y, rcond=None)[0])


def arrangements(counts: list[int]) -> Iterator[np.ndarray]:
    """Yield every distinct labelling of `sum(counts)` texts, with each code for `counts[code]` of them."""
    n = sum(counts)

    def label(free: tuple[int, ...], code: int, labels: np.ndarray) -> Iterator[np.ndarray]:
        if code == len(counts) - 1:
            labels[list(free)] = code
            yield labels.copy()
            return
        for chosen in itertools.combinations(free, counts[code]):
            labels[list(chosen)] = code
            yield from label(tuple(text for text in free if text not in chosen), code + 1, labels)

    yield from label(tuple(range(n)), 0, np.zeros(n, dtype=int))


def n_same(counts: list[int], weights: Sequence[float], tail: str) -> int:
    """Count the permutations of whole conditions that do not change t, or for two tails its absolute value."""
    if len(counts) > 6:  # a few are negligible among this number of relabellings
        return 1
    n_equal = 0
    for order in itertools.permutations(range(len(counts))):
        if [counts[code] for code in order] != counts:
            continue
        moved = [weights[code] for code in order]
        n_equal += moved == list(weights) or (tail == "two" and moved == [-weight for weight in weights])
    return n_equal
