"""Functional networks: maps over neurons, with signed weights, and after a threshold their members."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

import nibabel as nib
import numpy as np
import pandas as pd

from lmri.exceptions import NotThresholdedError, SpaceMismatchError
from lmri.networks.network import LOCALIZER, Network
from lmri.networks.thresholds import THRESHOLDS, SurrogateNull, map_scores
from lmri.networks.thresholds.registry import names_in_docstring, parameters_in_docstring
from lmri.space import NeuronSpace
from lmri.space.html import html_table

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


@dataclass(frozen=True, eq=False)
class NetworkSet(Sequence[Network]):
    """The maps of one decomposition.

    Parameters
    ----------
    space : NeuronSpace
        The neurons.
    weights : ndarray of shape (n_networks, n_neurons)
        Signed, in (layer, neuron) order.
    mask : ndarray of bool, shape (n_networks, n_neurons), optional
        Members; None until thresholded.
    method : str
        Which decomposition made it; networks are named after it.
    metrics : DataFrame
        A row a map: what the decomposition says of each.
    info : dict
        Provenance: parameters, and after a threshold its method and values.
    fit_texts : frozenset of str
        Hashes of the texts the maps were found in.
    null : SurrogateNull or callable, optional
        What the same pipeline finds in surrogates, or a function without arguments that finds out; ``"fdr"`` needs it.
    """

    space: NeuronSpace
    weights: np.ndarray
    mask: np.ndarray | None = None
    method: str = "networks"
    metrics: pd.DataFrame = field(default_factory=pd.DataFrame)
    info: Mapping[str, Any] = field(default_factory=dict)
    fit_texts: frozenset[str] = frozenset()
    null: SurrogateNull | Callable[[], SurrogateNull] | None = None

    def __post_init__(self) -> None:
        shape = (len(self.weights), self.space.n_neurons)
        for what, values in (("weights", self.weights), ("mask", self.mask)):
            if values is not None and values.shape != shape:
                raise SpaceMismatchError(f"{what} have shape {values.shape}; {shape} are needed.")
        self.space.check_finite(self.weights, "The maps")

    @classmethod
    def from_estimator(cls, estimator: Any, space: NeuronSpace | None = None) -> "NetworkSet":
        """Take the maps of a fitted decomposition: ours, nilearn's, or anything with ``components_img_``.

        Parameters
        ----------
        estimator : object
            Fitted.
        space : NeuronSpace, optional
            Needed if the estimator does not know it.
        """
        space = space or getattr(estimator, "space", None)
        if space is None:
            raise ValueError(
                f"{type(estimator).__name__} does not know its neuron space. "
                "Give it: NetworkSet.from_estimator(estimator, space=recording.space)."
            )
        if not hasattr(estimator, "components_img_"):
            raise ValueError(f"{type(estimator).__name__} is not fitted. Call fit(recording.imgs) first.")
        return cls(
            space,
            space.from_img(estimator.components_img_),
            method=getattr(estimator, "method_name", type(estimator).__name__.lower()),
            metrics=getattr(estimator, "metrics_", pd.DataFrame()),
            info=getattr(estimator, "info_", {}),
            fit_texts=getattr(estimator, "fit_texts_", frozenset()),
            null=getattr(estimator, "null_", None) or _null_of(estimator),
        )

    @property
    def stat(self) -> str:
        """What the maps are shown as: ``"t"`` of a localizer, else ``"z"``."""
        return "t" if self.info.get("method") == LOCALIZER else "z"

    @property
    def strength(self) -> np.ndarray:
        """What images and pages show of the maps, ``(n_networks, n_neurons)``: z over neurons, or t; see `stat`."""
        return map_scores(self.weights) if self.stat == "z" else np.asarray(self.weights, dtype=np.float64)

    @property
    def is_thresholded(self) -> bool:
        """Whether members are decided."""
        return self.mask is not None

    @property
    def names(self) -> list[str]:
        """Names of the networks, counted from 0 as `networks[0]` is."""
        return [f"{self.method}-{number:02d}" for number in range(len(self.weights))]

    @property
    def members(self) -> np.ndarray:
        """Bool, ``(n_networks, n_neurons)``; raises `NotThresholdedError` before a threshold."""
        if self.mask is None:
            raise NotThresholdedError(
                "These maps have a weight for every neuron; which belong to each network is not decided. "
                "Threshold first: networks.threshold(method='z', z=3.0)."
            )
        return self.mask

    def threshold(self, method: str | None = None, **parameters: float) -> "NetworkSet":
        """Decide which neurons belong to each network.

        Parameters
        ----------
        method : <names>, optional
            See `lmri.thresholds`. By default ``"fdr"``, which is the only calibrated family, and ``"support"`` for
            maps of dictionary learning, which are sparse as they are. If the surrogates that ``"fdr"`` needs were not
            made yet, they are made now: it takes as long as several fits.
        **parameters
            <parameters>.

        Returns
        -------
        NetworkSet
            The same weights, with members. Networks may be empty.

        Raises
        ------
        ValueError
            If the threshold is unknown, or needs surrogates and there are no images to make them from.
        """
        if method is None:
            method = "support" if self.info.get("method") == "dictlearning" else "fdr"
        if method not in THRESHOLDS:
            raise ValueError(f"The threshold is {method!r}; accepted are {', '.join(map(repr, THRESHOLDS))}.")
        threshold = THRESHOLDS[method]
        known = threshold.defaults
        unknown = set(parameters) - set(known)
        if unknown:
            raise ValueError(
                f"The threshold {method!r} takes {', '.join(known) or 'nothing'}, not {', '.join(sorted(unknown))}."
            )
        chosen: dict[str, Any] = {"method": method, **known, **parameters, "description": threshold.description}
        if not threshold.needs_null:
            return replace(self, mask=threshold(self.weights, **parameters), info={**self.info, "threshold": chosen})
        null = self._null()
        chosen["n_surrogates"] = null.n_surrogates
        mask = threshold(self.weights, null, **parameters)
        return replace(self, mask=mask, info={**self.info, "threshold": chosen}, null=null)

    def _null(self) -> SurrogateNull:
        null = self.null() if callable(self.null) else self.null
        if null is None:
            raise ValueError(
                f"{self.method!r} comes without surrogates, which 'fdr' and 'fdr_set' need. Decompose again with them "
                "(lmri decompose STUDY --n-surrogates 20 --name OTHER; in Python, NetworkSet.from_estimator of a "
                "fitted estimator), or choose a descriptive threshold: --by z:3; in Python, "
                "networks.threshold('z', z=3.0)."
            )
        return null

    def union(self) -> Network:
        """Merge all networks: the neurons that belong to any, with their largest absolute weight."""
        largest = np.abs(self.weights).argmax(axis=0)
        weights = np.take_along_axis(self.weights, largest[None], axis=0)[0]
        return Network(
            self.space, weights, np.asarray(self.members.any(axis=0)), f"{self.method}-union", self.fit_texts, "union",
            self.stat,
        )  # fmt: skip

    @property
    def img(self) -> nib.Nifti1Image:
        """4D image of the weights, a volume a network; after a threshold, of the members' weights."""
        return self.space.to_img(
            self.weights if self.mask is None else np.where(self.mask, self.weights, 0), "estimate"
        )

    @property
    def table(self) -> pd.DataFrame:
        """A row a network: name, size, share of neurons, layers, and the decomposition's metrics."""
        counts = self.space.count_per_layer(self.members)
        sizes = counts.sum(axis=1)
        layers = np.arange(self.space.n_layers)
        with np.errstate(invalid="ignore"):
            depth = (counts @ layers) / sizes
        own = pd.DataFrame(
            {
                "network": self.names,
                "n_neurons": sizes,
                "share": sizes / self.space.n_neurons,
                "n_positive": (self.members & (self.strength > 0)).sum(axis=1),
                "mean_layer": depth,
            }
        )
        extra = self.metrics.drop(columns=[name for name in self.metrics if name in own])
        return pd.concat([own, extra.reset_index(drop=True)], axis=1)

    def plot(
        self,
        axes: "Axes | None" = None,
        figure: "Figure | None" = None,
        output_file: str | Path | None = None,
        title: str | None = None,
        vmax: float | None = None,
        cmap: str = "RdBu_r",
    ) -> "Figure | None":
        """Draw the maps as a mosaic, as z or t: a row a network, a column a layer; of members only after a threshold.

        Parameters
        ----------
        axes, figure : matplotlib's, optional
            Where to draw; by default in a new figure.
        output_file : str or Path, optional
            Where to save the figure, which is closed then.
        title : str, optional
            What stands above it.
        vmax : float, optional
            Where the colours end; by default at the largest absolute value.
        cmap : str
            Any diverging one of matplotlib.

        Returns
        -------
        Figure or None
            None if it was saved, as in nilearn.
        """
        from lmri.space.plotting import plot_maps  # matplotlib takes a second to load

        values = self.strength if self.mask is None else np.where(self.mask, self.strength, 0)
        return plot_maps(self.space, values, self.names, axes, figure, output_file, title, vmax, cmap, self.stat)

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
        mask = None if self.mask is None else self.mask[number]
        return Network(self.space, self.weights[number], mask, self.names[number], self.fit_texts, stat=self.stat)

    def __iter__(self) -> Iterator[Network]:
        return (self[number] for number in range(len(self)))

    def _repr_html_(self) -> str:
        names = pd.DataFrame({"network": self.names})
        table = names if self.mask is None else self.table
        columns = ("network", "label", "n_neurons", "n_positive", "mean_layer", "variance", "iq")
        return html_table(repr(self).strip("<>"), table, columns)

    def __repr__(self) -> str:
        if self.mask is None:
            return f"<NetworkSet {self.method!r}: {len(self)} maps, not thresholded, {self.space.describe()}>"
        empty = int((~self.mask.any(axis=1)).sum())
        return f"<NetworkSet {self.method!r}: {len(self)} networks, {empty} of them empty, {self.space.describe()}>"


NetworkSet.threshold.__doc__ = (
    str(NetworkSet.threshold.__doc__)
    .replace("<names>", names_in_docstring())
    .replace("<parameters>", parameters_in_docstring())
)


def _null_of(estimator: Any) -> Callable[[], SurrogateNull] | None:
    """Make surrogates when they are asked for, unless the estimator has been fitted again since."""
    if not hasattr(estimator, "surrogate_null"):
        return None
    maps = estimator.components_

    def null() -> SurrogateNull:
        if getattr(estimator, "components_", None) is not maps:
            raise ValueError(
                "The estimator has been fitted again since these maps were taken from it, so its surrogates are not "
                "theirs. Take the maps again: NetworkSet.from_estimator(estimator)."
            )
        made: SurrogateNull = estimator.surrogate_null()
        return made

    return null
