"""Nulls: recordings without co-activation, in which all networks are false positives."""

from collections.abc import Callable, Sequence

import numpy as np

from lmri.decomposition.phantom.planting import Phantom
from lmri.space import Img, NeuronSpace

T_DOF = 5
"""Degrees of freedom of the heavy-tailed null, the smallest number with a finite kurtosis."""

SCALE_SD = 1.5
"""Standard deviation of the logarithm of the neurons' scales; the largest of 9,216 is about 300 times the median."""


def gaussian(space: NeuronSpace, n_runs: int = 10, n_volumes: int = 300, random_state: int = 0) -> Phantom:
    """Simulate Gaussian noise of sd 1, independent across neurons and volumes."""
    return _noise("gaussian", lambda rng, shape: rng.normal(size=shape), space, n_runs, n_volumes, random_state)


def t5(space: NeuronSpace, n_runs: int = 10, n_volumes: int = 300, random_state: int = 0) -> Phantom:
    """Simulate heavy-tailed noise, Student's t with 5 degrees of freedom scaled to sd 1."""
    scale = np.sqrt((T_DOF - 2) / T_DOF)
    return _noise(
        "t5", lambda rng, shape: scale * rng.standard_t(T_DOF, size=shape), space, n_runs, n_volumes, random_state
    )


def lognormal(space: NeuronSpace, n_runs: int = 10, n_volumes: int = 300, random_state: int = 0) -> Phantom:
    """Simulate Gaussian noise with lognormal scales over neurons, equal in all runs.

    Z-scoring removes the scales; with other standardizations a few neurons have nearly all of the variance.
    """
    scales = np.exp(SCALE_SD * np.random.default_rng([random_state, 1]).normal(size=space.n_neurons))
    return _noise(
        "lognormal", lambda rng, shape: scales * rng.normal(size=shape), space, n_runs, n_volumes, random_state
    )


def _noise(
    name: str,
    draw: Callable[[np.random.Generator, tuple[int, int]], np.ndarray],
    space: NeuronSpace,
    n_runs: int,
    n_volumes: int,
    random_state: int,
) -> Phantom:
    """Simulate runs of noise."""
    if n_runs < 1 or n_volumes < 2:
        raise ValueError(f"n_runs is {n_runs} and n_volumes is {n_volumes}; they must be at least 1 and 2.")
    rng = np.random.default_rng(random_state)
    imgs = [space.to_img(draw(rng, (n_volumes, space.n_neurons)).astype(np.float32)) for _ in range(n_runs)]
    parameters = {"n_runs": n_runs, "n_volumes": n_volumes, "random_state": random_state}
    return _null(space, imgs, name, parameters)


def salmon(imgs: Sequence[Img], space: NeuronSpace, random_state: int = 0) -> Phantom:
    """Shift every neuron of a real recording circularly and independently within its run.

    Every neuron keeps its values in each run, and thus its distribution and (except for one seam) its autocorrelation;
    co-activation with other neurons is removed. Shuffling volumes jointly would be ineffective: principal and
    independent components are the same for any order of the volumes. Named after the dead salmon with significant brain
    activity [1]_.

    Parameters
    ----------
    imgs : sequence of path or Nifti1Image
        4D images, such as ``recording.imgs``.
    space : NeuronSpace
        Neuron space of the images.
    random_state : int, default=0
        Random seed. Shifts are uniform from 1 to the number of volumes of the run minus 1, and new in each run.

    Returns
    -------
    Phantom
        Null with the same numbers of runs and volumes, held in memory.

    Raises
    ------
    ValueError
        If there are no images, or a run has fewer than two volumes.
    SpaceMismatchError
        If an image does not match `space`.

    References
    ----------
    .. [1] Bennett et al. (2010). Neural correlates of interspecies perspective taking in the post-mortem Atlantic
       salmon: an argument for proper multiple comparisons correction. Journal of Serendipitous and Unexpected Results,
       1, 1–5.
    """
    if not imgs:
        raise ValueError("imgs is empty. Pass at least one 4D image, such as recording.imgs.")
    rng = np.random.default_rng(random_state)
    shifted = [space.to_img(shift(np.atleast_2d(space.from_img(img)), rng)) for img in imgs]
    n_volumes = [img.shape[3] for img in shifted]
    parameters = {"n_runs": len(shifted), "n_volumes": n_volumes, "random_state": random_state}
    return _null(space, shifted, "salmon", parameters)


def shift(run: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Shift every column of `run`, ``(n_volumes, n_neurons)``, circularly by its own random number of rows except 0."""
    n_volumes, n_neurons = run.shape
    if n_volumes < 2:
        raise ValueError(f"A run of {n_volumes} volume cannot be shifted. Leave it out, or pack longer runs.")
    by = rng.integers(1, n_volumes, n_neurons)
    return np.take_along_axis(run, (np.arange(n_volumes)[:, None] - by) % n_volumes, axis=0)


def _null(space: NeuronSpace, imgs: list, name: str, parameters: dict) -> Phantom:
    """Create a phantom without planted networks."""
    courses = [np.zeros((img.shape[3], 0)) for img in imgs]
    return Phantom(space, np.zeros((0, space.n_neurons)), courses, imgs, name, parameters=parameters)


NULLS: dict[str, Callable[..., Phantom]] = {"gaussian": gaussian, "t5": t5, "lognormal": lognormal, "salmon": salmon}
"""Nulls by name; `salmon` needs a recording, the others need a space and sizes."""
