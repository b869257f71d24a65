"""Quality metrics of a single run."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from lmri.decomposition.quality.moments import FourMoments
from lmri.decomposition.quality.robust import OUTLYING, robust_z, spread
from lmri.exceptions import StudyError
from lmri.space import NeuronSpace

MASSIVE_VALUE, MASSIVE_RATIO = 100.0, 1000.0
"""Limits for a massive activation: it exceeds the first, and is at least the second times the median |value| of its
layer in its run [1]_. Zeros are excluded from the median, because most values behind a ReLU, or of an expert in a
mixture, are 0, and any value is a thousand times 0.

.. [1] Sun et al. (2024). Massive activations in large language models. Conference on Language Modeling.
"""

EXTREME = 100.0
"""Smallest deviation of an extreme activation from the median of its layer's nonzero values in its run, in robust sd
(`spread`). The rule has no unit and thus also applies to small models: 1,000 times the median |value| of a Gaussian is
674 sd, which they do not reach; 100 sd still exceeds any variation from token to token."""

N_ROWS, N_COLUMNS = 160, 600
"""Largest numbers of rows and columns of a carpet."""

_ITERATIONS = 8


@dataclass(frozen=True)
class Carpet:
    """Carpet plot of a run: groups of neurons × tokens.

    Parameters
    ----------
    run : int
        Number of the run, from 1.
    values : ndarray of shape (n_rows, n_columns)
        Block means of z-scored neurons, scaled to sd 1 in each row; rows by layer, and within a layer from the most
        positive to the most negative correlation with its main time course.
    layers : ndarray of shape (n_rows,)
        Layer of each row.
    bounds : tuple of int
        First volume of every text, and the number of volumes.
    """

    run: int
    values: np.ndarray
    layers: np.ndarray
    bounds: tuple[int, ...]


@dataclass(frozen=True)
class RunFacts:
    """Metrics of a run, with neurons in (layer, neuron) order.

    Parameters
    ----------
    moments : FourMoments
        Moments of every neuron.
    n_massive, n_extreme : ndarray of shape (n_neurons,)
        Numbers of massive and extreme values of each neuron.
    peak : ndarray of shape (n_neurons,)
        Ratio of the largest |value| to the median |value| of the layer, zeros excluded.
    layer_norms : ndarray of shape (n_volumes, n_layers)
        Euclidean norm of each layer at each token.
    volumes : DataFrame
        Volumes, one row per volume.
    row : dict
        Row of the table of runs.
    carpet : Carpet
        Carpet plot.
    """

    moments: FourMoments
    n_massive: np.ndarray
    n_extreme: np.ndarray
    peak: np.ndarray
    layer_norms: np.ndarray
    volumes: pd.DataFrame
    row: dict[str, Any]
    carpet: Carpet


def text_bounds(text_ids: np.ndarray) -> np.ndarray:
    """Return the first volume of every text, followed by the number of volumes, ``(n_texts + 1,)``.

    Examples
    --------
    >>> text_bounds(np.array(["a", "a", "b"]))
    array([0, 2, 3])
    """
    starts = np.flatnonzero(np.r_[True, text_ids[1:] != text_ids[:-1]])
    return np.r_[starts, len(text_ids)]


def read_run(space: NeuronSpace, array: np.ndarray, events: pd.DataFrame, number: int) -> RunFacts:
    """Compute the metrics of one run.

    Parameters
    ----------
    space : NeuronSpace
        Neuron space.
    array : ndarray of shape (n_volumes, n_neurons)
        Run, in activation units.
    events : DataFrame
        Events, one row per volume.
    number : int
        Number of the run, from 1.

    Raises
    ------
    StudyError
        If the number of rows differs from the number of volumes.
    """
    if len(events) != len(array) or not len(array):
        raise StudyError(
            f"Run {number} has {len(array)} volumes and {len(events)} rows of events. Run `lmri validate`, and record "
            "again."
        )
    moments = FourMoments.of(array)
    n_massive, n_extreme, peak = _large_values(space, array)
    bounds = text_bounds(events["text_id"].to_numpy())
    dvars, autocorrelation, carpet = _over_time(space, array, moments, bounds, number)
    norms = np.stack([_norms(array[:, _layer(space, layer)]) for layer in range(space.n_layers)], axis=1)
    signal = array.mean(axis=1, dtype=np.float64)
    spike = robust_z(dvars) > OUTLYING
    volumes = events[["text_id", "position", "token_id", "token"]].reset_index(drop=True)
    volumes.insert(0, "run", number)
    volumes.insert(1, "volume", np.arange(len(array)))
    volumes["norm"] = np.sqrt((norms**2).sum(axis=1))
    volumes["global_signal"], volumes["dvars"], volumes["spike"] = signal, dvars, spike.astype(int)
    alive = (moments.sd > 0) & ~moments.dead
    known = dvars[np.isfinite(dvars)]
    row = {
        "run": number,
        "n_volumes": len(array),
        "n_texts": len(bounds) - 1,
        "global_mean": float(signal.mean()),
        "global_sd": float(signal.std()),
        "dvars": float(np.median(known)) if len(known) else np.nan,
        "dvars_max": float(known.max()) if len(known) else np.nan,
        "n_spikes": int(spike.sum()),
        "share_spikes": float(spike.mean()),
        "share_dead": float(moments.dead.mean()) if len(array) > 1 else np.nan,
        "tsnr": float(np.median(np.abs(moments.mean[alive]) / moments.sd[alive])) if alive.any() else np.nan,
        "autocorrelation": autocorrelation,
    }
    return RunFacts(moments, n_massive, n_extreme, peak, norms, volumes, row, carpet)


def _layer(space: NeuronSpace, layer: int) -> slice:
    """Return the neurons of a layer."""
    return slice(int(space.offsets[layer]), int(space.offsets[layer + 1]))


def _norms(values: np.ndarray) -> np.ndarray:
    """Compute the Euclidean norm of each row, in float64 if float32 overflows."""
    with np.errstate(over="ignore"):
        squares = np.einsum("ij,ij->i", values, values)
    if not np.isfinite(squares).all():  # beyond float32
        squares = (values.astype(np.float64) ** 2).sum(axis=1)
    return np.sqrt(squares, dtype=np.float64)


def _large_values(space: NeuronSpace, array: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Count massive and extreme values of every neuron, and compute its peak relative to the layer's median |value|.

    Zeros are excluded, because silent neurons (ReLU) and experts that were not selected would make both scales 0.
    """
    n_massive, n_extreme = np.zeros((2, space.n_neurons), dtype=np.int64)
    peak = np.zeros(space.n_neurons)
    for layer in range(space.n_layers):
        block = _layer(space, layer)
        values = array[:, block]
        size = np.abs(values)
        speaking = values[values != 0].astype(np.float64)
        typical = float(np.median(np.abs(speaking))) if len(speaking) else 0.0
        n_massive[block] = ((size > MASSIVE_VALUE) & (size >= MASSIVE_RATIO * typical)).sum(axis=0)
        scale = spread(speaking)
        if scale:
            n_extreme[block] = (np.abs(values - float(np.median(speaking))) > EXTREME * scale).sum(axis=0)
        peak[block] = size.max(axis=0) / typical if typical else 0.0
    return n_massive, n_extreme, peak


def _over_time(
    space: NeuronSpace, array: np.ndarray, moments: FourMoments, bounds: np.ndarray, number: int
) -> tuple[np.ndarray, float, Carpet]:
    """Compute DVARS, autocorrelation and carpet of z-scored volumes within texts, one layer at a time."""
    alive = (moments.sd > 0) & ~moments.dead
    scale = np.divide(1.0, moments.sd, out=np.zeros_like(moments.sd), where=alive)
    same = np.ones(len(array), dtype=bool)
    same[bounds[:-1]] = False  # the first volume of a text has no predecessor
    later = np.flatnonzero(same)
    change, products, rows, layers = np.zeros(len(later)), [], [], []
    course = np.zeros(len(array), dtype=np.float32)
    for layer in range(space.n_layers):
        block = _layer(space, layer)
        z = ((array[:, block] - moments.mean[block]) * scale[block]).astype(np.float32)
        steps = z[later] - z[later - 1]
        change += np.einsum("ij,ij->i", steps, steps)
        if len(later):
            products.append(np.einsum("ij,ij->j", z[later], z[later - 1])[alive[block]] / len(later))
        blocks, course = _carpet_rows(z, max(1, round(N_ROWS * space.widths[layer] / space.n_neurons)), course)
        rows.append(blocks)
        layers += [layer] * len(blocks)
    dvars = np.full(len(array), np.nan)
    if alive.any():
        dvars[later] = np.sqrt(change / alive.sum())
    stacked = np.concatenate(products) if products else np.empty(0)
    carpet = Carpet(number, _shrunk(np.concatenate(rows)), np.array(layers), tuple(int(bound) for bound in bounds))
    return dvars, float(np.median(stacked)) if len(stacked) else np.nan, carpet


def _carpet_rows(z: np.ndarray, n_rows: int, before: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Compute means of groups of correlated neurons; neighbours are uncorrelated, and their means would be near 0.

    The main time course is returned too, with the sign of a positive correlation with that of the previous layer.
    """
    course = np.random.default_rng(0).normal(size=len(z)).astype(np.float32)
    for _ in range(_ITERATIONS):  # main time course of the layer, by the power method
        course = z @ (z.T @ course)
        size = np.linalg.norm(course)
        if not size:
            break
        course /= size
    if course @ before < 0:
        course = -course
    order = np.argsort(-(z.T @ course), kind="stable")
    groups = np.array_split(order, min(n_rows, len(order)))
    return np.stack([z[:, group].mean(axis=1) for group in groups]), course  # (n_rows, n_volumes), (n_volumes,)


def _shrunk(rows: np.ndarray) -> np.ndarray:
    """Average over neighbouring tokens if there are too many columns, and scale each row to sd 1."""
    starts = np.arange(0, rows.shape[1], -(-rows.shape[1] // N_COLUMNS))
    means = np.add.reduceat(rows, starts, axis=1) / np.diff(np.r_[starts, rows.shape[1]])
    sd = means.std(axis=1, keepdims=True)
    return np.divide(means, sd, out=np.zeros_like(means), where=sd > 0).astype(np.float32)
