"""Phantoms have the stated properties, and their evaluation equals values computed by hand."""

import json

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
import typer
from scipy import stats
from typer.testing import CliRunner

from lmri.cli.phantom import phantom as command
from lmri.decomposition.phantom import (
    NULLS,
    PHANTOMS,
    Phantom,
    make,
    markdown,
    measure,
    measure_null,
    plant,
    power_by_effect,
    salmon,
    table,
)
from lmri.decomposition.phantom.docs import failures, maps_table, nulls_table, thresholds_table
from lmri.decomposition.phantom.nulls import shift
from lmri.decomposition.phantom.options import TIME_COURSES
from lmri.decomposition.phantom.planting import engagement
from lmri.exceptions import DataWarning, SpaceMismatchError
from lmri.networks import NetworkSet
from lmri.space import NeuronSpace
from tolerances import epsilon, rounding

SPACE = NeuronSpace.build([100, 128, 100])  # one layer wider than the others, so padded
STRONG = {"n_networks": 4, "share": 0.05, "strength": (3.0, 3.0), "n_runs": 3, "n_volumes": 200}


def runs_of(phantom):
    return [phantom.space.from_img(img) for img in phantom.imgs]


def noise_of(phantom):
    return [run - course @ phantom.maps for run, course in zip(runs_of(phantom), phantom.time_courses, strict=True)]


# -- planting ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("weights", ["sharp", "graded"])
def test_residuals_of_the_simulated_networks_are_the_noise(weights):
    phantom = plant(SPACE, **STRONG, weights=weights, noise_sd=2.5)
    noise = np.concatenate(noise_of(phantom))
    assert noise.std() == pytest.approx(2.5, rel=5 / np.sqrt(2 * noise.size))  # 5 standard errors
    courses = np.concatenate(phantom.time_courses)
    slopes = np.linalg.lstsq(courses, noise, rcond=None)[0]
    # Slopes of pure noise: sd 2.5 / sqrt(600) = 0.1; anything planted beside the maps would stand out.
    assert np.abs(slopes).max() < 0.6
    assert np.abs(np.linalg.lstsq(courses, np.concatenate(runs_of(phantom)), rcond=None)[0]).max() > 5


def test_weights_sizes_and_signs_are_as_asked():
    phantom = plant(SPACE, 6, share=0.1, minority=0.25, strength=(0.5, 2.0), n_runs=1, n_volumes=5, noise_sd=2.0)
    assert (phantom.members.sum(axis=1) == 33).all()
    assert ((phantom.maps < 0).sum(axis=1) == 8).all()
    np.testing.assert_allclose(np.sort(phantom.strengths), np.geomspace(0.5, 2.0, 6))  # in noise sds
    assert np.abs(phantom.maps).max() == pytest.approx(4.0)  # in activation units
    assert all(len(np.unique(row[row > 0].round(9))) == 1 for row in phantom.effects)
    graded = plant(SPACE, 6, share=0.1, weights="graded", strength=(1.0, 1.0), n_runs=1, n_volumes=5)
    effects = graded.effects[graded.members]
    assert 0.2 <= effects.min() < 0.4
    assert 1.6 < effects.max() <= 1.8
    assert effects.mean() == pytest.approx(1.0, abs=3 * effects.std() / np.sqrt(effects.size))  # 3 standard errors


def test_networks_are_scattered_over_all_layers():
    counts = SPACE.count_per_layer(plant(SPACE, 5, share=0.2, n_runs=1, n_volumes=5).members)
    assert (counts > 0).all()


def test_every_run_engages_as_many_and_every_network_as_often():
    phantom = plant(SPACE, 20, n_engaged=5, n_runs=10, n_volumes=20)
    on = np.array([course.any(axis=0) for course in phantom.time_courses])
    assert (on.sum(axis=1) == 5).all()
    assert set(on.sum(axis=0)) == {2, 3}
    # Free draws, in contrast, forget networks.
    rng = np.random.default_rng(0)
    free = np.zeros((10, 20), dtype=bool)
    for run in free:
        run[rng.choice(20, 5, replace=False)] = True
    assert free.sum(axis=0).min() == 0
    for n_runs, n_networks, n_engaged in ((7, 6, 4), (3, 5, 5), (4, 8, 2)):
        counts = engagement(n_runs, n_networks, n_engaged, rng).sum(axis=0)
        assert counts.max() - counts.min() <= 1


def test_time_courses_have_variance_1_and_the_tails_of_their_name():
    rng = np.random.default_rng(0)
    drawn = {name: draw(rng, (40_000, 2)) for name, draw in TIME_COURSES.items()}
    for values in drawn.values():
        np.testing.assert_allclose(values.var(axis=0), 1, atol=0.1)  # 4 standard errors at a kurtosis of 25
    kurtosis = {name: stats.kurtosis(values.ravel()) for name, values in drawn.items()}
    assert abs(kurtosis["gaussian"]) < 0.2
    assert kurtosis["laplace"] == pytest.approx(3, abs=5 * np.sqrt(1188 / 80_000))  # 5 standard errors
    assert kurtosis["sparse"] > 20


def test_massive_neurons_are_outside_all_networks_and_spike_together():
    with_them, without = (plant(SPACE, **STRONG, n_massive=100, random_state=1), plant(SPACE, **STRONG, random_state=1))
    run = runs_of(with_them)[0]
    massive = np.flatnonzero(run.mean(axis=0) > 20)
    assert len(massive) == 100
    assert not with_them.members[:, massive].any()
    spikes = run[:, massive] > 1.5 * np.median(run[:, massive], axis=0)
    assert (spikes.sum(axis=0) == 2).all()  # 1 % of 200 volumes
    assert (spikes == spikes[:, :1]).all()
    assert np.abs(runs_of(without)[0].mean(axis=0)).max() < 20


def test_a_trend_follows_the_position_in_a_tenth_of_the_neurons():
    position = np.linspace(-1, 1, 200)

    def following(phantom):
        noise = noise_of(phantom)[0]
        return np.abs([stats.pearsonr(position, neuron).statistic for neuron in noise.T]) > 0.3

    assert 20 <= following(plant(SPACE, **STRONG, trend=3.0)).sum() <= 33
    assert following(plant(SPACE, **STRONG)).sum() == 0


def test_the_same_seed_gives_the_same_phantom_and_another_another():
    one, two, other = (plant(SPACE, **STRONG, random_state=seed) for seed in (3, 3, 4))
    np.testing.assert_array_equal(runs_of(one), runs_of(two))
    assert not np.array_equal(one.maps, other.maps)
    assert not np.allclose(runs_of(one)[0], runs_of(other)[0])


def test_the_hard_phantom_can_be_solved_but_barely():
    """Regression on the true time courses, which nobody has, finds all its networks."""
    phantom = make("hard", NeuronSpace.build([512] * 4))
    courses, runs = np.concatenate(phantom.time_courses), np.concatenate(runs_of(phantom))
    found = NetworkSet(phantom.space, np.linalg.lstsq(courses, runs, rcond=None)[0])
    rows = measure(phantom, found)
    assert rows["found"].all()
    weakest = rows.loc[rows["strength"].idxmin(), "r"]
    assert 0.8 <= weakest < 0.9


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"minority": 0.5}, "sign is undefined"),
        ({"share": 0.0001}, "share is 0.0001, which is 0 of 328 neurons"),
        ({"weights": "soft"}, "choose from 'sharp', 'graded'"),
        ({"time_courses": "uniform"}, "choose from 'laplace'"),
        ({"strength": (2.0, 1.0)}, "the lower one first"),
        ({"n_engaged": 21}, "between 1 and n_networks=20"),
        ({"n_engaged": 1, "n_runs": 10}, "Use more runs, or a larger n_engaged"),
        ({"n_volumes": 1}, "at least 2"),
        ({"n_runs": 0}, "at least 1"),
        ({"noise_sd": 0.0}, "above 0"),
        ({"n_massive": -1}, "at least 0"),
        ({"trend": float("nan")}, "finite"),
        ({"noise_sd": float("inf")}, "finite"),
        ({"strength": (1.0, float("inf"))}, "finite"),
    ],
)
def test_what_cannot_be_planted_is_refused(changed, message):
    with pytest.raises(ValueError, match=message):
        plant(SPACE, **changed)


def test_a_saved_phantom_reads_back(tmp_path):
    phantom = plant(SPACE, 3, n_runs=2, n_volumes=6, n_engaged=2)
    folder = phantom.save(tmp_path / "made" / "here")
    np.testing.assert_array_equal(SPACE.from_img(folder / "run-02_bold.nii"), runs_of(phantom)[1])
    np.testing.assert_allclose(SPACE.from_img(folder / "truth.nii.gz"), phantom.maps, rtol=epsilon(np.float32))
    assert nib.load(folder / "mask.nii.gz").get_fdata().sum() == SPACE.n_neurons
    courses = pd.read_csv(folder / "run-01_timecourses.tsv", sep="\t")
    np.testing.assert_allclose(courses.to_numpy(), phantom.time_courses[0])
    content = json.loads((folder / "phantom.json").read_text())
    assert NeuronSpace.from_dict(content["space"]) == SPACE
    np.testing.assert_array_equal(plant(SPACE, **content["parameters"]).maps, phantom.maps)
    with pytest.raises(ValueError, match="Nothing was overwritten"):
        phantom.save(folder)
    null = make("t5", SPACE, n_runs=1, n_volumes=4).save(tmp_path / "null")
    assert not (null / "truth.nii.gz").exists()


def test_every_named_phantom_can_be_made_in_a_small_space():
    space = NeuronSpace.build([60, 60])
    for name in PHANTOMS:
        assert make(name, space, 1, n_volumes=4, share=0.1).name == name
    with pytest.raises(ValueError, match="There is no phantom 'easy'; there are sharp, hard"):
        make("easy", space)
    with pytest.raises(ValueError, match=r"Pass imgs=recording\.imgs"):
        make("salmon", space)


# -- nulls ------------------------------------------------------------------------------------------------------------


def test_nulls_have_the_properties_of_their_names():
    sizes = {"n_runs": 1, "n_volumes": 1000}
    made = {name: runs_of(make(name, SPACE, **sizes))[0] for name in ("gaussian", "t5", "lognormal")}
    assert all(make(name, SPACE, n_runs=1, n_volumes=3).is_null for name in made)
    kurtosis = {name: np.median(stats.kurtosis(run, axis=0)) for name, run in made.items()}
    assert abs(kurtosis["gaussian"]) < 0.1
    assert kurtosis["t5"] > 2
    assert made["t5"].std() == pytest.approx(1, rel=5 * np.sqrt(2 / made["t5"].size))  # 5 standard errors
    assert made["gaussian"].std(axis=0).max() < 1.15
    spread = np.log(made["lognormal"].std(axis=0)).std()
    assert spread == pytest.approx(1.5, rel=4 / np.sqrt(2 * SPACE.n_neurons))  # 4 standard errors


def test_nulls_keep_their_scales_over_runs():
    one, two = runs_of(make("lognormal", SPACE, n_runs=2, n_volumes=500))
    assert np.corrcoef(np.log(one.std(axis=0)), np.log(two.std(axis=0)))[0, 1] > 0.99


def test_the_shifted_null_keeps_neurons_and_removes_networks():
    alive = plant(SPACE, **STRONG)
    dead = salmon(alive.imgs, SPACE)
    assert dead.is_null
    for run, shifted in zip(runs_of(alive), runs_of(dead), strict=True):
        np.testing.assert_array_equal(np.sort(run, axis=0), np.sort(shifted, axis=0))
        # Of a circular shift the power spectrum is the same, so the autocorrelation is.
        power, power_shifted = (np.abs(np.fft.rfft(one.astype(float), axis=0)) for one in (run, shifted))
        np.testing.assert_allclose(power_shifted, power, atol=rounding(power, len(run), float))
        assert (run != shifted).any(axis=0).all()
    network = alive.members[0]
    before, after = (
        np.abs(np.corrcoef(np.concatenate(runs_of(one))[:, network].T)[~np.eye(network.sum(), dtype=bool)]).mean()
        for one in (alive, dead)
    )
    assert before > 0.7
    assert after < 0.1


def test_shifts_differ_between_neurons_and_runs_and_are_never_0():
    rng = np.random.default_rng(0)
    ramp = np.tile(np.arange(5.0)[:, None], (1, 400))
    first, second = shift(ramp, rng)[0], shift(ramp, rng)[0]
    assert set(first) == {1.0, 2.0, 3.0, 4.0}
    assert not np.array_equal(first, second)
    with pytest.raises(ValueError, match="A run of 1 volume"):
        shift(np.zeros((1, 3)), rng)
    with pytest.raises(ValueError, match="imgs is empty"):
        salmon([], SPACE)


# -- measuring --------------------------------------------------------------------------------------------------------

TEN = NeuronSpace.build([10])


def by_hand() -> Phantom:
    """Two networks of ten neurons: 0 to 2 (weights 0.4, 0.8, -1.2), and 5 and 6 (weight 2), in noise of sd 2."""
    maps = np.zeros((2, 10))
    maps[0, :3] = 0.4, 0.8, -1.2
    maps[1, 5:7] = 2.0
    return Phantom(TEN, maps, [], [], noise_sd=2.0)


def thresholded(weights: np.ndarray, kept: list[list[int]], space: NeuronSpace = TEN) -> NetworkSet:
    mask = np.zeros(np.shape(weights), dtype=bool)
    for row, own in zip(mask, kept, strict=True):
        row[own] = True
    return NetworkSet(space, np.asarray(weights, dtype=np.float32), mask, "made")


def test_the_true_maps_have_perfect_recovery():
    phantom = by_hand()
    rows = measure(phantom, thresholded(phantom.maps[::-1], [[5, 6], [0, 1, 2]]))
    assert rows["map"].tolist() == ["made-01", "made-00"]
    assert rows["found"].all()
    for column, value in {"r": 1, "sign_right": 1, "power": 1, "false_share": 0, "auc": 1}.items():
        np.testing.assert_allclose(rows[column], value)
    assert rows["spearman"][0] == 1
    assert np.isnan(rows["spearman"][1])  # both weights are the same
    np.testing.assert_allclose(rows["strength"], [0.4, 1.0])


def test_a_flipped_map_has_the_wrong_sign():
    phantom = by_hand()
    rows = measure(phantom, thresholded(phantom.maps * [[-1], [1]], [[0, 1, 2], [5, 6]]))
    assert rows["found"].all()
    assert rows["sign_right"].tolist() == [0, 1]
    assert rows["r"][0] == pytest.approx(-1)
    assert rows["auc"][0] == 1
    # Also beside a map that correlates with nothing, which a match by signed r would prefer.
    beside = measure(phantom, thresholded([-phantom.maps[0], phantom.maps[1], np.ones(10)], [[0], [5], []]))
    assert beside["map"].tolist() == ["made-00", "made-01", "made-02"]


def test_shares_are_those_counted_by_hand():
    phantom = by_hand()
    spurious = np.eye(10)[9]
    found = thresholded([phantom.maps[0], phantom.maps[1], spurious, -spurious], [[0, 2, 7], [], [9], []])
    rows = measure(phantom, found)
    assert rows["planted"].tolist() == [0, 1, -1, -1]
    assert rows["n_kept"].tolist() == [3, 0, 1, 0]
    assert rows["n_right"].tolist() == [2, 0, 0, 0]
    np.testing.assert_allclose(rows["power"], [2 / 3, 0, np.nan, np.nan])
    # Nothing kept has no false share; a map beside all networks is false as a whole.
    np.testing.assert_allclose(rows["false_share"], [1 / 3, np.nan, 1, np.nan])
    effects = power_by_effect(phantom, found)
    assert effects["n_members"].tolist() == [2, 1, 2]  # 0.2 and 0.4; 0.6; 1 and 1 noise sds
    assert effects["n_kept"].tolist() == [1, 1, 0]
    np.testing.assert_allclose(effects["power"], [0.5, 1, 0])


def test_a_member_of_another_network_is_false():
    phantom = by_hand()
    rows = measure(phantom, thresholded(phantom.maps, [[0, 1, 5, 6], [5, 6]]))
    np.testing.assert_allclose(rows["false_share"], [0.5, 0])


def test_a_network_without_a_map_is_missed():
    phantom = by_hand()
    rows = measure(phantom, thresholded(phantom.maps[1:], [[5, 6]]))
    assert rows["found"].tolist() == [False, True]
    assert rows["map"].tolist() == ["", "made-00"]
    assert rows["power"].tolist() == [0, 1]
    assert np.isnan(rows["sign_right"][0])
    assert power_by_effect(phantom, thresholded(phantom.maps[1:], [[5, 6]]))["n_kept"].tolist() == [0, 0, 2]


def test_constant_maps_and_maps_before_a_threshold_are_measured_as_far_as_they_can_be():
    phantom = by_hand()
    rows = measure(phantom, NetworkSet(TEN, np.stack([phantom.maps[0], np.ones(10)])))
    assert rows["found"].tolist() == [True, False]
    assert rows["r"][1] == 0
    assert rows["auc"][1] == 0.5
    assert rows[["power", "false_share", "n_kept"]].isna().all(axis=None)


def test_noise_finds_nothing():
    phantom = plant(SPACE, 8, share=0.05, n_runs=1, n_volumes=5)
    rows = measure(phantom, NetworkSet(SPACE, np.random.default_rng(0).normal(size=(8, SPACE.n_neurons))))
    assert not rows["found"].any()
    assert rows["sign_right"].isna().all()
    n = phantom.members[0].sum()
    assert rows["auc"].mean() == pytest.approx(0.5, abs=5 / np.sqrt(12 * n * 8))  # 5 standard errors of 8 areas


def test_what_cannot_be_measured_is_refused():
    with pytest.raises(SpaceMismatchError):
        measure(by_hand(), NetworkSet(SPACE, np.ones((1, SPACE.n_neurons))))
    with pytest.raises(ValueError, match="Use measure_null"):
        measure(make("gaussian", TEN, n_runs=1, n_volumes=3), NetworkSet(TEN, np.ones((1, 10))))


def test_false_maps_have_the_exact_binomial_interval():
    none, all_ = thresholded(np.zeros((20, 10)), [[]] * 20), thresholded(np.ones((20, 10)), [[1, 2]] * 20)
    empty = measure_null(none)
    assert (empty.n_maps, empty.n_kept, empty.share, empty.low, empty.n_neurons) == (20, 0, 0, 0, 0)
    assert empty.high == pytest.approx(1 - 0.025 ** (1 / 20))
    full = measure_null(all_)
    assert (full.share, full.high, full.n_neurons) == (1, 1, 2)
    assert full.low == pytest.approx(0.025 ** (1 / 20))
    assert measure_null(none, all_).share == 0.5


# -- the table --------------------------------------------------------------------------------------------------------


def strong(seed):
    return plant(SPACE, **STRONG, minority=0.25, random_state=seed)


def shortest(seed):
    return plant(SPACE, 4, share=0.05, n_runs=1, n_volumes=4, random_state=seed)


def nothing(seed):
    return make("gaussian", SPACE, seed, n_runs=2, n_volumes=150)


@pytest.fixture(scope="module")
def tried():
    data = {"strong": strong, "shortest": shortest, "nothing": nothing}
    with pytest.warns(DataWarning):  # four volumes are too few
        return table(data, ["fastica-spatial"], ["z:3", "z:50", "top:0.05", "nonsense", "support:3"], seeds=[0, 1])


def row(tried, data, threshold):
    return tried[(tried["data"] == data) & (tried["threshold"] == threshold)].iloc[0]


def test_the_table_has_a_row_a_phantom_method_and_threshold(tried):
    assert len(tried) == 3 * 1 * 5
    assert (tried["n_seeds"] == 2).all()


def test_strong_networks_are_found_with_their_sign_and_neurons(tried):
    found = row(tried, "strong", "top:0.05")
    assert found["found"] == found["found_worst"] == found["n_networks"] == 4
    assert found["sign_right"] == 1
    assert found["auc"] > 0.99
    assert found["power"] > 0.95
    assert found["power_1_up"] == found["power"]
    assert np.isnan(found["power_0_0.5"])
    assert found["false_share"] < 0.05
    assert found["kept"] == 16
    # Their time courses and members are not the threshold's business; what it keeps is.
    none = row(tried, "strong", "z:50")
    assert none["found"] == 4
    assert none["power"] == 0
    assert np.isnan(none["false_share"])
    assert np.isnan(found["maps_kept"])


def test_on_a_null_a_quota_keeps_every_map_and_a_high_bar_none(tried):
    quota, bar = row(tried, "nothing", "top:0.05"), row(tried, "nothing", "z:50")
    assert quota["n_maps"] == bar["n_maps"] == 40
    assert quota["maps_kept"] == 1
    assert bar["maps_kept"] == 0
    assert bar["maps_kept_high"] == pytest.approx(1 - 0.025 ** (1 / 40))
    assert np.isnan(quota["found"])
    assert np.isnan(quota["sign_right"])


def test_failures_are_rows_with_a_reason(tried):
    fits = tried[tried["data"] == "shortest"]
    assert (fits["n_failed"] == 2).all()
    assert fits["note"].str.contains("n_components is 4").all()
    assert fits[["found", "power", "kept"]].isna().all(axis=None)
    assert (fits["n_converged"] == 0).all()
    for threshold, reason in (("nonsense", "'nonsense'; choose from"), ("support:3", "accepts none. Leave it out")):
        one = row(tried, "strong", threshold)
        assert one["n_failed"] == 2
        assert reason in one["note"]
        assert one["found"] == 4
        assert np.isnan(one["power"])
    assert (tried.loc[(tried["data"] != "shortest") & tried["threshold"].isin(["z:3", "z:50"]), "note"] == "").all()
    listed = failures(tried)
    assert sorted(listed["failed"]) == ["10 of 10", "4 of 4", "4 of 4"]
    assert listed.loc[listed["failed"] == "10 of 10", "data"].tolist() == ["shortest"]


def test_a_method_that_does_not_exist_is_a_row_too():
    found = table({"strong": strong}, ["pca", "fastica-temporal"], ["z:3"], seeds=[0])
    assert found["n_failed"].tolist() == [1, 0]
    assert "There is no method 'pca'" in found["note"][0]
    assert found["found"][1] == 4
    assert np.isnan(found["false_share_se"][1])  # one seed has no standard error
    with pytest.raises(ValueError, match="at least one entry"):
        table({"strong": strong}, [], ["z:3"])


def test_seeds_are_merged_as_they_are_one_by_one(tried):
    alone = [table({"strong": strong}, ["fastica-spatial"], ["z:3"], seeds=[seed]).iloc[0] for seed in (0, 1)]
    both = row(tried, "strong", "z:3")
    for column in ("power", "false_share", "auc"):
        assert both[column] == pytest.approx(np.mean([one[column] for one in alone]))
    spread = abs(alone[0]["false_share"] - alone[1]["false_share"])
    assert both["false_share_se"] == pytest.approx(spread / 2)  # of two values: their distance over 2


def weaker_by_seed(seed):
    strength = 3.0 if seed < 2 else 0.05
    return plant(SPACE, **{**STRONG, "strength": (strength, strength)}, random_state=seed)


def test_the_worst_seed_is_told_beside_the_median():
    found = table({"weaker": weaker_by_seed}, ["fastica-spatial"], ["z:3"], seeds=[0, 1, 2]).iloc[0]
    assert found["found"] == 4
    assert found["found_worst"] == 0
    assert found["sign_right"] == 1  # of the networks that were found


def test_the_docs_table_holds_the_numbers_and_the_reasons(tried):
    text = markdown(tried)
    sections = [part for part in text.split("## ") if part]
    assert [part.splitlines()[0] for part in sections] == [
        "Networks found",
        "Simulated networks after thresholding",
        "False positives on nulls",
        "What failed",
    ]
    for part, shown in zip(sections, (maps_table, thresholds_table, nulls_table, failures), strict=True):
        lines = [line for line in part.splitlines() if line.startswith("|")]
        expected = shown(tried)
        assert len(lines) == len(expected) + 2
        assert {line.count("|") for line in lines} == {len(expected.columns) + 1}
    assert "| strong | fastica-spatial | 4 | 4 | 4 | 100.0 % |" in text
    assert "| nothing | fastica-spatial | top:0.05 | 40 | 100.0 % | 91.2 % to 100.0 % |" in text
    assert "nan" not in text


# -- the command ------------------------------------------------------------------------------------------------------

APP = typer.Typer(pretty_exceptions_enable=False)
APP.command()(command)
QUICK = ("--layers", 2, "--width", 64, "--method", "fastica-spatial", "--threshold", "z:3", "--n-components", 3)


def run(*arguments: object):
    return CliRunner().invoke(APP, [str(argument) for argument in arguments])


def fails(*arguments: object) -> str:
    done = run(*arguments)
    assert done.exit_code == 1, done.output
    assert isinstance(done.exception, SystemExit)
    return " ".join(done.stderr.split())


def test_the_command_gives_and_writes_the_librarys_numbers(tmp_path):
    file = tmp_path / "table.md"
    done = run(*QUICK, "--data", "sharp", "--data", "gaussian", "--seeds", 2, "--table", file, "--json")
    assert done.exit_code == 0, done.output
    rows = json.loads(done.stdout)["rows"]
    assert [one["data"] for one in rows] == ["sharp", "gaussian"]
    assert all(one["n_seeds"] == 2 for one in rows)
    assert rows[1]["n_maps"] == 6
    assert rows[1]["found"] is None
    assert "2 layers of 64 neurons" in file.read_text()
    assert "| gaussian | fastica-spatial | z:3 | 6 |" in file.read_text()
    before = file.read_bytes()
    assert "Nothing was overwritten" in fails(*QUICK, "--data", "t5", "--table", file)
    assert file.read_bytes() == before


def test_the_command_fails_if_nothing_could_be_tried():
    done = run("--layers", 2, "--width", 64, "--data", "t5", "--n-components", 300, "--method", "canica")
    assert done.exit_code == 1
    assert "7 of 7 of canica" in done.output
    assert "n_components is 300" in done.output


def test_the_command_writes_recordings_instead(tmp_path):
    done = run("--layers", 2, "--width", 64, "--data", "massive", "--data", "t5", "--save", tmp_path / "made")
    assert done.exit_code == 0, done.output
    assert (tmp_path / "made" / "massive" / "truth.nii.gz").is_file()
    assert nib.load(tmp_path / "made" / "t5" / "run-10_bold.nii").shape == (8, 8, 2, 300)


def test_the_command_refuses_impossible_requests():
    assert "--data is 'easy'; choose from sharp, hard" in fails("--data", "easy")
    assert "--method is 'pca'; choose from ica," in fails("--method", "pca")
    assert "There is no threshold 'p'; choose from fdr" in fails("--threshold", "p")
    assert "z is -1.0" in fails("--threshold", "z:-1")
    assert "Name a study with a recording" in fails("--data", "salmon")
    assert "--seeds is 0" in fails("--seeds", 0)
    assert "Use one of the two" in fails("--table", "a.md", "--save", "b")
    assert "no study was given" in fails("--site", "mlp_out")


def test_the_salmon_is_made_of_the_study(recorded):
    options = ("--data", "salmon", "--study", recorded.root, "--method", "fastica-spatial", "--threshold", "top:0.1")
    done = run(*options, "--site", "mlp_out", "--n-components", 3, "--json")
    assert done.exit_code == 0, done.output
    content = json.loads(done.stdout)
    assert content["space"] == recorded.space("mlp_out").describe()
    assert content["rows"][0]["n_maps"] == 3
    assert content["rows"][0]["maps_kept"] == 1
    assert "site" in fails(*options)
    assert "determines the layers and widths" in fails(*options, "--width", 3)


def test_every_null_has_a_name_that_no_phantom_has():
    assert not set(NULLS) & set(PHANTOMS)
