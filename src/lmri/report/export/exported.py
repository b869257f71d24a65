"""Networks of a study that are exported to another program."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from lmri.networks import NetworkSet
from lmri.networks.codec import DecompositionInputs
from lmri.space import NeuronSpace
from lmri.storage.entries import Entry
from lmri.storage.store import Store


@dataclass(frozen=True)
class Exported:
    """Networks to export.

    Parameters
    ----------
    study : Store
        Study with the networks.
    networks : NetworkSet
        Networks, thresholded or not.
    entry : Entry
        Stored entry of the networks.
    decomposition : str
        Name of their decomposition.
    """

    study: Store
    networks: NetworkSet
    entry: Entry
    decomposition: str

    @property
    def space(self) -> NeuronSpace:
        """Space of the neurons."""
        return self.networks.space

    @property
    def source(self) -> Entry:
        """Entry of the decomposition, whose components are in the same order as the networks."""
        return self.study.entries.find("decompositions", self.decomposition, self.entry.site)

    @property
    def corpora(self) -> list[str]:
        """Corpora of the decomposition."""
        return list(DecompositionInputs.of(self.source).corpora)

    @property
    def stat_map(self) -> np.ndarray:
        """Unthresholded maps, ``(n_networks, n_neurons)``: z, or t of a localizer."""
        return self.networks.stat_map

    @property
    def labels(self) -> list[str]:
        """Labels of the networks; empty for networks without a label."""
        metrics = self.networks.metrics
        return [str(label) for label in metrics["label"]] if "label" in metrics else [""] * len(self.networks)

    @property
    def table(self) -> pd.DataFrame:
        """Table with one row per component, numbered from 1 as in FSL, and as a network from 0."""
        columns = self.networks.table if self.networks.is_thresholded else self.networks.metrics.reset_index(drop=True)
        names = pd.DataFrame({"component": np.arange(1, len(self.networks) + 1), "network": self.networks.names})
        return pd.concat([names, columns.drop(columns=["network"], errors="ignore")], axis=1)
