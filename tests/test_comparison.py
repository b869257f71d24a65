"""The same maps match, other maps do not, and an arbitrary basis of the same subspace is the yardstick."""

import numpy as np
import pytest

from lmri.comparison import compare
from lmri.exceptions import SpaceMismatchError
from lmri.networks import NetworkSet
from lmri.space import NeuronSpace
from phantom import planted

SPACE = NeuronSpace.build([200] * 4)
K = 10


@pytest.fixture(scope="module")
def maps():
    truth = planted(SPACE, n_networks=K, share=0.03, n_runs=1, n_volumes=2).maps
    return truth + np.random.default_rng(0).normal(scale=0.2, size=truth.shape)


def _set(weights, name="ica"):
    return NetworkSet(SPACE, weights.astype(np.float32), method=name)


def _rotated(maps, seed):
    rng = np.random.default_rng(seed)
    return np.linalg.qr(rng.normal(size=(len(maps), len(maps))))[0] @ maps


def test_shuffled_and_flipped_maps_match_one_to_one(maps):
    order = np.random.default_rng(1).permutation(K)
    signs = np.where(np.arange(K) % 3 == 0, -1, 1)
    found = compare(_set(maps).threshold("z", z=3), _set((maps * signs[:, None])[order], "other").threshold("z", z=3))
    first = [int(name[-2:]) for name in found.table["first"]]
    second = [int(name[-2:]) for name in found.table["second"]]
    assert [order[place] for place in second] == first
    assert np.allclose(found.table["r"], signs[first], atol=1e-5)  # float32
    assert np.allclose(found.table["iou"], 1)
    assert found.table["above_null"].all()
    assert found.mean_r > found.null_95


def test_an_arbitrary_basis_of_the_same_subspace_does_not_exceed_the_null(maps):
    beyond = [compare(_set(maps), _set(_rotated(maps, seed))) for seed in range(20)]
    # 5 % of arbitrary bases exceed the 95 % limit; 4 or more of 20 would be a chance of 1.6 %.
    assert sum(one.mean_r > one.null_95 for one in beyond) < 4
    # This is why |r| alone says little.
    assert 0.4 < np.mean([one.mean_r for one in beyond]) < 0.7
    assert np.isclose(np.mean([one.mean_r for one in beyond]), beyond[0].null_mean, atol=0.03)


def test_unrelated_maps_do_not_match():
    rng = np.random.default_rng(0)
    found = compare(*(_set(rng.laplace(size=(K, SPACE.n_neurons))) for _ in range(2)))
    assert found.mean_r < 0.15


def test_sets_of_different_size_match_as_far_as_they_go(maps):
    found = compare(_set(maps), _set(maps[:4]))
    assert len(found.table) == 4
    assert np.allclose(found.table["r"], 1, atol=1e-5)
    assert "iou" not in found.table  # no members before a threshold


def test_two_empty_networks_have_no_overlap_to_speak_of(maps):
    empty = _set(maps).threshold("z", z=100)
    assert compare(empty, empty).table["iou"].isna().all()


def test_another_space_is_refused(maps):
    other = NetworkSet(NeuronSpace.build([200] * 2), maps[:, :400])
    with pytest.raises(SpaceMismatchError):
        compare(_set(maps), other)


def test_maps_of_zeros_match_nothing(maps):
    hole = maps.copy()
    hole[3] = 0
    found = compare(_set(hole), _set(maps))
    assert np.isfinite(found.table["r"]).all()
    assert found.table["r"].abs().min() < 0.2


def _temporal(rng, values, n_neurons=SPACE.n_neurons):
    """Draw two unmixings of one data set, as temporal ICA makes them: ``R s V``, far from orthogonal."""
    vectors = np.linalg.qr(rng.normal(size=(n_neurons, len(values))))[0].T
    basis = values[:, None] * (vectors - vectors.mean(axis=1, keepdims=True))
    return [_rotated(basis, int(rng.integers(1 << 30))) for _ in range(2)]


@pytest.mark.parametrize("power", [0.0, 0.5, 1.0])
def test_arbitrary_unmixings_of_any_spectrum_stay_within_the_null(power):
    rng = np.random.default_rng(0)
    values = np.arange(1, K + 1) ** -power
    pairs = [_temporal(rng, values) for _ in range(12)]
    found = [compare(_set(one), _set(other)) for one, other in pairs]
    # Nominal is 5 %, with pairs of one comparison depending on each other.
    assert np.mean([one.table["above_null"].mean() for one in found]) < 0.15


def test_the_null_does_not_depend_on_the_order_of_the_sets():
    one, other = _temporal(np.random.default_rng(1), np.arange(1, K + 1) ** -1.0)
    there, back = compare(_set(one), _set(other)), compare(_set(other), _set(one))
    assert np.isclose(there.null_95, back.null_95)
    assert np.allclose(there.table["r_null_95"], back.table["r_null_95"])


def test_maps_of_zeros_do_not_dilute_the_null(maps):
    half = maps[: K // 2]
    dead = np.concatenate([half, np.zeros_like(half)])
    rotated = np.concatenate([_rotated(half, 5), np.zeros_like(half)])
    table = compare(_set(dead), _set(rotated)).table
    assert table["above_null"].sum() <= 1
    assert compare(_set(dead), _set(dead)).table["above_null"].sum() == K // 2  # the positive control


def test_one_map_alone_cannot_exceed_its_rotations(maps):
    assert not any(compare(_set(maps[:1]), _set(maps[:1] * scale)).table["above_null"].any() for scale in (1, -1, 0.3))
