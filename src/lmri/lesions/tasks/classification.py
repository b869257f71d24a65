"""Classification of texts into a few labels, scored by likelihood, generation or a classification head."""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from numbers import Number
from pathlib import Path
from typing import Any, Unpack

import pandas as pd
from transformers import PreTrainedModel

from lmri.lesions.scores import TaskInfo
from lmri.lesions.tasks.base import check_causal, prompt_ids, read_prompts, remark, repeated_note, token_log_likelihoods
from lmri.lesions.tasks.generation import generate, parse_label
from lmri.lesions.tasks.head import head_log_probabilities, label_order
from lmri.lesions.tasks.items import gather, is_missing, plain
from lmri.lesions.tasks.options import ClassificationKeywords, ClassificationOptions
from lmri.models import context_length
from lmri.storage import digest, text_hash
from lmri.storage.user_tables import read_table_file

SCORINGS = ("loglikelihood", "loglikelihood/token", "loglikelihood/character", "generate", "head")
"""Scoring methods; the first three use the likelihood of each label's words, as it is or divided by their length."""

_FIELD = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)\}")


class Classification:
    """Accuracy by log-likelihood of each label's words after a prompt, by generation, or by a classifier's head.

    Parameters
    ----------
    texts : iterable of str, or of mapping of str to str
        Text of each item; for items with several texts, a mapping by name, such as ``{"premise": …, "hypothesis": …}``.
    labels : iterable of str
        True label of each item.
    verbalizer : mapping of str to str
        Words that represent each label after the prompt: ``{"pos": " good", "neg": " bad"}``.
    prompt : str, default="{text}"
        Prompt with ``{text}``, or the names of the texts in braces, as placeholders. A head reads only the texts.
    clusters : iterable of str, optional
        Unit of resampling of each item, such as its document; by default each text.
    name : str, default="classification"
        Name in tables.
    batch_size : int, default=8
        Number of prompts per forward pass.
    scoring : str, default="loglikelihood"
        Scoring method. ``"loglikelihood"``: the label whose words are most likely, so that parsing cannot fail;
        ``"loglikelihood/token"`` and ``"loglikelihood/character"`` divide by the length of the words. ``"generate"``:
        the label that the model names in a greedy answer; an answer without a label has no value. ``"head"``: the label
        that a sequence-classification model predicts.
    also : iterable of str, default=()
        Further metrics of the same items: ``"f1"``, ``"matthews"``, ``"balanced_accuracy"``.
    positive : str, default=""
        Positive label of F1.
    max_new_tokens : int, default=16
        Largest number of tokens of a generated answer.
    aliases : mapping of str to sequence of str, optional
        Alternative names of each label in the configuration of a head.
    split : str, default=""
        Split of the items, shown in the rows: ``"fit"``, ``"select"`` or ``"test"``.
    note : str, default=""
        Caveats of the items, shown in the rows. Labels without items, and words that the prompt does not name, are
        added with a warning.

    Examples
    --------
    >>> words = {"pos": " good", "neg": " bad"}
    >>> task = Classification(["A great film!", "Oh dear."], ["pos", "neg"], words, "{text} It was")
    >>> task.prompts
    ['A great film! It was', 'Oh dear. It was']
    """

    def __init__(
        self,
        texts: Iterable[str] | Iterable[Mapping[str, str]],
        labels: Iterable[str],
        verbalizer: Mapping[str, str],
        prompt: str = "{text}",
        clusters: Iterable[str] | None = None,
        name: str = "classification",
        batch_size: int = 8,
        **options: Unpack[ClassificationKeywords],
    ) -> None:
        chosen = ClassificationOptions(**options)
        self.items = [{"text": item} if isinstance(item, str) else dict(item) for item in texts]
        self.labels, self.verbalizer = [str(label) for label in labels], dict(verbalizer)
        self.clusters = (
            [text_hash("\x1f".join(item.values())) for item in self.items]
            if clusters is None
            else [str(cluster) for cluster in clusters]
        )
        self.prompt, self.batch_size, self.max_new_tokens = prompt, batch_size, chosen.max_new_tokens
        self.aliases = {label: tuple((chosen.aliases or {}).get(label, ())) for label in self.verbalizer}
        self._check(name, chosen.scoring, chosen.positive)
        self.prompts = [fill(prompt, item, name) for item in self.items]
        self.texts = [text for item in self.items for text in item.values()]
        self.info = TaskInfo(
            name, chosen.scoring, "accuracy", higher_is_better=True, per_token=False, also=tuple(chosen.also),
            positive=chosen.positive, split=chosen.split, note=chosen.note,
        )  # fmt: skip
        self._look()

    def _check(self, name: str, scoring: str, positive: str) -> None:
        if not self.items:
            raise ValueError(f"{name} has no items. Give at least one text with its label.")
        if not len(self.items) == len(self.labels) == len(self.clusters):
            raise ValueError(
                f"{name} has {len(self.items)} texts, {len(self.labels)} labels and {len(self.clusters)} clusters; "
                "each text needs one of each."
            )
        if scoring not in SCORINGS:
            raise ValueError(f"scoring is {scoring!r}; choose from {', '.join(map(repr, SCORINGS))}.")
        if not any(f"{{{field}}}" in self.prompt for field in self.items[0]):
            field = next(iter(self.items[0]), "text")
            raise ValueError(
                f"The prompt {self.prompt!r} does not contain '{{{field}}}', the placeholder of the text. Add it."
            )
        if len(self.verbalizer) < 2:
            raise ValueError(f"The verbalizer has {len(self.verbalizer)} labels. Give at least 2.")
        unknown = sorted(set(self.labels) - set(self.verbalizer))
        if unknown:
            raise ValueError(
                f"The labels {unknown} have no words in the verbalizer ({list(self.verbalizer)}). Add them."
            )
        if not all(self.verbalizer.values()):
            raise ValueError("The words of a label are empty, so they have no likelihood. Give words for each label.")
        said = [words.strip().casefold() for words in self.verbalizer.values()]
        if len(set(said)) < len(said):
            raise ValueError(
                f"Two labels have the same words ({list(self.verbalizer.values())}). Give each label different words."
            )
        if positive and positive not in self.verbalizer:
            raise ValueError(
                f"positive is {positive!r}; choose from the labels {', '.join(map(repr, self.verbalizer))}."
            )
        if self.max_new_tokens < 1:
            raise ValueError(f"max_new_tokens is {self.max_new_tokens}; it must be at least 1.")

    def _look(self) -> None:
        """Warn of labels without items, and of words that the prompt does not name."""
        absent = [label for label in self.verbalizer if label not in self.labels]
        if absent:
            self.info = remark(self.info, f"no item is {' or '.join(map(repr, absent))}", stacklevel=4)
        if self.info.scoring == "head":
            return
        said = {label: words.strip() for label, words in self.verbalizer.items()}
        unnamed = [
            words for words in said.values() if not re.search(rf"(?<!\w){re.escape(words)}(?!\w)", self.prompt, re.I)
        ]
        # A prompt that names no label is to be completed, such as "It was"; a generated answer cannot be expected.
        if unnamed and (len(unnamed) < len(said) or self.info.scoring == "generate"):
            self.info = remark(self.info, f"the prompt does not name {' or '.join(map(repr, unnamed))}", stacklevel=4)

    @classmethod
    def from_file(cls, path: Path, name: str = "classification", quoting: str | None = None) -> "Classification":
        """Read items from a table with the columns ``prompt`` and ``label``; the label after a space is scored.

        Parameters
        ----------
        path : Path
            Path of a CSV, TSV, JSONL, JSON or Parquet file.
        name : str
            Name in tables.
        quoting : {"csv", "none"}, optional
            Whether quotation marks in CSV and TSV files enclose fields; see `lmri.read_texts`.

        Raises
        ------
        ValueError
            If a column is missing, or a row lacks its prompt or label.
        """
        columns = {"prompt": ("prompt",)}
        items = gather(read_table_file(path, quoting), str(path), columns, _written_label, ("label",), ("prompt",), ())
        prompts, labels = [item["prompt"] for item in items.fields], items.targets
        task = cls(prompts, labels, {label: f" {label}" for label in sorted(set(labels))}, name=name)
        for note in items.notes:
            task.info = remark(task.info, note)
        return task

    def digest(self) -> str:
        """Return the hash of prompts, labels, words and clusters, and of the settings of the scoring method."""
        content = [self.prompts, self.labels, self.verbalizer, self.clusters, self.batch_size]
        further: list[Any] = []
        if self.info.scoring == "generate":
            further = [self.max_new_tokens]
        elif self.info.scoring == "head":
            further = [self.items, self.aliases]
        return digest([self.info.identity(), *content, *further])

    def score(self, model: PreTrainedModel, tokenizer: Any) -> pd.DataFrame:
        """Score every item: ``value`` is 1 if the label is right; ``margin`` is its advantage over the others in nats.

        The margin refers to the likelihoods that decide, after division by a length if there is one; a generated answer
        has no margin, but its text is in ``answer``. The number of tokens counts the prompt with the first label's
        words, the prompt, or the input of the head.
        """
        if self.info.scoring == "head":
            return self._by_head(model, tokenizer)
        prompts, self.info = read_prompts(self.info, tokenizer, self.prompts)
        if self.info.scoring == "generate":
            return self._by_answer(model, tokenizer, prompts)
        return self._by_words(model, tokenizer, prompts)

    def _by_words(self, model: PreTrainedModel, tokenizer: Any, prompts: list[list[int]]) -> pd.DataFrame:
        names = list(self.verbalizer)
        rows, firsts = self._rows(model, tokenizer, prompts, names)
        check_causal(model, "Classification", rows, tokenizer)
        likelihoods = token_log_likelihoods(model, rows, self.batch_size)
        # Token i is predicted at position i - 1.
        sums = [float(row[first - 1 :].sum()) for row, first in zip(likelihoods, firsts, strict=True)]
        items = []
        for number in range(len(self.items)):
            indices = range(number * len(names), (number + 1) * len(names))
            values = {
                name: sums[index] / self._length(name, len(rows[index]) - firsts[index])
                for name, index in zip(names, indices, strict=True)
            }
            items.append(self._item(number, len(rows[indices[0]]), values))
        return pd.DataFrame(items)

    def _length(self, name: str, n_tokens: int) -> int:
        by = self.info.scoring.partition("/")[2]
        return {"": 1, "token": n_tokens, "character": max(1, len(self.verbalizer[name].strip()))}[by]

    def _by_head(self, model: PreTrainedModel, tokenizer: Any) -> pd.DataFrame:
        order, note = label_order(model, self.aliases, self.info.name)
        n_all = len(self.items)
        values, n_tokens, n_cut, n_repeated = head_log_probabilities(model, tokenizer, self.items, self.batch_size)
        cut = f"{n_cut} of {n_all} items cut at the context" if n_cut else ""
        for text in (note, cut, repeated_note(n_repeated, n_all, "items") if n_repeated else ""):
            if text:
                self.info = remark(self.info, text)
        return pd.DataFrame(
            [
                self._item(number, n_tokens[number], dict(zip(order, log_probabilities, strict=True)))
                for number, log_probabilities in enumerate(values)
            ]
        )

    def _by_answer(self, model: PreTrainedModel, tokenizer: Any, rows: list[list[int]]) -> pd.DataFrame:
        limit = context_length(model, tokenizer)
        for number, row in enumerate(rows):
            if not row:
                raise ValueError(f"Prompt {number} has no tokens. Give a non-empty prompt.")
            if limit is not None and len(row) + self.max_new_tokens > limit:
                raise ValueError(
                    f"Item {number} has {len(row)} tokens, and {self.max_new_tokens} more are to be generated; the "
                    f"model reads {limit}. Shorten it, or lower max_new_tokens."
                )
        check_causal(model, "Classification", rows, tokenizer)
        items = []
        for number, answer in enumerate(generate(model, tokenizer, rows, self.max_new_tokens, self.batch_size)):
            predicted = parse_label(answer or "", self.verbalizer)
            label = self.labels[number]
            items.append(
                {
                    "item": number,
                    "cluster": self.clusters[number],
                    "n_tokens": len(rows[number]),
                    "value": math.nan if predicted is None else float(predicted == label),
                    "label": label,
                    "predicted": predicted or "",
                    "margin": math.nan,
                    "answer": answer or "",
                }
            )
        return pd.DataFrame(items)

    def _item(self, number: int, n_tokens: int, values: Mapping[str, float]) -> dict[str, Any]:
        label = self.labels[number]
        predicted = max(values, key=lambda name: values[name])
        others = max(value for name, value in values.items() if name != label)
        readable = all(math.isfinite(value) for value in values.values())
        return {
            "item": number,
            "cluster": self.clusters[number],
            "n_tokens": n_tokens,
            "value": float(predicted == label) if readable else math.nan,
            "label": label,
            "predicted": predicted,
            "margin": values[label] - others,
        }

    def _rows(
        self, model: PreTrainedModel, tokenizer: Any, prompts: list[list[int]], names: Sequence[str]
    ) -> tuple[list[list[int]], list[int]]:
        """Tokenize every prompt with every answer, and find the first token of the answer."""
        rows, firsts = [], []
        limit = context_length(model, tokenizer)
        for number, prompt in enumerate(self.prompts):
            before = prompts[number]
            for name in names:
                row = prompt_ids(tokenizer, prompt + self.verbalizer[name])
                if row[: len(before)] != before or len(row) == len(before) or not before:
                    raise ValueError(
                        f"The tokenizer merges the end of prompt {number} with the answer {self.verbalizer[name]!r}, "
                        "so the answer has no separate likelihood. End the prompt without a space, and start the "
                        "answers with one."
                    )
                if limit is not None and len(row) > limit:
                    raise ValueError(
                        f"Item {number} has {len(row)} tokens with its answer; the model reads {limit}. Shorten it."
                    )
                rows.append(row)
                firsts.append(len(before))
        return rows, firsts


def _written_label(raw: object, here: str) -> str | None:
    """Return a label of a file as text, None if it is missing."""
    if is_missing(raw):
        return None
    if not isinstance(raw, str | Number):
        raise TypeError(f"{here} has the label {raw!r} ({type(raw).__name__}); use a text or a number.")
    return plain(raw) or None


def fill(prompt: str, item: Mapping[str, str], name: str) -> str:
    """Insert an item's texts into a prompt; braces inside the texts are not interpreted.

    Raises
    ------
    ValueError
        If the prompt has a placeholder without a text in the item.
    """
    missing = [field for field in _FIELD.findall(prompt) if field not in item]
    if missing and list(item) != ["text"]:
        raise ValueError(
            f"The prompt of {name} has a placeholder for {missing[0]!r}; the items have {', '.join(map(repr, item))}. "
            "Use one of these."
        )
    return _FIELD.sub(lambda match: item.get(match[1], match[0]), prompt)
