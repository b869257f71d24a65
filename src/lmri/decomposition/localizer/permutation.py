"""Relabellings of texts, and t of a contrast for many of them at once."""

import itertools
from collections.abc import Iterator, Sequence

import numpy as np
from scipy.linalg import null_space

from lmri.decomposition.individuals.inference import two_sample_t


def contrast_t(Y: np.ndarray, codes: np.ndarray, weights: Sequence[float]) -> np.ndarray:
    """Compute t of a contrast at every column, for many labellings at once.

    Parameters
    ----------
    Y : ndarray of shape (n, n_neurons)
        A row a text.
    codes : ndarray of int, shape (n_labellings, n)
        Condition of every text; as many of each in every labelling.
    weights : sequence of float
        Of the conditions.

    Returns
    -------
    ndarray of shape (n_labellings, n_neurons)
        0 where a column does not vary.
    """
    if len(weights) == 2:
        return float(np.sign(weights[0])) * two_sample_t(Y, codes == 0)
    return weighted_t(Y, codes, weights)


def weighted_t(Y: np.ndarray, codes: np.ndarray, weights: Sequence[float]) -> np.ndarray:
    """Compute t of a contrast of any number of conditions, each with a variance of its own; see `contrast_t`."""
    Y = Y - Y.mean(axis=0)
    squares = Y**2
    effect, variance = np.zeros((len(codes), Y.shape[1])), np.zeros((len(codes), Y.shape[1]))
    for code, weight in enumerate(weights):
        picked = (codes == code).astype(np.float64)
        n = picked[0].sum()
        mean = picked @ Y / n
        effect += weight * mean
        variance += weight**2 * (picked @ squares - n * mean**2) / (n - 1) / n
    # What is below rounding of the sums of squares is set to it, as in `two_sample_t`.
    error = np.sqrt(np.maximum(variance, 1e-12 * squares.sum(axis=0)))
    return np.divide(effect, error, out=np.zeros_like(effect), where=error > 0)


def without_contrast(Y: np.ndarray, codes: np.ndarray, weights: Sequence[float]) -> np.ndarray:
    """Fit means of conditions of which the contrast is 0: ``(n, n_neurons)``; for two conditions, the mean of all."""
    design = (codes[:, None] == np.arange(len(weights))) @ null_space(np.array([weights]))
    return np.asarray(design @ np.linalg.lstsq(design, Y, rcond=None)[0])


def arrangements(counts: list[int]) -> Iterator[np.ndarray]:
    """Give every distinct way to label `sum(counts)` texts, `counts[code]` of them with each code."""
    n = sum(counts)

    def place(free: tuple[int, ...], code: int, labels: np.ndarray) -> Iterator[np.ndarray]:
        if code == len(counts) - 1:
            labels[list(free)] = code
            yield labels.copy()
            return
        for chosen in itertools.combinations(free, counts[code]):
            labels[list(chosen)] = code
            yield from place(tuple(one for one in free if one not in chosen), code + 1, labels)

    yield from place(tuple(range(n)), 0, np.zeros(n, dtype=int))


def n_same(counts: list[int], weights: Sequence[float], tail: str) -> int:
    """Count the ways to exchange whole conditions that leave t, or for both tails its size, as it is."""
    if len(counts) > 6:  # then there are so many relabellings that a few make no difference
        return 1
    found = 0
    for order in itertools.permutations(range(len(counts))):
        if [counts[code] for code in order] != counts:
            continue
        moved = [weights[code] for code in order]
        found += moved == list(weights) or (tail == "two" and moved == [-weight for weight in weights])
    return found
