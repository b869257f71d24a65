"""Removed energy: the activity that a lesion of each neuron removes, measured on a recording.

A silenced neuron whose activation ``h`` becomes ``b`` removes ``(h - b) w`` from the residual stream, where ``w`` is
the column of its output weights. The mean square over tokens is ``E[h²] |w|²`` for a zero lesion, ``Var[h] |w|²`` for a
mean lesion, and ``2 Var[h] |w|²`` if the donor's value is independent of the neuron's own. If mean or donors come from
other texts, the squared difference of means is added, and one of the two variances is the variance of the donors. At
``mlp_out`` a neuron is a coordinate of the output, so ``|w|`` is 1.
"""

from collections.abc import Iterable, Sequence
from itertools import chain

import numpy as np

from lmri.exceptions import SpaceMismatchError
from lmri.lesions.baselines.registry import BASELINES
from lmri.space.layers import is_input
from lmri.storage.recording import Recording

_ROWS = 64  # tokens converted to float64 at once


def moments(arrays: Iterable[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Compute mean and variance of every neuron over all tokens in one pass, run by run.

    Parameters
    ----------
    arrays : iterable of ndarray of shape (n_volumes, n_neurons)
        Activations, such as ``recording.arrays()``.

    Returns
    -------
    mean, variance : ndarray of float64, shape (n_neurons,)
        Mean in activation units and variance in squared units, normalized by the number of tokens.

    Notes
    -----
    Blocks are merged by their means and sums of squared deviations [1]_, because the difference of E[h²] and E[h]² is
    inaccurate for neurons with a large mean.

    References
    ----------
    .. [1] Chan, Golub and LeVeque (1983). Algorithms for computing the sample variance: analysis and recommendations.
       The American Statistician, 37, 242-247.
    """
    n, mean, squares = 0, np.zeros(1), np.zeros(1)
    for array in arrays:
        for first in range(0, len(array), _ROWS):
            block = array[first : first + _ROWS].astype(np.float64)
            block_mean = block.mean(axis=0)
            difference = block_mean - mean
            total = n + len(block)
            squares = squares + ((block - block_mean) ** 2).sum(axis=0) + difference**2 * (n * len(block) / total)
            mean = mean + difference * (len(block) / total)
            n = total
    if not n:
        raise ValueError("There are no tokens to measure activations on. Give a recording with fitted texts.")
    return mean, squares / n


def removed_energy(
    recordings: Recording | Sequence[Recording],
    baseline: str = "zero",
    norms: np.ndarray | None = None,
    given: Recording | None = None,
) -> np.ndarray:
    """Measure the energy that a lesion of each neuron removes from the residual stream, as mean square over tokens.

    Parameters
    ----------
    recordings : Recording or sequence of Recording
        Recordings of the texts in which networks were fitted, such as ``study.group()``; all tokens have equal weight.
    baseline : {"zero", "mean", "resample"}
        Baseline that replaces activations.
    norms : ndarray of shape (n_neurons,), optional
        Squared norm of every neuron's output weights, as computed by `lmri.interventions.output_norms`. Required at
        ``mlp_hidden``, refused at ``mlp_out``, where the norm is 1.
    given : Recording, optional
        Recording of the baseline, if it is another one: its mean, or its tokens as donors.

    Returns
    -------
    ndarray of float64, shape (n_neurons,)
        Removed energy in squared units of the residual stream.
    """
    every = [recordings] if isinstance(recordings, Recording) else list(recordings)
    if not every:
        raise ValueError("There is no recording to measure activations on. Give the recording of the fitted texts.")
    space = every[0].space
    for recording in every[1:]:
        space.check_same(recording.space, f"The recording of {recording.corpus!r}")
    if baseline not in BASELINES:
        raise ValueError(f"baseline is {baseline!r}; choose from {', '.join(map(repr, BASELINES))}.")
    if not is_input(space.site) and norms is not None:
        raise ValueError(
            f"norms are given at {space.site!r}, where a neuron is a coordinate of the output and has no output "
            "weights. Omit norms."
        )
    if is_input(space.site):
        if norms is None:
            raise ValueError(
                f"norms are missing; at {space.site!r} the energy that a neuron removes depends on its output weights. "
                "Give norms=lmri.lesions.interventions.output_norms(model, recording.space)."
            )
        norms = np.asarray(norms, dtype=np.float64)
        if norms.shape != (space.n_neurons,):
            raise SpaceMismatchError(f"norms have shape {norms.shape}; ({space.n_neurons},) is needed.")
    mean, variance = moments(chain.from_iterable(recording.arrays() for recording in every))
    other_mean, other_variance = mean, variance
    if given is not None:
        space.check_same(given.space, f"The recording of {given.corpus!r}")
        other_mean, other_variance = moments(given.arrays())
    energy = BASELINES[baseline].removed((mean, variance), (other_mean, other_variance))
    return energy if norms is None else energy * norms
