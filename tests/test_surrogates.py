"""Surrogates keep each neuron, remove co-activation, and give the null distribution of the pipeline."""

import warnings
from types import SimpleNamespace

import numpy as np
import pytest
from joblib import parallel_config

from lmri.decomposition import FastICA, NeuronICA, surrogate_ica
from lmri.decomposition.standardization import StandardizedRuns
from lmri.decomposition.surrogates import ShiftedRuns, Shifter, generator
from lmri.networks import NetworkSet
from lmri.networks.thresholds import z_scores
from lmri.space import NeuronSpace
from phantom import gaussian_noise, matched, planted
from tolerances import rounding

SPACE = NeuronSpace.build([128] * 4)
K = 5


def heavy(n_runs=3, n_volumes=120, seed=0):
    """Simulate pure noise with the tails of Student's t with 5 degrees of freedom."""
    rng = np.random.default_rng(seed)
    return [
        SPACE.to_img(rng.standard_t(5, size=(n_volumes, SPACE.n_neurons)).astype(np.float32)) for _ in range(n_runs)
    ]


def correlated_run(n_volumes=200, n_neurons=60, seed=0):
    """Simulate autocorrelated neurons that all follow one time course."""
    rng = np.random.default_rng(seed)
    course = np.convolve(rng.normal(size=n_volumes + 4), np.ones(5), "valid")
    return (2 * course[:, None] + rng.normal(size=(n_volumes, n_neurons))).astype(np.float32)


def circular_autocorrelation(run):
    return np.fft.irfft(np.abs(np.fft.rfft(run.astype(np.float64), axis=0)) ** 2, axis=0, n=len(run))


def mean_correlation(run):
    r = np.corrcoef(run.T)
    return np.abs(r[np.triu_indices(len(r), 1)]).mean()


def shifts(before, after):
    """Find the number of volumes by which each neuron was shifted."""
    n = len(before)
    turned = np.stack([np.roll(before, shift, axis=0) for shift in range(n)])  # (n_shifts, n_volumes, n_neurons)
    same = (turned == after).all(axis=1)
    assert (same.sum(axis=0) == 1).all()
    return same.argmax(axis=0)


# -- laws of a shift --------------------------------------------------------------------------------------------------


def test_a_shift_keeps_every_neurons_values_and_memory_exactly():
    run = correlated_run()
    shifted = Shifter(run)(generator(0, 0, 0))
    assert shifted.shape == run.shape
    assert np.array_equal(np.sort(shifted, axis=0), np.sort(run, axis=0))
    assert not np.array_equal(shifted, run)
    before = circular_autocorrelation(run)
    assert np.allclose(circular_autocorrelation(shifted), before, rtol=0, atol=rounding(before, len(run)))
    shifts(run, shifted)  # and is a shift of every neuron


def test_a_shift_breaks_what_neurons_do_together_and_one_of_all_neurons_alike_does_not():
    run = correlated_run()
    assert mean_correlation(run) > 0.9
    assert mean_correlation(Shifter(run)(generator(0, 0, 0))) < 0.2
    order = np.random.default_rng(0).permutation(len(run))
    assert mean_correlation(np.roll(run, 17, axis=0)[order]) > 0.9  # whole tokens shuffled: the wrong null


def test_the_run_is_not_written_to():
    run = correlated_run()
    kept = run.copy()
    shifter = Shifter(run)
    first = shifter(generator(0, 0, 0))
    first_kept = first.copy()
    first += 1
    assert np.array_equal(run, kept)
    assert np.array_equal(shifter(generator(0, 0, 0)), first_kept)


def test_shifts_are_uniform_and_every_neuron_has_its_own():
    run = np.random.default_rng(0).normal(size=(8, 4000)).astype(np.float32)
    found = shifts(run, Shifter(run)(generator(0, 0, 0)))
    counts = np.bincount(found, minlength=8)
    # 0 is among them, as often as any other: without it, no surrogate could be the recording.
    assert np.abs(counts - 500).max() < 5 * np.sqrt(500)


def test_shifts_are_reproducible_and_differ_between_seeds_surrogates_and_runs():
    run = np.random.default_rng(0).normal(size=(50, 400)).astype(np.float32)
    keys = [(0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1)]
    found = [shifts(run, Shifter(run)(generator(*key))) for key in keys]
    assert np.array_equal(found[0], shifts(run, Shifter(run)(generator(0, 0, 0))))
    for number, one in enumerate(found):
        for other in found[:number]:
            assert (one == other).mean() < 0.08  # 1 / 50 by chance
            assert abs(np.corrcoef(one, other)[0, 1]) < 0.2


def test_runs_of_a_surrogate_are_shifted_within_and_each_on_its_own():
    imgs = gaussian_noise(SPACE, n_runs=2, n_volumes=40)
    runs = StandardizedRuns(SPACE, [imgs[0], imgs[0]], "zscore", "run")  # the same run twice
    first, second = ShiftedRuns(runs, 0, 0)
    original = runs.run(0)
    a, b = shifts(original, first), shifts(original, second)
    assert (a == b).mean() < 0.1
    again = next(iter(ShiftedRuns(runs, 0, 0)))
    assert np.array_equal(first, again)
    assert len(ShiftedRuns(runs, 0, 0)) == 2
    assert not np.array_equal(first, next(iter(ShiftedRuns(runs, 0, 1))))


# -- the null ---------------------------------------------------------------------------------------------------------


def quantiles(maps):
    return np.quantile(np.abs(z_scores(np.concatenate(maps))), [0.99, 0.999])


def surrogate_maps(estimator, n_surrogates, imgs):
    """Fit on surrogates written as images: the whole pipeline, with all its starts, by nothing but public names."""
    runs = StandardizedRuns(SPACE, imgs, estimator.standardize, estimator.scope)
    found = []
    for surrogate in range(n_surrogates):
        shifted = [SPACE.to_img(run) for run in ShiftedRuns(runs, 0, surrogate)]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # noise need not converge
            found.append(estimator.fit(shifted).components_.copy())
    return found


def null_quantiles(null, shares=(0.99, 0.999)):
    """Read quantiles off a null: the |z| at which p falls below 1 - share."""
    grid = np.linspace(0, 12, 6001)
    p = null.p(grid)
    return np.array([grid[(p <= 1 - share).argmax()] for share in shares])


def fitted(imgs, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # noise need not converge
        return NeuronICA(SPACE, K, **options).fit(imgs)


@pytest.mark.parametrize("noise", ["gaussian", pytest.param("heavy", marks=pytest.mark.slow)])
def test_one_short_start_a_surrogate_gives_the_quantiles_of_ten_long_ones(noise):
    imgs = gaussian_noise(SPACE, 3, 120) if noise == "gaussian" else heavy()
    null = fitted(imgs).surrogate_null(40)
    full = quantiles(surrogate_maps(NeuronICA(SPACE, K, n_init=10, max_iter=500), 20, imgs))
    assert np.allclose(null_quantiles(null), full, rtol=0.03)  # quantiles of 20 surrogates vary by 1 %


def test_the_null_follows_the_tails_of_the_data():
    """The control of the test above: quantiles that agree anywhere would prove nothing."""
    gaussian = null_quantiles(fitted(gaussian_noise(SPACE, 3, 120)).surrogate_null(20))
    rng = np.random.default_rng(0)
    spikes = [
        SPACE.to_img((rng.normal(size=(120, 512)) * np.where(rng.uniform(size=(120, 512)) < 0.01, 30, 1)).astype("f4"))
        for _ in range(3)
    ]
    assert null_quantiles(fitted(spikes).surrogate_null(20))[1] > 1.2 * gaussian[1]


def test_the_fast_path_agrees_with_the_generic_one():
    """FastICA shifts and fits anew; NeuronICA lets surrogates share one reading of the data."""
    imgs = gaussian_noise(SPACE, 3, 120)
    fast = fitted(imgs).surrogate_null(40)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # noise need not converge
        generic = FastICA(SPACE, K, kind="spatial").fit(imgs).surrogate_null(40)
    assert generic.n_values == fast.n_values
    close = 0.03  # quantiles of 40 surrogates vary by 1 %
    assert np.allclose(null_quantiles(fast), null_quantiles(generic), rtol=close)


@pytest.mark.parametrize("kind", ["spatial", "temporal"])
def test_a_null_is_reproducible_and_the_same_from_two_workers(kind):
    imgs = planted(SPACE, n_networks=3, share=0.04, n_runs=3, n_volumes=80).imgs
    first = fitted(imgs, kind=kind, n_init=2).surrogate_null(3)
    assert np.array_equal(first.z, fitted(imgs, kind=kind, n_init=2).surrogate_null(3).z)
    with parallel_config(backend="threading"):  # starting processes takes seconds
        divided = fitted(imgs, kind=kind, n_init=2).surrogate_null(3, n_jobs=2)
    close = rounding(first.z, SPACE.n_neurons, np.float32)
    assert np.allclose(first.z, divided.z, atol=close)
    other = fitted(imgs, kind=kind, n_init=2, random_state=1).surrogate_null(3)
    assert not np.allclose(first.z, other.z, atol=close)
    assert first.n_surrogates == 3
    assert first.n_values == 3 * K * SPACE.n_neurons
    assert len(first.smallest_q) == 3 * K


@pytest.mark.parametrize(
    ("n_jobs", "shares_memory", "n_bytes", "n_readings"),
    [
        (1, True, 2**30, 1),
        (2, True, 2**30, 1),  # threads share what is read
        (2, True, 1, 3),  # and read it again for every two of them if each may hold no more
        (2, False, 2**30, 2),  # a cluster cannot
    ],
)
def test_how_often_surrogates_read_the_data(monkeypatch, n_jobs, shares_memory, n_bytes, n_readings):
    imgs = gaussian_noise(SPACE, 5, 60)
    estimator = fitted(imgs, n_init=2)
    expected = fitted(imgs, n_init=2).surrogate_null(5).z
    read, found = StandardizedRuns.read, []
    monkeypatch.setattr(StandardizedRuns, "read", lambda self, number: found.append(number) or read(self, number))
    monkeypatch.setattr(surrogate_ica, "SURROGATE_BYTES", n_bytes)
    monkeypatch.setattr(
        surrogate_ica,
        "get_active_backend",
        lambda **_: (SimpleNamespace(supports_sharedmem=shares_memory, effective_n_jobs=lambda n: n), n_jobs),
    )
    with parallel_config(backend="threading"):
        null = estimator.surrogate_null(5, n_jobs=n_jobs)
    assert sorted(found) == sorted(list(range(5)) * n_readings)
    assert np.allclose(null.z, expected, atol=rounding(expected, SPACE.n_neurons, np.float32))


@pytest.mark.parametrize("backend", ["loky", "multiprocessing", "sequential"])
def test_surrogates_are_found_where_a_user_has_put_others_in_the_place_of_threads(backend):
    imgs = gaussian_noise(SPACE, 2, 60)
    expected = fitted(imgs, n_init=2).surrogate_null(2).z
    with parallel_config(backend=backend):  # one worker, which is none that has to start
        found = fitted(imgs, n_init=2).surrogate_null(2, n_jobs=1).z
    assert np.allclose(found, expected, atol=rounding(expected, SPACE.n_neurons, np.float32))


def test_threads_leave_warnings_as_they_were():
    estimator = fitted(gaussian_noise(SPACE, 2, 60), n_init=2, solver="picard")
    before = list(warnings.filters), warnings._showwarnmsg_impl
    estimator.surrogate_null(12, n_jobs=4)
    assert (list(warnings.filters), warnings._showwarnmsg_impl) == before
    with pytest.warns(UserWarning, match="heard"):
        warnings.warn("heard", UserWarning, stacklevel=1)


@pytest.mark.parametrize(
    ("wanted", "n_workers", "n_bytes", "expected"),
    [
        (4, 1, 2**30, 4),
        (4, 1, 1, 1),  # there is no memory for more than one
        (4, 2, 1, 2),  # or than were asked for
    ],
)
def test_threads_have_memory_for_what_they_do(monkeypatch, wanted, n_workers, n_bytes, expected):
    estimator = fitted(gaussian_noise(SPACE, 2, 60), n_init=1)
    monkeypatch.setattr(surrogate_ica, "SURROGATE_BYTES", n_bytes)
    threads, together = surrogate_ica.at_once(estimator, wanted, n_workers)
    assert threads == expected
    assert together >= threads


def test_memory_of_another_run_may_be_used_again_and_changes_nothing():
    rng = np.random.default_rng(0)
    first, second, longer = (rng.normal(size=(n, 300)).astype(np.float32) for n in (50, 40, 60))
    before = Shifter(first)
    again = Shifter(second, before)
    assert np.array_equal(again(generator(0, 0, 1)), Shifter(second)(generator(0, 0, 1)))
    assert np.shares_memory(again._windows, before._windows)
    grown = Shifter(longer, again)
    assert np.array_equal(grown(generator(0, 0, 2)), Shifter(longer)(generator(0, 0, 2)))
    assert not np.shares_memory(grown._windows, again._windows)


@pytest.mark.parametrize("kind", ["spatial", "temporal"])
def test_planted_networks_stand_out_of_their_own_null_and_shifted_ones_do_not(kind):
    phantom = planted(SPACE, n_networks=K, share=0.04, n_runs=4, n_volumes=120)
    estimator = fitted(phantom.imgs, kind=kind, n_init=2)
    null = estimator.surrogate_null(20)
    assert null.p_of_maps(z_scores(estimator.components_)).max() <= 0.05
    runs = StandardizedRuns(SPACE, phantom.imgs, "zscore", "run")
    nothing = fitted([SPACE.to_img(run) for run in ShiftedRuns(runs, 1, 999)], kind=kind, n_init=2)
    assert np.median(null.p_of_maps(z_scores(nothing.components_))) > 0.05


def with_a_difference_between_runs():
    """Plant three networks, and ten neurons that differ between runs and not within."""
    base = planted(SPACE, n_networks=3, share=0.04, n_runs=24, n_volumes=40)
    rng = np.random.default_rng(3)
    between = np.zeros(SPACE.n_neurons)
    between[rng.choice(SPACE.n_neurons, 10, replace=False)] = 2.5
    levels = rng.laplace(size=24)
    runs = [SPACE.from_img(img) + level * between for img, level in zip(base.imgs, levels, strict=True)]
    return base.maps, [SPACE.to_img(run.astype(np.float32)) for run in runs]


@pytest.mark.parametrize("standardize", ["zscore", "none"])
def test_differences_between_runs_are_broken_up_where_standardization_leaves_them(standardize):
    _, imgs = with_a_difference_between_runs()
    scope = "study" if standardize == "zscore" else "run"
    runs = StandardizedRuns(SPACE, imgs, standardize, scope)
    real = np.stack([run.mean(axis=0) for run in runs])  # (n_runs, n_neurons)
    shifted = np.stack([run.mean(axis=0) for run in ShiftedRuns(runs, 0, 0)])
    # Each neuron keeps its means.
    assert np.allclose(np.sort(shifted, axis=0), np.sort(real, axis=0), atol=rounding(runs.run(0), 100, np.float32))
    between = np.argsort(-real.std(axis=0))[:10]
    alike = [np.abs(np.corrcoef(means[:, between].T)[np.triu_indices(10, 1)]).mean() for means in (real, shifted)]
    assert alike[0] > 0.9
    assert alike[1] < 0.4


def test_a_difference_between_runs_is_gone_with_scope_run_and_networks_within_keep_their_neurons():
    maps, imgs = with_a_difference_between_runs()
    estimator = NeuronICA(SPACE, 4, scope="run", n_init=3).fit(imgs)
    rows, r = matched(estimator.components_, maps)
    assert r.min() > 0.9
    members = NetworkSet.from_estimator(estimator).threshold().members[rows]
    assert members[maps != 0].mean() > 0.8


def test_runs_of_unequal_length_keep_every_neurons_mean():
    rng = np.random.default_rng(0)
    imgs = [
        SPACE.to_img((rng.normal(size=(length, SPACE.n_neurons)) + rng.normal(size=SPACE.n_neurons)).astype(np.float32))
        for length in (200, 30, 40)
    ]
    runs = StandardizedRuns(SPACE, imgs, "zscore", "study")
    shifted = np.concatenate(list(ShiftedRuns(runs, 0, 0)))
    assert np.abs(shifted.mean(axis=0)).max() < rounding(shifted, len(shifted))
    means = np.stack([run.mean(axis=0) for run in ShiftedRuns(runs, 0, 0)])
    assert means.std(axis=0).mean() > 0.3  # they were exchanged, not taken away


def test_maps_of_an_earlier_fit_do_not_take_the_surrogates_of_a_later_one():
    estimator = fitted(gaussian_noise(SPACE, 1, 60), n_init=1)
    maps = NetworkSet.from_estimator(estimator)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        estimator.fit(gaussian_noise(SPACE, 1, 60, seed=1))
    with pytest.raises(ValueError, match="fitted again since"):
        maps.threshold()


@pytest.mark.parametrize("wrong", [0, -1, 2.5, "20"])
def test_invalid_numbers_of_surrogates_are_refused(wrong):
    estimator = fitted(gaussian_noise(SPACE, 1, 60), n_init=1)
    with pytest.raises(ValueError, match="n_surrogates is"):
        estimator.surrogate_null(wrong)


def test_a_null_before_the_fit_is_refused():
    with pytest.raises(ValueError, match=r"NeuronICA is not fitted. Call fit"):
        NeuronICA(SPACE, K).surrogate_null()


def test_a_new_fit_forgets_the_null_of_the_old_one():
    estimator = fitted(gaussian_noise(SPACE, 2, 60), n_init=1)
    before = estimator.surrogate_null(2)
    assert estimator.surrogate_null(2) is before
    assert estimator.surrogate_null(3) is not before
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        estimator.fit(heavy(2, 60))
    assert not hasattr(estimator, "null_")
    assert not np.array_equal(estimator.surrogate_null(2).z, before.z)
