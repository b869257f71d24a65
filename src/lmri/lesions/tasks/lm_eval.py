"""Tasks of EleutherAI's lm-evaluation-harness, scored on the live model, intact or under an intervention.

The harness is an optional extra and is imported when one of its tasks is created. It builds the prompts and scores the
answers; lmri handles conditions, item rows and statistics. The response cache of the harness is never used, because its
key does not include lesions.
"""

import importlib
import json
import math
import warnings
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, overload

import numpy as np
import pandas as pd
import torch
from transformers import PreTrainedModel

from lmri.exceptions import DataWarning
from lmri.lesions.scores import TaskInfo
from lmri.lesions.tasks.base import check_causal
from lmri.lesions.tasks.lm_eval_harness import import_harness, load_tasks, prepare, quiet, wrap
from lmri.models import context_length, evaluation_mode, tokenize
from lmri.storage import digest, text_hash

SCORINGS = {"multiple_choice": "loglikelihood", "loglikelihood": "loglikelihood", "generate_until": "generate"}
"""Scoring method by the harness' kind of task."""

UNREAD = "[invalid]"
"""Output of the harness' filters if they find no answer."""


class LMEval(Sequence["HarnessTask"]):
    """Tasks of the lm-evaluation-harness [1]_, as a sequence for `lmri.evaluate`.

    Parameters
    ----------
    tasks : sequence of str
        Names of tasks, names of groups or tags (all of their tasks are loaded), or paths of task files (YAML).
    include : Path, optional
        Folder of user-defined task files. Data of the harness' tasks are downloaded from the Hugging Face hub.
    limit : int, optional
        Number of documents to score per task, starting with the first.
    num_fewshot : int, optional
        Number of examples before each question; by default the task's setting.
    metric : str, optional
        Name of the metric in the harness, such as ``"acc_norm"``; by default the first metric of each task that is a
        mean over items.
    filter : str, optional
        Name of the task's filter that extracts answers; by default the first.
    cluster : str, optional
        Field of the documents that defines the unit of resampling, such as ``"premise"``; by default each document is a
        unit.
    batch_size : int, default=8
        Number of requests per forward pass.
    seed : int, default=1234
        Seed of the choice of examples.

    Examples
    --------
    >>> from lmri import tasks  # doctest: +SKIP
    >>> scores = lmri.evaluate(model, tokenizer, tasks.LMEval(["arc_easy"]), conditions)  # doctest: +SKIP

    References
    ----------
    .. [1] Gao et al. (2024). The Language Model Evaluation Harness. https://github.com/EleutherAI/lm-evaluation-harness
    """

    def __init__(
        self,
        tasks: Sequence[str],
        *,
        include: str | Path | None = None,
        limit: int | None = None,
        num_fewshot: int | None = None,
        metric: str | None = None,
        filter: str | None = None,
        cluster: str | None = None,
        batch_size: int = 8,
        seed: int = 1234,
    ) -> None:
        if isinstance(tasks, str):
            raise TypeError(f"tasks is one string; give a list: LMEval([{tasks!r}]).")
        if limit is not None and limit < 1:
            raise ValueError(f"limit is {limit}; it must be at least 1. Omit it to score all documents.")
        options: dict[str, Any] = {"limit": limit, "metric": metric, "filter": filter, "cluster": cluster}
        with quiet():
            loaded = load_tasks(list(tasks), include)
            for task in loaded.values():
                prepare(task, limit, num_fewshot, seed)
        self._tasks = [HarnessTask(name, task, batch_size=batch_size, **options) for name, task in loaded.items()]

    def __len__(self) -> int:
        return len(self._tasks)

    @overload
    def __getitem__(self, key: int) -> "HarnessTask": ...
    @overload
    def __getitem__(self, key: slice) -> "Sequence[HarnessTask]": ...
    def __getitem__(self, key: int | slice) -> "HarnessTask | Sequence[HarnessTask]":
        return self._tasks[key]

    def __repr__(self) -> str:
        return f"<LMEval: {', '.join(task.info.name for task in self)}>"


class HarnessTask:
    """One task of the harness, created by `LMEval`, with the interface of `lmri.tasks.Task`.

    Parameters
    ----------
    name : str
        Name of the task in the harness.
    task : lm_eval.api.task.Task
        Task with its requests built.
    limit, metric, filter, cluster, batch_size
        Parameters as in `LMEval`.
    """

    def __init__(
        self,
        name: str,
        task: Any,
        limit: int | None = None,
        metric: str | None = None,
        filter: str | None = None,
        cluster: str | None = None,
        batch_size: int = 8,
    ) -> None:
        kind = task.OUTPUT_TYPE
        if kind not in SCORINGS:
            raise ValueError(
                f"The task {name!r} is of the kind {kind!r}; choose from {', '.join(map(repr, SCORINGS))}. For the "
                "perplexity of texts, use lmri.lesions.tasks.Perplexity."
            )
        self._task, self._docs = task, dict(task.doc_iterator(limit=limit))
        self.metric = _metric(name, task, metric)
        self.filter = _filter(name, task, filter)
        self.batch_size = batch_size
        self.texts = [text for doc in self._docs.values() for text in _texts(task, doc)]
        self._clusters = {number: _cluster(name, doc, cluster) for number, doc in self._docs.items()}
        by_characters = kind == "multiple_choice" and self.metric == "acc_norm"
        self.info = TaskInfo(
            name,
            f"{SCORINGS[kind]}/character" if by_characters else SCORINGS[kind],
            "accuracy" if self.metric in ("acc", "acc_norm") else self.metric,
            higher_is_better=bool(task.higher_is_better()[self.metric]),
            per_token=False,
        )
        self._checked_for: int | None = None

    def digest(self) -> str:
        """Return the hash of the harness' version, all requests, and the settings that turn answers into values."""
        task = self._task
        settings = {key: str(task.get_config(key)) for key in ("metric_list", "filter_list", "generation_kwargs")}
        requests = [[instance.doc_id, instance.request_type, _plain(instance.args)] for instance in task.instances]
        answers = [_plain(task.doc_to_target(doc)) for doc in self._docs.values()]
        version = importlib.import_module("importlib.metadata").version("lm_eval")
        details = [self.info.identity(), self.metric, self.filter, self.batch_size, list(self._clusters.values())]
        return digest([version, settings, requests, answers, *details])

    def score(self, model: PreTrainedModel, tokenizer: Any) -> pd.DataFrame:
        """Score every document: ``value`` is the metric; multiple choice adds ``label, predicted, margin``."""
        requests = self._rows(model, tokenizer)
        limit = context_length(model, tokenizer)
        check_causal(model, "LMEval", [row[:limit] for row in requests.values()], tokenizer)
        with quiet(), evaluation_mode(model), torch.random.fork_rng():
            torch.manual_seed(0)  # seed for tasks that sample their answers
            lm = wrap(model, tokenizer, self.batch_size)
            self._answer(lm)
        by_doc = defaultdict(list)
        for instance in self._task.instances:
            by_doc[instance.doc_id].append(instance)
        rows = []
        for number, doc in self._docs.items():
            instances = sorted(by_doc[number], key=lambda request: request.idx)
            answers = [request.filtered_resps[self.filter] for request in instances]
            values = self._task.process_results(doc, answers)
            row = {
                "item": number,
                "cluster": self._clusters[number],
                "n_tokens": len(requests[number]),
                "value": _value(values[self.metric]),
            }
            if self._task.OUTPUT_TYPE == "generate_until":
                row["answer"] = str(answers[0])
                if answers[0] == UNREAD:
                    row["value"] = math.nan
            elif not all(math.isfinite(likelihood) for likelihood, _ in answers):
                row["value"] = math.nan  # the harness would choose the first option
            elif self._task.OUTPUT_TYPE == "multiple_choice":
                row |= self._choice(doc, [float(likelihood) for likelihood, _ in answers])
            rows.append(row)
        return pd.DataFrame(rows)

    def _answer(self, lm: Any) -> None:
        """Run all requests like the harness' loop, without rebuilding them for every condition."""
        by_kind = defaultdict(list)
        for instance in self._task.instances:
            instance.resps, instance.filtered_resps = [], {}
            by_kind[instance.request_type].extend([instance] * instance.repeats)
        for kind, requests in by_kind.items():
            for request, response in zip(requests, getattr(lm, kind)(requests, disable_tqdm=True), strict=True):
                request.resps.append(response)
        self._task.apply_filters()

    def _choice(self, doc: Any, likelihoods: list[float]) -> dict[str, Any]:
        """Return label, prediction and margin if the task has one right choice and decides by likelihood."""
        choices = [str(choice) for choice in self._task.doc_to_choice(doc)]
        target = self._task.doc_to_target(doc)
        right = choices.index(target) if isinstance(target, str) and target in choices else target
        if self.metric not in ("acc", "acc_norm") or self._task.multiple_input or len(choices) != len(likelihoods):
            return {}
        if not isinstance(right, int | np.integer) or not 0 <= right < len(choices):
            return {}
        length = [len(choice) if self.metric == "acc_norm" else 1 for choice in choices]
        scores = [likelihood / by for likelihood, by in zip(likelihoods, length, strict=True)]
        others = max(score for index, score in enumerate(scores) if index != right)
        return {
            "label": choices[right],
            "predicted": choices[int(np.argmax(scores))],
            "margin": scores[right] - others,
        }

    def _rows(self, model: PreTrainedModel, tokenizer: Any) -> dict[int, list[int]]:
        """Tokenize each document's longest request, and warn once if any exceeds the context."""
        rows: dict[int, list[int]] = defaultdict(list)
        for instance in self._task.instances:
            text = "".join(part for part in instance.args if isinstance(part, str))
            rows[instance.doc_id] = max(rows[instance.doc_id], tokenize(tokenizer, text).ids, key=len)
        limit = context_length(model, tokenizer)
        if limit is not None and self._checked_for != limit:
            self._checked_for = limit
            n_long = sum(len(row) > limit for row in rows.values())
            if n_long:
                warnings.warn(
                    f"{n_long} of {len(rows)} items of {self.info.name!r} are longer than the context of the model "
                    f"({limit} tokens); the harness truncates them from the start.",
                    DataWarning,
                    stacklevel=3,
                )
        return rows

    def __repr__(self) -> str:
        return f"<HarnessTask {self.info.name!r}: {len(self._docs)} items, {self.metric}>"


# ---------------------------------------------------------------------------------------------------------------------
# Documents and values
# ---------------------------------------------------------------------------------------------------------------------


def _metric(name: str, task: Any, metric: str | None) -> str:
    """Choose a metric that is a mean over items, as the statistics require."""
    mean = import_harness("api.metrics").mean
    means = [key for key, function in task.aggregation().items() if function is mean]
    if metric is None and means:
        return str(means[0])
    if metric not in means:
        raise ValueError(
            f"The metric of {name!r} is {metric!r}; accepted metrics are means over items: "
            f"{', '.join(map(repr, means)) or 'this task has none'} (of {', '.join(map(repr, task.aggregation()))})."
        )
    return str(metric)


def _filter(name: str, task: Any, chosen: str | None) -> str:
    names = [entry.name for entry in task._filters]
    if chosen is not None and chosen not in names:
        raise ValueError(f"The filter of {name!r} is {chosen!r}; choose from {', '.join(map(repr, names))}.")
    return chosen or names[0]


def _cluster(name: str, doc: Any, field: str | None) -> str:
    if field is None:
        return text_hash(_plain(doc))
    if not isinstance(doc, Mapping) or field not in doc:
        fields = list(doc) if isinstance(doc, Mapping) else []
        raise ValueError(f"Documents of {name!r} have no field {field!r}; they have {', '.join(map(repr, fields))}.")
    return text_hash(_plain(doc[field]))


def _texts(task: Any, doc: Any) -> list[str]:
    """List the texts of a document that may have been recorded: its fields and its prompt."""
    fields = [str(value) for value in doc.values() if isinstance(value, str)] if isinstance(doc, Mapping) else []
    return [*fields, str(task.doc_to_text(doc))]


def _plain(value: Any) -> str:
    return json.dumps(value, sort_keys=True, default=str, ensure_ascii=False)


def _value(value: Any) -> float:
    if isinstance(value, bool | int | float | np.number):
        return float(value)
    raise ValueError(f"The harness returned {value!r} for one item, which is not a number. Choose another metric=.")
