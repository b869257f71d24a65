"""Streaming group PCA preserves all moments unless truncated, and keeps the leading subspace."""

import select
import sys
import threading
import warnings

import numpy as np
import pytest
from scipy import linalg

from lmri.decomposition import lapack
from lmri.decomposition.group_pca import (
    GroupPCA,
    gram,
    largest_eigen,
    leading_eigen,
    n_kept,
    plan,
    reduced,
    reduced_in_pieces,
    whitened,
)
from tolerances import relative, rounding

N_NEURONS = 512
RANK = 5


def noise(n_volumes, seed=0, n_neurons=N_NEURONS):
    return np.random.default_rng(seed).normal(size=(n_volumes, n_neurons)).astype(np.float32)


def low_rank(n_volumes=600, strength=3.0, seed=0):
    """`RANK` orthonormal patterns, the strongest twice as strong as the weakest, in noise of sd 1."""
    rng = np.random.default_rng(seed)
    patterns = np.linalg.qr(rng.normal(size=(N_NEURONS, RANK)))[0].T
    courses = rng.normal(size=(n_volumes, RANK)) * np.linspace(2, 1, RANK) * strength
    return (courses @ patterns + rng.normal(size=(n_volumes, N_NEURONS)) * 0.3).astype(np.float32)


def accumulated(X, n_rows, cuts, denoise=False):
    pca = GroupPCA(n_rows, denoise=denoise)
    for part in np.split(X, cuts):
        pca.update(part)
    return pca.rows


def smallest_cosine(a, b):
    """Cosine of the largest angle between two row spaces."""
    return float(np.cos(linalg.subspace_angles(a.T.astype(np.float64), b.T.astype(np.float64)).max()))


# -- nothing is dropped -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cuts", [[], [50], [10, 17, 18, 90]], ids=["one run", "two", "short and long"])
def test_with_room_for_all_volumes_their_second_moments_stay_exact(cuts):
    X = noise(120)
    rows = accumulated(X, 120, cuts)
    assert np.allclose(rows.T @ rows, X.T @ X, atol=rounding(X.T @ X, 120))


def test_cutting_volumes_into_runs_changes_nothing_if_nothing_is_truncated():
    X = low_rank(200)
    whole = accumulated(X, 200, [])
    for cuts in ([100], [1, 2, 3], [150, 190]):
        rows = accumulated(X, 200, cuts)
        assert np.allclose(rows.T @ rows, whole.T @ whole, atol=rounding(X.T @ X, 200))


def test_long_runs_reduced_in_pieces_keep_all_second_moments_too():
    X = noise(130)
    rows = reduced_in_pieces(X, 200, False, reduced, piece=40)  # four pieces
    assert np.allclose(rows.T @ rows, X.T @ X, atol=rounding(X.T @ X, 130))


def test_rows_are_orthogonal_and_carry_the_singular_values():
    X = noise(80)
    rows = reduced(X, 10, False).astype(np.float64)
    products = rows @ rows.T
    close = relative(N_NEURONS, np.float32)
    assert np.allclose(np.diag(products), np.linalg.svd(X.astype(np.float64), compute_uv=False)[:10] ** 2, rtol=close)
    assert np.abs(products - np.diag(np.diag(products))).max() < close * products.max()


# -- what is kept is the leading part ---------------------------------------------------------------------------------


@pytest.mark.parametrize("denoise", [False, True])
def test_leading_subspace_equals_a_singular_value_decomposition_s(denoise):
    X = low_rank()
    rows = accumulated(X, n_kept(RANK), [100, 200, 300, 400, 500], denoise)
    leading = np.linalg.svd(rows.astype(np.float64), full_matrices=False)[2][:RANK]
    truth = np.linalg.svd(X.astype(np.float64), full_matrices=False)[2][:RANK]
    assert smallest_cosine(leading, truth) >= 0.999


def test_the_leading_subspace_is_another_one_in_other_data():
    """The negative control of the test above: a subspace of noise shares nothing with it."""
    truth = np.linalg.svd(low_rank(), full_matrices=False)[2][:RANK]
    assert smallest_cosine(accumulated(noise(600), RANK, [300]), truth) < 0.2


def test_denoising_lowers_squared_singular_values_by_their_median():
    X = noise(61)
    squares = np.linalg.svd(X.astype(np.float64), compute_uv=False) ** 2
    close = rounding(squares, N_NEURONS, np.float32)
    rows = reduced(X, 30, True).astype(np.float64)
    assert np.allclose((rows**2).sum(axis=1), squares[:30] - np.median(squares), atol=close)
    few = reduced(X, 31, True).astype(np.float64)  # fewer than twice as many volumes: half of them may be signal
    assert np.allclose((few**2).sum(axis=1), squares[:31], atol=close)


def test_denoising_keeps_the_network_of_one_run_among_many():
    """Without it, noise of all the other runs competes with a network that one run engages."""
    network = np.zeros(N_NEURONS)
    network[:40] = 1 / np.sqrt(40)
    first, kept = {False: [], True: []}, {False: [], True: []}
    for seed in range(4):
        rng = np.random.default_rng(seed)
        runs = [rng.normal(size=(60, N_NEURONS)).astype(np.float32) for _ in range(30)]
        runs[3] += (3.5 * rng.normal(size=(60, 1)) * network).astype(np.float32)
        for denoise in first:
            pca = GroupPCA(12, denoise)
            for run in runs:
                pca.update(run)
            directions = np.linalg.svd(pca.rows, full_matrices=False)[2] @ network
            first[denoise].append(abs(directions[0]))
            kept[denoise].append(np.linalg.norm(directions))
    assert np.mean(first[True]) > 0.6 > 0.45 > np.mean(first[False])
    assert (np.array(kept[True]) > np.array(kept[False])).all()


def test_memory_does_not_grow_with_the_number_of_volumes():
    pca = GroupPCA(7)
    for seed in range(6):
        pca.update(noise(30, seed))
        assert pca.rows.shape == (7, N_NEURONS)
        assert pca.rows.dtype == np.float32


def test_rows_of_nothing_are_refused():
    with pytest.raises(ValueError, match="Call update first"):
        _ = GroupPCA(5).rows


# -- its parts --------------------------------------------------------------------------------------------------------


def test_products_in_blocks_are_as_exact_as_float64():
    X = noise(40, n_neurons=9000)  # more than two blocks
    X[:, :100] *= 1000
    exact = X.astype(np.float64) @ X.astype(np.float64).T
    assert np.abs(gram(X) - exact).max() < rounding(exact, 9000, np.float32)
    assert gram(X).dtype == np.float64


def test_products_do_not_care_about_memory_order():
    X = noise(30)
    assert np.allclose(gram(np.asfortranarray(X)), gram(X), rtol=0, atol=rounding(gram(X), N_NEURONS, np.float32))


@pytest.mark.parametrize(
    "n_volumes", [[300, 200, 30, 1000, 10], [10] * 200, [512], [513, 1], [511, 1, 1], [1], [5000, 5000]]
)
def test_a_plan_neither_splits_nor_reorders_runs_and_groups_as_many_as_fit(n_volumes):
    groups = plan(n_volumes, 512)
    assert [number for group in groups for number in group] == list(range(len(n_volumes)))
    sizes = [sum(n_volumes[number] for number in group) for group in groups]
    assert all(size <= 512 or len(group) == 1 for size, group in zip(sizes, groups, strict=True))
    for size, following in zip(sizes, groups[1:], strict=False):
        assert size + n_volumes[following[0]] > 512  # the next run would not have fitted


def test_more_rows_are_kept_than_components_and_never_more_than_a_hundred_more():
    for k in (1, 5, 20, 60, 200):
        assert k + 20 <= n_kept(k) <= k + 100


# -- whitening --------------------------------------------------------------------------------------------------------


def test_white_rows_have_mean_zero_and_identity_covariance():
    rows = low_rank(50) + 3  # a mean over neurons, which has to go
    Z = whitened(rows, 8).astype(np.float64)
    assert Z.shape == (8, N_NEURONS)
    assert np.abs(Z.mean(axis=1)).max() < rounding(Z, N_NEURONS, np.float32)
    assert np.allclose(Z @ Z.T / N_NEURONS, np.eye(8), atol=rounding(1.0, N_NEURONS, np.float32))


def test_white_rows_span_the_leading_principal_axes():
    X = low_rank(100)
    X -= X.mean(axis=1, keepdims=True)
    truth = np.linalg.svd(X.astype(np.float64), full_matrices=False)[2][:RANK]
    assert smallest_cosine(whitened(X, RANK), truth) >= 0.9999


def test_more_components_than_the_rank_are_refused():
    rng = np.random.default_rng(0)
    rows = accumulated((rng.normal(size=(60, 3)) @ rng.normal(size=(3, N_NEURONS))).astype(np.float32), 20, [30])
    assert len(rows) == 20
    assert whitened(rows, 3).shape == (3, N_NEURONS)
    with pytest.raises(ValueError, match="n_components is 4, but the rank of the data is only 3"):
        whitened(rows, 4)


def test_zeros_have_no_rank_and_raise_no_numerical_warning():
    zeros = np.zeros((10, N_NEURONS), dtype=np.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert not reduced(zeros, 5, True).any()
        with pytest.raises(ValueError, match="rank of the data is only 0"):
            whitened(zeros, 1)


# -- eigenvectors -----------------------------------------------------------------------------------------------------


def with_spectrum(values, seed=0):
    n = len(values)
    Q = np.linalg.qr(np.random.default_rng(seed).normal(size=(n, n)))[0]
    return (Q * np.asarray(values)) @ Q.T


@pytest.mark.parametrize(
    "values",
    [
        np.linspace(1, 300, 200),
        np.geomspace(1e-6, 1e6, 200),
        np.r_[np.ones(150), np.full(50, 7.0)],  # equal ones, of which any basis is as good
        np.r_[np.zeros(180), np.linspace(1, 2, 20)],  # rank 20
        np.zeros(200),
    ],
)
def test_leading_eigenvectors_are_those_of_a_full_decomposition(values):
    squares = with_spectrum(values)
    found, vectors, median = leading_eigen(squares, 30)
    largest = np.sort(values)[::-1]
    close = rounding(max(largest[0], 1), 200**2)  # n eps, as LAPACK's own error bounds
    assert np.allclose(found, largest[:30], rtol=0, atol=close)
    assert np.isclose(median, np.median(values), rtol=0, atol=close)
    assert np.allclose(vectors.T @ vectors, np.eye(30), rtol=0, atol=rounding(1.0, 200**2))
    assert np.allclose(squares @ vectors, vectors * found, rtol=0, atol=close)


def test_other_threads_go_on_while_lapack_works(monkeypatch):
    squares = with_spectrum(np.linspace(1, 300, 800))
    count, ended = 0, threading.Event()
    call, meanwhile = lapack._call, {}

    def noted(name, *arguments):
        before = count
        status = call(name, *arguments)
        meanwhile[name] = count - before
        return status

    def go_on():
        nonlocal count
        while not ended.is_set():
            count += 1
            select.select([], [], [], 0)  # lets go of Python, and asks for it again

    other = threading.Thread(target=go_on)
    monkeypatch.setattr(lapack, "_call", noted)
    interval = sys.getswitchinterval()
    sys.setswitchinterval(100)  # nobody is interrupted: others run only where one lets them
    try:
        other.start()
        assert lapack.tridiagonal_eigen(squares, 100) is not None
    finally:
        ended.set()
        sys.setswitchinterval(interval)
        other.join()
    assert set(meanwhile) == {"dsytrd", "dsterf", "dstein", "dormqr"}
    assert meanwhile["dsytrd"] > 0  # the longest: tens of milliseconds


def test_a_matrix_of_blocks_has_orthogonal_eigenvectors_too():
    squares = np.zeros((200, 200))
    squares[:100, :100] = squares[100:, 100:] = with_spectrum(np.linspace(1, 5, 100))
    found, vectors, _ = leading_eigen(squares, 30)
    close = rounding(5.0, 200**2)  # n eps times the largest eigenvalue
    assert np.allclose(vectors.T @ vectors, np.eye(30), rtol=0, atol=close)
    assert np.allclose(squares @ vectors, vectors * found, rtol=0, atol=close)


@pytest.mark.parametrize(
    "values", [np.linspace(1, 300, 1100), np.r_[np.linspace(1, 1.1, 1000), np.linspace(5, 9, 100)],
               np.geomspace(1, 1e11, 1100)],
)  # fmt: skip
def test_the_largest_of_many_eigenvectors_are_as_good_as_in_float64(values):
    squares = with_spectrum(values)
    found, vectors = largest_eigen(squares, 100)
    oracle, theirs = np.linalg.eigh(squares)
    # Rayleigh-Ritz values of a float32 basis have the square of its errors, over a gap of 1 %.
    close = 100 * relative(1100, np.float32) ** 2
    assert np.allclose(found, oracle[::-1][:100], rtol=0, atol=close * oracle[-1])
    assert np.allclose(vectors.T @ vectors, np.eye(100), rtol=0, atol=rounding(1.0, 1100**2))
    assert np.linalg.svd(vectors.T @ theirs[:, -100:], compute_uv=False).min() > 1 - close


@pytest.mark.parametrize("shift", [0.0, 0.3, 1e4])  # the last would cancel, and is centred before the product
def test_centring_over_neurons_without_a_copy_is_centring(shift):
    shifted = low_rank(60) + np.float32(shift) * np.linspace(1, 2, 60, dtype=np.float32)[:, None]
    own = reduced(shifted, RANK, False, True)
    centred = shifted - shifted.mean(axis=1, keepdims=True, dtype=np.float64)
    oracle = reduced(centred.astype(np.float32), RANK, False)
    close = relative(N_NEURONS, np.float32)
    assert np.allclose(np.linalg.norm(own, axis=1), np.linalg.norm(oracle, axis=1), rtol=close)
    bases = (np.linalg.qr(rows.T.astype(np.float64))[0] for rows in (own, oracle))
    assert np.linalg.svd(next(bases).T @ next(bases), compute_uv=False).min() > 1 - close
    assert np.abs(own.mean(axis=1)).max() < close * np.abs(own).max()
