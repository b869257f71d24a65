"""Calibrated thresholds: p-values from applying the same pipeline to surrogate data without co-activation."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import pandas as pd

from lmri.networks.thresholds.descriptive import _check_share, map_scores, q_values
from lmri.networks.thresholds.method import ThresholdMethod

_EXACT = 20_000

_LARGEST_ALPHA = 0.5


@dataclass(frozen=True, eq=False)
class SurrogateNull:
    """Pooled absolute z-scores of all maps of all surrogates.

    The largest values are stored individually. Smaller values are subsampled so that p is accurate within 1 % and
    never too small.

    Parameters
    ----------
    z : ndarray of shape (n,)
        Absolute z-scores in descending order.
    n_at_least : ndarray of int, shape (n,)
        Number of pooled values that are at least as large.
    n_values : int
        Number of pooled values.
    n_surrogates : int
        Number of surrogates.
    smallest_q : ndarray of shape (n_surrogate_maps,)
        Smallest adjusted p-value within every map of every surrogate, in ascending order.
    """

    z: np.ndarray
    n_at_least: np.ndarray
    n_values: int
    n_surrogates: int
    smallest_q: np.ndarray

    @classmethod
    def from_maps(cls, maps: list[np.ndarray]) -> "SurrogateNull":
        """Pool maps ``(n_maps, n_neurons)``, one array per surrogate."""
        size = np.concatenate([np.abs(map_scores(surrogate)) for surrogate in maps])  # (n_surrogate_maps, n_neurons)
        pooled = size.ravel().copy()
        pooled[::-1].sort()  # the largest first, in place
        n = len(pooled)
        ranks = np.arange(1, min(n, _EXACT) + 1)
        if n > _EXACT:
            steps = np.geomspace(_EXACT, n, 1 + int(np.log(n / _EXACT) / np.log(1.01)))
            ranks = np.unique(np.concatenate([ranks, steps.round().astype(int), [n]]))
        # Ties are counted completely: the rank of a value is the rank of its last tie.
        values = pooled[ranks - 1]
        last = n - np.searchsorted(pooled[::-1], values, side="left")
        null = cls(values, last, n, len(maps), np.empty(0))
        return replace(null, smallest_q=np.sort([null.smallest_q_of(row, is_own=True) for row in size]))

    def p(self, z: np.ndarray) -> np.ndarray:
        """Compute the share of null values at least as large as each ``|z|``: ``(1 + count) / (1 + n_values)``.

        Between two stored values the larger count is used.
        """
        # z is descending: the first stored value not above |z| has the count of all values at least as large as itself.
        index = np.searchsorted(-self.z, -np.abs(z), side="left")
        exact = np.append(self.z, -np.inf)[index] == np.abs(z)
        count_at_least = np.append(self.n_at_least, self.n_values)[index]
        count_above = np.concatenate([[0], self.n_at_least])[index]
        # Among values that are stored individually, larger values are counted exactly.
        one_by_one = (index < len(self.z)) & (count_at_least <= min(_EXACT, self.n_values))
        count = np.where(exact | ~one_by_one, count_at_least, count_above)
        return (1 + count) / (1 + self.n_values)

    def smallest_q_of(self, z: np.ndarray, is_own: bool = False) -> float:
        """Compute the smallest adjusted p-value within one map, which is Simes' p-value of the whole map.

        Values above 0.5 are not computed, and returned as 1.

        Parameters
        ----------
        z : ndarray of shape (n_neurons,)
            Z-scores of the map.
        is_own : bool, default=False
            Whether the map is one of the pooled maps; it is then compared with the other pooled maps only, as any other
            map is.
        """
        large = np.abs(z)
        large = np.sort(large[large >= self._z_floor])[::-1]
        if not len(large):
            return 1.0
        ranks = np.arange(1, len(large) + 1)
        p = self.p(large)
        if is_own and self.n_values > len(z):
            p = (p * (1 + self.n_values) - ranks).clip(min=1) / (1 + self.n_values - len(z))
        stepped = float((p * len(z) / ranks).min())
        return stepped if stepped <= _LARGEST_ALPHA else 1.0

    @cached_property
    def _z_floor(self) -> float:
        """Value exceeded by half of the pooled values: no neuron below it has an adjusted p of 0.5 or less."""
        index = int(np.searchsorted(self.n_at_least, _LARGEST_ALPHA * (1 + self.n_values)))
        return float(self.z[min(index, len(self.z) - 1)])

    def p_of_maps(self, z: np.ndarray) -> np.ndarray:
        """Compute for each map the share of surrogate maps whose smallest adjusted p is at most as large as its own.

        Parameters
        ----------
        z : ndarray of shape (n_maps, n_neurons)
            Z-scores of each map over its neurons.
        """
        smallest = np.array([self.smallest_q_of(row) for row in z])
        count = np.searchsorted(self.smallest_q, smallest, side="right")
        return (1 + count) / (1 + len(self.smallest_q))

    def to_table(self) -> pd.DataFrame:
        """Convert the null distribution to a table; `from_table` is the inverse."""
        return pd.DataFrame({"z": self.z, "n_at_least": self.n_at_least})

    @classmethod
    def from_table(
        cls, table: pd.DataFrame, n_values: int, n_surrogates: int, smallest_q: Sequence[float]
    ) -> "SurrogateNull":
        """Build the null distribution from a table of `to_table`."""
        z, n_at_least = table["z"].to_numpy(float), table["n_at_least"].to_numpy(int)
        return cls(z, n_at_least, n_values, n_surrogates, np.asarray(smallest_q, dtype=float))

    def __repr__(self) -> str:
        return f"<SurrogateNull: {self.n_values} values of {self.n_surrogates} surrogates, up to |z| = {self.z[0]:.1f}>"


def fdr(maps: np.ndarray, null: SurrogateNull, alpha: float = 0.05) -> np.ndarray:
    """Keep neurons that are significant (Benjamini-Hochberg) within each significant map, with p from surrogates.

    The significance of maps is determined by the same procedure over all maps: p of a map is the share of surrogate
    maps whose smallest adjusted p is at most as large. All other maps have no members. Without this step, errors would
    be distributed unevenly over maps with very different tails.

    Parameters
    ----------
    maps : ndarray of shape (n_maps, n_neurons)
        Maps in any units.
    null : SurrogateNull
        Null distribution of the same pipeline.
    alpha : float, default=0.05
        False discovery rate over maps, and within each significant map (two-sided).

    References
    ----------
    Benjamini & Hochberg (1995). Controlling the false discovery rate. Journal of the Royal Statistical Society B, 57.
    """
    _check_share("alpha", alpha)
    z = map_scores(maps)
    significant = np.stack([q_values(row) <= alpha for row in null.p(z)])
    return significant & (q_values(null.p_of_maps(z)) <= alpha)[:, None] & (maps != 0)


def fdr_set(maps: np.ndarray, null: SurrogateNull, alpha: float = 0.05) -> np.ndarray:
    """Keep neurons that are significant (Benjamini-Hochberg) over all maps together, with p from surrogates.

    This is stricter than `fdr` if few maps contain signal: a map that resembles a map of every surrogate has no
    members.
    """
    _check_share("alpha", alpha)
    p = null.p(map_scores(maps))
    return (q_values(p.ravel()) <= alpha).reshape(p.shape) & (maps != 0)


FDR = ThresholdMethod(
    "fdr",
    fdr,
    "two-sided FDR within each map that is significant as a whole; p-values from the same pipeline applied to "
    "surrogates, in which every neuron is circularly shifted independently",
    "at a false discovery rate of {value}",
    calibrated=True,
    sentence="Neurons were selected at a two-sided false discovery rate of {value} within their map, in maps that were "
    "significant as a whole at the same rate; p-values were computed from the surrogates",
)

FDR_SET = ThresholdMethod(
    "fdr_set",
    fdr_set,
    "two-sided FDR over all maps together; p-values from the same pipeline applied to surrogates, in which every "
    "neuron is circularly shifted independently",
    "at a false discovery rate of {value} over all maps",
    calibrated=True,
    sentence="Neurons were selected at a two-sided false discovery rate of {value} over all maps together; p-values "
    "were computed from the surrogates",
)
