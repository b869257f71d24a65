"""Dual regression of one model: its own version of the maps of a group decomposition."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator

from lmri.decomposition.base import Decomposition, Runs
from lmri.decomposition.individuals.dual_regression import StageOne
from lmri.exceptions import NothingFoundError
from lmri.networks import NetworkSet
from lmri.space import Img, NeuronSpace


@dataclass(frozen=True)
class GroupMaps:
    """Group decomposition that a dual regression starts from, for provenance.

    Parameters
    ----------
    name : str
        Address in the study, such as ``"group/g@mlp_out"``.
    digest : str
        Digest of the entry.
    """

    name: str
    digest: str


class DualRegression(Decomposition, BaseEstimator):
    """Dual regression of all runs of one model on the maps of a group decomposition [1]_.

    Stage 1 regresses each volume on the group maps and estimates time courses; stage 2 regresses each neuron on these
    time courses, scaled to unit variance over all runs. Both include an intercept. Maps have the order and the signs of
    the group maps, so a map is compared with its group map by their names.

    A neuron with weight in a group map also contributes to its time course, so its weight in stage 2 is not 0 even in
    noise. The maps describe a model; they are no test of whether a neuron belongs to a network.

    Parameters
    ----------
    space : NeuronSpace
        Neuron space of the model.
    maps : NetworkSet
        Maps of the group, of the same number and widths of layers.
    source : GroupMaps
        Address and digest of the group decomposition, for provenance.
    standardize : {"zscore", "center"}, default="zscore"
        Standardization of each neuron's time series.
    scope : {"run", "study"}, default="run"
        Scope of the mean and standard deviation: a run, or all runs of the model.

    Attributes
    ----------
    components_ : ndarray of shape (n_components, n_neurons)
        Maps of the model, in units of the standardized data per standard deviation of the time course.
    time_courses_ : list of ndarray of shape (n_volumes, n_components)
        Time courses of stage 1, one array per run.
    metrics_ : DataFrame
        Metrics of the maps; ``group_r`` is the correlation with the group map.

    References
    ----------
    .. [1] Nickerson et al. (2017). Using dual regression to investigate network shape and amplitude in functional
       connectivity analyses. Frontiers in Neuroscience, 11, 115.
    """

    method_name = "dual-regression"

    def __init__(
        self, space: NeuronSpace, maps: NetworkSet, source: GroupMaps, standardize: str = "zscore", scope: str = "run"
    ) -> None:
        self.space = space
        self.maps = maps
        self.source = source
        self.standardize = standardize
        self.scope = scope

    @property
    def n_components(self) -> int:  # type: ignore[override]
        """Number of maps."""
        return len(self.maps)

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return the parameters that are stored; the group maps are an input."""
        return {"n_components": self.n_components, "standardize": self.standardize, "scope": self.scope}

    def fit(
        self, imgs: Img | Sequence[Img], y: None = None, confounds: Sequence[Any] | None = None
    ) -> "DualRegression":
        """Estimate the maps of the model.

        Parameters
        ----------
        imgs : path, Nifti1Image or sequence of them
            4D images, one per run.
        y : None
            Ignored; scikit-learn's convention.
        confounds : sequence of array or DataFrame of shape (n_volumes, n_confounds), optional
            Confounds to regress out, one array or table per run.

        Raises
        ------
        NothingFoundError
            If the time courses are constant or linearly dependent, so the maps are not determined.
        """
        runs = self._prepare_runs(imgs, confounds)
        maps, convergence = self._fit_maps(runs)
        group = self.maps.weights.astype(np.float64)
        pairs = zip(maps, group, strict=True)
        group_r = np.array([np.corrcoef(model_map, group_map)[0, 1] for model_map, group_map in pairs])
        self._store_results(maps, runs, convergence, {"group_r": group_r}, courses=self._courses)
        return self

    def _fit_maps(self, runs: Runs) -> tuple[np.ndarray, dict[str, Any]]:
        """Regress every run on the group maps, and every neuron on the time courses of all runs."""
        design = StageOne.of(self.maps)
        courses = []
        n, k, width = 0, self.n_components, self.space.n_neurons
        sum_c, sum_x, squares_c, products = np.zeros(k), np.zeros(width), np.zeros((k, k)), np.zeros((k, width))
        for run in runs:
            X = run.astype(np.float64)
            course = X @ design.solver.T
            courses.append(course)
            n += len(X)
            sum_c += course.sum(axis=0)
            sum_x += X.sum(axis=0)
            squares_c += course.T @ course
            products += course.T @ X
        gram = squares_c - np.outer(sum_c, sum_c) / n
        products -= np.outer(sum_c, sum_x) / n
        sd = np.sqrt(np.diag(gram).clip(min=0) / n)
        scale = np.where(sd > 0, sd, 1)
        values = np.linalg.eigvalsh(gram / n / np.outer(scale, scale))
        if not sd.all() or values[0] < 1e-10 * values[-1]:
            raise NothingFoundError(
                f"The time courses of {k} group maps over {n} volumes are constant or linearly dependent, so the maps "
                "of this model are not determined. Use fewer maps, or record more."
            )
        self._courses = courses
        return np.linalg.solve(gram, products) * sd[:, None], {"n_starts": 0, "n_converged": 0}
