"""Every solver reaches the components of scikit-learn, and reports missing convergence."""

import numpy as np
import pytest
from sklearn.decomposition import FastICA as SklearnFastICA
from threadpoolctl import threadpool_info, threadpool_limits

from lmri.decomposition import ica
from lmri.decomposition.group_pca import reduced
from lmri.decomposition.threads import one_pool, one_thread, other_pool
from tolerances import relative, rounding

K, N_SAMPLES = 5, 4000


def white(n_components=K, n_samples=N_SAMPLES, seed=0, dtype=np.float64):
    """Mix Laplace sources by an orthogonal matrix, and whiten exactly: white samples, and their sources."""
    rng = np.random.default_rng(seed)
    sources = rng.laplace(size=(n_components, n_samples))
    centred = sources - sources.mean(axis=1, keepdims=True)
    squares, vectors = np.linalg.eigh(centred @ centred.T / n_samples)
    rotation = np.linalg.qr(rng.normal(size=(n_components, n_components)))[0]
    return (rotation @ (vectors / np.sqrt(squares)) @ vectors.T @ centred).astype(dtype), sources


def gaussian(n_components=K, n_samples=N_SAMPLES, seed=0):
    rng = np.random.default_rng(seed)
    Z = rng.normal(size=(n_components, n_samples))
    Z -= Z.mean(axis=1, keepdims=True)
    squares, vectors = np.linalg.eigh(Z @ Z.T / n_samples)
    return (vectors / np.sqrt(squares)) @ vectors.T @ Z


def best_match(W, V):
    """For each row of W, the largest |cosine| with a row of V; both orthogonal."""
    return np.abs(W @ V.T).max(axis=1)


def scikit_learn(Z, fun="logcosh", seed=0):
    return SklearnFastICA(whiten=False, fun=fun, random_state=seed, max_iter=500, tol=1e-6).fit(Z.T).components_


@pytest.fixture(scope="module")
def torch_solver():
    return pytest.importorskip("lmri.decomposition.torch_solver", exc_type=ImportError)


# -- the same optimum -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("fun", ica.FUNS)
def test_components_are_scikit_learns(fun, dtype):
    Z, _ = white()
    found = ica.fastica(Z.astype(dtype), ica.starts(K, 1, 0), fun=fun, tol=1e-6)
    theirs = scikit_learn(Z, fun)
    own = np.abs((found.W[0] * theirs).sum(axis=1))  # also in their order: the start is the same
    assert own.min() >= 0.999
    assert found.converged.all()


def test_the_first_start_is_scikit_learns_and_other_seeds_are_others():
    rng = np.random.RandomState(3)
    theirs = rng.normal(size=(K, K))
    u, _, v = np.linalg.svd(theirs)
    starts = ica.starts(K, 3, 3)
    assert np.allclose(starts[0], u @ v)
    assert np.allclose(starts @ np.swapaxes(starts, 1, 2), np.eye(K))
    assert best_match(starts[1], starts[0]).min() < 0.95
    assert best_match(ica.starts(K, 1, 4)[0], starts[0]).min() < 0.95


def test_components_are_the_planted_sources_and_the_start_is_not():
    Z, sources = white()
    begin = ica.starts(K, 1, 0)
    found = ica.fastica(Z, begin).W[0] @ Z
    assert np.abs(np.corrcoef(found, sources)[:K, K:]).max(axis=0).min() > 0.99
    assert np.abs(np.corrcoef(begin[0] @ Z, sources)[:K, K:]).max(axis=0).min() < 0.9


def test_every_start_of_several_gives_what_it_gives_alone():
    Z, _ = white()
    begin = ica.starts(K, 4, 0)
    together = ica.fastica(Z, begin)
    for number in range(4):
        alone = ica.fastica(Z, begin[number : number + 1])
        assert np.allclose(alone.W[0], together.W[number], rtol=0, atol=rounding(1.0, Z.size))
        assert alone.n_iter[0] == together.n_iter[number]
    assert not np.shares_memory(together.W, begin)


def test_starts_are_not_written_to():
    Z, _ = white()
    begin = ica.starts(K, 2, 0)
    kept = begin.copy()
    ica.fastica(Z, begin)
    ica.picard(Z, begin)
    assert np.array_equal(begin, kept)


def test_picard_reaches_fasticas_optimum():
    Z, _ = white()
    begin = ica.starts(K, 3, 0)
    found, reference = ica.picard(Z, begin, tol=1e-6), ica.fastica(Z, begin, tol=1e-6)
    assert found.converged.all()
    for W, V in zip(found.W, reference.W, strict=True):
        assert best_match(W, V).min() >= 0.999
        assert np.allclose(W @ W.T, np.eye(K), rtol=0, atol=rounding(1.0, Z.size))


def test_picard_finds_sources_of_both_signs_of_kurtosis():
    """Uniform sources are below a Gaussian's kurtosis, where a fixed density would fail."""
    rng = np.random.default_rng(0)
    sources = np.concatenate([rng.laplace(size=(2, N_SAMPLES)), rng.uniform(-1, 1, size=(2, N_SAMPLES))])
    centred = sources - sources.mean(axis=1, keepdims=True)
    squares, vectors = np.linalg.eigh(centred @ centred.T / N_SAMPLES)
    Z = (vectors / np.sqrt(squares)).T @ centred
    for solve in (ica.picard, ica.fastica):
        found = solve(Z, ica.starts(4, 1, 0)).W[0] @ Z
        assert np.abs(np.corrcoef(found, sources)[:4, 4:]).max(axis=0).min() > 0.99


@pytest.mark.parametrize("fun", ica.FUNS)
def test_torch_on_the_processor_reaches_the_same_components(torch_solver, fun):
    Z, _ = white(dtype=np.float32)
    begin = ica.starts(K, 2, 0)
    found = torch_solver.fastica(Z, begin, fun=fun, max_iter=500, tol=1e-4, device="cpu")
    reference = ica.fastica(Z, begin, fun=fun)
    assert found.converged.all()
    for W, V in zip(found.W, reference.W, strict=True):
        assert best_match(W, V).min() >= 0.999


@pytest.mark.parametrize("denoise", [False, True])
@pytest.mark.parametrize("n_volumes", [40, 41])  # the median of an even number lies between two
def test_torch_reduces_as_numpy_does(torch_solver, denoise, n_volumes):
    X = (
        np.random.default_rng(0).normal(size=(n_volumes, 300)).astype(np.float32)
        * np.linspace(3, 1, n_volumes)[:, None]
    )
    X = X.astype(np.float32)
    ours, theirs = reduced(X, 12, denoise), torch_solver.reduced(X, 12, denoise, device="cpu")
    assert theirs.shape == (12, 300)
    assert np.allclose(
        np.abs((ours * theirs).sum(axis=1)), (ours**2).sum(axis=1), rtol=relative(X.size, np.float32)
    )  # rows, up to sign
    assert np.allclose(ours.T @ ours, theirs.T @ theirs, rtol=0, atol=rounding(ours.T @ ours, X.size))


def test_torch_names_a_device_that_is_not_there(torch_solver):
    torch_solver.check_device("cpu")
    with pytest.raises(ValueError, match="device is 'nowhere'"):
        torch_solver.check_device("nowhere")


# -- many samples -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fun", ica.FUNS)
def test_a_warm_start_on_a_part_of_many_samples_reaches_the_same_components(fun, monkeypatch):
    n_samples = 4 * 16_384 + 1000
    Z, sources = white(4, n_samples, dtype=np.float32)
    begin = ica.starts(4, 2, 0)
    warm = ica.fastica(Z, begin, fun=fun)
    monkeypatch.setattr(ica, "_WARM_SAMPLES", n_samples)  # so that all iterations are over all samples
    cold = ica.fastica(Z, begin, fun=fun)
    assert warm.n_iter.max() < cold.n_iter.max()  # the warm start took place, and helped
    for W, V in zip(warm.W, cold.W, strict=True):
        assert best_match(W, V).min() >= 0.999
        assert np.abs(np.corrcoef(W @ Z, sources)[:4, 4:]).max(axis=0).min() > 0.99
    assert warm.converged.all()


def test_a_warm_start_alone_does_not_count_as_converged():
    Z = gaussian(4, 4 * 16_384 + 1000).astype(np.float32)
    found = ica.fastica(Z, ica.starts(4, 2, 0), max_iter=1, tol=1e-9)
    assert found.n_iter.tolist() == [1, 1]
    assert not found.converged.any()


# -- convergence ------------------------------------------------------------------------------------------------------


def test_one_iteration_does_not_converge_and_says_so(torch_solver):
    Z, _ = white(dtype=np.float32)
    begin = ica.starts(K, 3, 0)
    for found in (
        ica.fastica(Z, begin, max_iter=1),
        ica.picard(Z.astype(np.float64), begin, max_iter=1),
        torch_solver.fastica(Z, begin, fun="logcosh", max_iter=1, tol=1e-4, device="cpu"),
    ):
        assert not found.converged.any()
        assert found.converged.shape == found.n_iter.shape == (3,)
        assert (found.n_iter <= 1).all()


def test_convergence_is_told_for_every_start():
    """A start at the optimum converges immediately, a start near it does not."""
    Z, _ = white()
    optimum = ica.fastica(Z, ica.starts(K, 1, 0), tol=1e-8).W
    begin = np.concatenate([optimum, ica.starts(K, 1, 7)])
    for solve in (ica.fastica, ica.picard):
        found = solve(Z, begin, max_iter=1)
        assert found.converged.tolist() == [True, False], solve.__name__
    found = ica.fastica(Z, begin)
    assert found.converged.all()
    assert found.n_iter[0] == 1 < found.n_iter[1]


def test_a_start_at_the_optimum_stays_there():
    Z, _ = white()
    optimum = ica.fastica(Z, ica.starts(K, 1, 0), tol=1e-10).W
    for solve in (ica.fastica, ica.picard):
        assert best_match(solve(Z, optimum).W[0], optimum[0]).min() > np.cos(0.001)  # a turn of 0.001


@pytest.mark.parametrize("solve", [ica.fastica, ica.picard])
def test_unknown_contrasts_are_named(solve):
    with pytest.raises(ValueError, match="fun is 'exp'"):
        solve(gaussian(), ica.starts(K, 1, 0), fun="exp")
    with pytest.raises(ValueError, match="use solver='fastica'"):
        ica.picard(gaussian(), ica.starts(K, 1, 0), fun="cube")


# -- symmetric decorrelation ------------------------------------------------------------------------------------------


def test_decorrelated_matrices_are_the_nearest_orthogonal_ones():
    W = np.random.default_rng(0).normal(size=(6, K, K))
    found = ica.decorrelated(W)
    assert np.allclose(found @ np.swapaxes(found, 1, 2), np.eye(K))
    u, _, v = np.linalg.svd(W)
    assert np.allclose(found, u @ v)  # the polar factor
    assert np.allclose(ica.decorrelated(found), found)
    assert np.allclose(ica.decorrelated(3 * W[0]), found[0])


def blas_threads():
    return [one["num_threads"] for one in threadpool_info() if one["user_api"] == "blas"]


def test_fits_that_overlap_in_time_leave_as_many_threads_as_there_were():
    with threadpool_limits(2, user_api="blas"):
        before = blas_threads()
        first, second = one_thread(), one_thread()
        first.__enter__()
        second.__enter__()
        assert set(blas_threads()) == {1}
        first.__exit__(None, None, None)
        assert set(blas_threads()) == {1}  # the other still counts on it
        second.__exit__(None, None, None)
        assert blas_threads() == before
        with pytest.raises(KeyError), one_thread():
            raise KeyError
        assert blas_threads() == before


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_limits_that_overlap_in_time_are_counted_whichever_ends_first(order):
    with threadpool_limits(2, user_api="blas"):
        limits = [one_pool(), one_thread()]
        for limit in limits:
            limit.__enter__()
        limits[order[0]].__exit__(None, None, None)
        if order[0] == 0:
            assert set(blas_threads()) == {1}
        elif len(blas_threads()) > 1:  # numpy's and scipy's, as in their wheels
            assert sorted(set(blas_threads())) == [1, 2]
        limits[order[1]].__exit__(None, None, None)
        assert set(blas_threads()) == {2}


def test_other_pool_gives_scipy_the_threads_that_one_pool_took_from_it():
    def threads(library):
        return {one["num_threads"] for one in threadpool_info() if library in one["filepath"]}

    if not (threads("numpy.libs") and threads("scipy.libs")):
        pytest.skip("numpy and scipy share a BLAS here")
    with threadpool_limits(2, user_api="blas"):
        with one_pool():
            assert (threads("numpy.libs"), threads("scipy.libs")) == ({2}, {1})
            with other_pool():
                assert (threads("numpy.libs"), threads("scipy.libs")) == ({1}, {2})
                with one_thread():
                    assert (threads("numpy.libs"), threads("scipy.libs")) == ({1}, {1})
            assert (threads("numpy.libs"), threads("scipy.libs")) == ({2}, {1})
        assert (threads("numpy.libs"), threads("scipy.libs")) == ({2}, {2})


def test_one_pool_leaves_numpy_its_threads():
    def numpys():
        return [one["num_threads"] for one in threadpool_info() if "numpy.libs" in one["filepath"]]

    with threadpool_limits(2, user_api="blas"):
        before = numpys()
        with one_pool():
            assert numpys() == before
