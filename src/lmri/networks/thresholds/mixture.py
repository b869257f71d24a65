"""Gaussian-Gamma mixtures: a Gaussian bulk with a tail on either side."""

import numpy as np
import scipy

from lmri.networks.thresholds.descriptive import _check_share, robust_z_scores
from lmri.networks.thresholds.method import ThresholdMethod

_N_ITER, _TOLERANCE = 200, 1e-6
_FEWEST = 3
"""Smallest number of neurons in a tail: a Gamma has two parameters and a weight."""


def mixture(maps: np.ndarray, p: float = 0.5) -> np.ndarray:
    """Keep neurons that belong to a tail rather than to the Gaussian bulk of their map.

    Parameters
    ----------
    maps : ndarray of shape (n_maps, n_neurons)
        Maps in any units.
    p : float, default=0.5
        Posterior probability of a tail that a member must exceed.

    References
    ----------
    Beckmann & Smith (2004). Probabilistic independent component analysis for functional magnetic resonance imaging.
    IEEE Transactions on Medical Imaging, 23, 137–152.
    """
    _check_share("p", p)
    return np.stack([_tail_probability(row) > p for row in robust_z_scores(maps)])


def _tail_probability(z: np.ndarray) -> np.ndarray:
    """Compute the probability of a tail, ``(n_neurons,)``, from the model with the lowest BIC.

    The candidates have no tail, either tail, or both. Two tails have either a common or separate shapes: the smaller
    tail often has too few neurons for a separate shape.
    """
    if not z.any():
        return np.zeros(len(z))
    models = (((), False), ((1,), False), ((-1,), False), ((1, -1), True), ((1, -1), False))
    fits = [_fit(z, *model) for model in models]
    best = min(fits, key=lambda fit: fit[0])
    return best[1]


def _fit(z: np.ndarray, sides: tuple[int, ...], alike: bool) -> tuple[float, np.ndarray]:
    """Fit a Gaussian, and a Gamma on each of `sides`, by expectation maximization with moment estimates for the Gammas.

    Returns
    -------
    bic : float
        Bayesian information criterion; infinite if a tail has vanished.
    tail : ndarray of shape (n_neurons,)
        Posterior probability of belonging to any tail.
    """
    mean, sd = 0.0, 1.0
    shares = np.array([0.95] + [0.05 / max(len(sides), 1)] * len(sides))
    shares /= shares.sum()
    gammas = [(4.0, 1.0)] * len(sides)  # shape and scale
    before, log_likelihood, posterior = -np.inf, -np.inf, np.ones((1, len(z)))
    for _ in range(_N_ITER):
        densities = [scipy.stats.norm.logpdf(z, mean, sd)]
        for side, (shape, scale) in zip(sides, gammas, strict=True):
            size = np.maximum(side * (z - mean), 0)
            with np.errstate(divide="ignore"):
                densities.append(np.where(size > 0, scipy.stats.gamma.logpdf(size, shape, scale=scale), -np.inf))
        joint = np.log(shares)[:, None] + np.stack(densities)
        total = scipy.special.logsumexp(joint, axis=0)
        log_likelihood, posterior = float(total.sum()), np.exp(joint - total)
        if log_likelihood - before < _TOLERANCE * len(z):
            break
        before = log_likelihood
        weights = posterior.sum(axis=1)
        if sides and (weights[1:].sum() if alike else weights[1:].min()) < _FEWEST:
            return np.inf, np.zeros(len(z))
        shares = np.maximum(weights, 1e-12) / len(z)
        mean = float(posterior[0] @ z / weights[0])
        sd = max(float(np.sqrt(posterior[0] @ (z - mean) ** 2 / weights[0])), 1e-6)
        if alike:
            gammas = [_gamma(np.abs(z - mean), posterior[1:].sum(axis=0), sd)] * 2
        else:
            gammas = [_gamma(side * (z - mean), tail, sd) for side, tail in zip(sides, posterior[1:], strict=True)]
    n_parameters = 2 + len(sides) + (2 if alike else 2 * len(sides))
    return n_parameters * np.log(len(z)) - 2 * log_likelihood, posterior[1:].sum(axis=0)


def _gamma(size: np.ndarray, weights: np.ndarray, sd: float) -> tuple[float, float]:
    """Fit a Gamma by its moments; its mean is kept outside the bulk, where it would otherwise explain the centre."""
    total = weights.sum()
    mean = max(float(weights @ size / total), 2 * sd)
    variance = max(float(weights @ (size - mean) ** 2 / total), 1e-6)
    shape = max(mean**2 / variance, 2.0)
    return shape, mean / shape


MIXTURE = ThresholdMethod(
    "mixture",
    mixture,
    "Gaussian-Gamma mixture model of each map; heavy tails count as active; descriptive, no error rate is controlled",
    "by a mixture",
    sentence="A Gaussian-Gamma mixture model was fitted to each map, and neurons with a probability above {value} of "
    "belonging to a tail were selected; this threshold is descriptive and does not control an error rate",
)
