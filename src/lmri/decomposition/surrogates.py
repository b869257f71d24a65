"""Surrogates: recordings without co-activation, in which every neuron's time series is shifted independently.

Each neuron is shifted circularly by its own random number of volumes within each run. Its values, and their order
except for one seam, are kept; co-activation of neurons is removed. Shuffling whole tokens would not affect PCA and ICA.
"""

from collections.abc import Iterator

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from lmri.decomposition.standardization import StandardizedRuns

N_SURROGATES = 20

_FEW_NEURONS = 256  # fit into the cache together


class Shifter:
    """Fast generator of surrogates of one run.

    Parameters
    ----------
    run : ndarray of shape (n_volumes, n_neurons)
        Standardized run.
    before : Shifter, optional
        Shifter of another run that is no longer needed, whose memory is reused: allocating is slower than filling it.
    """

    def __init__(self, run: np.ndarray, before: "Shifter | None" = None) -> None:
        self.n_volumes, self.n_neurons = run.shape
        size = 2 * run.size
        reusable = before is not None and before._memory.dtype == run.dtype and len(before._memory) >= size
        self._memory: np.ndarray = before._memory if before and reusable else np.empty(size, dtype=run.dtype)
        # Each series twice in a row: a shift is a window, and copying windows needs no index arithmetic.
        doubled = self._memory[:size].reshape(self.n_neurons, 2 * self.n_volumes)
        for first in range(0, self.n_neurons, _FEW_NEURONS):
            part = doubled[first : first + _FEW_NEURONS]
            part[:, : self.n_volumes] = run[:, first : first + _FEW_NEURONS].T
            part[:, self.n_volumes :] = part[:, : self.n_volumes]
        self._windows = sliding_window_view(doubled, self.n_volumes, axis=1)

    def __call__(self, rng: np.random.Generator) -> np.ndarray:
        """Return one surrogate, ``(n_volumes, n_neurons)``, in neuron-major memory order."""
        # A shift by 0 is one of the n_volumes shifts: the recording itself must be a possible surrogate.
        shifts = rng.integers(0, self.n_volumes, size=self.n_neurons)
        return self._windows[np.arange(self.n_neurons), shifts].T


def generator(random_state: int, surrogate: int, run: int) -> np.random.Generator:
    """Return the random generator of one surrogate's shifts in one run, independent of other draws."""
    return np.random.default_rng([random_state, surrogate, run])


class RunMeans:
    """Means of every neuron in every run, permuted among runs independently for each neuron.

    A shift within a run does not change its mean. If standardization has not removed the means, co-activation between
    runs would otherwise remain in every surrogate.

    Parameters
    ----------
    runs : StandardizedRuns
        Recording; it is read once more if there are means.
    random_state : int
        Random seed.
    """

    def __init__(self, runs: StandardizedRuns, random_state: int) -> None:
        self.random_state = random_state
        self.means: np.ndarray | None = None
        if len(runs) > 1 and (runs.scope == "study" or runs.standardize == "none"):
            self.means = np.stack([run.mean(axis=0) for run in runs])  # (n_runs, n_neurons)
            self._weights = (np.array(runs.n_volumes) / sum(runs.n_volumes)).astype(np.float32)

    def change(self, surrogate: int) -> np.ndarray | None:
        """Compute the change of every run's means for a surrogate, ``(n_runs, n_neurons)``; None without means."""
        if self.means is None:
            return None
        rng = np.random.default_rng([self.random_state, surrogate, len(self.means), 1])
        exchanged = rng.permuted(self.means, axis=0)
        # Runs differ in length: this keeps each neuron's mean over all volumes.
        exchanged += self._weights @ (self.means - exchanged)
        return exchanged - self.means


class ShiftedRuns:
    """Surrogate of a whole recording, run by run.

    Parameters
    ----------
    runs : StandardizedRuns
        Recording. Shifting changes neither mean nor sd of a run, so it may follow standardization.
    random_state : int
        Random seed.
    surrogate : int
        Number of the surrogate.
    """

    def __init__(self, runs: StandardizedRuns, random_state: int, surrogate: int) -> None:
        self.runs, self.random_state, self.surrogate = runs, random_state, surrogate
        self.n_volumes = runs.n_volumes

    def __iter__(self) -> Iterator[np.ndarray]:
        change = RunMeans(self.runs, self.random_state).change(self.surrogate)
        for number, run in enumerate(self.runs):
            shifted = np.ascontiguousarray(Shifter(run)(generator(self.random_state, self.surrogate, number)))
            yield shifted if change is None else shifted + change[number]

    def __len__(self) -> int:
        return len(self.runs)
