"""Metrics of maps and their time courses, for every method of decomposition: sign, shape, explained variance."""

from collections.abc import Iterable, Sequence

import numpy as np
from scipy import stats

from lmri.decomposition.standardization import StandardizedRuns, products
from lmri.networks.thresholds import z_scores
from lmri.space import NeuronSpace

Projected = Iterable[tuple[np.ndarray, float]]
"""For each run in order: its products with the maps, ``(n_volumes, n_maps)``, and its sum of squares."""


def signs_by_skewness(maps: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Compute for each map the sign that makes its heavier tail positive.

    The largest weight is unsuitable: if some members have the opposite sign, spatial centring makes them the peak. The
    sign counts as determined if the absolute sum of cubed z-scores exceeds two standard errors, estimated from the map
    itself; the sign of a map with equally many members on both sides is not determined.

    Parameters
    ----------
    maps : ndarray of shape (n_maps, n_neurons)
        Maps of any sign.

    Returns
    -------
    signs : ndarray of shape (n_maps,)
        Signs, 1 or -1, by which maps are multiplied.
    determined : ndarray of bool, shape (n_maps,)
        Whether the data determine the sign.
    skewness : ndarray of shape (n_maps,)
        Skewness of the maps before the change of sign.
    """
    z = z_scores(maps)
    each = z * z * z  # a power would take ten times as long
    cubes, error = each.sum(axis=1), np.linalg.norm(each, axis=1)
    return np.where(cubes < 0, -1.0, 1.0), np.abs(cubes) > 2 * error, cubes / z.shape[1]


def shape_metrics(maps: np.ndarray, space: NeuronSpace) -> dict[str, np.ndarray]:
    """Compute metrics of the distribution of maps over neurons and layers.

    Returns
    -------
    dict of ndarray of shape (n_maps,)
        ``kurtosis``, excess over a Gaussian; ``sparsity``, from 0 (all weights equal) to 1 (one neuron; Hoyer, 2004);
        ``layer_centre``, the mean layer, and ``layer_entropy``, from 0 (one layer) to 1 (all layers equal), both
        weighted by squared weights.
    """
    z = z_scores(maps)
    size = np.abs(maps, dtype=np.float64)
    norm, root = np.linalg.norm(size, axis=1), np.sqrt(maps.shape[1])
    with np.errstate(invalid="ignore", divide="ignore"):
        sparsity = (root - size.sum(axis=1) / norm) / (root - 1)
        energy = np.stack([(size[:, space.layer_of == layer] ** 2).sum(axis=1) for layer in range(space.n_layers)])
        share = energy / energy.sum(axis=0)  # (n_layers, n_maps)
    entropy = stats.entropy(share, axis=0) / np.log(space.n_layers) if space.n_layers > 1 else np.zeros(len(maps))
    return {
        "kurtosis": np.nan_to_num(stats.kurtosis(z, axis=1)),
        "sparsity": sparsity,
        "layer_centre": np.arange(space.n_layers) @ share,
        "layer_entropy": entropy,
    }


def top_token_share(courses: Sequence[np.ndarray]) -> np.ndarray:
    """Compute the share of each time course's energy in its largest token, ``(n_maps,)``; near 1, it is one token."""
    squares = [course**2 for course in courses]
    largest = np.max([square.max(axis=0) for square in squares], axis=0)
    total = np.sum([square.sum(axis=0) for square in squares], axis=0)
    return np.divide(largest, total, out=np.zeros(len(total)), where=total > 0)


def explained_variance(
    maps: np.ndarray, runs: StandardizedRuns, projected: Projected | None = None
) -> tuple[np.ndarray, float, list[np.ndarray]]:
    """Compute the share of the variance of the standardized data that each map explains alone, and all maps together.

    Variance is computed around each neuron's mean even if the data were not centred, because a mean pattern would
    dominate. Time courses are computed in the same pass over the data; with `projected`, the data are not read.

    Returns
    -------
    alone : ndarray of shape (n_maps,)
        Shares of single maps; maps that overlap share variance, so the sum may exceed `together`.
    together : float
        Share of all maps, in [0, 1].
    courses : list of ndarray of shape (n_volumes, n_maps)
        Time courses as from `time_courses`, one array per run, float32.
    """
    norms = (maps**2).sum(axis=1)
    inverse = np.linalg.pinv(maps @ maps.T, hermitian=True)
    alone, together, total = np.zeros(len(maps)), 0.0, 0.0
    courses = []
    mean = runs.moments.mean if runs.standardize == "none" else None  # otherwise the mean is 0
    for scores, squares in runs.projected(maps) if projected is None else projected:
        course = (scores if mean is None else scores + mean @ maps.T) @ inverse
        courses.append(course.astype(np.float32))  # float32, as memory grows with the number of runs
        alone += (scores**2).sum(axis=0)
        together += float(np.einsum("ti,ij,tj->", scores, inverse, scores, optimize=True))
        total += squares
    total = total or 1.0
    shares = np.divide(alone, norms, out=np.zeros(len(maps)), where=norms > 0) / total
    return shares, together / total, courses


def time_courses(maps: np.ndarray, run: np.ndarray) -> np.ndarray:
    """Regress volumes ``(n_volumes, n_neurons)`` on maps by least squares: ``(n_volumes, n_maps)``, float64."""
    maps = maps.astype(np.float64)
    return products(run, maps) @ np.linalg.pinv(maps @ maps.T, hermitian=True)
