"""A functional network: one map over neurons with signed weights and, after a threshold, its members."""

from dataclasses import dataclass
from typing import Any

import nibabel as nib
import numpy as np
import pandas as pd

from lmri.exceptions import NotThresholdedError, SpaceMismatchError
from lmri.networks.thresholds import map_scores
from lmri.space import Img, NeuronSpace

LOCALIZER = "localizer"
"""The method whose maps are t."""


@dataclass(frozen=True, eq=False)
class Network:
    """One map over the neurons of a space.

    Parameters
    ----------
    space : NeuronSpace
        The neurons.
    weights : ndarray of shape (n_neurons,)
        Signed, in (layer, neuron) order.
    mask : ndarray of bool, shape (n_neurons,), optional
        Which neurons belong to it; None until it is thresholded. All false is an empty network, and a result.
    name : str
        What tables call it.
    fit_texts : frozenset of str
        Hashes of the texts it was found in.
    kind : {"network", "union", "random", "control"}
        What it is to an evaluation: only networks and unions get matched controls.
    stat : {"z", "t"}
        What the map is shown as: z over neurons or, as for a localizer, whose 0 means no difference, its t.
    """

    space: NeuronSpace
    weights: np.ndarray
    mask: np.ndarray | None = None
    name: str = "network"
    fit_texts: frozenset[str] = frozenset()
    kind: str = "network"
    stat: str = "z"

    def __post_init__(self) -> None:
        for what, values in (("weights", self.weights), ("mask", self.mask)):
            if values is not None and values.shape != (self.space.n_neurons,):
                raise SpaceMismatchError(
                    f"{what} have shape {values.shape}; this space needs ({self.space.n_neurons},), "
                    "in (layer, neuron) order."
                )
        self.space.check_finite(self.weights, f"The map of {self.name!r}")

    @classmethod
    def from_img(cls, img: Img, space: NeuronSpace, name: str = "roi") -> "Network":
        """Read a map that was drawn or picked in a viewer: its non-zero voxels are the members.

        Parameters
        ----------
        img : Nifti1Image or path
            3D, on the grid of `space`.
        space : NeuronSpace
            The neurons.
        name : str
            What tables call it.
        """
        weights = space.from_img(img)
        if weights.ndim == 2 and len(weights) != 1:
            raise ValueError(f"The image has {len(weights)} volumes; one network is one volume. Give a 3D image.")
        weights = weights.reshape(-1)
        return cls(space, weights, weights != 0, name)

    @classmethod
    def from_members(
        cls, space: NeuronSpace, members: np.ndarray, name: str = "network", kind: str = "network"
    ) -> "Network":
        """Make a network of which only the members are known; every weight is 1."""
        members = np.asarray(members, dtype=bool)
        return cls(space, members.astype(np.float32), members, name, kind=kind)

    @property
    def members(self) -> np.ndarray:
        """Which neurons belong to the network: bool, ``(n_neurons,)``.

        Raises
        ------
        NotThresholdedError
            If it has not been thresholded.
        """
        if self.mask is None:
            raise NotThresholdedError(
                f"{self.name!r} is a map with a weight for every neuron; which belong to it is not decided. "
                "Threshold first: networks.threshold(method='z', z=3.0)."
            )
        return self.mask

    @property
    def n_neurons(self) -> int:
        """Number of members."""
        return int(self.members.sum())

    @property
    def img(self) -> nib.Nifti1Image:
        """3D image of the weights; after a threshold, of the members' weights."""
        return self.space.to_img(
            self.weights if self.mask is None else np.where(self.mask, self.weights, 0), "estimate"
        )

    @property
    def z(self) -> np.ndarray:
        """Weights z-scored over all neurons, ``(n_neurons,)``; of a map that is mostly 0, counted from 0."""
        return map_scores(self.weights[None])[0]

    @property
    def strength(self) -> np.ndarray:
        """What images and pages show of the map, ``(n_neurons,)``: z, or t; see `stat`."""
        return self.z if self.stat == "z" else np.asarray(self.weights, dtype=np.float64)

    def neurons(self) -> pd.DataFrame:
        """Table of the members: ``layer, neuron, weight, z`` (or ``t``), the largest absolute z (or t) first."""
        places, strength = np.flatnonzero(self.members), self.strength
        places = places[np.argsort(-np.abs(strength[places]), kind="stable")]
        return pd.DataFrame(
            {
                "layer": self.space.layer_of[places],
                "neuron": self.space.neuron_of[places],
                "weight": self.weights[places],
                self.stat: strength[places],
            }
        )

    def layer_profile(self) -> np.ndarray:
        """Count the members in every layer, ``(n_layers,)``."""
        return self.space.count_per_layer(self.members)

    def view(self, **options: Any) -> Any:
        """Show the map in a notebook, as z or t: of the members, or of all neurons before a threshold.

        Parameters
        ----------
        **options
            As for `nilearn.plotting.view_img`, such as ``threshold=3``.

        Returns
        -------
        StatMapView
            nilearn's: a notebook shows it, ``save_as_html(path)`` and ``open_in_browser()`` do elsewhere.
        """
        from lmri.space.plotting import view  # nilearn and matplotlib take seconds to load

        values = self.strength if self.mask is None else np.where(self.mask, self.strength, 0)
        return view(self.space.to_img(values, self.stat), self.name, **options)

    def __repr__(self) -> str:
        size = "not thresholded" if self.mask is None else f"{self.n_neurons} neurons"
        return f"<Network {self.name!r}: {size}, {self.space.describe()}>"
