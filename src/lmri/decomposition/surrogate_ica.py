"""Spatial ICA of surrogates: several surrogates share one pass over the data, as far as memory and threads allow."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from joblib import Parallel, delayed
from joblib.parallel import get_active_backend

from lmri.decomposition.group_pca import (
    GroupPCA,
    n_kept,
    plan,
)
from lmri.decomposition.standardization import StandardizedRuns
from lmri.decomposition.surrogates import RunMeans, Shifter, generator
from lmri.decomposition.threads import n_threads, one_pool, one_thread

if TYPE_CHECKING:
    from lmri.decomposition.neuronica import NeuronICA

SURROGATE_BYTES = 2**30
"""Memory per worker for surrogates that share one pass over the data, in addition to the data."""


def spatial_surrogate_maps(estimator: "NeuronICA", n_surrogates: int, n_jobs: int) -> list[np.ndarray]:
    """Estimate the maps of each surrogate of a fitted spatial ICA.

    Parameters
    ----------
    estimator : NeuronICA
        Fitted estimator, whose data the surrogates are made from.
    n_surrogates : int
        Number of surrogates.
    n_jobs : int
        Number of workers of joblib.

    Returns
    -------
    list of ndarray of shape (n_components, n_neurons)
        Maps of each surrogate.
    """
    # Threads share one pass over the data; another joblib backend, such as a cluster, cannot.
    backend, _ = get_active_backend(prefer="threads")
    shared, n_workers = getattr(backend, "supports_sharedmem", False), backend.effective_n_jobs(n_jobs)
    # One surrogate per thread is faster than one surrogate after the other with all threads of BLAS.
    wanted = max(n_workers, n_threads() if estimator.device == "cpu" else 1) if shared else 1
    threads, together = at_once(estimator, wanted, n_workers if shared else 1)
    if not shared:
        together = min(together, -(-n_surrogates // n_workers))
    parts = [range(n_surrogates)[first : first + together] for first in range(0, n_surrogates, together)]
    jobs = (delayed(_surrogates)(estimator._clone_for_surrogate(), estimator._runs, part, threads) for part in parts)
    with one_thread() if threads > 1 or not shared else one_pool():
        maps_of_parts = Parallel(n_jobs=1 if shared else n_jobs)(jobs)
    return [maps for part in maps_of_parts for maps in part]


def at_once(estimator: "NeuronICA", threads: int, n_workers: int) -> tuple[int, int]:
    """Compute how many threads fit into memory, and how many surrogates may share one pass over the data."""
    groups = plan(estimator._runs.n_volumes)
    volumes = max(sum(estimator._runs.n_volumes[number] for number in group) for group in groups)
    has_means = estimator.scope == "study" or estimator.standardize == "none"
    a_row = 4 * estimator.space.n_neurons
    # A thread holds the volumes of one surrogate, shifted and concatenated; a surrogate holds its reduced rows.
    of_thread = a_row * volumes * (1 + has_means + any(len(group) > 1 for group in groups))
    of_surrogate = a_row * (2 * n_kept(len(estimator.components_)) + has_means * len(estimator._runs))
    most = n_workers * SURROGATE_BYTES
    threads = max(n_workers, min(threads, most // (of_thread + of_surrogate)))
    return threads, max(threads, (most - threads * of_thread) // of_surrogate)


def _surrogates(estimator: Any, runs: StandardizedRuns, numbers: Sequence[int], threads: int) -> list[np.ndarray]:
    """Estimate the maps of several surrogates in one pass over the data.

    Threads share the data: numpy releases Python's lock while it computes, and processes would have to be started.
    """
    n_components = int(estimator.n_components)
    accumulated = [GroupPCA(n_kept(n_components), True, estimator._reduce, True) for _ in numbers]
    means = RunMeans(runs, estimator._seed)
    changes = [means.change(surrogate) for surrogate in numbers]
    read = iter(runs)

    def load(group: list[int], before: list[Shifter]) -> list[Shifter]:
        return [Shifter(next(read), old) for _, old in zip(group, [*before, *[None] * len(group)], strict=False)]

    def add(index: int, group: list[int], shifters: list[Shifter]) -> None:
        sources = [generator(estimator._seed, numbers[index], number) for number in group]
        shifted = [shift(source) for shift, source in zip(shifters, sources, strict=True)]
        change = changes[index]
        if change is not None:
            shifted = [run + change[number] for run, number in zip(shifted, group, strict=True)]
        accumulated[index].update(shifted[0] if len(shifted) == 1 else np.concatenate(shifted))

    def unmix(index: int) -> np.ndarray:
        maps: np.ndarray = estimator._spatial(accumulated[index].rows, n_components)
        return maps

    indices, groups = range(len(numbers)), plan(runs.n_volumes)
    with ThreadPoolExecutor(threads) as pool:
        each = pool.map if threads > 1 else map
        shifters, spare = load(groups[0], []), list[Shifter]()
        for group, following in zip(groups, [*groups[1:], None], strict=True):
            # With one thread, reading ahead would need the memory of two groups without a gain.
            ahead = pool.submit(load, following, spare) if following and threads > 1 else None
            for _ in each(partial(add, group=group, shifters=shifters), indices):
                pass
            if following:
                spare, shifters = shifters, ahead.result() if ahead else load(following, shifters)
        return list(each(unmix, indices))
