"""Logits of a batch in chunks of tokens, so that few are in memory even with a large vocabulary."""

import contextlib
import functools
import inspect
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel
from transformers.utils import ModelOutput

MOST_LOGITS = 2**25
"""Largest number of logits in memory: 128 MiB in float32, and about three times as much during the computation."""


def logits_in_parts(
    model: PreTrainedModel, ids: torch.Tensor, mask: torch.Tensor, most: int | None = None
) -> Iterator[tuple[slice, slice, torch.Tensor]]:
    """Iterate over the logits of a batch in chunks of tokens, with one forward pass of the body.

    Every chunk is computed by the forward method of the model, so that scaled or capped logits are unchanged: only the
    last hidden states passed to its head are sliced.

    Parameters
    ----------
    model : PreTrainedModel
        Model whose head is applied to each token separately, as in all language models.
    ids, mask : Tensor of shape (n_texts, n_tokens)
        Token ids and attention mask, as returned by `lmri.models.right_pad`.
    most : int, optional
        Largest number of logits per chunk, by default `MOST_LOGITS`; a chunk has at least one token of every text.

    Yields
    ------
    rows : slice
        Texts of the chunk: all texts, or a single text if the input of the head cannot be sliced.
    places : slice
        Tokens of the chunk.
    logits : Tensor of shape (n_rows, n_places, n_vocabulary)
        Logits of the model.
    """
    most = MOST_LOGITS if most is None else most
    n_texts, n_tokens = ids.shape
    step = max(1, most // (n_texts * _n_vocabulary(model)))
    run = functools.partial(_run, model, ids, mask)
    everything = slice(0, n_texts)
    if step >= n_tokens:
        yield everything, slice(0, n_tokens), run()
        return
    for part in _bodies(model):
        with _cached_output(part) as cached:
            cached.places = slice(0, step)
            logits = run()
            if cached.output is None or logits.shape[1] != step:
                continue  # the head reads another part of the model
            yield everything, cached.places, logits
            for first in range(step, n_tokens, step):
                cached.places = slice(first, min(first + step, n_tokens))
                yield everything, cached.places, run()
            return
    for row in range(n_texts):  # no output could be cached: all logits of one text at a time
        only = slice(row, row + 1)
        yield only, slice(0, n_tokens), _run(model, ids[only], mask[only])


def _run(model: PreTrainedModel, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    parameters = inspect.signature(model.forward).parameters.values()
    takes_it = any(option.name == "use_cache" or option.kind is option.VAR_KEYWORD for option in parameters)
    # Ids are given by position: caches of passes, as in an evaluation, store only those with named ids.
    logits: torch.Tensor = model(ids, attention_mask=mask, **({"use_cache": False} if takes_it else {})).logits
    return logits


def _n_vocabulary(model: PreTrainedModel) -> int:
    weight = getattr(model.get_output_embeddings(), "weight", None)
    return int(weight.shape[0] if weight is not None else model.config.get_text_config().vocab_size)


def _bodies(model: PreTrainedModel) -> list[nn.Module]:
    """List the parts from which a head may read hidden states: a decoder in the base model, or the base model."""
    # The head of OPT bypasses the base model; other base models contain no decoder.
    candidates = [getattr(model.base_model, "decoder", None), model.get_decoder(), model.base_model]
    bodies: list[nn.Module] = []
    for part in candidates:
        if isinstance(part, nn.Module) and part is not model and all(part is not other for other in bodies):
            bodies.append(part)
    return bodies


class _CachedOutput:
    """Cached output of a part of a model, and the slice of tokens that is passed on."""

    output: Any = None
    places: slice = slice(None)

    def cut(self) -> tuple[Any, ...] | ModelOutput:
        if isinstance(self.output, tuple):
            return (self.output[0][:, self.places], *self.output[1:])
        values = dict(self.output)
        values["last_hidden_state"] = self.output.last_hidden_state[:, self.places]
        return type(self.output)(**values)


@contextlib.contextmanager
def _cached_output(part: nn.Module) -> Iterator[_CachedOutput]:
    """Run a part only once while the body runs; every call returns a slice of its cached output."""
    cached, forward, original = _CachedOutput(), part.forward, vars(part).get("forward")

    def once(*args: Any, **kwargs: Any) -> tuple[Any, ...] | ModelOutput:
        if cached.output is None:
            cached.output = forward(*args, **kwargs)
        return cached.cut()

    part.forward = once
    try:
        yield cached
    finally:
        if original is None:
            del part.forward
        else:  # set by accelerate, for example
            part.forward = original
