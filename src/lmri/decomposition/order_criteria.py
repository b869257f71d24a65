"""Criteria for the number of components: parallel analysis and minimum description length."""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lmri.decomposition.standardization import moments, standardized
from lmri.decomposition.surrogates import Shifter

ALPHA = 0.05
"""Probability, at each rank, that surrogates of neuron-wise shifts reach the eigenvalue that is counted."""

RANK_TOLERANCE = 1e-9
"""Smallest share of the largest eigenvalue that is not rounding error; centring removes at least one dimension."""

BLOCK = 4096


@dataclass(frozen=True, eq=False)
class ParallelAnalysis:
    """Eigenvalues of the data compared with those of surrogates.

    Parameters
    ----------
    eigenvalues : ndarray of shape (n_ranks,)
        Eigenvalues of the covariance of volumes over neurons, largest first.
    limit : ndarray of shape (n_ranks,)
        Critical value of each rank, for p <= 0.05 among eigenvalues of the same rank in the surrogates.
    order : int
        Number of eigenvalues above the first limit, the critical value of the largest eigenvalue of noise.
    """

    eigenvalues: np.ndarray
    limit: np.ndarray
    order: int


def parallel_analysis(
    X: np.ndarray | Sequence[np.ndarray], n_surrogates: int = 20, random_state: int = 0
) -> ParallelAnalysis:
    """Count the eigenvalues that exceed the largest eigenvalue of independently shifted neurons.

    Horn compares rank by rank. After ``k`` networks the largest eigenvalue of noise would then be compared with the
    limit of rank ``k + 1``, which is lower: with 12 planted networks the estimate would be 14 to 16. Therefore the
    limit of the first rank is used for all ranks.

    Shifts are circular, within each run, and independent over neurons: they preserve every neuron's values and
    autocorrelation, and destroy co-activation. The eigenvalues of data and surrogates have the same sum, so a strong
    network raises the limit for weak ones: the estimate is conservative, and on noise it is 0 in about 95 % of cases. A
    shifted series has a seam between its end and its beginning, which the data lack: with strong autocorrelation and
    short runs, noise is more often mistaken for one or two components (autocorrelation 0.8 over 100 volumes: 27 % of
    cases; 0.3, which 95 % of a small GPT-2's neurons do not exceed: 5 %). Volumes at which the activity of all neurons
    is larger also count as co-activation.

    Parameters
    ----------
    X : ndarray of shape (n_volumes, n_neurons), or sequence of them
        Run, or runs that are analysed together.
    n_surrogates : int, default=20
        Number of surrogates, at least 19.
    random_state : int, default=0
        Random seed of the shifts; the order of the runs has no effect.

    Returns
    -------
    ParallelAnalysis
        Eigenvalues, limits and the count.

    References
    ----------
    Horn (1965). A rationale and test for the number of factors in factor analysis. Psychometrika, 30, 179–185.
    """
    check_surrogates(n_surrogates)
    runs = [X] if isinstance(X, np.ndarray) else list(X)
    scaled = [_scaled(checked_run(run, f"Run {number}")) for number, run in enumerate(runs, start=1)]
    observed = eigenvalues(np.concatenate(scaled), exact=True)
    # Seeds depend on the content, so that the shifts of a run do not depend on its position.
    sources = [(Shifter(run), zlib.crc32(run.tobytes())) for run in scaled]
    null = np.empty((n_surrogates, len(observed)))
    for number in range(n_surrogates):
        shifted = [shift(np.random.default_rng([random_state, key, number])) for shift, key in sources]
        null[number] = eigenvalues(np.concatenate(shifted))
    # Under exchangeability an eigenvalue exceeds the k-th largest of n surrogates with probability k / (n + 1).
    rank = int(ALPHA * (n_surrogates + 1) + 1e-9)
    limit = np.sort(null, axis=0)[-rank]
    return ParallelAnalysis(observed, limit, int((observed > limit[0] * (1 + 1e-6)).sum()))


def mdl(eigenvalues: np.ndarray, n_samples: int) -> np.ndarray:
    """Compute the description length of every number of components, in nats.

    The number of parameters is for real data (Wax and Kailath: complex data). Dependence between samples, as between
    neurons, makes the estimated order too large.

    Parameters
    ----------
    eigenvalues : ndarray of shape (n_dimensions,)
        Eigenvalues of the sample covariance, largest first, all positive.
    n_samples : int
        Number of samples of the covariance; for a spatial decomposition, of neurons.

    Returns
    -------
    ndarray of shape (n_dimensions,)
        Description lengths of 0, 1, … components, up to a constant; the estimate is ``argmin``.

    References
    ----------
    Wax & Kailath (1985). Detection of signals by information theoretic criteria. IEEE Transactions on Acoustics,
    Speech, and Signal Processing, 33, 387–392.
    """
    values = np.asarray(eigenvalues, dtype=np.float64)
    if values.ndim != 1 or not len(values) or not (values > 0).all() or (np.diff(values) > 0).any():
        raise ValueError("eigenvalues must be positive and sorted, largest first. Leave out eigenvalues that are 0.")
    n_dimensions = len(values)
    if n_samples <= n_dimensions:
        raise ValueError(
            f"n_samples is {n_samples} for {n_dimensions} dimensions. The criterion needs more samples than dimensions."
        )
    orders = np.arange(n_dimensions)
    left = n_dimensions - orders
    # Means over the eigenvalues beyond each order, which are modelled as isotropic noise.
    mean = np.cumsum(values[::-1])[::-1] / left
    mean_log = np.cumsum(np.log(values[::-1]))[::-1] / left
    n_parameters = 1 + orders * n_dimensions - orders * (orders - 1) / 2
    return n_samples / 2 * left * (np.log(mean) - mean_log) + n_parameters / 2 * np.log(n_samples)


def eigenvalues(X: np.ndarray, exact: bool = False) -> np.ndarray:
    """Compute the eigenvalues of the covariance of volumes over neurons, largest first.

    Parameters
    ----------
    X : ndarray of shape (n_volumes, n_neurons)
        Volumes; they are centred over neurons here.
    exact : bool, default=False
        Whether products are in float64; float32 is accurate to about 1e-6 of the largest eigenvalue and twice as fast.

    Returns
    -------
    ndarray of shape (min(n_volumes, n_neurons),)
        Eigenvalues, float64; about 0 beyond the rank.
    """
    n_volumes, n_neurons = X.shape
    kind = np.float64 if exact else np.float32
    mean = X.mean(axis=1, dtype=np.float64)
    if n_volumes <= n_neurons:
        gram = np.zeros((n_volumes, n_volumes))
        for first in range(0, n_neurons, BLOCK):
            part: np.ndarray = X[:, first : first + BLOCK].astype(kind)
            gram += part @ part.T
        gram -= n_neurons * np.outer(mean, mean)
    else:
        gram = np.zeros((n_neurons, n_neurons))
        for first in range(0, n_volumes, BLOCK):
            part = (X[first : first + BLOCK] - mean[first : first + BLOCK, None]).astype(kind)
            gram += part.T @ part
    return np.linalg.eigvalsh(gram)[::-1].clip(min=0) / n_neurons


def checked_run(run: np.ndarray, what: str) -> np.ndarray:
    """Return a run as an array; raise an error if it is too small or not finite."""
    run = np.asarray(run)
    if run.ndim != 2 or min(run.shape) < 2 or len(run) < 3:
        raise ValueError(f"{what} has shape {run.shape}; it must be at least (3, 2), volumes by neurons.")
    if not np.isfinite(run).all():
        raise ValueError(f"{what} holds NaN or infinity. Record it again, in float32 if the model ran in float16.")
    return run


def _scaled(run: np.ndarray) -> np.ndarray:
    """Z-score every neuron of a run: ``(n_volumes, n_neurons)``, float32."""
    return standardized(run, moments(run), "zscore")


def check_surrogates(n_surrogates: int) -> None:
    """Raise an error if there are too few surrogates for any eigenvalue to be significant."""
    if n_surrogates < 1 / ALPHA - 1:
        raise ValueError(f"n_surrogates is {n_surrogates}; with fewer than 19 no eigenvalue can reach p = {ALPHA}.")
