"""Standardization: centring and scaling of each neuron's time series, in the same way for every estimator.

The scope determines the signal. Within each run (``"run"``), as in fMRI, differences between texts are removed together
with differences between runs. Over the whole study (``"study"``) they are kept. The module is long because both scopes
share one class and the exact sums of moments.
"""

import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lmri.decomposition.nuisance import Nuisance, without
from lmri.space import Img, NeuronSpace

STANDARDIZATIONS = ("zscore", "center", "none")
SCOPES = ("run", "study")

FLOOR = 1e-4
"""Share of the median neuron's sd below which a neuron counts as dead and is set to 0; scaled to unit variance, its
rounding noise would look like signal."""

_ROWS, _BLOCK, _NARROWEST, _WIDE = 64, 2**24, 1024, 16384

_LARGEST_MEAN = 16.0
"""Largest mean, in sd, that is subtracted after products in float32; larger means are subtracted before."""

_CACHE_BYTES = 2**23
"""Memory for the moments of runs that are kept for a second pass; moments of other runs are computed again."""


@dataclass(frozen=True)
class Moments:
    """Mean and standard deviation of every neuron, ``(n_neurons,)``, float64, and the number of volumes."""

    mean: np.ndarray
    sd: np.ndarray
    n_volumes: int

    @property
    def dead(self) -> np.ndarray:
        """Whether each neuron is constant, ``(n_neurons,)``."""
        alive = self.sd[self.sd > 0]
        return self.sd <= (FLOOR * np.median(alive) if alive.size else 0.0)


def moments(array: np.ndarray) -> Moments:
    """Compute the moments of one run, ``(n_volumes, n_neurons)``: short sums in float32, their sum in float64."""
    mean, sd = np.empty(array.shape[1]), np.empty(array.shape[1])
    for block in _blocks(array):
        _, mean[block], sd[block] = _centred(array[:, block])
    return Moments(mean, sd, len(array))


def _standardized_itself(array: np.ndarray, standardize: str) -> tuple[np.ndarray, Moments]:
    """Standardize a run by its own moments, block by block of neurons; return it, float32, with the moments."""
    if standardize == "none":
        return np.array(array, dtype=np.float32), moments(array)
    out = np.empty(array.shape, dtype=np.float32)
    mean, sd = np.empty(array.shape[1]), np.empty(array.shape[1])
    for block in _blocks(array):
        centred, mean[block], sd[block] = _centred(array[:, block], out[:, block])
        if standardize == "zscore":
            scale = np.divide(1.0, sd[block], out=np.zeros_like(sd[block]), where=sd[block] > 0)
            centred *= scale.astype(np.float32)
    run_moments = Moments(mean, sd, len(array))
    if standardize == "zscore" and run_moments.dead.any():  # known only after all blocks
        out[:, run_moments.dead] = 0.0
    return out, run_moments


def _blocks(array: np.ndarray) -> Iterator[slice]:
    """Yield blocks of neurons."""
    width = max(_NARROWEST, _BLOCK // max(len(array), 1))  # longer contiguous rows are read faster
    return (slice(first, first + width) for first in range(0, array.shape[1], width))


def _centred(array: np.ndarray, out: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Centre volumes, and return them, float32, with mean and sd; as accurate as two passes in float64, and faster."""
    parts = [array[first : first + _ROWS] for first in range(0, len(array), _ROWS)]
    total = np.zeros(array.shape[1])
    with np.errstate(over="ignore", invalid="ignore"):  # the caller checks for values that are not finite
        for part in parts:
            total += np.ones(len(part), dtype=array.dtype) @ part
        if not np.isfinite(total).all():  # the data are not finite, or float32 overflowed
            total = array.sum(axis=0, dtype=np.float64)
        mean = total / len(array)
        centred = np.subtract(array, mean.astype(np.float32), out=out)
        squares = np.zeros(array.shape[1])
        for first in range(0, len(array), _ROWS):
            part = centred[first : first + _ROWS]
            squares += np.einsum("ij,ij->j", part, part)
    # The remaining mean from rounding is negligible except where the sd is negligible, too.
    return centred, mean, np.sqrt(squares / len(array))


def pooled(parts: Sequence[Moments]) -> Moments:
    """Merge the moments of runs into moments of all their volumes (Chan et al., 1979)."""
    counts = np.array([part.n_volumes for part in parts], dtype=np.float64)[:, None]
    means = np.stack([part.mean for part in parts])
    variances = np.stack([part.sd**2 for part in parts])
    mean = (counts * means).sum(axis=0) / counts.sum()
    variance = (counts * (variances + (means - mean) ** 2)).sum(axis=0) / counts.sum()
    return Moments(mean, np.sqrt(variance), int(counts.sum()))


def standardized(array: np.ndarray, run_moments: Moments, standardize: str) -> np.ndarray:
    """Standardize one run.

    Parameters
    ----------
    array : ndarray of shape (n_volumes, n_neurons)
        Run, in activation units.
    own : Moments
        Moments of this run, or of all runs.
    standardize : {"zscore", "center", "none"}
        Standardization; with ``"zscore"`` dead neurons are set to 0.

    Returns
    -------
    ndarray of shape (n_volumes, n_neurons)
        Standardized run, float32.
    """
    if standardize == "none":
        return np.array(array, dtype=np.float32)
    centred = np.asarray(array, dtype=np.float32) - run_moments.mean.astype(np.float32)
    return _scaled(centred, run_moments) if standardize == "zscore" else centred


def _scaled(centred: np.ndarray, run_moments: Moments) -> np.ndarray:
    """Scale to unit variance in place; dead neurons are set to 0."""
    centred *= np.divide(1.0, run_moments.sd, out=np.zeros_like(run_moments.sd), where=~run_moments.dead).astype(
        np.float32
    )
    return centred


class StandardizedRuns:
    """Runs of a recording that are standardized when they are read, one in memory at a time.

    Parameters
    ----------
    space : NeuronSpace
        Neuron space.
    imgs : sequence of path or Nifti1Image
        4D images, one per run.
    standardize : {"zscore", "center", "none"}
        Standardization of each neuron's time series.
    scope : {"run", "study"}
        Scope of mean and standard deviation.
    volumes : sequence of ndarray of int, optional
        Indices of the volumes to use, one array per run, in this order; a run without volumes is left out.
    confounds : sequence of array or DataFrame of shape (n_volumes, n_confounds), optional
        Confounds, one array or table per run; they are regressed out of the standardized runs. Means of runs are kept
        if the scope keeps them.
    models : sequence of int, optional
        Number of the model of each image. With ``scope="study"``, the runs of each model are then standardized by the
        mean and standard deviation of that model; by default all runs are of one model.
    """

    def __init__(
        self,
        space: NeuronSpace,
        imgs: Sequence[Img],
        standardize: str,
        scope: str,
        volumes: Sequence[np.ndarray] | None = None,
        confounds: Sequence[np.ndarray] | None = None,
        models: Sequence[int] | None = None,
    ) -> None:
        if standardize not in STANDARDIZATIONS:
            raise ValueError(f"standardize is {standardize!r}; choose from {', '.join(map(repr, STANDARDIZATIONS))}.")
        if scope not in SCOPES:
            raise ValueError(f"scope is {scope!r}; choose from {', '.join(map(repr, SCOPES))}.")
        self.space, self.standardize, self.scope = space, standardize, scope
        lengths = [_length(space, img) for img in imgs]
        self.confounds = None if confounds is None else Nuisance.read(confounds).checked(lengths).runs
        self._places = list(range(len(lengths)))  # images of the runs that are used
        self.volumes = volumes
        if volumes is not None:
            lengths = [len(rows) for rows in volumes]
            self._places = [index for index in self._places if lengths[index]]
        self.imgs = list(imgs)
        if models is not None and len(models) != len(self.imgs):
            raise ValueError(f"models has {len(models)} entries for {len(self.imgs)} images. Name the model of each.")
        self.models = models
        self._pooled_by: dict[int, Moments] = {}
        self.n_volumes = [lengths[index] for index in self._places]
        self.seen: set[int] = set()
        self._cached: dict[int, Moments] = {}
        self._pooled: Moments | None = None
        self._dead = np.zeros(space.n_neurons, dtype=bool)
        self._checks_values = False  # whether every read has to check for values that are not finite
        self._lock = threading.RLock()

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "_lock"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state, _lock=threading.RLock())

    def take_moments(self, moments: Moments) -> None:
        """Set the moments of other runs for standardization with ``scope="study"``."""
        self._pooled, self.seen, self._checks_values = moments, set(range(len(self))), True

    def selected(self, volumes: Sequence[np.ndarray]) -> "StandardizedRuns":
        """Select volumes of each run, which are standardized by their own moments."""
        return StandardizedRuns(
            self.space, self.imgs, self.standardize, self.scope, volumes, self.confounds, self.models
        )

    def load(self, number: int) -> np.ndarray:
        """Read one run unchanged, ``(n_volumes, n_neurons)``, without a check for finite values."""
        index = self._places[number]
        array = np.atleast_2d(self.space.from_img(self.imgs[index], check=False))
        return array if self.volumes is None else array[self.volumes[index]]

    def _check(self, array: np.ndarray, sums: np.ndarray, number: int) -> None:
        """Raise an error if a run has values that are not finite, which its sums reveal at low cost."""
        if not np.isfinite(sums).all():
            img = self.imgs[self._places[number]]
            self.space.check_finite(array, str(img) if isinstance(img, str | Path) else "The image")

    def run(self, number: int) -> np.ndarray:
        """Read and standardize one run, ``(n_volumes, n_neurons)``, float32; the caller may modify it."""
        array, run_moments = self.read(number)
        self.note(number, run_moments)
        return array

    def read(self, number: int) -> tuple[np.ndarray, Moments | None]:
        """Read and standardize one run; return it with its moments if they had to be computed, else None."""
        array, run_moments = self.load(number), None
        if self.scope == "study":
            if self._checks_values:
                with np.errstate(over="ignore", invalid="ignore"):
                    self._check(array, np.ones(len(array), dtype=array.dtype) @ array, number)
            array = standardized(array, self._moments_of(number), self.standardize)  # this has checked all runs
        else:
            with np.errstate(over="ignore", invalid="ignore"):
                raw, (array, run_moments) = array, _standardized_itself(array, self.standardize)
            self._check(raw, run_moments.mean, number)
        if self.confounds is None:
            return array, run_moments
        index = self._places[number]
        rows = slice(None) if self.volumes is None else self.volumes[index]
        return without(array, self.confounds[index][rows]), run_moments

    def __iter__(self) -> Iterator[np.ndarray]:
        return (self.run(number) for number in range(len(self)))

    def note(self, number: int, run_moments: Moments | None) -> None:
        """Merge the moments of a run into the pooled moments, so that memory does not grow."""
        with self._lock:
            if run_moments is None or number in self.seen:
                return
            if len(self._cached) < _CACHE_BYTES // (16 * self.space.n_neurons):
                self._cached[number] = run_moments
            self._dead |= run_moments.dead
            self._pooled = run_moments if self._pooled is None else pooled([self._pooled, run_moments])
            if self.models is not None:
                model = self.models[self._places[number]]
                known = self._pooled_by.get(model)
                self._pooled_by[model] = run_moments if known is None else pooled([known, run_moments])
            self.seen.add(number)

    def _see_all(self) -> None:
        """Compute the moments of runs that have not been read yet."""
        for number in range(len(self)):
            if number not in self.seen:
                array = self.load(number)
                run_moments = moments(array)
                self._check(array, run_moments.mean, number)
                self.note(number, run_moments)

    @property
    def moments(self) -> Moments:
        """Moments over all runs; runs that have not been read yet are read."""
        with self._lock:
            self._see_all()
        if self._pooled is None:
            raise ValueError("There are no runs to compute moments from. Pass at least one image.")
        return self._pooled

    def _moments_of(self, number: int) -> Moments:
        """Return the moments by which a run is standardized with scope ``"study"``: those of its model."""
        moments = self.moments
        return moments if self.models is None else self._pooled_by[self.models[self._places[number]]]

    @property
    def dead(self) -> np.ndarray:
        """Whether each neuron is constant in at least one run or, with scope ``"study"``, in all: ``(n_neurons,)``.

        If there are several models, a neuron counts that is constant in all runs of one of them.
        """
        with self._lock:
            self._see_all()
        if self.scope == "study" and self.models is not None:
            return np.any([moments.dead for moments in self._pooled_by.values()], axis=0)
        return self.moments.dead if self.scope == "study" else self._dead

    def projected(self, maps: np.ndarray) -> Iterator[tuple[np.ndarray, float]]:
        """Compute the products of every standardized run with maps, from raw data if its moments are known.

        Data that are not standardized are centred by each neuron's mean over all runs.

        Parameters
        ----------
        maps : ndarray of shape (n_maps, n_neurons)
            Maps, float64.

        Yields
        ------
        projected : ndarray of shape (n_volumes, n_maps)
            Products, float64.
        sum_of_squares : float
            Sum of squares of the standardized run.
        """
        for number in range(len(self)):
            run_moments = self._cached.get(number)
            if run_moments is None or self.scope != "run" or self.standardize == "none" or self.confounds is not None:
                run = self.run(number)
                if self.standardize == "none":
                    run -= self.moments.mean.astype(np.float32)
                yield products(run, maps), float(np.einsum("ij,ij->i", run, run).sum(dtype=np.float64))
                continue
            alive = ~run_moments.dead
            scale = (
                np.divide(1.0, run_moments.sd, out=np.zeros_like(run_moments.sd), where=alive)
                if self.standardize == "zscore"
                else 1.0
            )
            squares = float(alive.sum()) if self.standardize == "zscore" else float((run_moments.sd**2).sum())
            run, scaled = self.load(number), maps * scale
            if (np.abs(run_moments.mean[alive]) <= _LARGEST_MEAN * run_moments.sd[alive]).all():
                yield products(run, scaled) - scaled @ run_moments.mean, run_moments.n_volumes * squares
            else:
                yield products(run - run_moments.mean.astype(np.float32), scaled), run_moments.n_volumes * squares

    def __len__(self) -> int:
        return len(self._places)


def _length(space: NeuronSpace, img: Img) -> int:
    """Count the volumes of an image from its header."""
    shape = space.check_img(img).shape
    return shape[3] if len(shape) == 4 else 1


def products(run: np.ndarray, maps: np.ndarray) -> np.ndarray:
    """Compute ``run @ maps.T`` in blocks of neurons, with products in float32 and their sum in float64."""
    single = np.ascontiguousarray(maps, dtype=np.float32)
    total = np.zeros((len(run), len(maps)))
    for first in range(0, run.shape[1], _WIDE):
        total += run[:, first : first + _WIDE] @ single[:, first : first + _WIDE].T
    return total
