"""Recordings contain exactly the activations that the model computed, token by token."""

import contextlib
import warnings

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
import torch
from transformers import ByT5Tokenizer
from transformers.pytorch_utils import Conv1D

from lmri import Network, find_sites, lesion, load_model, open_study, record
from lmri.exceptions import DataWarning, EntryExistsError, NonFiniteError, SiteError, SpaceMismatchError, StudyError
from lmri.report import validation
from tiny_models import (
    ARCHITECTURES,
    CONTEXT,
    EVERY,
    N_LAYERS,
    WORDS,
    assert_untouched,
    bert_tokenizer,
    build,
    byte_tokenizer,
    remote_code,
    sentences,
    snapshot,
    word_tokenizer,
)
from tolerances import model_rounding, rounding

SITES = ("mlp_out", "mlp_hidden")


def values_of(recording):
    """Return all volumes of a recording, ``(n_volumes, n_neurons)``."""
    return np.concatenate(list(recording.arrays()))


def events_of(recording):
    return pd.concat(recording.events, ignore_index=True)


def by_hand(model, tokenizer, texts, paths, max_tokens=None):
    """Read texts one by one, without padding, through plain hooks: ``{site: [per text (n_tokens, n_neurons)]}``."""
    part = model.get_encoder() if model.config.is_encoder_decoder else model
    found = {site: [] for site in SITES}
    for text in texts:
        seen = {site: [None] * len(paths) for site in SITES}
        with contextlib.ExitStack() as stack:
            for z, path in enumerate(paths):

                def keep(module, args, output, z=z, seen=seen):
                    seen["mlp_hidden"][z] = args[0].detach().clone().reshape(-1, args[0].shape[-1])
                    seen["mlp_out"][z] = output.detach().clone().reshape(-1, output.shape[-1])

                handle = model.base_model.get_submodule(path).register_forward_hook(keep)
                stack.callback(handle.remove)
            with torch.no_grad():
                part(input_ids=torch.tensor([tokenizer(text)["input_ids"][:max_tokens]]))
        for site in SITES:
            found[site].append(torch.cat(seen[site], dim=1).numpy())
    return found


def files_of(root, but=("lmri/log.jsonl",)):
    return {
        path.relative_to(root).as_posix(): path.read_bytes()
        for path in sorted(root.rglob("*"))
        if path.is_file() and path.relative_to(root).as_posix() not in but
    }


# -- oracles, for every architecture ----------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=EVERY)
def both_sites(request, tmp_path_factory):
    """Record one corpus at both sites with every architecture; texts differ in length, so batches are padded."""
    model, root = build(request.param), tmp_path_factory.mktemp(request.param)
    tokenizer = word_tokenizer() if ARCHITECTURES[request.param].causal else bert_tokenizer()
    texts = sentences(7, shortest=2, longest=9)
    options = {"batch_size": 3, "run_tokens": 12, "test_fraction": 0}
    recordings = {site: record(model, tokenizer, texts, root, site=site, **options) for site in SITES}
    return request.param, model, tokenizer, recordings


def test_the_hidden_neurons_times_the_projection_are_the_output_neurons(both_sites):
    name, model, _, recordings = both_sites
    hidden, out = (recordings[site] for site in ("mlp_hidden", "mlp_out"))
    inputs, outputs = values_of(hidden), values_of(out)
    for z in range(N_LAYERS):
        module = model.base_model.get_submodule(ARCHITECTURES[name].projection.format(z=z))
        weight = module.weight.detach().numpy()
        weight = weight if isinstance(module, Conv1D) else weight.T  # (d_ff, d_model)
        expected = inputs[:, hidden.space.layer_of == z] @ weight
        if getattr(module, "bias", None) is not None:
            expected = expected + module.bias.detach().numpy()
        np.testing.assert_allclose(outputs[:, out.space.layer_of == z], expected, atol=rounding(expected, len(weight)))
    assert np.abs(outputs).max() > 0.1  # else the tolerance would let anything pass


def test_every_volume_is_what_a_plain_hook_sees_at_its_token_without_padding(both_sites):
    name, model, tokenizer, recordings = both_sites
    paths = [ARCHITECTURES[name].projection.format(z=z) for z in range(N_LAYERS)]
    texts = recordings["mlp_out"].texts
    expected = by_hand(model, tokenizer, texts["text"], paths)
    place = {text_id: number for number, text_id in enumerate(texts["text_id"])}
    for site, recording in recordings.items():
        rows = [expected[site][place[event.text_id]][event.position] for event in events_of(recording).itertuples()]
        values = values_of(recording)
        np.testing.assert_allclose(values, np.stack(rows), atol=model_rounding(model, values))


def test_images_are_those_of_nibabel_and_of_nilearns_masker(both_sites):
    _, _, _, recordings = both_sites
    for recording in recordings.values():
        for path, values in zip(recording.imgs, recording.arrays(), strict=True):
            img = nib.load(path)
            assert img.shape == (*recording.space.shape, len(values))
            assert img.get_data_dtype() == np.float32
            np.testing.assert_array_equal(img.affine, np.eye(4))
            assert img.header.get_xyzt_units() == ("mm", "sec")
            assert img.header.get_zooms() == (1, 1, 1, 1)
            np.testing.assert_array_equal(recording.space.masker().transform(img), values)


def test_the_whole_study_is_valid(both_sites):
    recording = both_sites[3]["mlp_out"]
    study = open_study(recording.runs[0].img.parents[2])
    found = validation.Findings()
    for one in study.recordings():
        validation._check_recording(study, one, found)
    assert found.problems == []
    assert len(study.recordings()) == 2


# -- batches ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["gpt2", "opt", "bloom", "gemma2", "bert", "t5"])
def test_the_batch_size_changes_nothing(tmp_path, name):
    texts, model = sentences(9, shortest=2, longest=20), build(name)
    recorded = {
        size: values_of(record(model, word_tokenizer(), texts, tmp_path / str(size), batch_size=size, test_fraction=0))
        for size in (1, 3, 8)
    }
    close = model_rounding(model, recorded[1])
    np.testing.assert_allclose(recorded[3], recorded[1], atol=close)
    np.testing.assert_allclose(recorded[8], recorded[1], atol=close)


def test_progress_is_told_up_to_the_last_token(tmp_path, gpt2, tokenizer):
    told = []
    texts = sentences(9)
    record(gpt2, tokenizer, texts, tmp_path, batch_size=2, progress=lambda *counts: told.append(counts))
    fitted = open_study(tmp_path).recording().fit_texts
    n_tokens = sum(len(text.split()) for text in fitted)
    assert [total for _, total in told] == [n_tokens] * -(-len(fitted) // 2)
    assert [done for done, _ in told] == sorted({done for done, _ in told})
    assert told[-1][0] == n_tokens


# -- tables -----------------------------------------------------------------------------------------------------------


def test_events_have_a_row_a_volume_in_the_order_of_the_texts(tmp_path, gpt2, tokenizer):
    texts = sentences(6)
    recording = record(gpt2, tokenizer, texts, tmp_path, corpus="words", test_fraction=0, run_tokens=10)
    assert len(recording.runs) > 1
    expected = [
        (f"words-{number:05d}", word, position)
        for number, text in enumerate(texts)
        for position, word in enumerate(text.split())
        if position > 0
    ]
    events = events_of(recording)
    assert list(zip(events["text_id"], events["token"], events["position"], strict=True)) == expected
    assert (events["token_id"] == tokenizer.convert_tokens_to_ids(list(events["token"]))).all()
    assert set(events["trial_type"]) == {"words"}
    for run, table in zip(recording.runs, recording.events, strict=True):
        assert len(table) == run.n_volumes == nib.load(run.img).shape[3]
        assert list(table["onset"]) == list(range(len(table)))
        assert set(table["duration"]) == {1}
    text_of = dict(zip(recording.texts["text_id"], recording.texts["text"], strict=True))
    for event in events.itertuples():
        assert text_of[event.text_id][event.start : event.end] == event.token


@pytest.mark.parametrize("n_dummy", [0, 1, 2])
def test_the_first_tokens_are_in_the_token_table_and_in_no_image(tmp_path, gpt2, tokenizer, n_dummy):
    recording = record(gpt2, tokenizer, sentences(6), tmp_path, n_dummy=n_dummy, test_fraction=0)
    tokens, events = recording.tokens[0], recording.events[0]
    assert (tokens["dummy"] == (tokens["position"] < n_dummy)).all()
    assert tokens.groupby("text_id", sort=False)["token"].agg(" ".join).tolist() == recording.fit_texts
    kept = tokens[tokens["dummy"] == 0]
    assert kept["volume"].tolist() == list(range(recording.n_volumes))
    assert tokens.loc[tokens["dummy"] == 1, "volume"].isna().all()
    columns = ["text_id", "token", "token_id", "position", "start", "end"]
    assert kept[columns].values.tolist() == events[columns].values.tolist()
    by_length = [len(text.split()) - n_dummy for text in recording.fit_texts]
    assert recording.texts["n_volumes"].tolist() == by_length


@pytest.mark.parametrize("n_dummy", [0, 1, 2])
def test_special_tokens_are_dummies_too(tmp_path, n_dummy):
    texts = ["the cat sits", "a dog"]
    recording = record(build("bert"), bert_tokenizer(), texts, tmp_path, n_dummy=n_dummy, test_fraction=0)
    tokens = recording.tokens[0]
    assert tokens["token"].tolist() == ["[CLS]", "the", "cat", "sits", "[SEP]", "[CLS]", "a", "dog", "[SEP]"]
    # [CLS] is the first token, so one dummy adds nothing, and the second is the first word.
    first_words = {"the", "a"} if n_dummy == 2 else set()
    assert recording.events[0]["token"].tolist() == [
        word for word in ["the", "cat", "sits", "a", "dog"] if word not in first_words
    ]


def test_special_tokens_at_the_end_are_dummies_also_without_spans(tmp_path):
    recording = record(build("t5", vocab_size=400), ByT5Tokenizer(), ["abc", "de"], tmp_path, test_fraction=0)
    tokens, events = recording.tokens[0], recording.events[0]
    assert tokens["token"].tolist() == ["a", "b", "c", "</s>", "d", "e", "</s>"]
    assert events["token"].tolist() == ["b", "c", "e"]
    assert set(events["start"]) == set(events["end"]) == {-1}


def test_all_tokens_of_an_emoji_are_volumes_with_one_span(tmp_path):
    text = "the 🦜 sees 🌧️ ."
    recording = record(build("gpt2", vocab_size=300), byte_tokenizer(), [text], tmp_path, test_fraction=0)
    events = recording.events[0]
    parrot = events[events["token"].str.contains("🦜")]
    assert len(parrot) > 1
    assert len(parrot[["start", "end"]].drop_duplicates()) == 1
    assert recording.n_volumes == len(byte_tokenizer()(text)["input_ids"]) - 1
    for event in events.itertuples():
        assert event.token == text[event.start : event.end]
    distinct = recording.tokens[0][["start", "end", "token"]].drop_duplicates()
    assert "".join(distinct["token"]) == text


NASTY = [
    "a\tb\nc \"d\" 'e' \\n \\ \r\n f",
    "NA null None nan n/a N/A NaN -inf 1e3 007 1.0 True #N/A",
    '"quoted" and "" and """',
    "é ü 漢字 \u2028 \x85 \x00 \x1f end",
    "#comment ,;| {} [] <b>",
]


def test_texts_and_tokens_survive_the_tables_whatever_they_hold(tmp_path):
    model, tokenizer = build("gpt2", vocab_size=300, context=128), byte_tokenizer()
    record(model, tokenizer, NASTY, tmp_path, test_fraction=0, n_dummy=0)
    recording = open_study(tmp_path).recording()
    assert recording.texts["text"].tolist() == NASTY
    text_of = dict(zip(recording.texts["text_id"], NASTY, strict=True))
    for table in (events_of(recording), pd.concat(recording.tokens)):
        for row in table.itertuples():
            assert row.token == text_of[row.text_id][row.start : row.end]


def test_words_that_readers_take_for_missing_stay_words(tmp_path, gpt2, tokenizer):
    text = "the NA null None nan n/a 1e3 007 True"
    record(gpt2, tokenizer, [text], tmp_path, test_fraction=0)
    recording = open_study(tmp_path).recording()
    assert recording.events[0]["token"].tolist() == text.split()[1:]
    assert recording.tokens[0]["token"].tolist() == text.split()


# -- runs -------------------------------------------------------------------------------------------------------------


def test_one_text_per_run(tmp_path, gpt2, tokenizer):
    texts = sentences(5)
    recording = record(gpt2, tokenizer, texts, tmp_path, texts_per_run=1, test_fraction=0)
    assert [run.n_volumes for run in recording.runs] == [len(text.split()) - 1 for text in texts]
    assert recording.texts["run"].tolist() == [1, 2, 3, 4, 5]
    assert [table["text_id"].unique().tolist() for table in recording.events] == [
        [text_id] for text_id in recording.texts["text_id"]
    ]


def test_runs_hold_whole_texts_in_order_and_about_as_many_volumes_as_asked_for(tmp_path, gpt2, tokenizer):
    texts = sentences(40)
    recording = record(gpt2, tokenizer, texts, tmp_path, run_tokens=50, test_fraction=0)
    sizes = [run.n_volumes for run in recording.runs]
    longest = max(len(text.split()) - 1 for text in texts)
    assert len(sizes) == round(sum(sizes) / 50)
    # A text is never split, so a run is off by at most a text.
    assert all(abs(size - sum(sizes) / len(sizes)) <= longest for size in sizes)
    order = [text_id for table in recording.events for text_id in table["text_id"].unique()]
    assert order == recording.texts["text_id"].tolist()
    for number, table in enumerate(recording.events, start=1):
        own = recording.texts.loc[recording.texts["run"] == number, "text_id"]
        assert table["text_id"].unique().tolist() == own.tolist()


def test_a_run_too_long_for_nifti_is_refused_before_anything_is_read(tmp_path, monkeypatch, gpt2, tokenizer):
    monkeypatch.setattr("lmri.models.recorder.planning._MOST_VOLUMES", 20)
    with pytest.raises(ValueError, match="a NIfTI-1 image holds at most 20"):
        record(gpt2, tokenizer, sentences(20), tmp_path)
    assert list(tmp_path.iterdir()) == []
    assert record(gpt2, tokenizer, sentences(20), tmp_path, run_tokens=10).n_volumes > 20


# -- texts that are too long, too short, or not there -----------------------------------------------------------------


def test_texts_beyond_the_context_are_cut_with_a_warning_and_a_count(tmp_path, gpt2, tokenizer):
    long = " ".join([*WORDS, *WORDS][: CONTEXT + 9])
    with pytest.warns(DataWarning, match=r"1 of 2 texts are longer than the model's context .* up to 9 tokens") as told:
        recording = record(gpt2, tokenizer, [long, "the cat"], tmp_path, test_fraction=0)
    assert [one.filename for one in told] == [__file__]  # it points at the line that called for it
    assert recording.texts["n_cut"].tolist() == [9, 0]
    assert recording.texts["n_tokens"].tolist() == [CONTEXT, 2]
    assert recording.texts["text"].tolist() == [long, "the cat"]  # the text itself is kept whole
    paths = [ARCHITECTURES["gpt2"].projection.format(z=z) for z in range(N_LAYERS)]
    expected = by_hand(gpt2, tokenizer, [long], paths, max_tokens=CONTEXT)["mlp_out"][0]
    close = model_rounding(gpt2, expected)
    np.testing.assert_allclose(values_of(recording)[: CONTEXT - 1], expected[1:], atol=close)


def test_texts_can_be_cut_earlier(tmp_path, gpt2, tokenizer):
    with pytest.warns(DataWarning, match="up to 4 tokens"):
        recording = record(gpt2, tokenizer, ["the cat sees a dog sits over"], tmp_path, max_tokens=3, test_fraction=0)
    assert recording.events[0]["token"].tolist() == ["cat", "sees"]
    with pytest.raises(ValueError, match="max_tokens is 0"):
        record(gpt2, tokenizer, ["the cat"], tmp_path / "other", max_tokens=0)


def test_texts_of_one_token_give_no_volume_and_a_warning(tmp_path, gpt2, tokenizer):
    with pytest.warns(DataWarning, match=r"1 of 3 texts have no token beyond the first 1 .*'dog'"):
        recording = record(gpt2, tokenizer, ["the cat", "dog", "a big tree"], tmp_path, test_fraction=0)
    assert recording.texts["n_volumes"].tolist() == [1, 0, 2]
    assert recording.events[0]["token"].tolist() == ["cat", "big", "tree"]
    assert np.isnan(recording.texts["run"].iloc[1])
    assert "dog" not in recording.tokens[0]["token"].tolist()


def test_only_texts_of_one_token_are_refused(tmp_path, gpt2, tokenizer):
    with (
        pytest.warns(DataWarning, match="2 of 2 texts have no token"),
        pytest.raises(ValueError, match="None of the 2 training texts has a token beyond the first 1"),
    ):
        record(gpt2, tokenizer, ["cat", "dog"], tmp_path, test_fraction=0)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("texts", [[], ["", "  ", "\n"]])
def test_no_texts_are_refused_before_anything_is_written(tmp_path, gpt2, tokenizer, texts):
    with pytest.raises(ValueError, match="contains no texts"):
        record(gpt2, tokenizer, texts, tmp_path / "study")
    assert not (tmp_path / "study").exists()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"corpus": "my_corpus"}, "must consist of letters and digits"),
        ({"site": "mlp"}, "site is 'mlp'"),
        ({"n_dummy": -1}, "n_dummy is -1"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"run_tokens": 0}, "run_tokens is 0"),
        ({"texts_per_run": 0}, "texts_per_run is 0"),
        ({"test_fraction": 1.0}, "test_fraction is 1.0"),
        ({"test_fraction": -0.1}, "test_fraction is -0.1"),
        ({"projection": "mlp.c_prj"}, "no linear module 'mlp.c_prj'"),
    ],
)
def test_wrong_parameters_are_refused_by_name(tmp_path, gpt2, tokenizer, wrong, message):
    with pytest.raises(ValueError, match=message):
        record(gpt2, tokenizer, sentences(4), tmp_path, **wrong)
    assert list(tmp_path.iterdir()) == []


# -- tokenizers -------------------------------------------------------------------------------------------------------


def test_a_tokenizer_needs_no_pad_bos_or_eos(tmp_path, gpt2):
    bare = word_tokenizer(special=False)
    assert bare.pad_token_id is bare.bos_token_id is bare.eos_token_id is None
    texts = sentences(6)
    recording = record(gpt2, bare, texts, tmp_path, batch_size=4, test_fraction=0)
    assert recording.n_volumes == sum(len(text.split()) - 1 for text in texts)
    paths = [ARCHITECTURES["gpt2"].projection.format(z=z) for z in range(N_LAYERS)]
    expected = np.concatenate([rows[1:] for rows in by_hand(gpt2, bare, texts, paths)["mlp_out"]])
    np.testing.assert_allclose(values_of(recording), expected, atol=model_rounding(gpt2, expected))


def test_a_tokenizer_with_more_tokens_than_the_model_is_refused(tmp_path, tokenizer):
    with pytest.raises(ValueError, match=r"the model has only 20 tokens\. Load the tokenizer of the model"):
        record(build("gpt2", vocab_size=20), tokenizer, sentences(4), tmp_path)
    assert list(tmp_path.iterdir()) == []


# -- NaN and infinity -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_neuron_that_is_not_finite_is_named_and_nothing_is_recorded(tmp_path, gpt2, tokenizer, value):
    with torch.no_grad():
        gpt2.transformer.h[1].mlp.c_proj.bias[5] = value
    with pytest.raises(NonFiniteError, match=rf"layer 1, neuron 5 is {value} at token 1 \('cat'\) of text 0"):
        record(gpt2, tokenizer, ["the cat sits"], tmp_path, test_fraction=0)
    assert list(tmp_path.iterdir()) == []


def test_a_failure_leaves_what_was_recorded_before_untouched(tmp_path, gpt2, tokenizer):
    with torch.no_grad():  # a word that breaks the model
        gpt2.transformer.wte.weight[tokenizer.convert_tokens_to_ids("rain")] = float("nan")
    good = [text for text in sentences(30) if "rain" not in text]
    record(gpt2, tokenizer, good, tmp_path, corpus="good")
    before, model = files_of(tmp_path, but=()), snapshot(gpt2)
    with pytest.raises(NonFiniteError, match=r"is nan at token 1 \('rain'\) of text 12"):
        record(gpt2, tokenizer, [*good[:12], "the rain again"], tmp_path, corpus="bad", test_fraction=0)
    assert files_of(tmp_path, but=()) == before
    assert_untouched(gpt2, model)
    assert [one.corpus for one in open_study(tmp_path).recordings()] == ["good"]


# -- again, and beside each other -------------------------------------------------------------------------------------


def test_the_same_again_is_returned_unchanged(tmp_path, gpt2, tokenizer):
    texts = sentences(12)
    first = record(gpt2, tokenizer, texts, tmp_path)
    before = files_of(tmp_path, but=())
    again = record(gpt2, tokenizer, texts, tmp_path)
    assert files_of(tmp_path, but=()) == before
    assert again.imgs == first.imgs
    assert again.texts.equals(first.texts)


@pytest.mark.parametrize(
    "other",
    [
        {"n_dummy": 2},
        {"test_fraction": 0},
        {"seed": 1},
        {"run_tokens": 20},
        {"texts_per_run": 2},
        {"max_tokens": 20},
        {"batch_size": 2},
        {"projection": "attn.c_proj"},
    ],
    ids=lambda other: next(iter(other)),
)
def test_one_corpus_is_read_in_one_way(tmp_path, gpt2, tokenizer, other):
    texts = sentences(12)
    record(gpt2, tokenizer, texts, tmp_path)
    before = files_of(tmp_path, but=())
    with pytest.raises(EntryExistsError, match=f"with (.*; )?{next(iter(other))} = .*, not "):
        record(gpt2, tokenizer, texts, tmp_path, **other)
    assert files_of(tmp_path, but=()) == before


def test_other_texts_need_another_name(tmp_path, gpt2, tokenizer):
    texts = sentences(12)
    record(gpt2, tokenizer, texts, tmp_path)
    for other in (texts[:-1], [*texts, "the cat"], texts[::-1]):
        with pytest.raises(EntryExistsError, match="from other texts"):
            record(gpt2, tokenizer, other, tmp_path)
        with pytest.raises(EntryExistsError, match="from other texts"):
            record(gpt2, tokenizer, other, tmp_path, site="mlp_hidden")
    assert record(gpt2, tokenizer, texts[:-1], tmp_path, corpus="fewer").corpus == "fewer"


def test_a_second_site_joins_the_first_without_changing_it(tmp_path, gpt2, tokenizer):
    texts = sentences(12)
    out = record(gpt2, tokenizer, texts, tmp_path)
    before = files_of(tmp_path)
    hidden = record(gpt2, tokenizer, texts, tmp_path, site="mlp_hidden")
    after = files_of(tmp_path)
    assert {name: after[name] for name in before} == before
    assert hidden.texts.equals(out.texts)
    assert [one.equals(other) for one, other in zip(hidden.events, out.events, strict=True)] == [True]
    assert open_study(tmp_path).sites == ["mlp_hidden", "mlp_out"]


def test_a_site_is_one_set_of_neurons_in_all_corpora(tmp_path, gpt2, tokenizer):
    # The attention's output has the same width, so only the module's name tells its images from those of the MLP.
    record(gpt2, tokenizer, sentences(6), tmp_path)
    before = files_of(tmp_path, but=())
    with pytest.raises(SpaceMismatchError, match=r"'h.0.attn.c_proj'.*'h.0.mlp.c_proj'"):
        record(gpt2, tokenizer, sentences(6, seed=1), tmp_path, corpus="more", projection="attn.c_proj")
    assert files_of(tmp_path, but=()) == before
    record(gpt2, tokenizer, sentences(6, seed=1), tmp_path, corpus="more", projection="mlp.c_proj")
    assert len(open_study(tmp_path).group("mlp_out")) == 2


@pytest.mark.parametrize("other", [{"seed": 1}, {"layers": 2}], ids=["weights", "layers"])
def test_a_label_belongs_to_one_model(tmp_path, gpt2, tokenizer, other):
    record(gpt2, tokenizer, sentences(6), tmp_path)
    before = files_of(tmp_path, but=())
    with pytest.raises(StudyError, match=r"but the model is .*Nothing was written.*--subject"):
        record(build("gpt2", **other), tokenizer, sentences(6, seed=1), tmp_path, corpus="more")
    with pytest.raises(StudyError, match=r"float32.*bfloat16"):
        record(build("gpt2").to(torch.bfloat16), tokenizer, sentences(6, seed=1), tmp_path, corpus="more")
    assert files_of(tmp_path, but=()) == before


def test_a_folder_that_holds_something_else_is_left_alone(tmp_path, gpt2, tokenizer):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(StudyError, match=r"neither empty nor a study\. Nothing was written"):
        record(gpt2, tokenizer, sentences(6), tmp_path)
    assert files_of(tmp_path, but=()) == {"thesis.tex": b"years of work"}
    with pytest.raises(StudyError, match="neither empty nor a study"):
        record(gpt2, tokenizer, sentences(6), tmp_path / "thesis.tex")


@pytest.mark.parametrize("name", ["gpt2", "bert", "falcon"])
def test_the_same_command_gives_the_same_bytes(tmp_path, name):
    for folder in ("first", "second"):
        for site in SITES:
            record(build(name), word_tokenizer(), sentences(12), tmp_path / folder, site=site, run_tokens=20)
    first, second = files_of(tmp_path / "first"), files_of(tmp_path / "second")
    assert first == second
    assert sum(path.endswith("_bold.nii") for path in first) > 2


# -- texts held out ---------------------------------------------------------------------------------------------------


def test_texts_held_out_are_in_no_image(tmp_path, gpt2, tokenizer):
    texts = sentences(40)
    recording = record(gpt2, tokenizer, texts, tmp_path, test_fraction=0.25)
    assert len(recording.test_texts) == 10
    assert sorted(recording.fit_texts + recording.test_texts) == sorted(texts)
    fitted = set(recording.texts.loc[recording.texts["split"] == "fit", "text_id"])
    assert set(events_of(recording)["text_id"]) == set(pd.concat(recording.tokens)["text_id"]) == fitted
    assert recording.n_volumes == sum(len(text.split()) - 1 for text in recording.fit_texts)
    # The oracle of the images themselves: the values are those of the fitted texts, and of no other.
    paths = [ARCHITECTURES["gpt2"].projection.format(z=z) for z in range(N_LAYERS)]
    expected = np.concatenate([rows[1:] for rows in by_hand(gpt2, tokenizer, recording.fit_texts, paths)["mlp_out"]])
    np.testing.assert_allclose(values_of(recording), expected, atol=model_rounding(gpt2, expected))


def test_no_text_is_held_out_on_request(tmp_path, gpt2, tokenizer):
    texts = sentences(8)
    recording = record(gpt2, tokenizer, texts, tmp_path, test_fraction=0)
    assert recording.fit_texts == texts
    assert recording.test_texts == []


def test_a_text_of_two_corpora_is_on_one_side(tmp_path, gpt2, tokenizer):
    shared, more = sentences(20), sentences(20, seed=1)
    first = record(gpt2, tokenizer, shared, tmp_path, corpus="first", test_fraction=0.5)
    second = record(gpt2, tokenizer, [*more, *shared], tmp_path, corpus="second", test_fraction=0.25, seed=7)
    assert set(first.test_texts) == set(shared) & set(second.test_texts)
    assert set(first.fit_texts) == set(shared) & set(second.fit_texts)
    # The control: on its own, the second split is another one.
    alone = record(gpt2, tokenizer, shared, tmp_path / "alone", corpus="first", test_fraction=0.5, seed=7)
    assert set(alone.test_texts) != set(first.test_texts)


def test_the_split_depends_neither_on_the_order_of_the_texts_nor_on_the_site(tmp_path, gpt2, tokenizer):
    texts = sentences(20)
    forward = record(gpt2, tokenizer, texts, tmp_path / "forward")
    backward = record(gpt2, tokenizer, texts[::-1], tmp_path / "backward", site="mlp_hidden")
    assert set(forward.test_texts) == set(backward.test_texts)


# -- the model --------------------------------------------------------------------------------------------------------


def test_dropout_is_off_while_recording_and_every_mode_is_restored(tmp_path, gpt2, tokenizer):
    texts = sentences(6)
    calm = values_of(record(gpt2, tokenizer, texts, tmp_path / "calm"))
    gpt2.train()
    gpt2.transformer.h[1].eval()
    before = snapshot(gpt2)
    np.testing.assert_array_equal(values_of(record(gpt2, tokenizer, texts, tmp_path / "train")), calm)
    assert_untouched(gpt2, before)


@pytest.mark.parametrize("site", SITES)
def test_no_hook_is_left_when_the_model_fails_while_recording(tmp_path, gpt2, tokenizer, site):
    gpt2.train()
    block = gpt2.transformer.h[1]

    def fail(module, args):
        if args[0].shape[1] > 3:  # the self-test reads 3 tokens
            raise RuntimeError("out of memory")

    handle = block.register_forward_pre_hook(remote_code(fail))
    before = snapshot(gpt2)
    with pytest.raises(RuntimeError, match="out of memory"):
        record(gpt2, tokenizer, ["the cat sits under a tree"], tmp_path, site=site, test_fraction=0)
    assert_untouched(gpt2, before)
    assert list(tmp_path.iterdir()) == []
    handle.remove()
    assert record(gpt2, tokenizer, ["the cat sits under a tree"], tmp_path, site=site, test_fraction=0).n_volumes == 5


def test_a_projection_that_is_skipped_for_some_texts_is_an_error(tmp_path, gpt2, tokenizer, monkeypatch):
    block, original = gpt2.transformer.h[1].mlp, type(gpt2.transformer.h[1].mlp).forward
    monkeypatch.setattr(block, "forward", remote_code(lambda x: original(block, x) if x.shape[1] <= 3 else x))
    with pytest.raises(SiteError, match=r"'h.1.mlp.c_proj' was called 0 times"):
        record(gpt2, tokenizer, ["the cat sits under a tree"], tmp_path, test_fraction=0)


def test_a_model_under_an_intervention_is_not_recorded(tmp_path, gpt2, tokenizer):
    # Its recording would carry the fingerprint of the intact model.
    space = find_sites(gpt2)
    network = Network.from_members(space, np.arange(space.n_neurons) < 5, "mine")
    with lesion(network).on(gpt2), pytest.raises(ValueError, match=r"under an intervention .*'mine'.* Record outside"):
        record(gpt2, tokenizer, sentences(6), tmp_path)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(KeyError), lesion(network).on(gpt2):
        raise KeyError
    assert record(gpt2, tokenizer, sentences(6), tmp_path).n_volumes > 0  # afterwards it is


def test_hooks_of_others_see_the_forward_pass_and_stay(tmp_path, gpt2, tokenizer):
    seen = []
    gpt2.transformer.h[0].mlp.c_proj.register_forward_hook(remote_code(lambda module, args, output: seen.append(1)))
    before = snapshot(gpt2)
    record(gpt2, tokenizer, sentences(4), tmp_path)
    assert seen
    assert_untouched(gpt2, before)


# -- padded grids -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("site", SITES)
def test_a_width_that_fills_no_rectangle_is_padded_outside_the_mask(tmp_path, tokenizer, site):
    model = build("gpt2", width=31, hidden=53, heads=1)
    texts = sentences(6)
    recording = record(model, tokenizer, texts, tmp_path, site=site, test_fraction=0, batch_size=4)
    space = recording.space
    assert space.is_padded
    assert set(space.widths) == {31 if site == "mlp_out" else 53}
    paths = [ARCHITECTURES["gpt2"].projection.format(z=z) for z in range(N_LAYERS)]
    expected = np.concatenate([rows[1:] for rows in by_hand(model, tokenizer, texts, paths)[site]])
    close = model_rounding(model, expected)
    np.testing.assert_allclose(values_of(recording), expected, atol=close)
    # Spelled out, without the code that reads images: neuron n of layer z is voxel (n % nx, n // nx, z).
    data = nib.load(recording.imgs[0]).get_fdata(dtype=np.float32)
    width, nx = space.widths[0], data.shape[0]
    for z in range(N_LAYERS):
        for neuron in range(width):
            column = expected[:, z * width + neuron]
            np.testing.assert_allclose(data[neuron % nx, neuron // nx, z], column, atol=close)
    assert not data[np.asarray(space.mask_img.dataobj) == 0].any()
    assert not np.asarray(space.mask_img.dataobj).all()
    np.testing.assert_array_equal(space.masker().transform(recording.imgs[0]), values_of(recording))


# -- trained models ---------------------------------------------------------------------------------------------------


def test_a_trained_gpt2_at_both_sites(real_data, tmp_path):
    model, tokenizer = load_model(real_data / "models" / "mini-gpt2")
    table = pd.read_json(real_data / "models" / "mini-gpt2" / "heldout_news.jsonl", lines=True)
    texts = table["text"].tolist()[:5]
    recordings = {site: record(model, tokenizer, texts, tmp_path, site=site, test_fraction=0) for site in SITES}
    paths = [f"h.{z}.mlp.c_proj" for z in range(6)]
    assert [layer.module for layer in recordings["mlp_out"].space.layers] == paths
    assert recordings["mlp_out"].space.widths == (192,) * 6
    assert recordings["mlp_hidden"].space.widths == (768,) * 6
    expected = by_hand(model, tokenizer, texts, paths)
    inputs, outputs = values_of(recordings["mlp_hidden"]), values_of(recordings["mlp_out"])
    for site, values in (("mlp_hidden", inputs), ("mlp_out", outputs)):
        rows = np.concatenate([text[1:] for text in expected[site]])

        np.testing.assert_allclose(values, rows, atol=model_rounding(model, rows))
    for z in range(6):
        module = model.transformer.h[z].mlp.c_proj
        product = inputs[:, z * 768 : (z + 1) * 768] @ module.weight.detach().numpy() + module.bias.detach().numpy()
        out = outputs[:, z * 192 : (z + 1) * 192]
        np.testing.assert_allclose(out, product, atol=rounding(out, 768))
    text_of = dict(zip(recordings["mlp_out"].texts["text_id"], texts, strict=True))
    for event in events_of(recordings["mlp_out"]).itertuples():
        assert text_of[event.text_id][event.start : event.end] == event.token


def test_a_character_model_without_special_tokens_records_with_cutting(real_data, tmp_path):
    model, tokenizer = load_model(real_data / "models" / "tinystories-char-gpt2")
    assert tokenizer.pad_token_id is tokenizer.bos_token_id is tokenizer.eos_token_id is None
    texts = ["Once upon a time there was a little girl who had a red ball.", "The end."]
    with pytest.warns(DataWarning, match="1 of 2 texts are longer"):
        recording = record(model, tokenizer, texts, tmp_path, test_fraction=0)
    assert recording.texts["n_tokens"].tolist() == [32, 8]
    assert "".join(recording.tokens[0]["token"]) == texts[0][:32] + texts[1]
    assert recording.n_volumes == 31 + 7
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert find_sites(model).widths == (64,) * 4


def test_a_model_that_runs_tokens_first_is_recorded_right_also_in_square_batches(gpt2, tokenizer, tmp_path):
    texts = ["the cat runs", "a big dog", "the sun sits"]
    assert {len(tokenizer(text)["input_ids"]) for text in texts} == {len(texts)}
    expected = record(gpt2, tokenizer, texts, tmp_path / "texts-first", test_fraction=0, batch_size=3)
    for block in gpt2.transformer.h:
        mlp = block.mlp
        mlp.forward = remote_code(
            lambda hidden, whole=mlp.forward: whole(hidden.transpose(0, 1).contiguous()).transpose(0, 1)
        )
    found = record(gpt2, tokenizer, texts, tmp_path / "tokens-first", test_fraction=0, batch_size=3)
    for one, other in zip(expected.arrays(), found.arrays(), strict=True):
        np.testing.assert_allclose(one, other, atol=model_rounding(gpt2, one))
