"""Group PCA and FastICA in torch, for a GPU: the steps of `group_pca` and `ica`. No other module here uses torch."""

import numpy as np
import torch

from lmri.decomposition.ica import Unmixing, check_fun

_BLOCK = 65_536


def check_device(device: str) -> None:
    """Raise an error if torch cannot use a device."""
    try:
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ValueError(f"device is {device!r}, which torch cannot use here ({error}). Accepted is 'cpu'.") from error


def reduced(X: np.ndarray, n_rows: int, denoise: bool, centre: bool = False, *, device: str) -> np.ndarray:
    """Compute the leading principal axes of `X`, like `lmri.decomposition.group_pca.reduced`.

    Parameters
    ----------
    X : ndarray of shape (n_volumes, n_neurons)
        Volumes, float32.
    n_rows : int
        Largest number of rows to keep.
    denoise : bool
        Whether the squared singular values are lowered by their median.
    centre : bool, default=False
        Whether each volume is centred over neurons first.
    device : str
        Torch device, such as ``"cuda"``.

    Returns
    -------
    ndarray of shape (min(n_rows, n_volumes), n_neurons)
        Reduced rows, float32.
    """
    volumes = torch.from_numpy(np.ascontiguousarray(X)).to(device)
    if centre:
        volumes = volumes - volumes.mean(dim=1, dtype=torch.float64, keepdim=True).float()
    gram = torch.zeros(len(X), len(X), dtype=torch.float64, device=device)
    for part in volumes.split(_BLOCK, dim=1):
        gram += part @ part.T
    squares, vectors = torch.linalg.eigh(gram)
    squares, vectors = squares.flip(0), vectors.flip(1)
    n_kept = min(n_rows, len(squares))
    if denoise and len(squares) >= 2 * n_rows:
        middle = (
            squares[(len(squares) - 1) // 2] + squares[len(squares) // 2]
        ) / 2  # torch.median returns the lower middle value
        lowered = (squares[:n_kept] - middle).clamp(min=0)
        vectors = vectors[:, :n_kept] * (lowered / squares[:n_kept].clamp(min=torch.finfo(torch.float64).tiny)).sqrt()
    return (vectors[:, :n_kept].T.float() @ volumes).cpu().numpy()


def fastica(Z: np.ndarray, W: np.ndarray, fun: str, max_iter: int, tol: float, device: str) -> Unmixing:
    """Run symmetric FastICA, like `lmri.decomposition.ica.fastica`, one start after the other.

    Parameters
    ----------
    Z : ndarray of shape (n_components, n_samples)
        White data.
    W : ndarray of shape (n_starts, n_components, n_components)
        Orthogonal starts.
    fun : {"logcosh", "cube"}
        Contrast function.
    max_iter : int
        Maximum number of iterations.
    tol : float
        Tolerance: value of ``max |1 - |cos||`` below which a start has converged.
    device : str
        Torch device, such as ``"cuda"``.
    """
    check_fun(fun)
    samples = torch.from_numpy(np.ascontiguousarray(Z, dtype=np.float32)).to(device)
    unmixings, n_iter, converged = [], [], []
    for start in W:
        current, done, iterations = torch.from_numpy(start.astype(np.float64)).to(device), False, 0
        while not done and iterations < max_iter:
            new = _decorrelated(_fixed_point(samples, current, fun))
            done = bool(((new * current).sum(dim=1).abs() - 1).abs().max() < tol)
            current, iterations = new, iterations + 1
        unmixings.append(current.cpu().numpy())
        n_iter.append(iterations)
        converged.append(done)
    return Unmixing(np.stack(unmixings), np.array(n_iter), np.array(converged))


def _fixed_point(Z: torch.Tensor, W: torch.Tensor, fun: str) -> torch.Tensor:
    """Compute ``E[g(y) z'] - E[g'(y)] W``, summed in blocks, float64."""
    correlation = torch.zeros_like(W)
    slope = torch.zeros(len(W), dtype=W.dtype, device=W.device)
    single = W.float()
    for part in Z.split(_BLOCK, dim=1):
        Y = single @ part
        if fun == "logcosh":
            Y = Y.tanh_()
            slope += part.shape[1] - (Y * Y).sum(dim=1)
        else:
            squared = Y * Y
            slope += 3 * squared.sum(dim=1)
            Y = Y * squared
        correlation += Y @ part.T
    return (correlation - slope[:, None] * W) / Z.shape[1]


def _decorrelated(W: torch.Tensor) -> torch.Tensor:
    """Compute the nearest orthogonal matrix (symmetric decorrelation)."""
    squares, vectors = torch.linalg.eigh(W @ W.T)
    return (vectors * squares.clamp(min=torch.finfo(W.dtype).tiny).rsqrt()) @ vectors.T @ W
