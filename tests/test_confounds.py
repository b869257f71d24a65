"""Confounds: columns have the stated meaning, surprisal is computed by the model, and regression removes effects."""

import contextlib
import json
import re
import shutil
import warnings

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

import lmri
from lmri import storage
from lmri.cli.app import app
from lmri.decomposition import METHODS, build, confounds
from lmri.decomposition.confounds import COLUMNS, SITE_COLUMNS, TEXT_COLUMNS, compute, joined, select, write
from lmri.decomposition.confounds.text_confounds import sentences
from lmri.decomposition.localizer import Contrast, Localizer, design_matrix, first_level, localize
from lmri.decomposition.nuisance import basis, without
from lmri.demo.texts import generate
from lmri.exceptions import DataWarning, EntryExistsError, NonFiniteError, StudyError
from lmri.lesions.tasks import Perplexity
from lmri.models import right_pad
from lmri.models.logits import logits_in_parts
from lmri.models.surprisal import predictions
from lmri.networks.annotation import confound_correlations
from lmri.report.validation import validate
from lmri.space import NeuronSpace
from lmri.storage.dataset_files import create
from lmri.storage.texts import sentence_starts
from phantom import gaussian_noise, matched, planted
from tiny_models import (
    ARCHITECTURES,
    EVERY_CAUSAL,
    assert_untouched,
    bert_tokenizer,
    byte_tokenizer,
    randomize,
    remote_code,
    snapshot,
    word_tokenizer,
)
from tiny_models import build as build_model
from tiny_models import sentences as texts_of
from tolerances import epsilon, model_rounding, relative, rounding

SPACE = NeuronSpace.build([60, 60])


def record(model, root, texts=None, tokenizer=None, **options):
    options = {"corpus": "words", "run_tokens": 60, "test_fraction": 0.0, **options}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DataWarning)
        return lmri.record(model, tokenizer or word_tokenizer(), texts or texts_of(12), root, **options)


def run(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """Return a small study of the embedded model at both sites, with all confounds."""
    root = tmp_path_factory.mktemp("demo") / "study"
    model, tokenizer = lmri.load_model("lmri-demo")
    for site in ("mlp_out", "mlp_hidden"):
        lmri.record(model, tokenizer, generate("news", 16, 3), root, corpus="news", site=site, run_tokens=250)
    done = run("confounds", root, "--json")
    assert done.exit_code == 0, done.output
    return lmri.open_study(root), json.loads(done.stdout)


@pytest.fixture
def copy(demo, tmp_path):
    shutil.copytree(demo[0].root, tmp_path / "study")
    return lmri.open_study(tmp_path / "study")


# -- columns ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("One. Two! Three? Four", ["One.", "Two!", "Three?", "Four"]),
        ("3.14 is pi. So", ["3.14 is pi.", "So"]),
        ('He said "no." Then… (yes.) End.', ['He said "no."', "Then…", "(yes.)", "End."]),
        ("a line\nanother\r\n\n  third", ["a line", "another", "third"]),
        ("你好。再见！「好。」完", ["你好。", "再见！", "「好。」", "完"]),
        ("好。」", ["好。」"]),  # a closing mark begins nothing
        ("no end", ["no end"]),
        ("", [""]),
        ("Wait... what?!  Yes", ["Wait...", "what?!", "Yes"]),
    ],
)
def test_sentences_end_where_the_rule_says(text, expected):
    assert [
        part.strip() for part in np.split(np.array(list(text)), sentence_starts(text)) for part in ["".join(part)]
    ] == expected


def test_tokens_are_counted_within_their_sentence():
    text = "Go on. \nThe cat sat."
    #        BOS     Go      " on"   .       " \n"   The     " cat"   (empty)   " sat"    .
    spans = [(0, 0), (0, 2), (2, 5), (5, 6), (6, 8), (8, 11), (11, 15), (15, 15), (15, 19), (19, 20)]
    starts, ends = np.array(spans).T
    index, place = sentences(text, starts, ends)
    assert index.tolist() == [0, 0, 0, 0, 0, 1, 1, 1, 1, 1]
    assert place.tolist() == [0, 0, 1, 2, 3, 0, 1, 2, 2, 3]
    index, place = sentences(text, np.full(3, -1), np.full(3, -1))
    assert np.isnan(index).all()
    assert np.isnan(place).all()


@settings(max_examples=6, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    n_dummy=st.integers(0, 3),
    max_tokens=st.sampled_from([None, 6, 9]),
    kind=st.sampled_from(["word", "bert", "byte"]),
    batch_size=st.integers(1, 5),
    seed=st.integers(0, 3),
)
def test_every_row_belongs_to_its_volume(tmp_path_factory, n_dummy, max_tokens, kind, batch_size, seed):
    tokenizer = {"word": word_tokenizer, "bert": bert_tokenizer, "byte": byte_tokenizer}[kind]()
    model = build_model("gpt2", vocab_size=320)
    texts = [f"{re.sub('[.!?]', 'x', text)} . the end" for text in texts_of(8, seed=seed)]
    recording = record(
        model, tmp_path_factory.mktemp("aligned") / "study", texts, tokenizer,
        n_dummy=n_dummy, max_tokens=max_tokens, batch_size=batch_size, test_fraction=0.25,
    )  # fmt: skip
    found = compute(recording, predictions(model, recording))
    arrays = list(recording.arrays())
    text_of = dict(zip(recording.texts["text_id"], recording.texts["text"], strict=True))
    volumes = pd.concat(recording.events, ignore_index=True)
    with torch.no_grad():
        for table, events, array in zip(found, recording.events, arrays, strict=True):
            assert len(table) == len(events) == len(array)
            assert tuple(table) == COLUMNS
            assert np.array_equal(table["position"], events["position"])
            assert np.allclose(
                table["global_signal"], array.astype(float).mean(axis=1), atol=rounding(array, array.shape[1], float)
            )
            for place in (0, len(events) // 2, len(events) - 1):
                event, own = events.iloc[place], table.iloc[place]
                ids = tokenizer(text_of[event["text_id"]])["input_ids"][: int(event["position"]) + 1]
                assert ids[-1] == event["token_id"]
                share = (volumes["token_id"] == event["token_id"]).mean()
                assert own["log_frequency"] == pytest.approx(np.log(share))
                part = text_of[event["text_id"]][int(event["start"]) : int(event["end"])]
                assert own["token_length"] == len(part.strip())
                text, tokens = text_of[event["text_id"]], pd.concat(recording.tokens)
                tokens = tokens[(tokens["text_id"] == event["text_id"]) & (tokens["end"] > tokens["start"])]
                ended = text[: int(event["start"])].rstrip().count(".")
                begun = text.find(".") + 1 if ended else 0
                before = (tokens["position"] < event["position"]) & (tokens["end"] > begun)
                assert (own["sentence_index"], own["sentence_position"]) == (ended, before.sum())
                if len(ids) == 1:
                    assert np.isnan(own["surprisal"])
                    assert np.isnan(own["entropy"])
                else:
                    logits = model(torch.tensor([ids[:-1]])).logits[0, -1]
                    p, close = logits.double().softmax(-1), model_rounding(model, logits)
                    assert own["surprisal"] == pytest.approx(-float(p[ids[-1]].log()), abs=close)
                    assert own["entropy"] == pytest.approx(-float((p * p.log()).sum()), abs=close)


def test_a_massive_activation_is_large_and_far_beyond_its_layer(tmp_path, gpt2):
    recording = record(gpt2, tmp_path / "study")
    made = [array.copy() for array in recording.arrays()]
    made[0][:] = np.random.default_rng(0).uniform(0.05, 0.15, made[0].shape)  # of median 0.1 in every layer
    made[0][2, 5] = -120.0  # large, and 1200 times the median
    made[0][3] *= 0.1
    made[0][3, 5] = 99.0  # 9900 times the median, and too small
    made[0][4] *= 10
    made[0][4, 5] = 500.0  # large, but not beside its layer
    made[0][5, -1] = 300.0  # in the last layer
    nib.save(recording.space.to_img(made[0]), recording.runs[0].img)
    flags = compute(recording)[0]["massive_activation"]
    assert flags.dtype.kind == "i"
    assert np.flatnonzero(flags).tolist() == [2, 5]


# -- surprisal --------------------------------------------------------------------------------------------------------


def looped(model, ids):
    """Compute surprisal and entropy token by token, without a batch."""
    found = [(np.nan, np.nan)]
    with torch.no_grad():
        for place in range(1, len(ids)):
            log_p = model(input_ids=torch.tensor([ids[:place]])).logits[0, -1].double().log_softmax(-1)
            found.append((-float(log_p[ids[place]]), -float((log_p.exp() * log_p).sum())))
    return np.array(found).T


@pytest.mark.parametrize("name", EVERY_CAUSAL)
def test_surprisal_is_that_of_single_unbatched_readings(name, tmp_path, monkeypatch):
    check_surprisal(name, 1000, tmp_path, monkeypatch)  # 1000 logits are 2 tokens of 5 texts here


@pytest.mark.parametrize(("name", "most"), [("gpt2", 1), ("opt", 1), ("gemma2", 1), ("gpt2", 2**25)])
def test_surprisal_does_not_depend_on_the_number_of_logits_in_memory(name, most, tmp_path, monkeypatch):
    check_surprisal(name, most, tmp_path, monkeypatch)


def check_surprisal(name, most, tmp_path, monkeypatch):
    monkeypatch.setattr("lmri.models.logits.MOST_LOGITS", most)
    model = build_model(name)
    recording = record(model, tmp_path / "study", texts_of(5), batch_size=5)
    before = snapshot(model)
    found = predictions(model, recording)
    assert_untouched(model, before)
    assert "forward" not in vars(model.base_model)
    assert not found.reason
    for table, tokens in zip(found.tables, recording.tokens, strict=True):
        assert table["token_id"].tolist() == tokens["token_id"].tolist()
        for _, rows in tokens.groupby("text_id").indices.items():
            own = table.iloc[rows][["surprisal", "entropy"]].to_numpy().T
            by_hand = looped(model, table["token_id"].iloc[rows].tolist())
            np.testing.assert_allclose(own, by_hand, atol=model_rounding(model, by_hand))


def test_parts_of_the_logits_are_the_logits_and_no_more_are_held(monkeypatch):
    model = build_model("gemma2")  # caps its logits behind the head
    ids, mask = right_pad([[2, 5, 6, 7, 9, 8, 4], [2, 9, 5]], torch.device("cpu"))
    with torch.no_grad():
        whole = model(input_ids=ids, attention_mask=mask).logits
        parts = list(logits_in_parts(model, ids, mask, most=2 * 96 * 2))
    assert [tuple(logits.shape[:2]) for _, _, logits in parts] == [(2, 2), (2, 2), (2, 2), (2, 1)]
    # A logit is a sum of as many products as the model is wide; two orders of summation differ by at most so many
    # roundings on either side.
    most = 2 * model.config.hidden_size * epsilon(whole.dtype) * float(whole.abs().max())
    assert most < 1e-4 * float(whole.std())  # far below the differences between logits
    for rows, places, logits in parts:
        torch.testing.assert_close(logits, whole[rows, places], atol=most, rtol=0)
    # A head that cannot be given a part gets single texts.
    monkeypatch.setattr("lmri.models.logits._bodies", lambda model: [])
    with torch.no_grad():
        parts = list(logits_in_parts(model, ids, mask, most=1))
    assert [(rows.start, logits.shape[0]) for rows, _, logits in parts] == [(0, 1), (1, 1)]


def test_the_sum_of_surprisal_equals_the_perplexity_task(tmp_path, gpt2):
    texts = texts_of(9)
    recording = record(gpt2, tmp_path / "study", texts, n_dummy=0)
    task = Perplexity(texts).score(gpt2, word_tokenizer())
    found = pd.concat(compute(recording, predictions(gpt2, recording)))
    found["text_id"] = pd.concat(recording.events)["text_id"].to_numpy()
    sums = found.groupby("text_id")["surprisal"].sum()
    for row in task.itertuples():
        whole = row.value * row.n_tokens
        assert sums[f"words-{row.item:05d}"] == pytest.approx(whole, abs=model_rounding(gpt2, whole))
    assert (found["entropy"].dropna() <= np.log(96) * (1 + relative(96, np.float32))).all()
    assert found["surprisal"].isna().sum() == len(texts)


@pytest.mark.parametrize(
    ("name", "head", "told"),
    [
        ("bert", None, "both sides"),
        ("t5", None, "encoder–decoder"),
        ("gpt2", "GPT2Model", "no language-model head"),
        ("gpt2", "GPT2ForSequenceClassification", "no language-model head"),
        ("bert", "BertLMHeadModel", "both sides"),  # which generates, and looks ahead all the same
    ],
)
def test_models_that_do_not_read_from_left_to_right_have_no_surprisal(name, head, told, tmp_path):
    model = ARCHITECTURES[name].build(**({"head": head} if head else {}))
    recording = record(model, tmp_path / "study")
    found = predictions(model, recording)
    assert told in found.reason
    study = lmri.open_study(tmp_path / "study")
    write(study.layout, recording, found)
    assert pd.concat(recording.confounds)[["surprisal", "entropy"]].isna().all(axis=None)
    beside = storage.read_json(storage.sidecar(storage.confounds_beside(recording.runs[0].events)))
    assert told in beside["surprisal"]["Reason"]
    assert "Reason" not in beside["position"]
    with pytest.raises(ValueError, match=r"'surprisal' has no values .*" + told):
        select(recording, ["surprisal"])
    assert confounds.has_predictions(recording)  # it was asked, and need not be again


def test_other_weights_and_interventions_are_refused(tmp_path, gpt2):
    recording = record(gpt2, tmp_path / "study")
    with pytest.raises(StudyError, match="Load the model that was recorded"):
        predictions(build_model("gpt2", seed=1), recording)
    network = lmri.Network.from_members(recording.space, np.arange(recording.space.n_neurons) < 5)
    with lmri.lesion(network).on(gpt2), pytest.raises(ValueError, match="under an intervention"):
        predictions(gpt2, recording)
    with pytest.raises(ValueError, match="at least 1"):
        predictions(gpt2, recording, batch_size=0)


def test_predictions_that_are_not_finite_are_refused(tmp_path, gpt2, monkeypatch):
    recording = record(gpt2, tmp_path / "study")
    forward = gpt2.forward

    def broken(*args, **kwargs):
        made = forward(*args, **kwargs)
        if len(made.logits) > 1:  # a batch of the recording; the test of causality reads single texts
            made.logits[0, 1] = float("nan")
        return made

    monkeypatch.setattr(gpt2, "forward", remote_code(broken))
    with pytest.raises(NonFiniteError, match="token 2 of text"):
        predictions(gpt2, recording)


def test_predictions_of_another_recording_are_refused(tmp_path, gpt2):
    recording = record(gpt2, tmp_path / "study")
    other = record(gpt2, tmp_path / "other", texts_of(12, seed=1))
    with pytest.raises(ValueError, match="Compute them from this recording"):
        compute(recording, predictions(gpt2, other))


# -- on disk ----------------------------------------------------------------------------------------------------------


def test_files_are_named_described_and_nothing_the_validators_mind(demo):
    study, said = demo
    runs = len(study.recording("news", "mlp_out").runs)
    assert len(said["written"]) == 3 * runs  # one for all sites, and one for each
    assert said["written"][0].endswith("/func/sub-lmridemo_task-news_run-001_desc-confounds_timeseries.tsv")
    assert study.layout.root / said["written"][0] == study.layout.confounds("news", 1)
    assert study.layout.confounds("news", 1, "mlp_hidden").is_file()
    for path, columns in ((said["written"][0], TEXT_COLUMNS), (said["written"][-1], SITE_COLUMNS)):
        beside = storage.read_json(storage.sidecar(study.root / path))
        assert set(beside) == {*columns, "LMRI"}
        assert all({"Description", "Units"} <= set(beside[name]) for name in columns)
    assert validate(study).problems == []
    table = {(row["site"], row["confound"]): row for row in said["confounds"]}
    assert table["mlp_out", "surprisal"] == {**table["mlp_hidden", "surprisal"], "site": "mlp_out"}
    assert table["mlp_out", "global_signal"]["mean"] != table["mlp_hidden", "global_signal"]["mean"]


def test_the_same_command_again_writes_nothing_and_loads_no_model(copy, monkeypatch):
    before = {path: path.read_bytes() for path in copy.layout.func.iterdir()}
    monkeypatch.setattr("lmri.models.load_model", None)  # to call it would be an error
    done = run("confounds", copy.root, "--json")
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["written"] == []
    assert {path: path.read_bytes() for path in copy.layout.func.iterdir()} == before
    assert "already stored" in run("confounds", copy.root).stdout


def test_missing_or_damaged_tables_are_computed_again(copy):
    recording = copy.recording("news", "mlp_out")
    first = storage.confounds_beside(recording.runs[0].events)
    content = first.read_bytes()
    first.write_bytes(content[: len(content) // 2])
    done = run("confounds", copy.root, "--json")
    assert len(json.loads(done.stdout)["written"]) == len(recording.runs)
    assert first.read_bytes() == content


def test_without_a_model_first_and_with_it_later(copy):
    for path in copy.layout.func.glob("*_timeseries.*"):
        path.unlink()
    copy.layout.bidsignore.write_text("lmri\nmine\n")  # as an older study has it
    done = run("confounds", copy.root, "--no-model")
    assert done.exit_code == 0, done.output
    assert "n/a throughout: surprisal, entropy. The model was not asked" in done.stdout
    assert copy.layout.bidsignore.read_text() == f"lmri\nmine\n{storage.CONFOUNDS_IGNORED}\n"
    recording = copy.recording("news", "mlp_out")
    assert pd.concat(recording.confounds)["surprisal"].isna().all()
    with pytest.raises(ValueError, match="was not asked"):
        select(recording, ["entropy"])
    assert run("confounds", copy.root).exit_code == 0
    again = copy.recording("news", "mlp_out")
    assert pd.concat(again.confounds)["surprisal"].notna().all()
    assert json.loads(run("confounds", copy.root, "--no-model", "--json").stdout)["written"] == []
    assert pd.concat(copy.recording("news", "mlp_out").confounds)["surprisal"].notna().all()


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--corpus", "code"], "choose from news"),
        (["--model", "x", "--no-model"], "Omit one of them"),
        (["--batch-size", "0"], "at least 1"),
    ],
)
def test_bad_options_are_refused(demo, options, told):
    done = run("confounds", demo[0].root, *options)
    assert done.exit_code == 1
    assert told in done.output


def test_other_weights_are_refused_on_the_command_line(copy, tmp_path):
    model, tokenizer = lmri.load_model("lmri-demo")
    randomize(model).save_pretrained(tmp_path / "other")
    tokenizer.save_pretrained(tmp_path / "other")
    for path in copy.layout.func.glob("*_timeseries.*"):
        path.unlink()
    done = run("confounds", copy.root, "--model", tmp_path / "other")
    assert done.exit_code == 1
    assert "Load the model that was recorded" in done.output
    assert not list(copy.layout.func.glob("*_timeseries.*"))


def test_a_model_that_is_named_is_not_passed_over_though_predictions_are_stored(copy, tmp_path):
    before = {path: path.read_bytes() for path in copy.layout.func.iterdir()}
    model, tokenizer = lmri.load_model("lmri-demo")
    for name in ("same", "other"):
        (randomize(model, seed=5) if name == "other" else model).save_pretrained(tmp_path / name)
        tokenizer.save_pretrained(tmp_path / name)
    done = run("confounds", copy.root, "--model", tmp_path / "other")
    assert done.exit_code == 1
    assert "were computed with weights" in done.output
    done = run("confounds", copy.root, "--model", tmp_path / "same", "--json")
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["written"] == []
    assert {path: path.read_bytes() for path in copy.layout.func.iterdir()} == before


def test_the_model_is_loaded_as_was_asked(copy, monkeypatch):
    seen = {}

    def load(place, **options):
        seen.update(options)
        raise ValueError("enough was seen.")

    monkeypatch.setattr("lmri.models.load_model", load)
    for path in copy.layout.func.glob("*_timeseries.*"):
        path.unlink()
    options = ["--allow-pickle", "--device-map", "auto", "--offload-folder", "disk", "--trust-remote-code"]
    assert run("confounds", copy.root, *options).exit_code == 1
    assert (seen["allow_pickle"], seen["device_map"], str(seen["offload_folder"])) == (True, "auto", "disk")
    assert seen["trust_remote_code"]


def test_what_another_command_wrote_meanwhile_stays(copy, monkeypatch):
    recording, other = copy.recording("news", "mlp_out"), copy.recording("news", "mlp_out")
    model, _ = lmri.load_model("lmri-demo")
    known = predictions(model, recording)
    for path in copy.layout.func.glob("*_timeseries.*"):
        path.unlink()
    original, n_held = storage.write_lock, []

    @contextlib.contextmanager
    def held(root, wait=None):
        n_held.append(root)
        if len(n_held) == 1:  # the other was here first
            assert write(copy.layout, other, known)
        with original(root, wait):
            yield

    monkeypatch.setattr(storage, "write_lock", held)
    assert write(copy.layout, recording) == []  # without predictions
    assert len(n_held) == 2
    assert pd.concat(recording.confounds)["surprisal"].notna().all()


def test_confounds_of_another_recording_or_version_are_refused(copy):
    recording = copy.recording("news", "mlp_out")
    assert "surprisal" in joined([recording])[0]
    for img in (False, True):
        run_of = recording.runs[-1]
        path = storage.confounds_beside(run_of.img if img else run_of.events)
        beside, table = storage.sidecar(path), path.read_bytes()
        content = beside.read_bytes()
        about = json.loads(content)
        for key, value in (("made_of", "0" * 16), ("definitions", 0)):
            storage.write_json(beside, {**about, "LMRI": {**about["LMRI"], key: value}})
            for use in (lambda: select(copy.group("mlp_out"), ["position"]), lambda: joined(copy.group("mlp_out"))):
                with pytest.raises(StudyError, match=r"another recording or an older version.*lmri confounds STUDY"):
                    use()
        beside.write_bytes(content)
        path.write_bytes(table.rstrip() + b"1\n")  # another last number
        with pytest.raises(StudyError, match="another recording"):
            joined(copy.group("mlp_out"))
        path.write_bytes(table)
    assert len(select(copy.recording("news", "mlp_out"), ["position"]))


def test_a_recording_without_confounds_says_how_to_make_them(copy):
    for path in copy.layout.func.glob("*space-mlpout*_timeseries.*"):
        path.unlink()
    with pytest.raises(StudyError, match="lmri confounds STUDY"):
        _ = copy.recording("news", "mlp_out").confounds
    assert len(copy.recording("news", "mlp_hidden").confounds)


@pytest.mark.parametrize("change", ["shorter", "moved"])
def test_a_table_of_other_rows_is_refused(copy, change):
    recording = copy.recording("news", "mlp_out")
    path = storage.confounds_beside(recording.runs[0].events)
    table = storage.read_table(path)
    storage.write_table(path, table.iloc[1:] if change == "shorter" else table.assign(position=table["position"] + 1))
    with pytest.raises(StudyError, match="does not belong to the events"):
        _ = recording.confounds


def test_a_study_made_today_passes_over_confounds(tmp_path):
    layout = storage.Layout(tmp_path)
    create(layout, lmri.space.ModelInfo("a", None, "b", "c", "float32"))
    assert storage.CONFOUNDS_IGNORED in layout.bidsignore.read_text().splitlines()
    before = layout.bidsignore.read_bytes()
    storage.ignore_in_bids(layout)
    assert layout.bidsignore.read_bytes() == before


# -- selection --------------------------------------------------------------------------------------------------------


def test_gaps_get_the_mean_of_their_run_and_are_counted(tmp_path, gpt2):
    recording = record(gpt2, tmp_path / "study", n_dummy=0)
    study = lmri.open_study(tmp_path / "study")
    write(study.layout, recording, predictions(gpt2, recording))
    n = sum(int(table["surprisal"].isna().sum()) for table in recording.confounds)
    assert n == 12
    with pytest.warns(DataWarning, match="surprisal at 12"):
        found = select(recording, ["surprisal", "position"])
    for table, raw in zip(found, recording.confounds, strict=True):
        gaps = raw["surprisal"].isna()
        assert np.allclose(table.loc[gaps, "surprisal"], raw["surprisal"].mean())
        assert np.array_equal(table.loc[~gaps, "surprisal"], raw.loc[~gaps, "surprisal"])
        # After centring it is 0: the volume stays as it is.
        assert np.allclose(basis(table[["surprisal"]])[gaps], 0, atol=rounding(1.0, len(table)))
        X = np.random.default_rng(0).normal(size=(len(table), 3)).astype(np.float32)
        np.testing.assert_allclose(without(X, table[["surprisal"]].to_numpy())[gaps], X[gaps], atol=rounding(X, len(X)))
        # So it is alone only.
        assert np.abs(without(X, table.to_numpy())[gaps] - X[gaps]).max() > 1e-3  # 100 times the rounding error


def test_a_word_has_the_sum_of_its_surprisal_and_the_entropy_of_its_first_token(tmp_path, gpt2):
    model = build_model("gpt2", vocab_size=320)
    texts = [f"start {text}" for text in texts_of(6)]
    options = {"tokenizer": byte_tokenizer(), "n_dummy": 0}
    tokens = record(model, tmp_path / "tokens", texts, **options)
    words = record(model, tmp_path / "words", texts, per="word", **options)
    single = pd.concat([pd.concat([a, b.drop(columns="position")], axis=1) for a, b in zip(
        tokens.events, compute(tokens, predictions(model, tokens)), strict=True)])  # fmt: skip
    events, found = pd.concat(words.events), pd.concat(compute(words, predictions(model, words)))
    assert (events["last_position"] > events["position"]).any()
    for event, own in zip(events.itertuples(), found.itertuples(), strict=True):
        inside = single["position"].between(event.position, event.last_position)
        parts = single[inside & (single["text_id"] == event.text_id)]
        np.testing.assert_allclose(
            own.surprisal, parts["surprisal"].sum(skipna=False), rtol=relative(len(parts), np.float32)
        )
        np.testing.assert_allclose(own.entropy, parts["entropy"].iloc[0], rtol=relative(dtype=np.float32))
        assert np.isnan(own.surprisal) == np.isnan(own.entropy) == (event.position == 0)
        assert own.token_length == len(event.token.strip())
        assert own.sentence_position == parts["sentence_position"].iloc[0]
    shares = events["token"].str.strip().map(events["token"].str.strip().value_counts(normalize=True))
    np.testing.assert_allclose(found["log_frequency"], np.log(shares))
    assert "first token, not the sum" in TEXT_COLUMNS["entropy"]["Description"]


@pytest.mark.parametrize(
    ("names", "told"),
    [(["colour"], "choose from position"), ([], "at least one"), (["position", "position"], "without duplicates")],
)
def test_unknown_confounds_are_refused(demo, names, told):
    with pytest.raises(ValueError, match=told):
        select(demo[0].recording("news", "mlp_out"), names)
    with pytest.raises(TypeError, match="list of names"):
        select(demo[0].recording("news", "mlp_out"), "position")


def test_constant_and_collinear_confounds_are_named(demo):
    recording = demo[0].recording("news", "mlp_out")
    with pytest.warns(DataWarning, match="'massive_activation' is constant in"):
        select(recording, ["position", "massive_activation"])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        select(recording, ["position", "surprisal", "global_signal"])
    for table in recording.confounds:
        table["entropy"] = 3 - 2 * table["position"]
    with pytest.warns(DataWarning, match="'entropy' is constant, or a combination"):
        select(recording, ["position", "entropy"])


# -- taken out --------------------------------------------------------------------------------------------------------


def test_residuals_are_orthogonal_whatever_the_scales():
    rng = np.random.default_rng(0)
    C = rng.normal(size=(200, 4)) * [1e6, 1.0, 1e-9, 1.0] + [1e7, 5.0, 1e-8, 0.0]
    C[:, 3] = 2 * C[:, 1] - 1  # collinear
    C = np.column_stack([C, np.full(200, 0.1)])  # constant, not exactly representable
    X = (rng.normal(size=(200, 5000)) + np.outer((C[:, 2] - 1e-8) * 1e9, rng.normal(size=5000))).astype(np.float32)
    assert basis(C).shape == (200, 3)
    R = without(X, C).astype(float)
    centred = C - C.mean(axis=0)
    centred = centred[:, :4] / np.linalg.norm(centred[:, :4], axis=0)
    assert np.abs(centred.T @ R / np.linalg.norm(X, axis=0)).max() < relative(len(X), np.float32)
    assert np.abs(centred.T @ X / np.linalg.norm(X, axis=0)).max() > 0.3  # there was something
    assert np.allclose(R.mean(axis=0), X.mean(axis=0), atol=rounding(X))  # means stay
    exact = X - centred[:, :3] @ np.linalg.lstsq(centred[:, :3], X, rcond=None)[0]
    np.testing.assert_allclose(R, exact, atol=rounding(X))
    for nothing in (np.ones((200, 1)), np.zeros((200, 0))):
        assert np.array_equal(without(X, nothing), X)


def test_every_run_of_a_decomposition_is_orthogonal_to_its_confounds(demo):
    recording = demo[0].recording("news", "mlp_out")
    chosen = select(recording, ["position", "surprisal", "global_signal"])
    ica = lmri.NeuronICA(recording.space, 3, n_init=1)
    runs = ica._prepare_runs(recording.imgs, chosen)
    for array, table in zip(runs, chosen, strict=True):
        C = table.to_numpy() - table.to_numpy().mean(axis=0)
        C /= np.linalg.norm(C, axis=0)
        # All neurons have unit variance before.
        assert np.abs(C.T @ array.astype(float)).max() / np.sqrt(len(array)) < relative(len(array), np.float32)


@pytest.fixture(scope="module")
def trended():
    """Return a phantom of three networks and one that follows position, run by run, with the positions."""
    phantom = planted(SPACE, n_networks=3, share=0.1, n_runs=3, n_volumes=200, minority=0.2)
    trend_map = np.zeros(SPACE.n_neurons)
    trend_map[np.random.default_rng(3).choice(SPACE.n_neurons, 14, replace=False)] = 3.0
    position = np.tile(np.arange(50.0), 4)
    extra = np.outer((position - position.mean()) / position.std(), trend_map)
    imgs = [SPACE.to_img((SPACE.from_img(img) + extra).astype(np.float32)) for img in phantom.imgs]
    tables = [pd.DataFrame({"position": position})] * 3
    return phantom, trend_map, imgs, tables


@pytest.mark.parametrize("method", METHODS)
def test_a_network_of_position_vanishes_with_it_and_the_others_stay(method, trended):
    phantom, trend_map, imgs, tables = trended

    def find(confounds):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            estimator = build(method, SPACE, n_components=4, random_state=0)
            estimator.fit(imgs, confounds=confounds)
        others = np.abs(matched(estimator.components_, phantom.maps)[1]).min()
        # Dictionary learning may leave a map empty, which is correlated with nothing.
        r = matched(estimator.components_, trend_map[None])[1]
        return np.abs(r).max(), others, estimator

    least = 0.7 if method == "dictlearning" else 0.9
    r, others, plain = find(None)
    assert r > least  # the positive control
    assert others > least
    r, others, estimator = find(tables)
    assert r < 0.4
    assert others > least  # the negative control
    assert estimator.confound_names == ["position"]
    assert estimator.info_["parameters"]["confounds"] == ["position"]
    assert plain.confounds_digest is None
    assert "confounds" not in plain.info_["parameters"]


def test_where_nothing_follows_the_confound_the_maps_are_the_same():
    phantom = planted(SPACE, n_networks=3, share=0.1, n_runs=3, n_volumes=200, minority=0.2)
    tables = [pd.DataFrame({"position": np.tile(np.arange(50.0), 4)})] * 3
    plain = lmri.NeuronICA(SPACE, 3, n_init=3).fit(phantom.imgs)
    found = lmri.NeuronICA(SPACE, 3, n_init=3).fit(phantom.imgs, confounds=tables)
    assert np.abs(matched(found.components_, plain.components_)[1]).min() > 0.999


def test_tables_with_other_columns_in_some_runs_are_refused(trended):
    _, _, imgs, tables = trended
    with pytest.raises(ValueError, match="other columns in some runs"):
        lmri.NeuronICA(SPACE, 3).fit(imgs, confounds=[*tables[:2], tables[2].rename(columns={"position": "x"})])


def test_the_choice_is_part_of_what_a_decomposition_is(copy):
    options = ["--site", "mlp_out", "--n-components", "2", "--n-init", "1", "--threshold", "z:3", "--name", "clean"]
    done = run("decompose", copy.root, *options, "--confounds", "position", "--confounds", "surprisal")
    assert done.exit_code == 0, done.output
    entry = copy.entries.find("decompositions", "clean", "mlp_out")
    assert entry.parameters["confounds"] == ["position", "surprisal"]
    assert len(entry.inputs["confounds_sha256"]) == 16
    again = run("decompose", copy.root, *options, "--confounds", "position", "--confounds", "surprisal")
    assert again.exit_code == 0, again.output
    for other in ([], ["--confounds", "position"]):
        done = run("decompose", copy.root, *options, *other)
        assert done.exit_code == 1
        assert "confounds: ['position', 'surprisal'] stored" in done.output
    metrics = copy.networks("clean", "mlp_out").metrics
    assert {"r_surprisal", "r_entropy", "r_sentence_position", "r_global_signal"} <= set(metrics)
    # Surprisal is gone from every run; within texts, as it is correlated here, little of it is left.
    assert metrics["r_surprisal"].abs().max() < 0.3
    course = pd.concat([table for _, _, table in copy.time_courses("clean", "mlp_out")])
    raw = pd.concat(copy.recording("news", "mlp_out").confounds)["surprisal"]
    assert np.abs(np.corrcoef(course.to_numpy().T, raw)[-1, :-1]).max() < 0.05


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--confounds", "colour"], "choose from position"),
        (["--paper", "--confounds", "position"], "confounds (none)"),
        (["--confounds", "position", "--confounds", "position"], "without duplicates"),
    ],
)
def test_a_decomposition_refuses_unknown_confounds(copy, options, told):
    done = run("decompose", copy.root, "--site", "mlp_out", *options)
    assert done.exit_code == 1
    assert told in done.output


def test_a_decomposition_without_the_tables_says_how_to_make_them(copy):
    for path in copy.layout.func.glob("*_timeseries.*"):
        path.unlink()
    done = run("decompose", copy.root, "--site", "mlp_out", "--confounds", "position")
    assert done.exit_code == 1
    assert "lmri confounds STUDY" in done.output


def test_robustness_takes_the_same_confounds_out(copy):
    from lmri.lesions.experiments.specifications import Specifications

    recordings = copy.group("mlp_out")
    chosen = select(recordings, ["position"])
    ica = lmri.NeuronICA(recordings[0].space, 2, n_init=1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ica.fit(recordings[0].imgs, confounds=chosen)
        copy.save_decomposition(ica, recordings, "clean")
        copy.save_networks(copy.decomposition("clean", "mlp_out").threshold("z", z=2.0), "clean")
        found = Specifications(copy, "clean", "mlp_out")
        choices = found.choices(["seed"], seeds=[0, 1], methods=[], baselines=["zero"], thresholds=[])
        maps = found._fit(choices[0])
    assert np.abs(matched(maps.networks.weights, ica.components_)[1]).min() > 0.999


@pytest.mark.parametrize("kind", ["arrays", "other names", "other values"])
def test_robustness_refuses_confounds_that_it_cannot_take_out_again(copy, kind):
    from lmri.lesions.experiments.specifications import Specifications

    recordings = copy.group("mlp_out")
    chosen = select(recordings, ["position"])
    chosen = {
        "arrays": [table.to_numpy() for table in chosen],
        "other names": [table.rename(columns={"position": "mine"}) for table in chosen],
        "other values": [table**2 for table in chosen],
    }[kind]
    ica = lmri.NeuronICA(recordings[0].space, 2, n_init=1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ica.fit(recordings[0].imgs, confounds=chosen)
        copy.save_decomposition(ica, recordings, "clean")
        copy.save_networks(copy.decomposition("clean", "mlp_out").threshold("z", z=2.0), "clean")
    found = Specifications(copy, "clean", "mlp_out")
    options = {"seeds": [0, 1], "methods": [], "baselines": ["zero"]}
    for vary in (["seed"], ["site"]):
        with pytest.raises(StudyError, match="variants cannot be fitted in the same way"):
            found.choices(vary, thresholds=[], **options)
    assert len(found.choices(["threshold"], thresholds=[("z", {"z": 2.5})], **options)) == 2  # no other fit


# -- metrics ----------------------------------------------------------------------------------------------------------


def test_networks_are_correlated_with_the_columns_that_are_there(demo):
    recordings = demo[0].group("mlp_out")
    events, plain = joined(recordings), recordings[0].events
    courses = [table[["surprisal", "entropy"]].to_numpy() for table in recordings[0].confounds]
    found = confound_correlations(courses, events, ["a", "b"])
    assert found["r_surprisal"].iloc[0] == pytest.approx(1)
    assert found["r_entropy"].iloc[1] == pytest.approx(1)
    assert np.isnan(found["r_massive_activation"]).all()  # it does not vary
    assert set(confound_correlations(courses, plain)) == {"network", "r_position", "r_token_length", "r_log_frequency"}
    assert [list(table["token"]) for table in events] == [list(table["token"]) for table in plain]


def test_gaps_of_a_column_have_no_part_in_its_correlation(demo):
    recording = demo[0].recording("news", "mlp_out")
    events = joined([recording])
    courses = [table[["surprisal", "entropy"]].to_numpy() for table in recording.confounds]
    alone = confound_correlations(courses[:1], events[:1])
    lacking = [events[0], *(table.assign(surprisal=np.nan) for table in events[1:])]
    found = confound_correlations(courses, lacking)
    np.testing.assert_allclose(found["r_surprisal"], alone["r_surprisal"], rtol=relative(len(events[0])))
    whole = confound_correlations(courses, events)
    assert np.abs(whole["r_surprisal"] - found["r_surprisal"]).max() > 1e-4  # rounding gives 1e-13
    pd.testing.assert_series_equal(found["r_entropy"], whole["r_entropy"])


def test_networks_of_two_corpora_are_described_by_what_both_have(copy):
    from lmri.decomposition.description import open_time_courses

    model, tokenizer = lmri.load_model("lmri-demo")
    lmri.record(model, tokenizer, generate("code", 8, 3), copy.root, corpus="code", run_tokens=250)
    recordings = copy.group("mlp_out")
    ica = lmri.NeuronICA(recordings[0].space, 2, n_init=1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ica.fit([img for one in recordings for img in one.imgs])
        copy.save_decomposition(ica, recordings, "both")
    own = [table for one in recordings for table in one.events]
    events = open_time_courses(copy, "both", "mlp_out").events
    assert all("surprisal" not in table for table in events)  # of code there is none
    done = run("describe", copy.root, "both", "--site", "mlp_out", "--n-permutations", "20", "--json")
    assert done.exit_code == 0, done.output
    assert run("confounds", copy.root, "--corpus", "code", "--site", "mlp_out").exit_code == 0
    opened = open_time_courses(copy, "both", "mlp_out")
    courses, events = opened.courses, opened.events
    assert all(table["surprisal"].notna().all() for table in events)
    for course, table, other in zip(courses, events, own, strict=True):
        assert len(course) == len(table)
        assert table["token"].tolist() == other["token"].tolist()


# -- localizers -------------------------------------------------------------------------------------------------------


def within_runs(seed, effect, through, n_runs=10, length=60):
    """Simulate runs of two texts; neuron 0 follows the condition, neuron 1 a confound correlated with it."""
    rng = np.random.default_rng(seed)
    imgs, events, tables = [], [], []
    for number in range(n_runs):
        condition = rng.random(length) < 0.5
        confound = 1e-4 * (condition + 0.5 * rng.normal(size=length))  # in small units
        data = rng.normal(size=(length, SPACE.n_neurons))
        data[:, 0] += effect * condition
        data[:, 1] += through * confound * 1e4
        text = np.repeat([f"r{number}a", f"r{number}b"], length // 2)
        imgs.append(SPACE.to_img(data.astype(np.float32)))
        events.append(
            pd.DataFrame(
                {
                    "onset": np.arange(float(length)), "duration": 1.0, "text_id": text,
                    "kind": np.where(condition, "yes", "no"),
                }
            )
        )  # fmt: skip
        tables.append(pd.DataFrame({"surprisal": confound}))
    return imgs, events, tables


def test_a_confound_explains_what_only_goes_with_it():
    imgs, events, tables = within_runs(0, effect=3.0, through=2.0)
    options = {"column": "kind", "n_permutations": 1024}
    plain = Localizer(SPACE, "yes - no", **options).fit(imgs, events)
    assert np.flatnonzero(plain.threshold()[0].members).tolist() == [0, 1]
    found = Localizer(SPACE, "yes - no", **options).fit(imgs, events, confounds=tables)
    assert np.flatnonzero(found.threshold()[0].members).tolist() == [0]
    # A difference of halves of 60 tokens over 10 runs; half of the variance of the condition is its confound's.
    CLOSE = 4 * np.sqrt(2 * 4 / 60 / 10)  # 4 standard errors
    assert abs(found.test_.effect[1]) < CLOSE < 1.5 < plain.test_.effect[1]
    assert found.test_.effect[0] == pytest.approx(3.0, abs=CLOSE)
    assert found.get_params()["confounds"] == ["surprisal"]
    assert found.confounds_digest != plain.confounds_digest
    assert plain.confounds_digest is None


def test_the_first_level_with_confounds_is_least_squares():
    imgs, events, tables = within_runs(1, effect=1.0, through=1.0)
    array, labels, text = SPACE.from_img(imgs[0]), events[0]["kind"], events[0]["text_id"]
    contrast = Contrast.parse("yes - no")
    found = first_level(array, labels, text, contrast, tables[0])
    X = np.column_stack([labels == "yes", text == text.iloc[0], text == text.iloc[-1], tables[0]["surprisal"] * 1e4])
    np.testing.assert_allclose(
        found, np.linalg.lstsq(X.astype(float), array, rcond=None)[0][0], atol=rounding(array, len(array))
    )
    # Twice the same, and a constant: nothing changes.
    more = tables[0].assign(again=tables[0]["surprisal"] * 3 - 1, constant=0.1)
    np.testing.assert_allclose(
        first_level(array, labels, text, contrast, more), found, atol=1e4 * rounding(array, len(array), float)
    )  # confounds are of the order of 1e-4
    assert design_matrix(labels, ["yes", "no"], text).shape[1] == 3
    # What is the contrast itself cannot be told from it.
    same = pd.DataFrame({"same": (labels == "yes").astype(float)})
    assert first_level(array, labels, text, contrast, same) is None


def test_rows_in_no_condition_have_no_part_in_the_slope_of_a_confound():
    imgs, events, tables = within_runs(2, effect=1.0, through=1.0)
    array, labels, text = (
        SPACE.from_img(imgs[0]),
        events[0]["kind"].to_numpy(dtype=object, copy=True),
        events[0]["text_id"],
    )
    labels[::3] = None
    kept = np.array([one is not None for one in labels])
    contrast = Contrast.parse("yes - no")
    found = first_level(array, labels, text, contrast, tables[0])
    alone = first_level(array[kept], labels[kept], text[kept], contrast, tables[0][kept])
    np.testing.assert_allclose(found, alone, atol=rounding(array, len(array), float))


def test_confounds_of_a_contrast_between_texts_are_refused():
    imgs, events, tables = within_runs(3, effect=0.0, through=0.0)
    events = [table.assign(kind=np.repeat(["yes", "no"], 30)) for table in events]
    with pytest.raises(ValueError, match="this contrast is between texts"):
        Localizer(SPACE, "yes - no", "kind").fit(imgs, events, confounds=tables)
    _, events, _ = within_runs(3, 0, 0)
    same = [pd.DataFrame({"same": table["kind"] == "yes"}, dtype=float) for table in events]
    with pytest.raises(ValueError, match="can separate them from the confounds"):
        Localizer(SPACE, "yes - no", "kind").fit(imgs, events, confounds=same)
    arrays = [table.to_numpy() for table in tables]
    with pytest.raises(TypeError, match="with one column per confound"):
        Localizer(SPACE, "yes - no", "kind").fit(imgs, events, confounds=arrays)


def test_the_command_takes_them_and_says_so(copy):
    base = ["localize", copy.root, "--site", "mlp_out", "--column", "is_capitalized", "--contrast", "1 - 0"]
    base += ["--unit", "text", "--name", "capitals"]
    done = run(*base, "--confounds", "position", "--confounds", "log_frequency")
    assert done.exit_code == 0, done.output
    entry = copy.entries.find("decompositions", "capitals", "mlp_out")
    assert entry.parameters["confounds"] == ["position", "log_frequency"]
    assert "confounds_sha256" in entry.inputs
    recording = copy.recording("news", "mlp_out")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        plain = localize(recording, "1 - 0", "is_capitalized", unit="text")
    with pytest.raises(EntryExistsError, match="confounds"):
        copy.save_decomposition(plain, [recording], "capitals")


def test_noise_stays_noise():
    imgs = gaussian_noise(SPACE, n_runs=2, n_volumes=120)
    tables = [pd.DataFrame({"position": np.arange(120.0)})] * 2
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = lmri.NeuronICA(SPACE, 3, n_init=1).fit(imgs, confounds=tables)
    found.surrogate_null(20)
    assert not lmri.NetworkSet.from_estimator(found).threshold("fdr").members.any()
