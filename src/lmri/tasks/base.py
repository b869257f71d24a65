"""What a task has to offer."""

from typing import Any, Protocol

import pandas as pd
import torch
from transformers import PreTrainedModel

from lmri.models import bucket, evaluation_mode, input_device, right_pad
from lmri.scores import TaskInfo


class Task(Protocol):
    """Something that a model can be scored on.

    Attributes
    ----------
    info : TaskInfo
        Name, scoring and metric.
    texts : list of str
        What is read, so that texts which made a network can be kept out.
    """

    info: TaskInfo
    texts: list[str]

    def digest(self) -> str:
        """Hash of everything that the scores of a model depend on."""
        ...

    def score(self, model: PreTrainedModel, tokenizer: Any) -> pd.DataFrame:
        """Score the model as it is now.

        Returns
        -------
        DataFrame
            A row an item: ``item, cluster, n_tokens, value``, and whatever else the task knows.
        """
        ...


def check_causal(model: PreTrainedModel, task: str) -> None:
    """Raise `TypeError` unless the model predicts each token from those before it."""
    if getattr(model.config, "is_encoder_decoder", False) or not model.can_generate():
        raise TypeError(
            f"{task} needs a causal language model; {type(model).__name__} is none. "
            "Load a model that generates text from left to right."
        )


def token_log_likelihoods(model: PreTrainedModel, rows: list[list[int]], batch_size: int) -> list[torch.Tensor]:
    """Compute the log-likelihood of every token but the first, given those before it.

    Parameters
    ----------
    model : PreTrainedModel
        Causal.
    rows : list of list of int
        Token ids, each row read on its own, of at least 2 tokens.
    batch_size : int
        Rows read at once.

    Returns
    -------
    list of Tensor of shape (n_tokens - 1,)
        Nats, float64, in the order of `rows`.
    """
    results: dict[int, torch.Tensor] = {}
    with evaluation_mode(model):
        for batch in bucket([len(row) for row in rows], batch_size):
            ids, mask = right_pad([rows[row] for row in batch], input_device(model))
            logits = model(input_ids=ids, attention_mask=mask, use_cache=False).logits[:, :-1].float()
            target = ids[:, 1:, None].to(logits.device)
            likelihoods = logits.gather(-1, target)[..., 0] - logits.logsumexp(-1)
            for place, row in enumerate(batch):
                results[row] = likelihoods[place, : len(rows[row]) - 1].double().cpu()
    return [results[row] for row in range(len(rows))]
