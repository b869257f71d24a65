"""Surprisal and entropy of every recorded token, computed from the recorded model.

The model reads the tokens of the recording again, in the same right-padded batches. Its predictions are reduced to two
numbers per token, in chunks of tokens, so that few logits are in memory even with a large vocabulary.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pandas as pd
import torch
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
    transformer,
    why_not_causal,
)
from lmri.models.logits import logits_in_parts
from lmri.storage.recording import Recording

Progress = Callable[[int, int], None]
"""Function called with the amount done and the total."""


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
    rows = _rows(recording)
    texts = [ids for run in rows for ids in run]
    if reason := why_not_causal(model, [ids.tolist() for ids in texts]):
        return Predictions([], weights, f"{reason} A pseudo-likelihood would be another quantity, and is not computed.")
    with evaluation_mode(model):
        results = _read(model, texts, parameters, progress)
    tables, first = [], 0
    for run in rows:
        pairs = results[first : first + len(run)]
        first += len(run)
        surprisal, entropy = (np.concatenate([pair[index] for pair in pairs]) for index in (0, 1))
        tables.append(pd.DataFrame({"token_id": np.concatenate(run), "surprisal": surprisal, "entropy": entropy}))
    return Predictions(tables, weights)


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
