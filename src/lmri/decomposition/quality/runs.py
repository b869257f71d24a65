"""One run, as long as it is in memory: everything that its volumes can say without the other runs."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from lmri.decomposition.quality.moments import FourMoments
from lmri.decomposition.quality.robust import OUTLYING, robust_z, spread
from lmri.exceptions import StudyError
from lmri.space import NeuronSpace

MASSIVE_VALUE, MASSIVE_RATIO = 100.0, 1000.0
"""A massive activation is above the first, and at least the second times the median |value| of its layer in its run
[1]_. Values that are 0 have no part in the median: most are behind a ReLU, or in an expert of a mixture, and any value
is a thousand times 0.

.. [1] Sun et al. (2024). Massive activations in large language models. Conference on Language Modeling.
"""

EXTREME = 100.0
"""An extreme activation lies so many robust sd (`spread`) from the median of its layer's values that are not 0, in its
run. The rule has no unit, so that it can fire in small models too: 1,000 medians of a Gaussian's |value| are 674 sd,
which none of them reaches; 100 sd are still beyond anything that token-to-token variation gives."""

N_ROWS, N_COLUMNS = 160, 600
"""Most rows and columns of a carpet."""

_ITERATIONS = 8


@dataclass(frozen=True)
class Carpet:
    """A run at a glance: groups of neurons × tokens.

    Parameters
    ----------
    run : int
        Counted from 1.
    values : ndarray of shape (n_rows, n_columns)
        Block means of z-scored neurons, scaled to sd 1 in each row; rows by layer, and within a layer from the neurons
        that go most with its main time course to those that go most against it.
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
    """What is kept of a run; neurons in (layer, neuron) order.

    Parameters
    ----------
    moments : FourMoments
        Of every neuron.
    n_massive, n_extreme : ndarray of shape (n_neurons,)
        How many values of each neuron are massive or extreme.
    peak : ndarray of shape (n_neurons,)
        Largest |value| over the median |value| of the layer, of values that are not 0.
    layer_norms : ndarray of shape (n_volumes, n_layers)
        Euclidean norm of each layer at each token.
    volumes : DataFrame
        A row a volume.
    row : dict
        Of the table of runs.
    carpet : Carpet
        To be looked at.
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
    """Find the first volume of every text, and the number of volumes, ``(n_texts + 1,)``.

    Examples
    --------
    >>> text_bounds(np.array(["a", "a", "b"]))
    array([0, 2, 3])
    """
    starts = np.flatnonzero(np.r_[True, text_ids[1:] != text_ids[:-1]])
    return np.r_[starts, len(text_ids)]


def read_run(space: NeuronSpace, array: np.ndarray, events: pd.DataFrame, number: int) -> RunFacts:
    """Say all there is to say about one run.

    Parameters
    ----------
    space : NeuronSpace
        The neurons.
    array : ndarray of shape (n_volumes, n_neurons)
        Activation units.
    events : DataFrame
        A row a volume.
    number : int
        Of the run, from 1.

    Raises
    ------
    StudyError
        If there is not one row a volume.
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
    return slice(int(space.offsets[layer]), int(space.offsets[layer + 1]))


def _norms(values: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):
        squares = np.einsum("ij,ij->i", values, values)
    if not np.isfinite(squares).all():  # beyond float32
        squares = (values.astype(np.float64) ** 2).sum(axis=1)
    return np.sqrt(squares, dtype=np.float64)


def _large_values(space: NeuronSpace, array: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Count massive and extreme values of every neuron, and give its peak over the layer's median |value|.

    Values that are 0, as of silent units (ReLU) and of experts that were not chosen, would make both scales 0.
    """
    n_massive, n_extreme = np.zeros((2, space.n_neurons), dtype=np.int64)
    peak = np.zeros(space.n_neurons)
    for layer in range(space.n_layers):
        own = _layer(space, layer)
        values = array[:, own]
        size = np.abs(values)
        speaking = values[values != 0].astype(np.float64)
        typical = float(np.median(np.abs(speaking))) if len(speaking) else 0.0
        n_massive[own] = ((size > MASSIVE_VALUE) & (size >= MASSIVE_RATIO * typical)).sum(axis=0)
        scale = spread(speaking)
        if scale:
            n_extreme[own] = (np.abs(values - float(np.median(speaking))) > EXTREME * scale).sum(axis=0)
        peak[own] = size.max(axis=0) / typical if typical else 0.0
    return n_massive, n_extreme, peak


def _over_time(
    space: NeuronSpace, array: np.ndarray, moments: FourMoments, bounds: np.ndarray, number: int
) -> tuple[np.ndarray, float, Carpet]:
    """Compare z-scored volumes with those before them in the same text, and draw the carpet; a layer at a time."""
    alive = (moments.sd > 0) & ~moments.dead
    scale = np.divide(1.0, moments.sd, out=np.zeros_like(moments.sd), where=alive)
    same = np.ones(len(array), dtype=bool)
    same[bounds[:-1]] = False  # a text's first volume follows nothing
    later = np.flatnonzero(same)
    change, products, rows, layers = np.zeros(len(later)), [], [], []
    course = np.zeros(len(array), dtype=np.float32)
    for layer in range(space.n_layers):
        own = _layer(space, layer)
        z = ((array[:, own] - moments.mean[own]) * scale[own]).astype(np.float32)
        steps = z[later] - z[later - 1]
        change += np.einsum("ij,ij->i", steps, steps)
        if len(later):
            products.append(np.einsum("ij,ij->j", z[later], z[later - 1])[alive[own]] / len(later))
        blocks, course = _carpet_rows(z, max(1, round(N_ROWS * space.widths[layer] / space.n_neurons)), course)
        rows.append(blocks)
        layers += [layer] * len(blocks)
    dvars = np.full(len(array), np.nan)
    if alive.any():
        dvars[later] = np.sqrt(change / alive.sum())
    stacked = np.concatenate(products) if products else np.empty(0)
    carpet = Carpet(number, _shrunk(np.concatenate(rows)), np.array(layers), tuple(int(one) for one in bounds))
    return dvars, float(np.median(stacked)) if len(stacked) else np.nan, carpet


def _carpet_rows(z: np.ndarray, n_rows: int, before: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Average neurons that go together: neighbours do not, and means of unrelated neurons would be grey.

    The main time course comes too, its sign such that it goes with that of the layer before.
    """
    course = np.random.default_rng(0).normal(size=len(z)).astype(np.float32)
    for _ in range(_ITERATIONS):  # the main time course of the layer, as the power method finds it
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
    """Average over neighbouring tokens if there are more than fit, and scale each row to sd 1."""
    starts = np.arange(0, rows.shape[1], -(-rows.shape[1] // N_COLUMNS))
    means = np.add.reduceat(rows, starts, axis=1) / np.diff(np.r_[starts, rows.shape[1]])
    sd = means.std(axis=1, keepdims=True)
    return np.divide(means, sd, out=np.zeros_like(means), where=sd > 0).astype(np.float32)
