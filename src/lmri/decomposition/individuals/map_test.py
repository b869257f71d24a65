"""Result of a test of a map over individuals: statistic, p, and the network that passes a threshold."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from lmri.networks import NetworkSet
from lmri.networks.origin import Origin

ALPHA = 0.05


@dataclass(frozen=True, eq=False)
class MapTest:
    """Test of every neuron of every map over texts, corrected by the maximum over neurons.

    Parameters
    ----------
    networks : NetworkSet
        Group maps.
    effect : ndarray of float32, shape (n_networks, n_neurons)
        Difference of means, first group minus second; the mean for a one-sample test.
    t : ndarray of float32, shape (n_networks, n_neurons)
        Ratio of the effect to its standard error over texts.
    p : ndarray of shape (n_networks, n_neurons)
        Two-sided p, corrected for the family.
    family : {"map", "set"}
        Family of the maximum: the neurons of each map, without correction over maps, or of all maps.
    max_t : ndarray of shape (n_permutations, n_networks)
        Null distribution of the largest ``|t|``; the same in every column for ``family="set"``.
    groups : dict
        Names of the individuals in each group.
    p_floor : float
        Smallest possible p with this number of texts and permutations.
    info : dict
        Test, permutations and seed.
    """

    networks: NetworkSet
    effect: np.ndarray
    t: np.ndarray
    p: np.ndarray
    family: str
    max_t: np.ndarray
    groups: Mapping[str, tuple[str, ...]]
    p_floor: float
    info: Mapping[str, Any]

    def threshold(self, alpha: float = ALPHA) -> NetworkSet:
        """Return the t maps as networks whose members have ``p <= alpha``; an empty network is a valid null result."""
        if not self.p_floor <= alpha < 1:
            raise ValueError(
                f"alpha is {alpha}; it must lie between the smallest possible p, {self.p_floor:.3g}, and 1."
            )
        mask = self.p <= alpha
        origin = Origin.of({**self.info, "threshold": {"method": "max_t", "alpha": alpha, "family": self.family}})
        return NetworkSet(
            self.networks.space, self.t, mask, f"{self.networks.method}-{self.info['test']}", origin=origin,
            fit_texts=self.networks.fit_texts,
        )  # fmt: skip

    @property
    def table(self) -> pd.DataFrame:
        """Summary per map, at p <= 0.05: ``network, n_significant, max_abs_t, layer, neuron, p_min, p_floor``."""
        space, best = self.networks.space, np.abs(self.t).argmax(axis=1)
        return pd.DataFrame(
            {
                "network": self.networks.names,
                "n_significant": (self.p <= ALPHA).sum(axis=1),
                "max_abs_t": np.abs(self.t).max(axis=1),
                "layer": space.layer_of[best],
                "neuron": space.neuron_of[best],
                "p_min": self.p.min(axis=1),
                "p_floor": self.p_floor,
            }
        )
