"""NeuronICA: group ICA made for neurons. Streamed group PCA, ICA from several starts, and how sure it is."""

import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import numpy as np
from joblib import Parallel, delayed
from joblib.parallel import get_active_backend
from scipy import linalg
from sklearn.base import BaseEstimator

from lmri.decomposition import ica, stability
from lmri.decomposition.base import Decomposition, Projected, Runs, check_components, warn_of_overlearning
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
from lmri.decomposition.standardization import StandardizedRuns, products
from lmri.decomposition.surrogates import RunMeans, Shifter, generator
from lmri.decomposition.threads import n_threads, one_pool, one_thread
from lmri.exceptions import NothingFoundError
from lmri.space import Img, NeuronSpace

_EXACT, _EXACT_ANYWAY = 16, 1024
"""A temporal decomposition of fewer volumes (or neurons) than this for each component, or in all, is whitened exactly:
group PCA is as good only where the spectrum falls off."""

_SURROGATE_BYTES = 2**30
"""Memory that a worker may take for surrogates that share one reading of the data, beside that reading."""


class NeuronICA(Decomposition, BaseEstimator):
    """Group ICA of a recording, spatial or temporal.

    Runs are read one after the other and merged into a group PCA that keeps a multiple of the components. ICA starts
    several times at random; estimates of all starts are clustered, and each map is the one in the middle of its cluster
    (ICASSO), with an index of how tight the cluster is.

    ``kind="spatial"`` makes maps independent, as CanICA does. Its group PCA takes the noise floor out of every batch of
    volumes, so that networks which few runs engage are not outvoted. Memory is that of one run and of a few times
    ``n_components * n_neurons`` numbers, however many runs there are.

    ``kind="temporal"`` makes time courses independent, as the paper does with scikit-learn's FastICA. Whitening is that
    of a plain PCA of all volumes; what grows with the number of volumes lies on disk, in a temporary file,
    until it is unmixed.

    Parameters
    ----------
    space : NeuronSpace
        The neurons, ``recording.space``.
    n_components : int or "auto", default=20
        Number of maps. ``"auto"`` takes what `lmri.decomposition.order.estimate_order` recommends.
    kind : {"spatial", "temporal"}, default="spatial"
        What is made independent.
    solver : {"fastica", "picard"}, default="fastica"
        Both find the same maps.
    fun : {"logcosh", "cube"}, default="logcosh"
        Contrast function; ``"cube"`` is faster and follows outliers.
    n_init : int, default=10
        Starts.
    standardize : {"zscore", "center", "none"}, default="zscore"
        What is done to each neuron's time series.
    scope : {"run", "study"}, default="run"
        Over which volumes. Within each run, as in fMRI, also differences between runs, and so between texts, are
        removed; in a language model these are signal, which ``"study"`` keeps.
    max_iter : int, default=500
        Iterations of a start.
    tol : float, default=1e-4
        Change of the unmixing at which a start has converged.
    random_state : int, default=0
        Seed of starts and surrogates.
    device : str, default="cpu"
        Anything else, such as ``"cuda"``, is for torch: it reduces runs and iterates there.
    n_jobs : int, default=1
        Processes over runs; `joblib.parallel_config` decides where they are.

    Attributes
    ----------
    components_ : ndarray of shape (n_components, n_neurons)
        Maps in (layer, neuron) order; the heavier tail positive; the one that explains most first.
    variance_ : ndarray of shape (n_components,)
        Share of variance that each explains alone.
    stability_ : ndarray of shape (n_components,)
        Cluster index Iq over the starts, at most 1; NaN for a single start.
    n_iter_, converged_ : ndarray of shape (n_init,)
        Of every start.
    n_components_ : int
        Number of maps.
    order_ : OrderEstimate
        With ``n_components="auto"``.

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
        """``ica``, or ``ica-temporal``."""
        return "ica" if self.kind == "spatial" else f"ica-{self.kind}"

    def fit(self, imgs: Img | Sequence[Img], y: None = None, confounds: Sequence[Any] | None = None) -> "NeuronICA":
        """Find the maps.

        Parameters
        ----------
        imgs : path, Nifti1Image or sequence of them
            4D images of the space, such as ``recording.imgs``. Runs may be shorter than there are components.
        y : None
            Here for scikit-learn's signature.
        confounds : sequence of array or DataFrame of shape (n_volumes, n_confounds), optional
            One a run, regressed out of every neuron after standardization; `lmri.confounds.select` gives them.
        """
        self._check_parameters()
        runs = self._start(imgs, confounds)
        self._onto_maps = []
        maps, convergence = self._find(runs)
        known, self._onto_maps = self._onto_maps, None
        projected = ((own.astype(np.float64), squares) for own, squares in known) if known else None
        self._finish(maps, runs, convergence, {"iq": self._iq}, projected)
        self.n_components_ = len(maps)
        self.variance_ = self.metrics_["variance"].to_numpy()
        self.stability_ = self.metrics_["iq"].to_numpy()
        self.n_iter_, self.converged_ = self._unmixing.n_iter, self._unmixing.converged
        return self

    def _check_parameters(self) -> None:
        for name, accepted in (("kind", ("spatial", "temporal")), ("solver", ica.SOLVERS), ("fun", ica.FUNS)):
            if getattr(self, name) not in accepted:
                raise ValueError(f"{name} is {getattr(self, name)!r}; accepted are {', '.join(map(repr, accepted))}.")
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

    _onto_maps: list[tuple[np.ndarray, float]] | None = None
    """While it fits: products of each run with the maps, where they are known without another reading."""

    # -- the pipeline -------------------------------------------------------------------------------------------------

    def _find(self, runs: Runs) -> tuple[np.ndarray, dict[str, Any]]:
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
        if self.n_components != "auto":
            return int(self.n_components)
        from lmri.decomposition.order import estimate_order

        # Beyond the square root of the samples, ICA overlearns.
        samples = sum(runs.n_volumes) if self.kind == "temporal" else self.space.n_neurons
        self.order_ = estimate_order(runs, random_state=self._seed, max_order=max(1, int(samples**0.5)))
        if not self.order_.recommended:
            raise NothingFoundError(
                "n_components is 'auto', and no component stands out of surrogates: by parallel analysis there is "
                "nothing to decompose. Record more, or give a number."
            )
        return self.order_.recommended

    @property
    def _reduce(self) -> Reduce:
        if self.device == "cpu":
            return reduced
        from lmri.decomposition import torch_solver

        return partial(torch_solver.reduced, device=self.device)

    def _group_pca(self, runs: Runs, n_components: int) -> np.ndarray:
        """Reduce all runs to rows ``(n_rows, n_neurons)``."""
        denoise = self.kind == "spatial"
        kept = n_kept(n_components)
        pca = GroupPCA(kept, denoise, self._reduce, centre=denoise)
        smaller = min(sum(runs.n_volumes), self.space.n_neurons)
        if not denoise and smaller <= max(_EXACT * n_components, _EXACT_ANYWAY):
            rows = min(n_components + 1, smaller)
            return leading_rows(self._prepared(runs), sum(runs.n_volumes), self.space.n_neurons, rows)
        if self.n_jobs == 1 or not isinstance(runs, StandardizedRuns):
            for group in self._grouped(runs):
                pca.update(group)
            return pca.rows
        if self.scope == "study" or self.standardize == "none":
            _ = runs.moments  # once, here, and not in every process
        groups = plan(runs.n_volumes)
        jobs = (delayed(_reduced_group)(self, runs, numbers, kept, denoise) for numbers in groups)
        found = Parallel(n_jobs=self.n_jobs, return_as="generator")(jobs)
        for numbers, (rows, seen) in zip(groups, found, strict=True):
            for place, own in zip(numbers, seen, strict=True):
                runs.note(place, own)
            pca.merge(rows)
        return pca.rows

    def _grouped(self, runs: Runs) -> Iterator[np.ndarray]:
        """Give the runs prepared, short ones together, as `plan` groups them."""
        prepared = self._prepared(runs)
        for group in plan(runs.n_volumes):
            parts = [next(prepared) for _ in group]
            yield parts[0] if len(parts) == 1 else np.concatenate(parts)

    def _prepared(self, runs: Runs) -> Iterator[np.ndarray]:
        return (self._prepare(run, runs) for run in runs)

    def _prepare(self, run: np.ndarray, runs: Runs) -> np.ndarray:
        """Centre over volumes for the temporal kind; group PCA centres over neurons for the spatial one."""
        if self.kind == "temporal" and self.standardize == "none":
            own = runs if isinstance(runs, StandardizedRuns) else runs.runs
            run = run - own.moments.mean.astype(np.float32)
        return run

    def _spatial(self, rows: np.ndarray, n_components: int) -> np.ndarray:
        Z = whitened(rows, n_components)
        return self._unmix(Z).astype(np.float32) @ Z

    def _temporal(self, runs: Runs, rows: np.ndarray, n_components: int) -> np.ndarray:
        """Project all volumes on an orthonormal basis of `rows`, and unmix the leading principal time courses."""
        basis = _orthonormal(rows)
        with tempfile.TemporaryFile(prefix="lmri-", suffix=".f4") as file:
            shape = (sum(runs.n_volumes), len(basis))
            scores: np.ndarray = np.memmap(file, dtype=np.float32, mode="w+", shape=shape)
            first, covariance, sums = 0, np.zeros((len(basis), len(basis))), []
            for own, squares in self._projected(runs, basis):
                covariance += own.T @ own
                scores[first : first + len(own)] = own
                first += len(own)
                sums.append(squares)
            squares, vectors = linalg.eigh(covariance)
            squares, vectors = squares[::-1], vectors[:, ::-1]
            check_rank(squares, n_components)
            leading = vectors[:, :n_components]
            # scikit-learn's choice of signs, so that its start is ours.
            leading = leading * np.where(basis[:, 0] @ leading < 0, -1.0, 1.0)
            scale = np.sqrt(shape[0] / squares[:n_components])
            Z = np.ascontiguousarray((scores @ (leading * scale).astype(np.float32)).T)
            W = self._unmix(Z)
            mixing = (W / scale) @ leading.T  # of the basis: the regression of every neuron on the white time courses
            if self._onto_maps is not None:
                parts = np.split(scores, np.cumsum(runs.n_volumes)[:-1])
                onto = ((own @ mixing.T).astype(np.float32) for own in parts)
                self._onto_maps = list(zip(onto, sums, strict=True))
        return mixing @ basis

    def _projected(self, runs: Runs, basis: np.ndarray) -> Projected:
        """Multiply all runs by a basis."""
        if isinstance(runs, StandardizedRuns):  # which need not standardize them once more
            return runs.projected(basis)
        return ((products(run, basis), np.nan) for run in self._prepared(runs))

    def _unmix(self, Z: np.ndarray) -> np.ndarray:
        """Run ICA from all starts, and choose one estimate of each component: ``(n_components, n_components)``."""
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
        if self.kind != "spatial":
            return super()._surrogate_maps(n_surrogates, n_jobs)
        # Threads read the data once for all of them; what a user has put in their place, such as a cluster, cannot.
        backend, _ = get_active_backend(prefer="threads")
        shared, n_workers = getattr(backend, "supports_sharedmem", False), backend.effective_n_jobs(n_jobs)
        # A surrogate a thread costs less than all threads of BLAS for one after the other.
        wanted = max(n_workers, n_threads() if self.device == "cpu" else 1) if shared else 1
        threads, together = self._at_once(wanted, n_workers if shared else 1)
        if not shared:
            together = min(together, -(-n_surrogates // n_workers))
        parts = [range(n_surrogates)[first : first + together] for first in range(0, n_surrogates, together)]
        jobs = (delayed(_surrogates)(self._again(), self._runs, part, threads) for part in parts)
        with one_thread() if threads > 1 or not shared else one_pool():
            found = Parallel(n_jobs=1 if shared else n_jobs)(jobs)
        return [maps for part in found for maps in part]

    def _at_once(self, threads: int, n_workers: int) -> tuple[int, int]:
        """Decide how many threads there is memory for, and how many surrogates may share one reading of the data."""
        groups = plan(self._runs.n_volumes)
        volumes = max(sum(self._runs.n_volumes[number] for number in group) for group in groups)
        has_means = self.scope == "study" or self.standardize == "none"
        a_row = 4 * self.space.n_neurons
        # A thread has the volumes of one surrogate, changed and put together; a surrogate keeps its reduced rows.
        of_thread = a_row * volumes * (1 + has_means + any(len(group) > 1 for group in groups))
        of_surrogate = a_row * (2 * n_kept(len(self.components_)) + has_means * len(self._runs))
        most = n_workers * _SURROGATE_BYTES
        threads = max(n_workers, min(threads, most // (of_thread + of_surrogate)))
        return threads, max(threads, (most - threads * of_thread) // of_surrogate)


def _reduced_group(
    estimator: NeuronICA, runs: StandardizedRuns, group: list[int], kept: int, denoise: bool
) -> tuple[np.ndarray, list[Any]]:
    """Reduce one group of runs in a process of its own; give the moments it has seen, too."""
    arrays, seen = zip(*(runs.read(number) for number in group), strict=True)
    whole = np.concatenate([estimator._prepare(run, runs) for run in arrays])
    return reduced_in_pieces(whole, kept, denoise, estimator._reduce, centre=denoise), list(seen)


def _surrogates(estimator: Any, runs: StandardizedRuns, numbers: Sequence[int], threads: int) -> list[np.ndarray]:
    """Find the maps of several surrogates in one reading of the data.

    Several threads share it: numpy leaves Python to the others while it works, and processes would have to start.
    """
    n_components = int(estimator.n_components)
    accumulated = [GroupPCA(n_kept(n_components), True, estimator._reduce, True) for _ in numbers]
    means = RunMeans(runs, estimator._seed)
    changes = [means.change(surrogate) for surrogate in numbers]
    read = iter(runs)

    def load(group: list[int], before: list[Shifter]) -> list[Shifter]:
        return [Shifter(next(read), old) for _, old in zip(group, [*before, *[None] * len(group)], strict=False)]

    def add(place: int, group: list[int], shifters: list[Shifter]) -> None:
        sources = [generator(estimator._seed, numbers[place], number) for number in group]
        shifted = [shift(source) for shift, source in zip(shifters, sources, strict=True)]
        change = changes[place]
        if change is not None:
            shifted = [run + change[number] for run, number in zip(shifted, group, strict=True)]
        accumulated[place].update(shifted[0] if len(shifted) == 1 else np.concatenate(shifted))

    def found(place: int) -> np.ndarray:
        maps: np.ndarray = estimator._spatial(accumulated[place].rows, n_components)
        return maps

    places, groups = range(len(numbers)), plan(runs.n_volumes)
    with ThreadPoolExecutor(threads) as pool:
        each = pool.map if threads > 1 else map
        shifters, spare = load(groups[0], []), list[Shifter]()
        for group, following in zip(groups, [*groups[1:], None], strict=True):
            # One thread that read ahead would need the memory of two groups for nothing.
            ahead = pool.submit(load, following, spare) if following and threads > 1 else None
            for _ in each(partial(add, group=group, shifters=shifters), places):
                pass
            if following:
                spare, shifters = shifters, ahead.result() if ahead else load(following, shifters)
        return list(each(found, places))


def _orthonormal(rows: np.ndarray) -> np.ndarray:
    """Give an orthonormal basis of the span of `rows`, without directions that are rounding noise."""
    wide = rows.astype(np.float64)
    squares, vectors = linalg.eigh(wide @ wide.T)
    alive = squares > 1e-10 * squares[-1]
    return (vectors[:, alive] / np.sqrt(squares[alive])).T @ wide
