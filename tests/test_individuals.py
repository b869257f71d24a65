"""Differences between texts are found in simulated neurons only, and circular analyses are refused."""

import dataclasses
import math

import numpy as np
import pandas as pd
import pytest

from lmri.decomposition.individuals import (
    Individuals,
    contrast,
    dual_regression,
    find_templates,
    one_sample,
    template_overlap,
    text_imgs,
)
from lmri.decomposition.individuals.t_statistics import one_sample_t, two_sample_t
from lmri.decomposition.individuals.templates import chance_of_overlap, count_distribution
from lmri.exceptions import DataWarning, NotThresholdedError, SpaceMismatchError
from lmri.lesions.controls import MatchedControls
from lmri.networks import NetworkSet
from lmri.space import NeuronSpace
from lmri.storage import text_hash
from tolerances import rounding

SPACE = NeuronSpace.build([50] * 6)
K, SIZE = 3, 12
N_TEXTS, T = 16, 60


def group_maps(seed=0):
    rng = np.random.default_rng(seed)
    maps = np.zeros((K, SPACE.n_neurons))
    for one in maps:
        one[rng.choice(SPACE.n_neurons, SIZE, replace=False)] = rng.choice([-1.0, 1.0], SIZE)
    return maps


MAPS = group_maps()
NETWORKS = NetworkSet(SPACE, MAPS, method="group", fit_texts=frozenset([text_hash("made the maps")]))
TEXTS = [f"text-{number:02d}" for number in range(N_TEXTS)]
GROUPS = dict(zip(TEXTS, ["a", "b"] * (N_TEXTS // 2), strict=True))
HASHES = {name: text_hash(name) for name in TEXTS}


def texts_of_noise(seed, gain=None, strength=0.0):
    """Simulate one array per text: noise, and networks with a separate gain in every text."""
    rng = np.random.default_rng(seed)
    gain = np.ones((N_TEXTS, K)) if gain is None else gain
    return [
        (strength * rng.laplace(size=(T, K)) * one) @ MAPS + rng.normal(size=(T, SPACE.n_neurons)) + rng.normal()
        for one in gain
    ]


def of_texts(arrays, **options):
    """Compute the dual regression of two runs that contain the texts in order."""
    half = len(arrays) // 2
    runs = [np.concatenate(arrays[:half]), np.concatenate(arrays[half:])]
    names = np.repeat(TEXTS[: len(arrays)], [len(one) for one in arrays])
    cut = len(runs[0])
    hashes = {name: HASHES[name] for name in TEXTS[: len(arrays)]}
    options = {"texts": [names[:cut], names[cut:]], "text_hashes": hashes, **options}
    return dual_regression(NETWORKS, runs, **options)


def oracle(array, maps, normalize):
    """Compute both stages by least squares of numpy."""
    ones = np.ones(len(maps[0]))
    courses = np.linalg.lstsq(np.column_stack([maps.T, ones]), array.T, rcond=None)[0][:-1].T
    used = (courses - courses.mean(axis=0)) / courses.std(axis=0) if normalize else courses
    return courses, np.linalg.lstsq(np.column_stack([used, np.ones(len(used))]), array, rcond=None)[0][:-1]


@pytest.fixture(scope="module")
def scaled():
    """The second network is 2.5 times as strong in the texts of group b."""
    gain = np.ones((N_TEXTS, K))
    gain[1::2, 1] = 2.5
    return texts_of_noise(0, gain, strength=0.7)


# -- stages 1 and 2 ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("normalize", [True, False])
def test_both_stages_are_least_squares(scaled, normalize):
    found = of_texts(scaled, standardize="none", variance_normalized=normalize)
    assert found.names == tuple(TEXTS)
    for place in (0, 7, 15):
        courses, maps = oracle(scaled[place], MAPS, normalize)
        assert np.allclose(found.time_courses[place], courses, atol=rounding(courses, SPACE.n_neurons, np.float32))
        assert np.allclose(found.maps[place], maps, atol=rounding(maps, T, np.float32))
    assert found.variance_normalized is normalize
    assert found.info["variance_normalized"] is normalize


def test_t_is_that_of_the_second_regression(scaled):
    found = of_texts(scaled, standardize="none")
    courses, _ = oracle(scaled[3], MAPS, normalize=False)
    design = np.column_stack([courses, np.ones(T)])
    beta, rss, *_ = np.linalg.lstsq(design, scaled[3], rcond=None)
    error = np.sqrt(np.diag(np.linalg.inv(design.T @ design))[:, None] * rss / (T - K - 1))
    t = (beta / error)[:-1]
    assert np.allclose(found.t[3], t, atol=rounding(t, T, np.float32))


@pytest.mark.parametrize("normalize", [True, False])
def test_leaving_a_neuron_out_is_doing_everything_without_it(scaled, normalize):
    found = of_texts(scaled, standardize="none", variance_normalized=normalize, leave_own_out=True)
    member, other = np.flatnonzero(MAPS[0])[0], np.flatnonzero(~MAPS.any(axis=0))[0]
    for neuron in (member, other):
        rest = np.arange(SPACE.n_neurons) != neuron
        courses, _ = oracle(scaled[2][:, rest], MAPS[:, rest], normalize=False)
        used = (courses - courses.mean(axis=0)) / (courses.std(axis=0) if normalize else 1)
        beta = np.linalg.lstsq(np.column_stack([used, np.ones(T)]), scaled[2][:, neuron], rcond=None)[0]
        assert np.allclose(found.maps[2][:, neuron], beta[:-1], atol=rounding(beta, T, np.float32))


def test_planted_networks_come_back_in_every_text(scaled):
    def likeness(arrays, **options):
        maps = of_texts(arrays, **options).maps
        return np.array([[np.corrcoef(maps[text, k], MAPS[k])[0, 1] for k in range(K)] for text in range(N_TEXTS)])

    assert likeness(scaled).min() > 0.6
    # Not so in noise, where neurons are left out of their own time courses; a plain dual regression gives them back.
    assert likeness(scaled, leave_own_out=True).min() > 0.5
    assert abs(likeness(texts_of_noise(1), leave_own_out=True).mean()) < 0.05
    assert likeness(texts_of_noise(1)).mean() > 0.3


def test_an_individual_is_a_text_or_a_run(scaled):
    runs = [np.concatenate(scaled[:8]), np.concatenate(scaled[8:])]
    whole = dual_regression(NETWORKS, runs, standardize="none")
    assert whole.names == ("run-001", "run-002")
    close = rounding(whole.maps, 8 * T, np.float32)
    assert np.allclose(whole.maps[1], oracle(runs[1], MAPS, normalize=True)[1], atol=close)
    as_imgs = dual_regression(NETWORKS, [SPACE.to_img(run.astype(np.float32)) for run in runs], standardize="none")
    assert np.allclose(as_imgs.maps, whole.maps, atol=close)
    assert of_texts(scaled, unit="run", text_hashes=None).names == ("run-001", "run-002")
    # Standardized by itself, a text does not know of the others.
    alone = of_texts(scaled, scope="individual")
    louder = of_texts([9 * scaled[0], *scaled[1:]], scope="individual")
    assert np.allclose(alone.maps, louder.maps, atol=close)
    assert not np.allclose(of_texts(scaled).maps[1], of_texts([9 * scaled[0], *scaled[1:]]).maps[1], atol=100 * close)


def test_one_individual_is_a_network_set(scaled):
    found = of_texts(scaled)
    own = found["text-03"]
    assert np.array_equal(own.weights, found.maps[3])
    assert own.fit_texts == NETWORKS.fit_texts | {HASHES["text-03"]}
    with pytest.raises(KeyError, match="no individual 'x'"):
        found["x"]


def test_individuals_that_are_too_short_are_refused_or_listed(scaled):
    arrays = [scaled[0][: 3 * K - 1], *scaled[1:]]
    with pytest.raises(ValueError, match=r"1 of 16 .* 'text-00' has 8 volumes, and 3 maps need at least 9"):
        of_texts(arrays)
    found = of_texts(arrays, too_short="skip")
    assert found.left_out == ("text-00",)
    assert found.names == tuple(TEXTS[1:])
    assert np.isfinite(found.maps).all()
    assert len(of_texts([scaled[0][: 3 * K], *scaled[1:]])) == N_TEXTS
    with pytest.raises(ValueError, match="16 of 16 individuals are too short"):
        of_texts([one[:5] for one in scaled], too_short="skip")


def test_data_that_do_not_fit_are_refused(scaled):
    with pytest.raises(SpaceMismatchError, match="Run 1 has 4 neurons"):
        dual_regression(NETWORKS, [np.ones((30, 4))])
    with pytest.raises(ValueError, match="'text-00' is in runs 1 and 2"):
        dual_regression(NETWORKS, scaled[:2], texts=[["text-00"] * T] * 2)
    with pytest.raises(ValueError, match="has 5 entries for a run of"):
        dual_regression(NetworkSet(SPACE, MAPS[:1]), scaled[:1], texts=[["text-00"] * 5])
    with pytest.raises(ValueError, match="text_hashes names 'nobody'"):
        dual_regression(NETWORKS, scaled[:1], text_hashes={"nobody": "0"})
    with pytest.raises(ValueError, match="'group-01' are constant"):
        dual_regression(NetworkSet(SPACE, MAPS * [[1], [0], [1]], method="group"), scaled[:1])
    with pytest.raises(ValueError, match="not linearly independent"):
        dual_regression(NetworkSet(SPACE, np.vstack([MAPS, MAPS[0] + MAPS[1]])), scaled[:1])
    with pytest.raises(ValueError, match=r"'run-001': the time courses of its 60 volumes are constant"):
        dual_regression(NETWORKS, [np.ones((T, 1)) * np.arange(SPACE.n_neurons)])
    with pytest.raises(ValueError, match="standardize is 'psc'"):
        dual_regression(NETWORKS, scaled[:1], standardize="psc")


# -- stage 3: contrasts -----------------------------------------------------------------------------------------------


def test_a_contrast_finds_the_network_that_is_stronger_in_one_group_and_nothing_else(scaled):
    found = contrast(of_texts(scaled), GROUPS, n_permutations=400)
    members = found.threshold().members
    assert members[1][MAPS[1] != 0].mean() >= 0.9
    assert members[1][MAPS[1] == 0].sum() <= 1
    assert members[[0, 2]].sum() <= 2
    # a minus b, and b is stronger.
    assert (np.sign(found.effect[1]) == -np.sign(MAPS[1]))[MAPS[1] != 0].all()
    assert found.table["n_significant"].tolist() == members.sum(axis=1).tolist()
    assert found.groups["a"] == tuple(TEXTS[::2])
    # Drawn relabellings count the observed one among them: no p of 0.
    reached = (found.max_t[:, 1] >= np.abs(found.t[1]).max()).sum()
    assert found.p[1].min() == pytest.approx((1 + reached) / 401)
    assert found.p_floor == pytest.approx(1 / 401)


def test_without_variance_normalization_strength_is_not_in_the_maps_and_it_is_said(scaled):
    with pytest.warns(DataWarning, match="not variance-normalized"):
        found = contrast(of_texts(scaled, variance_normalized=False), GROUPS, n_permutations=400)
    assert (found.p[1] <= 0.05).sum() <= 1


def of_maps(maps, **options):
    n_texts, n_maps, n_neurons = maps.shape
    space = NeuronSpace.build([n_neurons])
    networks = NetworkSet(space, np.zeros((n_maps, n_neurons)))
    names = tuple(f"text-{number:02d}" for number in range(n_texts))
    return Individuals(networks, names, maps, maps, (), True, leave_own_out=True, **options)


def test_labels_that_mean_nothing_find_something_in_5_percent():
    # 400 studies of ten texts at once, with neurons that are heavy-tailed, and like each other.
    rng = np.random.default_rng(0)
    maps = rng.standard_t(4, size=(10, 400, 40)) + rng.normal(size=(10, 400, 1))
    found = contrast(of_maps(maps), ["a"] * 5 + ["b"] * 5, n_permutations=math.comb(10, 5))
    assert found.info["exact"]
    assert found.p_floor == pytest.approx(2 / 252)
    rate = (found.p.min(axis=1) <= 0.05).mean()
    assert 0.02 < rate < 0.08  # 4.8 %, with a standard error of 1.1 %
    # Without a correction nearly all of them find something: the negative control.
    assert (np.abs(found.t).max(axis=1) > 2.31).mean() > 0.5
    drawn = contrast(of_maps(maps), ["a"] * 5 + ["b"] * 5, n_permutations=199)
    assert not drawn.info["exact"]
    assert 0.02 < (drawn.p.min(axis=1) <= 0.05).mean() < 0.08
    assert drawn.p.min() >= 1 / 200


def test_groups_of_other_size_and_variance_of_texts():
    rng = np.random.default_rng(1)
    maps = rng.normal(size=(12, 300, 30))
    found = contrast(of_maps(maps), ["a"] * 3 + ["b"] * 9, n_permutations=math.comb(12, 3))
    assert found.p_floor == pytest.approx(1 / 220)
    assert 0.02 < (found.p.min(axis=1) <= 0.05).mean() < 0.08


def test_the_family_of_all_maps_is_stricter():
    rng = np.random.default_rng(2)
    individuals = of_maps(rng.normal(size=(12, 10, 30)))
    groups = ["a", "b"] * 6
    by_map, by_set = (contrast(individuals, groups, 300, family=family) for family in ("map", "set"))
    assert (by_set.p >= by_map.p).all()
    assert by_set.p.mean() > by_map.p.mean()
    assert np.array_equal(by_set.max_t[:, 0], by_map.max_t.max(axis=1))


@pytest.mark.parametrize("pooled_variance", [True, False])
def test_t_is_scipys(pooled_variance):
    from scipy import stats

    rng = np.random.default_rng(0)
    Y = rng.normal(size=(13, 40)) * rng.uniform(0.1, 9, 40) + 100
    Y[:, 0] = 4.0  # does not vary
    labels = np.arange(13) < 5
    expected = stats.ttest_ind(Y[labels, 1:], Y[~labels, 1:], equal_var=pooled_variance).statistic
    found = two_sample_t(Y, labels[None], pooled_variance)[0]
    assert found[0] == 0
    assert np.allclose(found[1:], expected)
    assert np.allclose(one_sample_t(Y[:, 1:], np.ones((1, 13)))[0], stats.ttest_1samp(Y[:, 1:], 0).statistic)


def test_groups_are_checked(scaled):
    individuals = of_texts(scaled)
    with pytest.raises(ValueError, match="3 different values"):
        contrast(individuals, ["a", "b", "c", "a"] * 4)
    with pytest.raises(ValueError, match="groups has 3 entries for 16"):
        contrast(individuals, ["a", "b", "a"])
    with pytest.raises(ValueError, match="'nobody', which is not an individual"):
        contrast(individuals, {**GROUPS, "nobody": "a"})
    with pytest.raises(ValueError, match=r"1 \('a'\) and 15 \('b'\)"):
        contrast(individuals, ["a"] + ["b"] * 15)
    with pytest.raises(ValueError, match=r"groups of 3 and 3 texts .* smallest possible p is 0\.1"):
        contrast(individuals, dict(list(GROUPS.items())[:6]))
    with pytest.raises(ValueError, match=r"10 permutations the smallest possible p is 0\.0909"):
        contrast(individuals, GROUPS, n_permutations=10)
    with pytest.raises(ValueError, match="family is 'neuron'"):
        contrast(individuals, GROUPS, family="neuron")
    with pytest.raises(ValueError, match="smallest possible p"):
        contrast(individuals, GROUPS, n_permutations=99).threshold(alpha=0.001)
    # A part of the texts can be compared.
    assert len(contrast(individuals, dict(list(GROUPS.items())[:8]), 100).groups["b"]) == 4


def test_a_contrast_says_if_one_group_made_the_maps(scaled):
    individuals = of_texts(scaled)
    made = dataclasses.replace(NETWORKS, fit_texts=frozenset(HASHES[name] for name in TEXTS[::2]))
    with pytest.warns(DataWarning, match="100% of 'a' and 0% of 'b'"):
        contrast(dataclasses.replace(individuals, networks=made), GROUPS, 100)


# -- stage 3: one sample ----------------------------------------------------------------------------------------------


def test_one_sample_finds_planted_members():
    found = one_sample(of_texts(texts_of_noise(5, strength=0.7), leave_own_out=True), 400)
    members = found.threshold().members
    assert members[MAPS != 0].mean() >= 0.9
    assert members[MAPS == 0].sum() <= 3
    assert (np.sign(found.effect) == np.sign(MAPS))[MAPS != 0].all()


def test_one_sample_finds_nothing_in_noise_where_a_plain_dual_regression_would_find_the_members():
    n_found, by_plain = 0, 0
    for seed in range(20):
        noise = texts_of_noise([9, seed])
        n_found += (one_sample(of_texts(noise, leave_own_out=True), 99).p.min(axis=1) <= 0.05).sum()
        if seed < 3:
            plain = dataclasses.replace(of_texts(noise), leave_own_out=True)  # as if it were
            by_plain += (one_sample(plain, 99).p <= 0.05)[MAPS != 0].mean() / 3
    assert n_found <= 8  # of 60 maps, 3 expected; 9 or more have a probability of 0.4 %
    assert by_plain > 0.9


def test_one_sample_errs_in_5_percent():
    maps = np.random.default_rng(0).standard_t(4, size=(8, 400, 40))
    found = one_sample(of_maps(maps), 2**8, independent=True)
    assert found.info["exact"]
    assert found.info["independent"] == "stated"
    assert found.p_floor == pytest.approx(2 / 256)
    assert 0.02 < (found.p.min(axis=1) <= 0.05).mean() < 0.08


def test_texts_that_made_the_maps_are_refused(scaled):
    individuals = of_texts(scaled, leave_own_out=True)
    made = dataclasses.replace(NETWORKS, fit_texts=frozenset([HASHES["text-05"]]))
    dipped = dataclasses.replace(individuals, networks=made)
    for independent in (False, True):
        with pytest.raises(ValueError, match=r"1 of 16 texts were used to fit the maps \('text-05'\).*double dipping"):
            one_sample(dipped, independent=independent)
    with pytest.raises(ValueError, match="contributed to"):
        one_sample(of_texts(scaled))
    for unknown in (
        of_texts(scaled, leave_own_out=True, text_hashes=None),
        dataclasses.replace(individuals, networks=dataclasses.replace(NETWORKS, fit_texts=frozenset())),
    ):
        with pytest.raises(ValueError, match="It is unknown whether"):
            one_sample(unknown)
        assert one_sample(unknown, 99, independent=True).info["independent"] == "stated"
    assert one_sample(individuals, 99).info["independent"] == "by hashes"
    few = of_texts(scaled[:4], leave_own_out=True)
    with pytest.raises(ValueError, match=r"4 texts .* smallest possible p is 0\.125"):
        one_sample(few)


# -- templates --------------------------------------------------------------------------------------------------------

DEEP = NeuronSpace.build([40] * 5)


def random_set(n_networks, sizes, rng, space=DEEP):
    """Draw networks with ``sizes[layer]`` members in every layer."""
    mask = np.zeros((n_networks, space.n_neurons), dtype=bool)
    for one in mask:
        for layer, size in enumerate(sizes):
            one[space.offsets[layer] + rng.choice(space.widths[layer], size, replace=False)] = True
    return NetworkSet(space, mask.astype(float), mask)


def test_a_network_overlaps_completely_with_itself_and_above_chance():
    templates = random_set(3, [0, 0, 2, 4, 6], np.random.default_rng(0))
    found = template_overlap(templates, [templates] * 10)
    own = found.iou.reshape(3, 10, 3)
    assert (own[np.arange(3), :, np.arange(3)] == 1).all()
    row = found.table.iloc[0]
    assert row["n_above"] >= 10
    assert row["n_individuals_above"] == 10
    assert row["n_above"] > row["chance_95"]
    assert row["p"] < 1e-6  # ten copies of itself


def test_iou_is_counted_by_hand():
    def of(*members):
        mask = np.zeros((len(members), DEEP.n_neurons), dtype=bool)
        for one, places in zip(mask, members, strict=True):
            one[list(places)] = True
        return NetworkSet(DEEP, mask.astype(float), mask)

    templates = of({0, 1, 2}, {})
    individuals = [of({0, 1, 2, 3}, {}), of({2, 100, 101}, {50})]
    found = template_overlap(templates, individuals, labels=["news", "code"])
    assert np.allclose(found.iou, [[3 / 4, np.nan, 1 / 5, 0], [np.nan] * 4], equal_nan=True)
    assert found.counts.to_dict("list") == {"news": [1, 0], "code": [0, 0]}  # an IoU of 0.2 is not above 0.2
    assert found.table["n_empty"].tolist() == [1, 0, 1, 0]
    assert found.table["n_networks"].tolist() == [2] * 4
    assert found.table["p"].isna().tolist() == [False, False, True, True]
    assert found.chance[1].tolist() == [0] * 4


def test_chance_is_that_of_matched_controls():
    rng = np.random.default_rng(3)
    templates = random_set(1, [0, 3, 0, 9, 20], rng)
    individual = random_set(1, [2, 0, 0, 12, 18], rng)
    profiles = [DEEP.count_per_layer(one.members) for one in (templates, individual)]
    exact = chance_of_overlap(DEEP, *profiles, 0.2)[0, 0]
    controls = MatchedControls(4000)
    drawn = np.array([controls.draw(individual[0], number, 0).members for number in range(controls.n)])
    both, either = (drawn & templates.members[0]).sum(axis=1), (drawn | templates.members[0]).sum(axis=1)
    assert 0.1 < exact < 0.9
    assert abs((both / either > 0.2).mean() - exact) < 4 * np.sqrt(exact * (1 - exact) / controls.n)
    # The template may be drawn as well: only the profiles count.
    assert chance_of_overlap(DEEP, *profiles[::-1], 0.2)[0, 0] == pytest.approx(exact)


def test_random_networks_are_at_chance_and_not_above_chance_in_other_layers_only():
    rng = np.random.default_rng(4)
    sizes = [0, 0, 0, 5, 16]
    tables = []
    for _ in range(40):
        templates = random_set(2, sizes, rng)
        tables.append(template_overlap(templates, [random_set(4, sizes, rng) for _ in range(12)]).table)
    table = pd.concat(tables)
    close = 3 / np.sqrt(table["expected"].sum())  # 3 standard errors of a count
    assert table["n_above"].mean() == pytest.approx(table["expected"].mean(), rel=close)
    assert table["expected"].mean() > 5  # two deep networks are often alike: a level over all layers would miss it
    assert (table["n_above"] > table["chance_95"]).mean() < 0.12
    assert (table["p"] <= 0.05).mean() < 0.12
    flat = chance_of_overlap(NeuronSpace.build([DEEP.n_neurons]), np.array([[21]]), np.array([[21]]), 0.2)[0, 0]
    assert 48 * flat < table["expected"].min() / 2


def test_the_distribution_of_counts():
    p = np.array([0.1, 0.0, 0.7, 0.3])
    law = count_distribution(p)
    assert law.sum() == pytest.approx(1)
    assert law @ np.arange(5) == pytest.approx(p.sum())
    assert np.allclose(
        count_distribution(np.full(6, 0.25)), [math.comb(6, k) * 0.25**k * 0.75 ** (6 - k) for k in range(7)]
    )


def test_template_overlap_checks_what_it_gets():
    rng = np.random.default_rng(0)
    templates = random_set(2, [1] * 5, rng)
    with pytest.raises(NotThresholdedError):
        template_overlap(templates, [NetworkSet(DEEP, np.ones((1, DEEP.n_neurons)))])
    with pytest.raises(SpaceMismatchError):
        template_overlap(templates, [random_set(2, [1] * 6, rng, SPACE)])
    with pytest.raises(ValueError, match="a list of at least one network set"):
        template_overlap(templates, templates)
    with pytest.raises(ValueError, match="labels has 1 entries for 2"):
        template_overlap(templates, [templates] * 2, labels=["news"])
    with pytest.raises(ValueError, match="threshold is 20"):
        template_overlap(templates, [templates], threshold=20)


# -- recordings -------------------------------------------------------------------------------------------------------


def strongest(imgs, space):
    """Substitute a decomposition by the most variable neurons of two directions."""
    X = np.concatenate([space.from_img(img) for img in imgs])
    maps = np.linalg.svd(X - X.mean(axis=0), full_matrices=False)[2][:2]
    return NetworkSet(space, maps).threshold("top", share=0.1)


def test_texts_of_a_recording_are_individuals(recorded):
    recording = recorded.recording(site="mlp_out")
    cut = dict(text_imgs(recording))
    events = pd.concat(recording.events)
    assert {name: img.shape[3] for name, img in cut.items()} == events["text_id"].value_counts().to_dict()
    rng = np.random.default_rng(0)
    networks = NetworkSet(recording.space, rng.normal(size=(1, recording.space.n_neurons)), fit_texts=frozenset("0"))
    found = dual_regression(networks, recording, standardize="none", too_short="skip")
    name = found.names[1]
    array = recording.space.from_img(cut[name])
    assert np.allclose(
        found.maps[1], oracle(array, networks.weights, True)[1], atol=rounding(found.maps[1], len(array))
    )
    text = recording.texts.set_index("text_id").loc[name, "text"]
    assert found.text_hashes[name] == {text_hash(text)}
    by_run = dual_regression(networks, recording, unit="run")
    assert len(by_run) == len(recording.runs)
    assert frozenset().union(*by_run.text_hashes.values()) == set(map(text_hash, recording.fit_texts))
    with pytest.raises(ValueError, match="includes its texts"):
        dual_regression(networks, recording, text_hashes={})


def test_templates_and_individuals_are_of_different_texts(recorded):
    recording = recorded.recording(site="mlp_out")
    seen = []

    def fit(imgs):
        seen.append([img.get_fdata().tobytes() for img in imgs])
        return strongest(imgs, recording.space)

    found = find_templates(fit, recording, n_group=5, n_individual=7, min_volumes=2)
    single, group = [one for one in seen if len(one) == 1], [one for one in seen if len(one) == 5]
    assert (len(single), len(group)) == (7, 1)
    assert not set(group[0]) & {one[0] for one in single}
    assert found.counts.shape == (2, 1)
    assert found.labels == ("words",) * 7
    with pytest.raises(ValueError, match=r"texts of at least 2 volumes .* 500 for the templates"):
        find_templates(fit, recording, n_group=500, min_volumes=2)
