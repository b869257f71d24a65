"""Models are loaded as requested and identified by their weights; texts are converted to tokens and batches."""

import numpy as np
import pytest
import torch
from transformers import ByT5Tokenizer

from lmri import load_model, record
from lmri.models import (
    bucket,
    context_length,
    describe_model,
    encode,
    evaluation_mode,
    fingerprint,
    hashes,
    location,
    reader,
    right_pad,
)
from lmri.models.identity import _row_and_column_sums
from tiny_models import (
    ARCHITECTURES,
    CONTEXT,
    EVERY,
    WORDS,
    bert_tokenizer,
    build,
    byte_tokenizer,
    read,
    sentences,
    word_tokenizer,
)

# -- loading ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path, gpt2, tokenizer):
    path = tmp_path / "my-model"
    gpt2.to(torch.bfloat16).save_pretrained(path)
    tokenizer.save_pretrained(path)
    return path


def test_a_checkpoint_in_bfloat16_is_loaded_as_float32_unless_asked_for(folder):
    model, tokenizer = load_model(folder)
    assert {values.dtype for values in model.parameters()} == {torch.float32}
    assert not model.training
    assert type(model).__name__ == "GPT2LMHeadModel"
    assert tokenizer("the cat")["input_ids"] == word_tokenizer()("the cat")["input_ids"]
    half, _ = load_model(folder, dtype="bfloat16")
    assert {values.dtype for values in half.parameters()} == {torch.bfloat16}


@pytest.mark.parametrize(
    ("head", "name"), [("GPT2ForSequenceClassification", "gpt2"), ("BertForMaskedLM", "bert"), ("T5EncoderModel", "t5")]
)
def test_the_class_that_the_checkpoint_names_is_loaded(tmp_path, tokenizer, head, name):
    build(name, head=head).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    assert type(load_model(tmp_path)[0]).__name__ == head


def test_loading_draws_nothing_and_leaves_the_progress_bar_as_it_was(folder, capfd):
    from transformers.utils import logging

    assert logging.is_progress_bar_enabled()
    load_model(folder)
    assert logging.is_progress_bar_enabled()
    printed = capfd.readouterr()
    assert "%|" not in printed.out + printed.err


def test_what_cannot_be_loaded_is_a_value_error_that_names_it(tmp_path):
    with pytest.raises(ValueError, match=r"could not be loaded.*Use a name on the Hugging Face hub"):
        load_model(tmp_path)
    with pytest.raises(ValueError, match="no-such-folder"):
        load_model(tmp_path / "no-such-folder")
    with pytest.raises(ValueError, match="dtype is 'float31'"):
        load_model(tmp_path, dtype="float31")
    with pytest.raises(ValueError, match="dtype is 'nn'"):  # an attribute of torch, but no dtype
        load_model(tmp_path, dtype="nn")


# -- identity ---------------------------------------------------------------------------------------------------------


def test_a_local_model_is_named_after_its_folder_and_never_by_its_absolute_path(folder):
    model, _ = load_model(folder)
    info = describe_model(model)
    assert info.id == "my-model"
    assert info.dtype == "float32"
    assert info.model_type == "gpt2"
    assert location(model) == str(folder.resolve())
    assert str(folder.parent) not in str(info)


def test_the_fingerprint_tells_two_trainings_apart_and_not_two_loads(folder):
    first, second = load_model(folder)[0], load_model(folder)[0]
    assert fingerprint(first) == fingerprint(second)
    with torch.no_grad():
        for values in second.parameters():
            values.mul_(1.001)
    assert fingerprint(first) != fingerprint(second)
    assert fingerprint(build("gpt2", seed=0)) != fingerprint(build("gpt2", seed=1))


def test_the_fingerprint_leaves_out_the_head(gpt2):
    classifier = build("gpt2", head="GPT2ForSequenceClassification")
    bare = build("gpt2", head="GPT2Model")
    assert fingerprint(gpt2) == fingerprint(classifier) == fingerprint(bare)


@pytest.mark.parametrize("name", EVERY)
def test_the_fingerprint_sees_a_change_of_every_single_tensor_of_the_body(name):
    # Every tensor costs one fingerprint of the whole model; GPT-Neo lists its layers in the configuration.
    model = build(name, **({} if name == "gpt_neo" else {"layers": 2}))
    before = fingerprint(model)
    for path, values in model.base_model.named_parameters():
        with torch.no_grad():
            kept = values.clone()
            values.add_(1)
            assert fingerprint(model) != before, path
            values.copy_(kept)
    assert fingerprint(model) == before


def test_the_fingerprint_sees_any_value_of_a_small_tensor_and_any_part_of_a_large_one(gpt2):
    before, block = fingerprint(gpt2), gpt2.transformer.h[1]
    assert block.ln_1.weight.numel() < 1024 < block.mlp.c_proj.weight.numel()
    with torch.no_grad():
        block.ln_1.weight[17] += 0.01
        one_value = fingerprint(gpt2)
        block.mlp.c_proj.weight[-6:] += 0.01
    assert len({before, one_value, fingerprint(gpt2)}) == 3


def test_an_encoder_decoder_is_read_by_its_encoder_and_all_others_by_their_body():
    t5, bert = build("t5"), build("bert")
    assert reader(t5) is t5.encoder
    assert reader(bert) is bert.bert


# -- evaluation mode --------------------------------------------------------------------------------------------------


def test_evaluation_mode_switches_off_dropout_and_gradients_and_restores_each_mode(gpt2):
    gpt2.train()
    gpt2.transformer.h[1].eval()  # a mixed state, as when some layers are frozen
    modes = [module.training for module in gpt2.modules()]
    ids = torch.tensor([[5, 6, 7]])
    assert not torch.equal(read(gpt2, ids), read(gpt2, ids))  # dropout acts: the control of the next lines
    with evaluation_mode(gpt2):
        assert not any(module.training for module in gpt2.modules())
        first, second = gpt2(ids).logits, gpt2(ids).logits
        assert torch.equal(first, second)
        assert not first.requires_grad
    assert [module.training for module in gpt2.modules()] == modes
    with pytest.raises(KeyError), evaluation_mode(gpt2):
        raise KeyError
    assert [module.training for module in gpt2.modules()] == modes
    assert gpt2(ids).logits.requires_grad


# -- tokens -----------------------------------------------------------------------------------------------------------


def test_an_encoding_is_what_the_tokenizer_gives_with_the_text_behind_every_token(gpt2, tokenizer):
    text = "the  cat sees zebras ."
    encoding = encode(gpt2, tokenizer, text)
    assert encoding.ids == tokenizer(text)["input_ids"]
    assert encoding.tokens == ["the", "cat", "sees", "zebras", "."]  # zebras is unknown, but stands for its word
    assert [text[start:end] for start, end in encoding.spans] == encoding.tokens
    assert encoding.special == [False] * 5
    assert encoding.n_cut == 0


def test_special_tokens_are_marked_and_named():
    encoding = encode(build("bert"), bert_tokenizer(), "the cat zebra")
    assert encoding.tokens == ["[CLS]", "the", "cat", "zebra", "[SEP]"]
    assert encoding.special == [True, False, False, False, True]


def test_a_token_of_gpt2_that_is_bos_eos_and_unknown_at_once_is_special():
    encoding = encode(build("gpt2", vocab_size=300), byte_tokenizer(), "<|endoftext|>the cat")
    assert encoding.special == [True] + [False] * (len(encoding.ids) - 1)


def test_all_bytes_of_an_emoji_have_one_span():
    text = "a 🦜!"
    encoding = encode(build("gpt2", vocab_size=300), byte_tokenizer(), text)
    of_the_parrot = [span for span in encoding.spans if "🦜" in text[slice(*span)]]
    assert len(of_the_parrot) >= 3
    assert set(of_the_parrot) == {(2, 3)}


def test_a_tokenizer_without_offsets_gives_names_and_no_spans():
    encoding = encode(build("t5", vocab_size=400), ByT5Tokenizer(), "né")
    assert encoding.spans == [(-1, -1)] * 4
    assert encoding.tokens[0] == "n"
    assert encoding.tokens[-1] == "</s>"
    assert encoding.special == [False, False, False, True]


def test_a_long_text_is_cut_at_the_end_and_the_cut_is_counted(gpt2, tokenizer):
    text = " ".join([*WORDS, *WORDS])
    encoding = encode(gpt2, tokenizer, text)
    assert encoding.tokens == text.split()[:CONTEXT]
    assert encoding.n_cut == 2 * len(WORDS) - CONTEXT
    shorter = encode(gpt2, tokenizer, text, max_tokens=5)
    assert shorter.tokens == text.split()[:5]
    assert shorter.n_cut == 2 * len(WORDS) - 5
    assert encode(gpt2, tokenizer, text, max_tokens=CONTEXT + 1).n_cut == encoding.n_cut  # the context stays a limit


def test_cutting_keeps_the_special_tokens_at_both_ends():
    encoding = encode(build("bert"), bert_tokenizer(), " ".join(WORDS), max_tokens=6)
    assert encoding.tokens == ["[CLS]", *WORDS[:4], "[SEP]"]


def test_a_tokenizer_of_another_model_is_refused(tokenizer):
    small = build("gpt2", vocab_size=20, pad_token_id=0)
    assert encode(small, tokenizer, "the a one").ids == [5, 6, 7]
    unknown = tokenizer.convert_tokens_to_ids("!")
    with pytest.raises(ValueError, match=f"returned the token id {unknown}, but the model has only 20 tokens"):
        encode(small, tokenizer, "the !")


@pytest.mark.parametrize("name", sorted(ARCHITECTURES))
def test_every_architecture_reads_a_text_of_its_full_context(name):
    model, tokenizer = build(name), word_tokenizer()
    limit = context_length(model, tokenizer)
    encoding = encode(model, tokenizer, " ".join(WORDS))
    assert len(encoding.ids) == (limit or len(WORDS))
    assert torch.isfinite(read(model, torch.tensor([encoding.ids]))).all()


def test_the_context_is_the_shortest_of_the_limits_that_are_known(gpt2):
    limited, unlimited = word_tokenizer(), word_tokenizer()
    limited.model_max_length = 10
    assert context_length(gpt2, unlimited) == CONTEXT
    assert context_length(gpt2, limited) == 10
    assert context_length(build("bloom"), unlimited) is None
    # RoBERTa's first position is the one behind that of the pad, so two of its 64 are never used.
    assert context_length(build("roberta"), unlimited) == CONTEXT - 2


# -- batches ----------------------------------------------------------------------------------------------------------


def test_batches_hold_every_text_once_and_texts_of_like_length_together():
    lengths = [5, 90, 6, 80, 7, 1]
    plan = bucket(lengths, 2)
    assert sorted(text for batch in plan for text in batch) == list(range(6))
    assert [[lengths[text] for text in batch] for batch in plan] == [[1, 5], [6, 7], [80, 90]]
    assert bucket([3, 1, 2], 5) == [[1, 2, 0]]
    assert bucket([], 5) == []
    with pytest.raises(ValueError, match="batch_size is 0"):
        bucket(lengths, 0)


def test_padding_is_on_the_right_and_masked():
    ids, mask = right_pad([[5, 6, 7], [8]], torch.device("cpu"))
    assert ids.tolist() == [[5, 6, 7], [8, 0, 0]]
    assert mask.tolist() == [[1, 1, 1], [1, 0, 0]]


def test_a_batch_is_never_square():
    # Of as many texts as tokens, one that runs tokens first could not be told from one that runs texts first.
    for rows in ([[5, 6], [8, 9]], [[1, 2, 3], [4], [5, 6]]):
        ids, mask = right_pad(rows, torch.device("cpu"))
        assert ids.shape == mask.shape == (len(rows), len(rows) + 1)
        assert not mask[:, -1].any()
    assert right_pad([[5]], torch.device("cpu"))[0].shape == (1, 1)


def test_hashes_tell_texts_apart():
    texts = sentences(20)
    assert len(hashes(texts)) == 20
    assert hashes(texts[:3]) < hashes(texts)
    assert not hashes(["the cat"]) & hashes(["the cat "])


@pytest.mark.parametrize("how", ["row", "two that cancel", "two in a row that change places", "two rows"])
def test_an_edit_past_the_version_counter_is_seen_before_a_recording(gpt2, tmp_path, how):
    record(gpt2, word_tokenizer(), ["the cat sits", "a dog runs"], tmp_path, test_fraction=0)
    weight = gpt2.transformer.h[0].mlp.c_proj.weight.data
    if how == "row":
        weight[30] = 0
    elif how == "two that cancel":
        weight[3, 4] += 0.25
        weight[5, 6] -= 0.25
    elif how == "two rows":
        weight[[3, 5]] = weight[[5, 3]]
    else:
        weight[3, [4, 6]] = weight[3, [6, 4]]
    with pytest.raises(ValueError, match=r"but the model is .*Nothing was written"):
        record(gpt2, word_tokenizer(), ["the moon"], tmp_path, corpus="other", test_fraction=0)


def test_a_reverted_edit_is_not_reported(gpt2, tmp_path):
    record(gpt2, word_tokenizer(), ["the cat sits", "a dog runs"], tmp_path, test_fraction=0)
    weight = gpt2.transformer.h[0].mlp.c_proj.weight.data
    before = weight[3, 4].clone()
    weight[3, 4] = 7
    weight[3, 4] = before
    record(gpt2, word_tokenizer(), ["the moon"], tmp_path, corpus="other", test_fraction=0)


@pytest.mark.parametrize(
    "name", ["float64", "float32", "bfloat16", "float16", "float8_e4m3fn", "int8", "uint8", "bool"]
)
@pytest.mark.parametrize("offset", [0, 1])
def test_sums_tell_any_value_and_any_two_that_change_places(name, offset):
    bits = torch.randint(0, 2, (9001,), generator=torch.Generator().manual_seed(0))
    dtype = getattr(torch, name)
    values = bits.to(dtype)[offset:]
    before = _row_and_column_sums(values)
    assert _row_and_column_sums(values.clone()) == before
    for place in (0, 7, 511, 512, 4095, 8191, 8192, len(values) - 1):
        changed = values.clone()
        changed[place] = (1 - bits[offset:][place]).to(dtype)
        assert _row_and_column_sums(changed) != before
        other = int(np.flatnonzero(bits[offset:].numpy() != int(bits[offset:][place]))[place // 3])
        changed = values.clone()
        changed[[place, other]] = values[[other, place]]
        assert _row_and_column_sums(changed) != before
    if offset == 0:  # whole rows of the sums
        content = values.view(torch.uint8)
        n = min(4096, len(content) // 4096 // 2 * 4096)
        turned = torch.cat([content[n : 2 * n], content[:n], content[2 * n :]])
        assert _row_and_column_sums(turned) != before
