"""Standardization: each neuron's time series centred and scaled, the same way for every estimator.

The scope decides what is signal. Within each run (``"run"``), as fMRI does it, differences between texts are removed
together with differences between runs. Over the whole study (``"study"``) they stay.
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
"""A neuron whose sd is below this share of the median neuron's counts as dead and becomes zero: scaled to unit
variance, rounding noise would look like any other neuron."""

_ROWS, _BLOCK, _NARROWEST, _WIDE = 64, 2**24, 1024, 16384

_LARGEST_MEAN = 16.0
"""In sd. Beyond it, means are taken out before products in float32 and not after."""

_CACHE_BYTES = 2**23
"""Moments of so many runs are kept for a second pass; those of the others are computed again."""


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
    """Compute the moments of one run, ``(n_volumes, n_neurons)``: short sums in float32, their sums in float64."""
    mean, sd = np.empty(array.shape[1]), np.empty(array.shape[1])
    for block in _blocks(array):
        _, mean[block], sd[block] = _centred(array[:, block])
    return Moments(mean, sd, len(array))


def _standardized_itself(array: np.ndarray, standardize: str) -> tuple[np.ndarray, Moments]:
    """Standardize a run by its own moments, float32, and give them: one block of neurons after the other."""
    if standardize == "none":
        return np.array(array, dtype=np.float32), moments(array)
    out = np.empty(array.shape, dtype=np.float32)
    mean, sd = np.empty(array.shape[1]), np.empty(array.shape[1])
    for block in _blocks(array):
        centred, mean[block], sd[block] = _centred(array[:, block], out[:, block])
        if standardize == "zscore":
            scale = np.divide(1.0, sd[block], out=np.zeros_like(sd[block]), where=sd[block] > 0)
            centred *= scale.astype(np.float32)
    own = Moments(mean, sd, len(array))
    if standardize == "zscore" and own.dead.any():  # what is dead is known when all have been seen
        out[:, own.dead] = 0.0
    return out, own


def _blocks(array: np.ndarray) -> Iterator[slice]:
    width = max(_NARROWEST, _BLOCK // max(len(array), 1))  # long rows of memory are read faster than short ones
    return (slice(first, first + width) for first in range(0, array.shape[1], width))


def _centred(array: np.ndarray, out: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Centre volumes, float32, and give mean and sd: faster than two passes in float64, and as exact."""
    parts = [array[first : first + _ROWS] for first in range(0, len(array), _ROWS)]
    total = np.zeros(array.shape[1])
    with np.errstate(over="ignore", invalid="ignore"):  # values that are not finite are for the caller to refuse
        for part in parts:
            total += np.ones(len(part), dtype=array.dtype) @ part
        if not np.isfinite(total).all():  # either the data are not, or float32 overflowed
            total = array.sum(axis=0, dtype=np.float64)
        mean = total / len(array)
        centred = np.subtract(array, mean.astype(np.float32), out=out)
        squares = np.zeros(array.shape[1])
        for first in range(0, len(array), _ROWS):
            part = centred[first : first + _ROWS]
            squares += np.einsum("ij,ij->j", part, part)
    # What rounding has left of the mean, in units of activation, is too small to see except where sd is, too.
    return centred, mean, np.sqrt(squares / len(array))


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
        return np.array(array, dtype=np.float32)
    centred = np.asarray(array, dtype=np.float32) - own.mean.astype(np.float32)
    return _scaled(centred, own) if standardize == "zscore" else centred


def _scaled(centred: np.ndarray, own: Moments) -> np.ndarray:
    """Scale in place; dead neurons become zero."""
    centred *= np.divide(1.0, own.sd, out=np.zeros_like(own.sd), where=~own.dead).astype(np.float32)
    return centred


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
    volumes : sequence of ndarray of int, optional
        Take these volumes of each run and no others, in this order; a run of which none are taken is left out.
    confounds : sequence of array or DataFrame of shape (n_volumes, n_confounds), optional
        One a run; they are regressed out of what has been standardized. Run means stay where the scope keeps them.
    """

    def __init__(
        self,
        space: NeuronSpace,
        imgs: Sequence[Img],
        standardize: str,
        scope: str,
        volumes: Sequence[np.ndarray] | None = None,
        confounds: Sequence[np.ndarray] | None = None,
    ) -> None:
        if standardize not in STANDARDIZATIONS:
            raise ValueError(f"standardize is {standardize!r}; accepted are {', '.join(map(repr, STANDARDIZATIONS))}.")
        if scope not in SCOPES:
            raise ValueError(f"scope is {scope!r}; accepted are {', '.join(map(repr, SCOPES))}.")
        self.space, self.standardize, self.scope = space, standardize, scope
        lengths = [_length(space, img) for img in imgs]
        self.confounds = None if confounds is None else Nuisance.read(confounds).checked(lengths).runs
        self._places = list(range(len(lengths)))  # of the runs that are taken
        self.volumes = volumes
        if volumes is not None:
            lengths = [len(rows) for rows in volumes]
            self._places = [place for place in self._places if lengths[place]]
        self.imgs = list(imgs)
        self.n_volumes = [lengths[place] for place in self._places]
        self.seen: set[int] = set()
        self._cached: dict[int, Moments] = {}
        self._pooled: Moments | None = None
        self._dead = np.zeros(space.n_neurons, dtype=bool)
        self._looks = False  # whether every read has to look for values that are not finite
        self._lock = threading.RLock()

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "_lock"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state, _lock=threading.RLock())

    def take_moments(self, moments: Moments) -> None:
        """Standardize by the moments of other runs, with ``scope="study"``."""
        self._pooled, self.seen, self._looks = moments, set(range(len(self))), True

    def selected(self, volumes: Sequence[np.ndarray]) -> "StandardizedRuns":
        """Take some volumes of each run: standardized anew, from these volumes alone."""
        return StandardizedRuns(self.space, self.imgs, self.standardize, self.scope, volumes, self.confounds)

    def load(self, number: int) -> np.ndarray:
        """Read one run as it is, ``(n_volumes, n_neurons)``; whether its values are finite is for others to check."""
        place = self._places[number]
        array = np.atleast_2d(self.space.from_img(self.imgs[place], check=False))
        return array if self.volumes is None else array[self.volumes[place]]

    def _check(self, array: np.ndarray, sums: np.ndarray, number: int) -> None:
        """Refuse a run with values that are not finite: they have passed into its sums, which are cheap to look at."""
        if not np.isfinite(sums).all():
            img = self.imgs[self._places[number]]
            self.space.check_finite(array, str(img) if isinstance(img, str | Path) else "The image")

    def run(self, number: int) -> np.ndarray:
        """Read and standardize one run, ``(n_volumes, n_neurons)``, float32, which is the caller's to change."""
        array, own = self.read(number)
        self.note(number, own)
        return array

    def read(self, number: int) -> tuple[np.ndarray, Moments | None]:
        """Read and standardize one run; give its moments too, if they had to be computed."""
        array, own = self.load(number), None
        if self.scope == "study":
            if self._looks:
                with np.errstate(over="ignore", invalid="ignore"):
                    self._check(array, np.ones(len(array), dtype=array.dtype) @ array, number)
            array = standardized(array, self.moments, self.standardize)  # whose computation has checked all runs
        else:
            with np.errstate(over="ignore", invalid="ignore"):
                raw, (array, own) = array, _standardized_itself(array, self.standardize)
            self._check(raw, own.mean, number)
        if self.confounds is None:
            return array, own
        place = self._places[number]
        rows = slice(None) if self.volumes is None else self.volumes[place]
        return without(array, self.confounds[place][rows]), own

    def __iter__(self) -> Iterator[np.ndarray]:
        return (self.run(number) for number in range(len(self)))

    def note(self, number: int, own: Moments | None) -> None:
        """Remember the moments of a run that was read, merged with those of the others: memory does not grow."""
        with self._lock:
            if own is None or number in self.seen:
                return
            if len(self._cached) < _CACHE_BYTES // (16 * self.space.n_neurons):
                self._cached[number] = own
            self._dead |= own.dead
            self._pooled = own if self._pooled is None else pooled([self._pooled, own])
            self.seen.add(number)

    def _see_all(self) -> None:
        for number in range(len(self)):
            if number not in self.seen:
                array = self.load(number)
                own = moments(array)
                self._check(array, own.mean, number)
                self.note(number, own)

    @property
    def moments(self) -> Moments:
        """Moments over all runs; runs that were not read yet are read."""
        with self._lock:
            self._see_all()
        if self._pooled is None:
            raise ValueError("There is no run, so there are no moments. Give at least one image.")
        return self._pooled

    @property
    def dead(self) -> np.ndarray:
        """Which neurons do not vary in at least one run, or over all if that is the scope: ``(n_neurons,)``."""
        with self._lock:
            self._see_all()
        return self.moments.dead if self.scope == "study" else self._dead

    def projected(self, maps: np.ndarray) -> Iterator[tuple[np.ndarray, float]]:
        """Multiply every standardized run by maps, without standardizing it where its moments are known.

        Data that were not standardized are taken around each neuron's mean over all runs.

        Parameters
        ----------
        maps : ndarray of shape (n_maps, n_neurons)
            Float64.

        Yields
        ------
        projected : ndarray of shape (n_volumes, n_maps)
            Float64.
        sum_of_squares : float
            Of the standardized run.
        """
        for number in range(len(self)):
            own = self._cached.get(number)
            if own is None or self.scope != "run" or self.standardize == "none" or self.confounds is not None:
                run = self.run(number)
                if self.standardize == "none":
                    run -= self.moments.mean.astype(np.float32)
                yield products(run, maps), float(np.einsum("ij,ij->i", run, run).sum(dtype=np.float64))
                continue
            alive = ~own.dead
            scale = (
                np.divide(1.0, own.sd, out=np.zeros_like(own.sd), where=alive) if self.standardize == "zscore" else 1.0
            )
            squares = float(alive.sum()) if self.standardize == "zscore" else float((own.sd**2).sum())
            run, scaled = self.load(number), maps * scale
            if (np.abs(own.mean[alive]) <= _LARGEST_MEAN * own.sd[alive]).all():
                yield products(run, scaled) - scaled @ own.mean, own.n_volumes * squares
            else:
                yield products(run - own.mean.astype(np.float32), scaled), own.n_volumes * squares

    def __len__(self) -> int:
        return len(self._places)


def _length(space: NeuronSpace, img: Img) -> int:
    """Count the volumes of an image from its header."""
    shape = space.check_img(img).shape
    return shape[3] if len(shape) == 4 else 1


def products(run: np.ndarray, maps: np.ndarray) -> np.ndarray:
    """Compute ``run @ maps.T`` in blocks of neurons: products in float32, their sum in float64."""
    single = np.ascontiguousarray(maps, dtype=np.float32)
    total = np.zeros((len(run), len(maps)))
    for first in range(0, run.shape[1], _WIDE):
        total += run[:, first : first + _WIDE] @ single[:, first : first + _WIDE].T
    return total
