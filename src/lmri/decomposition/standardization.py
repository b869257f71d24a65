"""Standardization: each neuron's time series centred and scaled, the same way for every estimator.

The scope decides what is signal. Within each run (``"run"``), as fMRI does it, differences between texts are removed
together with differences between runs. Over the whole study (``"study"``) they stay.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from lmri.space import Img, NeuronSpace

STANDARDIZATIONS = ("zscore", "center", "none")
SCOPES = ("run", "study")

FLOOR = 1e-4
"""A neuron whose sd is below this share of the median neuron's counts as dead and becomes zero: scaled to unit
variance, rounding noise would look like any other neuron."""


@dataclass(frozen=True)
class Moments:
    """Mean and standard deviation of every neuron, ``(n_neurons,)``, float64, and how many volumes they are of."""

    mean: np.ndarray
    sd: np.ndarray
    n_volumes: int

    @property
    def dead(self) -> np.ndarray:
        """Which neurons do not vary, ``(n_neurons,)``."""
        alive = self.sd[self.sd > 0]
        return self.sd <= (FLOOR * np.median(alive) if alive.size else 0.0)


def moments(array: np.ndarray) -> Moments:
    """Compute the moments of one run, ``(n_volumes, n_neurons)``."""
    return Moments(array.mean(axis=0, dtype=np.float64), array.std(axis=0, dtype=np.float64), len(array))


def pooled(parts: Sequence[Moments]) -> Moments:
    """Merge the moments of runs into those of all their volumes (Chan et al., 1979)."""
    counts = np.array([part.n_volumes for part in parts], dtype=np.float64)[:, None]
    means = np.stack([part.mean for part in parts])
    variances = np.stack([part.sd**2 for part in parts])
    mean = (counts * means).sum(axis=0) / counts.sum()
    variance = (counts * (variances + (means - mean) ** 2)).sum(axis=0) / counts.sum()
    return Moments(mean, np.sqrt(variance), int(counts.sum()))


def standardized(array: np.ndarray, own: Moments, standardize: str) -> np.ndarray:
    """Centre and scale one run.

    Parameters
    ----------
    array : ndarray of shape (n_volumes, n_neurons)
        Activation units.
    own : Moments
        Of this run, or of all.
    standardize : {"zscore", "center", "none"}
        What to do; with ``"zscore"`` dead neurons become zero.

    Returns
    -------
    ndarray of shape (n_volumes, n_neurons)
        Float32.
    """
    if standardize == "none":
        return np.asarray(array, dtype=np.float32)
    centred = array - own.mean
    if standardize == "zscore":
        centred = np.divide(centred, own.sd, out=np.zeros_like(centred), where=~own.dead)
    return centred.astype(np.float32)


class StandardizedRuns:
    """The runs of a recording, standardized as they are read, one in memory at a time.

    Parameters
    ----------
    space : NeuronSpace
        The neurons.
    imgs : sequence of path or Nifti1Image
        4D.
    standardize : {"zscore", "center", "none"}
        What is done to each neuron's time series.
    scope : {"run", "study"}
        Over which volumes mean and sd are taken.
    """

    def __init__(self, space: NeuronSpace, imgs: Sequence[Img], standardize: str, scope: str) -> None:
        if standardize not in STANDARDIZATIONS:
            raise ValueError(f"standardize is {standardize!r}; accepted are {', '.join(map(repr, STANDARDIZATIONS))}.")
        if scope not in SCOPES:
            raise ValueError(f"scope is {scope!r}; accepted are {', '.join(map(repr, SCOPES))}.")
        self.space, self.imgs, self.standardize, self.scope = space, imgs, standardize, scope
        self.run_moments = [moments(self._load(img)) for img in imgs]  # reading all runs also checks them
        self.moments = pooled(self.run_moments)
        self.n_volumes = [part.n_volumes for part in self.run_moments]

    def _load(self, img: Img) -> np.ndarray:
        return np.atleast_2d(self.space.from_img(img))

    def __iter__(self) -> Iterator[np.ndarray]:
        for img, own in zip(self.imgs, self.run_moments, strict=True):
            yield standardized(self._load(img), own if self.scope == "run" else self.moments, self.standardize)

    @property
    def dead(self) -> np.ndarray:
        """Which neurons do not vary in at least one run, or over all if that is the scope: ``(n_neurons,)``."""
        if self.scope == "study":
            return self.moments.dead
        return np.any([part.dead for part in self.run_moments], axis=0)

    def centred(self) -> Iterator[np.ndarray]:
        """Give the same runs around each neuron's mean over all of them."""
        for run in self:
            # The other standardizations leave no mean behind.
            yield run - self.moments.mean.astype(np.float32) if self.standardize == "none" else run

    def __len__(self) -> int:
        return len(self.imgs)
