"""Moments of every neuron up to the fourth, merged run by run."""

from dataclasses import dataclass

import numpy as np

from lmri.decomposition.standardization import Moments

_BLOCK = 1024
"""Number of neurons that are converted to double precision at a time."""


@dataclass(frozen=True)
class FourMoments:
    """Sums of powers of deviations from the mean, with extremes; all ``(n_neurons,)``, float64.

    Parameters
    ----------
    n : int
        Number of volumes.
    mean : ndarray
        Mean of each neuron.
    m2, m3, m4 : ndarray
        Sums of second, third and fourth powers of deviations.
    low, high : ndarray
        Smallest and largest value.
    zeros : ndarray
        Number of values that are exactly 0.
    """

    n: int
    mean: np.ndarray
    m2: np.ndarray
    m3: np.ndarray
    m4: np.ndarray
    low: np.ndarray
    high: np.ndarray
    zeros: np.ndarray

    @classmethod
    def of(cls, array: np.ndarray) -> "FourMoments":
        """Compute the moments of one run, ``(n_volumes, n_neurons)``."""
        mean, m2, m3, m4 = np.empty((4, array.shape[1]))
        for first in range(0, array.shape[1], _BLOCK):
            block = slice(first, first + _BLOCK)
            values = array[:, block].astype(np.float64)
            mean[block] = values.mean(axis=0)
            values -= mean[block]
            squares = values**2
            m2[block] = squares.sum(axis=0)
            m3[block] = np.einsum("ij,ij->j", squares, values)
            m4[block] = np.einsum("ij,ij->j", squares, squares)
        low, high = (extreme(axis=0).astype(np.float64) for extreme in (array.min, array.max))
        return cls(len(array), mean, m2, m3, m4, low, high, (array == 0).sum(axis=0))

    def merged(self, other: "FourMoments") -> "FourMoments":
        """Merge with the moments of further volumes.

        References
        ----------
        .. [1] Chan, Golub & LeVeque (1979). Updating formulae and a pairwise algorithm for computing sample variances.
           Stanford University, STAN-CS-79-773.
        .. [2] Pébay (2008). Formulas for robust, one-pass parallel computation of covariances and arbitrary-order
           statistical moments. Sandia National Laboratories, SAND2008-6212.
        """
        a, b, n = float(self.n), float(other.n), float(self.n + other.n)
        delta = other.mean - self.mean
        m2 = self.m2 + other.m2 + delta**2 * a * b / n
        m3 = self.m3 + other.m3 + delta**3 * a * b * (a - b) / n**2 + 3 * delta * (a * other.m2 - b * self.m2) / n
        m4 = (
            self.m4
            + other.m4
            + delta**4 * a * b * (a * a - a * b + b * b) / n**3
            + 6 * delta**2 * (a * a * other.m2 + b * b * self.m2) / n**2
            + 4 * delta * (a * other.m3 - b * self.m3) / n
        )
        return FourMoments(
            self.n + other.n,
            self.mean + delta * b / n,
            m2,
            m3,
            m4,
            np.minimum(self.low, other.low),
            np.maximum(self.high, other.high),
            self.zeros + other.zeros,
        )

    @property
    def variance(self) -> np.ndarray:
        """Variance over volumes, ``(n_neurons,)``."""
        return self.m2 / self.n

    @property
    def sd(self) -> np.ndarray:
        """Standard deviation over volumes, ``(n_neurons,)``."""
        return np.sqrt(self.variance)

    @property
    def dead(self) -> np.ndarray:
        """Whether each neuron is constant, by the rule of the decompositions; False with a single volume."""
        if self.n < 2:
            return np.zeros(len(self.mean), dtype=bool)
        return Moments(self.mean, self.sd, self.n).dead

    @property
    def kurtosis(self) -> np.ndarray:
        """Excess kurtosis, 0 for a Gaussian; NaN for dead neurons, which vary only by rounding errors."""
        varies = ~self.dead & (self.m2 > 0)
        return np.divide(self.n * self.m4, self.m2**2, out=np.full(len(self.mean), np.nan), where=varies) - 3
