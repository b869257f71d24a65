"""The calibrated threshold: p-values from what the same pipeline finds where nothing is to be found."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from lmri.thresholds.descriptive import _check_share, q_values, z_scores

_EXACT = 20_000


@dataclass(frozen=True, eq=False)
class SurrogateNull:
    """Absolute z-scores of all maps of all surrogates, pooled.

    The largest values are kept one by one, and of the others enough to give p within 1 %, always on the safe side.

    Parameters
    ----------
    z : ndarray of shape (n,)
        Absolute z-scores, the largest first.
    n_at_least : ndarray of int, shape (n,)
        How many of all values are at least as large.
    n_values : int
        How many there are in all.
    n_surrogates : int
        From how many surrogates.
    maxima : ndarray of shape (n_surrogate_maps,)
        The largest absolute z-score of every map of every surrogate.
    """

    z: np.ndarray
    n_at_least: np.ndarray
    n_values: int
    n_surrogates: int
    maxima: np.ndarray

    @classmethod
    def from_maps(cls, maps: list[np.ndarray]) -> "SurrogateNull":
        """Pool maps ``(n_maps, n_neurons)``, one array a surrogate."""
        size = [np.abs(z_scores(one)) for one in maps]
        maxima = np.concatenate([one.max(axis=1) for one in size])
        pooled = np.concatenate([one.ravel() for one in size])
        pooled[::-1].sort()  # the largest first, in place
        n = len(pooled)
        ranks = np.arange(1, min(n, _EXACT) + 1)
        if n > _EXACT:
            steps = np.geomspace(_EXACT, n, 1 + int(np.log(n / _EXACT) / np.log(1.01)))
            ranks = np.unique(np.concatenate([ranks, steps.round().astype(int), [n]]))
        # A tie counts whole: the rank is that of its last value.
        values = pooled[ranks - 1]
        last = n - np.searchsorted(pooled[::-1], values, side="left")
        return cls(values, last, n, len(maps), np.sort(maxima)[::-1])

    def p(self, z: np.ndarray) -> np.ndarray:
        """Give the share of null values at least as large as each ``|z|``: ``(1 + count) / (1 + n_values)``.

        Between two stored values the larger count is taken.
        """
        # z descends: the first stored value that is not above |z| has the count of all values at least as large as it.
        place = np.searchsorted(-self.z, -np.abs(z), side="left")
        exact = np.append(self.z, -np.inf)[place] == np.abs(z)
        below = np.append(self.n_at_least, self.n_values)[place]
        above = np.concatenate([[0], self.n_at_least])[place]
        # Among values that are stored one by one, those above are counted exactly.
        one_by_one = (place < len(self.z)) & (below <= min(_EXACT, self.n_values))
        count = np.where(exact | ~one_by_one, below, above)
        return (1 + count) / (1 + self.n_values)

    def p_of_maps(self, z: np.ndarray) -> np.ndarray:
        """Give, for each map, the share of surrogate maps whose largest ``|z|`` is at least as large as its own.

        Parameters
        ----------
        z : ndarray of shape (n_maps, n_neurons)
            Z-scores of each map over its neurons.
        """
        largest = np.abs(z).max(axis=1)
        return (1 + (self.maxima >= largest[:, None]).sum(axis=1)) / (1 + len(self.maxima))

    def to_table(self) -> pd.DataFrame:
        """Give it as a table; `from_table` is the inverse."""
        return pd.DataFrame({"z": self.z, "n_at_least": self.n_at_least})

    @classmethod
    def from_table(
        cls, table: pd.DataFrame, n_values: int, n_surrogates: int, maxima: Sequence[float]
    ) -> "SurrogateNull":
        """Undo `to_table`."""
        z, n_at_least = table["z"].to_numpy(float), table["n_at_least"].to_numpy(int)
        return cls(z, n_at_least, n_values, n_surrogates, np.asarray(maxima, dtype=float))

    def __repr__(self) -> str:
        return f"<SurrogateNull: {self.n_values} values of {self.n_surrogates} surrogates, up to |z| = {self.z[0]:.1f}>"


def fdr(maps: np.ndarray, null: SurrogateNull, alpha: float = 0.05) -> np.ndarray:
    """Keep what Benjamini and Hochberg's procedure finds within each map that stands out, with p from surrogates.

    A map stands out if its largest ``|z|`` exceeds that of all but a share `alpha` of the surrogates' maps; any other
    keeps nothing. Without this step, maps of very different tails would share out the errors unevenly.

    Parameters
    ----------
    maps : ndarray of shape (n_maps, n_neurons)
        Any units.
    null : SurrogateNull
        Of the same pipeline.
    alpha : float, default=0.05
        Two-sided. Where there is nothing to be found, the share of maps that keep any neuron; elsewhere the false
        discovery rate within each map.

    References
    ----------
    Benjamini & Hochberg (1995). Controlling the false discovery rate. Journal of the Royal Statistical Society B, 57.
    """
    _check_share("alpha", alpha)
    z = z_scores(maps)
    found = np.stack([q_values(row) <= alpha for row in null.p(z)])
    return found & (null.p_of_maps(z) <= alpha)[:, None] & (maps != 0)


def fdr_set(maps: np.ndarray, null: SurrogateNull, alpha: float = 0.05) -> np.ndarray:
    """Keep what Benjamini and Hochberg's procedure finds over all maps together, with p from surrogates.

    Stricter than `fdr` where few maps hold something: a map of which every surrogate has one like it keeps nothing.
    """
    _check_share("alpha", alpha)
    p = null.p(z_scores(maps))
    return (q_values(p.ravel()) <= alpha).reshape(p.shape) & (maps != 0)
