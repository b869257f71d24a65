"""Reproducibility: how much of a decomposition comes back from other texts, and how many texts that takes.

Texts are what is resampled; tokens never are. Agreement stands beside that of arbitrary unmixings of the same data.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from joblib import Parallel, delayed
from scipy.optimize import linear_sum_assignment

from lmri.decomposition.base import Decomposition
from lmri.decomposition.stability import cluster_index, clusters
from lmri.networks import NetworkSet
from lmri.networks.comparison import compare
from lmri.networks.thresholds import z_scores
from lmri.storage.recording import Recording

FEWEST_TEXTS = 4

_N_UNMIXINGS = 100


@dataclass(frozen=True, eq=False)
class Reproducibility:
    """What other samples of the texts give.

    Parameters
    ----------
    metrics : DataFrame
        A row a map of the estimator, in its order: ``iq_texts``, the cluster index over bootstraps of texts (ICASSO);
        ``split_half_r``, the median ``|r|`` between halves of the texts; ``split_half_null``, the 95th percentile of
        the same, map by map, when both halves' maps are unmixed arbitrarily.
    curve : DataFrame
        A row a pair of disjoint samples: ``n_texts, n_volumes`` of each sample, ``mean_r`` of their maps matched one to
        one, ``null_mean, null_95`` of arbitrary unmixings, ``n_above`` pairs beyond their null.
    n_bootstraps, n_splits : int
        How many.
    """

    metrics: pd.DataFrame
    curve: pd.DataFrame
    n_bootstraps: int
    n_splits: int


def volume_texts(recordings: Sequence[Recording]) -> list[np.ndarray]:
    """Name the text of every volume, one array a run, as `reproducibility` takes them."""
    return [
        (f"{recording.corpus}/" + events["text_id"].astype(str)).to_numpy(dtype=object)
        for recording in recordings
        for events in recording.events
    ]


def reproducibility(
    estimator: Decomposition,
    texts: Sequence[np.ndarray] | None = None,
    n_bootstraps: int = 10,
    n_splits: int = 5,
    sizes: Sequence[float] = (0.25, 0.5, 0.75),
    random_state: int = 0,
    n_jobs: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> Reproducibility:
    """Fit again on bootstraps, on halves and on smaller parts of the texts.

    Parameters
    ----------
    estimator : Decomposition
        Fitted; its images are read again.
    texts : sequence of array of shape (n_volumes,), optional
        The text of every volume, one array a run; see `volume_texts`. By default every run counts as one text.
    n_bootstraps : int, default=10
        Samples of as many texts, with replacement.
    n_splits : int, default=5
        Random halves.
    sizes : sequence of float, default=(0.25, 0.5, 0.75)
        Smaller samples, as shares of a half, for the curve. Samples with too few volumes for the maps are left out.
    random_state : int, default=0
        Seed.
    n_jobs : int, default=1
        Processes.
    progress : callable, optional
        Called with the number of fits done and of all fits.

    Returns
    -------
    Reproducibility

    Raises
    ------
    ValueError
        If there are fewer than four texts.

    References
    ----------
    Himberg, Hyvärinen & Esposito (2004), ICASSO; Yang et al. (2008). Ranking and averaging independent component
    analysis by reproducibility (RAICAR). Human Brain Mapping, 29, 711–725.
    """
    lengths = estimator.n_volumes_by_run
    if texts is None:
        texts = [np.full(length, number, dtype=object) for number, length in enumerate(lengths)]
    if [len(one) for one in texts] != lengths:
        raise ValueError(
            f"texts name {[len(one) for one in texts]} volumes; the runs have {lengths}. Name every volume."
        )
    names = sorted({name for one in texts for name in one}, key=str)
    if len(names) < FEWEST_TEXTS:
        raise ValueError(
            f"There are {len(names)} texts, too few to ask what others would give; record at least {FEWEST_TEXTS}."
        )
    places = {name: number for number, name in enumerate(names)}
    numbered = [np.array([places[name] for name in one]) for one in texts]
    rng = np.random.default_rng(random_state)
    half = len(names) // 2

    def possible(chosen: np.ndarray) -> bool:
        return estimator.can_fit([len(rows) for rows in _volumes(numbered, chosen)])

    drawn_texts = (rng.choice(len(names), len(names)) for _ in range(n_bootstraps))
    samples = [chosen for chosen in drawn_texts if possible(chosen)]
    pairs: list[tuple[np.ndarray, np.ndarray]] = []
    for size in sorted({*(max(1, round(share * half)) for share in sizes), half}):
        for _ in range(n_splits):
            order = rng.permutation(len(names))
            pair = order[:size], order[size : 2 * size]
            if all(possible(one) for one in pair):
                pairs.append(pair)
    drawn = [*samples, *(one for pair in pairs for one in pair)]
    jobs = (delayed(estimator.maps_of)(_volumes(numbered, one)) for one in drawn)
    maps = []
    for found in Parallel(n_jobs=n_jobs, return_as="generator")(jobs):
        maps.append(found)
        if progress is not None:
            progress(len(maps), len(drawn))

    own = estimator.components_
    metrics = pd.DataFrame({"iq_texts": bootstrap_index(own, maps[: len(samples)])})
    rows, halves, nulls = [], [], []
    for number, pair in enumerate(pairs):
        a, b = maps[len(samples) + 2 * number : len(samples) + 2 * number + 2]
        found = compare(NetworkSet(estimator.space, a), NetworkSet(estimator.space, b), seed=random_state)
        volumes = [sum(map(len, _volumes(numbered, one))) for one in pair]
        rows.append(
            {
                "n_texts": len(pair[0]),
                "n_volumes": int(np.mean(volumes)),
                "mean_r": found.mean_r,
                "null_mean": found.null_mean,
                "null_95": found.null_95,
                "n_above": int(found.table["above_null"].sum()),
            }
        )
        if len(pair[0]) == half:
            halves.append(_between(own, a, b))
            nulls.append([_between(own, _unmixed(a, rng), _unmixed(b, rng)) for _ in range(_N_UNMIXINGS)])
    metrics["split_half_r"] = np.median(halves, axis=0) if halves else np.nan
    null = np.median(nulls, axis=0) if nulls else np.full((1, len(own)), np.nan)  # (n_unmixings, n_maps)
    metrics["split_half_null"] = np.percentile(null, 95, axis=0)
    return Reproducibility(metrics, pd.DataFrame(rows), n_bootstraps, n_splits)


def bootstrap_index(own: np.ndarray, maps: Sequence[np.ndarray]) -> np.ndarray:
    """Cluster the maps of all bootstraps together with the estimator's, and give Iq of each own map's cluster.

    Parameters
    ----------
    own : ndarray of shape (n_maps, n_neurons)
        Of the estimator.
    maps : sequence of ndarray of shape (n_maps, n_neurons)
        One array a bootstrap.

    Returns
    -------
    ndarray of shape (n_maps,)
        Own maps that fall into one cluster share its index; NaN without bootstraps.
    """
    if not maps:
        return np.full(len(own), np.nan)
    z = z_scores(np.concatenate([own, *maps]))
    similarity = np.clip(np.abs(z @ z.T / z.shape[1]), 0, 1)
    labels = clusters(similarity, len(own))
    return cluster_index(similarity, labels)[labels[: len(own)]]


def _between(own: np.ndarray, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Match either half with the estimator's maps, and give ``|r|`` between what both halves have for each."""
    own_z, a_z, b_z = z_scores(own), z_scores(a), z_scores(b)
    n = own.shape[1]
    _, in_a = linear_sum_assignment(-np.abs(own_z @ a_z.T))
    _, in_b = linear_sum_assignment(-np.abs(own_z @ b_z.T))
    return np.abs((a_z[in_a] * b_z[in_b]).sum(axis=1) / n)


def _unmixed(maps: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Give another unmixing of the same data: rotated at random where the maps are white."""
    centred = maps - maps.mean(axis=1, keepdims=True)
    _, values, vectors = np.linalg.svd(centred, full_matrices=False)
    q, r = np.linalg.qr(rng.normal(size=(len(maps), len(maps))))
    return (q * np.sign(np.diag(r))) @ (values[:, None] * vectors)


def _volumes(numbered: Sequence[np.ndarray], chosen: np.ndarray) -> list[np.ndarray]:
    """Give the volumes of the chosen texts in each run; a text chosen twice has its volumes twice."""
    counts = np.bincount(chosen, minlength=1 + max(int(one.max(initial=0)) for one in numbered))
    return [np.repeat(np.arange(len(one)), counts[one]) for one in numbered]
