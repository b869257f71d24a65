"""Tiny models of every head class of transformers: sizes in any configuration are reduced by the names of its fields.

Nothing is known of single architectures but the few settings in `_OWN`, each of which has its reason in what the class
asks of its sizes.
"""

import dataclasses
import re
from typing import Any

import torch
import transformers
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.models.auto import modeling_auto

from tiny_models import CONTEXT, HIDDEN, N_HEADS, N_LAYERS, VOCABULARY, WIDTH, randomize

HEADS: dict[str, dict[str, str]] = {
    "CausalLM": modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    "MaskedLM": modeling_auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES,
    "Seq2SeqLM": modeling_auto.MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES,
    "SequenceClassification": modeling_auto.MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES,
}
MOST_PARAMETERS = 3_000_000
"""A model with more was not shrunk."""

_OTHER_SENSES = re.compile(
    r"vision|image|audio|speech|acoustic|semantic|vq_|projector|timestamp|backbone|depth_decoder"
)

_SIZES: tuple[tuple[str, int], ...] = (
    # The first that fits the whole name of a field counts.
    (r"(\w+_)?vocab(_size)?|encoder_hash_byte_group_vocab|num_hash_buckets|vocab_size_per_layer_input", VOCABULARY),
    (r"max_2d_position_embeddings|max_\w*position\w*|max_seq\w*|n_positions|n_ctx|context_length", CONTEXT),
    (r"max_xpath\w*", CONTEXT),
    (r"sliding_window(_size)?|attention_chunk_size|attention_window\w*|local_attention", CONTEXT // 2),
    (r"(moe|expert|expert_ffn|moe_ffn)_(intermediate|hidden|ffn_hidden)_size", 24),
    (r"\w*shared\w*intermediate_size", 40),
    (r"hidden_size_per_layer_input|laurel_rank|router_hidden_size|d_rel|lang_embed_dim|xpath_unit_hidden_size", 8),
    (r"embedding_size|input_embedding_size|output_embedding_size|entity_emb_size|embedding_rank", 16),
    (r"(pronunciation|shape)_embed_dim|intra_bottleneck_size|prompt_mid_dim", 16),
    (r"\w*intermediate_size(_mlp)?|(\w+_)?ffn_dim|ffn_hidden_size|d_ff|dff|dim_ff|d_inner|n_inner", HIDDEN),
    (r"feed_forward_size|hidden_dim", HIDDEN),
    (r"d_latents|hidden_size|d_model|n_embd|emb_dim|dim|\w+_hidden_size|lru_width", WIDTH),
    (r"word_embed_proj_dim|prediction_head_size", WIDTH),
    (r"(num_)?(encoder_|decoder_)(hidden_)?layers|num_(hidden_)?layers|n_layers?", N_LAYERS),
    (r"\w*(num_key_value_heads|num_kv_heads)", N_HEADS // 2),
    (r"\w*attention_heads|n_heads?|num_heads|mamba_n_heads|mamba_num_heads|index_n_heads", N_HEADS),
    (r"linear_num_key_heads|linear_num_value_heads|linear_num_heads", N_HEADS),
    (r"qk_rope_head_dim|qk_nope_head_dim|rotary_dim", 4),
    (r"\w*head_dim|dim_head|d_kv|d_head|kv_channels|attention_head_size|\w+_lora_rank|adapter_rank|gated_norm_rank", 8),
    (r"n_routed_experts|num_(local_)?experts|moe_num_experts|zero_expert_num", 4),
    (r"num_experts_per_tok|moe_topk|moe_k|n_groups|mamba_n_groups|index_topk\w*", 2),
    (r"num_latents|num_landmarks|num_self_attends_per_block", 4),
    (r"n_group|topk_group|first_k_dense_replace|mamba_ngroups", 1),
    (r"state_size|mamba_d_state|ssm_state_size", 8),
    (r"num_kv_shared_layers|num_mtp_layers|num_nextn_predict_layers", 0),
    (r"(mamba_)?chunk_size|block_size|index_block_size", 8),
)  # fmt: skip
_SPECIAL = {"pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 3}

_HYBRID = {"layers_block_type": ["linear_attention", "hybrid", "linear_attention", "hybrid"], "num_hidden_layers": 4}
_HEAD = {"head_dim": N_HEADS * 2}
_INDEXED = {"head_dim": 4, "num_key_value_heads": N_HEADS}

_LATENT = {"num_key_value_heads": N_HEADS}  # latent attention has as many keys as queries
_OWN: dict[str, dict[str, Any]] = {
    "cohere_compass_text": {
        "rope_parameters": {
            kind: {"rope_type": "default", "rope_theta": 1e4} for kind in ("full_attention", "sliding_attention")
        }
    },
    "dbrx": {"attn_config": {"kv_n_heads": 2, "rope_theta": 1e4}},  # the default has none
    "axk1": _LATENT,
    "axk2": _INDEXED,
    "deepseek_v32": _INDEXED,
    "glm_moe_dsa": _INDEXED,
    "deepseek_v3": _LATENT,
    "glm4_moe_lite": _LATENT,
    "minicpm3": _LATENT,
    "mistral4": _LATENT,
    "youtu": _LATENT,
    "deepseek_v2": {"num_experts_per_tok": 2},
    "dots1": {"n_shared_experts": 1, "n_routed_experts": 4, "num_experts_per_tok": 2},
    "dots3_note_text": {"num_key_value_heads": N_HEADS},
    "esm": {"vocab_size": VOCABULARY},
    "gpt_neo": {"attention_types": [[["global"], N_LAYERS]]},
    "hunyuan_v1_dense": _HEAD,
    "hunyuan_v1_moe": _HEAD,
    "layoutlmv3": {"coordinate_size": 6, "shape_size": 4, "visual_embed": False},  # 4 * 6 + 2 * 4
    "lilt": {"hidden_size": 48},  # six coordinates of one width
    "lfm2_moe": {"layer_types": ["conv", "full_attention", "conv"]},
    "mamba2": {"head_dim": 2 * WIDTH // N_HEADS},
    "ministral": _HEAD,
    "nemotron": _HEAD | {"num_key_value_heads": 2},
    "neomme": {"head_dim": 16},  # a quarter of it is rotated, in two halves
    "nystromformer": {"num_landmarks": 64, "segment_means_seq_len": 64},
    "reformer": {"axial_pos_embds_dim": (16, 16), "axial_pos_shape": (8, 8)},
    "squeezebert": {"embedding_size": WIDTH},
    "xmod": {"default_language": "en_XX"},
    "zamba": _HYBRID | {"num_key_value_heads": N_HEADS},
    "zamba2": _HYBRID,
    "zaya": {"num_experts_per_tok": 1},
    "ReformerModelWithLMHead": {"is_decoder": True},
}
"""By model type, or by class where a class asks for more."""


def head_classes() -> list[tuple[str, str, str]]:
    """List head, model type and class name of all declared classes, each class once per head."""
    listed = {(head, name): kind for head, table in HEADS.items() for kind, name in reversed(table.items())}
    return sorted((head, kind, name) for (head, name), kind in listed.items())


def shrunk(config_class: type[PreTrainedConfig], **fixed: Any) -> PreTrainedConfig:
    """Build the smallest configuration of a class that its fields allow."""
    options: dict[str, Any] = {}
    parts = _parts(config_class)
    own = _OWN.get(config_class.model_type, {}) | fixed
    for field in dataclasses.fields(config_class):
        if field.name not in own and field.name not in parts:
            value = _small(field.name, field.default)
            if value is not None:
                options[field.name] = value
    for name, part in parts.items():
        if name in own or getattr(part, "optional", False):
            continue
        inner = getattr(part, "config_class", part)
        given = getattr(part, "init_kwargs", {})
        if not issubclass(inner, PreTrainedConfig):
            inner = part.get_config_class(part.model_type)
        # What a whole gives to its parts are sizes, too, but for switches.
        options[name] = shrunk(inner, **{key: value for key, value in given.items() if isinstance(value, bool)})
    return config_class(**{**options, **own})


def _parts(config_class: type[PreTrainedConfig]) -> dict[str, Any]:
    """Return the configurations within a configuration: classes, or descriptions of them."""
    for attribute in ("sub_configs_defaults", "sub_configs"):
        if found := getattr(config_class, attribute, None):
            return dict(found)
    return {}


def _small(name: str, default: Any) -> int | None:
    if name in _SPECIAL:
        return _SPECIAL[name]
    if isinstance(default, bool) or not isinstance(default, int):
        return None
    if re.search(r"token_i(d|ndex)$|_index$|_id$", name):
        return default if default < VOCABULARY - 10 else 4
    for pattern, size in _SIZES:
        if re.fullmatch(pattern, name):
            return min(default, size) if size in (0, 1) else size
    return None


def build_small(name: str, seed: int = 0, **fixed: Any) -> PreTrainedModel:
    """Build a tiny model of a head class with random weights, in evaluation mode; `fixed` overrides its configuration.

    Raises
    ------
    Exception
        Any error of the class; `ValueError` if it needs more than text or remains too large.
    """
    head = getattr(transformers, name)
    config_class = head.config_class
    senses = [part for part in _parts(config_class) if _OTHER_SENSES.search(part)]
    if senses:
        raise ValueError(f"reads more than text ({', '.join(senses)})")
    config = shrunk(config_class, **_OWN.get(name, {}), **fixed)
    with torch.device("meta"):  # before memory is asked for
        n_parameters = sum(values.numel() for values in head(config).parameters())
    if n_parameters > MOST_PARAMETERS:
        raise ValueError(f"stays at {n_parameters:,} parameters")
    return randomize(head(config), seed)
