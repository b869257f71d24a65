"""NeuronICA, a group ICA for neurons: streamed group PCA, ICA from several starts, and a stability index per map.

The module is longer than most because it is one estimator whose docstrings describe every parameter.
"""

import tempfile
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
from joblib import Parallel, delayed
from scipy import linalg
from sklearn.base import BaseEstimator

from lmri.decomposition import ica, stability
from lmri.decomposition.base import Decomposition, Runs
from lmri.decomposition.fit_checks import check_components, warn_of_overlearning
from lmri.decomposition.group_pca import (
    GroupPCA,
    Reduce,
    check_rank,
    leading_rows,
    n_kept,
    plan,
    reduced,
    reduced_in_pieces,
    whitened,
)
from lmri.decomposition.map_metrics import Projected
from lmri.decomposition.standardization import Moments, StandardizedRuns, products
from lmri.decomposition.surrogate_ica import spatial_surrogate_maps
from lmri.decomposition.threads import one_pool
from lmri.exceptions import NothingFoundError
from lmri.space import Img, NeuronSpace

_EXACT, _EXACT_ANYWAY = 16, 1024
"""Limits below which a temporal decomposition is whitened exactly: number of volumes (or neurons) per component, and in
all. Group PCA is as accurate only if the spectrum falls off."""


class NeuronICA(Decomposition, BaseEstimator):
    """Group ICA of a recording, spatial or temporal.

    Runs are read one after the other and merged into a group PCA that keeps a multiple of the components. ICA is run
    from several random starts; the estimates of all starts are clustered, and each map is the centrotype of its cluster
    (ICASSO), with an index of the cluster's compactness.

    ``kind="spatial"`` makes maps independent, as CanICA does. Its group PCA subtracts the noise floor from every batch
    of volumes, so that networks that are active in few runs are not lost. Memory holds one run and a few times
    ``n_components * n_neurons`` numbers, regardless of the number of runs.

    ``kind="temporal"`` makes time courses independent, as the paper does with scikit-learn's FastICA. Whitening uses a
    plain PCA of all volumes; arrays that grow with the number of volumes are stored in a temporary file until they are
    unmixed.

    Parameters
    ----------
    space : NeuronSpace
        Neuron space, ``recording.space``.
    n_components : int or "auto", default=20
        Number of maps. ``"auto"`` uses the recommendation of `lmri.decomposition.order.estimate_order`.
    kind : {"spatial", "temporal"}, default="spatial"
        Kind of independence: of maps or of time courses.
    solver : {"fastica", "picard"}, default="fastica"
        Solver; both find the same maps.
    fun : {"logcosh", "cube"}, default="logcosh"
        Contrast function; ``"cube"`` is faster but sensitive to outliers.
    n_init : int, default=10
        Number of random starts.
    standardize : {"zscore", "center", "none"}, default="zscore"
        Standardization of each neuron's time series.
    scope : {"run", "study"}, default="run"
        Scope of mean and standard deviation. ``"run"``, as in fMRI, also removes differences between runs and thus
        between texts; in a language model these are signal, which ``"study"`` keeps.
    max_iter : int, default=500
        Maximum number of iterations per start.
    tol : float, default=1e-4
        Change of the unmixing matrix below which a start has converged.
    random_state : int, default=0
        Random seed of starts and surrogates.
    device : str, default="cpu"
        Device. Any other value, such as ``"cuda"``, is a torch device on which runs are reduced and ICA iterates.
    n_jobs : int, default=1
        Number of processes over runs; `joblib.parallel_config` selects the backend.

    Attributes
    ----------
    components_ : ndarray of shape (n_components, n_neurons)
        Maps in (layer, neuron) order, sorted by explained variance; the heavier tail is positive.
    variance_ : ndarray of shape (n_components,)
        Share of variance that each map explains alone.
    stability_ : ndarray of shape (n_components,)
        Cluster index Iq over the starts, at most 1; NaN for a single start.
    n_iter_, converged_ : ndarray of shape (n_init,)
        Iterations and convergence of each start.
    n_components_ : int
        Number of maps.
    order_ : OrderEstimate
        Estimate of the number of components; only with ``n_components="auto"``.

    References
    ----------
    Hyvärinen (1999); Smith et al. (2014), group PCA; Himberg, Hyvärinen & Esposito (2004), ICASSO.
    """

    can_be_auto = True

    def __init__(
        self,
        space: NeuronSpace,
        n_components: int | str = 20,
        kind: str = "spatial",
        solver: str = "fastica",
        fun: str = "logcosh",
        n_init: int = 10,
        standardize: str = "zscore",
        scope: str = "run",
        random_state: int = 0,
        device: str = "cpu",
        n_jobs: int = 1,
        max_iter: int = 500,
        tol: float = 1e-4,
    ) -> None:
        self.space = space
        self.n_components = n_components  # type: ignore[assignment]
        self.kind = kind
        self.solver = solver
        self.fun = fun
        self.n_init = n_init
        self.standardize = standardize
        self.scope = scope
        self.random_state = random_state
        self.device = device
        self.n_jobs = n_jobs
        self.max_iter = max_iter
        self.tol = tol

    @property
    def method_name(self) -> str:  # type: ignore[override]
        """Name of the method, ``ica`` or ``ica-temporal``."""
        return "ica" if self.kind == "spatial" else f"ica-{self.kind}"

    def fit(self, imgs: Img | Sequence[Img], y: None = None, confounds: Sequence[Any] | None = None) -> "NeuronICA":
        """Estimate the maps.

        Parameters
        ----------
        imgs : path, Nifti1Image or sequence of them
            4D images of the space, such as ``recording.imgs``. Runs may be shorter than there are components.
        y : None
            Ignored; present for scikit-learn's signature.
        confounds : sequence of array or DataFrame of shape (n_volumes, n_confounds), optional
            Confounds, one array or table per run, as from `lmri.confounds.select`. They are regressed out of every
            neuron after standardization.
        """
        self._check_parameters()
        runs = self._prepare_runs(imgs, confounds)
        self._projections = []
        maps, convergence = self._fit_maps(runs)
        known, self._projections = self._projections, None
        projected = ((scores.astype(np.float64), squares) for scores, squares in known) if known else None
        self._store_results(maps, runs, convergence, {"iq": self._iq}, projected)
        self.n_components_ = len(maps)
        self.variance_ = self.metrics_["variance"].to_numpy()
        self.stability_ = self.metrics_["iq"].to_numpy()
        self.n_iter_, self.converged_ = self._unmixing.n_iter, self._unmixing.converged
        return self

    def _check_parameters(self) -> None:
        """Raise an error for a parameter outside of its accepted values."""
        for name, accepted in (("kind", ("spatial", "temporal")), ("solver", ica.SOLVERS), ("fun", ica.FUNS)):
            if getattr(self, name) not in accepted:
                raise ValueError(f"{name} is {getattr(self, name)!r}; choose from {', '.join(map(repr, accepted))}.")
        for name, least in (("n_init", 1), ("max_iter", 1), ("random_state", 0)):
            value = getattr(self, name)
            if not isinstance(value, int | np.integer) or isinstance(value, bool) or value < least:
                raise ValueError(f"{name} is {value!r}; it must be an integer of at least {least}.")
        if not isinstance(self.tol, int | float) or not self.tol > 0:
            raise ValueError(f"tol is {self.tol!r}; it must be a number above 0.")
        if not isinstance(self.device, str):
            raise ValueError(f"device is {self.device!r}; it must be a name, such as 'cpu' or 'cuda'.")
        if self.device != "cpu":
            from lmri.decomposition.torch_solver import check_device

            check_device(self.device)

    _projections: list[tuple[np.ndarray, float]] | None = None
    """During a fit: products of each run with the maps, if they are known without another pass over the data."""

    # -- the pipeline -------------------------------------------------------------------------------------------------

    def _fit_maps(self, runs: Runs) -> tuple[np.ndarray, dict[str, Any]]:
        """Reduce all runs by group PCA, and unmix them by ICA."""
        n_components = self._n_components(runs)
        n_volumes = sum(runs.n_volumes)
        check_components([n_volumes], n_components, self.space.n_neurons)
        temporal = self.kind == "temporal"
        what = (n_volumes, "volumes") if temporal else (self.space.n_neurons, "neurons")
        warn_of_overlearning(what[0], n_components, what[1])
        with one_pool():
            rows = self._group_pca(runs, n_components)
            maps = self._temporal(runs, rows, n_components) if temporal else self._spatial(rows, n_components)
        converged = int(self._unmixing.converged.sum())
        n_iter = [int(count) for count in self._unmixing.n_iter]
        return maps, {"n_starts": self.n_init, "n_converged": converged, "n_iter": n_iter}

    def _n_components(self, runs: Runs) -> int:
        """Return the number of components, estimated if it is ``"auto"``."""
        if self.n_components != "auto":
            return int(self.n_components)
        from lmri.decomposition.order import estimate_order

        # With more components than the square root of the number of samples, ICA overlearns.
        samples = sum(runs.n_volumes) if self.kind == "temporal" else self.space.n_neurons
        self.order_ = estimate_order(runs, random_state=self._seed, max_order=max(1, int(samples**0.5)))
        if not self.order_.recommended:
            raise NothingFoundError(
                "n_components is 'auto', but no component exceeds those of surrogates (parallel analysis). There is "
                "nothing to decompose. Record more, or set n_components to a number."
            )
        return self.order_.recommended

    @property
    def _reduce(self) -> Reduce:
        """Function that reduces a batch, on the selected device."""
        if self.device == "cpu":
            return reduced
        from lmri.decomposition import torch_solver

        return partial(torch_solver.reduced, device=self.device)

    def _group_pca(self, runs: Runs, n_components: int) -> np.ndarray:
        """Reduce all runs to rows ``(n_rows, n_neurons)``."""
        denoise = self.kind == "spatial"
        n_rows = n_kept(n_components)
        pca = GroupPCA(n_rows, denoise, self._reduce, centre=denoise)
        smaller = min(sum(runs.n_volumes), self.space.n_neurons)
        if not denoise and smaller <= max(_EXACT * n_components, _EXACT_ANYWAY):
            rows = min(n_components + 1, smaller)
            return leading_rows(self._prepared(runs), sum(runs.n_volumes), self.space.n_neurons, rows)
        if self.n_jobs == 1 or not isinstance(runs, StandardizedRuns):
            for group in self._grouped(runs):
                pca.update(group)
            return pca.rows
        if self.scope == "study" or self.standardize == "none":
            _ = runs.moments  # computed once here, not in every process
        groups = plan(runs.n_volumes)
        jobs = (delayed(_reduced_group)(self, runs, numbers, n_rows, denoise) for numbers in groups)
        reductions = Parallel(n_jobs=self.n_jobs, return_as="generator")(jobs)
        for numbers, (reduction, group_moments) in zip(groups, reductions, strict=True):
            for number, run_moments in zip(numbers, group_moments, strict=True):
                runs.note(number, run_moments)
            pca.merge(reduction)
        return pca.rows

    def _grouped(self, runs: Runs) -> Iterator[np.ndarray]:
        """Yield the prepared runs, short runs concatenated as in `plan`."""
        prepared = self._prepared(runs)
        for group in plan(runs.n_volumes):
            parts = [next(prepared) for _ in group]
            yield parts[0] if len(parts) == 1 else np.concatenate(parts)

    def _prepared(self, runs: Runs) -> Iterator[np.ndarray]:
        """Yield each prepared run."""
        return (self._prepare(run, runs) for run in runs)

    def _prepare(self, run: np.ndarray, runs: Runs) -> np.ndarray:
        """Centre over volumes for the temporal kind; group PCA centres over neurons for the spatial one."""
        if self.kind == "temporal" and self.standardize == "none":
            standardized_runs = runs if isinstance(runs, StandardizedRuns) else runs.runs
            run = run - standardized_runs.moments.mean.astype(np.float32)
        return run

    def _spatial(self, rows: np.ndarray, n_components: int) -> np.ndarray:
        """Whiten reduced rows over neurons, and unmix them into maps."""
        Z = whitened(rows, n_components)
        return self._unmix(Z).astype(np.float32) @ Z

    def _temporal(self, runs: Runs, rows: np.ndarray, n_components: int) -> np.ndarray:
        """Project all volumes onto an orthonormal basis of `rows`, and unmix the leading principal time courses."""
        basis = _orthonormal(rows)
        with tempfile.TemporaryFile(prefix="lmri-", suffix=".f4") as file:
            shape = (sum(runs.n_volumes), len(basis))
            scores: np.ndarray = np.memmap(file, dtype=np.float32, mode="w+", shape=shape)
            first, covariance, sums = 0, np.zeros((len(basis), len(basis))), []
            for scores_of_run, squares in self._projected(runs, basis):
                covariance += scores_of_run.T @ scores_of_run
                scores[first : first + len(scores_of_run)] = scores_of_run
                first += len(scores_of_run)
                sums.append(squares)
            squares, vectors = linalg.eigh(covariance)
            squares, vectors = squares[::-1], vectors[:, ::-1]
            check_rank(squares, n_components)
            leading = vectors[:, :n_components]
            # Signs as in scikit-learn, so that the same start is used.
            leading = leading * np.where(basis[:, 0] @ leading < 0, -1.0, 1.0)
            scale = np.sqrt(shape[0] / squares[:n_components])
            Z = np.ascontiguousarray((scores @ (leading * scale).astype(np.float32)).T)
            W = self._unmix(Z)
            mixing = (
                W / scale
            ) @ leading.T  # weights of the basis: regression of every neuron on the white time courses
            if self._projections is not None:
                parts = np.split(scores, np.cumsum(runs.n_volumes)[:-1])
                onto = ((scores_of_run @ mixing.T).astype(np.float32) for scores_of_run in parts)
                self._projections = list(zip(onto, sums, strict=True))
        return mixing @ basis

    def _projected(self, runs: Runs, basis: np.ndarray) -> Projected:
        """Compute the products of all runs with a basis."""
        if isinstance(runs, StandardizedRuns):  # can project without standardizing again
            return runs.projected(basis)
        return ((products(run, basis), np.nan) for run in self._prepared(runs))

    @property
    def _convergence_advice(self) -> str:
        other = "Use solver='picard' (--solver picard), which often converges. " if self.solver == "fastica" else ""
        return other + super()._convergence_advice

    def _unmix(self, Z: np.ndarray) -> np.ndarray:
        """Run ICA from all starts, and return the centrotypes of the components, ``(n_components, n_components)``."""
        begin = ica.starts(len(Z), self.n_init, self._seed)
        if self.solver == "picard":
            solve: Callable[..., ica.Unmixing] = ica.picard
        elif self.device == "cpu":
            solve = ica.fastica
        else:
            from lmri.decomposition import torch_solver

            solve = partial(torch_solver.fastica, device=self.device)
        unmixing = solve(Z, begin, fun=self.fun, max_iter=self.max_iter, tol=self.tol)
        W, iq = stability.icasso(unmixing.W)
        self._unmixing, self._iq = unmixing, iq
        return W

    # -- surrogates ---------------------------------------------------------------------------------------------------

    def _surrogate_maps(self, n_surrogates: int, n_jobs: int) -> list[np.ndarray]:
        """Estimate the maps of each surrogate; spatial ICA processes several surrogates in one pass over the data."""
        if self.kind != "spatial":
            return super()._surrogate_maps(n_surrogates, n_jobs)
        return spatial_surrogate_maps(self, n_surrogates, n_jobs)


def _reduced_group(
    estimator: NeuronICA, runs: StandardizedRuns, group: list[int], n_rows: int, denoise: bool
) -> tuple[np.ndarray, list[Moments | None]]:
    """Reduce one group of runs in a worker process; return the reduced rows and the moments of the runs."""
    arrays, run_moments = zip(*(runs.read(number) for number in group), strict=True)
    volumes = np.concatenate([estimator._prepare(run, runs) for run in arrays])
    return reduced_in_pieces(volumes, n_rows, denoise, estimator._reduce, centre=denoise), list(run_moments)


def _orthonormal(rows: np.ndarray) -> np.ndarray:
    """Compute an orthonormal basis of the span of `rows`, without directions that are rounding noise."""
    wide = rows.astype(np.float64)
    squares, vectors = linalg.eigh(wide @ wide.T)
    alive = squares > 1e-10 * squares[-1]
    return (vectors[:, alive] / np.sqrt(squares[alive])).T @ wide
