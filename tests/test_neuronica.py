"""NeuronICA finds simulated networks, nothing in noise, is reproducible, and refuses unsuitable input."""

import contextlib
import threading
import warnings

import nibabel as nib
import numpy as np
import pytest
from joblib import parallel_config
from scipy import linalg, stats
from sklearn.base import clone
from sklearn.utils.validation import check_is_fitted

from lmri.decomposition import CanICA, FastICA, NeuronICA, build, neuronica, standardization
from lmri.decomposition.standardization import StandardizedRuns, moments
from lmri.exceptions import ConvergenceWarning, DataWarning, NonFiniteError, NothingFoundError, SpaceMismatchError
from lmri.networks import NetworkSet
from lmri.networks.thresholds import SurrogateNull
from lmri.space import NeuronSpace
from phantom import gaussian_noise, matched, planted
from tolerances import relative, rounding

# ICA stops if a map turns by less than √(2 tol). Rounding may add an iteration.
TURN = np.sqrt(2 * 1e-4)  # tol is 1e-4
SPACE = NeuronSpace.build([128] * 4)
K = 4
KINDS = ("spatial", "temporal")


def with_extra(imgs, extra):
    """Add to every run ``(n_volumes, n_neurons)`` of an image."""
    return [SPACE.to_img((SPACE.from_img(img) + one).astype(np.float32)) for img, one in zip(imgs, extra, strict=True)]


def without_neuron(imgs, neuron, value=5.0):
    """Set one neuron to a constant."""
    kept = np.arange(SPACE.n_neurons) != neuron
    return [SPACE.to_img(np.where(kept, SPACE.from_img(img), value).astype(np.float32)) for img in imgs]


@contextlib.contextmanager
def quiet():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@pytest.fixture(scope="module")
def phantom():
    return planted(SPACE, n_networks=K, share=0.04, n_runs=4, n_volumes=150, minority=0.2)


@pytest.fixture(scope="module", params=[(kind, solver) for kind in KINDS for solver in ("fastica", "picard")], ids=str)
def fitted(request, phantom):
    kind, solver = request.param
    return NeuronICA(SPACE, K, kind, solver, n_init=3).fit(phantom.imgs)


@pytest.fixture(scope="module", params=KINDS)
def by_kind(request, phantom):
    return NeuronICA(SPACE, K, request.param, n_init=3).fit(phantom.imgs)


# -- planted truth ----------------------------------------------------------------------------------------------------


def test_planted_networks_are_found_with_their_sign(fitted, phantom):
    _, r = matched(fitted.components_, phantom.maps)
    assert r.min() >= 0.95  # signed: a map the wrong way round would be below 0
    assert fitted.metrics_["sign_determined"].all()


def test_time_courses_carry_the_signs_of_the_maps(fitted, phantom):
    rows, _ = matched(fitted.components_, phantom.maps)
    found, truth = np.concatenate(fitted.time_courses_)[:, rows], np.concatenate(phantom.time_courses)
    assert min(np.corrcoef(found[:, k], truth[:, k])[0, 1] for k in range(K)) > 0.9


def test_all_starts_find_them_and_say_so(fitted):
    assert fitted.converged_.tolist() == [True] * 3
    assert fitted.n_iter_.shape == (3,)
    assert (fitted.n_iter_ >= 1).all()
    assert (fitted.stability_ > 0.9).all()
    assert fitted.n_components_ == K
    convergence = fitted.info_["convergence"]
    assert (convergence["n_starts"], convergence["n_converged"]) == (3, 3)
    assert convergence["n_iter"] == fitted.n_iter_.tolist()


def test_maps_are_sorted_by_the_variance_they_explain(fitted):
    assert (np.diff(fitted.variance_) <= 0).all()
    assert fitted.variance_[-1] > 0
    # Planted maps hardly overlap, so alone and together agree.
    together = fitted.info_["variance_explained_together"]
    assert np.isclose(fitted.variance_.sum(), together, rtol=0.05)  # that overlap


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("scope", ["run", "study"])
@pytest.mark.parametrize("standardize", ["zscore", "center", "none"])
def test_explained_variance_is_that_of_a_regression(standardize, scope, kind, phantom):
    estimator = NeuronICA(SPACE, K, kind, n_init=1, standardize=standardize, scope=scope).fit(phantom.imgs)
    X = np.concatenate(list(StandardizedRuns(SPACE, phantom.imgs, standardize, scope))).astype(np.float64)
    X -= X.mean(axis=0)
    maps = estimator.components_.astype(np.float64)
    left = X - X @ np.linalg.pinv(maps) @ maps
    together, close = 1 - (left**2).sum() / (X**2).sum(), rounding(1.0, X.size, np.float32)
    assert np.isclose(estimator.info_["variance_explained_together"], together, atol=close)
    alone = ((X @ maps.T) ** 2).sum(axis=0) / (maps**2).sum(axis=1) / (X**2).sum()
    assert np.allclose(estimator.variance_, alone, atol=close)


def test_means_far_from_zero_do_not_change_the_share_of_variance(phantom):
    """Massive activations have a mean of hundreds of their sd; shares are of what varies around it."""
    offset = np.zeros(SPACE.n_neurons)
    offset[::7] = 1000
    far = with_extra(phantom.imgs, [np.tile(offset, (150, 1))] * 4)
    near = NeuronICA(SPACE, K, "temporal", n_init=1, standardize="none", scope="study").fit(phantom.imgs)
    moved = NeuronICA(SPACE, K, "temporal", n_init=1, standardize="none", scope="study").fit(far)
    assert matched(moved.components_, near.components_)[1].min() > 0.999
    close = 1000 * relative(len(phantom.imgs) * 150, np.float32)  # a mean of 1,000 sds
    assert np.allclose(moved.variance_, near.variance_, rtol=close)
    assert np.isclose(moved.info_["variance_explained_together"], near.info_["variance_explained_together"], rtol=close)


def test_the_fdr_threshold_is_the_default_and_finds_their_neurons_and_few_others(by_kind, phantom):
    rows, _ = matched(by_kind.components_, phantom.maps)
    networks = NetworkSet.from_estimator(by_kind).threshold()
    assert networks.origin.threshold["method"] == "fdr"
    assert networks.origin.threshold["alpha"] == 0.05
    assert networks.origin.threshold["n_surrogates"] == 20
    members, truth = networks.members[rows], phantom.maps != 0
    assert (members & truth).sum() / truth.sum() >= 0.9
    assert (members & ~truth).sum() / members.sum() <= 0.10


@pytest.mark.parametrize("n_recordings", [4, pytest.param(10, marks=pytest.mark.slow)])
@pytest.mark.parametrize("kind", KINDS)
def test_noise_gives_nothing(kind, n_recordings):
    """A share `alpha` of the maps may keep a neuron; ten recordings of four maps would keep two."""
    found = []
    for seed in range(n_recordings):
        with quiet():
            estimator = NeuronICA(SPACE, K, kind, n_init=2, random_state=seed).fit(
                gaussian_noise(SPACE, 2, 80, seed=seed)
            )
        found.append(NetworkSet.from_estimator(estimator).threshold().members.any(axis=1))
    assert np.sum(found) <= stats.binom.ppf(0.995, K * n_recordings, 0.05)


def test_the_null_is_made_when_it_is_needed_and_once(phantom, monkeypatch):
    estimator = NeuronICA(SPACE, K, n_init=1).fit(phantom.imgs)
    made, from_maps = [], SurrogateNull.from_maps

    def counted(maps):
        made.append(len(maps))
        return from_maps(maps)

    monkeypatch.setattr(SurrogateNull, "from_maps", counted)
    networks = NetworkSet.from_estimator(estimator)
    assert networks.threshold("z").members.any()
    assert made == []  # z needs none
    first = networks.threshold()
    assert made == [20]
    assert np.array_equal(networks.threshold().members, first.members)
    assert np.array_equal(NetworkSet.from_estimator(estimator).threshold("fdr_set").members.shape, first.members.shape)
    assert np.array_equal(first.threshold().members, first.members)
    assert made == [20]


def test_runs_may_be_shorter_than_there_are_components():
    space = NeuronSpace.build([128] * 4)
    short = planted(space, n_networks=10, share=0.02, n_runs=60, n_volumes=8, strength=4)
    for kind, scope in (("spatial", "run"), ("spatial", "study"), ("temporal", "study")):
        found = NeuronICA(space, 10, kind, n_init=3, scope=scope).fit(short.imgs)
        assert matched(found.components_, short.maps)[1].min() > 0.85, (kind, scope)
    with pytest.raises(ValueError, match="the shortest"):
        CanICA(space, 10).fit(short.imgs)  # the control: nilearn's cannot


def test_maps_do_not_depend_on_how_volumes_are_cut_into_runs(phantom):
    whole = SPACE.to_img(np.concatenate([SPACE.from_img(img) for img in phantom.imgs]))
    for kind in KINDS:
        cut, uncut = (NeuronICA(SPACE, K, kind, scope="study", n_init=2).fit(one) for one in (phantom.imgs, whole))
        rows, r = matched(cut.components_, uncut.components_)
        assert r.min() > 0.995, kind
        assert rows.tolist() == list(range(K))


# -- oracles ----------------------------------------------------------------------------------------------------------


def test_temporal_maps_are_fasticas_as_the_paper_has_them(phantom):
    ours = NeuronICA(SPACE, K, "temporal", n_init=5).fit(phantom.imgs)
    theirs = FastICA(SPACE, K, kind="temporal").fit(phantom.imgs)
    rows, r = matched(ours.components_, theirs.components_)
    assert r.min() >= 0.99
    assert rows.tolist() == list(range(K))
    # Also in scale: both are regressions of neurons on white time courses.
    norms = [np.linalg.norm(maps.components_, axis=1) for maps in (ours, theirs)]
    assert np.allclose(*norms, rtol=TURN)


def test_temporal_maps_are_fasticas_also_where_the_group_pca_truncates(phantom):
    """2,400 volumes of which some rows are kept, of data whose spectrum has a gap behind the networks."""
    many = planted(SPACE, n_networks=K, share=0.04, n_runs=8, n_volumes=300, seed=5)
    ours = NeuronICA(SPACE, K, "temporal", n_init=5).fit(many.imgs)
    theirs = FastICA(SPACE, K, kind="temporal").fit(many.imgs)
    assert matched(ours.components_, theirs.components_)[1].min() >= 0.99


@pytest.mark.parametrize(("width", "n_volumes", "n_components"), [(128, 150, 20), (16, 300, 10)], ids=["wide", "tall"])
def test_few_volumes_or_neurons_are_whitened_exactly_also_where_the_spectrum_is_flat(width, n_volumes, n_components):
    space = NeuronSpace.build([width] * 4)
    imgs = gaussian_noise(space, 2, n_volumes // 2)
    X = np.concatenate(list(StandardizedRuns(space, imgs, "zscore", "run"))).astype(np.float64)
    leading = np.linalg.svd(X, full_matrices=False)[2][:n_components]
    with quiet():
        found = NeuronICA(space, n_components, "temporal", n_init=1).fit(imgs).components_
    angle = linalg.subspace_angles(found.T.astype(np.float64), leading.T).max()
    assert np.degrees(angle) < 1
    other = np.linalg.svd(np.concatenate([X[1::2], X[1::2]]), full_matrices=False)[2][:n_components]
    assert np.degrees(linalg.subspace_angles(other.T, leading.T).max()) > 20  # the control: half of the volumes


def test_spatial_maps_are_fasticas_and_the_kinds_differ_on_gaussian_time_courses():
    rng = np.random.default_rng(0)
    base = planted(SPACE, n_networks=K, share=0.04, n_runs=1, n_volumes=10)
    imgs = [
        SPACE.to_img((rng.normal(size=(150, K)) @ base.maps + rng.normal(size=(150, 512))).astype(np.float32))
        for _ in range(4)
    ]
    spatial, reference = NeuronICA(SPACE, K, n_init=3).fit(imgs), FastICA(SPACE, K, kind="spatial").fit(imgs)
    assert matched(spatial.components_, reference.components_)[1].min() > 0.99
    assert matched(spatial.components_, base.maps)[1].min() > 0.95
    with quiet():
        temporal = NeuronICA(SPACE, K, "temporal", n_init=3).fit(imgs)
    assert np.abs(matched(temporal.components_, base.maps)[1]).min() < 0.9  # nothing tells Gaussians apart


def test_both_solvers_and_contrasts_find_the_same_maps(phantom):
    for kind in KINDS:
        reference = NeuronICA(SPACE, K, kind, n_init=2).fit(phantom.imgs).components_
        others = [{"solver": "picard"}, {"fun": "cube"}]
        for options in others:
            found = NeuronICA(SPACE, K, kind, n_init=2, **options).fit(phantom.imgs).components_
            assert matched(found, reference)[1].min() > 0.98, (kind, options)


def test_transform_gives_the_time_courses_of_the_fit(by_kind, phantom):
    for again, before in zip(by_kind.transform(phantom.imgs), by_kind.time_courses_, strict=True):
        assert np.allclose(again, before, atol=rounding(before, SPACE.n_neurons, np.float32))
    before = by_kind.time_courses_[2]
    close = rounding(before, SPACE.n_neurons, np.float32)
    assert np.allclose(by_kind.transform(phantom.imgs[2])[0], before, atol=close)  # one image


@pytest.mark.parametrize("scope", ["run", "study"])
@pytest.mark.parametrize("standardize", ["zscore", "center", "none"])
def test_time_courses_are_least_squares(scope, standardize, phantom):
    estimator = NeuronICA(SPACE, K, n_init=1, scope=scope, standardize=standardize).fit(phantom.imgs)
    runs = StandardizedRuns(SPACE, phantom.imgs, standardize, scope)
    for run, own, again in zip(runs, estimator.time_courses_, estimator.transform(phantom.imgs), strict=True):
        maps = estimator.components_.astype(np.float64)
        truth = np.linalg.lstsq(maps.T, run.T.astype(np.float64), rcond=None)[0].T
        close = rounding(truth, SPACE.n_neurons, np.float32)
        assert np.allclose(own, truth, atol=close)
        assert np.allclose(again, truth, atol=close)


# -- the same again ---------------------------------------------------------------------------------------------------


def test_the_same_seed_gives_the_same_bytes_and_another_the_same_networks(by_kind, phantom):
    again = clone(by_kind).fit(phantom.imgs)
    assert again.components_.tobytes() == by_kind.components_.tobytes()
    other = clone(by_kind).set_params(random_state=11).fit(phantom.imgs)
    assert other.components_.tobytes() != by_kind.components_.tobytes()
    rows, r = matched(other.components_, by_kind.components_)
    assert r.min() > 0.999
    assert rows.tolist() == list(range(K))


@pytest.mark.parametrize("kind", KINDS)
def test_two_processes_find_what_one_does(kind, phantom):
    one = NeuronICA(SPACE, K, kind, n_init=2).fit(phantom.imgs)
    two = NeuronICA(SPACE, K, kind, n_init=2, n_jobs=2).fit(phantom.imgs)
    assert np.allclose(two.components_, one.components_, atol=TURN * np.abs(one.components_).max())
    together = [found.info_.pop("variance_explained_together") for found in (one, two)]
    assert np.isclose(*together, rtol=relative(SPACE.n_neurons, np.float32))
    for found in (one, two):
        found.info_["convergence"].pop("n_iter")  # rounding may add one
    assert two.info_ == one.info_


def test_two_threads_find_what_one_does(phantom):
    imgs = without_neuron(phantom.imgs, 7)  # which never varies, and workers have to tell of it
    with quiet():
        one = NeuronICA(SPACE, K, n_init=2).fit(imgs)
        with parallel_config(backend="threading"):
            two = NeuronICA(SPACE, K, n_init=2, n_jobs=2).fit(imgs)
    assert np.allclose(two.components_, one.components_, atol=TURN * np.abs(one.components_).max())
    together = [found.info_.pop("variance_explained_together") for found in (one, two)]
    assert np.isclose(*together, rtol=relative(SPACE.n_neurons, np.float32))
    for found in (one, two):
        found.info_["convergence"].pop("n_iter")  # rounding may add one
    assert two.info_ == one.info_
    assert two.info_["n_dead_neurons"] == 1


def test_two_threads_wait_for_the_moments_of_the_study(phantom, monkeypatch):
    """One thread merges the moments of the last run when the other asks for them."""
    one = NeuronICA(SPACE, K, n_init=2, scope="study").fit(phantom.imgs)
    merge, calls, asked = standardization.pooled, [], threading.Event()

    def held_up(parts):
        calls.append(len(calls))
        if len(calls) == 3:  # of four runs, the last
            asked.wait(0.5)  # time for the other to come by; never set
        return merge(parts)

    monkeypatch.setattr(standardization, "pooled", held_up)
    with parallel_config(backend="threading"):
        two = NeuronICA(SPACE, K, n_init=2, scope="study", n_jobs=2).fit(phantom.imgs)
    assert np.allclose(two.components_, one.components_, atol=TURN * np.abs(one.components_).max())


@pytest.mark.parametrize("kind", KINDS)
def test_images_may_be_paths_and_keep_their_maps(kind, phantom, tmp_path):
    paths = []
    for number, img in enumerate(phantom.imgs):
        paths.append(tmp_path / f"run-{number}.nii")
        img.to_filename(paths[-1])
    in_memory = NeuronICA(SPACE, K, kind, n_init=2).fit(phantom.imgs)
    close = rounding(in_memory.components_, SPACE.n_neurons, np.float32)
    for given in (paths, [str(path) for path in paths]):
        found = NeuronICA(SPACE, K, kind, n_init=2).fit(given)
        assert np.allclose(found.components_, in_memory.components_, atol=close)
    one = NeuronICA(SPACE, K, kind, n_init=2).fit(paths[0])
    assert len(one.time_courses_) == 1


def test_images_are_not_written_to(phantom):
    before = [SPACE.from_img(img).copy() for img in phantom.imgs]
    for scope in ("run", "study"):
        for standardize in ("zscore", "center", "none"):
            NeuronICA(SPACE, K, n_init=1, scope=scope, standardize=standardize).fit(phantom.imgs)
    for img, kept in zip(phantom.imgs, before, strict=True):
        assert np.array_equal(SPACE.from_img(img), kept)


# -- what counts as signal --------------------------------------------------------------------------------------------


def test_scope_study_keeps_a_network_that_differs_between_runs_and_scope_run_removes_it():
    base = planted(SPACE, n_networks=3, share=0.04, n_runs=24, n_volumes=40)
    rng = np.random.default_rng(3)
    between = np.zeros(SPACE.n_neurons)
    between[rng.choice(SPACE.n_neurons, 20, replace=False)] = 1.5
    levels = rng.laplace(size=24)
    imgs = with_extra(base.imgs, [np.tile(level * between, (40, 1)) for level in levels])
    for kind in KINDS:
        found = {}
        for scope in ("study", "run"):
            with quiet():
                estimator = NeuronICA(SPACE, K, kind, scope=scope, n_init=3).fit(imgs)
            found[scope] = np.abs(np.corrcoef(estimator.components_, between)[-1, :-1]).max()
            assert np.sort(matched(estimator.components_, base.maps)[1]).min() > 0.9  # the others stay
        assert found["study"] > 0.9, kind
        assert found["run"] < 0.3, kind


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("scope", ["run", "study"])
def test_a_position_trend_disappears_if_it_is_given_as_confound_and_the_others_stay(kind, scope, phantom):
    rng = np.random.default_rng(4)
    trend_map = np.zeros(SPACE.n_neurons)
    trend_map[rng.choice(SPACE.n_neurons, 25, replace=False)] = 2.0
    trend = np.linspace(-2, 2, 150)
    imgs = with_extra(phantom.imgs, [np.outer(trend, trend_map)] * 4)

    def find(confounds):
        with quiet():
            estimator = NeuronICA(SPACE, K + 1, kind, scope=scope, n_init=3).fit(imgs, confounds=confounds)
        assert matched(estimator.components_, phantom.maps)[1].min() > 0.9
        return np.abs(np.corrcoef(estimator.components_, trend_map)[-1, :-1]).max(), estimator

    assert find(None)[0] > 0.9
    for confounds in ([trend] * 4, [np.column_stack([trend * 7 + 3, np.ones(150)])] * 4):  # any scale, any offset
        r, estimator = find(confounds)
        assert r < 0.3
        assert (
            max(abs(np.corrcoef(course[:, k], trend)[0, 1]) for course in estimator.time_courses_ for k in range(K))
            < 1e-3  # 0 but for rounding in float32
        )


@pytest.mark.parametrize(
    ("confounds", "message"),
    [
        ([np.zeros(150)] * 3, "There are 3 confounds for 4 runs"),
        ([np.zeros(150)] * 3 + [np.zeros(149)], r"run 4 have shape \(149, 1\)"),
        ([np.zeros((150, 1, 1))] * 4, r"run 1 have shape \(150, 1, 1\)"),
        ([np.zeros(150)] + [np.full(150, np.nan)] * 3, "run 2 contain NaN"),
        ([np.full((150, 2), np.inf)] * 4, "run 1 contain NaN or infinity"),
    ],
)
def test_confounds_that_do_not_fit_are_refused(confounds, message, phantom):
    with pytest.raises(ValueError, match=message):
        NeuronICA(SPACE, K).fit(phantom.imgs, confounds=confounds)


def test_confounds_without_content_change_nothing(phantom):
    plain = NeuronICA(SPACE, K, n_init=1).fit(phantom.imgs)
    for empty in (np.zeros((150, 0)), np.ones(150)):
        found = NeuronICA(SPACE, K, n_init=1).fit(phantom.imgs, confounds=[empty] * 4)
        assert np.allclose(
            found.components_, plain.components_, atol=rounding(plain.components_, SPACE.n_neurons, np.float32)
        )


# -- how many ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_auto_finds_the_planted_number(kind, phantom):
    with quiet():
        found = NeuronICA(SPACE, "auto", kind, n_init=2).fit(phantom.imgs)
    assert abs(found.n_components_ - K) <= 1
    assert found.order_.recommended == found.n_components_ == len(found.components_)
    assert found.n_components == "auto"  # the parameter stays what it was
    assert found.surrogate_null(2).n_values == 2 * found.components_.size


def test_auto_says_that_noise_holds_nothing():
    with pytest.raises(NothingFoundError, match="nothing to decompose"):
        NeuronICA(SPACE, "auto").fit(gaussian_noise(SPACE, 3, 100))


# -- what is refused, and what is warned of ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"kind": "both"}, "kind is 'both'; choose from 'spatial', 'temporal'"),
        ({"solver": "infomax"}, "solver is 'infomax'; choose from 'fastica', 'picard'"),
        ({"fun": "exp"}, "fun is 'exp'; choose from 'logcosh', 'cube'"),
        ({"solver": "picard", "fun": "cube"}, "fun is 'cube'; with solver='picard'"),
        ({"n_init": 0}, "n_init is 0"),
        ({"n_init": 2.5}, r"n_init is 2\.5"),
        ({"max_iter": 0}, "max_iter is 0"),
        ({"tol": 0.0}, r"tol is 0\.0"),
        ({"tol": float("nan")}, "tol is nan"),
        ({"device": "nowhere"}, "device is 'nowhere'"),
        ({"standardize": "l2"}, "standardize is 'l2'"),
        ({"scope": "text"}, "scope is 'text'"),
        ({"n_components": 0}, "n_components is 0"),
        ({"n_components": -3}, "n_components is -3"),
        ({"n_components": 2.0}, r"n_components is 2\.0"),
        ({"n_components": "many"}, "n_components is 'many'"),
        ({"n_components": 512}, "n_components is 512, but there are 512 neurons, which allows at most 511"),
        ({"n_components": 600}, "n_components is 600"),
    ],
)
def test_parameters_out_of_range_are_refused_by_their_value(parameters, message, phantom):
    estimator = NeuronICA(SPACE, **{"n_components": K, **parameters})
    with pytest.raises(ValueError, match=message):
        estimator.fit(phantom.imgs)
    assert not hasattr(estimator, "components_")


@pytest.mark.parametrize("kind", KINDS)
def test_more_components_than_volumes_allow_are_refused(kind):
    imgs = gaussian_noise(SPACE, 2, 10)
    with quiet(), pytest.raises(ValueError, match="n_components is 20, but there are 20 volumes"):
        NeuronICA(SPACE, 20, kind).fit(imgs)
    # Centring within either run takes a dimension more than the count of volumes says.
    with quiet(), pytest.raises(ValueError, match=r"n_components is 19, but the rank of the data is only \d+"):
        NeuronICA(SPACE, 19, kind, standardize="center").fit(imgs)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("n_volumes", [30, 200, 700])
def test_more_components_than_the_rank_of_the_data_are_refused(kind, n_volumes):
    rng = np.random.default_rng(0)
    img = SPACE.to_img((rng.laplace(size=(n_volumes, 3)) @ rng.laplace(size=(3, 512))).astype(np.float32))
    with pytest.raises(ValueError, match="n_components is 4, but the rank of the data is only 3"):
        NeuronICA(SPACE, 4, kind).fit(img)
    assert len(NeuronICA(SPACE, 3, kind).fit(img).components_) == 3


@pytest.mark.parametrize(
    "kind",
    [
        "spatial",
        "temporal",
    ],
)
def test_a_recording_that_never_varies_is_refused_as_one_without_rank(kind):
    img = SPACE.to_img(np.ones((50, SPACE.n_neurons), dtype=np.float32))
    with pytest.raises(ValueError, match="rank of the data is only 0"):
        NeuronICA(SPACE, K, kind).fit(img)


def test_no_images_and_images_of_another_space_are_refused(phantom):
    with pytest.raises(ValueError, match="imgs is empty"):
        NeuronICA(SPACE, K).fit([])
    other = NeuronSpace.build([64] * 4)
    with pytest.raises(SpaceMismatchError):
        NeuronICA(SPACE, K).fit([phantom.imgs[0], *gaussian_noise(other, 1, 100)])
    with pytest.raises(SpaceMismatchError):
        NeuronICA(SPACE, K, n_init=1).fit(phantom.imgs).transform(gaussian_noise(other, 1, 100))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("n_jobs", [1, 2])
@pytest.mark.parametrize("scope", ["run", "study"])
@pytest.mark.parametrize("standardize", ["zscore", "none"])
def test_values_that_are_not_finite_are_refused(standardize, scope, n_jobs, value, phantom):
    img = phantom.imgs[1]
    data = np.array(img.dataobj)
    data[tuple(np.argwhere(np.asarray(SPACE.to_img(np.arange(512.0, dtype=np.float32)).dataobj) == 200)[0])][3] = value
    broken = nib.Nifti1Image(data, img.affine, img.header)
    with quiet(), parallel_config(backend="threading"):
        for kind in KINDS:
            estimator = NeuronICA(SPACE, K, kind, standardize=standardize, scope=scope, n_jobs=n_jobs)
            with pytest.raises(NonFiniteError, match="layer 1, neuron 72"):
                estimator.fit([phantom.imgs[0], broken])
        with pytest.raises(NonFiniteError, match="layer 1, neuron 72"):
            clone(estimator).set_params(n_init=1).fit(phantom.imgs).transform(broken)


def test_a_transform_before_the_fit_is_refused(phantom):
    with pytest.raises(ValueError, match=r"NeuronICA is not fitted. Call fit"):
        NeuronICA(SPACE, K).transform(phantom.imgs)
    with pytest.raises(ValueError, match="not fitted"):
        NetworkSet.from_estimator(NeuronICA(SPACE, K))


@pytest.mark.parametrize("n_jobs", [1, 2])
@pytest.mark.parametrize("scope", ["run", "study"])
def test_dead_neurons_are_zero_and_named(scope, n_jobs, phantom):
    constant, tiny = 130, 300
    rng = np.random.default_rng(0)
    runs = [SPACE.from_img(img).copy() for img in phantom.imgs]
    for run in runs:
        run[:, constant] = 5
        run[:, tiny] = 3e-6 * rng.normal(size=len(run))
    imgs = [SPACE.to_img(run) for run in runs]
    estimator = NeuronICA(SPACE, K, n_init=1, scope=scope, n_jobs=n_jobs)
    with parallel_config(backend="threading"), pytest.warns(DataWarning, match="2 of 512 neurons are constant"):
        estimator.fit(imgs)
    # Zero in the data; a spatial map is centred, and holds the negative mean of its others there.
    with quiet():
        temporal = NeuronICA(SPACE, K, "temporal", n_init=1, scope=scope).fit(imgs)
    assert not temporal.components_[:, [constant, tiny]].any()
    assert np.abs(estimator.components_[:, [constant, tiny]]).max() < 0.2 * estimator.components_.std()
    assert estimator.info_["dead_neurons"] == [[1, 2], [2, 44]]
    with warnings.catch_warnings():
        warnings.simplefilter("error", DataWarning)
        NeuronICA(SPACE, K, n_init=1, scope=scope).fit(phantom.imgs)  # the control


def test_too_few_samples_are_warned_of():
    imgs = gaussian_noise(SPACE, 2, 50)
    with quiet():
        warnings.simplefilter("always")
        with pytest.warns(DataWarning, match="100 volumes for 11 components are fewer"):
            NeuronICA(SPACE, 11, "temporal", n_init=1).fit(imgs)
        with pytest.warns(DataWarning, match="512 neurons for 23 components are fewer"):
            NeuronICA(SPACE, 23, "spatial", n_init=1).fit(imgs)
    with warnings.catch_warnings():
        warnings.simplefilter("error", DataWarning)
        warnings.simplefilter("ignore", ConvergenceWarning)
        NeuronICA(SPACE, 10, "temporal", n_init=1).fit(imgs)
        NeuronICA(SPACE, 22, "spatial", n_init=1).fit(imgs)


def test_starts_that_did_not_converge_are_counted(phantom):
    with pytest.warns(ConvergenceWarning, match="ica converged from none of 3 initializations, so"):
        estimator = NeuronICA(SPACE, K, n_init=3, max_iter=1, tol=1e-9).fit(phantom.imgs)
    assert not estimator.converged_.any()
    assert estimator.info_["convergence"]["n_converged"] == 0


@pytest.mark.parametrize(("solver", "advised"), [("fastica", True), ("picard", False)])
def test_the_other_solver_is_advised_only_if_it_was_not_used(solver, advised, phantom):
    with pytest.warns(ConvergenceWarning) as caught:
        NeuronICA(SPACE, K, n_init=1, max_iter=1, tol=1e-12, solver=solver).fit(phantom.imgs)
    assert any("--solver picard" in str(warning.message) for warning in caught) == advised


@pytest.mark.parametrize("kind", KINDS)
def test_an_interrupted_fit_leaves_an_estimator_that_is_not_fitted(kind, phantom, monkeypatch):
    estimator = NeuronICA(SPACE, K, kind, n_init=1).fit(phantom.imgs)
    estimator.surrogate_null(1)

    def interrupt(*args, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(neuronica.ica, "fastica", interrupt)
    with pytest.raises(KeyboardInterrupt):
        estimator.fit(phantom.imgs[:2])
    for name in ("components_", "time_courses_", "metrics_", "info_", "variance_", "stability_", "null_", "n_iter_"):
        assert not hasattr(estimator, name), name
    with pytest.raises(ValueError, match="not fitted"):
        estimator.transform(phantom.imgs)
    with pytest.raises(ValueError, match="not fitted"):
        NetworkSet.from_estimator(estimator)


# -- scikit-learn's conventions ---------------------------------------------------------------------------------------


def test_it_is_an_estimator_as_scikit_learn_has_them(phantom):
    estimator = NeuronICA(SPACE, 3, "temporal", fun="cube", n_init=2)
    parameters = estimator.get_params()
    assert parameters["n_components"] == 3
    assert parameters["space"] is SPACE
    copied = clone(estimator)
    assert copied is not estimator
    assert copied.get_params(deep=False).keys() == parameters.keys()
    assert copied.set_params(n_components=4, kind="spatial") is copied
    assert (copied.n_components, copied.kind) == (4, "spatial")
    assert copied.fit(phantom.imgs) is copied
    check_is_fitted(copied)
    assert copied.get_params(deep=False)["n_components"] == 4  # a fit changes no parameter
    assert not hasattr(clone(copied), "components_")
    with pytest.raises(ValueError, match="Invalid parameter"):
        estimator.set_params(n_maps=3)


def test_attributes_have_the_shapes_that_the_docstring_says(by_kind, phantom):
    assert by_kind.components_.shape == (K, SPACE.n_neurons)
    assert by_kind.components_.dtype == np.float32
    assert SPACE.from_img(by_kind.components_img_).shape == (K, SPACE.n_neurons)
    assert np.allclose(SPACE.from_img(by_kind.components_img_), by_kind.components_)
    assert [course.shape for course in by_kind.time_courses_] == [(150, K)] * 4
    assert by_kind.variance_.shape == by_kind.stability_.shape == (K,)
    assert by_kind.method_name == {"spatial": "ica", "temporal": "ica-temporal"}[by_kind.kind]
    assert by_kind.info_["method"] == by_kind.method_name
    assert by_kind.info_["parameters"]["kind"] == by_kind.kind
    assert by_kind.n_volumes_by_run == [150] * 4


def test_one_start_has_no_stability(phantom):
    assert np.isnan(NeuronICA(SPACE, K, n_init=1).fit(phantom.imgs).stability_).all()


def test_it_is_built_by_name():
    assert build("ica", SPACE, n_components=3, random_state=2).get_params()["kind"] == "spatial"
    assert build("ica-temporal", SPACE, n_components=3).kind == "temporal"


def test_spatial_maps_are_white(phantom):
    maps = NeuronICA(SPACE, K, n_init=1).fit(phantom.imgs).components_.astype(np.float64)
    assert np.abs(maps.mean(axis=1)).max() < rounding(maps, SPACE.n_neurons, np.float32)
    assert np.allclose(maps @ maps.T / SPACE.n_neurons, np.eye(K), atol=rounding(1.0, K * SPACE.n_neurons, np.float32))


def test_what_all_neurons_share_at_a_token_is_no_spatial_map(phantom):
    rng = np.random.default_rng(0)
    imgs = with_extra(phantom.imgs, [np.tile(20 * rng.normal(size=(150, 1)), 512) for _ in range(4)])
    found = NeuronICA(SPACE, K, n_init=2, standardize="center").fit(imgs)
    assert matched(found.components_, phantom.maps)[1].min() > 0.95
    assert found.info_["variance_explained_together"] < 0.02  # the rest is shared by all


def test_temporal_maps_regress_neurons_on_white_time_courses(phantom):
    """Maps are ``E[x(t) s(t)]`` of time courses of variance 1: what explains the data, not what filters them."""
    estimator = NeuronICA(SPACE, K, "temporal", n_init=1).fit(phantom.imgs)
    X = np.concatenate(list(StandardizedRuns(SPACE, phantom.imgs, "zscore", "run"))).astype(np.float64)
    directions = np.linalg.svd(X, full_matrices=False)[2][:K]
    angles = linalg.subspace_angles(estimator.components_.T.astype(np.float64), directions.T)
    assert np.degrees(angles.max()) < 1
    courses = X @ np.linalg.pinv(estimator.components_.astype(np.float64))
    assert np.allclose(courses.T @ courses / len(X), np.eye(K), atol=0.02)  # a subspace that is turned by 1 degree


# -- moments, on which all of it rests --------------------------------------------------------------------------------


def test_moments_are_as_exact_as_the_data_also_far_from_zero():
    rng = np.random.default_rng(0)
    array = (1000 + rng.normal(size=(3000, 50))).astype(np.float32)
    own = moments(array)
    exact = array.astype(np.float64)
    assert np.abs(own.mean - exact.mean(axis=0)).max() < np.spacing(np.float32(1000)) / 2
    assert np.allclose(own.sd, exact.std(axis=0), rtol=relative(len(array), np.float32))


@pytest.mark.parametrize("scope", ["run", "study"])
def test_standardized_runs_have_mean_zero_and_variance_one(scope, phantom):
    runs = StandardizedRuns(SPACE, with_extra(phantom.imgs, [np.full((150, 512), 50.0)] * 4), "zscore", scope)
    close = rounding(50.0, 150, np.float32)  # the means that were taken away
    arrays = list(runs) if scope == "run" else [np.concatenate(list(runs))]
    for array in arrays:
        assert np.abs(array.mean(axis=0, dtype=np.float64)).max() < close
        assert np.allclose(array.std(axis=0, dtype=np.float64), 1, atol=close)
