"""Decompositions find simulated networks with the correct sign, nothing in noise, and refuse unsuitable settings."""

import contextlib
import warnings

import nibabel as nib
import numpy as np
import pytest
from nilearn.decomposition import CanICA as NilearnCanICA
from sklearn.base import clone
from sklearn.decomposition import FastICA as SklearnFastICA

from lmri.cli.console import format_convergence
from lmri.decomposition import METHODS, CanICA, DictLearning, FastICA, build
from lmri.decomposition.fastica import leading_singular
from lmri.decomposition.map_metrics import signs_by_skewness
from lmri.decomposition.standardization import StandardizedRuns, moments, pooled
from lmri.exceptions import ConvergenceWarning, DataWarning, NonFiniteError, SpaceMismatchError
from lmri.networks import NetworkSet
from lmri.space import NeuronSpace
from phantom import gaussian_noise, matched, planted
from tolerances import relative, rounding

SPACE = NeuronSpace.build([256] * 8)
K = 8

ICA = {
    "canica": lambda space, k, **options: CanICA(space, k, **options),
    "fastica-temporal": lambda space, k, **options: FastICA(space, k, **options),
    "fastica-spatial": lambda space, k, **options: FastICA(space, k, kind="spatial", **options),
}


@pytest.fixture(scope="module")
def phantom():
    return planted(SPACE, n_networks=K, n_runs=5, n_volumes=400, minority=0.2)


@pytest.fixture(scope="module", params=list(ICA))
def fitted(request, phantom):
    return ICA[request.param](SPACE, K).fit(phantom.imgs)


# -- planted truth ----------------------------------------------------------------------------------------------------


def test_planted_networks_are_found_with_their_sign(fitted, phantom):
    _, r = matched(fitted.components_, phantom.maps)
    assert r.min() >= 0.95  # signed: a map the wrong way round would be below 0
    assert fitted.metrics_["sign_determined"].all()


def test_the_fdr_threshold_finds_their_neurons_and_few_others(fitted, phantom):
    rows, _ = matched(fitted.components_, phantom.maps)
    members = NetworkSet.from_estimator(fitted).threshold("fdr_gaussian", alpha=0.05).members[rows]
    truth = phantom.maps != 0
    assert (members & truth).sum() / truth.sum() >= 0.95
    assert (members & ~truth).sum() / members.sum() <= 0.10


def test_time_courses_carry_the_signs_of_the_maps(fitted, phantom):
    rows, _ = matched(fitted.components_, phantom.maps)
    found, truth = np.concatenate(fitted.time_courses_)[:, rows], np.concatenate(phantom.time_courses)
    assert min(np.corrcoef(found[:, k], truth[:, k])[0, 1] for k in range(K)) > 0.9


def test_maps_are_sorted_by_the_variance_they_explain(fitted):
    variance = fitted.metrics_["variance"]
    assert variance.is_monotonic_decreasing
    assert variance.iloc[-1] > 0
    # Planted maps hardly overlap, so alone and together agree.
    together = fitted.info_["variance_explained_together"]
    assert np.isclose(variance.sum(), together, rtol=0.02)  # that overlap


@pytest.mark.parametrize("method", list(ICA))
def test_noise_gives_nothing(method):
    maps = NetworkSet.from_estimator(ICA[method](SPACE, K).fit(gaussian_noise(SPACE)))
    assert maps.threshold("fdr_gaussian", alpha=0.05).members.mean() <= 0.001  # of all neurons, by chance
    # A quota keeps as many as ever: the reason why it is not the default.
    assert maps.threshold("auto").members.sum() == SPACE.n_neurons


@pytest.mark.parametrize(("estimator", "options"), [(CanICA, {}), (DictLearning, {"alpha": 1})])
def test_smoothing_destroys_planted_networks_and_has_to_be_forced(estimator, options, phantom):
    with pytest.raises(ValueError, match=r"smoothing_fwhm is 6\.0"):
        estimator(SPACE, K, smoothing_fwhm=6.0, **options).fit(phantom.imgs)
    smoothed = estimator(SPACE, K, smoothing_fwhm=6.0, allow_smoothing=True, **options)
    with _no_check():
        smoothed.fit(phantom.imgs)
    _, r = matched(smoothed.components_, phantom.maps)
    assert np.abs(r).max() < 0.3


def test_dictionary_learning_finds_planted_networks_or_says_that_a_map_is_empty(phantom):
    with _no_check():
        found = DictLearning(SPACE, K, alpha=3).fit(phantom.imgs)
    _, r = matched(found.components_, phantom.maps)
    assert (r >= 0.8).sum() >= K - 2  # how well depends on the last digits of the data
    sparse = NetworkSet.from_estimator(found).threshold()
    assert sparse.origin.threshold["method"] == "support"
    assert 0 < sparse.members.mean() < 0.2
    with pytest.warns(DataWarning, match=r"[1-5] of 9 maps are all zero at alpha=20"):
        DictLearning(SPACE, 9, alpha=20).fit(phantom.imgs)
    with _no_check(), pytest.raises(ValueError, match="All 8 maps are zero at alpha=300"):
        DictLearning(SPACE, K, alpha=300).fit(phantom.imgs)
    with pytest.raises(ValueError, match=r"n_components is 1; .* needs at least 2"):
        DictLearning(SPACE, 1).fit(phantom.imgs[:1])


def test_nilearns_own_sign_is_wrong_for_networks_with_a_minority(phantom):
    plain = NilearnCanICA(
        n_components=K, mask=SPACE.mask_img, smoothing_fwhm=None, detrend=False, standardize="zscore_sample",
        do_cca=False, threshold=None, random_state=0,
    ).fit(phantom.imgs)  # fmt: skip
    _, theirs = matched(SPACE.from_img(plain.components_img_), phantom.maps)
    _, ours = matched(CanICA(SPACE, K).fit(phantom.imgs).components_, phantom.maps)
    assert np.allclose(np.abs(theirs), np.abs(ours), atol=np.sqrt(2e-4))  # turned by up to √(2 tol): the same maps ...
    assert (theirs < 0).sum() >= K / 2  # ... of which most are inverted
    assert (ours > 0).all()


# -- oracles ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["temporal", "spatial"])
@pytest.mark.parametrize("fun", ["logcosh", "cube"])
def test_fastica_gives_scikit_learns_components(kind, fun):
    small = planted(NeuronSpace.build([60] * 3), n_networks=4, share=0.05, n_runs=2, n_volumes=150)
    ours = FastICA(small.space, 4, kind=kind, fun=fun).fit(small.imgs)
    X = np.concatenate(list(StandardizedRuns(small.space, small.imgs, "zscore", "run"))).astype(np.float64)
    theirs = SklearnFastICA(4, fun=fun, random_state=0, max_iter=1000, whiten="unit-variance")
    sources = theirs.fit_transform(X if kind == "temporal" else X.T)
    maps = theirs.mixing_.T if kind == "temporal" else sources.T
    _, r = matched(ours.components_, maps)
    assert np.abs(r).min() >= 0.999
    same_sign = FastICA(small.space, 4, kind=kind, fun=fun, signs="solver").fit(small.imgs)
    _, r = matched(same_sign.components_, maps)
    assert r.min() >= 0.999


def test_signs_are_of_the_heavier_tail_or_of_the_solver_and_nothing_else():
    small = planted(NeuronSpace.build([60] * 3), n_networks=4, share=0.05, n_runs=2, n_volumes=150)
    with pytest.raises(ValueError, match="signs is 'sklearn'; accepted values are 'skewness' and 'solver'"):
        FastICA(small.space, 4, signs="sklearn").fit(small.imgs)


@pytest.mark.parametrize("shape", [(40, 300), (300, 40)])
def test_leading_singular_triplets_equal_a_full_decomposition(shape):
    X = np.random.default_rng(0).normal(size=shape) * np.linspace(5, 1, shape[1])
    left, values, right = leading_singular(X, 6)
    assert np.allclose(values, np.linalg.svd(X, compute_uv=False)[:6])
    assert np.allclose(left.T @ left, np.eye(6), atol=rounding(1.0, X.size))
    assert np.allclose(X @ right, left * values)


def test_the_rank_limits_the_number_of_components():
    X = np.random.default_rng(0).normal(size=(50, 3)) @ np.random.default_rng(1).normal(size=(3, 40))
    with pytest.raises(ValueError, match="rank of the data is only 3"):
        leading_singular(X, 4)


def test_transform_gives_the_time_courses_of_the_fit(fitted, phantom):
    for again, before in zip(fitted.transform(phantom.imgs), fitted.time_courses_, strict=True):
        assert np.allclose(again, before, atol=rounding(before, SPACE.n_neurons, np.float32))
    # An oracle by ordinary least squares.
    run = next(iter(StandardizedRuns(SPACE, phantom.imgs[:1], "zscore", "run")))
    expected = np.linalg.lstsq(fitted.components_.T.astype(float), run.T.astype(float), rcond=None)[0].T
    assert np.allclose(fitted.time_courses_[0], expected, atol=rounding(expected, SPACE.n_neurons, np.float32))


def test_components_images_and_masker_agree(fitted):
    assert np.array_equal(SPACE.from_img(fitted.components_img_), fitted.components_)
    assert np.array_equal(fitted.masker_.transform(fitted.components_img_), fitted.components_)


# -- signs ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("minority", [0.0, 0.1, 0.2, 0.25])
def test_signs_are_right_up_to_a_quarter_of_minority(minority):
    rng = np.random.default_rng(0)
    truth = planted(SPACE, n_networks=40, minority=minority, n_runs=1, n_volumes=2).maps
    noisy = truth + rng.normal(scale=0.3, size=truth.shape)
    flips = rng.choice([-1.0, 1.0], size=40)
    signs, determined, _ = signs_by_skewness(noisy * flips[:, None])
    assert np.array_equal(signs, flips)
    if minority <= 0.1:  # of 20 neurons, 15 against 5 is right but borderline
        assert determined.all()


def test_a_map_with_as_many_on_either_side_has_no_sign():
    rng = np.random.default_rng(0)
    truth = planted(SPACE, n_networks=40, minority=0.5, n_runs=1, n_volumes=2).maps
    _, determined, _ = signs_by_skewness(truth + rng.normal(scale=0.3, size=truth.shape))
    assert determined.mean() < 0.2
    assert not signs_by_skewness(np.zeros((1, 50)))[1].any()


# -- standardization --------------------------------------------------------------------------------------------------


def test_pooled_moments_are_those_of_all_volumes():
    runs = [np.random.default_rng(seed).normal(seed, 1 + seed, size=(10 * (seed + 1), 5)) for seed in range(3)]
    merged, whole = pooled([moments(run) for run in runs]), moments(np.concatenate(runs))
    assert np.allclose(merged.mean, whole.mean)
    assert np.allclose(merged.sd, whole.sd)
    assert merged.n_volumes == 60


@pytest.mark.parametrize("scope", ["run", "study"])
def test_scope_decides_whether_differences_between_runs_stay(scope):
    space = NeuronSpace.build([20])
    rng = np.random.default_rng(0)
    imgs = [space.to_img((rng.normal(size=(50, 20)) + shift).astype(np.float32)) for shift in (0, 5)]
    first, second = StandardizedRuns(space, imgs, "zscore", scope)
    difference = (second.mean(axis=0) - first.mean(axis=0)).mean()
    assert np.isclose(difference, 0, atol=rounding(first, len(first))) if scope == "run" else difference > 1.5
    both = np.concatenate([first, second])
    assert np.allclose(both.mean(axis=0), 0, atol=rounding(both, len(both)))
    assert np.allclose(both.std(axis=0), 1, atol=rounding(both, len(both)))


def test_dead_neurons_stay_at_zero_instead_of_becoming_noise(phantom):
    def damaged(img):
        data = img.get_fdata(dtype=np.float32).copy()
        data[0, 0, 0] = 3.0  # constant
        data[1, 0, 0] = 1.0 + 1e-7 * np.random.default_rng(0).normal(size=data.shape[-1])  # rounding noise
        return nib.Nifti1Image(data, img.affine)

    with pytest.warns(DataWarning, match="2 of 2048 neurons are constant"):
        found = FastICA(SPACE, K).fit([damaged(img) for img in phantom.imgs])
    assert not found.components_[:, [0, 1]].any()
    assert found.info_["n_dead_neurons"] == 2


def test_explained_variance_is_around_the_mean_also_without_centring(phantom):
    shifted = [SPACE.to_img(SPACE.from_img(img) + 7 * np.cos(np.arange(SPACE.n_neurons))) for img in phantom.imgs]
    together = [
        FastICA(SPACE, K, standardize=one, scope="study").fit(shifted).info_["variance_explained_together"]
        for one in ("center", "none")
    ]
    assert np.isclose(*together, rtol=7**2 * relative(150, np.float32))


def test_a_neuron_that_is_dead_in_one_run_is_counted_and_listed(phantom):
    data = SPACE.from_img(phantom.imgs[1]).copy()
    data[:, 300] = 2.5
    with pytest.warns(DataWarning, match="1 of 2048 neurons are constant in at least one run"):
        found = FastICA(SPACE, 3).fit([phantom.imgs[0], SPACE.to_img(data)])
    assert found.info_["dead_neurons"] == [[1, 44]]


@pytest.mark.parametrize("method", list(ICA))
def test_unknown_standardizations_are_refused(method, phantom):
    for options in ({"standardize": "psc"}, {"scope": "text"}):
        with pytest.raises(ValueError, match="choose from"):
            ICA[method](SPACE, K, **options).fit(phantom.imgs)


# -- checks -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
def test_what_cannot_be_fitted_is_refused_before_the_fit(method, phantom):
    def fit(imgs, k=K, space=SPACE):
        return build(method, space, n_components=k).fit(imgs)

    short = [SPACE.to_img(np.random.default_rng(0).normal(size=(6, SPACE.n_neurons)).astype(np.float32))]
    with pytest.raises(ValueError, match=r"n_components is 6, but .* 6 volumes, which allows at most 5"):
        fit(short, 6)
    with pytest.raises(ValueError, match="n_components is 0"):
        fit(phantom.imgs, 0)
    with pytest.raises(ValueError, match="imgs is empty"):
        fit([])
    with pytest.raises(SpaceMismatchError, match="shape"):
        fit(phantom.imgs, space=NeuronSpace.build([256] * 7))
    moved = nib.Nifti1Image(phantom.imgs[0].get_fdata(dtype=np.float32), np.diag([2.0, 1, 1, 1]))
    with pytest.raises(SpaceMismatchError, match="affine"):
        fit([moved])
    data = phantom.imgs[0].get_fdata(dtype=np.float32).copy()
    data[3, 2, 1, 7] = np.nan
    with pytest.raises(NonFiniteError, match="layer 1, neuron 35, volume 7"):
        fit([nib.Nifti1Image(data, np.eye(4))])


@pytest.mark.parametrize("method", ["canica", "dictlearning"])
def test_the_shortest_run_is_named_where_nilearn_would_silently_give_fewer(method, phantom):
    short = SPACE.to_img(np.random.default_rng(0).normal(size=(5, SPACE.n_neurons)).astype(np.float32))
    with pytest.raises(ValueError, match="run 3, the shortest, has 5 volumes, which allows at most 4"):
        build(method, SPACE, n_components=K).fit([*phantom.imgs[:2], short])


def test_too_few_volumes_for_temporal_ica_warn_of_overlearning():
    noise = gaussian_noise(SPACE, n_runs=1, n_volumes=60)
    with _no_check(), pytest.warns(DataWarning, match="overlearns"):
        FastICA(SPACE, K + 2).fit(noise)


def test_solvers_without_convergence_information_issue_no_warning(phantom):
    with warnings.catch_warnings():
        warnings.simplefilter("error", ConvergenceWarning)
        found = build("dictlearning", SPACE, n_components=K).fit(phantom.imgs)
    assert found.info_["convergence"]["n_starts"] == found.info_["convergence"]["n_converged"] == 0
    assert format_convergence(found.info_["convergence"]) == "convergence was not reported"
    assert format_convergence({"n_starts": 3, "n_converged": 2}) == "2 of 3 initializations converged"


def test_starts_that_do_not_converge_are_counted(phantom):
    with pytest.warns(ConvergenceWarning, match="did not converge, so its maps may depend"):
        found = FastICA(SPACE, K, max_iter=1).fit(phantom.imgs)
    assert found.info_["convergence"] == {"n_starts": 1, "n_converged": 0, "n_iter": 1}
    with _no_check():
        noise = CanICA(SPACE, K, n_init=4).fit(gaussian_noise(SPACE))
    assert noise.info_["convergence"]["n_converged"] < noise.info_["convergence"]["n_starts"] == 4


@pytest.mark.parametrize("method", METHODS)
def test_the_same_seed_gives_the_same_maps_and_a_clone_too(method, phantom):
    estimator = build(method, SPACE, n_components=4)
    with _no_check():
        first = estimator.fit(phantom.imgs).components_.copy()
        second = clone(estimator).fit(phantom.imgs).components_
    assert np.array_equal(first, second)


def test_parameters_are_those_of_the_constructor():
    estimator = CanICA(SPACE, 3, scope="study")
    assert estimator.get_params()["scope"] == "study"
    assert estimator.set_params(n_components=5).n_components == 5
    assert set(estimator.get_params()) >= {"space", "n_components", "standardize", "scope", "random_state"}


def test_fit_leaves_the_parameters_alone(phantom):
    estimator = CanICA(SPACE, 4)
    before = estimator.get_params()
    assert estimator.fit(phantom.imgs).get_params() == before


def test_unknown_methods_and_kinds_are_named(phantom):
    with pytest.raises(ValueError, match="'nmf'; choose from 'ica', 'ica-temporal', 'canica'"):
        build("nmf", SPACE)
    with pytest.raises(ValueError, match="kind is 'both'"):
        FastICA(SPACE, kind="both").fit(phantom.imgs)


@contextlib.contextmanager
def _no_check():
    """Ignore convergence warnings, which are tested elsewhere."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
