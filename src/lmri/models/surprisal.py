"""Surprisal and entropy of every token that was recorded, from the model that was recorded.

The model reads the tokens of the recording once more, in the same right-padded batches, and its predictions are turned
into two numbers a token, some tokens after the other: memory holds few logits, however large the vocabulary.
"""

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import nn
from transformers import PreTrainedModel

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
)
from lmri.storage.recording import Recording

Progress = Callable[[int, int], None]
"""Called with how much is done, and how much there is."""

MOST_LOGITS = 2**25
"""Logits in memory at once: 128 MiB in float32, and about three times that while they become numbers."""

_PROBE = 32  # tokens by which causality is tried
_ROUNDING = {torch.float32: 1e-3, torch.float64: 1e-6}  # of the largest logit; half precision is coarser
_ROUNDING_HALF = 5e-2


def predictions(
    model: PreTrainedModel, recording: Recording, batch_size: int | None = None, progress: Progress | None = None
) -> Predictions:
    """Let the recorded model say how surprising every token was.

    Surprisal of a token is ``-log p(token | all tokens before it in its text)`` in nats, entropy is that of the
    distribution it was drawn from. Special tokens that the model read are among those before. What follows has no
    part in it, so only models that read from left to right have predictions of this kind: for others they stay empty,
    with the reason, and no pseudo-likelihood takes their place.

    Parameters
    ----------
    model : PreTrainedModel
        That of the recording, with its language-model head.
    recording : Recording
        At any site; its tables of tokens are read.
    batch_size : int, optional
        Texts read at once; as in the recording by default.
    progress : callable, optional
        Called with tokens done and tokens in all.

    Returns
    -------
    Predictions
        A table a run, a row a token: ``token_id, surprisal, entropy``; NaN for the first token of a text.

    Raises
    ------
    StudyError
        If these are other weights than those that were recorded.
    ValueError
        If the model is under an intervention.
    NonFiniteError
        If a logit is NaN or infinite where it counts.
    """
    parameters = {"batch_size": 8, **recording.info["parameters"]}
    if batch_size is not None:
        parameters["batch_size"] = batch_size
    if parameters["batch_size"] < 1:
        raise ValueError(f"batch_size is {batch_size}; it must be at least 1.")
    _check_weights(model, recording)
    weights = fingerprint(model, head=True)
    if reason := reason_against(model):
        return Predictions([], weights, reason)
    rows = _rows(recording)
    texts = [ids for run in rows for ids in run]
    with evaluation_mode(model):
        if not _is_causal(model, max(texts, key=len)):
            return Predictions([], weights, _BOTH_WAYS.format(type(model).__name__))
        found = _read(model, texts, parameters, progress)
    made, first = [], 0
    for run in rows:
        own = found[first : first + len(run)]
        first += len(run)
        surprisal, entropy = (np.concatenate([pair[side] for pair in own]) for side in (0, 1))
        made.append(pd.DataFrame({"token_id": np.concatenate(run), "surprisal": surprisal, "entropy": entropy}))
    return Predictions(made, weights)


_BOTH_WAYS = (
    "{} predicts a token from those on both sides of it, so there is no probability given those before it. A "
    "pseudo-likelihood would be another quantity, and is not computed."
)


def reason_against(model: PreTrainedModel) -> str:
    """Say why a model predicts no token from those before it; empty if nothing speaks against it."""
    name = type(model).__name__
    if getattr(model.config, "is_encoder_decoder", False):
        return f"{name} is an encoder–decoder, whose encoder reads a text as a whole and predicts none of its tokens."
    if model.get_output_embeddings() is None:
        return f"{name} has no language-model head, so it predicts no tokens."
    return "" if model.can_generate() else _BOTH_WAYS.format(name)


def _check_weights(model: PreTrainedModel, recording: Recording) -> None:
    if alterations(model):
        raise ValueError(
            f"The model is under an intervention ({'; '.join(alterations(model))}); its predictions would pass for "
            "those of the intact model. Compute confounds outside of the with block."
        )
    look_closely(model)
    known, given = recording.space.model, describe_model(model)
    if known is not None and (known.fingerprint, known.dtype) != (given.fingerprint, given.dtype):
        raise StudyError(
            f"{recording.corpus!r} was recorded from {known.id!r} (weights {known.fingerprint}, {known.dtype}); this "
            f"is {given.id!r} ({given.fingerprint}, {given.dtype}). Load the model that was recorded."
        )


def _rows(recording: Recording) -> list[list[np.ndarray]]:
    """Give the token ids of every text, run by run, as the model read them: the tables hold every one of them."""
    found = []
    for run, table in zip(recording.runs, recording.tokens, strict=True):
        own = []
        for name, text in table.groupby("text_id", sort=False):
            if not np.array_equal(text["position"], np.arange(len(text))):
                raise StudyError(f"{run.tokens} does not hold every token of {name!r}, in order. Record it again.")
            own.append(text["token_id"].to_numpy())
        found.append(own)
    return found


def _read(
    model: PreTrainedModel, texts: list[np.ndarray], parameters: Mapping[str, Any], progress: Progress | None
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Give surprisal and entropy of every text, ``(n_tokens,)`` each."""
    found: dict[int, tuple[np.ndarray, np.ndarray]] = {}
    n_all, n_done = sum(map(len, texts)), 0
    for batch in plan_batches(model, [len(ids) for ids in texts], parameters):
        ids, mask = right_pad([texts[text].tolist() for text in batch], input_device(model))
        both = np.full((2, *ids.shape), np.nan)
        for rows, places, logits in logits_in_parts(model, ids, mask):
            # The logits at a token are of the next one.
            target = ids[rows, places.start + 1 : places.stop + 1].to(logits.device)
            both[:, rows, places.start + 1 : places.stop + 1] = _numbers(logits[:, : target.shape[1]], target)
        for row, text in enumerate(batch):
            own = both[:, row, : len(texts[text])]
            if not np.isfinite(own[:, 1:]).all():
                place = 1 + int(np.argwhere(~np.isfinite(own[:, 1:]))[0, 1])
                raise NonFiniteError(
                    f"The prediction of token {place} of text {text} is not finite (surprisal {own[0, place]}, entropy "
                    f"{own[1, place]}). Load the model in float32, or leave that text out."
                )
            found[text] = own[0], own[1]
            n_done += len(texts[text])
        if progress is not None:
            progress(n_done, n_all)
    return [found[text] for text in range(len(texts))]


def _numbers(logits: torch.Tensor, target: torch.Tensor) -> np.ndarray:
    """Turn logits ``(n_texts, n_tokens, n_vocabulary)`` into surprisal and entropy, ``(2, n_texts, n_tokens)``."""
    logits = logits.float()
    total = logits.logsumexp(-1)
    surprisal = total - logits.gather(-1, target[..., None])[..., 0]
    # Tokens of probability 0 add nothing, where p log p would be NaN.
    entropy = torch.special.entr((logits - total[..., None]).exp_()).sum(-1, dtype=torch.float64)
    return torch.stack([surprisal.double(), entropy]).cpu().numpy()


# -- logits, some tokens at a time ------------------------------------------------------------------------------------


def logits_in_parts(
    model: PreTrainedModel, ids: torch.Tensor, mask: torch.Tensor, most: int | None = None
) -> Iterator[tuple[slice, slice, torch.Tensor]]:
    """Give the logits of a batch, some tokens of all texts after the other, of one reading.

    The model's own forward makes every part, so that scaled or capped logits come out as they are: only the last hidden
    states that its head gets to see are cut.

    Parameters
    ----------
    model : PreTrainedModel
        With a head that looks at one token at a time, as all language models have.
    ids, mask : Tensor of shape (n_texts, n_tokens)
        As `lmri.models.right_pad` gives them.
    most : int, optional
        Logits at once, by default `MOST_LOGITS`; those of one token of every text come together anyway.

    Yields
    ------
    rows : slice
        Texts: all of them, unless the model's head cannot be given a part of what it reads.
    places : slice
        Tokens, from the first to the last.
    logits : Tensor of shape (n_rows, n_places, n_vocabulary)
        As the model gives them.
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
        with _kept(part) as kept:
            kept.places = slice(0, step)
            logits = model(**inputs).logits
            if kept.output is None or logits.shape[1] != step:
                continue  # the head reads from another part
            yield everything, kept.places, logits
            for first in range(step, n_tokens, step):
                kept.places = slice(first, min(first + step, n_tokens))
                yield everything, kept.places, model(**inputs).logits
            return
    for row in range(n_texts):  # no part could be kept: all logits of one text at a time
        own = slice(row, row + 1)
        yield own, slice(0, n_tokens), model(input_ids=ids[own], attention_mask=mask[own], use_cache=False).logits


def _n_vocabulary(model: PreTrainedModel) -> int:
    weight = getattr(model.get_output_embeddings(), "weight", None)
    return int(weight.shape[0] if weight is not None else model.config.get_text_config().vocab_size)


def _bodies(model: PreTrainedModel) -> list[nn.Module]:
    """List the parts from which a head may read its hidden states: a decoder within the base model, or that itself."""
    # OPT's head passes the base model by; the others have no decoder within it.
    candidates = [getattr(model.base_model, "decoder", None), model.get_decoder(), model.base_model]
    found: list[nn.Module] = []
    for one in candidates:
        if isinstance(one, nn.Module) and one is not model and all(one is not other for other in found):
            found.append(one)
    return found


class _Kept:
    """What a part gave, and which tokens of it are handed on."""

    output: Any = None
    places: slice = slice(None)

    def cut(self) -> Any:
        if isinstance(self.output, tuple):
            return (self.output[0][:, self.places], *self.output[1:])
        values = dict(self.output)
        values["last_hidden_state"] = self.output.last_hidden_state[:, self.places]
        return type(self.output)(**values)


@contextlib.contextmanager
def _kept(part: nn.Module) -> Iterator[_Kept]:
    """Let a part run once while the body runs, and give cuts of what came out whenever it is called."""
    kept, forward, own = _Kept(), part.forward, vars(part).get("forward")

    def once(*args: Any, **kwargs: Any) -> Any:
        if kept.output is None:
            kept.output = forward(*args, **kwargs)
        return kept.cut()

    part.forward = once
    try:
        yield kept
    finally:
        if own is None:
            del part.forward
        else:  # as accelerate puts one there
            part.forward = own


def _is_causal(model: PreTrainedModel, ids: np.ndarray) -> bool:
    """Try whether the last of some tokens has a part in what was predicted before it."""
    row = [int(token) for token in ids[:_PROBE]]
    if len(row) < 2:
        return True
    other = [*row[:-1], (row[-1] + 1) % int(model.get_input_embeddings().weight.shape[0])]
    # One after the other, as some layers let texts of a batch share their room.
    first, second = (
        next(logits_in_parts(model, *right_pad([one], input_device(model)), most=2**62))[2][:, :-1].float()
        for one in (row, other)
    )
    size = first.isfinite() & second.isfinite()
    largest = float(first[size].abs().max()) if size.any() else 0.0
    allowed = _ROUNDING.get(next(model.parameters()).dtype, _ROUNDING_HALF) * max(largest, 1e-6)
    return not size.any() or float((first - second)[size].abs().max()) <= allowed
