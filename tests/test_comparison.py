"""Equal maps match, unrelated maps do not, and arbitrary bases of the same subspace define the null."""

import itertools
import json
import shutil
import warnings

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from typer.testing import CliRunner

from lmri import FastICA, Origin, open_study
from lmri.cli.app import app
from lmri.exceptions import SpaceMismatchError, StudyError
from lmri.networks import NetworkSet
from lmri.networks.comparison import compare, compare_many, compare_time_courses
from lmri.networks.comparison.maps import _hypergeometric, overlap
from lmri.space import NeuronSpace
from phantom import planted
from tolerances import relative, rounding

SPACE = NeuronSpace.build([200] * 4)
K = 10


@pytest.fixture(scope="module")
def maps():
    truth = planted(SPACE, n_networks=K, share=0.03, n_runs=1, n_volumes=2).maps
    return truth + np.random.default_rng(0).normal(scale=0.2, size=truth.shape)


def _set(weights, name="ica", **more):
    return NetworkSet(SPACE, weights.astype(np.float32), method=name, **more)


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
    assert np.allclose(found.table["r"], signs[first], atol=relative(SPACE.n_neurons, np.float32))
    assert np.allclose(found.table["iou"], 1)
    assert found.table["above_null"].all()
    assert found.mean_r > found.null_95


def test_an_arbitrary_basis_of_the_same_subspace_does_not_exceed_the_null(maps):
    beyond = [compare(_set(maps), _set(_rotated(maps, seed))) for seed in range(20)]
    # 5 % of arbitrary bases exceed the 95 % limit; 4 or more of 20 would be a chance of 1.6 %.
    assert sum(one.mean_r > one.null_95 for one in beyond) < 4
    # This is why |r| alone says little.
    r = np.array([one.mean_r for one in beyond])
    assert 0.4 < r.mean() < 0.7
    assert np.isclose(r.mean(), beyond[0].null_mean, atol=5 * r.std() / np.sqrt(20))  # 5 standard errors


def test_unrelated_maps_do_not_match():
    rng = np.random.default_rng(0)
    found = compare(*(_set(rng.laplace(size=(K, SPACE.n_neurons))) for _ in range(2)))
    assert found.mean_r < 0.15


def test_sets_of_different_size_match_as_far_as_they_go(maps):
    found = compare(_set(maps), _set(maps[:4]))
    assert len(found.table) == 4
    assert np.allclose(found.table["r"], 1, atol=relative(SPACE.n_neurons, np.float32))
    assert "iou" not in found.table  # no members before a threshold


def test_the_overlap_of_two_empty_networks_is_missing(maps):
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
    """Draw two unmixings of the same data, as in temporal ICA: ``R s V``, far from orthogonal."""
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


# -- overlap ----------------------------------------------------------------------------------------------------------

RAGGED = NeuronSpace.build([40, 300])


def _members(rng, counts, space=RAGGED):
    members = np.zeros(space.n_neurons, dtype=bool)
    for first, width, count in zip(space.offsets, space.widths, counts, strict=False):
        members[first + rng.choice(width, count, replace=False)] = True
    return members


def test_the_limit_of_iou_is_that_of_random_members_of_the_same_layers():
    rng = np.random.default_rng(0)
    pairs = [(_members(rng, (20, 30)), _members(rng, (15, 60))) for _ in range(2000)]
    found = np.array([overlap(RAGGED, ours, theirs) for ours, theirs in pairs])
    assert len(set(found[:, 1])) == 1  # the profiles decide
    sampled = np.quantile(found[:, 0], 0.95, method="higher")
    assert np.isclose(found[0, 1], sampled, atol=0.01)  # a neighbouring size at most
    assert 0.01 < (found[:, 0] > found[:, 1]).mean() <= 0.06


def test_overlap_forced_by_layer_profiles_is_not_significant():
    rng = np.random.default_rng(0)
    crowded = [overlap(RAGGED, _members(rng, (20, 10)), _members(rng, (18, 15))) for _ in range(100)]
    anywhere = stats.hypergeom(RAGGED.n_neurons, 30, 33).ppf(0.95)
    assert np.mean([iou > anywhere / (63 - anywhere) for iou, _ in crowded]) > 0.9  # had layers been forgotten
    assert np.mean([iou > limit for iou, limit in crowded]) < 0.12


def test_the_chance_of_an_overlap_is_that_of_scipy():
    for width, a, b in ((40, 20, 15), (40, 39, 30), (3072, 60, 45), (11008, 3000, 2500), (7, 0, 3), (7, 7, 7)):
        first, chance = _hypergeometric(width, a, b)
        sizes = first + np.arange(len(chance))
        close = rounding(width * np.log(width), 9)  # of 9 logarithms of factorials
        assert np.allclose(chance, stats.hypergeom(width, a, b).pmf(sizes), rtol=close, atol=close**2)
        assert np.isclose(chance.sum(), 1, atol=close)


def test_the_limit_rises_with_the_number_of_maps_to_choose_from():
    rng = np.random.default_rng(0)
    chosen = []
    for _ in range(300):
        ours = _members(rng, (20, 30))
        found = [overlap(RAGGED, ours, _members(rng, (15, 60)), 10) for _ in range(10)]
        chosen.append(max(found))
    assert 0.005 < np.mean([iou > limit for iou, limit in chosen]) < 0.08
    one, ten = (overlap(RAGGED, ours, ours, n)[1] for n in (1, 10))
    assert one < ten


def test_iou_of_related_maps_exceeds_its_null_and_of_unrelated_ones_does_not(maps):
    noisy = maps + np.random.default_rng(5).normal(scale=0.2, size=maps.shape)
    assert compare(_set(maps).threshold("z", z=3), _set(noisy).threshold("z", z=3)).table["above_iou_null"].all()
    rng = np.random.default_rng(0)
    beyond = []
    for _ in range(10):
        sets = [_set(rng.laplace(size=(K, SPACE.n_neurons))).threshold("z", z=2.5) for _ in range(2)]
        beyond.append(compare(*sets).table["above_iou_null"].mean())
    assert np.mean(beyond) < 0.05


def test_maps_of_full_layers_overlap_by_force_and_not_beyond_chance():
    full = np.ones(RAGGED.n_neurons, dtype=bool)
    assert overlap(RAGGED, full, full) == (1.0, 1.0)


# -- consensus --------------------------------------------------------------------------------------------------------


def _sharing(n_sets, n_shared, n_own, seed=0, noise=0.3):
    """Draw sets with some shared networks; the maps of each set have another order and other signs."""
    rng = np.random.default_rng(seed)
    truth = planted(SPACE, n_shared + n_sets * n_own, share=0.03, n_runs=1, n_volumes=2, seed=seed).maps
    sets, orders = [], []
    for number in range(n_sets):
        first = n_shared + number * n_own
        own = np.concatenate([truth[:n_shared], truth[first : first + n_own]])
        order = rng.permutation(len(own))
        own = own[order] * rng.choice([-1, 1], size=(len(own), 1)) + rng.normal(scale=noise, size=own.shape)
        sets.append(_set(own, f"set{number}", metrics=pd.DataFrame({"variance": own.std(axis=1), "iq": 0.9})))
        orders.append(order)
    return sets, orders


def _as_groups(found):
    """Return the networks of a consensus as sets of map names."""
    return {frozenset(row[name] for name in found.names if row[name]) for row in found.table.to_dict("records")}


def test_three_sets_that_share_five_of_eight_networks_have_these_five_in_common():
    sets, orders = _sharing(3, n_shared=5, n_own=3)
    found = compare_many([one.threshold("z", z=3) for one in sets])
    truth = {
        frozenset(f"set{number}-{list(order).index(network):02d}" for number, order in enumerate(orders))
        for network in range(5)
    }
    assert _as_groups(found) == truth
    assert (found.table["found_by"] == 3).all()
    assert found.n_found_by_all == 5
    assert (found.table["mean_r"] > found.table["r_limit"]).all()
    assert (found.table["mean_iou"] > found.table["iou_null_95"]).all()
    assert found.overview["n_found"].tolist() == [5, 5, 5]
    assert np.allclose(found.table["iq"], 0.9)
    row = found.table.iloc[0]
    own = [one.metrics["variance"][one.names.index(row[one.method])] for one in sets]
    assert np.isclose(row["variance"], np.mean(own))


def test_a_network_of_two_of_three_sets_is_found_by_two():
    sets, _ = _sharing(3, n_shared=6, n_own=0)
    short = _set(sets[2].weights[:4], "set2")
    found = compare_many([sets[0], sets[1], short])
    assert sorted(found.table["found_by"]) == [2, 2, 3, 3, 3, 3]
    absent = found.table["set2"] == ""
    assert (found.table.loc[absent, "found_by"] == 2).all()
    assert np.isnan(found.strength[2]).tolist() == absent.tolist()
    assert np.isfinite(found.strength[:2]).all()


def test_the_order_of_the_sets_does_not_matter():
    sets, _ = _sharing(4, n_shared=4, n_own=2, noise=0.6)
    there = compare_many(sets)
    for order in itertools.islice(itertools.permutations(range(4)), 1, None, 7):
        back = compare_many([sets[place] for place in order])
        assert _as_groups(back) == _as_groups(there)
        assert np.allclose(back.table["mean_r"], there.table["mean_r"])


def test_two_of_many_are_compared_as_two_alone(maps):
    sets, _ = _sharing(3, n_shared=4, n_own=2)
    alone, among = compare(sets[0], sets[2], seed=3), compare_many(sets, seed=3).comparisons[0, 2]
    pd.testing.assert_frame_equal(alone.table, among.table)
    assert (alone.null_mean, alone.null_95) == (among.null_mean, among.null_95)


def test_a_set_agrees_with_itself_in_everything(maps):
    found = compare_many([_set(maps), _set(-maps), _set(maps[::-1])])
    assert found.names == ("ica.1", "ica.2", "ica.3")
    assert (found.table["found_by"] == 3).all()
    assert len(found.table) == K
    assert np.allclose(found.strength, 1, atol=relative(SPACE.n_neurons, np.float32))
    assert np.allclose(found.table["mean_r"], 1, atol=relative(SPACE.n_neurons, np.float32))


@pytest.mark.parametrize("kind", ["unrelated", "unmixings of one subspace"])
def test_sets_without_networks_in_common_have_no_consensus(kind):
    truth = planted(SPACE, 6, share=0.03, n_runs=1, n_volumes=2).maps
    beyond = 0
    for seed in range(20):
        rng = np.random.default_rng(seed)
        if kind == "unrelated":
            weights = [rng.laplace(size=(6, SPACE.n_neurons)) for _ in range(3)]
        else:
            weights = [_rotated(truth, 100 * seed + number) for number in range(3)]
        found = compare_many([_set(one, f"set{number}") for number, one in enumerate(weights)], seed)
        beyond += len(found.table) > 0
    # Nominal is at most 5 %; 4 or more of 20 would be a chance of 1.6 %.
    assert beyond < 4


def test_an_empty_consensus_has_all_columns():
    rng = np.random.default_rng(0)
    found = compare_many([_set(rng.laplace(size=(3, SPACE.n_neurons)), name) for name in "ab"])
    assert found.table.empty
    assert list(found.table)[-2:] == ["a", "b"]
    assert found.strength.shape == (2, 0)


def test_no_chain_of_likenesses_makes_a_network():
    """Each map is similar to the next only: the first and the last are unrelated, and must not form one network."""
    parts = np.random.default_rng(0).normal(size=(4, 5, SPACE.n_neurons))
    sets = [_set(parts[number] + parts[number + 1], f"set{number}") for number in range(3)]
    found = compare_many(sets)
    assert (found.pairs["n_found"] > 0).tolist() == [True, False, True]  # 0-1, 0-2, 1-2
    assert (found.table["found_by"] == 2).all()


def test_sets_standardized_differently_are_refused_unless_asked_for(maps):
    run, study = (_set(maps, scope, origin=Origin(parameters={"scope": scope})) for scope in ("run", "study"))
    for function in (lambda **more: compare(run, study, **more), lambda **more: compare_many([run, study], **more)):
        with pytest.raises(ValueError, match=r"scope \('run' and 'study'\).*same_standardization=False"):
            function()
        function(same_standardization=False)
    compare(run, _set(maps))  # what is not known is not refused


def test_one_set_and_names_that_do_not_fit_are_refused(maps):
    with pytest.raises(ValueError, match="at least 2"):
        compare_many([_set(maps)])
    for names in (["a"], ["a", "a"], ["a", "variance"]):
        with pytest.raises(ValueError, match="different names are needed"):
            compare_many([_set(maps), _set(maps)], names=names)


# -- time courses -----------------------------------------------------------------------------------------------------


def _read(rng, n_networks=4, lengths=(30, 45, 20, 38, 27, 33) * 4, n_runs=2):
    """Simulate slow time courses of two runs, as in texts, with the text id of each volume."""
    texts = np.repeat(np.arange(len(lengths)), lengths)
    noise = rng.laplace(size=(len(texts), n_networks))
    courses = np.concatenate(
        [np.apply_along_axis(np.convolve, 0, noise[texts == text], np.ones(8), "same") for text in range(len(lengths))]
    )
    split = np.flatnonzero(texts == len(lengths) // n_runs)[0]
    return [courses[:split], courses[split:]], [texts[:split], texts[split:]]


def test_time_courses_of_two_sites_that_carry_the_same_networks_match():
    rng = np.random.default_rng(0)
    ours, texts = _read(rng)
    theirs = [run[:, [2, 0, 3, 1]] * [1, -1, 1, 1] + rng.normal(size=run.shape) for run in ours]
    found = compare_time_courses(ours, theirs, texts, names=("out", "hidden"))
    pairs = {(row["first"], row["second"], row["r"] > 0) for row in found.table.to_dict("records")}
    assert pairs == {
        ("out-00", "hidden-01", False),
        ("out-01", "hidden-03", True),
        ("out-02", "hidden-00", True),
        ("out-03", "hidden-02", True),
    }
    assert found.table["above_null"].all()
    assert found.mean_r > found.null_95
    assert found.n_texts == 24


@pytest.mark.parametrize("kind", ["unrelated", "unmixings of one subspace"])
def test_time_courses_without_networks_in_common_stay_within_the_null(kind):
    beyond = []
    for seed in range(20):
        rng = np.random.default_rng(seed)
        ours, texts = _read(rng)
        mixing = np.linalg.qr(rng.normal(size=(4, 4)))[0]
        theirs = _read(rng)[0] if kind == "unrelated" else [run @ mixing for run in ours]
        found = compare_time_courses(ours, theirs, texts, seed)
        beyond.append(found.table["above_null"].mean())
    assert np.mean(beyond) < 0.12  # nominal is 5 %, and pairs of one comparison depend on each other


def test_neighbouring_volumes_do_not_count_as_independent():
    """Slow time courses have higher chance correlations than the same number of independent volumes."""
    rng = np.random.default_rng(0)
    slow, texts = _read(rng)
    fast = [rng.normal(size=run.shape) for run in slow]
    limits = [
        compare_time_courses(one, other, texts).table["r_texts_95"].max()
        for one, other in ((slow, _read(rng)[0]), (fast, [rng.normal(size=run.shape) for run in fast]))
    ]
    assert limits[0] > 1.5 * limits[1]


def test_time_courses_of_other_runs_or_too_few_texts_are_refused():
    ours, texts = _read(np.random.default_rng(0))
    with pytest.raises(ValueError, match="same corpora at both sites"):
        compare_time_courses(ours, ours[:1], texts)
    with pytest.raises(ValueError, match="2 texts; at least 5"):
        compare_time_courses(ours, ours, [np.zeros(len(run)) for run in ours])


def test_comparing_maps_of_two_sites_refers_to_time_courses(maps):
    hidden = NetworkSet(NeuronSpace.build([200] * 4, site="mlp_hidden"), maps, method="hidden")
    with pytest.raises(SpaceMismatchError, match="compare_time_courses"):
        compare(_set(maps), hidden)


# -- in a study -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def decomposed(recorded, tmp_path_factory):
    """Create a study with three decompositions at one site and one at the other."""
    study = open_study(shutil.copytree(recorded.root, tmp_path_factory.mktemp("compared") / "study"))
    made = [("three", "mlp_out", 3, "run"), ("four", "mlp_out", 4, "run"), ("again", "mlp_out", 3, "run")]
    made += [("study", "mlp_out", 3, "study"), ("three", "mlp_hidden", 3, "run")]
    for name, site, n_components, scope in made:
        recording = study.recording("words", site)
        estimator = FastICA(recording.space, n_components, kind="spatial", scope=scope)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # whether so small a fit converges does not matter here
            study.save_decomposition(estimator.fit(recording.imgs), [recording], name)
        study.save_networks(study.decomposition(name, site).threshold("z", z=2.0), name)
    return study


def _run(*words):
    return CliRunner().invoke(app, ["compare", *map(str, words)])


def _opened(study, name):
    return study.comparison(name, "mlp_out")


def test_three_stored_sets_are_compared_stored_and_drawn(decomposed, tmp_path):
    figure = tmp_path / "figure.svg"
    done = _run(decomposed.root, "three", "four", "again", "--site", "mlp_out", "--figure", figure, "--json")
    assert done.exit_code == 0, done.output
    content, found = json.loads(done.stdout), _opened(decomposed, "three--four--again")
    assert [row["found_by"] for row in content["consensus"]] == found.table["found_by"].tolist()
    assert found.names == ("three", "four", "again")
    assert (found.table["three"] == found.table["again"].str.replace("again", "three")).sum() == 3  # the same maps
    assert figure.read_text().startswith("<svg")
    again = _run(decomposed.root, "three", "four", "again", "--site", "mlp_out")
    assert again.exit_code == 0, again.output
    assert f"{len(found.table)} networks were found" in again.stdout
    page = decomposed.report(tmp_path / "report.html").read_text()
    assert f"<b>{len(found.table)}</b> networks were found by two or more of 3 sets" in page


def test_two_sites_are_compared_by_their_time_courses(decomposed, tmp_path):
    done = _run(decomposed.root, "three@mlp_out", "three@mlp_hidden", "--json")
    assert done.exit_code == 0, done.output
    content, found = json.loads(done.stdout), _opened(decomposed, "three--three-mlphidden")
    assert content["mean_abs_r"] == found.mean_r
    ours, theirs = (
        np.concatenate([table for _, _, table in decomposed.time_courses("three", site)])
        for site in ("mlp_out", "mlp_hidden")
    )
    both = np.corrcoef(ours.T, theirs.T)[:3, 3:]
    assert np.allclose(found.correlation, both)
    assert found.n_texts == len(decomposed.recording("words", "mlp_out").fit_texts)
    assert "three@mlp_hidden" in decomposed.report(tmp_path / "report.html").read_text()
    many = _run(decomposed.root, "three@mlp_out", "four@mlp_out", "three@mlp_hidden")
    assert many.exit_code == 1
    assert "Compare two sets at a time" in many.stderr


def test_the_command_refuses_what_cannot_be_compared(decomposed):
    twice = _run(decomposed.root, "three@mlp_out", "three", "--site", "mlp_out")
    assert twice.exit_code == 1
    assert "three@mlp_out was named twice" in twice.stderr
    mixed = ("three", "study", "--site", "mlp_out", "--name", "mixed")
    refused = _run(decomposed.root, *mixed)
    assert refused.exit_code == 1
    assert "--mixed-standardization" in refused.stderr
    assert _run(decomposed.root, *mixed, "--mixed-standardization").exit_code == 0
    assert _opened(decomposed, "mixed").mean_r > 0


def test_a_consensus_of_networks_that_were_replaced_is_refused(decomposed, tmp_path):
    copy = open_study(shutil.copytree(decomposed.root, tmp_path / "study"))
    copy.save_comparison(
        compare_many([copy.networks(name, "mlp_out") for name in ("three", "four", "again")]), 0, "all"
    )
    shutil.rmtree(copy.layout.entry("networks", "mlp_out", "again"))
    copy.save_networks(copy.decomposition("again", "mlp_out").threshold("z", z=1.0), "again")
    with pytest.raises(StudyError, match="out of date: the networks 'again'"):
        copy.comparison("all", "mlp_out")
