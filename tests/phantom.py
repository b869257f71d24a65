"""Simulated recordings with known networks, and without any."""

from dataclasses import dataclass

import numpy as np
from nibabel import Nifti1Image
from scipy.optimize import linear_sum_assignment

from lmri.space import NeuronSpace


@dataclass(frozen=True)
class Phantom:
    """True maps ``(n_networks, n_neurons)`` with their time courses, and the images simulated from them."""

    space: NeuronSpace
    maps: np.ndarray
    time_courses: list[np.ndarray]
    imgs: list[Nifti1Image]


def planted(
    space: NeuronSpace,
    n_networks: int = 8,
    share: float = 0.01,
    minority: float = 0.2,
    n_runs: int = 5,
    n_volumes: int = 300,
    strength: float = 2.0,
    seed: int = 0,
) -> Phantom:
    """Simulate sparse networks in noise, scattered over all layers, with a `minority` of neurons of the other sign."""
    rng = np.random.default_rng(seed)
    size = round(share * space.n_neurons)
    maps = np.zeros((n_networks, space.n_neurons))
    for number in range(n_networks):
        neurons = rng.choice(space.n_neurons, size, replace=False)
        maps[number, neurons] = strength
        maps[number, neurons[: round(minority * size)]] = -strength
    courses = [rng.laplace(size=(n_volumes, n_networks)) for _ in range(n_runs)]
    noise = [rng.normal(size=(n_volumes, space.n_neurons)) for _ in range(n_runs)]
    runs = [(course @ maps + one).astype(np.float32) for course, one in zip(courses, noise, strict=True)]
    return Phantom(space, maps, courses, [space.to_img(run) for run in runs])


def gaussian_noise(space: NeuronSpace, n_runs: int = 5, n_volumes: int = 300, seed: int = 0) -> list[Nifti1Image]:
    """Simulate recordings of pure Gaussian noise."""
    rng = np.random.default_rng(seed)
    return [space.to_img(rng.normal(size=(n_volumes, space.n_neurons)).astype(np.float32)) for _ in range(n_runs)]


def matched(found: np.ndarray, truth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Match estimated maps to true maps; return the index of the map of each true network, and signed correlations."""
    a = found - found.mean(axis=1, keepdims=True)
    b = truth - truth.mean(axis=1, keepdims=True)
    norms = np.linalg.norm(a, axis=1)[:, None] * np.linalg.norm(b, axis=1)
    correlation = np.divide(a @ b.T, norms, out=np.zeros_like(norms), where=norms > 0)
    rows, columns = linear_sum_assignment(-np.abs(correlation))
    order = np.argsort(columns)
    return rows[order], correlation[rows, columns][order]
