"""Promised performance of the engine on phantoms of the size of a real model. Slow; docs have more tables."""

import warnings

import numpy as np
import pytest
from scipy import stats

from lmri.decomposition import CanICA, FastICA, NeuronICA
from lmri.decomposition.phantom import make, measure
from lmri.networks import NetworkSet
from lmri.space import NeuronSpace

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]

SPACE = NeuronSpace.build([768] * 12)
SMALL = NeuronSpace.build([256] * 4)


def n_found(estimator, phantom) -> int:
    networks = NetworkSet.from_estimator(estimator.fit(phantom.imgs)).threshold("z")
    return int(measure(phantom, networks)["found"].sum())


@pytest.mark.parametrize("seed", range(5))
def test_at_least_as_many_networks_are_found_as_by_the_best_of_the_others(seed):
    phantom = make("hard", SPACE, seed)
    others = (CanICA(SPACE, 20), FastICA(SPACE, 20, kind="spatial"), FastICA(SPACE, 20, kind="temporal", max_iter=200))
    ours = n_found(NeuronICA(SPACE, 20), phantom)
    assert ours >= max(n_found(other, phantom) for other in others)
    assert ours >= 16


def test_all_networks_are_found_in_a_hundred_short_runs():
    assert n_found(NeuronICA(SPACE, 20), make("short-runs", SPACE, 0)) == 20


def test_signs_are_right_with_a_quarter_of_minority():
    right, total = 0, 0
    for seed in range(5):
        phantom = make("minority-25", SPACE, seed)
        found = measure(phantom, NetworkSet.from_estimator(NeuronICA(SPACE, 20).fit(phantom.imgs)).threshold("z"))
        found = found[found["found"].astype(bool)]
        right, total = right + int(found["sign_right"].sum()), total + len(found)
    assert total >= 90
    assert right / total >= 0.99


@pytest.mark.parametrize("null", ["gaussian", "t5", "lognormal"])
def test_where_nothing_is_planted_fdr_keeps_no_more_than_one_map_in_twenty(null):
    kept = []
    for seed in range(10):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            estimator = NeuronICA(SMALL, 10, n_init=2, random_state=seed).fit(make(null, SMALL, seed).imgs)
        kept += list(NetworkSet.from_estimator(estimator).threshold("fdr").members.any(axis=1))
    # Not significantly more than 5 %.
    assert stats.binomtest(int(np.sum(kept)), len(kept), 0.05, "greater").pvalue > 0.05
