"""A functional network: one map over neurons with signed weights and, after a threshold, its members."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import nibabel as nib
import numpy as np
import pandas as pd

from lmri.exceptions import NotThresholdedError, SpaceMismatchError
from lmri.networks.thresholds import map_scores
from lmri.space import Img, NeuronSpace

if TYPE_CHECKING:
    from nilearn.plotting.html_stat_map import StatMapView

LOCALIZER = "localizer"
"""Name of the method whose maps hold t values."""


@dataclass(frozen=True, eq=False)
class Network:
    """One map over the neurons of a space.

    Parameters
    ----------
    space : NeuronSpace
        Neurons that the map covers.
    weights : ndarray of shape (n_neurons,)
        Signed weights, in (layer, neuron) order.
    mask : ndarray of bool, shape (n_neurons,), optional
        Members; None until the map is thresholded. All False is an empty network, which is a valid result.
    name : str
        Name in tables.
    fit_texts : frozenset of str
        Hashes of the texts that the map was fitted on.
    kind : {"network", "union", "random", "control"}
        Role in an evaluation: only networks and unions get matched controls.
    stat : {"z", "t"}
        Statistic that is displayed: z over neurons, or t for a localizer, where 0 means no difference.
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
        """Read a map that was drawn or selected in a viewer; its non-zero voxels are the members.

        Parameters
        ----------
        img : Nifti1Image or path
            3D image on the grid of `space`.
        space : NeuronSpace
            Neurons that the image covers.
        name : str
            Name in tables.
        """
        weights = space.from_img(img)
        if weights.ndim == 2 and len(weights) != 1:
            raise ValueError(f"The image has {len(weights)} volumes; a network has one volume. Pass a 3D image.")
        weights = weights.reshape(-1)
        return cls(space, weights, weights != 0, name)

    @classmethod
    def from_members(
        cls, space: NeuronSpace, members: np.ndarray, name: str = "network", kind: str = "network"
    ) -> "Network":
        """Build a network from its members alone; all weights are 1."""
        members = np.asarray(members, dtype=bool)
        return cls(space, members.astype(np.float32), members, name, kind=kind)

    @property
    def members(self) -> np.ndarray:
        """Members of the network: bool, ``(n_neurons,)``.

        Raises
        ------
        NotThresholdedError
            If the network has not been thresholded.
        """
        if self.mask is None:
            raise NotThresholdedError(
                f"{self.name!r} is a map that has not been thresholded: it has a weight for every neuron, and no "
                "members yet. Threshold first: networks.threshold(method='z', z=3.0)."
            )
        return self.mask

    @property
    def n_neurons(self) -> int:
        """Number of members."""
        return int(self.members.sum())

    @property
    def img(self) -> nib.Nifti1Image:
        """3D image of the weights; after thresholding, only the weights of members."""
        return self.space.to_img(
            self.weights if self.mask is None else np.where(self.mask, self.weights, 0), "estimate"
        )

    @property
    def z(self) -> np.ndarray:
        """Weights z-scored over all neurons, ``(n_neurons,)``; a map that is mostly 0 is scaled without centring."""
        return map_scores(self.weights[None])[0]

    @property
    def strength(self) -> np.ndarray:
        """Values that images and pages display, ``(n_neurons,)``: z or t; see `stat`."""
        return self.z if self.stat == "z" else np.asarray(self.weights, dtype=np.float64)

    def neurons(self) -> pd.DataFrame:
        """Return the table of members: ``layer, neuron, weight, z`` (or ``t``), by decreasing ``|z|`` (or ``|t|``)."""
        order, strength = np.flatnonzero(self.members), self.strength
        order = order[np.argsort(-np.abs(strength[order]), kind="stable")]
        return pd.DataFrame(
            {
                "layer": self.space.layer_of[order],
                "neuron": self.space.neuron_of[order],
                "weight": self.weights[order],
                self.stat: strength[order],
            }
        )

    def layer_profile(self) -> np.ndarray:
        """Count the members in each layer, ``(n_layers,)``."""
        return self.space.count_per_layer(self.members)

    def view(self, **options: Any) -> "StatMapView":
        """Show the map in a notebook as z or t, for members only or, before thresholding, for all neurons.

        Parameters
        ----------
        **options
            Options of `nilearn.plotting.view_img`, such as ``threshold=3``.

        Returns
        -------
        StatMapView
            Viewer of nilearn, displayed by a notebook; elsewhere use ``save_as_html(path)`` or ``open_in_browser()``.
        """
        from lmri.space.plotting import view  # nilearn and matplotlib take seconds to load

        values = self.strength if self.mask is None else np.where(self.mask, self.strength, 0)
        return view(self.space.to_img(values, self.stat), self.name, **options)

    def __repr__(self) -> str:
        size = "not thresholded" if self.mask is None else f"{self.n_neurons} neurons"
        return f"<Network {self.name!r}: {size}, {self.space.describe()}>"
