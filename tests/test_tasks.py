"""Scores of tasks equal the losses of transformers, and likelihoods computed by hand."""

import warnings

import numpy as np
import pytest
import torch

from lmri import evaluate, lesion
from lmri.exceptions import DataWarning
from lmri.lesions import tasks
from lmri.models.sites import find_sites
from lmri.networks import Network
from lmri.storage import text_hash
from tiny_models import (
    ARCHITECTURES,
    CAUSAL,
    CONTEXT,
    WORDS,
    assert_untouched,
    build,
    byte_tokenizer,
    sentences,
    snapshot,
    word_tokenizer,
)
from tolerances import model_rounding

TEXTS = sentences(9, shortest=2, longest=14)
WORDS_FOR = {"pos": " good", "neg": " bad", "mixed": " good and bad"}


def log_likelihood(model, ids, first):
    """Sum the log-probabilities of tokens `first` and later, without padding: the oracle."""
    with torch.no_grad():
        probabilities = model(input_ids=torch.tensor([ids])).logits[0].double().log_softmax(-1)
    return sum(float(probabilities[place - 1, ids[place]]) for place in range(first, len(ids)))


def prefer(model, tokenizer, word):
    """Rig a model so that one word is always the most likely."""
    with torch.no_grad():
        model.lm_head.bias[tokenizer.convert_tokens_to_ids(word)] = 1000.0
    return model


# -- perplexity -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CAUSAL)
def test_perplexity_is_the_loss_of_transformers_text_by_text(name, tokenizer):
    model = build(name)
    scored = tasks.Perplexity(TEXTS, batch_size=4).score(model, tokenizer)
    assert scored["item"].tolist() == list(range(len(TEXTS)))
    assert scored["cluster"].tolist() == [text_hash(text) for text in TEXTS]
    assert scored["n_tokens"].tolist() == [len(text.split()) - 1 for text in TEXTS]
    for text, value in zip(TEXTS, scored["value"], strict=True):
        ids = torch.tensor([tokenizer(text)["input_ids"]])
        with torch.no_grad():
            expected = model(input_ids=ids, labels=ids).loss.item()
        assert value == pytest.approx(expected, abs=model_rounding(model, expected))
    assert scored["value"].std() > 0.01


@pytest.mark.parametrize("name", ["gpt2", "opt", "bloom", "gemma2"])
def test_the_batch_size_does_not_matter(name, tokenizer):
    model = build(name)
    one, four, nine = (tasks.Perplexity(TEXTS, batch_size=size).score(model, tokenizer)["value"] for size in (1, 4, 9))
    close = model_rounding(model, one.to_numpy())
    np.testing.assert_allclose(four, one, atol=close)
    np.testing.assert_allclose(nine, one, atol=close)


def test_texts_of_one_token_are_left_out_with_a_warning(gpt2, tokenizer):
    texts = [TEXTS[0], "dog", TEXTS[1]]
    with pytest.warns(DataWarning, match="1 of 3 texts of 'perplexity' .* are not scored"):
        scored = tasks.Perplexity(texts).score(gpt2, tokenizer)
    assert scored["item"].tolist() == [0, 2]
    alone = tasks.Perplexity(TEXTS[:2]).score(gpt2, tokenizer)["value"]
    np.testing.assert_allclose(scored["value"], alone, atol=model_rounding(gpt2, alone.to_numpy()))
    with pytest.raises(ValueError, match="None of the 2 texts of 'perplexity' has two tokens"):
        tasks.Perplexity(["cat", "dog"]).score(gpt2, tokenizer)


def test_texts_beyond_the_context_are_cut(gpt2, tokenizer):
    long = [*WORDS, *WORDS]
    with pytest.warns(DataWarning, match=f"1 of 1 texts .* up to {len(long) - CONTEXT} tokens are not scored"):
        scored = tasks.Perplexity([" ".join(long)]).score(gpt2, tokenizer)
    assert scored["n_tokens"].tolist() == [CONTEXT - 1]
    cut = tasks.Perplexity([" ".join(long[:CONTEXT])]).score(gpt2, tokenizer)
    assert scored["value"].tolist() == cut["value"].tolist()


def test_one_task_can_score_models_of_different_contexts(tokenizer):
    # Token ids are kept between conditions, but not between models.
    task = tasks.Perplexity([" ".join(WORDS[:40])])
    assert task.score(build("gpt2"), tokenizer)["n_tokens"].tolist() == [39]
    with pytest.warns(DataWarning, match="are longer than the model's context"):
        assert task.score(build("gpt2", context=16), tokenizer)["n_tokens"].tolist() == [15]
    assert task.score(build("gpt2"), tokenizer)["n_tokens"].tolist() == [39]
    with pytest.raises(ValueError, match="the model has only 20 tokens"):
        task.score(build("gpt2", vocab_size=20), tokenizer)


def test_a_perplexity_needs_texts():
    with pytest.raises(TypeError, match="texts is one string; give a list"):
        tasks.Perplexity("the cat sits")
    with pytest.raises(ValueError, match="news has no texts to score"):
        tasks.Perplexity([], name="news")


def test_perplexity_is_the_same_while_the_model_trains_and_leaves_it_so(gpt2, tokenizer):
    calm = tasks.Perplexity(TEXTS).score(gpt2, tokenizer)
    gpt2.train()
    before = snapshot(gpt2)
    assert tasks.Perplexity(TEXTS).score(gpt2, tokenizer).equals(calm)
    assert_untouched(gpt2, before)


def test_a_lesion_is_scored_and_not_what_was_scored_before(gpt2, tokenizer):
    space = find_sites(gpt2, "mlp_hidden")
    network = Network.from_members(space, np.random.default_rng(0).random(space.n_neurons) < 0.3)
    task = tasks.Perplexity(TEXTS)
    intact = task.score(gpt2, tokenizer)
    with lesion(network).on(gpt2):
        lesioned = task.score(gpt2, tokenizer)
    assert (lesioned["value"] != intact["value"]).all()
    assert task.score(gpt2, tokenizer).equals(intact)


@pytest.mark.parametrize("name", [*sorted(set(ARCHITECTURES) - set(CAUSAL)), "gpt2 without a head", "a classifier"])
def test_models_that_predict_no_next_token_are_refused(name, tokenizer):
    heads = {"gpt2 without a head": "GPT2Model", "a classifier": "GPT2ForSequenceClassification"}
    model = build("gpt2", head=heads[name]) if name in heads else build(name)
    with pytest.raises(
        TypeError, match=rf"Perplexity needs a causal language model, but {type(model).__name__} is not causal"
    ):
        tasks.Perplexity(TEXTS).score(model, tokenizer)
    with pytest.raises(TypeError, match="Classification needs a causal language model"):
        tasks.Classification(TEXTS, ["pos"] * len(TEXTS), WORDS_FOR).score(model, tokenizer)


# -- classification ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["gpt2", "llama", "opt", "bloom", "phi"])
def test_a_classification_takes_the_most_likely_answer(name, tokenizer):
    model = build(name)
    labels = [list(WORDS_FOR)[number % 3] for number in range(len(TEXTS))]
    task = tasks.Classification(TEXTS, labels, WORDS_FOR, "{text} . so the book is", batch_size=4)
    scored = task.score(model, tokenizer)
    for number, (text, label) in enumerate(zip(TEXTS, labels, strict=True)):
        prompt = f"{text} . so the book is"
        first = len(tokenizer(prompt)["input_ids"])
        own = {
            name: log_likelihood(model, tokenizer(prompt + words)["input_ids"], first)
            for name, words in WORDS_FOR.items()
        }
        row = scored.iloc[number]
        assert row["predicted"] == max(own, key=own.get)
        assert row["label"] == label
        assert row["value"] == float(row["predicted"] == label)
        best_other = max(value for name, value in own.items() if name != label)
        assert row["margin"] == pytest.approx(own[label] - best_other, abs=model_rounding(model, list(own.values())))
        assert row["cluster"] == text_hash(text)
    assert 0 < scored["value"].mean() < 1


def test_the_text_is_put_in_as_it_is():
    task = tasks.Classification(["{text} {0} %s"], ["pos"], WORDS_FOR, "a {text} b")
    assert task.prompts == ["a {text} {0} %s b"]


def test_clusters_are_the_texts_unless_given():
    labels = ["pos", "neg"]
    assert tasks.Classification(TEXTS[:2], labels, WORDS_FOR).clusters == [text_hash(text) for text in TEXTS[:2]]
    assert tasks.Classification(TEXTS[:2], labels, WORDS_FOR, clusters=["one", "one"]).clusters == ["one", "one"]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"labels": ["pos"]}, "has 2 texts, 1 labels and 2 clusters"),
        ({"clusters": ["one"]}, "has 2 texts, 2 labels and 1 clusters"),
        ({"labels": ["pos", "positive"]}, r"The labels \['positive'\] have no words in the verbalizer"),
        ({"verbalizer": {"pos": " good"}, "labels": ["pos", "pos"]}, "The verbalizer has 1 labels"),
        ({"verbalizer": {"pos": " good", "neg": ""}}, "The words of a label are empty"),
        ({"prompt": "The text is"}, r"does not contain '\{text\}'"),
        ({"texts": [], "labels": []}, "has no items"),
    ],
)
def test_items_that_do_not_fit_together_are_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        tasks.Classification(**{"texts": TEXTS[:2], "labels": ["pos", "neg"], "verbalizer": WORDS_FOR} | wrong)


def test_an_answer_that_merges_with_the_prompt_is_refused():
    # "oo" is one token of this tokenizer, so after "go" the answer "od" has no likelihood of its own.
    tokenizer, model = byte_tokenizer(), build("gpt2", vocab_size=300)
    assert len(tokenizer(" good")["input_ids"]) == len(tokenizer(" go")["input_ids"]) + 1
    merged = tasks.Classification(["the cat is"], ["good"], {"good": "od", "got": "t"}, "{text} go")
    with pytest.raises(ValueError, match="merges the end of prompt 0 with the answer 'od'"):
        merged.score(model, tokenizer)
    apart = tasks.Classification(["the cat is"], ["d"], {"d": " good", "t": " bad"}, "{text}")
    assert len(apart.score(model, tokenizer)) == 1


def test_a_prompt_beyond_the_context_is_refused_rather_than_cut(gpt2, tokenizer):
    def task(n_words):
        return tasks.Classification([" ".join(WORDS[:n_words])], ["pos"], {"pos": " good", "neg": " bad"})

    assert len(task(CONTEXT - 1).score(gpt2, tokenizer)) == 1
    with pytest.raises(ValueError, match=f"Item 0 has {CONTEXT + 1} tokens with its answer; the model reads {CONTEXT}"):
        task(CONTEXT).score(gpt2, tokenizer)


def test_an_end_token_that_the_tokenizer_adds_does_not_stand_before_the_answer(gpt2):
    from tokenizers.processors import TemplateProcessing

    plain, ending = word_tokenizer(), word_tokenizer()
    ending.backend_tokenizer.post_processor = TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 3)])
    assert ending("the cat")["input_ids"][-1] == 3
    task = tasks.Classification(TEXTS, ["pos"] * len(TEXTS), WORDS_FOR)
    assert task.score(gpt2, ending).equals(task.score(gpt2, plain))


def test_a_model_that_always_says_the_same_has_the_majority_rate_and_is_flagged(tokenizer):
    texts, labels = sentences(12), ["neg"] * 5 + ["pos"] * 7
    words = {"pos": " good", "neg": " bad"}
    task = tasks.Classification(texts, labels, words)
    for word, label, accuracy in (("good", "pos", 7 / 12), ("bad", "neg", 5 / 12)):
        scores = evaluate(prefer(build("phi"), tokenizer, word), tokenizer, [task], {})
        assert scores.summary()["value"].tolist() == pytest.approx([accuracy])
        counts = scores.label_counts().set_index("label")
        assert counts["collapsed"].tolist() == [1, 1]
        assert counts["majority_rate"].tolist() == pytest.approx([7 / 12] * 2)
        assert counts["balanced_accuracy"].tolist() == pytest.approx([0.5] * 2)
        assert counts["n_true"].to_dict() == {"neg": 5, "pos": 7}
        assert counts["n_predicted"].to_dict() == {"neg": 0, "pos": 0} | {label: 12}
        assert counts["recall"].to_dict() == {"neg": 0, "pos": 0} | {label: 1}


def test_a_model_that_says_both_is_not_flagged(tokenizer):
    texts, words = sentences(12), {"pos": " good", "neg": " bad"}
    model = build("phi")
    said = tasks.Classification(texts, ["pos"] * 12, words).score(model, tokenizer)["predicted"]
    assert said.nunique() == 2  # of random weights, this one varies
    scores = evaluate(model, tokenizer, [tasks.Classification(texts, said, words)], {})
    assert scores.summary()["value"].tolist() == [1.0]
    counts = scores.label_counts()
    assert not counts["collapsed"].any()
    assert counts["balanced_accuracy"].tolist() == [1.0, 1.0]
    assert (counts["mean_margin"] > 0).all()


def test_items_are_read_from_a_file(tmp_path, gpt2, tokenizer):
    path = tmp_path / "items.csv"
    path.write_text("prompt,label\nthe cat is,good\nthe dog is,bad\nthe NA is,good\n")
    task = tasks.Classification.from_file(path, name="animals")
    assert task.info.name == "animals"
    assert task.prompts == ["the cat is", "the dog is", "the NA is"]
    assert task.verbalizer == {"bad": " bad", "good": " good"}
    expected = tasks.Classification(task.prompts, ["good", "bad", "good"], task.verbalizer).score(gpt2, tokenizer)
    assert task.score(gpt2, tokenizer).equals(expected)
    path.write_text("text,label\nthe cat is,good\n")
    with pytest.raises(ValueError, match="has no column 'prompt'"):
        tasks.Classification.from_file(path)


def test_scoring_is_silent_where_nothing_is_wrong(gpt2, tokenizer):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        tasks.Perplexity(TEXTS).score(gpt2, tokenizer)
        labels = [list(WORDS_FOR)[number % 3] for number in range(len(TEXTS))]
        tasks.Classification(TEXTS, labels, WORDS_FOR).score(gpt2, tokenizer)
