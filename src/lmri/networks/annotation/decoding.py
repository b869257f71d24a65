"""Decoding of token features from the time course of a network, in held-out texts."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold

from lmri.networks import NetworkSet
from lmri.networks.annotation.features import correlation, token_features
from lmri.networks.annotation.reading import (
    Null,
    Reading,
    check_permutations,
    exchange_time_courses,
    gather,
    is_floor_too_high,
    network_names,
    permutations_needed,
    reverse_time_courses,
    without_position,
)
from lmri.networks.thresholds import q_values

FEATURES = ("position", "log_frequency", "surprisal", "is_punctuation", "has_digit", "is_capitalized")
BINARY = ("is_punctuation", "has_digit", "is_capitalized")
DECODING_COLUMNS = (
    "network", "feature", "model", "metric", "score", "r", "correlation", "n_volumes", "n_texts", "p", "q",
)  # fmt: skip

FEWEST_TEXTS = 6  # reversing 6 texts gives 64 arrangements: p can fall to 0.016
_SHORTEST = 8  # volumes; a correlation over fewer is mostly noise


def decode(
    time_courses: Sequence[Any],
    events: Sequence[pd.DataFrame],
    networks: NetworkSet | Sequence[str] | None = None,
    n_permutations: int = 1000,
    random_state: int = 0,
    n_folds: int = 5,
) -> pd.DataFrame:
    """Decode simple token features from the time course of one network at a time, in held-out texts.

    The predictors are the time course and its absolute value, centred within each text. Ridge regression (``alpha=1``)
    is fitted with cross-validation over texts (`GroupKFold` with texts as groups, by default on four fifths of the
    texts). ``r`` is the correlation of prediction and feature within each held-out text, averaged over texts. For
    binary features, ``score`` is the area under the ROC curve of a logistic regression in the same folds, within each
    text that has both values, averaged over texts. ``p`` refers to ``r`` for all features.

    For the null, all regressions are refitted with permuted time courses. For all features except position, time
    courses are exchanged among texts of the same kind, as in `enrichment`, after the mean time course over positions
    that all texts share is regressed out: a feature is not significant merely because it follows position or kind. For
    position, the time course of each text is reversed at random: under the null hypothesis of a time course that is
    stationary within texts, both directions are exchangeable.

    Parameters
    ----------
    time_courses : list of ndarray of shape (n_volumes, n_networks)
        Time courses, one array per run.
    events : list of DataFrame
        Events, one table per run and one row per volume. The feature ``surprisal`` needs a column of this name.
    networks : NetworkSet or sequence of str, optional
        Names of the networks.
    n_permutations : int, default=1000
        Number of permutations. As in `enrichment`, tests that no permutation exceeds are permuted further if more are
        needed to reach significance.
    random_state : int, default=0
        Seed of the permutations.
    n_folds : int, default=5
        Number of folds, at most the number of texts.

    Returns
    -------
    DataFrame
        Table with `DECODING_COLUMNS`. ``correlation`` is the correlation of the time course with the feature within
        texts; its sign shows the direction. ``p`` is one-sided, ``(1 + at least as good) / (1 + permutations)``, and
        missing if fewer than 6 texts of at least 8 volumes have tokens that differ in the feature. ``q`` is p adjusted
        for the false discovery rate over all features and networks.
    """
    check_permutations(n_permutations)
    if n_folds < 2:
        raise ValueError(f"n_folds is {n_folds}; it must be at least 2.")
    reading = gather(time_courses, events)
    return decoding_of(reading, network_names(networks, reading.z.shape[1]), n_permutations, random_state, n_folds)


def decoding_of(
    reading: Reading, names: list[str], n_permutations: int, random_state: int, n_folds: int
) -> pd.DataFrame:
    """Decode from joined time courses and events; see `decode`."""
    features = token_features(reading.events)
    wanted = [feature for feature in FEATURES if feature in features]
    beyond = without_position(reading, reading.z)
    y = reading.centre(features[wanted].to_numpy(dtype=float))
    y /= np.maximum(y.std(axis=0), 1e-12)
    spread = reading.sums(y**2)
    counted = (spread > 1e-9) & (reading.lengths[:, None] >= _SHORTEST)  # (n_texts, n_features)
    n_networks, n_folds = len(names), min(n_folds, reading.n_texts)
    enough = counted.sum(axis=0) >= FEWEST_TEXTS
    fold = _folds(reading, n_folds) if enough.any() else np.zeros(reading.n_texts, dtype=int)
    r, count = np.full((n_networks, len(wanted)), np.nan), np.zeros((n_networks, len(wanted)))
    n_used = np.full(r.shape, n_permutations)
    started = []
    for make, of_position in ((exchange_time_courses, False), (reverse_time_courses, True)):
        chosen = np.flatnonzero(np.array([(feature == "position") == of_position for feature in wanted]) & enough)
        if not len(chosen):
            continue
        null, rng = make(reading), np.random.default_rng([random_state, 3, int(of_position)])
        ridge = _Ridge.build(
            reading, reading.z if of_position else beyond, null, y[:, chosen], counted[:, chosen], fold
        )
        r[:, chosen] = ridge.score(null.own_slot[None])[0]
        count[:, chosen] = ridge.count(null, n_permutations, rng)
        started.append((chosen, null, rng, ridge))
    tested = np.isfinite(r)
    if is_floor_too_high(count[tested], n_permutations):
        n_more = permutations_needed(int(tested.sum()), n_permutations) - n_permutations
        for chosen, null, rng, ridge in started:
            numbers = np.flatnonzero((count[:, chosen] == 0).any(axis=1))
            again = np.zeros(r.shape, dtype=bool)
            again[np.ix_(numbers, chosen)] = count[np.ix_(numbers, chosen)] == 0
            more = np.zeros(r.shape)
            more[np.ix_(numbers, chosen)] = ridge.only(numbers).count(null, n_more, rng) if len(numbers) else 0
            count[again] += more[again]
            n_used[again] += n_more
    p = np.where(tested, (1 + count) / (1 + n_used), np.nan)
    score = r.copy()
    for number, feature in enumerate(wanted):
        if feature in BINARY:
            score[:, number] = np.nan
            if enough[number]:
                truth = features[feature].to_numpy() > 0
                score[:, number] = [_auc(reading, column, truth, counted[:, number], fold) for column in beyond.T]
    binary = np.isin(wanted, BINARY)
    table = pd.DataFrame(
        {
            "network": np.repeat(names, len(wanted)),
            "feature": np.tile(np.array(wanted, dtype=object), n_networks),
            "model": np.tile(np.where(binary, "logistic", "ridge").astype(object), n_networks),
            "metric": np.tile(np.where(binary, "roc_auc", "r").astype(object), n_networks),
            "score": score.ravel(),
            "r": r.ravel(),
            "correlation": np.where(
                np.array(wanted) == "position",
                correlation(reading.centre(reading.z), y),
                correlation(reading.centre(beyond), y),
            ).ravel(),
            "n_volumes": len(y),
            "n_texts": np.tile(counted.sum(axis=0), n_networks),
            "p": p.ravel(),
        }
    )
    table["q"] = q_values(table["p"].to_numpy())
    return table[list(DECODING_COLUMNS)]


def _folds(reading: Reading, n_folds: int) -> np.ndarray:
    """Return the fold in which each text is held out."""
    fold = np.empty(reading.n_texts, dtype=int)
    splits = GroupKFold(n_folds).split(reading.text, groups=reading.text)
    for number, (_, held_out) in enumerate(splits):
        fold[reading.text[held_out]] = number
    return fold


def _predictors(reading: Reading, z: np.ndarray) -> np.ndarray:
    """Stack time courses and their absolute values, centred within each text: ``(n_volumes, n, 2)``."""
    return reading.centre(np.stack([z, np.abs(z)], axis=-1))


@dataclass(frozen=True, eq=False)
class _Ridge:
    """Held-out ridge regression from sums per text for every slot of a null, so that refitting is cheap."""

    xx: np.ndarray  # (n_slots, n_texts, n_networks, 2, 2)
    xy: np.ndarray  # (n_slots, n_texts, n_networks, 2, n_features)
    yy: np.ndarray  # (n_texts, n_features)
    counted: np.ndarray  # (n_texts, n_features)
    fold: np.ndarray  # (n_texts,)

    @classmethod
    def build(
        cls, reading: Reading, z: np.ndarray, null: Null, y: np.ndarray, counted: np.ndarray, fold: np.ndarray
    ) -> "_Ridge":
        xx, xy = [], []
        for source in null.sources:
            x = _predictors(reading, z[source])
            xx.append(reading.sums(x[..., :, None] * x[..., None, :]))
            # One feature at a time: the products of all features would be the largest array in memory.
            xy.append(np.stack([reading.sums(x * column[:, None, None]) for column in y.T], axis=-1))
        return cls(np.stack(xx), np.stack(xy), reading.sums(y**2), counted, fold)

    def only(self, networks: np.ndarray) -> "_Ridge":
        """Return the regression for a subset of networks."""
        return replace(self, xx=self.xx[:, :, networks], xy=self.xy[:, :, networks])

    def count(self, null: Null, n: int, rng: np.random.Generator) -> np.ndarray:
        """Count the draws at least as good as the observed score, ``(n_networks, n_features)``."""
        step = max(1, 100_000 // (self.xx.shape[1] * self.xx.shape[2]))
        observed, count = self.score(null.own_slot[None])[0], 0
        for first in range(0, n, step):
            count = count + (self.score(null.draw(min(step, n - first), rng)) >= observed - 1e-9).sum(axis=0)
        return np.asarray(count)

    def score(self, slots: np.ndarray, alpha: float = 1.0) -> np.ndarray:
        """Compute the mean correlation within held-out texts, ``(n_draws, n_networks, n_features)``."""
        texts = np.arange(slots.shape[1])
        xx, xy = self.xx[slots, texts], self.xy[slots, texts]  # (n_draws, n_texts, n_networks, 2, ...)
        total = np.zeros((len(slots), xy.shape[2], xy.shape[4]))
        for number in np.unique(self.fold):
            held_out = self.fold == number
            gram = xx[:, ~held_out].sum(axis=1) + alpha * np.eye(2)
            slope = np.linalg.solve(gram, xy[:, ~held_out].sum(axis=1))[:, None]  # (n_draws, 1, n_networks, 2, n_f)
            with_truth = (slope * xy[:, held_out]).sum(axis=-2)
            with_itself = ((xx[:, held_out] @ slope) * slope).sum(axis=-2)
            norms = np.sqrt(np.maximum(with_itself, 0) * self.yy[held_out][None, :, None])
            r = np.divide(with_truth, norms, out=np.zeros_like(norms), where=norms > 1e-12)
            total += (r * self.counted[held_out][None, :, None]).sum(axis=1)
        return total / self.counted.sum(axis=0)


def _auc(reading: Reading, z: np.ndarray, truth: np.ndarray, counted: np.ndarray, fold: np.ndarray) -> float:
    """Compute the area under the ROC curve of a held-out logistic regression within texts, averaged over texts."""
    x, score = _predictors(reading, z), np.full(len(z), np.nan)
    for number in np.unique(fold):
        held_out = fold[reading.text] == number
        if truth[~held_out].any() and not truth[~held_out].all():
            model = LogisticRegression(solver="newton-cholesky").fit(x[~held_out], truth[~held_out])
            score[held_out] = model.decision_function(x[held_out])
    ranks = _ranks_within(reading.text, score)
    n = reading.sums(truth.astype(float))
    with np.errstate(divide="ignore", invalid="ignore"):
        areas = (reading.sums(ranks * truth) - n * (n + 1) / 2) / (n * (reading.lengths - n))
    areas = areas[counted & np.isfinite(reading.sums(score))]
    return float(areas.mean()) if len(areas) else np.nan


def _ranks_within(group: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Rank values from 1 within each group (sorted); ties share the mean of their ranks."""
    order = np.lexsort((values, group))
    first = np.r_[True, np.diff(group) != 0]
    rank_in_order = np.arange(len(group)) - np.maximum.accumulate(np.where(first, np.arange(len(group)), 0))
    tie = np.cumsum(first | np.r_[True, np.diff(values[order]) != 0]) - 1
    ranks = np.empty(len(group))
    ranks[order] = 1 + (np.bincount(tie, rank_in_order) / np.bincount(tie))[tie]
    return ranks
