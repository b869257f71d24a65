"""Order estimation counts simulated networks correctly, and none in noise."""

import numpy as np
import pytest
from scipy import signal

from lmri.decomposition.order import estimate_order
from lmri.decomposition.order_criteria import eigenvalues, mdl, parallel_analysis
from lmri.exceptions import DataWarning
from tolerances import rounding

N = 1200


def planted(engaged, n_volumes=120, n_networks=None, strength=2.0, seed=0):
    """Simulate one run per list of engaged networks, with 2 % of the neurons each, a fifth with the other sign."""
    rng = np.random.default_rng(seed)
    maps = np.zeros((n_networks or 1 + max(map(max, engaged)), N))
    for one in maps:
        neurons = rng.choice(N, 24, replace=False)
        one[neurons] = strength
        one[neurons[:5]] = -strength
    runs = []
    for networks in engaged:
        courses = np.zeros((n_volumes, len(maps)))
        courses[:, networks] = rng.laplace(size=(n_volumes, len(networks)))
        runs.append((courses @ maps + rng.normal(size=(n_volumes, N))).astype(np.float32))
    return runs


@pytest.fixture(scope="module")
def heterogeneous():
    """Simulate twelve networks, of which each of three runs engages four."""
    return planted([[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11]])


@pytest.fixture(scope="module")
def estimate(heterogeneous):
    return estimate_order(heterogeneous)


# -- planted truth ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("k", [1, 6, 12])
def test_planted_networks_are_counted(k):
    runs = [planted([list(range(k))], n_volumes=200, seed=seed)[0] for seed in range(5)]
    # One in twenty runs may count one more: that is its error rate.
    orders = [parallel_analysis(run).order for run in runs]
    assert orders.count(k) >= 4
    assert max(orders) <= k + 1
    assert estimate_order(runs[:1], scope="run").table["mdl"].tolist() == [k]


def remembering(phi, rng):
    """Simulate noise in which every neuron is autocorrelated."""
    return signal.lfilter([1], [1, -phi], rng.normal(size=(200, N)), axis=0)[100:]


NOISE = {
    "gaussian": lambda rng: rng.normal(size=(100, N)),
    "t5": lambda rng: rng.standard_t(5, size=(100, N)),
    "memory": lambda rng: remembering(0.3, rng),  # as much as activations do
}


@pytest.mark.parametrize("kind", list(NOISE))
def test_noise_holds_none(kind):
    # 5 % of noise recordings may hold one: of 20, four or more have a probability of 1.6 %.
    orders = [
        parallel_analysis(NOISE[kind](np.random.default_rng([7, seed])), random_state=seed).order for seed in range(20)
    ]
    assert sum(order > 0 for order in orders) <= 3
    assert max(orders) <= 1


def test_neurons_that_remember_far_seem_to_hold_one_or_two_networks_at_most():
    noise = [remembering(0.8, np.random.default_rng([8, seed])) for seed in range(10)]
    assert max(parallel_analysis(run, random_state=seed).order for seed, run in enumerate(noise)) <= 2
    # Against neurons whose volumes are permuted, which do not remember, they would seem to hold many.
    rng = np.random.default_rng(0)
    scaled = (noise[0] - noise[0].mean(axis=0)) / noise[0].std(axis=0)
    permuted = [eigenvalues(rng.permuted(scaled, axis=0))[0] for _ in range(19)]
    assert (eigenvalues(scaled) > max(permuted)).sum() > 5


def test_a_recommendation_of_none_is_a_result():
    estimate = estimate_order([NOISE["gaussian"](np.random.default_rng(0))], scope="run")
    assert estimate.recommended == 0
    assert not estimate.at_ceiling


def test_runs_with_other_networks_have_fewer_each_than_the_group(heterogeneous, estimate):
    own = estimate.table.loc[estimate.table["run"] > 0, "parallel"]
    assert own.tolist() == [4, 4, 4]
    assert estimate.recommended == 12
    assert estimate_order(heterogeneous, scope="run").recommended == 4
    assert estimate.distribution.set_index("criterion").loc["parallel"].tolist() == [4, 4, 4]


def test_memory_is_bounded_by_taking_every_second_volume(heterogeneous):
    halved = estimate_order(heterogeneous, max_volumes=200)
    assert (halved.info["stride"], halved.info["n_volumes_group"]) == (2, 180)
    assert 8 <= halved.recommended <= 12  # weak networks may be missed, never invented
    with pytest.raises(ValueError, match="Raise max_volumes"):
        estimate_order(heterogeneous, max_volumes=10)


def test_differences_between_runs_are_neither_counted_nor_in_the_way(heterogeneous, estimate):
    rng = np.random.default_rng(1)
    shifted = [(run * rng.uniform(0.1, 9, N) + 10 * rng.normal(size=N)).astype(np.float32) for run in heterogeneous]
    assert estimate_order(shifted).recommended == estimate.recommended


# -- laws and oracles -------------------------------------------------------------------------------------------------


def test_the_order_of_runs_does_not_matter(heterogeneous, estimate):
    turned = estimate_order(heterogeneous[::-1])
    assert turned.recommended == estimate.recommended
    ours, theirs = (one.curves[one.curves["run"] == 0] for one in (estimate, turned))
    assert np.allclose(ours["limit"], theirs["limit"], rtol=0, atol=rounding(theirs["limit"], N, np.float32))
    own = turned.curves[turned.curves["run"] == 3]["limit"].to_numpy()
    assert np.array_equal(own, estimate.curves[estimate.curves["run"] == 1]["limit"].to_numpy())


@pytest.mark.parametrize("shape", [(30, 80), (80, 30)])
def test_eigenvalues_are_those_of_the_covariance(shape):
    X = np.random.default_rng(0).normal(size=shape) + np.arange(shape[0])[:, None]
    expected = np.linalg.eigvalsh(np.cov(X, bias=True))[::-1][: min(shape)]
    assert np.allclose(eigenvalues(X, exact=True), expected, rtol=0, atol=rounding(shape[0] ** 2, shape[1]))
    assert np.allclose(eigenvalues(X), expected, rtol=0, atol=rounding(shape[0] ** 2, shape[1], np.float32))


def test_description_length_is_that_of_gaussian_likelihoods():
    rng = np.random.default_rng(0)
    p, n = 6, 500
    X = rng.normal(size=(n, p)) @ np.diag([4, 3, 1, 1, 1, 1]) @ np.linalg.qr(rng.normal(size=(p, p)))[0]
    S = X.T @ X / n
    values, vectors = np.linalg.eigh(S)
    values, vectors = values[::-1], vectors[:, ::-1]
    expected = []
    for k in range(p):
        # The most likely covariance with k directions of their own, and all others alike.
        fitted = vectors @ np.diag(np.r_[values[:k], np.full(p - k, values[k:].mean())]) @ vectors.T
        likelihood = -n / 2 * (np.linalg.slogdet(fitted)[1] + np.trace(np.linalg.solve(fitted, S)))
        # k orthogonal directions, k variances and one for the rest.
        n_parameters = sum(p - 1 - one for one in range(k)) + k + 1
        expected.append(-likelihood + n_parameters / 2 * np.log(n))
    difference = mdl(values, n) - expected
    assert np.ptp(difference) < rounding(expected, n)
    assert mdl(values, n).argmin() == 2


def test_no_limit_is_below_the_surrogates_that_a_test_at_5_percent_needs():
    run = planted([[0]], n_volumes=40)[0]
    few, more = parallel_analysis(run, 19), parallel_analysis(run, 39)
    # Of 19 the largest, of 39 the second: the first 19 surrogates are the same.
    assert (few.limit[0] == parallel_analysis(run, 38).limit[0]) or few.limit[0] < parallel_analysis(run, 38).limit[0]
    assert more.limit[0] <= parallel_analysis(run, 38).limit[0]


# -- refusals ---------------------------------------------------------------------------------------------------------


def test_the_ceiling_warns():
    crowded = planted([list(range(60))], n_volumes=30, strength=3)
    with pytest.warns(DataWarning, match="30 volumes of 1200 neurons can distinguish at most about 6"):
        estimate = estimate_order(crowded)
    assert estimate.at_ceiling
    assert 6 <= estimate.recommended < 10  # of 60
    with pytest.warns(DataWarning, match="4 components exceed .* max_order=3"):
        assert estimate_order(planted([[0, 1, 2, 3]]), max_order=3).recommended == 3


def test_what_cannot_be_estimated_is_refused(heterogeneous):
    with pytest.raises(ValueError, match="n_surrogates is 18"):
        estimate_order(heterogeneous, 18)
    with pytest.raises(ValueError, match="runs is empty"):
        estimate_order([])
    with pytest.raises(ValueError, match=r"Run 2 has 5 neurons"):
        estimate_order([heterogeneous[0], np.random.default_rng(0).normal(size=(20, 5))])
    with pytest.raises(ValueError, match="NaN"):
        estimate_order([np.full((10, 20), np.nan)])
    with pytest.raises(ValueError, match="scope is 'study'"):
        estimate_order(heterogeneous, scope="study")
    with pytest.raises(ValueError, match="more samples than dimensions"):
        mdl(np.array([2.0, 1.0]), 2)
    with pytest.raises(ValueError, match="positive and sorted"):
        mdl(np.array([1.0, 2.0]), 10)


def test_without_more_neurons_than_volumes_the_description_length_is_missing():
    table = estimate_order([np.random.default_rng(0).normal(size=(60, 20))], scope="run").table
    assert table["mdl"].isna().all()
    assert table["parallel"].tolist() == [0]
