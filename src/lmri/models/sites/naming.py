"""Recognition of attention and other parts of a block by the names of modules and their classes."""

import re

from torch import nn

NOT_MLP = re.compile(r"attn|attention|mixer|mamba|router|layer_?norm|temporal|recurrent|conv|lstm", re.IGNORECASE)
ATTENTION = re.compile(r"^(?!.*norm).*(attn|attention)", re.IGNORECASE)  # a norm after attention is not part of it
_WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]|[^A-Za-z]+")
CROSS = re.compile(r"cross|enc_?dec|encoder_attn", re.IGNORECASE)

_HEAD_SIZES = ("head_v_dim", "v_head_dim", "head_dim", "attention_head_size", "head_size", "key_value_proj_dim")
_HEAD_COUNTS = ("num_v_heads", "num_heads", "num_attention_heads", "n_heads", "n_head")


def n_heads(block: nn.Module, path: str, width: int) -> int | None:
    """Return the number of heads of the attention around a projection, which may differ between layers, or None."""
    parts = path.split(".")[:-1]
    above = [block.get_submodule(".".join(parts[:end])) for end in range(len(parts), 0, -1)]
    for root in above:  # innermost first; in BERT a sibling of the parent has the number of heads
        for module in root.modules():
            for size in _HEAD_SIZES:
                if isinstance(value := getattr(module, size, None), int) and value > 0 and width % value == 0:
                    return width // value
            for count in _HEAD_COUNTS:
                if isinstance(value := getattr(module, count, None), int) and value > 0 and width % value == 0:
                    return value
    return None


def is_below(block: nn.Module, path: str, pattern: re.Pattern[str], family: str) -> bool:
    """Check whether a module between a block and a path in it matches a pattern, by its name or class name."""
    parts = path.split(".")[:-1]
    above = [block.get_submodule(".".join(parts[: end + 1])) for end in range(len(parts))]
    return any(pattern.search(part) for part in parts) or any(
        pattern.search(_distinctive_name(type(module).__name__, family)) and not isinstance(module, nn.ModuleList)
        for module in above
    )


def _distinctive_name(name: str, family: str) -> str:
    """Remove the prefix shared with the model from a class name: all classes of ConvBERT begin with Conv."""
    words, shared = _WORD.findall(name), _WORD.findall(family)
    start = next((index for index, (word, other) in enumerate(zip(words, shared, strict=False)) if word != other), None)
    return "".join(words[start:]) if start is not None else name
