"""The numerical test of causality: models that look ahead anywhere are found, and causal models never are."""

import contextlib
import math

import numpy as np
import pytest
import torch
import transformers

import lmri
from lmri import lesion, tasks
from lmri.exceptions import NonFiniteError
from lmri.lesions.evaluation.prefix import PrefixCache
from lmri.models import causality, why_not_causal
from lmri.models.surprisal import predictions
from shrinking import build_small, head_classes
from tiny_models import (
    ARCHITECTURES,
    CAUSAL,
    CONTEXT,
    MIXTURES,
    VOCABULARY,
    assert_untouched,
    bert_tokenizer,
    build,
    mixture,
    sentences,
    snapshot,
    word_tokenizer,
)

DTYPES = (torch.float32, torch.bfloat16, torch.float16)


class Seeing(transformers.LlamaForCausalLM):
    """A decoder whose attention also sees the later tokens that `sees` names."""

    sees = staticmethod(lambda ids, query, key: torch.zeros_like(query + key, dtype=torch.bool))

    def forward(self, input_ids=None, attention_mask=None, **options):
        places = torch.arange(input_ids.shape[1])
        query, key = places[:, None], places[None]
        seen = (key <= query) | torch.as_tensor(self.sees(input_ids[0], query, key))
        seen = seen & attention_mask.bool()[:, None, None, :]
        mask = torch.zeros(seen.shape, dtype=self.dtype).masked_fill(~seen, torch.finfo(self.dtype).min)
        return super().forward(input_ids=input_ids, attention_mask=mask, **options)


def seeing(sees=None, dtype=torch.float32, **changes):
    """Build a small model of two layers with a context of 256 tokens."""
    config = build("llama").config
    config.num_hidden_layers, config.max_position_embeddings = 2, 256
    for name, value in changes.items():
        setattr(config, name, value)
    torch.manual_seed(0)
    model = Seeing(config).to(dtype).eval()
    if sees is not None:
        model.sees = sees
    return model


def within(first, last):
    """Return a rule by which the tokens of one part of the text see each other."""
    return lambda ids, query, key: (first <= query) & (query < last) & (first <= key) & (key < last)


SEPARATOR = 11
LOOKING_AHEAD = {
    "all": lambda ids, query, key: key >= 0,
    "next token": lambda ids, query, key: key == query + 1,
    "two tokens ahead alone": lambda ids, query, key: key == query + 2,
    "last token": lambda ids, query, key: key == len(ids) - 1,
    "first token sees the second": within(0, 2),
    "prefix of 5": within(0, 5),
    "prefix of 100": within(0, 100),
    "first half": lambda ids, query, key: (query < len(ids) // 2) & (key < len(ids) // 2),
    "from the middle on": lambda ids, query, key: (query >= len(ids) // 2) & (key >= len(ids) // 2),
    "from 140 on": within(140, 256),
    "positions 40 to 90": within(40, 90),
    **{f"blocks of {n}": lambda ids, query, key, n=n: query // n == key // n for n in (2, 3, 8, 16, 50, 64, 128)},
    **{f"more than {n} tokens ahead": lambda ids, query, key, n=n: key > query + n for n in (16, 64, 128)},
    **{f"texts longer than {n}": lambda ids, query, key, n=n: key * 0 + len(ids) > n for n in (16, 64, 128)},
    "up to a separator": lambda ids, query, key: key <= (ids == SEPARATOR).int().argmax() * (ids == SEPARATOR).any(),
    "a separator": lambda ids, query, key: (ids == SEPARATOR)[None] & (query >= 0),
    "few of the words": lambda ids, query, key: (ids < 4)[:, None] & (key >= 0),
}


@pytest.mark.parametrize("name", LOOKING_AHEAD)
def test_a_model_that_looks_ahead_is_found(name):
    reason = why_not_causal(seeing(LOOKING_AHEAD[name], sep_token_id=SEPARATOR))
    assert reason.startswith("Seeing is not causal: if the tokens from position ")


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ["all", "prefix of 5", "blocks of 8", "more than 128 tokens ahead"])
def test_it_is_found_in_half_precision(name, dtype):
    assert why_not_causal(seeing(LOOKING_AHEAD[name], dtype))


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_same_model_without_looking_ahead_passes(dtype):
    model = seeing(dtype=dtype)
    before = snapshot(model)
    assert why_not_causal(model, [list(range(5, 90))], word_tokenizer()) == ""
    assert snapshot(model)["hooks"] == before["hooks"]


def test_a_rare_special_token_of_the_tokenizer_occurs_in_the_texts():
    tokenizer = word_tokenizer()
    tokenizer.add_special_tokens({"additional_special_tokens": ["<turn>"]})
    turn = tokenizer.convert_tokens_to_ids("<turn>")
    model = seeing(lambda ids, query, key: (ids == turn).any() & (key >= 0), vocab_size=5000)
    assert why_not_causal(model) == ""
    assert why_not_causal(model, [[5, 6, 7]], tokenizer)
    # Without its tokenizer, the text to be predicted shows it.
    assert why_not_causal(model, [[5, 6, turn, 7]])


def test_what_was_measured_is_in_the_message():
    reason = why_not_causal(seeing(LOOKING_AHEAD["prefix of 100"]))
    for part in ("its predictions at position ", " change by ", "(rounding explains ", "on both sides of it"):
        assert part in reason


# -- layers that are not attention ------------------------------------------------------------------------------------


class Centred(torch.nn.Module):
    """A layer that subtracts the mean over the text."""

    def forward(self, hidden):
        return hidden - hidden.mean(1, keepdim=True)


class Capacity(torch.nn.Module):
    """An expert that takes as many tokens as it has room for, in order or by their scores."""

    def __init__(self, by_score):
        super().__init__()
        self.by_score = by_score

    def forward(self, hidden):
        scores = hidden[..., 0]
        wanted = scores > scores.new_zeros(())
        order = scores.masked_fill(~wanted, -torch.inf).argsort(1, descending=True) if self.by_score else None
        rank = order.argsort(1) if self.by_score else wanted.long().cumsum(1) - 1
        taken = wanted & (rank < hidden.shape[1] // 4)
        return hidden * (1 + taken[..., None])


@pytest.mark.parametrize(("layer", "is_causal"), [(Centred(), False), (Capacity(True), False), (Capacity(False), True)])
def test_layers_that_share_a_mean_or_places_among_the_tokens_of_a_text(layer, is_causal):
    model = build("llama", context=256)
    mlp = model.model.layers[1].mlp
    model.model.layers[1].mlp = torch.nn.Sequential(layer, mlp)
    assert (why_not_causal(model) == "") == is_causal


# -- classes of transformers ------------------------------------------------------------------------------------------

_BERT_LIKE = (
    "BertLMHeadModel",
    "RobertaForCausalLM",
    "ElectraForCausalLM",
    "RemBertForCausalLM",
    "RoFormerForCausalLM",
)
_BERT_LIKE_TOO = (
    "BertGenerationDecoder", "BigBirdForCausalLM", "CamembertForCausalLM", "Data2VecTextForCausalLM",
    "ErnieForCausalLM", "MegatronBertForCausalLM", "RobertaPreLayerNormForCausalLM", "RoCBertForCausalLM",
    "XLMRobertaForCausalLM", "XLMRobertaXLForCausalLM", "XmodForCausalLM",
)  # fmt: skip
_BOTH_WAYS = ("XLNetLMHeadModel", "XLMWithLMHeadModel", "FlaubertWithLMHeadModel", "CpmAntForCausalLM")
_MASKED = ("BertForMaskedLM", "ModernBertForMaskedLM", "DistilBertForMaskedLM")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", [*_BERT_LIKE, *_BOTH_WAYS, *_MASKED])
def test_classes_that_read_both_ways_are_refused(name, dtype):
    model = build_small(name).to(dtype)
    assert why_not_causal(model).startswith(f"{name} is not causal: if the tokens")


@pytest.mark.parametrize("name", _BERT_LIKE)
def test_the_same_classes_as_decoders_pass(name):
    assert why_not_causal(build_small(name, is_decoder=True)) == ""


def test_a_causal_xlm_passes():
    assert why_not_causal(build_small("XLMWithLMHeadModel", causal=True)) == ""


def test_the_bidirectional_option_of_gemma_is_found():
    sizes = {"sliding_window": 8, "sliding_window_pattern": 2, "max_position_embeddings": 256}
    for both_ways in (False, True):
        model = build_small("Gemma3ForCausalLM", use_bidirectional_attention=both_ways, **sizes)
        assert bool(why_not_causal(model)) == both_ways


@pytest.mark.parametrize("name", CAUSAL[::2])
def test_causal_architectures_pass(name):
    model = build(name)
    before = snapshot(model)
    assert why_not_causal(model, [[5, 6, 7, 8, 9]]) == ""
    assert_untouched(model, before)


# A sample of the remaining ones: state-space models, linear attention, chunks, windows and experts.
_PUBLISHED = (
    "MambaForCausalLM", "RwkvForCausalLM", "RecurrentGemmaForCausalLM", "JambaForCausalLM", "FalconH1ForCausalLM",
    "Lfm2ForCausalLM", "Qwen3NextForCausalLM", "CTRLLMHeadModel", "BartForCausalLM", "Gemma3ForCausalLM",
    "GptOssForCausalLM", "Llama4ForCausalLM",
)  # fmt: skip


@pytest.mark.parametrize("name", _PUBLISHED)
def test_published_causal_classes_pass(name):
    assert why_not_causal(build_small(name)) == ""


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", MIXTURES[::4])
def test_experts_whose_numbers_of_tokens_differ_pass(kind, dtype):
    assert why_not_causal(mixture(kind).to(dtype)) == ""


@pytest.mark.slow
def test_only_classes_that_read_both_ways_are_refused_of_all():
    refused = set()
    for head, _, name in head_classes():
        if head == "CausalLM":
            with contextlib.suppress(Exception):  # a class that cannot be built, or not run, at this size
                refused |= {name} if why_not_causal(build_small(name)) else set()
    # ProphetNet's predictions of the next tokens depend on later ones, which the mask of its streams does not exclude.
    expected = {*_BERT_LIKE, *_BERT_LIKE_TOO, *_BOTH_WAYS, "ProphetNetForCausalLM"} - {"FlaubertWithLMHeadModel"}
    assert refused == expected


# -- texts and lengths ------------------------------------------------------------------------------------------------


def lengths_of(model, longest=()):
    return [len(text.row) for text in causality._texts(model, tuple(longest), None)]


def test_there_is_a_length_on_both_sides_of_every_boundary_of_the_configuration():
    model = seeing(sliding_window=8, attention_chunk_size=12, max_position_embeddings=512)
    assert min(lengths_of(model)) <= 8
    assert any(8 < length <= 12 for length in lengths_of(model))
    # A boundary beyond the texts to be predicted cannot matter; below, there is a length right behind it.
    far = seeing(sliding_window=200, max_position_embeddings=512)
    assert max(lengths_of(far)) == causality.LONG
    assert lengths_of(far, range(300)) == [causality.SHORT, causality.LONG, 201, 300]
    nested = seeing(rope_parameters={"rope_type": "default", "rope_theta": 1e4, "original_max_position_embeddings": 30})
    assert 31 in lengths_of(nested)


def test_texts_are_no_longer_than_the_context():
    assert max(lengths_of(build("gpt2"))) == CONTEXT
    assert max(lengths_of(build("gpt2", context=8))) == 8
    assert why_not_causal(build("gpt2", context=2)) == ""


def test_a_limit_that_is_not_declared_is_no_failure():
    model = build("gpt2")
    model.config.n_positions = 10**6  # its table of positions has 64 rows
    assert why_not_causal(model, [[5, 6, 7]]) == ""
    with pytest.raises(IndexError):
        why_not_causal(model, [list(range(5, 75))])


# -- values that cannot be compared -----------------------------------------------------------------------------------


def test_nan_does_not_pass_and_infinite_logits_of_unused_tokens_do():
    broken = build("gpt2")
    with torch.no_grad():
        broken.transformer.ln_f.bias[0] = math.nan
    with pytest.raises(NonFiniteError, match="GPT2LMHeadModel are NaN, so that it cannot be tested"):
        why_not_causal(broken)
    unused = build("phi")
    with torch.no_grad():
        unused.lm_head.bias[5] = -torch.inf
        unused.lm_head.bias[6] = math.nan
    assert why_not_causal(unused) == ""


class Poisoned(transformers.GPT2LMHeadModel):
    """A model in which the last token of a text may make one logit of the first NaN."""

    def forward(self, input_ids=None, **options):
        made = super().forward(input_ids=input_ids, **options)
        made.logits[:, 0, 3] = math.nan if input_ids[0, -1] % 2 else 0.0
        return made


def test_a_nan_that_later_tokens_cause_is_a_change():
    assert "change by inf" in why_not_causal(Poisoned(build("gpt2").config).eval())


# -- what is remembered -----------------------------------------------------------------------------------------------


def test_a_model_is_tested_once_until_a_longer_text_or_another_configuration(monkeypatch):
    passes = []
    run = causality._predictions
    monkeypatch.setattr(causality, "_predictions", lambda *given: passes.append(given) or run(*given))
    model = build("gpt2", context=300)

    def n_passes(rows):
        passes.clear()
        assert why_not_causal(model, rows) == ""
        return len(passes)

    rows = [[5, 6, 7, 8], [5, 6, 7]]
    assert 0 < n_passes(rows) < 20
    assert n_passes(rows) == 0
    assert 0 < n_passes([*rows, list(range(5, 90))]) <= 4
    model.config.some_option = 3
    assert n_passes(rows) > 5


def test_switching_a_mask_off_is_noticed():
    bert = build("bert", head="BertLMHeadModel", is_decoder=True)
    assert why_not_causal(bert) == ""
    bert.config.is_decoder = False
    assert "is not causal" in why_not_causal(bert)
    llama = build("llama")
    assert why_not_causal(llama) == ""
    for layer in llama.model.layers:
        layer.self_attn.is_causal = False
    assert "is not causal" in why_not_causal(llama)


def test_a_lesion_that_hides_looking_ahead_is_not_remembered():
    model = seeing(LOOKING_AHEAD["all"])
    space = lmri.find_sites(model, "attn_out")
    network = lmri.Network.from_members(space, np.ones(space.n_neurons, dtype=bool))
    with lesion(network).on(model):
        assert why_not_causal(model) == ""
    assert "is not causal" in why_not_causal(model)


def test_a_forward_pass_that_exchanges_modules_is_undone():
    model = transformers.BigBirdForMaskedLM(
        transformers.BigBirdConfig(
            vocab_size=VOCABULARY, hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2,
            max_position_embeddings=256, block_size=4, num_random_blocks=1,
        )
    ).eval()  # fmt: skip
    attention = type(model.bert.encoder.layer[0].attention.self)
    with pytest.raises(TypeError, match="is not causal"):
        tasks.Perplexity(sentences(2)).score(model, bert_tokenizer())
    assert model.bert.attention_type == "block_sparse"
    assert type(model.bert.encoder.layer[0].attention.self) is attention
    model(torch.tensor([[5, 6, 7]]))  # the control: one short text exchanges it for good
    assert model.bert.attention_type == "original_full"


def test_the_texts_of_the_test_are_not_kept_among_those_of_an_evaluation():
    model = build("gpt2")
    cache = PrefixCache(model, [1])
    with cache.keeping():
        assert why_not_causal(model, [[5, 6, 7]]) == ""
        assert cache.n_bytes == 0
        model(input_ids=torch.tensor([[5, 6]]), use_cache=False)
        assert cache.n_bytes > 0


# -- every user of predictions ----------------------------------------------------------------------------------------


def bert(is_decoder):
    return build("bert", head="BertLMHeadModel", is_decoder=is_decoder)


WORDS_FOR = {"pos": " good", "neg": " bad"}
SCORERS = {
    "perplexity": lambda: tasks.Perplexity(sentences(3)),
    "likelihood": lambda: tasks.Classification(sentences(2), ["pos", "neg"], WORDS_FOR, "{text} good or bad"),
    "answers": lambda: tasks.Classification(
        sentences(2), ["pos", "neg"], WORDS_FOR, "{text} good or bad", scoring="generate", max_new_tokens=2
    ),
    "free text": lambda: tasks.FreeText(
        [{"text": "the cat"}], [["sits"]], "{text}", {"exact_match": lambda answer, references: 1.0}, max_new_tokens=2
    ),
}


@pytest.mark.parametrize("name", SCORERS)
def test_every_task_refuses_a_model_that_reads_both_ways(name):
    task = SCORERS[name]()
    with pytest.raises(TypeError, match=r"needs a causal language model, but BertLMHeadModel is not causal: .*'head'"):
        task.score(bert(False), word_tokenizer())
    assert len(task.score(bert(True), word_tokenizer()))


def test_surprisal_and_generation_refuse_it_and_recording_does_not(tmp_path):
    recording = lmri.record(bert(False), word_tokenizer(), sentences(2), tmp_path / "one", test_fraction=0)
    assert "is not causal" in predictions(bert(False), recording).reason
    with pytest.raises(ValueError, match="Record the texts without generate"):
        lmri.record(bert(False), word_tokenizer(), sentences(2), tmp_path / "two", generate=2)


@pytest.mark.parametrize("name", ["bart", "t5"])
def test_encoder_decoders_are_refused_by_their_kind(name):
    assert "encoder of an encoder–decoder reads a text as a whole" in why_not_causal(ARCHITECTURES[name].build())
