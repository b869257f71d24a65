"""Comparison of texts: outliers in norm or in distance from the mean pattern."""

import itertools

import numpy as np
import pandas as pd

from lmri.decomposition.quality.moments import FourMoments
from lmri.decomposition.quality.robust import OUTLYING, z_of_distances, z_of_means
from lmri.decomposition.quality.runs import text_bounds

_N_SHOWN = 80
"""Number of characters of a text that are shown."""


def distances(array: np.ndarray, events: pd.DataFrame, moments: FourMoments, number: int) -> pd.DataFrame:
    """Compute the distance of each text of a run from the mean of the recording.

    Parameters
    ----------
    array : ndarray of shape (n_volumes, n_neurons)
        Run, in activation units.
    events : DataFrame
        Events, one row per volume.
    moments : FourMoments
        Moments of the whole recording.
    number : int
        Number of the run, from 1.

    Returns
    -------
    DataFrame
        Table ``text_id, run, first_volume, n_volumes, distance``. The distance is the root mean square, over neurons
        that are not dead, of the deviation of the text's mean, in sd of the neuron.
    """
    ids = events["text_id"].to_numpy()
    bounds = text_bounds(ids)
    alive = (moments.sd > 0) & ~moments.dead
    distance = np.zeros(len(bounds) - 1)
    for text, (first, last) in enumerate(itertools.pairwise(bounds)):
        mean = array[first:last].mean(axis=0, dtype=np.float64)
        if alive.any():
            distance[text] = np.sqrt(np.mean(((mean - moments.mean)[alive] / moments.sd[alive]) ** 2))
    return pd.DataFrame(
        {
            "text_id": ids[bounds[:-1]],
            "run": number,
            "first_volume": bounds[:-1],
            "n_volumes": np.diff(bounds),
            "distance": distance,
        }
    )


def texts_table(table: pd.DataFrame, volumes: pd.DataFrame, texts: pd.DataFrame) -> pd.DataFrame:
    """Add norms, robust z and flags to the table of texts of all runs.

    Parameters
    ----------
    table : DataFrame
        Table from `distances` of all runs.
    volumes : DataFrame
        Volumes with their norms, one row per volume.
    texts : DataFrame
        Texts of the recording.
    """
    by = volumes.groupby(["run", "text_id"], sort=False)["norm"]
    means, counts = by.mean().to_numpy(), by.size().to_numpy()
    # Pooled over texts by the median, so that a single text with many sinks does not increase the scale.
    within = by.var().to_numpy()[counts > 1]
    table = table.copy()
    table["norm"] = means
    table["norm_z"] = z_of_means(means, float(np.median(within)) if len(within) else 0.0, counts)
    table["distance_z"] = z_of_distances(table["distance"].to_numpy(), counts)
    loud, far = table["norm_z"].abs() > OUTLYING, table["distance_z"] > OUTLYING
    table["outlier"] = (loud | far).astype(int)
    table["why"] = np.select([loud & far, loud, far], ["norm and distance", "norm", "distance"], "")
    table["begins"] = table["text_id"].map(dict(zip(texts["text_id"], texts["text"], strict=True))).fillna("")
    table["begins"] = table["begins"].str.slice(0, _N_SHOWN)
    return table
