"""A text in a batch gives the values that it gives alone; models in which it does not are read text by text."""

import warnings

import numpy as np
import pytest
import torch
import transformers
from torch import nn

import lmri
from lmri.exceptions import DataWarning
from lmri.models import batch_texts
from lmri.models.batching import difference_in_batch, is_independent, tolerance
from lmri.tasks import Perplexity
from tiny_models import ARCHITECTURES, VOCABULARY, build, mixture, randomize, sentences, word_tokenizer

SIZES = {
    "vocab_size": VOCABULARY, "hidden_size": 32, "intermediate_size": 56, "num_hidden_layers": 2,
    "max_position_embeddings": 64, "pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 3,
}  # fmt: skip
TEXTS = sentences(9, 3, 30, seed=2)


class Centred(nn.Module):
    """A part that subtracts the mean of its batch, which equals the part when a text is read alone."""

    def __init__(self, part, shift):
        super().__init__()
        self.part, self.shift = part, shift

    def forward(self, values):
        values = self.part(values)
        if values.shape[0] == 1:
            return values
        return values - self.shift * values.mean(dim=0, keepdim=True)


def centred(shift=0.01):
    model = build("llama")
    model.model.layers[1].mlp = Centred(model.model.layers[1].mlp, shift)
    return model


def switching(boundary=20):
    """Build a model whose rotary embedding has two scales; the longest text of a batch determines the scale."""
    rope = {
        "rope_type": "longrope", "short_factor": [1.0] * 4, "long_factor": [1.5, 2.0, 4.0, 8.0], "rope_theta": 1e4,
        "original_max_position_embeddings": boundary,
    }  # fmt: skip
    config = transformers.Phi3Config(
        **SIZES, num_attention_heads=4, num_key_value_heads=2, rope_parameters=rope,
        original_max_position_embeddings=boundary,
    )  # fmt: skip
    return randomize(transformers.Phi3ForCausalLM(config))


def windowed():
    """Build a model that pools over windows named in its configuration, so that longer texts change shorter ones."""
    model = build("llama", sliding_window=40)
    mlp = model.model.layers[0].mlp

    class Pooled(nn.Module):
        def __init__(self):
            super().__init__()
            self.part = mlp

        def forward(self, values):
            values = self.part(values)
            return values + values.mean(dim=1, keepdim=True) if values.shape[1] > 40 else values

    model.model.layers[0].mlp = Pooled()
    return model


LEAKING = {
    "pads in a Fourier transform": lambda: randomize(transformers.FNetForMaskedLM(transformers.FNetConfig(**SIZES))),
    "pads in a convolution": lambda: randomize(
        transformers.ConvBertForMaskedLM(transformers.ConvBertConfig(**SIZES, num_attention_heads=4, embedding_size=32))
    ),
    "pads in landmarks": lambda: randomize(
        transformers.NystromformerForMaskedLM(transformers.NystromformerConfig(**SIZES, num_attention_heads=4))
    ),
    "the mean of the batch": centred,
    "a length beyond a window": windowed,
}


def values(recording):
    return np.concatenate(list(recording.arrays()))


@pytest.mark.parametrize("name", LEAKING)
def test_recordings_equal_those_of_each_text_alone(name, tmp_path):
    model, texts = LEAKING[name](), [*TEXTS, " ".join(sentences(4, 11, 12, seed=5))]
    with pytest.warns(DataWarning, match="read one at a time"):
        together = lmri.record(model, word_tokenizer(), texts, tmp_path / "together", test_fraction=0, batch_size=8)
    with warnings.catch_warnings():
        warnings.simplefilter("error", DataWarning)  # reported once
        alone = lmri.record(model, word_tokenizer(), texts, tmp_path / "alone", test_fraction=0, batch_size=1)
    assert np.array_equal(values(together), values(alone))


@pytest.mark.parametrize("name", sorted(ARCHITECTURES))
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_ordinary_models_keep_their_batches(name, dtype):
    model = build(name).to(dtype)
    assert is_independent(model)
    assert batch_texts(model, [5, 6, 30], 2) == [[0, 1], [2]]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_mixtures_of_experts_keep_their_batches(dtype):
    assert is_independent(mixture("Mixtral").to(dtype))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_leak_is_found_if_it_exceeds_rounding(dtype):
    plain, leaking = build("llama").to(dtype), centred(1.0).to(dtype)
    assert difference_in_batch(plain, (4, 20)) <= tolerance(plain)
    assert difference_in_batch(leaking, (4, 20)) > tolerance(leaking)


def test_no_batch_contains_texts_on_both_sides_of_the_length_at_which_the_rotary_embedding_changes(tmp_path):
    model, lengths = switching(20), [5, 20, 21, 19, 40, 3]
    assert difference_in_batch(model, (5, 30)) > tolerance(model)  # what batches have to avoid
    batches = batch_texts(model, lengths, 8)
    assert sorted(text for batch in batches for text in batch) == list(range(6))
    assert {len({lengths[text] > 20 for text in batch}) for batch in batches} == {1}
    assert max(map(len, batches)) > 1  # and batches are still used
    together = lmri.record(model, word_tokenizer(), TEXTS, tmp_path / "together", test_fraction=0, batch_size=8)
    alone = lmri.record(model, word_tokenizer(), TEXTS, tmp_path / "alone", test_fraction=0, batch_size=1)
    # Products of other shapes round in another order: 16 eps times the root of the longest sum.
    allowed = 16 * np.finfo(np.float32).eps * 56**0.5 * np.abs(values(alone)).max()
    np.testing.assert_allclose(values(together), values(alone), rtol=0, atol=allowed)


def test_a_batch_as_large_as_its_texts_are_long_gets_no_pad_beyond_the_boundary():
    # Its axes would be confused, so one token is added, which would select the other scale.
    batches = batch_texts(switching(8), [8] * 8, 8)
    assert sorted(map(len, batches)) == [1, 7]


@pytest.mark.parametrize("build_model", [centred, switching])
def test_scores_equal_those_of_each_text_alone(build_model):
    model = build_model()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DataWarning)
        together = Perplexity(TEXTS, batch_size=8).score(model, word_tokenizer())
        alone = Perplexity(TEXTS, batch_size=1).score(model, word_tokenizer())
    # Log-likelihoods are sums over the vocabulary and over layers of at most 96 terms.
    np.testing.assert_allclose(together["value"], alone["value"], rtol=32 * np.finfo(np.float32).eps * 96**0.5)
