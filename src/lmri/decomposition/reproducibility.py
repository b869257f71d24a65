"""Reproducibility of a decomposition across samples of the texts, and its dependence on the number of texts.

Whole texts are resampled, never tokens. Agreement is compared with the agreement of random unmixings of the same data.
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
    """Agreement between decompositions of different samples of the texts.

    Parameters
    ----------
    metrics : DataFrame
        Metrics, one row per map of the estimator, in its order: ``iq_texts``, the cluster index over bootstraps of
        texts (ICASSO); ``split_half_r``, the median ``|r|`` between halves of the texts; ``split_half_null``, the 95th
        percentile of the same statistic, map by map, for random unmixings of both halves.
    curve : DataFrame
        Reliability curve, one row per pair of disjoint samples: ``n_texts, n_volumes`` of each sample, ``mean_r`` of
        their maps matched one to one, ``null_mean, null_95`` of random unmixings, ``n_above`` pairs beyond their null.
    n_bootstraps, n_splits : int
        Numbers of bootstraps and of random halves.
    """

    metrics: pd.DataFrame
    curve: pd.DataFrame
    n_bootstraps: int
    n_splits: int


def volume_texts(recordings: Sequence[Recording]) -> list[np.ndarray]:
    """Return the name of each volume's text, one array per run, as input of `reproducibility`."""
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
    """Compute reproducibility from fits to bootstraps, halves and smaller parts of the texts.

    Parameters
    ----------
    estimator : Decomposition
        Fitted estimator, whose images are read again.
    texts : sequence of array of shape (n_volumes,), optional
        Text of each volume, one array per run; see `volume_texts`. By default every run counts as one text.
    n_bootstraps : int, default=10
        Number of bootstrap samples of the texts, drawn with replacement and of the same size.
    n_splits : int, default=5
        Number of random halves.
    sizes : sequence of float, default=(0.25, 0.5, 0.75)
        Sizes of smaller samples for the curve, as shares of a half. Samples with too few volumes for the maps are left
        out.
    random_state : int, default=0
        Random seed.
    n_jobs : int, default=1
        Number of processes.
    progress : callable, optional
        Callback for the number of finished fits, and the number of all fits.

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
    n_entries = [len(texts_of_run) for texts_of_run in texts]
    if n_entries != lengths:
        raise ValueError(
            f"texts has {n_entries} entries; the runs have {lengths} volumes. Name the text of every volume."
        )
    names = sorted({name for texts_of_run in texts for name in texts_of_run}, key=str)
    if len(names) < FEWEST_TEXTS:
        raise ValueError(
            f"There are {len(names)} texts. Stability across texts needs at least {FEWEST_TEXTS}. Record more texts."
        )
    numbers = {name: number for number, name in enumerate(names)}
    numbered = [np.array([numbers[name] for name in texts_of_run]) for texts_of_run in texts]
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
            if all(possible(sample) for sample in pair):
                pairs.append(pair)
    drawn = [*samples, *(sample for pair in pairs for sample in pair)]
    jobs = (delayed(estimator.maps_of)(_volumes(numbered, sample)) for sample in drawn)
    maps = []
    for estimate in Parallel(n_jobs=n_jobs, return_as="generator")(jobs):
        maps.append(estimate)
        if progress is not None:
            progress(len(maps), len(drawn))

    reference = estimator.components_
    metrics = pd.DataFrame({"iq_texts": bootstrap_index(reference, maps[: len(samples)])})
    rows, halves, nulls = [], [], []
    for number, pair in enumerate(pairs):
        a, b = maps[len(samples) + 2 * number : len(samples) + 2 * number + 2]
        comparison = compare(NetworkSet(estimator.space, a), NetworkSet(estimator.space, b), seed=random_state)
        volumes = [sum(map(len, _volumes(numbered, sample))) for sample in pair]
        rows.append(
            {
                "n_texts": len(pair[0]),
                "n_volumes": int(np.mean(volumes)),
                "mean_r": comparison.mean_r,
                "null_mean": comparison.null_mean,
                "null_95": comparison.null_95,
                "n_above": int(comparison.table["above_null"].sum()),
            }
        )
        if len(pair[0]) == half:
            halves.append(_between(reference, a, b))
            nulls.append([_between(reference, _unmixed(a, rng), _unmixed(b, rng)) for _ in range(_N_UNMIXINGS)])
    metrics["split_half_r"] = np.median(halves, axis=0) if halves else np.nan
    null = np.median(nulls, axis=0) if nulls else np.full((1, len(reference)), np.nan)  # (n_unmixings, n_maps)
    metrics["split_half_null"] = np.percentile(null, 95, axis=0)
    return Reproducibility(metrics, pd.DataFrame(rows), n_bootstraps, n_splits)


def bootstrap_index(reference: np.ndarray, maps: Sequence[np.ndarray]) -> np.ndarray:
    """Cluster the maps of all bootstraps with the estimator's maps, and return Iq of each estimator map's cluster.

    Parameters
    ----------
    own : ndarray of shape (n_maps, n_neurons)
        Maps of the estimator.
    maps : sequence of ndarray of shape (n_maps, n_neurons)
        Maps of the bootstraps, one array per bootstrap.

    Returns
    -------
    ndarray of shape (n_maps,)
        Cluster index; maps of the estimator in the same cluster share it. NaN without bootstraps.
    """
    if not maps:
        return np.full(len(reference), np.nan)
    z = z_scores(np.concatenate([reference, *maps]))
    similarity = np.clip(np.abs(z @ z.T / z.shape[1]), 0, 1)
    labels = clusters(similarity, len(reference))
    return cluster_index(similarity, labels)[labels[: len(reference)]]


def _between(reference: np.ndarray, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Match the maps of both halves with the estimator's maps, and compute ``|r|`` between the matched maps."""
    own_z, a_z, b_z = z_scores(reference), z_scores(a), z_scores(b)
    n = reference.shape[1]
    _, in_a = linear_sum_assignment(-np.abs(own_z @ a_z.T))
    _, in_b = linear_sum_assignment(-np.abs(own_z @ b_z.T))
    return np.abs((a_z[in_a] * b_z[in_b]).sum(axis=1) / n)


def _unmixed(maps: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return a random unmixing of the same data: a random rotation in white space."""
    centred = maps - maps.mean(axis=1, keepdims=True)
    _, values, vectors = np.linalg.svd(centred, full_matrices=False)
    q, r = np.linalg.qr(rng.normal(size=(len(maps), len(maps))))
    return (q * np.sign(np.diag(r))) @ (values[:, None] * vectors)


def _volumes(numbered: Sequence[np.ndarray], chosen: np.ndarray) -> list[np.ndarray]:
    """Return the volumes of the chosen texts in each run; a text that is chosen twice contributes its volumes twice."""
    counts = np.bincount(chosen, minlength=1 + max(int(texts_of_run.max(initial=0)) for texts_of_run in numbered))
    return [np.repeat(np.arange(len(texts_of_run)), counts[texts_of_run]) for texts_of_run in numbered]
