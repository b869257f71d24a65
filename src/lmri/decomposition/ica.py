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
"""Warnings are caught for the whole process: threads that did so at the same time would leave none for others."""

_BLOCK = 1024
_WARM_SAMPLES, _WARM_ITERATIONS = 2048, 100


@dataclass(frozen=True, eq=False)
class Unmixing:
    """What several starts have come to.

    Parameters
    ----------
    W : ndarray of shape (n_starts, n_components, n_components)
        Orthogonal, float64.
    n_iter : ndarray of int, shape (n_starts,)
        Iterations over all samples.
    converged : ndarray of bool, shape (n_starts,)
        Whether each reached the tolerance.
    """

    W: np.ndarray
    n_iter: np.ndarray
    converged: np.ndarray


def starts(n_components: int, n_starts: int, random_state: int) -> np.ndarray:
    """Draw orthogonal unmixings to start from, ``(n_starts, n_components, n_components)``.

    The first is the one that scikit-learn's FastICA draws with the same seed.
    """
    rng = np.random.RandomState(random_state)
    return decorrelated(rng.normal(size=(n_starts, n_components, n_components)))


def decorrelated(W: np.ndarray) -> np.ndarray:
    """Give the nearest orthogonal matrices, ``(W W')^-1/2 W``: symmetric decorrelation."""
    squares, vectors = np.linalg.eigh(W @ np.swapaxes(W, -1, -2))
    scale = 1 / np.sqrt(np.maximum(squares, np.finfo(float).tiny))
    return (vectors * scale[..., None, :]) @ np.swapaxes(vectors, -1, -2) @ W


def fastica(Z: np.ndarray, W: np.ndarray, fun: str = "logcosh", max_iter: int = 500, tol: float = 1e-4) -> Unmixing:
    """Iterate symmetric FastICA from several starts.

    All starts share each block of samples while it is in the cache. Where there are many more samples than the
    estimate needs, starts approach their optimum on a random part of them and reach it on all.

    Parameters
    ----------
    Z : ndarray of shape (n_components, n_samples)
        White; float32 is enough, sums are in float64.
    W : ndarray of shape (n_starts, n_components, n_components)
        Orthogonal; see `starts`.
    fun : {"logcosh", "cube"}
        Contrast function.
    max_iter : int, default=500
        Iterations, at most, those on a part included.
    tol : float, default=1e-4
        A start has converged when no component turned by more than this: ``max |1 - |cos||``.

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
    """Whiten a part of white samples without turning it."""
    centred = Z - Z.mean(axis=1, keepdims=True)
    squares, vectors = np.linalg.eigh((centred @ centred.T).astype(np.float64) / Z.shape[1])
    return ((vectors / np.sqrt(squares)) @ vectors.T).astype(Z.dtype) @ centred


Step = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]
"""From unmixings ``(n, K, K)`` to ``E[g(y) z']``, ``(n, K, K)``, and ``E[g'(y)]``, ``(n, K)``."""


def _iterate(step: Step, W: np.ndarray, max_iter: int, tol: float) -> Unmixing:
    W = W.astype(np.float64)  # a copy, too
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
    """Run Picard-O from each start: the optima of `fastica`, by a quasi-Newton method.

    Parameters
    ----------
    Z, W, max_iter
        As for `fastica`.
    fun : {"logcosh"}
        Others overflow where signs of components are estimated too.
    tol : float, default=1e-4
        A start has converged when the largest entry of the relative gradient is below this.

    References
    ----------
    Ablin, Cardoso & Gramfort (2018). Faster ICA under orthogonal constraint. ICASSP.
    """
    from picard import picard as solve

    if fun != "logcosh":
        raise ValueError(f"fun is {fun!r}; with solver='picard' accepted is 'logcosh'. Or take solver='fastica'.")
    found, n_iter, converged = [], [], []
    with _one_thread_if_small(len(Z)):
        for start in W:
            with _catching, warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                _, unmixing, _, iterations = solve(
                    Z, fun="tanh", ortho=True, extended=True, whiten=False, centering=False, w_init=start,
                    max_iter=max_iter, tol=tol, return_n_iter=True,
                )  # fmt: skip
            found.append(decorrelated(unmixing))
            n_iter.append(int(iterations))
            converged.append(not any("did not converge" in str(one.message) for one in caught))
    return Unmixing(np.stack(found), np.array(n_iter), np.array(converged))


def check_fun(fun: str) -> None:
    """Refuse an unknown contrast function."""
    if fun not in FUNS:
        raise ValueError(f"fun is {fun!r}; accepted are {', '.join(map(repr, FUNS))}.")


def _one_thread_if_small(n_components: int) -> AbstractContextManager[None]:
    return one_thread() if n_components <= 64 else nullcontext()
