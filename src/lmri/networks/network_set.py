"""Functional networks: maps over neurons, with signed weights, and after a threshold their members."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, overload

import nibabel as nib
import numpy as np
import pandas as pd

from lmri.exceptions import SpaceMismatchError
from lmri.networks.former_names import FormerAttribute, accept_former
from lmri.networks.members import Members, members_or_none
from lmri.networks.network import LOCALIZER, Network
from lmri.networks.origin import Origin
from lmri.networks.thresholds import THRESHOLDS, SurrogateNull, map_scores
from lmri.networks.thresholds.registry import names_in_docstring, parameters_in_docstring
from lmri.space import NeuronSpace
from lmri.space.html import html_table

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


@accept_former(mask="members", info="origin")
@dataclass(frozen=True, eq=False)
class NetworkSet(Sequence[Network]):
    """The maps of one decomposition.

    Parameters
    ----------
    space : NeuronSpace
        Neurons that the maps cover.
    weights : ndarray of shape (n_networks, n_neurons)
        Signed weights, in (layer, neuron) order.
    members : ndarray of bool, shape (n_networks, n_neurons), optional
        Members; None until thresholded. Reading the members of maps that are not thresholded raises
        `NotThresholdedError`.
    method : str
        Name of the decomposition; networks are named after it.
    metrics : DataFrame
        Metrics of the decomposition, one row per map.
    origin : Origin
        Method, parameters and convergence of the decomposition and, after thresholding, the threshold.
    fit_texts : frozenset of str
        Hashes of the texts that the maps were fitted on.
    null : SurrogateNull or callable, optional
        Null distribution of the same pipeline on surrogates, or a function without arguments that computes it; required
        by ``"fdr"``.
    """

    space: NeuronSpace
    weights: np.ndarray
    members: Members = Members(  # noqa: RUF009
        lambda _: (
            "These maps have not been thresholded: each has a weight for every neuron, and no members yet. "
            "Threshold first: networks.threshold(method='z', z=3.0)."
        )
    )
    method: str = "networks"
    metrics: pd.DataFrame = field(default_factory=pd.DataFrame)
    origin: Origin = field(default_factory=Origin)
    fit_texts: frozenset[str] = frozenset()
    null: SurrogateNull | Callable[[], SurrogateNull] | None = None

    strength = FormerAttribute("stat_map")
    stat = FormerAttribute("stat_type")
    mask = FormerAttribute("members", members_or_none)
    info = FormerAttribute("origin", lambda networks: MappingProxyType(networks.origin.as_dict()))

    def __post_init__(self) -> None:
        if isinstance(self.origin, Mapping):  # the former `info`
            object.__setattr__(self, "origin", Origin.of(self.origin))
        shape = (len(self.weights), self.space.n_neurons)
        for what, values in (("weights", self.weights), ("members", members_or_none(self))):
            if values is not None and values.shape != shape:
                raise SpaceMismatchError(f"{what} have shape {values.shape}; accepted is {shape}.")
        self.space.check_finite(self.weights, "The maps")

    @classmethod
    def from_estimator(cls, estimator: Any, space: NeuronSpace | None = None) -> "NetworkSet":
        """Build a set from a fitted decomposition: of lmri, of nilearn, or any estimator with ``components_img_``.

        Parameters
        ----------
        estimator : object
            Fitted estimator.
        space : NeuronSpace, optional
            Neuron space; required if the estimator has none.
        """
        space = space or getattr(estimator, "space", None)
        if space is None:
            raise ValueError(
                f"{type(estimator).__name__} does not know its neuron space. "
                "Pass it: NetworkSet.from_estimator(estimator, space=recording.space)."
            )
        if not hasattr(estimator, "components_img_"):
            raise ValueError(f"{type(estimator).__name__} is not fitted. Call fit(recording.imgs) first.")
        return cls(
            space,
            space.from_img(estimator.components_img_),
            method=getattr(estimator, "method_name", type(estimator).__name__.lower()),
            metrics=getattr(estimator, "metrics_", pd.DataFrame()),
            origin=Origin.of(getattr(estimator, "info_", {})),
            fit_texts=getattr(estimator, "fit_texts_", frozenset()),
            null=getattr(estimator, "null_", None) or _null_of(estimator),
        )

    @property
    def stat_type(self) -> str:
        """Statistic that is displayed: ``"t"`` for a localizer, else ``"z"``."""
        return "t" if self.origin.method == LOCALIZER else "z"

    @property
    def stat_map(self) -> np.ndarray:
        """Values that images and pages display, ``(n_networks, n_neurons)``: z over neurons or t; see `stat_type`."""
        return map_scores(self.weights) if self.stat_type == "z" else np.asarray(self.weights, dtype=np.float64)

    @property
    def is_thresholded(self) -> bool:
        """Whether the maps have been thresholded."""
        return members_or_none(self) is not None

    @property
    def names(self) -> list[str]:
        """Names of the networks, numbered from 0 like `networks[0]`."""
        return [f"{self.method}-{number:02d}" for number in range(len(self.weights))]

    def threshold(self, method: str | None = None, **parameters: float) -> "NetworkSet":
        """Threshold the maps to determine the members of each network.

        Parameters
        ----------
        method : <names>, optional
            Threshold; see `lmri.thresholds`. By default ``"fdr"``, the only calibrated family, and ``"support"`` for
            maps of dictionary learning, which are already sparse. If the surrogates that ``"fdr"`` needs have not been
            computed yet, they are computed now, which takes as long as several fits.
        **parameters
            <parameters>.

        Returns
        -------
        NetworkSet
            Same weights, with members. Networks may be empty.

        Raises
        ------
        ValueError
            If the threshold is unknown, or needs surrogates and there are no images to compute them from.
        """
        if method is None:
            method = "support" if self.origin.method == "dictlearning" else "fdr"
        if method not in THRESHOLDS:
            raise ValueError(f"There is no threshold {method!r}; choose from {', '.join(map(repr, THRESHOLDS))}.")
        threshold = THRESHOLDS[method]
        known = threshold.defaults
        unknown = set(parameters) - set(known)
        if unknown:
            raise ValueError(
                f"The threshold {method!r} takes {', '.join(known) or 'nothing'}, not {', '.join(sorted(unknown))}."
            )
        chosen: dict[str, Any] = {"method": method, **known, **parameters, "description": threshold.description}
        if not threshold.needs_null:
            return replace(
                self, members=threshold(self.weights, **parameters), origin=replace(self.origin, threshold=chosen)
            )
        null = self._null()
        chosen["n_surrogates"] = null.n_surrogates
        members = threshold(self.weights, null, **parameters)
        return replace(self, members=members, origin=replace(self.origin, threshold=chosen), null=null)

    def _null(self) -> SurrogateNull:
        null = self.null() if callable(self.null) else self.null
        if null is None:
            raise ValueError(
                f"{self.method!r} comes without surrogates, which 'fdr' and 'fdr_set' need. Decompose again with "
                "surrogates (lmri decompose STUDY --n-surrogates 20 --name OTHER; in Python, NetworkSet.from_estimator "
                "of a fitted estimator), or choose a descriptive threshold: --by z:3; in Python, "
                "networks.threshold('z', z=3.0)."
            )
        return null

    def union(self) -> Network:
        """Merge all networks: neurons that belong to any, each with the weight of largest absolute value."""
        largest = np.abs(self.weights).argmax(axis=0)
        weights = np.take_along_axis(self.weights, largest[None], axis=0)[0]
        return Network(
            self.space, weights, np.asarray(self.members.any(axis=0)), f"{self.method}-union", self.fit_texts, "union",
            self.stat_type,
        )  # fmt: skip

    @property
    def img(self) -> nib.Nifti1Image:
        """4D image of the weights, one volume per network; after thresholding, only the weights of members."""
        return self.space.to_img(
            np.where(self.members, self.weights, 0) if self.is_thresholded else self.weights, "estimate"
        )

    @property
    def table(self) -> pd.DataFrame:
        """Table with one row per network: name, size, share of neurons, layers, and metrics of the decomposition."""
        counts = self.space.count_per_layer(self.members)
        sizes = counts.sum(axis=1)
        layers = np.arange(self.space.n_layers)
        with np.errstate(invalid="ignore"):
            depth = (counts @ layers) / sizes
        summary = pd.DataFrame(
            {
                "network": self.names,
                "n_neurons": sizes,
                "share": sizes / self.space.n_neurons,
                "n_positive": (self.members & (self.stat_map > 0)).sum(axis=1),
                "mean_layer": depth,
            }
        )
        extra = self.metrics.drop(columns=[name for name in self.metrics if name in summary])
        return pd.concat([summary, extra.reset_index(drop=True)], axis=1)

    def plot(
        self,
        axes: "Axes | None" = None,
        figure: "Figure | None" = None,
        output_file: str | Path | None = None,
        title: str | None = None,
        vmax: float | None = None,
        cmap: str = "RdBu_r",
    ) -> "Figure | None":
        """Plot a mosaic of z or t maps, one row per network and one column per layer; members only if thresholded.

        Parameters
        ----------
        axes, figure : matplotlib Axes and Figure, optional
            Axes and figure to draw in; by default a new figure.
        output_file : str or Path, optional
            File in which the figure is saved; the figure is then closed.
        title : str, optional
            Title of the figure.
        vmax : float, optional
            Limit of the colour scale; by default the largest absolute value.
        cmap : str
            Diverging colour map of matplotlib.

        Returns
        -------
        Figure or None
            Figure; None if it was saved, as in nilearn.
        """
        from lmri.space.plotting import plot_maps  # matplotlib takes a second to load

        values = np.where(self.members, self.stat_map, 0) if self.is_thresholded else self.stat_map
        return plot_maps(self.space, values, self.names, axes, figure, output_file, title, vmax, cmap, self.stat_type)

    def __len__(self) -> int:
        return len(self.weights)

    @overload
    def __getitem__(self, key: int | str) -> Network: ...
    @overload
    def __getitem__(self, key: slice) -> Sequence[Network]: ...
    def __getitem__(self, key: int | str | slice) -> Network | Sequence[Network]:
        if isinstance(key, str):
            if key not in self.names:
                raise KeyError(f"There is no network {key!r}; there are {', '.join(self.names)}.")
            key = self.names.index(key)
        if isinstance(key, slice):
            return [self[number] for number in range(*key.indices(len(self)))]
        number = key + len(self) if key < 0 else key
        if not 0 <= number < len(self):
            raise IndexError(f"There is no network {key}; there are {len(self)}, counted from 0.")
        members = self.members[number] if self.is_thresholded else None
        return Network(
            self.space, self.weights[number], members, self.names[number], self.fit_texts, stat_type=self.stat_type
        )

    def __iter__(self) -> Iterator[Network]:
        return (self[number] for number in range(len(self)))

    def _repr_html_(self) -> str:
        names = pd.DataFrame({"network": self.names})
        table = self.table if self.is_thresholded else names
        columns = ("network", "label", "n_neurons", "n_positive", "mean_layer", "variance", "iq")
        return html_table(repr(self).strip("<>"), table, columns)

    def __repr__(self) -> str:
        if not self.is_thresholded:
            return f"<NetworkSet {self.method!r}: {len(self)} maps, not thresholded, {self.space.describe()}>"
        empty = int((~self.members.any(axis=1)).sum())
        return f"<NetworkSet {self.method!r}: {len(self)} networks, {empty} of them empty, {self.space.describe()}>"


NetworkSet.threshold.__doc__ = (
    str(NetworkSet.threshold.__doc__)
    .replace("<names>", names_in_docstring())
    .replace("<parameters>", parameters_in_docstring())
)


def _null_of(estimator: Any) -> Callable[[], SurrogateNull] | None:
    """Return a function that computes surrogates on demand, and raises if the estimator has been refitted since."""
    if not hasattr(estimator, "surrogate_null"):
        return None
    maps = estimator.components_

    def null() -> SurrogateNull:
        if getattr(estimator, "components_", None) is not maps:
            raise ValueError(
                "The estimator has been fitted again since these maps were taken from it, so its surrogates belong to "
                "other maps. Take the maps again: NetworkSet.from_estimator(estimator)."
            )
        surrogates: SurrogateNull = estimator.surrogate_null()
        return surrogates

    return null
