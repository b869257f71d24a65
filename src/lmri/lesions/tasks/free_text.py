"""Free text: answers that a causal model generates are compared with references."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import pandas as pd
from transformers import PreTrainedModel

from lmri.lesions.scores import TaskInfo
from lmri.lesions.tasks.base import check_causal, prompt_ids, read_prompts, remark
from lmri.lesions.tasks.classification import fill
from lmri.lesions.tasks.generation import generate
from lmri.models import context_length
from lmri.storage import digest, text_hash

Measure = Callable[[str, Sequence[str]], float]


class FreeText:
    """Greedy answers of a causal model, compared with reference texts.

    Every text is a valid answer, so parsing cannot fail; an empty one scores 0. If the model gives NaN, there is no
    value.

    Parameters
    ----------
    items : iterable of mapping of str to str
        Texts of each item, by their names in the prompt.
    references : iterable of sequence of str
        Correct answers of each item, at least one.
    prompt : str
        Prompt with the fields in braces.
    measures : mapping of str to callable
        Functions from answer and references to a score, higher is better; the first is the main metric.
    clusters : iterable of str, optional
        Unit of resampling of each item; by default each item is a unit.
    shortened : str, optional
        Field that is truncated if a prompt exceeds the context; without it such a prompt raises an error.
    first_line : bool, default=True
        Whether only the first line of the answer counts.
    max_new_tokens : int, default=32
        Largest number of tokens of an answer.
    name, batch_size, split, note
        Parameters as in `lmri.tasks.Classification`.
    """

    def __init__(
        self,
        items: Iterable[Mapping[str, str]],
        references: Iterable[Sequence[str]],
        prompt: str,
        measures: Mapping[str, Measure],
        clusters: Iterable[str] | None = None,
        shortened: str = "",
        first_line: bool = True,
        max_new_tokens: int = 32,
        name: str = "free-text",
        batch_size: int = 8,
        *,
        split: str = "",
        note: str = "",
    ) -> None:
        self.items, self.references = [dict(item) for item in items], [list(reference) for reference in references]
        self.clusters = (
            [text_hash("\x1f".join(item.values())) for item in self.items]
            if clusters is None
            else [str(cluster) for cluster in clusters]
        )
        if not self.items:
            raise ValueError(f"{name} has no items. Give at least one item with its references.")
        if not len(self.items) == len(self.references) == len(self.clusters) or not all(self.references):
            raise ValueError(
                f"{name} has {len(self.items)} items, {len(self.references)} lists of references and "
                f"{len(self.clusters)} clusters; each item needs a cluster and at least one reference."
            )
        if max_new_tokens < 1:
            raise ValueError(f"max_new_tokens is {max_new_tokens}; it must be at least 1.")
        self.prompt, self.measures, self.shortened = prompt, dict(measures), shortened
        self.prompts = [fill(prompt, item, name) for item in self.items]
        self.texts = list(dict.fromkeys(text for item in self.items for text in item.values()))
        self.first_line, self.max_new_tokens, self.batch_size = first_line, max_new_tokens, batch_size
        metric, *also = self.measures
        self.info = TaskInfo(name, "generate", metric, True, False, also=tuple(also), split=split, note=note)

    def digest(self) -> str:
        """Return the hash of prompts, references, clusters and generation settings."""
        how = [self.shortened, self.first_line, self.max_new_tokens, self.batch_size]
        return digest([self.info.identity(), self.prompts, self.references, self.clusters, how])

    def score(self, model: PreTrainedModel, tokenizer: Any) -> pd.DataFrame:
        """Score every item: ``value`` is the main metric; further metrics have separate columns."""
        _, self.info = read_prompts(self.info, tokenizer, self.prompts)
        limit = context_length(model, tokenizer)
        budget = None if limit is None else limit - self.max_new_tokens
        encoded = [self._row(number, tokenizer, budget) for number in range(len(self.items))]
        rows, n_cut = [row for row, _ in encoded], sum(cut for _, cut in encoded)
        check_causal(model, self.info.name, rows, tokenizer)
        if n_cut:
            text = f"{n_cut} of {len(rows)} items cut at the context ({self.shortened})"
            self.info = remark(self.info, text)
        answers = generate(model, tokenizer, rows, self.max_new_tokens, self.batch_size)
        items = []
        metric, *also = self.measures
        for number, answer in enumerate(answers):
            text = (answer or "").strip()
            if self.first_line:
                text = text.split("\n")[0].strip()
            values = {
                name: float("nan") if answer is None else measure(text, self.references[number])
                for name, measure in self.measures.items()
            }
            items.append(
                {
                    "item": number,
                    "cluster": self.clusters[number],
                    "n_tokens": len(rows[number]),
                    "value": values[metric],
                    "answer": text,
                    **{name: values[name] for name in also},
                }
            )
        return pd.DataFrame(items)

    def _row(self, number: int, tokenizer: Any, budget: int | None) -> tuple[list[int], bool]:
        ids = prompt_ids(tokenizer, self.prompts[number])
        whole = len(ids)
        item = dict(self.items[number])
        while budget is not None and len(ids) > budget:
            text = item.get(self.shortened, "")
            if not text or budget < 1:
                raise ValueError(
                    f"Item {number} of {self.info.name!r} has {whole} tokens, and {self.max_new_tokens} more are to be "
                    f"generated; the model reads {budget + self.max_new_tokens}. Shorten it, or name the field to cut."
                )
            # Truncation is by characters, since tokens at the boundary depend on their context; a few rounds suffice.
            item[self.shortened] = text[: min(len(text) - 1, len(text) * budget // len(ids))]
            ids = prompt_ids(tokenizer, fill(self.prompt, item, self.info.name))
        if not ids:
            raise ValueError(
                f"The prompt of item {number} of {self.info.name!r} has no tokens. Give a non-empty prompt."
            )
        return ids, len(ids) < whole
