"""Interface of tasks, and functions that tasks share."""

import warnings
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Protocol

import pandas as pd
import torch
from transformers import PreTrainedModel

from lmri.exceptions import DataWarning
from lmri.lesions.scores import TaskInfo
from lmri.models import batch_texts, evaluation_mode, input_device, right_pad, tokenize, why_not_causal
from lmri.models import prompt_ids as prompt_ids  # the prompts of all tasks are read by this function

_WASTE = 0.1  # share of padding above which one large batch is slower than two smaller ones


class Task(Protocol):
    """A task on which a model can be scored.

    Attributes
    ----------
    info : TaskInfo
        Name, scoring and metric; after scoring also caveats of the scores.
    texts : list of str
        Texts that the model reads, so that texts in which a network was found can be excluded.
    """

    info: TaskInfo
    texts: list[str]

    def digest(self) -> str:
        """Return the hash of everything that the scores of a model depend on."""
        ...

    def score(self, model: PreTrainedModel, tokenizer: Any) -> pd.DataFrame:
        """Score the model in its current state.

        Returns
        -------
        DataFrame
            One row per item: ``item, cluster, n_tokens, value``, and further columns of the task.
        """
        ...


def remark(info: TaskInfo, text: str, stacklevel: int = 3) -> TaskInfo:
    """Warn about the items, and add the warning to the note of every row, without duplicates."""
    if text in info.note:
        return info
    warnings.warn(f"{info.name}: {text}.", DataWarning, stacklevel=stacklevel)
    return replace(info, note=f"{info.note}; {text}" if info.note else text)


def read_prompts(
    info: TaskInfo, tokenizer: Any, prompts: Sequence[str], stacklevel: int = 4
) -> tuple[list[list[int]], TaskInfo]:
    """Tokenize prompts, and remark on those that already begin or end with the special tokens of the tokenizer."""
    read = [tokenize(tokenizer, prompt) for prompt in prompts]
    n = sum(tokens.n_repeated > 0 for tokens in read)
    return [tokens.prompt for tokens in read], remark(info, repeated_note(n, len(prompts)), stacklevel) if n else info


def repeated_note(n: int, n_all: int, noun: str = "prompts") -> str:
    """Format the number of texts whose special tokens were not added again."""
    return f"{n} of {n_all} {noun} already begin or end with special tokens, which were not added again"


def check_causal(model: PreTrainedModel, task: str, rows: Sequence[Sequence[int]], tokenizer: Any) -> None:
    """Raise `TypeError` unless the model predicts each token of these texts from those before it."""
    if reason := why_not_causal(model, rows, tokenizer):
        raise TypeError(
            f"{task} needs a causal language model, but {reason} Load a model that predicts text from left to right. "
            "This model can be recorded, and classify texts with a trained head (scoring='head')."
        )


def token_log_likelihoods(model: PreTrainedModel, rows: list[list[int]], batch_size: int) -> list[torch.Tensor]:
    """Compute the log-likelihood of every token but the first, given those before it.

    Parameters
    ----------
    model : PreTrainedModel
        Causal model.
    rows : list of list of int
        Token ids; each row is read separately and has at least 2 tokens.
    batch_size : int
        Number of rows per forward pass.

    Returns
    -------
    list of Tensor of shape (n_tokens - 1,)
        Log-likelihoods in nats, float64, in the order of `rows`.
    """
    results: dict[int, torch.Tensor] = {}
    with evaluation_mode(model):
        for batch in batch_texts(model, [len(row) for row in rows], batch_size, _WASTE):
            ids, mask = right_pad([rows[row] for row in batch], input_device(model))
            logits = model(input_ids=ids, attention_mask=mask, use_cache=False).logits[:, :-1].float()
            target = ids[:, 1:, None].to(logits.device)
            likelihoods = logits.gather(-1, target)[..., 0] - logits.logsumexp(-1)
            for index, row in enumerate(batch):
                results[row] = likelihoods[index, : len(rows[row]) - 1].double().cpu()
    return [results[row] for row in range(len(rows))]
