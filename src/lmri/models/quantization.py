"""Quantized models: weights in eight or four bits, which can be recorded and lesioned, but not compared with others."""

import importlib
import importlib.util
import re
from typing import Any

import torch
from torch.utils._python_dispatch import is_traceable_wrapper_subclass
from transformers import BitsAndBytesConfig, PreTrainedModel, TorchAoConfig

QUANTIZED = ("8bit", "4bit")

_STORED = (torch.int8, torch.uint8, torch.int32)  # what quantized weights are packed into


def quantization_config(quantize: str, dtype: str) -> Any:
    """Give the settings by which a model is quantized when it is loaded: weights only, so that texts stay apart.

    LLM.int8 of bitsandbytes would quantize activations too, and finds outliers by looking at all texts of a batch: what
    neurons do at a text would depend on its neighbours.

    Parameters
    ----------
    quantize : {"8bit", "4bit"}
        Eight bits by torchao, or four bits of the type NF4 by bitsandbytes.
    dtype : str
        In which four-bit weights are multiplied.

    Raises
    ------
    ValueError
        If there is no such quantization, or what it needs is not installed.
    """
    if quantize not in QUANTIZED:
        raise ValueError(f"quantize is {quantize!r}; accepted are {', '.join(map(repr, QUANTIZED))} and None.")
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
    """Raise `ValueError` if nothing of a model was quantized: torchao leaves GPT-2's kind of linear layer alone."""
    tensors = [*model.base_model.parameters(), *model.base_model.buffers()]
    if not any(is_traceable_wrapper_subclass(one) or one.dtype in _STORED for one in tensors):
        raise ValueError(
            f"No weight of {name!r} was quantized: its layers are of a kind that this quantization does not know. "
            "Leave it out, or try another one."
        )


def keep_layout(model: torch.nn.Module) -> None:
    """Keep bitsandbytes from storing four-bit weights in another order when they first run on some CPUs.

    It turns them back whenever somebody asks for a ``state_dict``, to other values than they were: measured with
    bitsandbytes 0.50.2 on a CPU with AVX512-BF16, activations changed by several standard deviations.

    Raises
    ------
    ValueError
        If it has happened already.
    """
    for module in model.modules():
        if not hasattr(module, "support_avx512bf16_for_cpu"):
            continue
        if getattr(getattr(getattr(module, "weight", None), "quant_state", None), "packing_format_for_cpu", False):
            raise ValueError(
                "The four-bit weights of the model were put into another order when it ran on this CPU, and "
                "bitsandbytes does not restore them exactly. Load it with lmri.load_model(..., quantize='4bit'), which "
                "prevents that."
            )
        module.__dict__["support_avx512bf16_for_cpu"] = False


def precision(model: PreTrainedModel) -> str:
    """Say in what the weights are stored, such as ``"float32"`` or ``"4-bit bitsandbytes, float32"``."""
    dtype = str(next(model.parameters()).dtype).removeprefix("torch.")
    settings = quantization_of(model.config)
    if not settings:
        return dtype
    # The head or the embedding is left as it was, and has the dtype of the activations.
    plain = [values.dtype for values in model.parameters() if values.is_floating_point()]
    dtype = str(plain[0]).removeprefix("torch.") if plain else dtype
    method = str(getattr(settings.get("quant_method"), "value", settings.get("quant_method")))
    bits = n_bits(settings)
    return f"{f'{bits}-bit' if bits else 'some-bit'} {method}, {dtype}"


def quantization_of(config: Any) -> dict[str, Any]:
    """Give the settings by which a checkpoint or a model is quantized; empty if it is not."""
    settings = getattr(config, "quantization_config", None) or {}
    return settings if isinstance(settings, dict) else settings.to_dict()


def n_bits(settings: dict[str, Any]) -> int | None:
    """Tell how many bits the settings of a quantization leave to a weight; None if they do not say it."""
    for bits in (8, 4):
        if settings.get(f"load_in_{bits}bit") or settings.get(f"_load_in_{bits}bit"):
            return bits
    stated = settings.get("bits") or settings.get("w_bit") or settings.get("nbits")
    if stated:
        return int(stated)
    found = re.search(r"(?:int|float|fp)(\d)", str(settings.get("weights") or settings.get("quant_type") or "").lower())
    return int(found[1]) if found else None


def parse_precision(stored: str) -> dict[str, Any]:
    """Give the options of `load_model` that load a model as `precision` describes it.

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
