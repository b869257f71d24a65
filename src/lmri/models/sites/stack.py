"""Search for the stack of blocks in a model."""

import re
from collections.abc import Callable

from torch import nn
from transformers import PreTrainedModel
from transformers.modeling_layers import GradientCheckpointingLayer

from lmri.exceptions import SiteError
from lmri.models import reader

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
    part = stack_module(model, stack)
    stacks = [module for module in part.modules() if isinstance(module, nn.ModuleList) and len(module)]
    declared = _declared_blocks(part)
    undivided = set(getattr(part, "_no_split_modules", None) or getattr(model, "_no_split_modules", None) or [])
    n_layers = n_declared(model, stack)
    signs: list[Callable[[nn.ModuleList], bool]] = [
        lambda stack: bool(declared) and all(isinstance(block, declared) for block in stack),
        lambda stack: all(type(block).__name__ in undivided for block in stack),
        lambda stack: all(isinstance(block, GradientCheckpointingLayer) for block in stack),
        # XLM has separate lists of attentions, norms and MLPs; the list of MLPs represents its blocks.
        lambda stack: (
            len(stack) == n_layers
            and len({type(block) for block in stack}) == 1
            and not _PART.search(type(stack[0]).__name__)
        ),
    ]
    for sign in signs:
        matches = [stack for stack in stacks if sign(stack)]
        if matches:
            largest = max(matches, key=lambda stack: len(list(stack)))
            # Groups of blocks shared by layers are separate lists, as in ALBERT.
            alike = [
                group
                for group in matches
                if n_layers and len(group) == len(largest) and _kinds(group) == _kinds(largest)
            ]
            return [block for group in (alike if len(largest) < (n_layers or 0) else [largest]) for block in group]
    raise SiteError(
        f"No stack of transformer blocks found in {type(model).__name__} ({model.config.model_type!r}). "
        "Only models with a list of blocks can be recorded."
    )


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
    config = model.config.get_text_config()
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
