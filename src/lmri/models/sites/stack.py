"""Search for the stack of blocks in a model."""

import inspect
import re
from collections.abc import Callable

from torch import nn
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.modeling_layers import GradientCheckpointingLayer

from lmri.exceptions import SiteError
from lmri.models import reader

_TEXT = ("input_ids", "attention_mask", "decoder_input_ids")
_PART = re.compile(r"attention|norm$", re.IGNORECASE)


def blocks(model: PreTrainedModel, stack: str = "encoder") -> list[nn.Module]:
    """Find the stack of blocks, first by declarations of transformers, last by its length.

    Parameters
    ----------
    model : PreTrainedModel
        Any transformer.
    stack : {"encoder", "decoder"}, default="encoder"
        Stack of an encoder–decoder; other models have one stack.

    Raises
    ------
    SiteError
        If there is no stack of blocks.
    """
    part = text_part(model, stack)
    stacks = _stacks(part)
    declared = _declared_blocks(part)
    undivided = set(getattr(part, "_no_split_modules", None) or getattr(model, "_no_split_modules", None) or [])
    n_layers = n_declared(model, stack)
    signs: list[Callable[[nn.Module], bool]] = [
        lambda block: isinstance(block, declared),
        lambda block: type(block).__name__ in undivided,
        lambda block: isinstance(block, GradientCheckpointingLayer),
    ]
    for sign in signs:
        if matches := [stack for stack in stacks if all(sign(block) for block in stack)]:
            return _chosen(matches, n_layers)
    # XLM has separate lists of attentions, norms and MLPs; the list of MLPs represents its blocks.
    alike = [stack for stack in stacks if len(stack) == n_layers and len(_kinds(stack)) == 1]
    if matches := [stack for stack in alike if not _PART.search(type(stack[0]).__name__)]:
        return _chosen(matches, n_layers)
    for sign in signs:  # in wrappers of another library, perhaps only in some layers
        if matches := [stack for stack in stacks if len(stack) == n_layers and _contains(stack, sign)]:
            return _chosen(matches, n_layers)
    raise SiteError(
        f"No stack of transformer blocks found in {type(model).__name__} ({model.config.model_type!r}). "
        "Only models with a list of blocks can be recorded."
    )


def _chosen(matches: list[nn.ModuleList], n_layers: int | None) -> list[nn.Module]:
    """Return the blocks of the longest list, or of all lists if layers share groups of blocks, as in ALBERT."""
    largest = max(matches, key=len)
    groups = [
        group for group in matches if n_layers and len(group) == len(largest) and _kinds(group) == _kinds(largest)
    ]
    return [block for group in (groups if len(largest) < (n_layers or 0) else [largest]) for block in group]


def _contains(stack: nn.ModuleList, sign: Callable[[nn.Module], bool]) -> bool:
    return all(any(sign(part) for part in block.modules()) for block in stack)


def _stacks(part: nn.Module) -> list[nn.ModuleList]:
    """List the lists of modules in a part, but not those in the towers of other senses than text."""
    config = getattr(part, "config", None)
    towers = tuple(
        f"{path}."
        for path, module in part.named_modules()
        if isinstance(module, PreTrainedModel) and path and config and module.config.model_type != config.model_type
    )
    return [
        module
        for path, module in part.named_modules()
        if isinstance(module, nn.ModuleList) and len(module) and not path.startswith(towers)
    ]


def text_part(model: PreTrainedModel, stack: str = "encoder") -> nn.Module:
    """Return the part of a model that contains a stack of text: the language model of a multimodal model.

    It is found by its configuration, which a multimodal model declares next to those of its towers.

    Raises
    ------
    SiteError
        If the model does not read a text alone.
    """
    part = stack_module(model, stack)
    _check_reads_text(model, part if stack == "encoder" else model.base_model)
    if not isinstance(part, PreTrainedModel):
        return part
    text = text_config(part.config)
    inner = [module for module in part.modules() if isinstance(module, PreTrainedModel)]
    same = [module for module in inner if module.config is text]
    return next(iter(same or [module for module in inner if _same(module.config, text)]), part)


def _check_reads_text(model: PreTrainedModel, part: nn.Module) -> None:
    if type(part).forward is nn.Module.forward:
        inner = [path for path, module in part.named_children() if isinstance(module, PreTrainedModel)]
        raise SiteError(
            f"{type(model).__name__} has no forward pass of its own. Use the part that reads text, such as "
            f"{' or '.join(f'model.{path}' for path in inner) or 'its language model'}."
        )
    required = [
        name
        for name, parameter in inspect.signature(part.forward).parameters.items()
        if parameter.default is parameter.empty and parameter.kind is parameter.POSITIONAL_OR_KEYWORD
    ]
    if others := [name for name in required if name not in _TEXT]:
        raise SiteError(f"{type(part).__name__} reads {' and '.join(others)}, not a text alone. It cannot be recorded.")


def text_config(config: PreTrainedConfig) -> PreTrainedConfig:
    """Return the configuration of the text model; in remote code it may have any name, such as ``llm_config``."""
    text = config.get_text_config()
    if getattr(text, "hidden_size", None) is not None:
        return text
    inner = [value for value in vars(config).values() if isinstance(value, PreTrainedConfig) and _has_words(value)]
    return inner[0] if len(inner) == 1 else text


def _has_words(config: PreTrainedConfig) -> bool:
    return all(isinstance(getattr(config, name, None), int) for name in ("hidden_size", "vocab_size"))


def _same(config: PreTrainedConfig, other: PreTrainedConfig) -> bool:
    return type(config) is type(other) and config.to_dict() == other.to_dict()


def _kinds(stack: nn.ModuleList) -> set[type]:
    return {type(block) for block in stack}


def stack_module(model: PreTrainedModel, stack: str) -> nn.Module:
    """Return the part of a model that contains a stack."""
    if stack == "encoder":
        return reader(model)
    if not getattr(model.config, "is_encoder_decoder", False):
        raise SiteError(
            f"{type(model).__name__} is not an encoder–decoder: it has one stack. Use the site without 'decoder_'."
        )
    return model.get_decoder()


def n_declared(model: PreTrainedModel, stack: str = "encoder") -> int | None:
    """Return the number of layers declared in the configuration, or None."""
    config = text_config(model.config)
    names = ("decoder_layers", "num_decoder_layers") if stack == "decoder" else ()
    declared = [getattr(config, name, None) for name in (*names, "num_hidden_layers")]
    return next((int(number) for number in declared if isinstance(number, int)), None)


def _declared_blocks(part: nn.Module) -> tuple[type, ...]:
    classes: list[type] = []
    for module in part.modules():
        if isinstance(module, PreTrainedModel):
            declared = (getattr(module, "_can_record_outputs", None) or {}).get("hidden_states")
            for entry in declared if isinstance(declared, list | tuple) else [declared]:
                target = getattr(entry, "target_class", entry)
                if isinstance(target, type):
                    classes.append(target)
    return tuple(classes)


def n_tokens_known(model: PreTrainedModel) -> int:
    """Return the number of tokens in the embedding of a model.

    Raises
    ------
    SiteError
        If the model has no single table of token embeddings.
    """
    try:
        return int(model.get_input_embeddings().weight.shape[0])
    except (AttributeError, NotImplementedError):
        raise SiteError(
            f"{type(model).__name__} has no single table of token embeddings, so it cannot read a sequence of tokens."
        ) from None
