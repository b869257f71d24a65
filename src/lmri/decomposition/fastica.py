"""scikit-learn's FastICA over a neuron space: temporal, as in the paper, or spatial."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy import linalg
from sklearn import decomposition
from sklearn.base import BaseEstimator

from lmri.decomposition.base import SURROGATE_ITERATIONS, Decomposition, Runs
from lmri.decomposition.fit_checks import check_components, counted_non_convergence, warn_of_overlearning
from lmri.decomposition.ica import FUNS
from lmri.decomposition.neuronica import NeuronICA
from lmri.decomposition.threads import one_thread
from lmri.space import Img, NeuronSpace


class FastICA(Decomposition, BaseEstimator):
    """Independent components of all runs together.

    ``kind="temporal"`` is the paper's method: time courses are made independent, and a map is a column of the mixing
    matrix. ``kind="spatial"`` makes maps independent, as in fMRI and CanICA. The two agree only if time courses are far
    from Gaussian.

    Whitening is exact, from the smaller of the two Gram matrices; the iteration is scikit-learn's with its own random
    start, so the components equal those from ``sklearn.decomposition.FastICA``, in a fraction of the time.

    Parameters
    ----------
    space : NeuronSpace
        Neuron space, ``recording.space``.
    n_components : int, default=20
        Number of maps.
    kind : {"temporal", "spatial"}, default="temporal"
        Kind of independence: of time courses or of maps.
    fun : {"logcosh", "exp", "cube"}, default="logcosh"
        Contrast function.
    standardize : {"zscore", "center", "none"}, default="zscore"
        Standardization of each neuron's time series.
    scope : {"run", "study"}, default="run"
        Scope of mean and standard deviation.
    max_iter : int, default=1000
        Maximum number of iterations.
    tol : float, default=1e-4
        Change of the unmixing matrix below which iterations end.
    random_state : int, default=0
        Random seed of the start.
    signs : {"skewness", "solver"}, default="skewness"
        Sign of the maps: the heavier tail positive, or the sign from scikit-learn's FastICA, as in the paper.

    References
    ----------
    Hyvärinen & Oja (2000). Independent component analysis: algorithms and applications. Neural Networks, 13, 411–430.
    """

    def __init__(
        self,
        space: NeuronSpace,
        n_components: int = 20,
        *,
        kind: str = "temporal",
        fun: str = "logcosh",
        standardize: str = "zscore",
        scope: str = "run",
        max_iter: int = 1000,
        tol: float = 1e-4,
        random_state: int = 0,
        signs: str = "skewness",
    ) -> None:
        self.space = space
        self.n_components = n_components
        self.kind = kind
        self.fun = fun
        self.standardize = standardize
        self.scope = scope
        self.max_iter = max_iter
        self.tol = tol
        self.random_state = random_state
        self.signs = signs

    @property
    def method_name(self) -> str:  # type: ignore[override]
        """Name of the method, ``fastica-temporal`` or ``fastica-spatial``."""
        return f"fastica-{self.kind}"

    def fit(self, imgs: Img | Sequence[Img], y: None = None, confounds: Sequence[Any] | None = None) -> "FastICA":
        """Estimate the maps; all runs are held in memory.

        Parameters
        ----------
        imgs : path, Nifti1Image or sequence of them
            4D images of the space, such as ``recording.imgs``.
        y : None
            Ignored; present for scikit-learn's signature.
        confounds : sequence of array or DataFrame of shape (n_volumes, n_confounds), optional
            Confounds, one array or table per run, as from `lmri.confounds.select`. They are regressed out of every
            neuron after standardization.
        """
        if self.kind not in ("temporal", "spatial"):
            raise ValueError(f"kind is {self.kind!r}; accepted values are 'temporal' and 'spatial'.")
        if self.signs not in ("skewness", "solver"):
            raise ValueError(f"signs is {self.signs!r}; accepted values are 'skewness' and 'solver'.")
        runs = self._prepare_runs(imgs, confounds)
        maps, convergence = self._fit_maps(runs)
        self._store_results(maps, runs, convergence)
        return self

    def _clone_for_surrogate(self) -> Decomposition:
        """Create the faster estimator `NeuronICA` for temporal surrogates if it supports the contrast function."""
        if self.kind == "spatial" or self.fun not in FUNS:
            return super()._clone_for_surrogate()
        # The same decomposition, but faster, because it needs no Gram matrix of all volumes.
        return NeuronICA(
            self.space, len(self.components_), "temporal", fun=self.fun, n_init=1, standardize=self.standardize,
            scope=self.scope, random_state=self.random_state, max_iter=min(self.max_iter, SURROGATE_ITERATIONS),
            tol=self.tol,
        )  # fmt: skip

    def _fit_maps(self, runs: Runs) -> tuple[np.ndarray, dict[str, Any]]:
        """Whiten all runs together, and unmix them by FastICA."""
        check_components([sum(runs.n_volumes)], self.n_components, self.space.n_neurons)
        temporal = self.kind == "temporal"
        n_samples = sum(runs.n_volumes) if temporal else self.space.n_neurons
        warn_of_overlearning(n_samples, self.n_components, "volumes" if temporal else "neurons")

        X = np.concatenate(list(runs))  # (n_volumes, n_neurons)
        X = X - X.mean(axis=0 if temporal else 1, keepdims=True, dtype=np.float64).astype(X.dtype)
        left, values, right = leading_singular(X, self.n_components)
        # Signs as in scikit-learn, so that the same start is used.
        signs = np.where((right if temporal else left)[0] < 0, -1.0, 1.0)
        left, right = left * signs, right * signs
        samples = (left if temporal else right) * np.sqrt(n_samples)  # (n_samples, n_components), white
        ica = decomposition.FastICA(
            whiten=False, fun=self.fun, max_iter=self.max_iter, tol=self.tol, random_state=self.random_state
        )
        with one_thread(), counted_non_convergence() as counter:
            ica.fit(samples)
        W = ica.components_  # (n_components, n_components)
        maps = W @ (right * values).T / np.sqrt(n_samples) if temporal else W @ samples.T
        return maps, {"n_starts": 1, "n_converged": int(counter[0] == 0), "n_iter": int(ica.n_iter_)}


def leading_singular(X: np.ndarray, n_components: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Compute the leading singular triplets of `X` exactly, from the smaller Gram matrix in float64.

    Parameters
    ----------
    X : ndarray of shape (n_rows, n_columns)
        Centred data.
    n_components : int
        Number of triplets.

    Returns
    -------
    left : ndarray of shape (n_rows, n_components)
        Left singular vectors.
    values : ndarray of shape (n_components,)
        Singular values, largest first.
    right : ndarray of shape (n_columns, n_components)
        Right singular vectors.

    Raises
    ------
    ValueError
        If the rank of `X` is less than `n_components`.
    """
    wide = X.shape[0] <= X.shape[1]
    gram = gram64(X if wide else X.T)
    n = len(gram)
    if n_components <= n:
        squares, vectors = linalg.eigh(gram, subset_by_index=[n - n_components, n - 1], overwrite_a=True)
        squares, vectors = squares[::-1], vectors[:, ::-1]
    if n_components > n or squares[-1] <= 1e-10 * max(squares[0], np.finfo(float).tiny):
        rank = n if n_components > n else int((squares > 1e-10 * squares[0]).sum())
        raise ValueError(
            f"n_components is {n_components}, but the rank of the data is only {rank}. Choose fewer components."
        )
    values = np.sqrt(squares)
    if wide:
        return vectors, values, X.T.astype(np.float64) @ vectors / values
    return X.astype(np.float64) @ vectors / values, values, vectors


def gram64(X: np.ndarray, block: int = 4096) -> np.ndarray:
    """Compute ``X @ X.T`` in float64, without a float64 copy of all of `X`."""
    gram = np.zeros((len(X), len(X)))
    for first in range(0, X.shape[1], block):
        part = X[:, first : first + block].astype(np.float64)
        gram += part @ part.T
    return gram
