"""Classification: which of a few answers a causal model finds most likely after a prompt."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd
from transformers import PreTrainedModel

from lmri.models import context_length
from lmri.scores import TaskInfo
from lmri.storage import digest, text_hash
from lmri.tasks.base import check_causal, token_log_likelihoods
from lmri.texts import get_column, read_table_file


class Classification:
    """Accuracy by the log-likelihood of each label's words after a prompt; nothing can fail to parse.

    Parameters
    ----------
    texts : iterable of str
        One an item.
    labels : iterable of str
        The true label of each.
    verbalizer : mapping of str to str
        The words that stand for each label, as they follow the prompt: ``{"pos": " good", "neg": " bad"}``.
    prompt : str, default="{text}"
        With ``{text}`` where the text goes.
    clusters : iterable of str, optional
        What is resampled as one, such as the document of each item; by default each text.
    name : str, default="classification"
        What tables call it.
    batch_size : int, default=8
        Prompts read at once.

    Examples
    --------
    >>> task = Classification(["What a film!"], ["pos"], {"pos": " good", "neg": " bad"}, "{text} It was")
    >>> task.prompts
    ['What a film! It was']
    """

    def __init__(
        self,
        texts: Iterable[str],
        labels: Iterable[str],
        verbalizer: Mapping[str, str],
        prompt: str = "{text}",
        clusters: Iterable[str] | None = None,
        name: str = "classification",
        batch_size: int = 8,
    ) -> None:
        self.texts, self.labels = list(texts), [str(label) for label in labels]
        self.verbalizer = dict(verbalizer)
        self.clusters = [text_hash(text) for text in self.texts] if clusters is None else [str(c) for c in clusters]
        self._check(name, prompt)
        self.prompts = [prompt.replace("{text}", text) for text in self.texts]
        self.info = TaskInfo(name, "loglikelihood", "accuracy", higher_is_better=True, per_token=False)
        self.batch_size = batch_size

    def _check(self, name: str, prompt: str) -> None:
        if not self.texts:
            raise ValueError(f"{name} has no items. Give at least one text with its label.")
        if not len(self.texts) == len(self.labels) == len(self.clusters):
            raise ValueError(
                f"{name} has {len(self.texts)} texts, {len(self.labels)} labels and {len(self.clusters)} clusters; "
                "each text needs one of each."
            )
        if "{text}" not in prompt:
            raise ValueError(f"The prompt {prompt!r} does not hold '{{text}}', the place of the text.")
        if len(self.verbalizer) < 2:
            raise ValueError(f"The verbalizer has {len(self.verbalizer)} labels; at least 2 are needed.")
        unknown = sorted(set(self.labels) - set(self.verbalizer))
        if unknown:
            raise ValueError(
                f"The labels {unknown} have no words in the verbalizer ({list(self.verbalizer)}). Add them."
            )
        if not all(self.verbalizer.values()):
            raise ValueError("A label's words are empty; the model cannot prefer them. Give each label words.")

    @classmethod
    def from_file(cls, path: Path, name: str = "classification") -> "Classification":
        """Read items from a table with the columns ``prompt`` and ``label``; scored is the label after a space.

        Parameters
        ----------
        path : Path
            CSV, TSV, JSONL, JSON or Parquet.
        name : str
            What tables call it.
        """
        table = read_table_file(path)
        prompts, labels = (
            [str(field) for field in get_column(table, column, str(path), "Both prompt and label are needed.")]
            for column in ("prompt", "label")
        )
        return cls(prompts, labels, {label: f" {label}" for label in sorted(set(labels))}, name=name)

    def digest(self) -> str:
        """Hash of prompts, labels, words and clusters."""
        content = [self.prompts, self.labels, self.verbalizer, self.clusters, self.batch_size]
        return digest([asdict(self.info), *content])

    def score(self, model: PreTrainedModel, tokenizer: Any) -> pd.DataFrame:
        """Score every item: ``value`` is 1 if the true label is the most likely; ``margin`` by how many nats."""
        check_causal(model, "Classification")
        names = list(self.verbalizer)
        rows, firsts = self._rows(model, tokenizer, names)
        likelihoods = token_log_likelihoods(model, rows, self.batch_size)
        # Token i is predicted at place i - 1.
        sums = [float(row[first - 1 :].sum()) for row, first in zip(likelihoods, firsts, strict=True)]
        items = []
        for number, label in enumerate(self.labels):
            own = dict(zip(names, sums[number * len(names) : (number + 1) * len(names)], strict=True))
            predicted = max(names, key=lambda name: own[name])
            others = max(value for name, value in own.items() if name != label)
            readable = all(math.isfinite(value) for value in own.values())
            items.append(
                {
                    "item": number,
                    "cluster": self.clusters[number],
                    "n_tokens": len(rows[number * len(names)]),
                    "value": float(predicted == label) if readable else math.nan,
                    "label": label,
                    "predicted": predicted,
                    "margin": own[label] - others,
                }
            )
        return pd.DataFrame(items)

    def _rows(self, model: PreTrainedModel, tokenizer: Any, names: Sequence[str]) -> tuple[list[list[int]], list[int]]:
        """Tokenize every prompt with every answer, and find where the answer starts."""
        rows, firsts = [], []
        limit = context_length(model, tokenizer)
        for number, prompt in enumerate(self.prompts):
            before = self._ids(tokenizer, prompt)
            for name in names:
                row = self._ids(tokenizer, prompt + self.verbalizer[name])
                if row[: len(before)] != before or len(row) == len(before) or not before:
                    raise ValueError(
                        f"The tokenizer merges the end of prompt {number} with the answer {self.verbalizer[name]!r}, "
                        "so the answer has no likelihood of its own. Let the prompt end without a space, and the "
                        "answers start with one."
                    )
                if limit is not None and len(row) > limit:
                    raise ValueError(
                        f"Item {number} has {len(row)} tokens with its answer; the model reads {limit}. Shorten it."
                    )
                rows.append(row)
                firsts.append(len(before))
        return rows, firsts

    @staticmethod
    def _ids(tokenizer: Any, text: str) -> list[int]:
        ids = [int(token) for token in tokenizer(text, return_attention_mask=False, verbose=False)["input_ids"]]
        eos = getattr(tokenizer, "eos_token_id", None)
        # Some tokenizers end every text with eos, which would stand between prompt and answer.
        return ids[:-1] if ids and ids[-1] == eos and not text.endswith(str(tokenizer.eos_token)) else ids
