"""Tiny models with random weights, one per architecture, and tokenizers built in memory; nothing is downloaded."""

import random
import types
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedModel, PreTrainedTokenizerFast

WIDTH, HIDDEN, N_LAYERS, N_HEADS, CONTEXT = 32, 56, 3, 4, 64

_WORDS = (
    "the a one two red blue green old new big small cat dog bird fish tree house road river hill sun moon star rain "
    "snow wind boy girl man woman king queen child friend book song game word story day night year runs sits sees "
    "finds takes gives makes reads sings walks sleeps and or but so then near under over behind with very often never "
    "always good bad yes no happy sad fast slow . , ! ?"
)
WORDS = tuple(_WORDS.split())
SPECIAL = ("<pad>", "<unk>", "<s>", "</s>", "<mask>")
VOCABULARY = 96  # slightly larger than the number of words, as in real models


@dataclass(frozen=True)
class Architecture:
    """Builder of a tiny model, and the sites expected in it."""

    build: Callable[..., PreTrainedModel]
    projection: str
    """Path of the final projection of layer ``{z}``, from the base model."""
    hidden: int = HIDDEN
    causal: bool = True


def randomize(model: PreTrainedModel, seed: int = 0) -> PreTrainedModel:
    """Fill all parameters with noise, because default initialization has zero biases and very small activations."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, values in model.named_parameters():
            noise = torch.randn(values.shape, generator=generator)
            is_norm = values.ndim == 1 and name.endswith("weight")
            values.copy_(1 + 0.1 * noise if is_norm else 0.2 * noise)
    return model.eval()


def architecture(
    config: str, head: str, projection: str, names: dict[str, str] | None = None, causal: bool = True, **fixed: Any
) -> Architecture:
    """Describe an architecture by its classes and by the names of sizes in its configuration."""
    named = {"width": "hidden_size", "hidden": "intermediate_size", "layers": "num_hidden_layers"}
    named |= {"heads": "num_attention_heads", "context": "max_position_embeddings"} | (names or {})

    def build(seed: int = 0, head: str = head, **changes: Any) -> PreTrainedModel:
        sizes = {"width": WIDTH, "hidden": HIDDEN, "layers": N_LAYERS, "heads": N_HEADS, "context": CONTEXT}
        sizes |= {size: changes.pop(size) for size in list(changes) if size in sizes}
        options = {named[size]: value for size, value in sizes.items() if named[size]}
        # Default ids of special tokens are far outside this vocabulary.
        special = {"pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 3}
        configuration = getattr(transformers, config)(
            **{"vocab_size": VOCABULARY, **special, **options, **fixed, **changes}
        )
        return randomize(getattr(transformers, head)(configuration), seed)

    return Architecture(build, projection, HIDDEN if named["hidden"] else 4 * WIDTH, causal)


_GPT = {"width": "n_embd", "hidden": "n_inner", "layers": "n_layer", "heads": "n_head", "context": "n_positions"}
_T5 = {"width": "d_model", "hidden": "d_ff", "layers": "num_layers", "heads": "num_heads", "context": ""}
_LLAMA = "layers.{z}.mlp.down_proj"
_GROUPED = {"num_key_value_heads": 2}
_BERT_LIKE = "encoder.layer.{z}.output.dense"

ARCHITECTURES: dict[str, Architecture] = {
    "gpt2": architecture("GPT2Config", "GPT2LMHeadModel", "h.{z}.mlp.c_proj", _GPT),
    "gptj": architecture("GPTJConfig", "GPTJForCausalLM", "h.{z}.mlp.fc_out", _GPT, rotary_dim=4),
    "gpt_neo": architecture(
        "GPTNeoConfig",
        "GPTNeoForCausalLM",
        "h.{z}.mlp.c_proj",
        {"layers": "num_layers", "heads": "num_heads"},
        attention_types=[[["global"], N_LAYERS]],
    ),
    "gpt_neox": architecture("GPTNeoXConfig", "GPTNeoXForCausalLM", "layers.{z}.mlp.dense_4h_to_h"),
    "opt": architecture(
        "OPTConfig", "OPTForCausalLM", "decoder.layers.{z}.fc2", {"hidden": "ffn_dim"}, word_embed_proj_dim=WIDTH
    ),
    "bloom": architecture(
        "BloomConfig",
        "BloomForCausalLM",
        "h.{z}.mlp.dense_4h_to_h",
        {"hidden": "", "layers": "n_layer", "heads": "n_head", "context": ""},
    ),
    "falcon": architecture(
        "FalconConfig", "FalconForCausalLM", "h.{z}.mlp.dense_4h_to_h", {"hidden": "ffn_hidden_size"}, bias=True
    ),
    "falcon_new": architecture(
        "FalconConfig",
        "FalconForCausalLM",
        "h.{z}.mlp.dense_4h_to_h",
        {"hidden": "ffn_hidden_size"},
        new_decoder_architecture=True,
        num_kv_heads=2,
    ),
    "mpt": architecture(
        "MptConfig",
        "MptForCausalLM",
        "blocks.{z}.ffn.down_proj",
        {"width": "d_model", "hidden": "", "layers": "n_layers", "heads": "n_heads", "context": "max_seq_len"},
    ),
    "llama": architecture("LlamaConfig", "LlamaForCausalLM", _LLAMA, **_GROUPED),
    "mistral": architecture("MistralConfig", "MistralForCausalLM", _LLAMA, **_GROUPED),
    "qwen2": architecture("Qwen2Config", "Qwen2ForCausalLM", _LLAMA, **_GROUPED),
    "qwen3": architecture("Qwen3Config", "Qwen3ForCausalLM", _LLAMA, **_GROUPED, head_dim=8),
    "gemma": architecture("GemmaConfig", "GemmaForCausalLM", _LLAMA, **_GROUPED, head_dim=8),
    "gemma2": architecture("Gemma2Config", "Gemma2ForCausalLM", _LLAMA, **_GROUPED, head_dim=8),
    "glm": architecture("GlmConfig", "GlmForCausalLM", _LLAMA, **_GROUPED, head_dim=8),
    "phi": architecture("PhiConfig", "PhiForCausalLM", "layers.{z}.mlp.fc2"),
    "phi3": architecture("Phi3Config", "Phi3ForCausalLM", _LLAMA, **_GROUPED),
    "starcoder2": architecture("Starcoder2Config", "Starcoder2ForCausalLM", "layers.{z}.mlp.c_proj", **_GROUPED),
    "olmo2": architecture("Olmo2Config", "Olmo2ForCausalLM", _LLAMA, **_GROUPED),
    "cohere": architecture("CohereConfig", "CohereForCausalLM", _LLAMA, **_GROUPED),
    "granite": architecture("GraniteConfig", "GraniteForCausalLM", _LLAMA, **_GROUPED, residual_multiplier=0.5),
    "bert": architecture("BertConfig", "BertForMaskedLM", _BERT_LIKE, causal=False),
    "roberta": architecture("RobertaConfig", "RobertaForMaskedLM", _BERT_LIKE, causal=False, pad_token_id=1),
    "distilbert": architecture(
        "DistilBertConfig",
        "DistilBertForMaskedLM",
        "transformer.layer.{z}.ffn.lin2",
        {"width": "dim", "hidden": "hidden_dim", "layers": "n_layers", "heads": "n_heads"},
        causal=False,
    ),
    "modernbert": architecture(
        "ModernBertConfig",
        "ModernBertForMaskedLM",
        "layers.{z}.mlp.Wo",
        causal=False,
        cls_token_id=2,
        sep_token_id=3,
    ),
    "bart": architecture(
        "BartConfig",
        "BartForConditionalGeneration",
        "encoder.layers.{z}.fc2",
        {"width": "d_model", "hidden": "encoder_ffn_dim", "layers": "encoder_layers", "heads": ""},
        causal=False,
        encoder_attention_heads=N_HEADS,
        decoder_attention_heads=N_HEADS,
        decoder_ffn_dim=48,  # differs from the encoder, so that a confusion of both is detected
        decoder_layers=N_LAYERS,
        decoder_start_token_id=2,
        forced_eos_token_id=3,
    ),
    "t5": architecture(
        "T5Config",
        "T5ForConditionalGeneration",
        "encoder.block.{z}.layer.1.DenseReluDense.wo",
        _T5,
        causal=False,
        d_kv=8,
        decoder_start_token_id=0,
    ),
    "t5_encoder": architecture(
        "T5Config", "T5EncoderModel", "encoder.block.{z}.layer.1.DenseReluDense.wo", _T5, causal=False, d_kv=8
    ),
}
CAUSAL = sorted(name for name, entry in ARCHITECTURES.items() if entry.causal)

REPRESENTATIVE = {
    "gpt2", "gpt_neox", "opt", "bloom", "falcon", "mpt", "llama", "gemma2", "phi3", "cohere", "bert", "distilbert",
    "modernbert", "bart", "t5", "t5_encoder",
}  # fmt: skip
"""Architectures that differ in how blocks, projections, positions or heads are built; the others vary one of these."""


def each(names: Iterable[str]) -> list[Any]:
    """Return names of architectures as parameters of a test: those that are not representative are slow tests."""
    slow = pytest.mark.slow
    return [name if name in REPRESENTATIVE else pytest.param(name, marks=slow) for name in sorted(names)]


EVERY, EVERY_CAUSAL = each(ARCHITECTURES), each(CAUSAL)


def build(name: str, seed: int = 0, **changes: Any) -> PreTrainedModel:
    """Build a new model in evaluation mode; `changes` override sizes (width, hidden, layers) and configuration."""
    return ARCHITECTURES[name].build(seed=seed, **changes)


def word_tokenizer(special: bool = True) -> PreTrainedTokenizerFast:
    """Build a tokenizer with one token per word; without `special` it has no pad, bos or eos (as character models)."""
    known = [*SPECIAL, *WORDS] if special else ["<unk>", *WORDS]
    inner = Tokenizer(models.WordLevel({word: number for number, word in enumerate(known)}, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    roles = {"pad_token": "<pad>", "bos_token": "<s>", "eos_token": "</s>", "mask_token": "<mask>"} if special else {}
    return PreTrainedTokenizerFast(tokenizer_object=inner, unk_token="<unk>", **roles)


def bert_tokenizer() -> PreTrainedTokenizerFast:
    """Build a tokenizer with one token per word, [CLS] before and [SEP] after every text."""
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    inner = Tokenizer(
        models.WordLevel({word: number for number, word in enumerate([*special, *WORDS])}, unk_token="[UNK]")
    )
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    inner.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    names = ("pad_token", "unk_token", "cls_token", "sep_token", "mask_token")
    return PreTrainedTokenizerFast(tokenizer_object=inner, **dict(zip(names, special, strict=True)))


def byte_tokenizer() -> PreTrainedTokenizerFast:
    """Build a byte-level BPE tokenizer like that of GPT-2, with 300 tokens; an emoji has several tokens."""
    inner = Tokenizer(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=300,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=["<|endoftext|>"],
        show_progress=False,
    )
    inner.train_from_iterator([" ".join(WORDS)] * 3, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=inner, bos_token="<|endoftext|>", eos_token="<|endoftext|>", unk_token="<|endoftext|>"
    )


def sentences(n: int, shortest: int = 3, longest: int = 12, seed: int = 0) -> list[str]:
    """Generate `n` different texts of known words with different lengths."""
    rng = random.Random(seed)
    texts: dict[str, None] = {}
    while len(texts) < n:
        texts[" ".join(rng.choices(WORDS, k=rng.randint(shortest, longest)))] = None
    return list(texts)


def read(model: PreTrainedModel, ids: torch.Tensor) -> torch.Tensor:
    """Return the output of a model for tokens: logits, or the last hidden state of an encoder."""
    with torch.no_grad():
        if model.config.is_encoder_decoder:
            return model.get_encoder()(input_ids=ids)[0]
        return model(input_ids=ids)[0]


def snapshot(model: torch.nn.Module) -> dict[str, Any]:
    """Copy the state that a function must not change: parameters, buffers, modes, and numbers of hooks."""
    hooks = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    return {
        "tensors": {
            name: values.detach().clone() for name, values in [*model.named_parameters(), *model.named_buffers()]
        },
        "training": {name: module.training for name, module in model.named_modules()},
        "hooks": {name: [len(getattr(module, kind)) for kind in hooks] for name, module in model.named_modules()},
    }


def assert_untouched(model: torch.nn.Module, before: dict[str, Any]) -> None:
    """Compare a model with its `snapshot`, bit by bit."""
    after = snapshot(model)
    assert after["hooks"] == before["hooks"]
    assert after["training"] == before["training"]
    assert after["tensors"].keys() == before["tensors"].keys()
    for name, values in after["tensors"].items():
        # NaN is not equal to itself, but its bytes are.
        assert values.numpy().tobytes() == before["tensors"][name].numpy().tobytes(), name


_MOE: dict[str, dict[str, Any]] = {
    "Mixtral": {"num_local_experts": 4},
    "Qwen2Moe": {"num_experts": 4, "moe_intermediate_size": 24, "shared_expert_intermediate_size": 40},
    "Qwen3Moe": {"num_experts": 4, "moe_intermediate_size": 24, "head_dim": 8},
    "Olmoe": {"num_experts": 4},
    "GptOss": {"num_local_experts": 4, "head_dim": 8},
    "DeepseekV3": {  # its first layer is dense
        "n_routed_experts": 4, "moe_intermediate_size": 24, "first_k_dense_replace": 1, "n_group": 1, "topk_group": 1,
        "q_lora_rank": 8, "kv_lora_rank": 8, "qk_rope_head_dim": 4, "v_head_dim": 8, "qk_nope_head_dim": 4,
        "num_key_value_heads": 4,
    },
    "Glm4Moe": {
        "n_routed_experts": 4, "moe_intermediate_size": 24, "first_k_dense_replace": 1, "n_group": 1, "topk_group": 1,
        "head_dim": 8,
    },
    "Phimoe": {"num_local_experts": 4},
    "GraniteMoe": {"num_local_experts": 4},
}  # fmt: skip
MIXTURES = sorted(_MOE)


def mixture(kind: str, seed: int = 0, **changes: Any) -> PreTrainedModel:
    """Build a tiny mixture of experts with fused experts; every token is routed to two experts."""
    sizes = {
        "vocab_size": VOCABULARY, "hidden_size": WIDTH, "intermediate_size": HIDDEN, "num_hidden_layers": N_LAYERS,
        "num_attention_heads": N_HEADS, "num_key_value_heads": 2, "max_position_embeddings": CONTEXT,
        "num_experts_per_tok": 2, "pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 3,
    }  # fmt: skip
    config = getattr(transformers, f"{kind}Config")(**{**sizes, **_MOE[kind], **changes})
    return randomize(getattr(transformers, f"{kind}ForCausalLM")(config), seed)


def albert(n_layers: int, n_groups: int = 1) -> PreTrainedModel:
    """Build a tiny ALBERT, whose layers share their weights."""
    config = transformers.AlbertConfig(
        vocab_size=VOCABULARY, embedding_size=16, hidden_size=WIDTH, intermediate_size=HIDDEN,
        num_attention_heads=N_HEADS, max_position_embeddings=CONTEXT, num_hidden_layers=n_layers,
        num_hidden_groups=n_groups,
    )  # fmt: skip
    return randomize(transformers.AlbertForMaskedLM(config))


def remote_code(function: types.FunctionType) -> types.FunctionType:
    """Return a function as if it were defined in the code that came with the weights of a model."""
    names = {**function.__globals__, "__name__": "transformers_modules.tiny.modeling"}
    parts = (function.__name__, function.__defaults__, function.__closure__)
    copied = types.FunctionType(function.__code__, names, *parts)
    copied.__kwdefaults__ = function.__kwdefaults__
    return copied
