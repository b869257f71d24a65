"""The stack of blocks: where it is in a model."""

import re
from collections.abc import Callable

from torch import nn
from transformers import PreTrainedModel
from transformers.modeling_layers import GradientCheckpointingLayer

from lmri.exceptions import SiteError
from lmri.models import reader

_PART = re.compile(r"attention|norm$", re.IGNORECASE)


def blocks(model: PreTrainedModel, stack: str = "encoder") -> list[nn.Module]:
    """Find the stack of blocks: first by what transformers declares of it, last by its length.

    Parameters
    ----------
    model : PreTrainedModel
        Any transformer.
    stack : {"encoder", "decoder"}, default="encoder"
        Which of two, in an encoder–decoder; other models have one.

    Raises
    ------
    SiteError
        If there is none.
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
        # XLM keeps attentions, norms and MLPs in lists of their own; its MLPs stand for its blocks.
        lambda stack: (
            len(stack) == n_layers
            and len({type(block) for block in stack}) == 1
            and not _PART.search(type(stack[0]).__name__)
        ),
    ]
    for sign in signs:
        found = [stack for stack in stacks if sign(stack)]
        if found:
            largest = max(found, key=lambda stack: len(list(stack)))
            # Groups of blocks that layers share stand in lists of their own, as in ALBERT.
            alike = [one for one in found if n_layers and len(one) == len(largest) and _kinds(one) == _kinds(largest)]
            return [block for one in (alike if len(largest) < (n_layers or 0) else [largest]) for block in one]
    raise SiteError(
        f"No stack of transformer blocks found in {type(model).__name__} ({model.config.model_type!r}). "
        "Only models made of a list of blocks can be recorded."
    )


def _kinds(stack: nn.ModuleList) -> set[type]:
    return {type(block) for block in stack}


def stack_module(model: PreTrainedModel, stack: str) -> nn.Module:
    """Give the part of a model that holds a stack."""
    if stack == "encoder":
        return reader(model)
    if not getattr(model.config, "is_encoder_decoder", False):
        raise SiteError(
            f"{type(model).__name__} is no encoder–decoder; its blocks are one stack. Name the site without 'decoder_'."
        )
    return model.get_decoder()


def n_declared(model: PreTrainedModel, stack: str = "encoder") -> int | None:
    """Layers that the configuration speaks of, if it does."""
    config = model.config.get_text_config()
    names = ("decoder_layers", "num_decoder_layers") if stack == "decoder" else ()
    found = [getattr(config, name, None) for name in (*names, "num_hidden_layers")]
    return next((int(number) for number in found if isinstance(number, int)), None)


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
