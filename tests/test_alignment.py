"""Token spans match the text for every tokenizer and any characters."""

import functools
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer, ByT5Tokenizer

from lmri import record
from lmri.models import encode
from tiny_models import CONTEXT, WORDS, bert_tokenizer, build, byte_tokenizer, sentences, word_tokenizer
from tolerances import model_rounding

FAMILY, FLAG, ACUTE, HEBREW = "👩\u200d👩\u200d👧", "🇩🇪", "e\u0301", "שלום עולם"
NASTY = {
    "emoji with joiners": f"a {FAMILY} {FLAG} b",
    "combining marks": f"caf{ACUTE} Z" + "\u0335\u0321" * 40 + "algo",
    "right to left": f"the {HEBREW} cat \u202eabc\u202c dog مرحبا",
    "zero bytes": "the\x00cat \x00 dog",
    "controls": "a\x01b \x1b[31m c\x1c\x1dd \x85 e\x7f",
    "white space": "a\u00a0b\u2003c\u3000d \t\r\n\u2028e\u2029 f\ufeff",
    "byte order mark inside": "\ufeffthe cat",
    "windows lines": "the cat\r\nthe dog\r\n",
    "special names": "the <|endoftext|> cat [SEP] dog </s> fish <pad> [CLS]",
    "beyond the basic plane": "𝔘𝔫𝔦 𐍈 𠜎",
    "private and unassigned": "\ue000 \U0010ffff \u0378",
    "ligatures": "ﬁ ß İ ǅ ½ Ⅷ ﷺ",
}
TOKENIZERS = {"word": word_tokenizer, "byte": byte_tokenizer, "bert": bert_tokenizer}
TEXTS = st.lists(
    st.one_of(
        st.text(st.characters(exclude_categories=["Cs"]), max_size=12),
        st.sampled_from([*WORDS, *NASTY.values(), " ", "\n", "\x00", FAMILY]),
    ),
    max_size=8,
).map("".join)


@functools.cache
def reading(name):
    """Return a model and a tokenizer of the given kind."""
    if name in TOKENIZERS:
        return build("gpt2" if name != "bert" else "bert", vocab_size=320), TOKENIZERS[name]()
    tokenizer = AutoTokenizer.from_pretrained(name)
    return build("gpt2", vocab_size=len(tokenizer)), tokenizer


def check(name, text, most=None):
    """Assert all properties of an encoded text."""
    model, tokenizer = reading(name)
    whole = encode(model, tokenizer, text, most)
    length = len(whole.ids)
    assert length == len(whole.tokens) == len(whole.spans) == len(whole.special) <= CONTEXT
    before = (0, 0)
    for token, (start, end) in zip(whole.tokens, whole.spans, strict=True):
        if start == end:
            continue  # it stands for nothing in the text, as [CLS] does
        assert 0 <= start < end <= len(text)
        assert token == text[start:end]
        # Byte-level tokens may share one character, of which each stands for some bytes.
        assert start >= before[0] and end >= before[1] and start >= before[1] - 1  # noqa: PT018
        before = (start, end)
    assert sum(whole.special) >= 2 * (name == "bert")
    if not whole.n_cut:
        covered = np.zeros(len(text), bool)
        for start, end in whole.spans:
            covered[start:end] = True
        assert all(covered[place] or char.isspace() for place, char in enumerate(text))
    return whole


def check_cut(name, text, most):
    """Assert that a truncated text equals its beginning, and that the missing tokens are counted."""
    tokenizer = reading(name)[1]
    n_behind = int(name == "bert")
    whole, cut = check(name, text), check(name, text, most)
    n_all = len(tokenizer(text, verbose=False)["input_ids"])
    assert len(cut.ids) == min(most, n_all, CONTEXT)
    assert cut.n_cut == n_all - len(cut.ids)
    same = len(cut.ids) - n_behind
    assert cut.ids[:same] == whole.ids[:same]
    assert cut.spans[:same] == whole.spans[:same]


@pytest.mark.parametrize("name", sorted(TOKENIZERS))
@given(text=TEXTS)
@settings(suppress_health_check=list(HealthCheck))
@example(text="")
def test_token_spans_match_the_text(name, text):
    check(name, text)


@pytest.mark.parametrize("name", sorted(TOKENIZERS))
@given(text=TEXTS, most=st.integers(3, 20))
@settings(suppress_health_check=list(HealthCheck))
def test_a_cut_text_is_a_prefix(name, text, most):
    check_cut(name, text, most)


@pytest.mark.parametrize("what", sorted(NASTY))
@pytest.mark.parametrize("name", sorted(TOKENIZERS))
def test_difficult_texts_are_aligned(name, what):
    check(name, NASTY[what])
    check_cut(name, NASTY[what], 5)


@pytest.mark.parametrize("what", sorted(NASTY))
@pytest.mark.parametrize("model", ["mini-gpt2", "tinystories-char-gpt2"])
def test_difficult_texts_are_aligned_by_real_tokenizers(real_data, model, what):
    check(str(Path(real_data) / "models" / model), NASTY[what])


def test_several_tokens_of_one_emoji_have_one_span_and_the_test_would_see_a_shift():
    encoding = check("byte", f"a {FAMILY}")
    spans = [span for span in encoding.spans if span[1] > 2]
    assert len(spans) > len(set(spans)) >= 1
    assert "".join(dict(zip(encoding.spans, encoding.tokens, strict=True)).values()) == f"a {FAMILY}"


def test_the_name_of_a_special_token_is_read_as_that_token_and_marked():
    model, tokenizer = reading("byte")
    encoding = encode(model, tokenizer, "the <|endoftext|> cat")
    place = encoding.tokens.index("<|endoftext|>")
    assert encoding.ids[place] == tokenizer.eos_token_id
    assert [number for number, special in enumerate(encoding.special) if special] == [place]
    assert encoding.spans[place] == (4, 17)


@pytest.mark.parametrize("name", sorted(TOKENIZERS))
def test_half_a_surrogate_pair_is_refused(name):
    with pytest.raises(ValueError, match=r"half a surrogate pair.*'\\ud83d' at 6"):
        encode(*reading(name), "smile \ud83d")


def test_limits_that_leave_nothing_are_refused():
    model, tokenizer = reading("bert")
    assert encode(model, tokenizer, "the cat runs", 3).tokens == ["[CLS]", "the", "[SEP]"]
    assert encode(model, tokenizer, "", 2).tokens == ["[CLS]", "[SEP]"]
    for most in (1, 2):
        with pytest.raises(ValueError, match=f"limit is {most} tokens .* at least 3"):
            encode(model, tokenizer, "the cat runs", most)
    with pytest.raises(ValueError, match="max_tokens is 0"):
        encode(model, tokenizer, "the cat", 0)


def test_a_text_is_cut_at_its_end_wherever_the_tokenizer_would_cut():
    model, tokenizer = build("gpt2"), word_tokenizer()
    tokenizer.truncation_side = "left"
    assert encode(model, tokenizer, " ".join(WORDS), 4).tokens == list(WORDS[:4])
    assert tokenizer.truncation_side == "left"
    tokenizer.truncation_side = "right"
    assert len(tokenizer(" ".join(WORDS))["input_ids"]) == len(WORDS)  # and no limit is left behind


@pytest.mark.parametrize("name", sorted(TOKENIZERS))
def test_a_word_of_a_hundred_thousand_letters_is_read_and_its_cut_is_counted(name):
    encoding = check(name, "x" * 100_000)
    assert len(encoding.ids) <= CONTEXT
    assert (encoding.n_cut > 10_000) == (name == "byte")
    assert encoding.spans[name == "bert"] == ((0, 100_000) if name != "byte" else (0, 1))


def test_a_huge_text_of_a_slow_tokenizer_is_cut_and_counted():
    model, tokenizer = build("t5", vocab_size=400, max_position_embeddings=None), ByT5Tokenizer()
    encoding = encode(model, tokenizer, "né " * 20_000, 50)
    assert (len(encoding.ids), encoding.n_cut) == (50, 80_001 - 50)
    assert set(encoding.spans) == {(-1, -1)}
    assert encoding.special == [False] * 49 + [True]


def test_recordings_of_difficult_texts_match_activations_of_the_same_text_parts(tmp_path):
    model, tokenizer = reading("byte")
    texts = [*NASTY.values(), *sentences(4)]
    recording = record(model, tokenizer, texts, tmp_path / "study", corpus="nasty", test_fraction=0)
    reference = {}
    for text, text_id in zip(texts, [entry["text_id"].iloc[0] for entry in by_text(recording)], strict=True):
        encoding = encode(model, tokenizer, text)
        reference[text_id] = (text, encoding, activations(model, encoding.ids))
    n_seen = 0
    for tokens, volumes in zip(recording.tokens, recording.arrays(), strict=True):
        for row in tokens.itertuples():
            text, encoding, values = reference[row.text_id]
            place = int(row.position)
            assert row.token_id == encoding.ids[place]
            assert row.token == encoding.tokens[place]
            assert (row.start, row.end) == encoding.spans[place]
            assert row.start == row.end or text[int(row.start) : int(row.end)] == row.token
            if not np.isnan(row.volume):
                np.testing.assert_allclose(volumes[int(row.volume)], values[place], atol=model_rounding(model, values))
                n_seen += 1
    assert n_seen == recording.n_volumes > 100


def by_text(recording):
    """Return the token tables of single texts, in the order of the texts."""
    table = pd.concat(recording.tokens)
    own = {text_id: rows for text_id, rows in table.groupby("text_id")}
    return [own[text_id] for text_id in sorted(own)]


def activations(model, ids):
    """Return the MLP outputs at each token, layer by layer, computed with transformers alone."""
    kept, handles = [], []
    for block in model.transformer.h:
        handles.append(block.mlp.c_proj.register_forward_hook(lambda module, args, output: kept.append(output[0])))
    with torch.no_grad():
        model(torch.tensor([ids]))
    for handle in handles:
        handle.remove()
    return torch.cat(kept, dim=-1).numpy()
