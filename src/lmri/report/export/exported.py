"""Networks of a study that are to be written for another program."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from lmri.networks import NetworkSet
from lmri.networks.stored import DecompositionInputs
from lmri.space import NeuronSpace
from lmri.storage.entries import Entry
from lmri.storage.store import Store


@dataclass(frozen=True)
class Exported:
    """Networks that are to be written.

    Parameters
    ----------
    study : Store
        They are of.
    networks : NetworkSet
        Thresholded or not.
    entry : Entry
        They are stored as.
    decomposition : str
        That they come from.
    """

    study: Store
    networks: NetworkSet
    entry: Entry
    decomposition: str

    @property
    def space(self) -> NeuronSpace:
        """Their neurons."""
        return self.networks.space

    @property
    def source(self) -> Entry:
        """The decomposition, whose order of components is theirs."""
        return self.study.entries.find("decompositions", self.decomposition, self.entry.site)

    @property
    def corpora(self) -> list[str]:
        """What they were found in."""
        return list(DecompositionInputs.of(self.source).corpora)

    @property
    def strength(self) -> np.ndarray:
        """Unthresholded maps, ``(n_networks, n_neurons)``: z, or t of a localizer."""
        return self.networks.strength

    @property
    def labels(self) -> list[str]:
        """What people call them; empty where nobody has said."""
        metrics = self.networks.metrics
        return [str(label) for label in metrics["label"]] if "label" in metrics else [""] * len(self.networks)

    @property
    def table(self) -> pd.DataFrame:
        """A row a component, counted from 1 as FSL does and, as a network, from 0."""
        own = self.networks.table if self.networks.is_thresholded else self.networks.metrics.reset_index(drop=True)
        names = pd.DataFrame({"component": np.arange(1, len(self.networks) + 1), "network": self.networks.names})
        return pd.concat([names, own.drop(columns=["network"], errors="ignore")], axis=1)
