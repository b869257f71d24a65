"""A functional network: one map over neurons with signed weights and, after a threshold, its members."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import nibabel as nib
import numpy as np
import pandas as pd

from lmri.exceptions import SpaceMismatchError
from lmri.networks.former_names import FormerAttribute, accept_former
from lmri.networks.members import Members, members_or_none
from lmri.networks.thresholds import map_scores
from lmri.space import Img, NeuronSpace

if TYPE_CHECKING:
    from nilearn.plotting.html_stat_map import StatMapView

LOCALIZER = "localizer"
"""Name of the method whose maps hold t values."""


@accept_former(mask="members", stat="stat_type")
@dataclass(frozen=True, eq=False)
class Network:
    """One map over the neurons of a space.

    Parameters
    ----------
    space : NeuronSpace
        Neurons that the map covers.
    weights : ndarray of shape (n_neurons,)
        Signed weights, in (layer, neuron) order.
    members : ndarray of bool, shape (n_neurons,), optional
        Members; None until the map is thresholded. All False is an empty network, which is a valid result. Reading the
        members of a map that is not thresholded raises `NotThresholdedError`.
    name : str
        Name in tables.
    fit_texts : frozenset of str
        Hashes of the texts that the map was fitted on.
    kind : {"network", "union", "random", "control"}
        Role in an evaluation: only networks and unions get matched controls.
    stat_type : {"z", "t"}
        Statistic that is displayed: z over neurons, or t for a localizer, where 0 means no difference.
    """

    space: NeuronSpace
    weights: np.ndarray
    members: Members = Members(  # noqa: RUF009
        lambda network: (
            f"{network.name!r} is a map that has not been thresholded: it has a weight for every neuron, and no "
            "members yet. Threshold first: networks.threshold(method='z', z=3.0)."
        )
    )
    name: str = "network"
    fit_texts: frozenset[str] = frozenset()
    kind: str = "network"
    stat_type: str = "z"

    strength = FormerAttribute("stat_map")
    stat = FormerAttribute("stat_type")
    mask = FormerAttribute("members", members_or_none)

    def __post_init__(self) -> None:
        for what, values in (("weights", self.weights), ("members", members_or_none(self))):
            if values is not None and values.shape != (self.space.n_neurons,):
                raise SpaceMismatchError(
                    f"{what} have shape {values.shape}; this space needs ({self.space.n_neurons},), "
                    "in (layer, neuron) order."
                )
        self.space.check_finite(self.weights, f"The map of {self.name!r}")

    @classmethod
    def from_img(cls, img: Img, space: NeuronSpace, name: str = "roi") -> "Network":
        """Read a map that was drawn or selected in a viewer; see `lmri.read_roi`.

        Parameters
        ----------
        img : Nifti1Image or path
            3D image on the grid of `space`.
        space : NeuronSpace
            Neurons that the image covers.
        name : str
            Name in tables.
        """
        from lmri.networks.roi_images import read_roi  # which uses this class

        return read_roi(img, space, name)

    @classmethod
    def from_members(
        cls, space: NeuronSpace, members: np.ndarray, name: str = "network", kind: str = "network"
    ) -> "Network":
        """Build a network from its members alone; all weights are 1."""
        members = np.asarray(members, dtype=bool)
        return cls(space, members.astype(np.float32), members, name, kind=kind)

    @property
    def is_thresholded(self) -> bool:
        """Whether the map has been thresholded."""
        return members_or_none(self) is not None

    @property
    def n_neurons(self) -> int:
        """Number of members."""
        return int(self.members.sum())

    @property
    def img(self) -> nib.Nifti1Image:
        """3D image of the weights; after thresholding, only the weights of members."""
        return self.space.to_img(
            np.where(self.members, self.weights, 0) if self.is_thresholded else self.weights, "estimate"
        )

    @property
    def z(self) -> np.ndarray:
        """Weights z-scored over all neurons, ``(n_neurons,)``; a map that is mostly 0 is scaled without centring."""
        return map_scores(self.weights[None])[0]

    @property
    def stat_map(self) -> np.ndarray:
        """Values that images and pages display, ``(n_neurons,)``: z or t; see `stat_type`."""
        return self.z if self.stat_type == "z" else np.asarray(self.weights, dtype=np.float64)

    def neurons(self) -> pd.DataFrame:
        """Return the table of members: ``layer, neuron, weight, z`` (or ``t``), by decreasing ``|z|`` (or ``|t|``)."""
        order, stat_map = np.flatnonzero(self.members), self.stat_map
        order = order[np.argsort(-np.abs(stat_map[order]), kind="stable")]
        return pd.DataFrame(
            {
                "layer": self.space.layer_of[order],
                "neuron": self.space.neuron_of[order],
                "weight": self.weights[order],
                self.stat_type: stat_map[order],
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

        values = np.where(self.members, self.stat_map, 0) if self.is_thresholded else self.stat_map
        return view(self.space.to_img(values, self.stat_type), self.name, **options)

    def __repr__(self) -> str:
        size = f"{self.n_neurons} neurons" if self.is_thresholded else "not thresholded"
        return f"<Network {self.name!r}: {size}, {self.space.describe()}>"
