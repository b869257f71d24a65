"""Group PCA: the leading components of all runs, from one pass over the data in bounded memory."""

import tempfile
from collections.abc import Callable, Iterable, Sequence

import numpy as np
from scipy import linalg

from lmri.decomposition.lapack import tridiagonal_eigen
from lmri.decomposition.threads import other_pool

BATCH = 512
"""Largest number of volumes that are reduced together: shorter runs are concatenated, longer ones split into pieces of
equal length. With more volumes the cost per volume increases, and the noise floor is estimated more precisely."""

_BLOCK = 16384

_MOST_CANCELLED = 1e-2
"""Share of a volume's sum of squares around its mean below which volumes are centred before the product."""

_FEW, _EXACT_ENOUGH = 3, 1e-9
_LARGE, _SMALL_RESIDUAL = 1024, 1e-4

Reduce = Callable[[np.ndarray, int, bool, bool], np.ndarray]
"""Function that reduces volumes, such as `reduced`. Arguments: volumes, number of rows, whether to denoise, whether to
centre."""


def n_kept(n_components: int) -> int:
    """Return the number of rows to keep between runs: twice the number of components if that is affordable.

    With fewer rows, networks that are active in few runs are lost; more rows take time without improving the result.
    """
    return min(max(2 * n_components, n_components + 20), n_components + 100)


class GroupPCA:
    """Incremental group PCA: volumes are accumulated by `update`, and `rows` holds the result.

    Each batch of volumes is reduced exactly, through the eigenvectors of its Gram matrix, and merged with the previous
    rows (MIGP: Smith et al., 2014). Memory holds one batch and ``2 * n_kept * n_neurons`` numbers.

    Parameters
    ----------
    n_kept : int
        Number of rows to keep between batches.
    denoise : bool, default=True
        Whether the noise floor of each batch is subtracted: squared singular values are lowered by their median, as in
        probabilistic PCA (Tipping & Bishop, 1999). Otherwise directions of noise compete with networks that are active
        in few runs.
    reduce : callable, optional
        Function that reduces a batch, such as the implementation in torch; by default `reduced`.
    centre : bool, default=False
        Whether each volume is centred over neurons, as spatial ICA requires.

    References
    ----------
    Smith et al. (2014). Group-PCA for very large fMRI datasets. NeuroImage, 101, 738–749.
    Tipping & Bishop (1999). Probabilistic principal component analysis. Journal of the Royal Statistical Society B, 61.
    """

    def __init__(self, n_kept: int, denoise: bool = True, reduce: Reduce | None = None, centre: bool = False) -> None:
        self.n_kept, self.denoise, self.reduce, self.centre = n_kept, denoise, reduce or reduced, centre
        self._rows: np.ndarray | None = None

    def update(self, X: np.ndarray) -> None:
        """Add the volumes of a run or a group of runs, ``(n_volumes, n_neurons)``, float32."""
        self.merge(reduced_in_pieces(X, self.n_kept, self.denoise, self.reduce, self.centre))

    def merge(self, rows: np.ndarray) -> None:
        """Add rows of reduced volumes."""
        both = rows if self._rows is None else np.concatenate([self._rows, rows])
        self._rows = both if len(both) <= self.n_kept else self.reduce(both, self.n_kept, False, False)

    @property
    def rows(self) -> np.ndarray:
        """Leading components ``(<= n_kept, n_neurons)``, scaled by their singular values."""
        if self._rows is None:
            raise ValueError("GroupPCA has no volumes. Call update first.")
        return self._rows


def reduced(X: np.ndarray, n_rows: int, denoise: bool, centre: bool = False) -> np.ndarray:
    """Compute the leading principal axes of `X`: orthogonal rows, scaled by their singular values.

    Parameters
    ----------
    X : ndarray of shape (n_volumes, n_neurons)
        Volumes, float32, in any memory order.
    n_rows : int
        Largest number of rows to keep.
    denoise : bool
        Whether the squared singular values are lowered by their median, if there are at least ``2 * n_rows`` volumes.
    centre : bool, default=False
        Whether each volume is centred over neurons first. No centred copy is made if the means are small relative to
        the deviations from them.

    Returns
    -------
    ndarray of shape (min(n_rows, n_volumes), n_neurons)
        Reduced rows, float32.
    """
    squares, means = gram(X), None
    if centre:
        means = _means(X)
        centred = squares - X.shape[1] * np.outer(means, means)
        if (np.diag(centred) < _MOST_CANCELLED * np.diag(squares)).any():
            X, means = X - means[:, None].astype(np.float32), None
            X -= _means(X)[:, None].astype(np.float32)  # remainder from rounding of large means
            centred = gram(X)
        squares = centred
    values, vectors, middle = leading_eigen(squares, n_rows)
    if denoise and len(X) >= 2 * n_rows:  # with fewer volumes, half of them is signal
        vectors = vectors * np.sqrt(np.maximum(values - middle, 0) / np.maximum(values, np.finfo(float).tiny))
    weights = np.ascontiguousarray(vectors.T, dtype=np.float32)
    # Both orders follow the memory layout of `X`, which is neuron-major for surrogates.
    rows = weights @ X if X.flags.c_contiguous else (X.T @ weights.T).T
    if means is not None:
        rows -= (weights @ means)[:, None].astype(np.float32)
    return rows


def leading_eigen(squares: np.ndarray, n_rows: int) -> tuple[np.ndarray, np.ndarray, float]:
    """Compute the leading eigenvectors of a Gram matrix, and the median of all its eigenvalues.

    If few of many vectors are needed, they are computed by inverse iteration from the tridiagonal form, in half the
    time of all vectors; if they fail a check of accuracy, all vectors are computed.

    Parameters
    ----------
    squares : ndarray of shape (n, n)
        Gram matrix, symmetric, float64.
    n_rows : int
        Largest number of vectors.

    Returns
    -------
    values : ndarray of shape (min(n_rows, n),)
        Eigenvalues, largest first.
    vectors : ndarray of shape (n, min(n_rows, n))
        Eigenvectors, orthonormal columns.
    median : float
        Median of all eigenvalues.
    """
    n = len(squares)
    if n >= _FEW * n_rows and (eigen := tridiagonal_eigen(squares, n_rows)) is not None:
        values, vectors = eigen
        leading = values[n - n_rows :]
        # With equal eigenvalues or rows of zeros, vectors from inverse iteration are not orthogonal.
        askew = np.abs(vectors.T @ vectors - np.eye(n_rows)).max()
        rest = np.abs(squares @ vectors - vectors * leading).max()
        if askew < _EXACT_ENOUGH and rest <= _EXACT_ENOUGH * max(abs(leading[-1]), np.finfo(float).tiny):
            return leading[::-1], vectors[:, ::-1], float(np.median(values))
    values, vectors = np.linalg.eigh(squares)  # scipy's eigh would block other threads
    return values[::-1][:n_rows], vectors[:, ::-1][:, :n_rows], float(np.median(values))


def largest_eigen(squares: np.ndarray, n_rows: int) -> tuple[np.ndarray, np.ndarray]:
    """Compute the leading eigenvectors of a large Gram matrix.

    A large matrix is solved in float32 for slightly more vectors than needed; a Rayleigh-Ritz step in float64 then
    computes the leading vectors in their span (Parlett, 1998). If the residual is too large, for example because
    eigenvalues differ by orders of magnitude, the whole problem is solved in float64.

    Parameters
    ----------
    squares : ndarray of shape (n, n)
        Gram matrix, symmetric, float64.
    n_rows : int
        Number of vectors.

    Returns
    -------
    values : ndarray of shape (n_rows,)
        Eigenvalues, largest first.
    vectors : ndarray of shape (n, n_rows)
        Eigenvectors, orthonormal columns.

    References
    ----------
    Parlett (1998). The symmetric eigenvalue problem. SIAM.
    """
    n = len(squares)
    more = n_rows + max(n_rows // 10, 10)
    if n >= _LARGE and more <= n // 4:
        single = squares.astype(np.float32)
        if np.isfinite(single).all():
            with other_pool():
                rough = linalg.eigh(single, subset_by_index=[n - more, n - 1], overwrite_a=True)[1]
            basis = np.linalg.qr(rough.astype(np.float64))[0]
            image = squares @ basis
            values, turn = np.linalg.eigh(basis.T @ image)
            values, turn = values[::-1][:n_rows], turn[:, ::-1][:, :n_rows]
            vectors = basis @ turn
            rest = np.linalg.norm(image @ turn - vectors * values, axis=0)
            if (rest <= _SMALL_RESIDUAL * values[-1]).all():
                return values, vectors
    with other_pool():
        values, vectors = linalg.eigh(squares, subset_by_index=[n - n_rows, n - 1])
    return values[::-1], vectors[:, ::-1]


def gram(X: np.ndarray) -> np.ndarray:
    """Compute ``X @ X.T`` in blocks of columns, with products in float32 and their sum in float64."""
    total = np.zeros((len(X), len(X)))
    for first in range(0, X.shape[1], _BLOCK):
        part = X[:, first : first + _BLOCK]
        total += part @ part.T
    return total


def _means(X: np.ndarray) -> np.ndarray:
    """Compute the mean of each row, with short sums in float32 and their sum in float64."""
    total = np.zeros(len(X))
    for first in range(0, X.shape[1], _BLOCK):
        part = X[:, first : first + _BLOCK]
        total += part @ np.ones(part.shape[1], dtype=part.dtype)
    return total / X.shape[1]


def plan(n_volumes: Sequence[int], n_rows: int = BATCH) -> list[list[int]]:
    """Group consecutive runs so that short ones are reduced together; a group has up to `n_rows` volumes, or one run.

    Examples
    --------
    >>> plan([300, 200, 30, 1000, 10])
    [[0, 1], [2], [3], [4]]
    """
    groups: list[list[int]] = []
    filled = n_rows
    for number, count in enumerate(n_volumes):
        if filled + count > n_rows:
            groups.append([])
            filled = 0
        groups[-1].append(number)
        filled += count
    return groups


def reduced_in_pieces(
    X: np.ndarray, n_rows: int, denoise: bool, reduce: Reduce, centre: bool = False, piece: int = BATCH
) -> np.ndarray:
    """Reduce a group of runs, split into pieces of equal length if it has more than `piece` volumes."""
    parts = np.array_split(X, -(-len(X) // piece))
    rows = [reduce(part, n_rows, denoise, centre) for part in parts]
    return rows[0] if len(rows) == 1 else np.concatenate(rows)


def whitened(rows: np.ndarray, n_components: int) -> np.ndarray:
    """Compute white leading components of `rows` over neurons.

    Parameters
    ----------
    rows : ndarray of shape (n_rows, n_neurons)
        Rows of a `GroupPCA`.
    n_components : int
        Number of components.

    Returns
    -------
    ndarray of shape (n_components, n_neurons)
        White data, float32: uncorrelated rows of mean 0 and variance 1 over neurons.

    Raises
    ------
    ValueError
        If the rank is less than `n_components`.
    """
    rows = rows - rows.mean(axis=1, keepdims=True, dtype=np.float64).astype(np.float32)
    squares, vectors = linalg.eigh(gram(rows))
    squares, vectors = squares[::-1], vectors[:, ::-1]
    check_rank(squares, n_components)
    scale = vectors[:, :n_components] * np.sqrt(rows.shape[1] / squares[:n_components])
    return scale.T.astype(np.float32) @ rows


def check_rank(squares: np.ndarray, n_components: int) -> None:
    """Raise an error if there are more components than squared singular values above rounding noise."""
    rank = int((squares > 1e-10 * max(squares.max(initial=0), np.finfo(float).tiny)).sum())
    if n_components > rank:
        raise ValueError(
            f"n_components is {n_components}, but the rank of the data is only {rank}. Choose fewer components."
        )


def leading_rows(runs: Iterable[np.ndarray], n_volumes: int, n_neurons: int, n_rows: int) -> np.ndarray:
    """Reduce all volumes at once and exactly, through the smaller Gram matrix; for many components of few volumes.

    MIGP is as accurate if the spectrum falls off; if it is flat, only this function computes the subspace of the
    singular value decomposition. Standardized volumes are stored in a temporary file, so memory holds the Gram matrix
    only.

    Parameters
    ----------
    runs : iterable of ndarray of shape (n_volumes, n_neurons)
        Prepared runs, float32.
    n_volumes, n_neurons : int
        Numbers of volumes of all runs, and of neurons.
    n_rows : int
        Number of rows to keep.

    Returns
    -------
    ndarray of shape (n_rows, n_neurons)
        Orthogonal rows, scaled by their singular values.
    """
    with tempfile.TemporaryFile(prefix="lmri-", suffix=".f4") as file:
        X: np.ndarray = np.memmap(file, dtype=np.float32, mode="w+", shape=(n_volumes, n_neurons))
        covariance = np.zeros((n_neurons, n_neurons)) if n_neurons <= n_volumes else None
        first = 0
        for run in runs:
            X[first : first + len(run)] = run
            first += len(run)
            if covariance is not None:
                covariance += run.T @ run
        if covariance is not None:
            squares, vectors = largest_eigen(covariance, n_rows)
            return (vectors * np.sqrt(np.maximum(squares, 0))).T.astype(np.float32)
        _, vectors = largest_eigen(gram(X), n_rows)
        weights = np.ascontiguousarray(vectors.T, dtype=np.float32)
        return np.concatenate([weights @ X[:, at : at + _BLOCK] for at in range(0, n_neurons, _BLOCK)], axis=1)
