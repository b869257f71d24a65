"""Ways to score: normalized likelihoods, generated answers and heads, each against an oracle written out by hand."""

import math
import warnings

import numpy as np
import pytest
import torch
from transformers import GenerationConfig

from lmri import evaluate, lesion
from lmri.exceptions import DataWarning
from lmri.lesions import tasks
from lmri.lesions.tasks.generation import generate, parse_label
from lmri.lesions.tasks.head import label_order
from lmri.models.sites import find_sites
from lmri.networks import Network
from tiny_models import WORDS, assert_untouched, bert_tokenizer, build, sentences, snapshot
from tolerances import model_rounding

TEXTS = sentences(8, shortest=2, longest=12)
WORDS_FOR = {"pos": " good", "neg": " bad", "mixed": " good and bad"}
LABELS = ["pos", "neg", "mixed", "pos", "neg", "mixed", "pos", "neg"]
PROMPT = "{text} . good or bad or good and bad ?"


def classify(scoring, **options):
    return tasks.Classification(TEXTS, LABELS, WORDS_FOR, PROMPT, scoring=scoring, **options)


def classifier(name="gpt2", n=3, **changes):
    heads = {"gpt2": "GPT2ForSequenceClassification", "llama": "LlamaForSequenceClassification"}
    heads |= {"bert": "BertForSequenceClassification", "opt": "OPTForSequenceClassification"}
    return build(name, head=heads[name], num_labels=n, **changes)


# -- likelihoods ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("scoring", "lengths"), [("token", (1, 1, 3)), ("character", (4, 3, 12))])
def test_likelihoods_are_divided_by_the_length_of_the_words(gpt2, tokenizer, scoring, lengths):
    plain = {number: {} for number in range(len(TEXTS))}
    for number, text in enumerate(TEXTS):
        prompt = tokenizer(PROMPT.replace("{text}", text))["input_ids"]
        for label, words in WORDS_FOR.items():
            ids = prompt + tokenizer(words)["input_ids"]
            with torch.no_grad():
                logits = gpt2(input_ids=torch.tensor([ids])).logits[0].double().log_softmax(-1)
            plain[number][label] = sum(float(logits[at - 1, ids[at]]) for at in range(len(prompt), len(ids)))
    divided, whole = (classify(how).score(gpt2, tokenizer) for how in (f"loglikelihood/{scoring}", "loglikelihood"))
    for number, label in enumerate(LABELS):
        own = dict(
            zip(WORDS_FOR, (value / n for value, n in zip(plain[number].values(), lengths, strict=True)), strict=True)
        )
        assert divided["predicted"][number] == max(own, key=own.get)
        others = max(value for name, value in own.items() if name != label)
        close = model_rounding(gpt2, list(plain[number].values()))
        assert divided["margin"][number] == pytest.approx(own[label] - others, abs=close)
    # Three words are less likely than one, unless lengths are allowed for.
    assert (whole["predicted"] != divided["predicted"]).any()
    assert classify("loglikelihood").digest() != classify(f"loglikelihood/{scoring}").digest()


def test_the_way_to_score_is_named_in_every_row(gpt2, tokenizer):
    ways = tasks.SCORINGS[:4]
    several = [classify(way, name=way.replace("/", "-"), max_new_tokens=3) for way in ways]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DataWarning)
        assert evaluate(gpt2, tokenizer, several, {}).summary()["scoring"].tolist() == list(ways)


# -- generation -------------------------------------------------------------------------------------------------------


def greedy(model, ids, n, ends=(3,)):
    """Decode greedily without a cache, one token at a time: the oracle."""
    made = list(ids)
    for _ in range(n):
        with torch.no_grad():
            made.append(int(model(input_ids=torch.tensor([made]), use_cache=False).logits[0, -1].argmax()))
        if made[-1] in ends:
            return made[len(ids) : -1]
    return made[len(ids) :]


@pytest.mark.parametrize("name", ["gpt2", "llama", "opt", "bloom", "mpt", "gpt_neox"])
def test_answers_are_greedy_also_under_a_lesion(name, tokenizer):
    model = build(name)
    space = find_sites(model)
    network = Network.from_members(space, np.random.default_rng(0).random(space.n_neurons) < 0.5)
    rows = [tokenizer(text)["input_ids"] for text in TEXTS[:5]]
    before = snapshot(model)

    def both():
        answers = generate(model, tokenizer, rows, 4, batch_size=3)
        return answers, [tokenizer.decode(greedy(model, row, 4), skip_special_tokens=True) for row in rows]

    intact, expected = both()
    assert intact == expected
    with lesion(network).on(model):
        lesioned, expected = both()
        assert lesioned == expected
    assert lesioned != intact
    assert_untouched(model, before)


def test_settings_of_the_checkpoint_do_not_decide_and_are_left_as_they_were(gpt2, tokenizer):
    rows = [tokenizer(text)["input_ids"] for text in TEXTS]
    expected = generate(gpt2, tokenizer, rows, 8, batch_size=2)
    settings = GenerationConfig(
        do_sample=True, temperature=5.0, repetition_penalty=3.0, min_new_tokens=7, eos_token_id=3
    )
    gpt2.generation_config = settings
    assert generate(gpt2, tokenizer, rows, 8, batch_size=2) == expected
    assert gpt2.generation_config is settings
    # The control: they do matter to a model that is left to them.
    free = [
        tokenizer.decode(gpt2.generate(torch.tensor([row]), max_new_tokens=8)[0, len(row) :], skip_special_tokens=True)
        for row in rows
    ]
    assert free != expected


def say(model, tokenizer, words):
    """Rig a model to generate the given words in order, and then to end."""
    with torch.no_grad():
        model.lm_head.bias.fill_(-1000.0)
        for word in words.split():
            model.lm_head.bias[tokenizer.convert_tokens_to_ids(word)] = 1000.0
    return model


def test_answers_that_name_a_label_are_read_and_others_have_a_share_of_their_own(tokenizer):
    task = classify("generate", max_new_tokens=2)
    for words, predicted in (("good", "pos"), ("bad", "neg")):
        scored = task.score(say(build("phi"), tokenizer, words), tokenizer)
        assert set(scored["answer"]) == {f"{words} {words}"}
        assert set(scored["predicted"]) == {predicted}
        assert scored["value"].tolist() == [float(label == predicted) for label in LABELS]
        assert scored["margin"].isna().all()
    mute = say(build("phi"), tokenizer, "river")
    scores = evaluate(mute, tokenizer, [task], {})
    with pytest.warns(DataWarning, match="no answer could be parsed"):
        row = scores.summary().iloc[0]
    assert row["unparseable"] == 1
    assert np.isnan(row["value"])
    assert row["predicted_counts"] == "mixed 0, neg 0, pos 0"
    assert np.isnan(row["majority_rate"])


def test_unreadable_answers_are_never_mixed_into_accuracy(gpt2, tokenizer, monkeypatch):
    answers = ["good", "bad", "who knows", "good", "good", "", "bad", "bad"]
    monkeypatch.setattr("lmri.lesions.tasks.classification.generate", lambda *args: list(answers))
    scores = evaluate(gpt2, tokenizer, [classify("generate", also=("balanced_accuracy",))], {})
    summary = scores.summary().set_index("metric")
    # pos neg mixed pos neg mixed pos neg: read are items 0, 1, 3, 4, 6 and 7, of which 0, 1, 3 and 7 are right.
    assert summary.loc["accuracy", "value"] == pytest.approx(4 / 6)
    assert summary.loc["balanced_accuracy", "value"] == pytest.approx((2 / 3 + 2 / 3) / 2)
    assert (summary["balanced_accuracy"] == summary.loc["balanced_accuracy", "value"]).all()
    assert (summary["unparseable"] == 2 / 8).all()
    assert summary["majority_rate"].tolist() == [0.5, 0.5]
    assert summary["predicted_counts"].tolist() == ["mixed 0, neg 3, pos 3"] * 2


def test_a_model_that_gives_nan_has_no_answer(tokenizer):
    model = build("phi")
    with torch.no_grad():
        model.lm_head.bias[5] = math.nan
    assert generate(model, tokenizer, [[4, 5], [6]], 3, batch_size=2) == [None, None]
    assert classify("generate", max_new_tokens=2).score(model, tokenizer)["value"].isna().all()


@pytest.mark.parametrize(
    ("answer", "label"),
    [
        (" positive", "pos"), ("Positive.", "pos"), ('"negative"', "neg"), ("\n\n positive\nnegative", "pos"),
        ("It is positive", "pos"), ("The review is negative, clearly.", "neg"), ("positively", None), ("", None),
        ("It is not positive", None), ("It isn't negative", None), ("positive or negative", "pos"),
        ("either positive or negative", None), ("maybe", None), ("negatives", None),
    ],
)  # fmt: skip
def test_labels_are_read_off_answers_only_where_they_are_clear(answer, label):
    assert parse_label(answer, {"pos": " positive", "neg": " negative"}) == label


def test_labels_inside_of_others_are_told_apart():
    words = {"yes": "entailment", "no": "not entailment", "maybe": "not"}
    said = {"not entailment": "no", "entailment": "yes", "not so": "maybe", "It is not entailment": "no"}
    assert {answer: parse_label(answer, words) for answer in said} == said
    # A longer word that ends like a label is another word.
    assert parse_label("unacceptable", {"1": "acceptable", "0": "unacceptable"}) == "0"


def test_prompts_that_leave_no_room_for_an_answer_are_refused(gpt2, tokenizer):
    long = tasks.Classification(
        [" ".join(WORDS[:50])], ["pos"], {"pos": " good", "neg": " bad"}, scoring="generate", max_new_tokens=20
    )
    with pytest.raises(ValueError, match="Item 0 has 50 tokens, and 20 more are to be generated; the model reads 64"):
        long.score(gpt2, tokenizer)


# -- heads ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["gpt2", "llama", "opt", "bert"])
@pytest.mark.parametrize("batch_size", [1, 3, 8])
def test_a_head_is_read_text_by_text_however_they_are_batched(name, batch_size):
    from tiny_models import word_tokenizer

    tokenizer = bert_tokenizer() if name == "bert" else word_tokenizer()
    # Another pad than the tokenizer's: a causal classifier looks for its own.
    model = classifier(name, **({} if name == "bert" else {"pad_token_id": 90}))
    model.config.id2label = {0: "neg", 1: "mixed", 2: "pos"}
    scored = classify("head", batch_size=batch_size).score(model, tokenizer)
    for number, text in enumerate(TEXTS):
        with torch.no_grad():
            logits = model(**tokenizer(text, return_tensors="pt")).logits[0].double()
        own = dict(zip(("neg", "mixed", "pos"), logits.log_softmax(-1).tolist(), strict=True))
        assert scored["predicted"][number] == max(own, key=own.get)
        others = max(value for label, value in own.items() if label != LABELS[number])
        close = model_rounding(model, logits)
        assert scored["margin"][number] == pytest.approx(own[LABELS[number]] - others, abs=close)
        assert scored["n_tokens"][number] == len(tokenizer(text)["input_ids"])


def test_a_head_without_a_pad_token_reads_texts_one_at_a_time(tokenizer):
    padded, bare = classifier(), classifier(pad_token_id=None)
    bare.load_state_dict(padded.state_dict())
    for model in (padded, bare):
        model.config.id2label = {0: "neg", 1: "mixed", 2: "pos"}
    one, other = (classify("head").score(model, tokenizer) for model in (padded, bare))
    np.testing.assert_allclose(one["margin"], other["margin"], atol=model_rounding(padded, one["margin"].to_numpy()))


def test_pairs_are_read_as_pairs_where_the_tokenizer_has_a_separator():
    tokenizer, model = bert_tokenizer(), classifier("bert", n=2)
    model.config.id2label = {0: "yes", 1: "no"}
    items = [{"one": text, "two": TEXTS[0]} for text in TEXTS]
    task = tasks.Classification(
        items, ["yes", "no"] * 4, {"yes": " yes", "no": " no"}, "{one} {two} yes or no ?", scoring="head"
    )
    scored = task.score(model, tokenizer)
    with torch.no_grad():
        logits = model(**tokenizer(TEXTS[3], TEXTS[0], return_tensors="pt")).logits[0]
    assert scored["margin"][3] == pytest.approx(float(logits[1] - logits[0]), abs=model_rounding(model, logits))


def test_outputs_of_a_head_are_found_by_their_names():
    model = classifier(n=2)
    labels = {"negative": ("0",), "positive": ("1",)}
    assert label_order(model, labels, "sst2") == (
        ["negative", "positive"], "the head names no labels; their order is taken to be the dataset's",
    )  # fmt: skip
    for names, order in (
        (("POSITIVE", "Negative"), ["positive", "negative"]),
        (("0", "1"), ["negative", "positive"]),
    ):
        model.config.id2label = dict(enumerate(names))
        assert label_order(model, labels, "sst2") == (order, "")
    model.config.id2label = {0: "positive", 1: "sarcastic"}
    with pytest.raises(ValueError, match="names its labels 'positive', 'sarcastic'; sst2 has 'negative', 'positive'"):
        label_order(model, labels, "sst2")
    with pytest.raises(ValueError, match="has 3 labels"):
        label_order(classifier(n=3), labels, "sst2")


def test_invalid_heads_are_refused_and_valid_heads_have_notes(gpt2, tokenizer):
    with pytest.raises(TypeError, match=r"GPT2LMHeadModel has none.*lmri finetune"):
        classify("head").score(gpt2, tokenizer)
    with pytest.raises(TypeError, match="needs a causal language model"):
        classify("generate").score(classifier(), tokenizer)
    long = tasks.Classification(
        [" ".join([*WORDS, *WORDS]), "the cat"], ["a", "b"], {"a": " a", "b": " b"}, scoring="head", prompt="{text} a b"
    )
    before = long.digest()
    with pytest.warns(DataWarning):
        row = evaluate(classifier(n=2), tokenizer, [long], {}).summary().iloc[0]
    assert row["note"] == (
        "the head names no labels; their order is taken to be the dataset's; 1 of 2 items cut at the context"
    )
    assert long.digest() == before


def test_stored_digests_stay_what_they_were():
    """Scores on disk are found again by them."""
    task = tasks.Classification(["a", "b"], ["pos", "neg"], {"pos": " good", "neg": " bad"}, "{text} is")
    from lmri.storage import digest

    info = {"name": "classification", "scoring": "loglikelihood", "metric": "accuracy", "higher_is_better": True}
    content = [["a is", "b is"], ["pos", "neg"], {"pos": " good", "neg": " bad"}, task.clusters, 8]
    assert task.digest() == digest([info | {"per_token": False}, *content])
    info = {"name": "perplexity", "scoring": "loglikelihood", "metric": "nats_per_token", "higher_is_better": False}
    assert tasks.Perplexity(["a", "b"]).digest() == digest([info | {"per_token": True}, ["a", "b"], 8])
