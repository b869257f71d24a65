"""Surprisal and entropy of every recorded token, computed from the recorded model.

The model reads the tokens of the recording again, in the same right-padded batches. Its predictions are reduced to two
numbers per token, in chunks of tokens, so that few logits are in memory even with a large vocabulary.
"""

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import nn
from transformers import PreTrainedModel
from transformers.utils import ModelOutput

from lmri.decomposition.confounds import Predictions
from lmri.exceptions import NonFiniteError, StudyError
from lmri.models import (
    alterations,
    describe_model,
    evaluation_mode,
    fingerprint,
    input_device,
    look_closely,
    plan_batches,
    right_pad,
    transformer,
)
from lmri.storage.recording import Recording

Progress = Callable[[int, int], None]
"""Function called with the amount done and the total."""

MOST_LOGITS = 2**25
"""Largest number of logits in memory: 128 MiB in float32, and about three times as much during the computation."""

_PROBE = 32  # number of tokens for the test of causality
_ROUNDING = {torch.float32: 1e-3, torch.float64: 1e-6}  # relative to the largest logit; half precision is coarser
_ROUNDING_HALF = 5e-2


def predictions(
    model: PreTrainedModel, recording: Recording, batch_size: int | None = None, progress: Progress | None = None
) -> Predictions:
    """Compute surprisal and entropy of every token of a recording with the recorded model.

    The surprisal of a token is ``-log p(token | all preceding tokens of its text)`` in nats; the entropy belongs to the
    predicted distribution of this token. The preceding tokens include special tokens that the model read. Later tokens
    have no influence, so only causal models have these predictions. For other models the result is empty, with the
    reason; no pseudo-likelihood is substituted.

    Parameters
    ----------
    model : PreTrainedModel
        Model of the recording, with its language-model head.
    recording : Recording
        Recording at any site; only its tables of tokens are read.
    batch_size : int, optional
        Largest number of texts per batch; by default as in the recording.
    progress : callable, optional
        Function called with the number of tokens done and the total number of tokens.

    Returns
    -------
    Predictions
        One table per run with one row per token: ``token_id, surprisal, entropy``; NaN for the first token of a text.

    Raises
    ------
    StudyError
        If the weights differ from the recorded weights.
    ValueError
        If the model is under an intervention.
    NonFiniteError
        If surprisal or entropy is NaN or infinite.
    """
    parameters = {"batch_size": 8, **recording.info["parameters"]}
    if batch_size is not None:
        parameters["batch_size"] = batch_size
    if parameters["batch_size"] < 1:
        raise ValueError(f"batch_size is {batch_size}; it must be at least 1.")
    model = transformer(model)
    _check_weights(model, recording)
    weights = fingerprint(model, head=True)
    if reason := reason_against(model):
        return Predictions([], weights, reason)
    rows = _rows(recording)
    texts = [ids for run in rows for ids in run]
    with evaluation_mode(model):
        if not _is_causal(model, max(texts, key=len)):
            return Predictions([], weights, _BOTH_WAYS.format(type(model).__name__))
        results = _read(model, texts, parameters, progress)
    tables, first = [], 0
    for run in rows:
        pairs = results[first : first + len(run)]
        first += len(run)
        surprisal, entropy = (np.concatenate([pair[index] for pair in pairs]) for index in (0, 1))
        tables.append(pd.DataFrame({"token_id": np.concatenate(run), "surprisal": surprisal, "entropy": entropy}))
    return Predictions(tables, weights)


_BOTH_WAYS = (
    "{} predicts a token from those on both sides of it, so there is no probability given those before it. A "
    "pseudo-likelihood would be another quantity, and is not computed."
)


def reason_against(model: PreTrainedModel) -> str:
    """Return the reason why a model cannot predict a token from the preceding tokens; empty if it can."""
    name = type(model).__name__
    if getattr(model.config, "is_encoder_decoder", False):
        return f"{name} is an encoder–decoder, whose encoder reads a text as a whole and predicts none of its tokens."
    if model.get_output_embeddings() is None:
        return f"{name} has no language-model head, so it predicts no tokens."
    return "" if model.can_generate() else _BOTH_WAYS.format(name)


def _check_weights(model: PreTrainedModel, recording: Recording) -> None:
    if alterations(model):
        raise ValueError(
            f"The model is under an intervention ({'; '.join(alterations(model))}); its predictions would be "
            "mistaken for predictions of the intact model. Compute confounds outside the with block."
        )
    look_closely(model)
    known, current = recording.space.model, describe_model(model)
    if known is not None and (known.fingerprint, known.dtype) != (current.fingerprint, current.dtype):
        raise StudyError(
            f"{recording.corpus!r} was recorded from {known.id!r} (weights {known.fingerprint}, {known.dtype}); this "
            f"is {current.id!r} ({current.fingerprint}, {current.dtype}). Load the model that was recorded."
        )


def _rows(recording: Recording) -> list[list[np.ndarray]]:
    """Return the token ids of every text, per run, as the model read them; the tables contain all of them."""
    runs = []
    for run, table in zip(recording.runs, recording.tokens, strict=True):
        texts = []
        for name, text in table.groupby("text_id", sort=False):
            if not np.array_equal(text["position"], np.arange(len(text))):
                raise StudyError(f"{run.tokens} does not contain every token of {name!r} in order. Record it again.")
            texts.append(text["token_id"].to_numpy())
        runs.append(texts)
    return runs


def _read(
    model: PreTrainedModel, texts: list[np.ndarray], parameters: Mapping[str, Any], progress: Progress | None
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return surprisal and entropy of every text, ``(n_tokens,)`` each."""
    results: dict[int, tuple[np.ndarray, np.ndarray]] = {}
    n_all, n_done = sum(map(len, texts)), 0
    for batch in plan_batches(model, [len(ids) for ids in texts], parameters):
        ids, mask = right_pad([texts[text].tolist() for text in batch], input_device(model))
        both = np.full((2, *ids.shape), np.nan)
        for rows, columns, logits in logits_in_parts(model, ids, mask):
            # The logits at a token predict the next token.
            target = ids[rows, columns.start + 1 : columns.stop + 1].to(logits.device)
            both[:, rows, columns.start + 1 : columns.stop + 1] = _numbers(logits[:, : target.shape[1]], target)
        for row, text in enumerate(batch):
            values = both[:, row, : len(texts[text])]
            if not np.isfinite(values[:, 1:]).all():
                position = 1 + int(np.argwhere(~np.isfinite(values[:, 1:]))[0, 1])
                raise NonFiniteError(
                    f"The prediction of token {position} of text {text} is not finite (surprisal "
                    f"{values[0, position]}, entropy {values[1, position]}). "
                    "Load the model in float32, or exclude this text."
                )
            results[text] = values[0], values[1]
            n_done += len(texts[text])
        if progress is not None:
            progress(n_done, n_all)
    return [results[text] for text in range(len(texts))]


def _numbers(logits: torch.Tensor, target: torch.Tensor) -> np.ndarray:
    """Compute surprisal and entropy, ``(2, n_texts, n_tokens)``, from logits ``(n_texts, n_tokens, n_vocabulary)``."""
    logits = logits.float()
    total = logits.logsumexp(-1)
    surprisal = total - logits.gather(-1, target[..., None])[..., 0]
    # entr is 0 for tokens of probability 0, where p log p would be NaN.
    entropy = torch.special.entr((logits - total[..., None]).exp_()).sum(-1, dtype=torch.float64)
    return torch.stack([surprisal.double(), entropy]).cpu().numpy()


# -- logits in chunks of tokens ---------------------------------------------------------------------------------------


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
    inputs = {"input_ids": ids, "attention_mask": mask, "use_cache": False}
    everything = slice(0, n_texts)
    if step >= n_tokens:
        yield everything, slice(0, n_tokens), model(**inputs).logits
        return
    for part in _bodies(model):
        with _cached_output(part) as cached:
            cached.places = slice(0, step)
            logits = model(**inputs).logits
            if cached.output is None or logits.shape[1] != step:
                continue  # the head reads another part of the model
            yield everything, cached.places, logits
            for first in range(step, n_tokens, step):
                cached.places = slice(first, min(first + step, n_tokens))
                yield everything, cached.places, model(**inputs).logits
            return
    for row in range(n_texts):  # no output could be cached: all logits of one text at a time
        only = slice(row, row + 1)
        yield only, slice(0, n_tokens), model(input_ids=ids[only], attention_mask=mask[only], use_cache=False).logits


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


def _is_causal(model: PreTrainedModel, ids: np.ndarray) -> bool:
    """Test whether the predictions before the last token are independent of that token."""
    row = [int(token) for token in ids[:_PROBE]]
    if len(row) < 2:
        return True
    other = [*row[:-1], (row[-1] + 1) % int(model.get_input_embeddings().weight.shape[0])]
    # In separate batches, because texts of one batch may share the capacity of a layer.
    first, second = (
        next(logits_in_parts(model, *right_pad([tokens], input_device(model)), most=2**62))[2][:, :-1].float()
        for tokens in (row, other)
    )
    finite = first.isfinite() & second.isfinite()
    largest = float(first[finite].abs().max()) if finite.any() else 0.0
    allowed = _ROUNDING.get(next(model.parameters()).dtype, _ROUNDING_HALF) * max(largest, 1e-6)
    return not finite.any() or float((first - second)[finite].abs().max()) <= allowed
