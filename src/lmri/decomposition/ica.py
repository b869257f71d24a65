"""Independent component analysis of white data, on bare arrays, from several starts at once.

White data ``Z`` have shape (n_components, n_samples), rows of variance 1 without correlation. An unmixing ``W`` is
orthogonal, and ``W @ Z`` are the components.
"""

import threading
import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import numpy as np

from lmri.decomposition.threads import one_thread

FUNS = ("logcosh", "cube")
SOLVERS = ("fastica", "picard")

_catching = threading.Lock()
"""Lock for catching warnings, which affects the whole process: concurrent threads would hide warnings of each other."""

_BLOCK = 1024
_WARM_SAMPLES, _WARM_ITERATIONS = 2048, 100


@dataclass(frozen=True, eq=False)
class Unmixing:
    """Unmixing matrices from several starts.

    Parameters
    ----------
    W : ndarray of shape (n_starts, n_components, n_components)
        Unmixing matrices, orthogonal, float64.
    n_iter : ndarray of int, shape (n_starts,)
        Number of iterations over all samples, per start.
    converged : ndarray of bool, shape (n_starts,)
        Whether each start reached the tolerance.
    """

    W: np.ndarray
    n_iter: np.ndarray
    converged: np.ndarray


def starts(n_components: int, n_starts: int, random_state: int) -> np.ndarray:
    """Draw random orthogonal unmixing matrices as starts, ``(n_starts, n_components, n_components)``.

    The first start equals the start of scikit-learn's FastICA with the same seed.
    """
    rng = np.random.RandomState(random_state)
    return decorrelated(rng.normal(size=(n_starts, n_components, n_components)))


def decorrelated(W: np.ndarray) -> np.ndarray:
    """Compute the nearest orthogonal matrices, ``(W W')^-1/2 W`` (symmetric decorrelation)."""
    squares, vectors = np.linalg.eigh(W @ np.swapaxes(W, -1, -2))
    scale = 1 / np.sqrt(np.maximum(squares, np.finfo(float).tiny))
    return (vectors * scale[..., None, :]) @ np.swapaxes(vectors, -1, -2) @ W


def fastica(Z: np.ndarray, W: np.ndarray, fun: str = "logcosh", max_iter: int = 500, tol: float = 1e-4) -> Unmixing:
    """Run symmetric FastICA from several starts.

    All starts share each block of samples while it is in the cache. If there are many more samples than the estimate
    needs, starts approach their optimum on a random subset first, and then converge on all samples.

    Parameters
    ----------
    Z : ndarray of shape (n_components, n_samples)
        White data; float32 suffices, sums are in float64.
    W : ndarray of shape (n_starts, n_components, n_components)
        Orthogonal starts; see `starts`.
    fun : {"logcosh", "cube"}
        Contrast function.
    max_iter : int, default=500
        Maximum number of iterations, including those on a subset.
    tol : float, default=1e-4
        Tolerance: a start has converged when ``max |1 - |cos||`` over components is below this.

    Returns
    -------
    Unmixing

    References
    ----------
    Hyvärinen (1999). Fast and robust fixed-point algorithms for independent component analysis. IEEE Transactions on
    Neural Networks, 10.
    """
    check_fun(fun)
    n_components, n_samples = Z.shape
    n_warm = max(_WARM_SAMPLES, 8 * n_components**2)
    with _one_thread_if_small(n_components):
        if n_samples > 2 * n_warm:
            part = np.sort(np.random.default_rng(0).choice(n_samples, n_warm, replace=False))
            warm = _iterate(
                _step(_rewhitened(Z[:, part]), fun), W, min(2 * max_iter // 3, _WARM_ITERATIONS), max(tol, 1e-3)
            )
            W, max_iter = warm.W, max_iter - int(warm.n_iter.max())
        return _iterate(_step(Z, fun), W, max_iter, tol)


def _rewhitened(Z: np.ndarray) -> np.ndarray:
    """Whiten a subset of white samples without rotation (symmetric whitening)."""
    centred = Z - Z.mean(axis=1, keepdims=True)
    squares, vectors = np.linalg.eigh((centred @ centred.T).astype(np.float64) / Z.shape[1])
    return ((vectors / np.sqrt(squares)) @ vectors.T).astype(Z.dtype) @ centred


Step = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]
"""Function from unmixing matrices ``(n, K, K)`` to ``E[g(y) z']``, ``(n, K, K)``, and ``E[g'(y)]``, ``(n, K)``."""


def _iterate(step: Step, W: np.ndarray, max_iter: int, tol: float) -> Unmixing:
    """Iterate a step with symmetric decorrelation until all starts have converged."""
    W = W.astype(np.float64)  # also a copy
    n_iter, converged = np.zeros(len(W), dtype=int), np.zeros(len(W), dtype=bool)
    for _ in range(max_iter):
        active = np.flatnonzero(~converged)
        if not len(active):
            break
        correlation, slope = step(W[active])
        new = decorrelated(correlation - slope[..., None] * W[active])
        turned = np.abs(np.abs(np.einsum("nij,nij->ni", new, W[active])) - 1).max(axis=1)
        W[active] = new
        n_iter[active] += 1
        converged[active] = turned < tol
    return Unmixing(W, n_iter, converged)


def _step(Z: np.ndarray, fun: str) -> Step:
    """Return the fixed-point step of FastICA on white data."""
    n_components, n_samples = Z.shape

    def step(W: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        stacked = np.ascontiguousarray(W.reshape(-1, n_components), dtype=Z.dtype)
        correlation, slope = np.zeros(stacked.shape), np.zeros(len(stacked))
        memory = np.empty((len(stacked), min(_BLOCK, n_samples)), dtype=Z.dtype)
        for first in range(0, n_samples, _BLOCK):
            part = Z[:, first : first + _BLOCK]
            Y = np.matmul(stacked, part, out=memory[:, : part.shape[1]])
            if fun == "logcosh":
                np.tanh(Y, out=Y)
                slope += part.shape[1] - np.einsum("ij,ij->i", Y, Y)
            else:
                squared = Y * Y
                slope += 3 * squared.sum(axis=1)
                Y *= squared
            correlation += Y @ part.T
        return (correlation / n_samples).reshape(W.shape), (slope / n_samples).reshape(W.shape[:2])

    return step


def picard(Z: np.ndarray, W: np.ndarray, fun: str = "logcosh", max_iter: int = 500, tol: float = 1e-4) -> Unmixing:
    """Run Picard-O from each start, a quasi-Newton method with the same optima as `fastica`.

    Parameters
    ----------
    Z, W, max_iter
        Data, starts and iterations, as for `fastica`.
    fun : {"logcosh"}
        Contrast function; others overflow, because the signs of components are estimated too.
    tol : float, default=1e-4
        Tolerance: a start has converged when the largest entry of the relative gradient is below this.

    References
    ----------
    Ablin, Cardoso & Gramfort (2018). Faster ICA under orthogonal constraint. ICASSP.
    """
    from picard import picard as solve

    if fun != "logcosh":
        raise ValueError(f"fun is {fun!r}; with solver='picard' only 'logcosh' is accepted. Or use solver='fastica'.")
    unmixings, n_iter, converged = [], [], []
    with _one_thread_if_small(len(Z)):
        for start in W:
            with _catching, warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                _, unmixing, _, iterations = solve(
                    Z, fun="tanh", ortho=True, extended=True, whiten=False, centering=False, w_init=start,
                    max_iter=max_iter, tol=tol, return_n_iter=True,
                )  # fmt: skip
            unmixings.append(decorrelated(unmixing))
            n_iter.append(int(iterations))
            converged.append(not any("did not converge" in str(warning.message) for warning in caught))
    return Unmixing(np.stack(unmixings), np.array(n_iter), np.array(converged))


def check_fun(fun: str) -> None:
    """Raise an error for an unknown contrast function."""
    if fun not in FUNS:
        raise ValueError(f"fun is {fun!r}; choose from {', '.join(map(repr, FUNS))}.")


def _one_thread_if_small(n_components: int) -> AbstractContextManager[None]:
    """Limit BLAS to one thread for small matrices."""
    return one_thread() if n_components <= 64 else nullcontext()
