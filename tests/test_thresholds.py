"""Every threshold has the stated properties on signal and on noise."""

import json

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from lmri import Origin, storage
from lmri.decomposition.codec import read_null
from lmri.exceptions import StudyError
from lmri.networks import NetworkSet
from lmri.networks.thresholds import (
    THRESHOLDS,
    SurrogateNull,
    map_scores,
    needs_null,
    q_values,
    robust_z_scores,
    value_name,
    z_scores,
)
from lmri.space import NeuronSpace
from tolerances import relative


@pytest.fixture
def maps():
    """Simulate Gaussian noise with 30 extreme neurons of each sign in the first map."""
    maps = np.random.default_rng(0).normal(size=(3, 4000))
    maps[0, :20] += 12
    maps[0, 20:30] -= 12
    return maps


def apply(method, maps, **parameters):
    """Apply a threshold, with a Gaussian null if it needs one."""
    if not needs_null(method):
        return THRESHOLDS[method](maps, **parameters)
    return THRESHOLDS[method](maps, null_of(np.random.default_rng(99), maps.shape[1]), **parameters)


def null_of(rng, n_neurons, n_surrogates=20, n_maps=3, draw=None):
    """Pool maps without signal."""
    draw = draw or (lambda shape: rng.normal(size=shape))
    return SurrogateNull.from_maps([draw((n_maps, n_neurons)) for _ in range(n_surrogates)])


@pytest.mark.parametrize("method", ["fdr", "fdr_set", "z", "robust_z", "mixture", "fdr_gaussian"])
def test_planted_neurons_are_kept_on_both_sides(maps, method):
    members = apply(method, maps)
    assert members[0, :30].all()
    assert members[0, 30:].mean() < 0.01


@pytest.mark.parametrize("method", [name for name in THRESHOLDS if name != "z_positive"])  # one-sided
def test_scale_and_sign_of_a_map_do_not_matter(maps, method):
    # All maps by the same factor, because "auto" ranks them against each other.
    members = apply(method, maps)
    assert members.shape == maps.shape
    assert members.dtype == bool
    assert np.array_equal(members, apply(method, -7 * maps))


def test_fdr_keeps_nothing_of_gaussian_noise_and_quotas_keep_their_share():
    noise = np.random.default_rng(1).normal(size=(20, 5000))
    assert THRESHOLDS["fdr_gaussian"](noise).mean() <= 0.001  # of all neurons, by chance
    assert THRESHOLDS["auto"](noise).sum() == 5000
    assert (THRESHOLDS["top"](noise, share=0.02).sum(axis=1) == 100).all()


def test_fdr_as_if_gaussian_is_fooled_by_heavy_tails_which_its_description_says():
    laplace = np.random.default_rng(0).laplace(size=(1, 9216))
    assert THRESHOLDS["fdr_gaussian"](laplace).sum() > 20
    assert "not calibrated" in THRESHOLDS["fdr_gaussian"].description


def test_z_is_two_sided_where_one_sided_would_lose_the_minority(maps):
    assert THRESHOLDS["z"](maps, z=3.0)[0, 20:30].all()
    one_sided = THRESHOLDS["z_positive"](maps, z=3.0)
    assert one_sided[0, :20].all()
    assert not one_sided[0, 20:30].any()
    assert (THRESHOLDS["z_positive"](-maps, z=3.0) == (THRESHOLDS["z"](maps, z=3.0) & ~one_sided)).all()


def test_robust_z_is_not_inflated_by_members(maps):
    noise = maps[0, 30:]
    assert np.isclose(robust_z_scores(maps)[0, 30:].std(), noise.std(), rtol=0.05)  # its efficiency is 37 %
    assert z_scores(maps)[0, 30:].std() < 0.9 * noise.std()


def test_support_keeps_what_is_not_zero():
    assert THRESHOLDS["support"](np.array([[0.0, -0.1, 3.0, 0.0]])).tolist() == [[False, True, True, False]]


@pytest.mark.parametrize("method", list(THRESHOLDS))
def test_a_map_of_zeros_gives_an_empty_network(method):
    assert not apply(method, np.zeros((2, 50))).any()


def test_top_counts_exactly_also_with_ties():
    assert THRESHOLDS["top"](np.ones((1, 100)), share=0.07).sum() == 7


@pytest.mark.parametrize(
    ("method", "values"),
    [
        ("z", {"z": 0}),
        ("z", {"z": -1}),
        ("top", {"share": 1.0}),
        ("fdr_gaussian", {"alpha": 0}),
        ("auto", {"ratio": 0}),
        ("fdr", {"alpha": 0}),
        ("fdr", {"alpha": 1.0}),
        ("fdr_set", {"alpha": -0.1}),
        ("mixture", {"p": 1.0}),
        ("mixture", {"p": 0}),
    ],
)
def test_values_out_of_range_are_refused(method, values):
    with pytest.raises(ValueError, match=f"{next(iter(values))} is"):
        apply(method, np.ones((1, 10)), **values)


def test_q_values_equal_scipys():
    p = np.random.default_rng(0).uniform(size=200) ** 2
    assert np.allclose(q_values(p), stats.false_discovery_control(p))


def test_every_threshold_says_what_it_controls_and_which_need_a_null():
    assert all(one.description for one in THRESHOLDS.values())
    assert {name for name, one in THRESHOLDS.items() if one.calibrated} == {"fdr", "fdr_set"}
    assert {method for method in THRESHOLDS if needs_null(method)} == {"fdr", "fdr_set"}
    names = {method: value_name(method) for method in THRESHOLDS}
    assert (names["fdr"], names["z"], names["mixture"], names["support"]) == ("alpha", "z", "p", None)


# -- p from surrogates ------------------------------------------------------------------------------------------------


def brute_force(maps, z):
    """Count: the share of null values at least as large, the data themselves among them."""
    pooled = np.sort(np.concatenate([np.abs(z_scores(one)).ravel() for one in maps]))
    at_least = len(pooled) - np.searchsorted(pooled, np.abs(z), side="left")
    return (1 + at_least) / (1 + len(pooled))


@pytest.mark.parametrize("draw", ["normal", "laplace"])
def test_p_of_few_values_is_exact(draw):
    rng = np.random.default_rng(0)
    maps = [getattr(rng, draw)(size=(3, 500)) for _ in range(4)]
    null = SurrogateNull.from_maps(maps)
    z = np.concatenate([rng.normal(size=2000) * 3, z_scores(maps[0]).ravel(), [0, 1e9, -1e9]])
    assert np.allclose(null.p(z), brute_force(maps, z), rtol=relative())
    assert null.n_values == 6000
    assert null.n_surrogates == 4
    assert null.p(np.array([1e9]))[0] == 1 / 6001  # never 0
    assert null.p(np.array([0.0]))[0] == 1
    assert np.array_equal(null.p(z), null.p(-z))
    assert null.p(z.reshape(1, -1)).shape == (1, len(z))


def test_p_of_many_values_is_exact_in_the_tail_and_on_the_safe_side_within_two_percent_elsewhere():
    rng = np.random.default_rng(0)
    maps = [rng.standard_t(5, size=(4, 20_000)) for _ in range(3)]  # 240,000 values
    null = SurrogateNull.from_maps(maps)
    own = z_scores(maps[1]).ravel()[::7]
    z = np.concatenate([np.linspace(0, 12, 3000), rng.normal(size=2000), own])
    p, truth = null.p(z), brute_force(maps, z)
    assert (p >= truth * (1 - relative())).all()
    assert (p / truth).max() <= 1.02
    tail = truth < 20_000 / 240_001
    assert tail.sum() > 1000
    assert np.allclose(p[tail], truth[tail], rtol=relative())
    assert len(null.z) < 25_000  # most values are not stored
    order = np.argsort(np.abs(z))
    assert (np.diff(p[order]) <= 0).all()  # larger |z|, smaller p


@pytest.mark.parametrize("n", [19_999, 20_000, 20_001, 20_500])
def test_p_is_exact_or_safe_around_the_number_of_values_that_are_kept(n):
    rng = np.random.default_rng(n)
    maps = [rng.normal(size=(1, n))]
    null = SurrogateNull.from_maps(maps)
    z = np.concatenate([np.linspace(0, 5, 999), z_scores(maps[0])[0]])
    p, truth = null.p(z), brute_force(maps, z)
    assert (p >= truth * (1 - relative())).all()
    assert (p / truth).max() <= 1.02


def test_ties_are_counted_completely():
    rng = np.random.default_rng(0)
    maps = [rng.choice([-2.0, -1.0, 0.0, 1.0, 2.0], size=(2, 30_000)) for _ in range(2)]
    null = SurrogateNull.from_maps(maps)
    z = np.concatenate([np.unique(z_scores(maps[0])), np.linspace(0, 3, 301)])
    p, truth = null.p(z), brute_force(maps, z)
    assert (p >= truth * (1 - relative())).all()
    assert null.p(np.abs(z_scores(maps[0])).max(keepdims=True))[0, 0] < 0.6
    dead = [np.concatenate([np.zeros((1, 100)), rng.normal(size=(1, 100))], axis=1) for _ in range(3)]
    tied = SurrogateNull.from_maps(dead)
    at = z_scores(dead[0])[0, :1]  # where half of all values lie
    assert np.allclose(tied.p(at), brute_force(dead, at), rtol=relative())


def test_a_null_without_its_last_maps_is_refused(tmp_path):
    """It decides what is significant."""
    null = SurrogateNull.from_maps([np.random.default_rng(number).normal(size=(3, 200)) for number in range(20)])
    storage.write_table(tmp_path / "null.tsv.gz", null.to_table())
    q = pd.DataFrame({"smallest_q": null.smallest_q})
    storage.write_table(tmp_path / "null_maps.tsv", q)
    assert read_null(tmp_path.joinpath, null.n_values, 20, 3).n_surrogates == 20
    storage.write_table(tmp_path / "null_maps.tsv", q[:-1])
    with pytest.raises(StudyError, match=r"59 rows for 3 maps of 20 surrogates\. The file is incomplete"):
        read_null(tmp_path.joinpath, null.n_values, 20, 3)


def test_p_of_a_map_is_the_share_of_null_maps_with_as_small_a_smallest_q():
    rng = np.random.default_rng(0)
    maps = [rng.laplace(size=(5, 200)) for _ in range(7)]
    null = SurrogateNull.from_maps(maps)
    rows = np.abs(np.concatenate([z_scores(one) for one in maps]))  # (35, 200)

    def smallest_q(z, pool):  # by its definition, for all neurons
        return q_values((1 + (pool >= np.abs(z)[:, None]).sum(axis=1)) / (1 + len(pool))).min()

    # A surrogate's map is compared with the others only, as any other map is.
    surrogate = np.array([smallest_q(row, np.delete(rows, n, axis=0).ravel()) for n, row in enumerate(rows)])
    own = z_scores(rng.laplace(size=(6, 200)) * np.linspace(0.2, 1, 200) ** 3)
    q = np.array([smallest_q(row, rows.ravel()) for row in own])
    expected = (1 + (surrogate <= q[:, None] + 1e-12).sum(axis=1)) / 36  # ties but for rounding
    known = q <= 0.5  # above, it is not worked out
    assert known.sum() >= 2
    assert np.allclose(null.p_of_maps(own)[known], expected[known])
    assert null.p_of_maps(np.full((1, 200), 99.0))[0] == 1 / 36


def test_a_null_is_unchanged_after_a_round_trip_through_its_table():
    rng = np.random.default_rng(0)
    null = null_of(rng, 4000, draw=lambda shape: rng.laplace(size=shape))
    table = pd.DataFrame(json.loads(json.dumps(null.to_table().to_dict("list"))))  # through text
    back = SurrogateNull.from_table(table, null.n_values, null.n_surrogates, null.smallest_q.tolist())
    z = rng.laplace(size=(3, 4000)) * 2
    assert np.array_equal(back.p(z), null.p(z))
    assert np.array_equal(back.p_of_maps(z), null.p_of_maps(z))
    assert (back.n_values, back.n_surrogates) == (20 * 3 * 4000, 20)


# -- the calibrated threshold -----------------------------------------------------------------------------------------


def scaled(rng, shape):
    """Draw maps whose tails differ between maps, as in an ICA of noise."""
    return np.stack([rng.standard_t(rng.choice([4, 8, 30]), size=shape[1]) for _ in range(shape[0])])


@pytest.fixture(scope="module")
def exchangeable():
    """Return the members under each threshold for a null of 100 maps and 3 maps of the same kind."""
    rng = np.random.default_rng(0)
    found = {"fdr": [], "fdr_set": []}
    p_of_maps = []
    for _ in range(300):
        null = null_of(rng, 200, 20, 5, lambda shape: scaled(rng, shape))
        maps = scaled(rng, (3, 200))
        for method, members in found.items():
            members.append(THRESHOLDS[method](maps, null))
        p_of_maps.append(null.p_of_maps(z_scores(maps)))
    kept = {method: np.stack(members) for method, members in found.items()}  # (n_repeats, n_maps, n_neurons)
    return kept | {"p": np.stack(p_of_maps)}


def test_a_share_alpha_of_null_maps_is_significant(exchangeable):
    shares = (exchangeable["p"] <= 0.05).mean(axis=1)  # maps of one repeat share a null
    error = shares.std(ddof=1) / np.sqrt(len(shares))
    assert abs(shares.mean() - 0.05) < 3 * error
    assert error < 0.01
    low, high = stats.binom.interval(0.999, shares.size * 3, 0.05)
    assert low <= (exchangeable["p"] <= 0.05).sum() <= high


def test_fdr_controls_the_share_of_null_families_with_members(exchangeable):
    families = exchangeable["fdr"].any(axis=(1, 2))  # the maps of one decomposition
    assert 0 < families.mean() <= 0.05 + 2 * np.sqrt(0.05 * 0.95 / len(families))
    assert exchangeable["fdr"].any(axis=2).mean() <= 0.05


def test_fdr_set_is_at_most_as_liberal_as_fdr_under_the_null(exchangeable):
    families = exchangeable["fdr_set"].any(axis=(1, 2))  # one family a repeat
    assert families.mean() <= 0.05 + 2 * np.sqrt(0.05 * 0.95 / len(families))
    assert exchangeable["fdr_set"].any(axis=2).mean() <= 0.05


def planted_maps(rng, n_maps=4, n_neurons=3000, n_members=40, strength=9.0):
    maps = rng.standard_t(30, size=(n_maps, n_neurons))
    truth = np.zeros(maps.shape, dtype=bool)
    for own, row in zip(truth, maps, strict=True):
        members = rng.choice(n_neurons, n_members, replace=False)
        own[members] = True
        row[members] = rng.choice([-1, 1], n_members) * (strength + rng.normal(size=n_members))
    return maps, truth


@pytest.mark.parametrize("method", ["fdr", "fdr_set"])
def test_fdr_finds_sharp_members_of_either_sign_and_few_others(method):
    rng = np.random.default_rng(1)
    null = null_of(rng, 3000, 40, 4, lambda shape: rng.standard_t(30, size=shape))
    false, power = [], []
    for _ in range(25):
        maps, truth = planted_maps(rng)
        members = THRESHOLDS[method](maps, null)
        false.extend((members & ~truth).sum(axis=1) / np.maximum(members.sum(axis=1), 1))
        power.append(members[truth].mean())
        assert members[truth & (maps < 0)].any()
    assert np.mean(power) > 0.8
    assert np.mean(false) <= 0.05 + 2 * np.std(false) / np.sqrt(len(false))
    if method == "fdr":
        assert THRESHOLDS[method](maps, null, alpha=0.001).sum() <= members.sum()


def test_fdr_looks_at_each_map_and_fdr_set_at_all_of_them():
    rng = np.random.default_rng(0)
    null = null_of(rng, 3000, 40, 4)
    maps, _ = planted_maps(rng, 1)
    alone = np.concatenate([maps, rng.normal(size=(3, 3000))])
    assert THRESHOLDS["fdr"](alone, null)[0].sum() >= THRESHOLDS["fdr_set"](alone, null)[0].sum()
    assert np.array_equal(THRESHOLDS["fdr"](alone, null)[0], THRESHOLDS["fdr"](maps, null)[0])


def test_heavy_tails_give_no_members_unlike_with_a_gaussian_null():
    rng = np.random.default_rng(0)
    laplace = rng.laplace(size=(5, 9216))
    own = null_of(rng, 9216, 20, 5, lambda shape: rng.laplace(size=shape))
    assert THRESHOLDS["fdr"](laplace, own).sum() <= 5
    assert THRESHOLDS["fdr"](laplace, null_of(rng, 9216, 20, 5)).sum() > 100  # the control: a null of another kind


def test_few_surrogates_cannot_reach_alpha_and_keep_nothing():
    maps, _ = planted_maps(np.random.default_rng(0), 1)
    rng = np.random.default_rng(1)
    assert not THRESHOLDS["fdr"](maps, null_of(rng, 3000, 18, 1)).any()  # p of a map is at least 1 / 19
    assert THRESHOLDS["fdr"](maps, null_of(rng, 3000, 20, 1)).any()


def test_maps_without_surrogates_say_what_to_do_instead():
    space = NeuronSpace.build([50] * 2)
    maps = np.random.default_rng(0).normal(size=(3, 100)).astype(np.float32)
    networks = NetworkSet(space, maps, method="mine")
    for method in (None, "fdr", "fdr_set"):
        with pytest.raises(ValueError, match=r"'mine' comes without surrogates.*networks.threshold\('z', z=3.0\)"):
            networks.threshold(method)
    assert networks.threshold("z").is_thresholded
    null = null_of(np.random.default_rng(1), 100)
    given = NetworkSet(space, maps, null=null).threshold(alpha=0.1)
    assert np.array_equal(given.members, THRESHOLDS["fdr"](maps, null, alpha=0.1))
    assert given.origin.threshold["alpha"] == 0.1
    assert given.origin.threshold["description"] == THRESHOLDS["fdr"].description
    sparse = NetworkSet(space, np.where(maps > 1, maps, 0), origin=Origin("dictlearning")).threshold()
    assert sparse.origin.threshold["method"] == "support"


# -- the mixture ------------------------------------------------------------------------------------------------------


def test_a_mixture_keeps_nothing_of_gaussian_maps():
    noise = np.random.default_rng(0).normal(size=(8, 3000))
    assert THRESHOLDS["mixture"](noise).sum() <= 3  # about one neuron in ten thousand


def test_a_mixture_finds_members_on_both_sides_and_on_one():
    rng = np.random.default_rng(0)
    maps = rng.normal(size=(3, 3000))
    maps[0, :60] += 8
    maps[0, 60:80] -= 8
    maps[1, :60] -= 8
    members = THRESHOLDS["mixture"](maps)
    assert members[0, :80].mean() > 0.95
    assert members[0, 60:80].mean() > 0.9
    assert members[1, :60].mean() > 0.95
    assert members[0, 80:].mean() < 0.005
    assert members[1, 60:].mean() < 0.005
    assert members[2].sum() <= 3
    strict = THRESHOLDS["mixture"](maps, p=0.99)
    assert (strict <= members).all()


def test_a_mixture_takes_heavy_tails_for_members_which_its_description_says():
    laplace = np.random.default_rng(0).laplace(size=(1, 9216))
    assert THRESHOLDS["mixture"](laplace).sum() > 50
    assert "heavy tails count as active" in THRESHOLDS["mixture"].description


def test_a_mixture_of_a_constant_map_finds_nothing():
    for constant in (0.0, 3.0, -1e-3, 1e6):
        assert not THRESHOLDS["mixture"](np.full((2, 300), constant)).any()


# -- what maps are scaled from ----------------------------------------------------------------------------------------


def test_a_sparse_map_is_scaled_from_0_and_any_other_from_its_mean():
    rng = np.random.default_rng(0)
    dense = rng.normal(3, 1, (2, 1000))
    np.testing.assert_array_equal(map_scores(dense), z_scores(dense))
    sparse = np.where(rng.random((2, 1000)) < 0.2, rng.normal(3, 1, (2, 1000)), 0.0)
    found = map_scores(sparse)
    np.testing.assert_array_equal(np.sign(found), np.sign(sparse))
    np.testing.assert_allclose((found**2).mean(axis=1), 1)
    assert (np.sign(z_scores(sparse)) != np.sign(sparse)).any()  # which is why
    mixed = map_scores(np.stack([dense[0], sparse[0], np.zeros(1000)]))
    np.testing.assert_array_equal(mixed[:2], [z_scores(dense[:1])[0], found[0]])
    assert not mixed[2].any()


def test_a_sparse_map_without_extreme_weights_has_no_members():
    rng = np.random.default_rng(0)
    signs = rng.choice([-1.0, 1.0], (3, 1000))
    even = np.where(rng.random((3, 1000)) < 0.3, signs, 0.0)
    assert not THRESHOLDS["z"](even, z=3.0).any()
    even[:, :5] = 40
    assert (THRESHOLDS["z"](even, z=3.0).sum(axis=1) == 5).all()
