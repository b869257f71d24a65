"""Quantized models: 8-bit or 4-bit weights, which can be recorded and lesioned, but not compared with other models."""

import importlib
import importlib.util
import re
from typing import Any

import torch
from torch.utils._python_dispatch import is_traceable_wrapper_subclass
from transformers import BitsAndBytesConfig, PreTrainedModel, TorchAoConfig

from lmri.models.adapters import PACKED

QUANTIZED = ("8bit", "4bit")


def quantization_config(quantize: str, dtype: str) -> TorchAoConfig | BitsAndBytesConfig:
    """Return the quantization settings for loading: weights only, so that texts in a batch stay independent.

    LLM.int8 of bitsandbytes would also quantize activations, and detects outliers over all texts of a batch: the
    activations of a text would depend on the other texts of its batch.

    Parameters
    ----------
    quantize : {"8bit", "4bit"}
        Precision: 8 bits by torchao, or 4 bits of the type NF4 by bitsandbytes.
    dtype : str
        Data type in which 4-bit weights are multiplied.

    Raises
    ------
    ValueError
        If the quantization is unknown, or a required package is not installed.
    """
    if quantize not in QUANTIZED:
        raise ValueError(f"quantize is {quantize!r}; choose from {', '.join(map(repr, QUANTIZED))} and None.")
    packages = {"8bit": ("torchao", "accelerate"), "4bit": ("bitsandbytes", "accelerate")}[quantize]
    if any(importlib.util.find_spec(needed) is None for needed in packages):
        raise ValueError(
            f"quantize is {quantize!r}, which needs {' and '.join(packages)}: pip install {' '.join(packages)}. "
            "Without it, dtype 'bfloat16' also halves the memory."
        )
    if quantize == "8bit":
        return TorchAoConfig(importlib.import_module("torchao.quantization").Int8WeightOnlyConfig())
    return BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=getattr(torch, dtype)
    )


def check_quantized(model: PreTrainedModel, name: str) -> None:
    """Raise `ValueError` if no weight was quantized: torchao ignores the linear layers of GPT-2 (Conv1D)."""
    tensors = [*model.base_model.parameters(), *model.base_model.buffers()]
    if not any(is_traceable_wrapper_subclass(tensor) or tensor.dtype in PACKED for tensor in tensors):
        raise ValueError(
            f"No weight of {name!r} was quantized: this method does not support the type of its layers. "
            "Omit quantize, or use another method."
        )


def keep_layout(model: torch.nn.Module) -> None:
    """Prevent bitsandbytes from repacking 4-bit weights in another order at the first use on some CPUs.

    Every call of ``state_dict`` reverses the repacking, but not exactly: with bitsandbytes 0.50.2 on a CPU with
    AVX512-BF16, activations changed by several standard deviations.

    Raises
    ------
    ValueError
        If the weights have already been repacked.
    """
    for module in model.modules():
        if not hasattr(module, "support_avx512bf16_for_cpu"):
            continue
        if getattr(getattr(getattr(module, "weight", None), "quant_state", None), "packing_format_for_cpu", False):
            raise ValueError(
                "The 4-bit weights of the model were repacked when it ran on this CPU, and bitsandbytes does not "
                "restore them exactly. Load the model with lmri.load_model(..., quantize='4bit'), which prevents this."
            )
        module.__dict__["support_avx512bf16_for_cpu"] = False


def precision(model: PreTrainedModel) -> str:
    """Return the precision of the weights, such as ``"float32"`` or ``"4-bit bitsandbytes, float32"``."""
    dtype = str(next(model.parameters()).dtype).removeprefix("torch.")
    settings = quantization_of(model.config)
    if not settings:
        return dtype
    # The head or the embedding is not quantized and has the dtype of the activations.
    plain = [values.dtype for values in model.parameters() if values.is_floating_point()]
    dtype = str(plain[0]).removeprefix("torch.") if plain else dtype
    method = str(getattr(settings.get("quant_method"), "value", settings.get("quant_method")))
    bits = n_bits(settings)
    return f"{f'{bits}-bit' if bits else 'some-bit'} {method}, {dtype}"


def quantization_of(config: Any) -> dict[str, Any]:
    """Return the quantization settings of a checkpoint or model; empty if it is not quantized."""
    settings = getattr(config, "quantization_config", None) or {}
    return settings if isinstance(settings, dict) else settings.to_dict()


def n_bits(settings: dict[str, Any]) -> int | None:
    """Return the number of bits per weight in quantization settings; None if it is not declared."""
    for bits in (8, 4):
        if settings.get(f"load_in_{bits}bit") or settings.get(f"_load_in_{bits}bit"):
            return bits
    stated = settings.get("bits") or settings.get("w_bit") or settings.get("nbits")
    if stated:
        return int(stated)
    match = re.search(r"(?:int|float|fp)(\d)", str(settings.get("weights") or settings.get("quant_type") or "").lower())
    return int(match[1]) if match else None


def parse_precision(stored: str) -> dict[str, Any]:
    """Return the options of `load_model` for a precision described by `precision`.

    Examples
    --------
    >>> parse_precision("bfloat16")
    {'dtype': 'bfloat16'}
    >>> parse_precision("4-bit bitsandbytes, float32")
    {'dtype': 'float32', 'quantize': '4bit'}
    """
    kind, _, dtype = stored.rpartition(", ")
    quantize = {"8-bit torchao": "8bit", "4-bit bitsandbytes": "4bit"}.get(kind)
    return {"dtype": dtype, **({"quantize": quantize} if quantize else {})}
