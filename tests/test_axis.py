"""Time axis: a volume is a token, every N-th token, or the mean over a word or sentence; and generation."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import lmri
from lmri import record
from lmri.exceptions import EntryExistsError
from lmri.models import Encoding, evaluation_mode
from lmri.models.recorder import generating
from lmri.models.recorder.generating import check_causal, continue_prompt, continue_prompts
from lmri.models.recorder.options import Generation
from lmri.models.recorder.time_axis import Axis, average_volumes
from lmri.models.sites import projections, register_hook
from lmri.models.surprisal import predictions
from tiny_models import bert_tokenizer, build, byte_tokenizer, sentences, word_tokenizer
from tolerances import epsilon, model_rounding, relative

TEXTS = ["the cat sits . a dog runs under the moon !", "red birds sings\nthe blue fish sleeps .", "a tree is old ."]


def recorded(folder, **options):
    model = build("gpt2", vocab_size=300)
    options = {"test_fraction": 0, "site": "mlp_hidden", **options}
    return record(model, byte_tokenizer(), TEXTS, folder, **options)


def all_of(recording):
    return np.concatenate(list(recording.arrays()))


# -- words, sentences, every so-manieth -------------------------------------------------------------------------------


@pytest.mark.parametrize("per", ["word", "sentence"])
def test_a_volume_is_the_mean_over_its_tokens(tmp_path, per):
    tokens, units = recorded(tmp_path / "tokens"), recorded(tmp_path / "units", per=per)
    single, events, values = all_of(tokens), tokens.events[0], all_of(units)
    made = units.events[0]
    assert len(values) == len(made) == units.n_volumes < tokens.n_volumes
    n_covered = 0
    for row, volume in zip(made.itertuples(), values, strict=True):
        own = (events["text_id"] == row.text_id) & events["position"].between(row.position, row.last_position)
        np.testing.assert_allclose(volume, single[own].mean(0, dtype=float), rtol=relative(dtype=np.float32))
        n_covered += own.sum()
    assert n_covered == tokens.n_volumes  # each token is in one volume
    assert units.tokens[0]["volume"].nunique() == units.n_volumes


def test_words_are_separated_by_blanks(tmp_path):
    made = recorded(tmp_path, per="word", n_dummy=0).events[0]
    assert made["token"].str.strip().tolist() == [word for text in TEXTS for word in text.split()]
    again = made[made["token"].str.strip() == "the"]
    assert len(again) > 1


def test_sentences_end_at_their_marks_and_at_line_breaks(tmp_path):
    made = recorded(tmp_path, per="sentence", n_dummy=0).events[0]
    assert made["token"].str.strip().tolist() == [
        "the cat sits .", "a dog runs under the moon !", "red birds sings", "the blue fish sleeps .", "a tree is old .",
    ]  # fmt: skip


def test_the_same_words_have_the_same_id_and_others_another(tmp_path):
    made = recorded(tmp_path, per="word", n_dummy=0).events[0]
    words, ids = made["token"].str.strip(), made["token_id"]
    several = made["last_position"] > made["position"]
    assert several.any()
    assert (~several).any()  # of one token, and words all the same
    assert (ids < 0).all()
    assert (made["token"][words == "the"].nunique(), words[words == "the"].size) == (2, 3)  # with and without a blank
    assert ids.groupby(words).nunique().eq(1).all()
    assert ids.nunique() == words.nunique()


@pytest.mark.parametrize("every", [2, 5])
def test_every_n_records_exactly_every_nth_token(tmp_path, every):
    whole, some = recorded(tmp_path / "all"), recorded(tmp_path / "some", every=every)
    events, values = whole.events[0], all_of(whole)
    kept = np.concatenate([rows[::every] for rows in events.groupby("text_id", sort=False).indices.values()])
    assert np.array_equal(all_of(some), values[kept])
    assert some.events[0]["position"].tolist() == events["position"].iloc[kept].tolist()
    assert len(some.tokens[0]) == len(whole.tokens[0])  # all of them stand in the table


def test_a_study_of_words_is_valid(tmp_path):
    recorded(tmp_path / "study", per="word")
    from lmri.report.validation import validate

    assert not validate(lmri.open_study(tmp_path / "study")).problems


def test_surprisal_of_a_word_is_the_sum_over_its_tokens(tmp_path):
    from lmri.decomposition.confounds import compute

    model = build("gpt2", vocab_size=300)
    tokens, words = recorded(tmp_path / "tokens"), recorded(tmp_path / "words", per="word")
    single = compute(tokens, predictions(model, tokens))[0]
    summed = compute(words, predictions(model, words))[0]
    events = tokens.events[0]
    for row, value in zip(words.events[0].itertuples(), summed["surprisal"], strict=True):
        own = (events["text_id"] == row.text_id) & events["position"].between(row.position, row.last_position)
        assert value == pytest.approx(single["surprisal"][own].sum(), rel=relative(own.sum(), np.float32))


def test_a_resumed_recording_of_words_is_the_same_and_another_axis_is_another_recording(tmp_path):
    first = recorded(tmp_path, per="word")
    assert np.array_equal(all_of(recorded(tmp_path, per="word", resume=True)), all_of(first))
    for other in ({}, {"per": "sentence"}, {"every": 2}):
        with pytest.raises(ValueError, match="is already recorded"):
            recorded(tmp_path, **other)


words_and_blanks = st.text(st.sampled_from("ab .!?\n\u00e9\U0001f600"), min_size=1, max_size=40)


@given(words_and_blanks, st.sampled_from(["word", "sentence"]))
def test_units_are_runs_of_tokens_that_no_blank_divides(text, per):
    spans = byte_tokenizer_spans(text)
    encoding = Encoding(list(range(len(spans))), [text[a:b] for a, b in spans], spans, [False] * len(spans), 0)
    volumes = Axis(per).volumes(encoding, text, np.ones(len(spans), dtype=bool))
    assert (np.diff(volumes) >= 0).all()
    assert (np.diff(volumes) <= 1).all()
    assert volumes[0] == 0
    if per == "word":  # tokens with letters are of one word exactly if no white space lies between their letters
        letters = [place for place, (a, b) in enumerate(spans) if text[a:b].strip()]
        for one, two in itertools.pairwise(letters):
            begin = spans[two][1] - len(text[slice(*spans[two])].lstrip())
            divided = any(char.isspace() for char in text[spans[one][0] : begin].lstrip())
            assert (volumes[one] != volumes[two]) == divided


_BYTES = byte_tokenizer()


def byte_tokenizer_spans(text):
    return [tuple(span) for span in _BYTES(text, return_offsets_mapping=True)["offset_mapping"]]


def test_averages_are_summed_in_double_precision():
    rows = np.full((100_001, 1), 0.1, dtype=np.float32)
    rows[0] = 1e6
    mean = average_volumes(rows, np.zeros(len(rows), dtype=int))
    np.testing.assert_allclose(
        mean, rows.astype(float).mean(0, keepdims=True), rtol=epsilon(np.float32)
    )  # one rounding of the exact mean


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"per": "phrase"}, "per is 'phrase'; choose from 'token', 'word', 'sentence'"),
        ({"every": 0}, "every is 0"),
        ({"every": 2, "per": "word"}, "tokens can be skipped or averaged"),
        ({"generate": 0}, "generate is 0"),
        ({"generate": 3, "temperature": -1}, "temperature is -1"),
    ],
)
def test_an_invalid_axis_is_refused(tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        recorded(tmp_path / "study", **options)
    assert not (tmp_path / "study").exists()


# -- generating -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["gpt2", "llama", "opt", "bloom", "gpt_neox"])
def test_what_is_recorded_is_what_the_model_did_while_it_generated(tmp_path, name):
    model, tokenizer = build(name), word_tokenizer()
    texts = ["the cat sits", "a small dog runs over"]
    site = "mlp_hidden"
    recording = record(model, tokenizer, texts, tmp_path, site=site, generate=6, n_dummy=0, test_fraction=0)
    space, events, values = recording.space, recording.events[0], all_of(recording)
    for number, text in enumerate(texts):
        seen: list[list[torch.Tensor]] = [[] for _ in space.layers]
        handles = [
            register_hook(
                module, site, lambda value, own=own: own.append(value.reshape(-1, value.shape[-1]).clone()) and None
            )
            for module, own in zip(projections(model, space), seen, strict=True)
        ]
        ids = torch.tensor([tokenizer(text)["input_ids"]])
        with evaluation_mode(model):
            made = model.generate(ids, max_new_tokens=6, do_sample=False, pad_token_id=0)
        for handle in handles:
            handle.remove()
        while_generating = torch.cat([torch.cat(own) for own in seen], dim=1).numpy()
        own = events["text_id"] == f"texts-{number:05d}"
        special = np.isin(made[0, :-1].numpy(), list(set(tokenizer.all_special_ids) - {tokenizer.unk_token_id}))
        assert events["token_id"][own].tolist() == made[0, :-1][~special].tolist()
        np.testing.assert_allclose(
            values[own], while_generating[~special], atol=model_rounding(model, while_generating)
        )
        phases = events["phase"][own].tolist()
        assert phases[: ids.shape[1]] == ["prompt"] * ids.shape[1]
        assert set(phases[ids.shape[1] :]) <= {"generated"}


def test_sampling_depends_on_the_seed_and_leaves_the_global_generator_unchanged():
    model, tokenizer = build("gpt2"), word_tokenizer()
    how = Generation(8, temperature=1.0, seed=3)
    torch.manual_seed(0)
    before = torch.random.get_rng_state()
    first = continue_prompt(model, tokenizer, "the cat", how)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert continue_prompt(model, tokenizer, "the cat", how) == first
    other = continue_prompt(model, tokenizer, "the cat", Generation(8, 1.0, 4))
    assert other.encoding.ids != first.encoding.ids
    # Whatever other prompts there are.
    assert continue_prompts(model, tokenizer, ["a dog", "the cat"], how)[1] == first


def test_penalties_and_cuts_of_a_checkpoint_do_not_count():
    model, tokenizer = build("gpt2"), word_tokenizer()
    plain = [continue_prompt(model, tokenizer, "the cat", Generation(12, heat)) for heat in (0.0, 1.0)]
    model.generation_config.repetition_penalty = 5.0
    model.generation_config.top_k = 2
    model.generation_config.top_p = 0.3
    model.generation_config.no_repeat_ngram_size = 1
    assert [continue_prompt(model, tokenizer, "the cat", Generation(12, heat)) for heat in (0.0, 1.0)] == plain
    ids = plain[0].encoding.ids  # and the likeliest token is the likeliest token
    with torch.no_grad():
        logits = model(torch.tensor([ids])).logits[0]
    assert logits.argmax(-1)[1:-1].tolist() == ids[2:]


def test_one_prompt_is_on_one_side_whatever_was_written_on_from_it(tmp_path):
    model, tokenizer, prompts = build("gpt2"), word_tokenizer(), sentences(8, 2, 4)
    options = {"site": "mlp_hidden", "test_fraction": 0.5}
    record(model, tokenizer, prompts, tmp_path, corpus="plain", **options)
    for corpus, heat in (("cold", 0.0), ("hot", 2.0)):
        record(model, tokenizer, prompts, tmp_path, corpus=corpus, generate=5, temperature=heat, **options)
    tables = {one.corpus: one.texts for one in lmri.open_study(tmp_path).recordings()}
    sides = [tables[corpus]["split"].tolist() for corpus in ("plain", "cold", "hot")]
    assert sides[0] == sides[1] == sides[2]
    assert sides[0].count("test") == 4
    assert tables["cold"]["sha256"].tolist() != tables["hot"]["sha256"].tolist()


@pytest.fixture
def generated(monkeypatch):
    """Count generation calls; `stop_at` interrupts."""
    made = []
    original = generating._write

    def write(model, prompt, *rest):
        if len(made) == made_until[0]:
            raise KeyboardInterrupt
        made.append(prompt)
        return original(model, prompt, *rest)

    made_until = [None]
    monkeypatch.setattr(generating, "_write", write)
    return made, made_until


def bytes_of(root):
    return {
        str(path.relative_to(root)): path.read_bytes()
        for path in root.rglob("*")
        if path.is_file() and path.suffix not in (".json", ".lmri-lock") and path.name != "log.jsonl"
    }


def test_stored_generations_are_reused(tmp_path, generated):
    made, stop_at = generated
    model, tokenizer, prompts = build("gpt2"), word_tokenizer(), sentences(6, 2, 4)
    options = {"generate": 5, "temperature": 1.0, "test_fraction": 0, "corpus": "made"}
    record(model, tokenizer, prompts, tmp_path / "whole", **options)
    assert made == prompts
    again = record(model, tokenizer, prompts, tmp_path / "whole", **options)  # it is recorded
    assert (again.corpus, made) == ("made", prompts)
    for changed in ({"temperature": 0.5}, {"generate": 6}):
        with pytest.raises(EntryExistsError, match="already recorded"):
            record(model, tokenizer, prompts, tmp_path / "whole", **(options | changed))
    with pytest.raises(EntryExistsError, match="other texts"):
        record(model, tokenizer, prompts[1:], tmp_path / "whole", **options)
    assert made == prompts
    record(model, tokenizer, prompts, tmp_path / "whole", **(options | {"site": "mlp_hidden"}))
    assert made == prompts  # the same words at another site
    with pytest.raises(ValueError, match="leaves room"):
        record(model, tokenizer, ["the cat " * 40], tmp_path / "whole", **(options | {"corpus": "other"}))
    assert [path.name for path in (tmp_path / "whole" / "lmri" / "sub-unnamedgpt2" / ".generated").iterdir()] == [
        "made"
    ]
    # Interrupted after four, with a fifth half written down.
    made.clear()
    stop_at[0] = 4
    with pytest.raises(KeyboardInterrupt, match="4 prompts were saved"):
        record(model, tokenizer, prompts, tmp_path / "part", **options)
    [file] = (tmp_path / "part" / "lmri" / "sub-unnamedgpt2" / ".generated" / "made").glob("*.jsonl")
    with file.open("ab") as stream:
        stream.write(b'{"of": "half a li')
    stop_at[0] = None
    record(model, tokenizer, prompts, tmp_path / "part", **options)
    record(model, tokenizer, prompts, tmp_path / "part", **(options | {"site": "mlp_hidden"}))
    assert made == prompts
    assert bytes_of(tmp_path / "part") == bytes_of(tmp_path / "whole")


def test_a_failed_generation_leaves_no_files(tmp_path):
    with pytest.raises(ValueError, match="cannot continue a prompt"):
        record(build("bert"), word_tokenizer(), ["the cat sits"], tmp_path / "study", generate=3)
    full = "the cat " * 40
    with pytest.raises(ValueError, match="leaves room"):
        record(build("gpt2"), word_tokenizer(), [full], tmp_path / "study", generate=3)
    assert not (tmp_path / "study").exists()


def test_a_special_token_that_stands_in_the_prompt_stays():
    model, tokenizer = lmri.load_model("lmri-demo")
    made = continue_prompt(model, tokenizer, "the cat<|endoftext|>", Generation(3))
    assert made.encoding.tokens[made.n_prompt - 1] == "<|endoftext|>"


def test_generated_text_is_part_of_the_stored_text():
    model, tokenizer = build("gpt2", vocab_size=300), byte_tokenizer()
    for prompt in [*sentences(4), "caf\u00e9 \U0001f600"]:
        made = continue_prompt(model, tokenizer, prompt, Generation(12, 1.5))
        assert made.text.startswith(prompt)
        assert made.n_prompt == len(tokenizer(prompt)["input_ids"])
        ends = 0
        for token, (start, end) in zip(made.encoding.tokens, made.encoding.spans, strict=True):
            if start >= 0:
                assert made.text[start:end] == token
                assert end >= ends
                ends = end


def test_a_prompt_ends_before_the_token_that_a_tokenizer_puts_behind_every_text():
    made = continue_prompt(build("gpt2"), bert_tokenizer(), "the cat", Generation(3))
    assert made.n_prompt == 3  # [CLS] the cat


def test_models_that_cannot_generate_are_refused(tmp_path):
    for name in ("bert", "t5"):
        with pytest.raises(ValueError, match="cannot continue a prompt, so generate is not possible"):
            record(build(name), word_tokenizer(), ["the cat sits"], tmp_path, generate=3)


def test_prompts_that_fill_the_context_are_left_out_and_listed(tmp_path):
    full = "the cat " * 40
    with pytest.warns(match="1 of 2 prompts leave no room"):
        made = record(build("gpt2"), word_tokenizer(), [full, "a dog"], tmp_path / "study", generate=3, test_fraction=0)
    assert len(made.texts) == 1
    with pytest.raises(ValueError, match="None of the 1 prompts leaves room"):
        record(build("gpt2"), word_tokenizer(), [full], tmp_path / "other", generate=3)


def test_a_model_that_reads_both_ways_is_refused():
    model = build("bert", head="BertLMHeadModel", is_decoder=False)
    with pytest.raises(
        ValueError, match=r"is not causal: if the tokens from position 1 of .* Record the texts without"
    ):
        check_causal(model, [[5, 6, 7, 8]])
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        check_causal(build("gpt2").to(dtype), [[5, 6, 7, 8]])
    check_causal(build("gpt2"), [[5]])
    check_causal(build("gpt2"), [])
