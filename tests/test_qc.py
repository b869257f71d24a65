"""Quality control finds simulated problems only, holds one run in memory at a time, and its page is safe to open."""

import html.parser
import json
import shutil
import weakref
from dataclasses import replace

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from scipy import stats
from typer.testing import CliRunner

from lmri import NeuronSpace, record, storage
from lmri.cli.app import app
from lmri.decomposition import quality as qc
from lmri.decomposition.quality.moments import FourMoments
from lmri.decomposition.quality.robust import FEWEST, OUTLYING, robust_z, spread, z_of_distances, z_of_means
from lmri.decomposition.quality.runs import N_COLUMNS, N_ROWS, read_run
from lmri.decomposition.quality.tokens import DUMMY, NOT_KEPT, visible
from lmri.decomposition.standardization import FLOOR, moments
from lmri.exceptions import NonFiniteError, StudyError
from lmri.report.quality import page
from lmri.report.quality.page import write_page
from lmri.report.validation import validate
from lmri.space import ModelInfo
from lmri.space.layers import Layer
from lmri.storage.files import LockedError, lock_wait
from lmri.storage.recording import Recording, Run
from lmri.study import open_study
from tiny_models import sentences, word_tokenizer
from tolerances import relative

WIDTHS = (60, 40, 50)


def make(folder, arrays, lengths, tokens=None, widths=WIDTHS, n_dummy=1, texts=None, space=None):
    """Write a recording: arrays, one per run; lengths of the texts of every run; tokens, one list per run."""
    space = space or NeuronSpace.build(widths)
    runs, rows, number = [], [], 0
    for place, (array, own) in enumerate(zip(arrays, lengths, strict=True)):
        names = [f"news-{number + one:03d}" for one in range(len(own))]
        number += len(own)
        events = pd.DataFrame({"text_id": np.repeat(names, own)})
        events["position"] = np.concatenate([np.arange(n_dummy, n_dummy + length) for length in own])
        names_of_tokens = tokens[place] if tokens else [f" w{one % 7}" for one in range(len(events))]
        events["token"] = pd.Series(names_of_tokens, dtype=object)  # as read_table gives them
        events["token_id"] = pd.factorize(events["token"])[0]
        dummies = pd.DataFrame(
            [(name, f"<{one}>", 99, one, 1) for name in names for one in range(n_dummy)],
            columns=["text_id", "token", "token_id", "position", "dummy"],
        )
        seen = events.assign(dummy=0, volume=np.arange(len(events)))
        every = pd.concat([dummies.assign(volume=np.nan), seen] if n_dummy else [seen], ignore_index=True)
        run = Run(folder / f"{place}.nii", folder / f"{place}_e.tsv", folder / f"{place}_t.tsv", len(array))
        folder.mkdir(exist_ok=True, parents=True)
        nib.save(space.to_img(np.asarray(array, dtype=np.float32)), run.img)
        storage.write_table(run.events, events)
        storage.write_table(run.tokens, every)
        runs.append(run)
        rows += [(name, "fit", place + 1, length, f"{name} begins") for name, length in zip(names, own, strict=True)]
    table = pd.DataFrame(rows, columns=["text_id", "split", "run", "n_volumes", "text"])
    if texts is not None:
        table["text"] = texts
    return Recording(space, "news", tuple(runs), table, {"parameters": {"n_dummy": n_dummy}})


def noise(seed=0, n_runs=3, n_texts=12, shortest=4, longest=40):
    """Simulate Gaussian neurons with different mean and SD in texts of different length."""
    rng = np.random.default_rng(seed)
    n = sum(WIDTHS)
    mean, sd = rng.normal(size=n), np.exp(0.3 * rng.normal(size=n))
    lengths = [list(rng.integers(shortest, longest, n_texts)) for _ in range(n_runs)]
    return [mean + sd * rng.normal(size=(sum(own), n)) for own in lengths], lengths


def status(quality, topic):
    return quality.findings.set_index("topic").loc[topic, "status"]


def finding(quality, topic):
    row = quality.findings.set_index("topic").loc[topic]
    return f"{row['finding']} {row['advice']}"


# -- streaming --------------------------------------------------------------------------------------------------------


def test_streamed_moments_are_numpys_and_scipys_on_the_whole_array(tmp_path):
    rng = np.random.default_rng(0)
    lengths = [[30, 31], [7], [2, 1, 190]]
    arrays = [
        (rng.gamma(1.0, size=(sum(own), 150)) * np.logspace(-3, 3, 150) + 1e3 * np.arange(150)).astype(np.float32)
        for own in lengths
    ]
    arrays[1][:, 3] = arrays[2][::2, 3] = 0
    found = qc.inspect(make(tmp_path, arrays, lengths)).neurons
    whole = np.concatenate(arrays).astype(np.float64)
    alive = found["dead"] == 0
    lever = (np.abs(whole.mean(axis=0)) / whole.std(axis=0))[alive].max()  # means in sds, up to 10⁶
    np.testing.assert_allclose(found["mean"], whole.mean(axis=0), rtol=relative(len(whole)))
    np.testing.assert_allclose(found["sd"][alive], whole.std(axis=0)[alive], rtol=lever * relative(len(whole)))
    np.testing.assert_array_equal(found["min"], whole.min(axis=0))
    np.testing.assert_array_equal(found["max"], whole.max(axis=0))
    np.testing.assert_array_equal(found["share_zero"], (whole == 0).mean(axis=0))

    kurtosis, close = stats.kurtosis(whole, axis=0)[alive], 4 * lever * relative(len(whole))
    np.testing.assert_allclose(found["kurtosis"][alive], kurtosis, atol=close)
    shares = whole.var(axis=0) / whole.var(axis=0).sum()
    np.testing.assert_allclose(found["share_variance"], shares, rtol=0, atol=2 * lever * relative(len(whole)))
    np.testing.assert_array_equal(found["dead"] == 1, moments(np.concatenate(arrays)).dead)


def test_merging_does_not_depend_on_where_runs_are_cut_and_survives_a_large_mean():
    values = np.random.default_rng(1).exponential(size=(999, 4)) + 1e7
    whole = FourMoments.of(values)
    for cuts in ([1], [500], [1, 2, 3], [998], list(range(1, 999, 37))):
        first, *others = np.split(values, cuts)
        merged = FourMoments.of(first)
        for part in others:
            merged = merged.merged(FourMoments.of(part))
        assert merged.n == 999
        close = 1e7 * relative(999)  # a mean of 10⁷ sds
        np.testing.assert_allclose(merged.sd, whole.sd, rtol=close)
        np.testing.assert_allclose(merged.kurtosis, whole.kurtosis, rtol=4 * close)
    np.testing.assert_allclose(whole.kurtosis, stats.kurtosis(values - 1e7), rtol=4 * close)


def test_runs_are_read_one_by_one(tmp_path, monkeypatch):
    recording = make(tmp_path, *noise(n_runs=5))
    alive: list[weakref.ref] = []
    most = []
    original = NeuronSpace.from_img

    def watched(self, img, check=True):
        most.append(sum(one() is not None for one in alive))
        array = original(self, img, check)
        alive.append(weakref.ref(array))
        return array

    monkeypatch.setattr(NeuronSpace, "from_img", watched)
    qc.inspect(recording)
    assert len(most) == 10  # twice each
    assert max(most) == 0
    held = [recording.space.from_img(run.img) for run in recording.runs]  # this test would notice
    assert max(most) == len(held) - 1


# -- scores -----------------------------------------------------------------------------------------------------------


def test_spread_is_the_sd_of_a_gaussian_and_does_not_see_outliers():
    values = np.random.default_rng(0).normal(3, 2, 100_000)
    assert spread(values) == pytest.approx(2, rel=5 / np.sqrt(2 * 0.37 * 100_000))  # 5 standard errors
    values[:5000] = 1e9
    assert spread(values) == pytest.approx(2, rel=0.15)  # 5 % of outliers move quartiles by 7 %
    assert spread(np.ones(20)) == 0
    assert spread(np.r_[np.ones(19), 2]) == pytest.approx(np.sqrt(np.pi / 2) / 20)


def test_robust_z_of_few_of_equal_and_of_missing_values():
    assert np.isnan(robust_z(np.arange(FEWEST - 1))).all()
    assert (robust_z(np.full(20, 0.1)) == 0).all()
    assert (np.abs(robust_z(1 + 1e-10 * np.arange(20) ** 3)) < OUTLYING).all()  # rounding is no outlier
    found = robust_z(np.r_[np.arange(20.0), np.nan])
    assert np.isnan(found[-1])
    assert np.isfinite(found[:-1]).all()
    assert robust_z(np.r_[np.zeros(30), 5])[-1] > OUTLYING  # equal but for one: seen, and not infinite


def test_short_texts_are_not_outliers_for_being_short():
    rng = np.random.default_rng(0)
    counts = np.r_[np.full(300, 2), np.full(700, 400)]
    means = rng.normal(size=1000) / np.sqrt(counts)
    distances = np.sqrt(rng.chisquare(200, size=1000) / 200 / counts)
    assert (np.abs(robust_z(means)) > OUTLYING).mean() > 0.1  # which a plain z would say
    assert (robust_z(np.log(distances)) > OUTLYING).mean() > 0.1
    for found in (z_of_means(means, 1.0, counts), z_of_distances(distances, counts)):
        assert (np.abs(found) > OUTLYING).mean() < 0.005
        for group in (counts == 2, counts == 400):
            assert np.nanstd(found[group]) == pytest.approx(1, rel=0.2)  # 5 standard errors of an sd of 300


# -- planted truth ----------------------------------------------------------------------------------------------------


def test_nothing_is_flagged_in_noise_beyond_the_stated_rate(tmp_path):
    n_texts = n_outliers = n_volumes = n_spikes = 0
    for seed in range(8):
        quality = qc.inspect(make(tmp_path / str(seed), *noise(seed)))
        assert quality.neurons[["dead", "massive", "extreme", "dominant"]].to_numpy().sum() == 0
        for table in (quality.positions, quality.tokens, quality.volumes):
            assert table["sink"].sum() == 0
        for topic in set(quality.findings["topic"]) - {"texts", "spikes"}:
            assert status(quality, topic) == "good"
        n_texts, n_outliers = n_texts + len(quality.texts), n_outliers + quality.texts["outlier"].sum()
        n_volumes, n_spikes = n_volumes + len(quality.volumes), n_spikes + quality.volumes["spike"].sum()
    assert n_outliers <= 0.01 * n_texts
    assert n_spikes <= 0.005 * n_volumes


def test_a_dead_neuron_is_found_alone(tmp_path):
    arrays, lengths = noise()
    for array in arrays:
        array[:, 70] = 3.25
        array[:, 71] = 1 + 0.3 * FLOOR * array[:, 71]  # rounding noise beside a constant
        array[:, 72] *= 0.01  # small, and alive
    quality = qc.inspect(make(tmp_path, arrays, lengths))
    assert quality.neurons.query("dead == 1")[["layer", "neuron"]].to_numpy().tolist() == [[1, 10], [1, 11]]
    assert quality.neurons["kurtosis"].isna().sum() == 2
    assert quality.layers["n_dead"].tolist() == [0, 2, 0]
    assert quality.runs["share_dead"].tolist() == pytest.approx([2 / 150] * 3)
    assert "layer 1 neuron 10, layer 1 neuron 11" in finding(quality, "dead neurons")


def test_a_neuron_that_is_dead_in_one_run_is_counted_in_that_run_only(tmp_path):
    arrays, lengths = noise()
    arrays[1][:, 5] = 0
    quality = qc.inspect(make(tmp_path, arrays, lengths))
    assert quality.neurons["dead"].sum() == 0
    assert quality.runs["share_dead"].tolist() == pytest.approx([0, 1 / 150, 0])


def test_massive_and_extreme_values_are_found_by_their_own_rules(tmp_path):
    arrays, lengths = noise()
    arrays[0][17, 3] = 5000.0  # both: above 100, 1,000 medians and 100 sd
    arrays[2][5, 130] = -300.0  # extreme, and above 100, but not 1,000 times its layer's median
    arrays[1][2, 80] = 40.0  # large, and neither
    quality = qc.inspect(make(tmp_path, arrays, lengths))
    assert quality.neurons.query("massive == 1")[["layer", "neuron", "n_massive"]].to_numpy().tolist() == [[0, 3, 1]]
    assert quality.neurons.query("extreme == 1")[["layer", "neuron"]].to_numpy().tolist() == [[0, 3], [2, 30]]
    assert status(quality, "massive activations") == "look"
    # One unit for all: the robust rule stays, Sun et al.'s has an absolute bound.
    small = qc.inspect(make(tmp_path / "small", [1e-3 * array for array in arrays], lengths))
    assert small.neurons["massive"].sum() == 0
    assert small.neurons["n_extreme"].tolist() == quality.neurons["n_extreme"].tolist()
    np.testing.assert_allclose(small.neurons["peak"], quality.neurons["peak"], rtol=relative(dtype=np.float32))


def test_silent_units_do_not_make_all_others_extreme(tmp_path):
    arrays, lengths = noise()
    rectified = [np.maximum(array - 2, 0) for array in arrays]  # mostly 0, so median and MAD are
    assert np.median(rectified[0]) == 0
    quality = qc.inspect(make(tmp_path, rectified, lengths))
    assert quality.neurons["extreme"].sum() == 0
    assert quality.neurons["share_zero"].mean() > 0.5
    rectified[0][4, 4] = 1e3
    found = qc.inspect(make(tmp_path / "planted", rectified, lengths)).neurons.query("extreme == 1")
    assert found[["layer", "neuron"]].to_numpy().tolist() == [[0, 4]]


def test_most_values_being_0_makes_no_others_massive(tmp_path):
    arrays, lengths = noise()
    rectified = [300 * np.maximum(array - 2, 0) for array in arrays]
    assert np.median(rectified[0]) == 0
    assert (rectified[0] > 100).any()  # large, as all of the layer that is not 0
    assert qc.inspect(make(tmp_path / "a", rectified, lengths)).neurons["massive"].sum() == 0
    rectified[0][4, 4] = 3e6
    found = qc.inspect(make(tmp_path / "b", rectified, lengths)).neurons.query("massive == 1")
    assert found[["layer", "neuron"]].to_numpy().tolist() == [[0, 4]]


EXPERTS = 4


def mixture(seed=0, n_blocks=2, width=30, unused=None):
    """Simulate experts, each 0 at the tokens of others, and the expert of every token, ``(n_volumes, n_blocks)``.

    Nothing is routed to the last expert of any block but the tokens that `unused` says.
    """
    rng = np.random.default_rng(seed)
    layers = tuple(
        Layer(f"layer {z} expert {one}", f"{z}.experts", width, block=z, expert=one)
        for z in range(n_blocks)
        for one in range(EXPERTS)
    )
    lengths = [list(rng.integers(10, 40, 12)) for _ in range(3)]
    arrays, chosen = [], []
    for own in lengths:
        routed = rng.integers(0, EXPERTS - 1, (sum(own), n_blocks))
        if unused is not None:
            routed[unused(sum(own))] = EXPERTS - 1
        one_hot = routed[..., None] == np.arange(EXPERTS)
        values = (one_hot[..., None] * (1 + rng.normal(size=(*one_hot.shape, width)))).reshape(sum(own), -1)
        arrays.append(values)
        chosen.append(routed)
    return NeuronSpace(layers, "mlp_out"), arrays, lengths, chosen


def test_sinks_of_a_mixture_are_seen_though_every_expert_is_mostly_0(tmp_path):
    def places(n):
        return np.arange(6, n, 25)

    space, arrays, lengths, _ = mixture()
    assert all((np.median(np.abs(array), axis=0) == 0).all() for array in arrays)
    plain = qc.inspect(make(tmp_path / "plain", arrays, lengths, space=space))
    assert plain.volumes["sink"].sum() == 0
    assert 0.8 < plain.volumes["relative_norm"].median() < 1.2
    assert "0.0 times" not in finding(plain, "sinks")
    # Nothing but sinks is routed to the last experts, so that beside its own median none of them is large.
    space, arrays, lengths, _ = mixture(unused=places)
    tokens = [[f" w{one % 7}" for one in range(len(array))] for array in arrays]
    for array, own in zip(arrays, tokens, strict=True):
        for place in places(len(own)):
            own[place] = "\n"
            array[place, 30 * (2 * EXPERTS - 1) :] *= 40
    quality = qc.inspect(make(tmp_path / "sinks", arrays, lengths, tokens, space=space))
    assert quality.tokens.query("sink == 1")["token"].tolist() == ["\n"]
    sinks = quality.volumes[quality.volumes["sink"] == 1]
    assert len(sinks) == sum(len(places(len(array))) for array in arrays)
    assert set(sinks["peak_layer"]) == {2 * EXPERTS - 1}


def test_an_expert_that_was_never_chosen_is_not_called_dead_but_without_tokens(tmp_path):
    space, arrays, lengths, _ = mixture()
    quality = qc.inspect(make(tmp_path / "a", arrays, lengths, space=space))
    told = finding(quality, "dead neurons")
    assert "No token was routed to layer 0 expert 3, layer 1 expert 3: 60 neurons there, 0 throughout." in told
    assert "dead" not in told
    assert status(quality, "dead neurons") == "note"
    assert quality.layers["n_dead"].tolist() == [0, 0, 0, 30] * 2  # the flag is that of the decompositions
    for array in arrays:
        array[:, 2] = 0  # one neuron of an expert that was chosen
    both = finding(qc.inspect(make(tmp_path / "b", arrays, lengths, space=space)), "dead neurons")
    assert "1 neuron of 240 is constant (layer 0 neuron 2)" in both
    assert "No token was routed to layer 0 expert 3" in both
    # At the router experts are the neurons.
    router = NeuronSpace.build([EXPERTS, EXPERTS], "router")
    weights = [array.reshape(len(array), 2, EXPERTS, 30)[..., 5].reshape(len(array), -1) for array in arrays]
    told = finding(qc.inspect(make(tmp_path / "c", weights, lengths, space=router)), "dead neurons")
    assert "No token was routed to layer 0 expert 3, layer 1 expert 3: 2 neurons there" in told


def test_a_recording_of_zeros_is_not_rated_good(tmp_path):
    quality = qc.inspect(make(tmp_path, [np.zeros((40, 150))], [[20, 20]]))
    assert status(quality, "sinks") == status(quality, "first tokens") == "note"
    assert "cannot be determined" in finding(quality, "sinks")
    assert "all neurons are 0 throughout" in finding(quality, "first tokens")


def test_a_neuron_that_carries_most_of_the_variance_is_named(tmp_path):
    arrays, lengths = noise()
    for array in arrays:
        array[:, 149] *= 8  # a fifth of all, and no value beyond 100 sd
    quality = qc.inspect(make(tmp_path, arrays, lengths))
    top = quality.neurons.query("dominant == 1")
    assert top[["layer", "neuron"]].to_numpy().tolist() == [[2, 49]]
    share = np.concatenate(arrays).astype(np.float32).var(axis=0, dtype=float)
    assert f"{100 * share[149] / share.sum():.1f} %" in finding(quality, "variance")
    assert quality.neurons["extreme"].sum() == 0


@pytest.mark.parametrize(("how", "why"), [("pattern", "distance"), ("gain", "norm")])
def test_an_outlier_text_is_found_alone_and_named(tmp_path, how, why):
    arrays, lengths = noise(n_texts=20, shortest=10)
    first = sum(lengths[1][:4])
    own = arrays[1][first : first + lengths[1][4]]
    own[:] = own + 0.8 * np.random.default_rng(9).normal(size=150) if how == "pattern" else 1.6 * own
    quality = qc.inspect(make(tmp_path, arrays, lengths))
    found = quality.texts[quality.texts["outlier"] == 1]
    assert found["text_id"].tolist() == ["news-024"]
    assert why in found["why"].iloc[0]
    assert found["run"].iloc[0] == 2
    assert found["first_volume"].iloc[0] == first
    assert "leave out news-024" in finding(quality, "texts")


def test_distance_and_norm_of_texts_are_what_they_say(tmp_path):
    arrays, lengths = noise()
    quality = qc.inspect(make(tmp_path, arrays, lengths))
    whole = np.concatenate(arrays).astype(np.float32).astype(float)
    starts = np.r_[0, np.cumsum(np.concatenate(lengths))]
    z = (whole - whole.mean(axis=0)) / whole.std(axis=0)
    close = relative(150, np.float32)
    for row, first, last in zip(quality.texts.itertuples(), starts[:-1], starts[1:], strict=True):
        assert row.norm == pytest.approx(np.linalg.norm(whole[first:last], axis=1).mean(), rel=close)
        assert row.distance == pytest.approx(np.sqrt((z[first:last].mean(axis=0) ** 2).mean()), rel=close)


def test_a_sink_token_is_found_alone(tmp_path):
    arrays, lengths = noise()
    tokens = [[f" w{one % 7}" for one in range(len(array))] for array in arrays]
    for array, own in zip(arrays, tokens, strict=True):
        for place in range(6, len(own), 25):
            own[place] = "\n"
            array[place, 60:100] *= 40  # in one layer, a small one
    quality = qc.inspect(make(tmp_path, arrays, lengths, tokens))
    assert quality.tokens.query("sink == 1")["token"].tolist() == ["\n"]
    assert quality.tokens["token"].iloc[0] == "\n"
    sinks = quality.volumes[quality.volumes["sink"] == 1]
    assert set(sinks["token"]) == {"\n"}
    assert set(sinks["peak_layer"]) == {1}
    assert len(sinks) == (quality.volumes["token"] == "\n").sum()
    assert quality.positions["sink"].sum() == 0
    assert "'⏎'" in finding(quality, "sinks")
    assert status(quality, "first tokens") == "good"


@pytest.mark.parametrize(("n_dummy", "n_sinks"), [(0, 1), (1, 2)])
def test_first_tokens_that_are_sinks_ask_for_more_dummies(tmp_path, n_dummy, n_sinks):
    arrays, lengths = noise()
    for array, own in zip(arrays, lengths, strict=True):
        for first in np.r_[0, np.cumsum(own)[:-1]]:
            array[first : first + n_sinks] *= 50
    quality = qc.inspect(make(tmp_path, arrays, lengths, n_dummy=n_dummy))
    assert quality.positions.query("sink == 1")["position"].tolist() == list(range(n_dummy, n_dummy + n_sinks))
    assert f"Raise n_dummy to {n_dummy + n_sinks} (it was {n_dummy})" in finding(quality, "first tokens")
    assert quality.left_out["n_texts"].sum() == n_dummy * 36
    assert ("No token is left out" in finding(quality, "first tokens")) == (n_dummy == 0)


def test_a_sink_in_the_middle_does_not_suggest_more_dummies(tmp_path):
    arrays, lengths = noise(shortest=12)
    for array, own in zip(arrays, lengths, strict=True):
        array[np.r_[0, np.cumsum(own)[:-1]] + 7] *= 50
    quality = qc.inspect(make(tmp_path, arrays, lengths))
    assert quality.positions.query("sink == 1")["position"].tolist() == [8]
    assert "n_dummy cannot exclude them" in finding(quality, "first tokens")


def test_tokens_skipped_by_every_are_distinguished_from_dummies(gpt2, tmp_path):
    texts = sentences(12, 8, 12)
    plain, some = (
        record(gpt2, word_tokenizer(), texts, tmp_path / str(every), every=every, test_fraction=0.0) for every in (1, 3)
    )
    tokens = pd.concat(some.tokens)
    n_dummy, n_passed = int(tokens["dummy"].sum()), int((tokens["volume"].isna() & (tokens["dummy"] == 0)).sum())
    assert n_passed > 50
    assert len(tokens) == n_dummy + n_passed + some.n_volumes
    quality = qc.inspect(some)
    told = finding(quality, "first tokens")
    assert f"{n_dummy} dummies and special tokens are left out of the images" in told
    assert f"{n_passed} tokens are not kept by --every" in told
    counts = quality.left_out.groupby("reason")["n_texts"].sum()
    assert counts.to_dict() == {DUMMY: n_dummy, NOT_KEPT: n_passed}
    assert len(quality.left_out.query("reason == @NOT_KEPT")) < 12  # a row a position, whatever the token
    assert f"{n_dummy + n_passed} tokens in all" in write_page(quality, tmp_path / "qc.html").read_text()
    told = finding(qc.inspect(plain), "first tokens")
    assert f"{n_dummy} dummies and special tokens are left out" in told
    assert "--every" not in told


# -- over time --------------------------------------------------------------------------------------------------------


def test_dvars_of_noise_is_root_two_and_a_spike_is_found_alone(tmp_path):
    arrays, lengths = noise(shortest=20)
    arrays[2][33] += 4 * np.random.default_rng(3).normal(size=150)
    quality = qc.inspect(make(tmp_path, arrays, lengths))
    np.testing.assert_allclose(quality.runs["dvars"], np.sqrt(2), rtol=0.05)  # the spike adds 3 %
    found = quality.volumes[quality.volumes["spike"] == 1]
    assert {33, 34} <= set(found.loc[found["run"] == 3, "volume"])
    assert len(found) <= 4
    assert quality.runs["n_spikes"].sum() == len(found)


def test_dvars_does_not_look_across_the_limit_of_two_texts(tmp_path):
    arrays, lengths = noise()
    for array, own in zip(arrays, lengths, strict=True):
        array += np.repeat(30 * np.arange(len(own)) % 7, own)[:, None]
    volumes = qc.inspect(make(tmp_path, arrays, lengths)).volumes
    assert volumes["dvars"].isna().sum() == 36
    assert volumes.groupby("text_id").head(1)["dvars"].isna().all()
    assert volumes["dvars"].max() < 1  # z-scored together with jumps, each text alone is flat


def test_autocorrelation_is_that_of_the_process(tmp_path):
    rng = np.random.default_rng(0)
    steps = rng.normal(size=(4000, 150))
    red = np.zeros_like(steps)
    for volume in range(1, len(red)):
        red[volume] = 0.6 * red[volume - 1] + steps[volume]
    runs = qc.inspect(make(tmp_path, [red, steps], [[400] * 10] * 2)).runs
    # In texts of 400 volumes, r is too small by (1 + 3 r) / 400.
    assert runs["autocorrelation"].tolist() == pytest.approx([0.6, 0.0], abs=0.02)  # three times that bias
    assert runs["dvars"].tolist() == pytest.approx([np.sqrt(2 * 0.4), np.sqrt(2)], rel=0.02)  # the same bias


def test_tsnr_and_global_signal(tmp_path):
    rng = np.random.default_rng(0)
    array = 5 + 0.5 * rng.normal(size=(500, 150))
    row = qc.inspect(make(tmp_path, [array], [[250, 250]])).runs.iloc[0]
    assert row["tsnr"] == pytest.approx(10, rel=0.05)  # the sd of 500 volumes is off by 3 %, the median of 150 by less
    assert row["global_mean"] == pytest.approx(array.mean(), rel=relative(array.size, np.float32))
    close = 120 * relative(150, np.float32)  # a mean of 120 sds
    assert row["global_sd"] == pytest.approx(array.mean(axis=1).std(), rel=close)


def test_a_carpet_is_small_and_shows_what_neurons_share():
    rng = np.random.default_rng(0)
    space = NeuronSpace.build((3000, 1000))
    course = np.sin(np.arange(1400) / 30)
    array = rng.normal(size=(1400, 4000)).astype(np.float32)
    array[:, :1500] += course[:, None].astype(np.float32)
    array[:, 1500:3000] -= course[:, None].astype(np.float32)
    events = pd.DataFrame({"text_id": "news-000", "position": np.arange(1400), "token": "x", "token_id": 0})
    carpet = read_run(space, array, events, 1).carpet
    assert carpet.values.shape[0] <= N_ROWS + 2
    assert carpet.values.shape[1] <= N_COLUMNS
    assert np.bincount(carpet.layers).tolist() == [120, 40]
    shown = np.array([np.corrcoef(row, course[1::3][: len(row)])[0, 1] for row in carpet.values])
    first, second = shown[carpet.layers == 0], shown[carpet.layers == 1]
    assert np.sort(np.abs(first))[10] > 0.9  # opposite neurons are told apart, where their mean would be nothing
    assert abs(first.mean()) < 0.1
    assert first[0] * first[-1] < 0
    assert np.abs(second).max() < 0.35


# -- degenerate recordings --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arrays", "lengths"),
    [
        ([np.zeros((20, 150))], [[10, 10]]),
        ([np.full((20, 150), 2.5)], [[20]]),
        ([np.ones((1, 150))], [[1]]),
        ([np.arange(150.0)[None]] * 3, [[1]] * 3),
        ([np.random.default_rng(3).normal(size=(15, 150))], [[1] * 15]),
        ([np.random.default_rng(0).normal(size=(2, 150)), np.ones((30, 150))], [[2], [30]]),
    ],
    ids=["zeros", "constant", "one volume", "runs of one volume", "texts of one volume", "a dead run"],
)
@pytest.mark.filterwarnings("error")
def test_degenerate_recordings_neither_crash_nor_divide_by_zero(tmp_path, arrays, lengths):
    quality = qc.inspect(make(tmp_path / "r", arrays, lengths, n_dummy=0))
    quality.write(tmp_path / "out")
    page = write_page(quality, tmp_path / "out" / "qc.html").read_text()
    assert "inf" not in set(page.replace("<", " ").replace(">", " ").split())
    for name, table in quality.tables.items():
        assert not np.isinf(table.select_dtypes("number").to_numpy(dtype=float)).any(), name
    assert quality.texts["outlier"].sum() == quality.volumes["sink"].sum() == 0
    assert "None: the images contain every token" in page


def test_broken_recordings_are_refused(tmp_path):
    arrays, lengths = noise()
    recording = make(tmp_path, arrays, lengths)
    with pytest.raises(StudyError, match="no run"):
        qc.inspect(replace(recording, runs=()))
    events = recording.events[1]
    storage.write_table(recording.runs[1].events, events.head(3))
    with pytest.raises(StudyError, match=r"Run 2 has \d+ volumes and 3 rows"):
        qc.inspect(replace(recording))
    arrays[0][3, 4] = np.nan
    with pytest.raises(NonFiniteError, match="layer 0, neuron 4, volume 3"):
        qc.inspect(make(tmp_path / "nan", arrays, lengths))


# -- files and page ---------------------------------------------------------------------------------------------------


class Tags(html.parser.HTMLParser):
    """Parser that collects active elements and visible text of a page."""

    def __init__(self):
        super().__init__()
        self.tags, self.addresses, self.text = [], [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.addresses += [value for name, value in attrs if name in ("src", "href", "xlink:href")]
        assert not any(name.startswith("on") for name, _ in attrs)

    def handle_data(self, data):
        self.text.append(data)


def test_the_page_escapes_all_text_and_loads_nothing(tmp_path):
    evil = "<script>alert(1)</script>"
    arrays, lengths = noise()
    tokens = [[f" w{one % 7}" for one in range(len(array))] for array in arrays]
    signs = [evil, "\u202eevil", "\u05d0\u05d1", "&amp;<b>", "\n", '"', "", "\ud800"]
    for array, own in zip(arrays, tokens, strict=True):
        for number, place in enumerate(range(3, len(own), 3)):
            own[place] = signs[number % len(signs)]
            array[place] *= 3 + number % len(signs)
    first = lengths[0][0]
    arrays[0][:first] += 30
    texts = [evil + "\u202e" * 3] * 36
    recording = make(tmp_path / "r", arrays, lengths, tokens, texts=texts)
    model = ModelInfo(evil, None, evil, evil, "float32")
    quality = qc.inspect(replace(recording, space=replace(recording.space, model=model)))
    page = write_page(quality, tmp_path / "qc.html").read_text(encoding="utf-8")
    tags = Tags()
    tags.feed(page)
    assert "script" not in tags.tags
    assert not {"iframe", "object", "embed", "link"} & set(tags.tags)
    assert all(one.startswith(("#", "data:image/png;base64,")) for one in tags.addresses)
    assert "\u202e" not in page
    assert evil in "".join(tags.text)  # shown as it is
    assert page.count("<svg") == 6
    assert "‹U+202E›evil" in page
    assert "url(http" not in page


def test_invisible_characters_are_displayed():
    assert [visible(one) for one in (" the", "a b", "\t", "\u200b", "  ")] == ["␣the", "a b", "⇥", "‹U+200B›", "␣␣"]


def test_files_are_the_same_every_time_and_nothing_foreign_is_replaced(tmp_path):
    recording = make(tmp_path / "r", *noise())
    folders = []
    for name in ("a", "b"):
        quality = qc.inspect(recording)
        write_page(quality, quality.write(tmp_path / name) / "qc.html")
        folders.append({path.name: path.read_bytes() for path in (tmp_path / name).iterdir()})
    assert folders[0] == folders[1]
    assert len(folders[0]) == 11
    for stem, table in quality.tables.items():
        path = next((tmp_path / "a").glob(f"{stem}.tsv*"))
        text = [column for column in table if not pd.api.types.is_numeric_dtype(table[column])]
        pd.testing.assert_frame_equal(storage.read_table(path, text), table, check_dtype=False)
    other = qc.inspect(make(tmp_path / "s", *noise(1)))
    other.write(tmp_path / "a")  # its own output
    assert (tmp_path / "a" / "runs.tsv").read_bytes() != folders[1]["runs.tsv"]
    (tmp_path / "a" / ".DS_Store").write_bytes(b"")
    other.write(tmp_path / "a")  # what a file manager leaves is no reason to refuse
    (tmp_path / "b" / "thesis.tex").write_text("years of work")
    with pytest.raises(StudyError, match=r"thesis\.tex"):
        other.write(tmp_path / "b")
    assert (tmp_path / "b" / "runs.tsv").read_bytes() == folders[1]["runs.tsv"]
    with pytest.raises(StudyError, match="not a page of lmri qc"):
        write_page(other, tmp_path / "b" / "thesis.tex")
    with pytest.raises(StudyError, match="is a file"):
        other.write(tmp_path / "b" / "thesis.tex")


# -- the command ------------------------------------------------------------------------------------------------------


def call(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_the_command_writes_tables_and_page_into_the_study(recorded, tmp_path):
    root = shutil.copytree(recorded.root, tmp_path / "study")
    done = call("qc", root, "--json")
    assert done.exit_code == 0, (done.output, done.exception)
    content = json.loads(done.stdout)["recordings"]
    assert [(one["corpus"], one["site"]) for one in content] == [("words", "mlp_hidden"), ("words", "mlp_out")]
    folder = root / "lmri" / "sub-unnamedgpt2" / "qc" / "mlpout" / "words"
    assert content[1]["folder"] == str(folder)
    quality = qc.inspect(open_study(root).recording("words", "mlp_out"))
    assert content[1]["n_dead"] == quality.neurons["dead"].sum()
    assert [row["finding"] for row in content[1]["findings"]] == quality.findings["finding"].tolist()
    pd.testing.assert_frame_equal(
        storage.read_table(folder / "runs.tsv"), quality.runs, check_dtype=False, check_exact=True
    )
    before = (folder / "qc.html").read_bytes()
    again = call("qc", root, "--site", "mlp_out", "--corpus", "words")  # over its own output
    assert again.exit_code == 0, again.output
    assert str(folder / "qc.html") in again.stdout
    assert (folder / "qc.html").read_bytes() == before
    done = call("qc", root, "--site", "mlp_out", "--out", tmp_path / "page.html", "--quiet")
    assert (done.exit_code, done.output) == (0, "")
    assert (tmp_path / "page.html").read_bytes() == before


def test_pages_are_rendered_without_the_lock_and_kept_if_the_study_is_locked(recorded, tmp_path, monkeypatch):
    study = open_study(shutil.copytree(recorded.root, tmp_path / "study"))
    folder, write, locked = study.layout.quality("mlp_out", "words"), page.write_page, []

    def watched(*arguments):
        locked.append(storage.is_locked(study.root))
        return write(*arguments)

    monkeypatch.setattr(page, "write_page", watched)
    study.qc(site="mlp_out")
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    with storage.write_lock(study.root), lock_wait(0), pytest.raises(LockedError, match="was kept in") as raised:
        study.qc(site="mlp_out")
    assert locked == [False, True]  # the second by this test, and it was rendered all the same
    [kept] = study.layout.kept_entries("qc", "mlp_out", "words")
    assert f"mv {kept}/* {folder}" in str(raised.value)
    assert {path.name: path.read_bytes() for path in kept.iterdir()} == before
    found = validate(study)
    assert (found.problems, any("Run lmri qc again" in note for note in found.notes)) == ([], True)
    study.qc(site="mlp_out")
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert not study.layout.unfinished.exists()


def test_foreign_files_are_noticed_before_anything_is_computed(recorded, tmp_path):
    study = open_study(shutil.copytree(recorded.root, tmp_path / "study"))
    folder = study.layout.quality("mlp_out", "words")
    folder.mkdir(parents=True)
    (folder / "thesis.tex").write_text("years of work")
    calls = []
    with pytest.raises(StudyError, match=r"thesis\.tex"):
        study.qc(site="mlp_out", progress=lambda *numbers: calls.append(numbers))
    assert calls == []


def test_a_study_with_quality_control_stays_valid(recorded, tmp_path):
    root = shutil.copytree(recorded.root, tmp_path / "study")
    assert call("qc", root, "--quiet").exit_code == 0
    done = call("validate", root, "--json")
    assert json.loads(done.stdout)["problems"] == []


def test_the_command_says_what_it_cannot_do(recorded, tmp_path):
    (tmp_path / "mine.html").write_text("mine")
    for arguments, message in (
        ((recorded.root, "--corpus", "none"), "words"),
        ((recorded.root, "--out", tmp_path / "a.html"), "--corpus and --site"),
        ((recorded.root, "--site", "mlp_out", "--out", tmp_path / "mine.html"), "not a page of lmri qc"),
        ((tmp_path,), "not a study"),
    ):
        done = call("qc", *arguments)
        assert done.exit_code == 1, done.output
        assert message in " ".join(done.stderr.split())
    assert (tmp_path / "mine.html").read_text() == "mine"


# -- a trained model --------------------------------------------------------------------------------------------------


def test_first_tokens_of_a_trained_model(real_data, tmp_path):
    from lmri import load_model, read_texts, record

    folder = real_data / "models" / "mini-gpt2"
    model, tokenizer = load_model(str(folder))
    texts = read_texts(folder / "heldout_news.jsonl", limit=16)
    for n_dummy in (0, 1):
        recording = record(
            model, tokenizer, texts, tmp_path / str(n_dummy), n_dummy=n_dummy, test_fraction=0.0, max_tokens=64
        )
        quality = qc.inspect(recording)
        assert quality.neurons["massive"].sum() == 0  # the model is too small for them
        assert quality.neurons["dead"].sum() == 0
        whole = np.concatenate(list(recording.arrays())).astype(float)
        np.testing.assert_allclose(quality.neurons["sd"], whole.std(axis=0), rtol=relative(dtype=np.float32))
        assert quality.positions["position"].min() == n_dummy
        assert len(quality.left_out) == (len(set(quality.left_out["token"])) if n_dummy else 0)
        assert status(quality, "first tokens") == "good"  # nor does it have sinks in its norms
