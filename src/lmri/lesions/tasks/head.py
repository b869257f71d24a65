"""Predictions of models with a classification head."""

import contextlib
import inspect
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from transformers import PreTrainedModel

from lmri.models import added_again, batch_texts, context_length, evaluation_mode, input_device, right_pad


def head_inputs(tokenizer: Any, fields: Mapping[str, str], limit: int | None) -> tuple[dict[str, list[int]], bool, int]:
    """Tokenize the texts of one item for a classifier.

    Tokenizers with a separator, such as BERT's, join two texts; for others, each text is one line.

    Parameters
    ----------
    tokenizer : PreTrainedTokenizer
        Tokenizer of the model.
    fields : mapping of str to str
        Texts by name, in order.
    limit : int or None
        Context length; the longest text is truncated.

    Returns
    -------
    inputs : dict of str to list of int
        Input ``input_ids`` and, if the tokenizer returns them, ``token_type_ids``.
    is_cut : bool
        Whether the item was truncated.
    n_repeated : int
        Number of special tokens that were not added, because the texts already begin or end with them.
    """
    texts = list(fields.values())
    paired = len(texts) == 2 and getattr(tokenizer, "sep_token_id", None) is not None
    parts = texts if paired else ["\n".join(texts)]
    options = {"return_attention_mask": False, "return_special_tokens_mask": True, "verbose": False}
    whole = tokenizer(*parts, **options)
    again = added_again(tokenizer, whole["input_ids"], whole["special_tokens_mask"])
    is_cut = limit is not None and len(whole["input_ids"]) - len(again) > limit
    if limit is not None and is_cut:
        whole = tokenizer(*parts, truncation=True, max_length=limit, **options)
        again = added_again(tokenizer, whole["input_ids"], whole["special_tokens_mask"])
    names = [name for name in ("input_ids", "token_type_ids") if name in whole]
    indices = [index for index in range(len(whole["input_ids"])) if index not in again]
    return {name: [int(whole[name][index]) for index in indices] for name in names}, is_cut, len(again)


def label_order(model: PreTrainedModel, labels: Mapping[str, Sequence[str]], task: str) -> tuple[list[str], str]:
    """Map the outputs of the head to labels.

    Parameters
    ----------
    model : PreTrainedModel
        Model with ``config.id2label``.
    labels : mapping of str to sequence of str
        Alternative names of each label, in the order of the dataset's numbers.
    task : str
        Name of the task, for messages.

    Returns
    -------
    order : list of str
        Label of each output.
    note : str
        Caveat for the rows if the head does not name its labels.

    Raises
    ------
    TypeError
        If the model has no classification head.
    ValueError
        If the number of labels or their names differ.
    """
    if not type(model).__name__.endswith("ForSequenceClassification"):
        raise TypeError(
            f"{task} is scored by a classification head, but {type(model).__name__} has none. Train one with `lmri "
            "finetune`, or score by 'loglikelihood' or 'generate'."
        )
    n = int(model.config.num_labels)
    names = [str(model.config.id2label[number]) for number in range(n)]
    if n != len(labels):
        raise ValueError(
            f"The head of {type(model).__name__} has {n} labels ({', '.join(names)}), but {task} has {len(labels)} "
            f"({', '.join(labels)}). Load a model for this task."
        )
    if all(re.fullmatch(r"LABEL_\d+", name) for name in names):
        return list(labels), "the head names no labels; their order is taken to be the dataset's"
    known = {alias.casefold(): label for label, others in labels.items() for alias in (label, *others)}
    order = [known.get(name.casefold(), "") for name in names]
    if sorted(order) != sorted(labels):
        raise ValueError(
            f"The head of {type(model).__name__} names its labels {', '.join(map(repr, names))}; {task} has "
            f"{', '.join(map(repr, labels))}. Set model.config.id2label to these, in the order of the head's outputs."
        )
    return order, ""


@contextlib.contextmanager
def pads_told_apart(model: PreTrainedModel, rows: Sequence[Mapping[str, list[int]]]) -> Iterator[int | None]:
    """Choose a pad that a causal classifier does not mistake for the last token of a text.

    Causal classifiers read the last token that is not a pad, which they know by its id. If a text ends with this token
    (``!`` is a common pad of GPT-2), the configuration of the model names another token, which is in no text, within
    the ``with`` block.

    Yields
    ------
    int or None
        Id of the pad; None if the model has no pad, and reads only batches of one text.
    """
    config = model.config.get_text_config()
    pad_id = config.pad_token_id
    if pad_id is None or all(row["input_ids"][-1:] != [pad_id] for row in rows):
        yield pad_id
        return
    ids = {token for row in rows for token in row["input_ids"]}
    unused = (token for token in reversed(range(model.get_input_embeddings().weight.shape[0])) if token not in ids)
    configs = [config, model.config]
    original = [part.pad_token_id for part in configs]
    chosen = next(unused, None)
    try:
        for part in configs:
            part.pad_token_id = chosen
        yield chosen
    finally:
        for part, known in zip(configs, original, strict=True):
            part.pad_token_id = known


def pad_inputs(
    rows: Sequence[Mapping[str, list[int]]], pad_id: int | None, device: torch.device
) -> dict[str, torch.Tensor]:
    """Collate items into one batch, padded on the right with a pad by which classifiers find the end of a text."""
    ids, mask = right_pad([row["input_ids"] for row in rows], device)
    batch = {"input_ids": ids.masked_fill(mask == 0, pad_id or 0), "attention_mask": mask}
    if "token_type_ids" in rows[0]:
        batch["token_type_ids"] = right_pad([row["token_type_ids"] for row in rows], device)[0]
    return batch


def head_log_probabilities(
    model: PreTrainedModel, tokenizer: Any, items: Sequence[Mapping[str, str]], batch_size: int
) -> tuple[list[list[float]], list[int], int, int]:
    """Compute the log-probability of every label.

    Parameters
    ----------
    model : PreTrainedModel
        Model with a head.
    tokenizer : PreTrainedTokenizer
        Tokenizer of the model.
    items : sequence of mapping of str to str
        Texts of each item, by name.
    batch_size : int
        Number of items per forward pass; 1 is used if the model has no pad token, by which causal models with a head
        find the last token.

    Returns
    -------
    log_probabilities : list of list of float
        Log-probabilities in nats, by item and output of the head.
    n_tokens : list of int
        Number of tokens by item.
    n_cut : int
        Number of items longer than the context.
    n_repeated : int
        Number of items whose special tokens were not added again.
    """
    limit = context_length(model, tokenizer)
    encoded = [head_inputs(tokenizer, fields, limit) for fields in items]
    rows = [row for row, _, _ in encoded]
    lengths = [len(row["input_ids"]) for row in rows]
    results: dict[int, list[float]] = {}
    # Decoders would otherwise cache keys and values for a next token that is not generated.
    cache = {"use_cache": False} if "use_cache" in inspect.signature(model.forward).parameters else {}
    with evaluation_mode(model), pads_told_apart(model, rows) as pad_id:
        for batch in batch_texts(model, lengths, batch_size if pad_id is not None else 1):
            inputs = pad_inputs([rows[row] for row in batch], pad_id, input_device(model))
            values = model(**inputs, **cache).logits.double().log_softmax(-1).cpu().tolist()
            results |= dict(zip(batch, values, strict=True))
    n_cut, n_repeated = sum(is_cut for _, is_cut, _ in encoded), sum(n > 0 for _, _, n in encoded)
    return [results[row] for row in range(len(rows))], lengths, n_cut, n_repeated
