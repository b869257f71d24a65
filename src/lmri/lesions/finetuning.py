"""Fine-tuning of a language model into a classifier, so that networks found in the parent can be lesioned in the child.

The child has the parent's layers and different weights. Networks of the parent can be applied to it, with a warning
that the weights differ; ``strict=True`` refuses this.
"""

import copy
import importlib.util
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from transformers import AutoModelForSequenceClassification, PreTrainedModel, PreTrainedTokenizerBase

from lmri.lesions.scores import INTACT, Scores
from lmri.lesions.tasks import Classification
from lmri.lesions.training import Training, seeded, train_classifier
from lmri.models import describe_model, marker_ids, quiet, transformer
from lmri.models.adapters import MERGE, Identity
from lmri.storage import atomic_path, read_json, text_hash, versions, write_json, write_table

ABOUT = "finetuning.json"
"""File in the model folder with the provenance of the child."""


@dataclass(frozen=True, eq=False)
class FineTuned:
    """A fine-tuned child with its held-out scores.

    Parameters
    ----------
    model : PreTrainedModel
        Fine-tuned model, in evaluation mode.
    tokenizer : PreTrainedTokenizer
        Tokenizer of the parent, with a pad token.
    held_out : DataFrame
        Summary of the held-out items, one row per metric.
    items : DataFrame
        Item rows of the held-out items, as scored by `lmri.tasks.Classification`.
    about : mapping
        Provenance of the child, as stored in ``finetuning.json``.
    """

    model: PreTrainedModel
    tokenizer: Any
    held_out: pd.DataFrame
    items: pd.DataFrame
    about: Mapping[str, Any]


def finetune(
    model: PreTrainedModel,
    tokenizer: Any,
    train: Classification,
    held_out: Classification,
    training: Training | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> FineTuned:
    """Fine-tune a language model into a sequence classifier with transformers' `Trainer`.

    Parameters
    ----------
    model : PreTrainedModel
        Parent model, which is not modified.
    tokenizer : PreTrainedTokenizer
        Tokenizer of the parent.
    train : Classification
        Training items, with ``scoring="head"``.
    held_out : Classification
        Items to score after training, from other texts and clusters.
    training : Training, optional
        Training settings.
    progress : callable, optional
        Called with the number of finished steps and the total.

    Returns
    -------
    FineTuned
        Child model with its scores; `save` stores it.

    Raises
    ------
    ValueError
        If the tasks share a text or a cluster, their labels differ, or a library is missing.
    TypeError
        If transformers has no classifier for this architecture.
    """
    training = training or Training()
    _check(train, held_out)
    _check_installed()
    with seeded(training.seed):
        child, child_tokenizer = make_classifier(model, tokenizer, list(train.verbalizer))
        n_steps = train_classifier(child, child_tokenizer, train, training, progress)
    child.eval()
    broken = [name for name, values in child.named_parameters() if not torch.isfinite(values).all()]
    if broken:
        raise ValueError(
            f"Training diverged: {len(broken)} tensors of the child contain NaN or infinity, such as {broken[0]!r}. "
            f"Lower learning_rate, which is {training.learning_rate:g}."
        )
    items = held_out.score(child, child_tokenizer)
    about = {
        "parent": _weights(model),
        "child": _weights(child),
        "task": train.info.name,
        "labels": list(train.verbalizer),
        "training": {**vars(training), "steps": n_steps},
        "train_sha256": train.digest(),
        "learned_texts": sorted({text_hash(text) for text in train.texts}),
        "held_out_sha256": held_out.digest(),
        "splits": {"train": train.info.split, "held_out": held_out.info.split},
        "n_train": len(train.labels),
        "n_held_out": len(held_out.labels),
        "versions": versions(),
    }
    return FineTuned(child, child_tokenizer, _summary(items, held_out, training.seed), items, about)


def learned_texts(model: str | Path) -> frozenset[str]:
    """Return the hashes of the texts on which a classifier was fine-tuned; empty for other models."""
    about = Path(model).expanduser() / ABOUT
    return frozenset(read_json(about).get("learned_texts", ())) if about.is_file() else frozenset()


def make_classifier(
    model: PreTrainedModel, tokenizer: Any, labels: Sequence[str]
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Create a classifier from a copy of a model's body, with a new head and a tokenizer with a pad token.

    Padding uses the tokenizer's pad token, unless it is a word, or else its end token. If it has neither, as in
    character-level models, a token ``<pad>`` is added; causal classifiers use it to find the end of a text.

    Parameters
    ----------
    model : PreTrainedModel
        Parent model, which is not modified.
    tokenizer : PreTrainedTokenizer
        Tokenizer of the parent, which is not modified.
    labels : sequence of str
        Labels in the order of the head's outputs.

    Raises
    ------
    TypeError
        If transformers has no classifier for this architecture, or its body differs from the parent's.
    ValueError
        If adapters of the parent are active.
    """
    model = transformer(model)
    if adapters := Identity(model).adapters:
        raise ValueError(f"The parent has active adapters ({', '.join(adapters)}), which its child would lack. {MERGE}")
    child_tokenizer, config = copy.deepcopy(tokenizer), copy.deepcopy(model.config)
    config.id2label = dict(enumerate(labels))
    config.label2id = {label: number for number, label in enumerate(labels)}
    config.architectures = None
    # A pad that is also a word would hide the last token of a text.
    marks = marker_ids(child_tokenizer)
    if child_tokenizer.pad_token_id not in marks:
        if child_tokenizer.eos_token_id in marks:
            child_tokenizer.pad_token = child_tokenizer.eos_token
        else:
            child_tokenizer.add_special_tokens({"pad_token": "<pad>"})
    config.get_text_config().pad_token_id = child_tokenizer.pad_token_id
    n_known = model.get_input_embeddings().weight.shape[0]
    # The embedding is resized after the parent's weights are loaded; a pad id beyond it would fail before.
    beyond = child_tokenizer.pad_token_id >= n_known
    if beyond:
        config.get_text_config().pad_token_id = None
    try:
        child = AutoModelForSequenceClassification.from_config(config)
    except ValueError as error:
        raise TypeError(
            f"transformers has no sequence classifier for {type(model).__name__} ({model.config.model_type}). "
            "Score the model itself by 'loglikelihood' or 'generate' instead."
        ) from error
    result = child.base_model.load_state_dict(model.base_model.state_dict(), strict=False)
    # A pooler, as in BERT, belongs to the head and has new weights.
    other = [name for name in (*result.missing_keys, *result.unexpected_keys) if not name.startswith("pooler.")]
    if other:
        raise TypeError(
            f"The body of {type(child).__name__} differs from the body of {type(model).__name__}: {other[0]!r} is in "
            "only one of them. Score the model itself by 'loglikelihood' or 'generate' instead."
        )
    if beyond:
        child.resize_token_embeddings(child_tokenizer.pad_token_id + 1)
        child.config.get_text_config().pad_token_id = child_tokenizer.pad_token_id
    child.to(next(model.parameters()).device, dtype=torch.float32)
    return child, child_tokenizer


def save(child: FineTuned, out: str | Path) -> Path:
    """Write a child and its scores to a standard model folder, which `lmri.load_model` reads.

    ``finetuning.json`` contains the provenance of the child, ``held_out.tsv`` the held-out scores and
    ``held_out_items.tsv`` their items.

    Raises
    ------
    ValueError
        If the folder exists.
    """
    out = Path(out).expanduser()
    if out.exists():
        raise ValueError(f"{out} already exists. It was not overwritten: choose another folder.")
    with atomic_path(out) as folder, quiet():
        child.model.save_pretrained(folder)
        child.tokenizer.save_pretrained(folder)
        write_json(folder / ABOUT, dict(child.about))
        write_table(folder / "held_out.tsv", child.held_out)
        write_table(folder / "held_out_items.tsv", child.items)
    child.model.config._name_or_path = str(out)
    return out


def _check(train: Classification, held_out: Classification) -> None:
    for task in (train, held_out):
        if task.info.scoring != "head":
            raise ValueError(
                f"{task.info.name!r} is scored by {task.info.scoring!r}; fine-tuning trains a head. Give tasks with "
                "scoring='head'."
            )
    if list(train.verbalizer) != list(held_out.verbalizer):
        raise ValueError(
            f"The training labels are {list(train.verbalizer)}, the held-out labels {list(held_out.verbalizer)}; they "
            "must be the same, in the same order."
        )
    if len(set(train.labels)) < 2:
        raise ValueError(
            f"All {len(train.labels)} training items have the label {train.labels[0]!r}. Give items of each label."
        )
    shared = {text_hash("\x1f".join(item.values())) for item in train.items} & {
        text_hash("\x1f".join(item.values())) for item in held_out.items
    }
    clusters = set(train.clusters) & set(held_out.clusters)
    if shared or clusters:
        raise ValueError(
            f"{len(shared)} texts and {len(clusters)} clusters are in both the training and the held-out items. Split "
            "them: lmri.lesions.tasks.load(…, split='fit') and split='test'."
        )


def _check_installed() -> None:
    if importlib.util.find_spec("accelerate") is None:
        raise ValueError(
            "Fine-tuning with transformers needs the library accelerate, which is not installed. Install it: pip "
            "install 'lmri[finetune]'."
        )


def _weights(model: PreTrainedModel) -> dict[str, Any]:
    info = describe_model(model)
    return {"id": info.id, "model_type": info.model_type, "fingerprint": info.fingerprint, "dtype": info.dtype}


def _summary(items: pd.DataFrame, task: Classification, seed: int) -> pd.DataFrame:
    """Summarize held-out items as an evaluation does."""
    rows = items.assign(condition=INTACT, task=task.info.name)
    intact = {
        "condition": INTACT,
        "kind": INTACT,
        "network": "",
        "n_neurons": 0,
        "control_of": "",
        "control_family": "",
    }
    return Scores(rows, pd.DataFrame([{**intact, "draw": -1}]), [task.info], seed).summary()
