"""Tasks of EleutherAI's lm-evaluation-harness, scored on the live model, whatever is done to it.

The harness is an optional extra, and is imported when a task of it is made. It builds the prompts and scores the
answers; conditions, item rows and statistics are ours. Its cache of responses is never used: its key does not know
that a model is lesioned.
"""

import contextlib
import copy
import importlib
import io
import json
import logging
import math
import warnings
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, overload

import numpy as np
import pandas as pd
import torch
from transformers import PreTrainedModel

from lmri.exceptions import DataWarning
from lmri.lesions.scores import TaskInfo
from lmri.lesions.tasks.base import check_causal
from lmri.models import context_length, evaluation_mode
from lmri.storage import digest, text_hash

SCORINGS = {"multiple_choice": "loglikelihood", "loglikelihood": "loglikelihood", "generate_until": "generate"}
"""Kinds of tasks, as the harness calls them, and how they are scored."""

UNREAD = "[invalid]"
"""What the harness' filters give if they find no answer."""


class LMEval(Sequence["HarnessTask"]):
    """Tasks of the lm-evaluation-harness [1]_: a sequence, as `lmri.evaluate` takes it.

    Parameters
    ----------
    tasks : sequence of str
        Names of tasks, of groups or tags, which stand for all their tasks, or paths of task files (YAML).
    include : Path, optional
        Folder of your own task files. Data of the tasks of the harness are fetched from the Hugging Face hub.
    limit : int, optional
        Only so many documents of each task, the first.
    num_fewshot : int, optional
        Examples before each question; by default what the task says.
    metric : str, optional
        As the harness calls it, such as ``"acc_norm"``; by default the first of each task that is a mean over items.
    filter : str, optional
        Which of the task's filters reads answers; by default its first.
    cluster : str, optional
        The field of documents whose value is resampled as one, such as ``"premise"``; by default each document.
    batch_size : int, default=8
        Requests read at once.
    seed : int, default=1234
        Of the examples.

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
            raise ValueError(f"limit is {limit}; it must be at least 1. Leave it out to score all documents.")
        options: dict[str, Any] = {"limit": limit, "metric": metric, "filter": filter, "cluster": cluster}
        with _quiet():
            loaded = _load(list(tasks), include)
            for task in loaded.values():
                _prepare(task, limit, num_fewshot, seed)
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
    """One task of the harness, as `LMEval` makes it; it has what `lmri.tasks.Task` asks for.

    Parameters
    ----------
    name : str
        As the harness calls it.
    task : lm_eval.api.task.Task
        With its requests built.
    limit, metric, filter, cluster, batch_size
        As in `LMEval`.
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
                f"The task {name!r} is of the kind {kind!r}; accepted are {', '.join(map(repr, SCORINGS))}. "
                "For the perplexity of texts there is lmri.lesions.tasks.Perplexity."
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
        """Hash of the harness' version, of every request, and of how answers become values."""
        task = self._task
        settings = {key: str(task.get_config(key)) for key in ("metric_list", "filter_list", "generation_kwargs")}
        requests = [[instance.doc_id, instance.request_type, _plain(instance.args)] for instance in task.instances]
        answers = [_plain(task.doc_to_target(doc)) for doc in self._docs.values()]
        version = importlib.import_module("importlib.metadata").version("lm_eval")
        details = [self.info.identity(), self.metric, self.filter, self.batch_size, list(self._clusters.values())]
        return digest([version, settings, requests, answers, *details])

    def score(self, model: PreTrainedModel, tokenizer: Any) -> pd.DataFrame:
        """Score every document: ``value`` is the metric; of multiple choices also ``label, predicted, margin``."""
        check_causal(model, "LMEval")
        lengths = self._lengths(model, tokenizer)
        with _quiet(), evaluation_mode(model), torch.random.fork_rng():
            torch.manual_seed(0)  # some tasks sample their answers
            lm = _wrap(model, tokenizer, self.batch_size)
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
                "n_tokens": lengths[number],
                "value": _value(values[self.metric]),
            }
            if self._task.OUTPUT_TYPE == "generate_until":
                row["answer"] = str(answers[0])
                if answers[0] == UNREAD:
                    row["value"] = math.nan
            elif not all(math.isfinite(likelihood) for likelihood, _ in answers):
                row["value"] = math.nan  # the harness would take the first choice
            elif self._task.OUTPUT_TYPE == "multiple_choice":
                row |= self._choice(doc, [float(likelihood) for likelihood, _ in answers])
            rows.append(row)
        return pd.DataFrame(rows)

    def _answer(self, lm: Any) -> None:
        """Run all requests, as the harness' own loop does, but without building them anew for every condition."""
        by_kind = defaultdict(list)
        for instance in self._task.instances:
            instance.resps, instance.filtered_resps = [], {}
            by_kind[instance.request_type].extend([instance] * instance.repeats)
        for kind, requests in by_kind.items():
            for request, response in zip(requests, getattr(lm, kind)(requests, disable_tqdm=True), strict=True):
                request.resps.append(response)
        self._task.apply_filters()

    def _choice(self, doc: Any, likelihoods: list[float]) -> dict[str, Any]:
        """Say which choice was the best, where the task has one right choice and picks by likelihood."""
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

    def _lengths(self, model: PreTrainedModel, tokenizer: Any) -> dict[int, int]:
        """Count the tokens of each document's longest request, and warn once if they are beyond the context."""
        lengths: dict[int, int] = defaultdict(int)
        for instance in self._task.instances:
            text = "".join(part for part in instance.args if isinstance(part, str))
            lengths[instance.doc_id] = max(lengths[instance.doc_id], len(tokenizer(text, verbose=False)["input_ids"]))
        limit = context_length(model, tokenizer)
        if limit is not None and self._checked_for != limit:
            self._checked_for = limit
            n_long = sum(length > limit for length in lengths.values())
            if n_long:
                warnings.warn(
                    f"{n_long} of {len(lengths)} items of {self.info.name!r} are longer than the {limit} tokens that "
                    "the model reads; the harness cuts them from the start.",
                    DataWarning,
                    stacklevel=3,
                )
        return lengths

    def __repr__(self) -> str:
        return f"<HarnessTask {self.info.name!r}: {len(self._docs)} items, {self.metric}>"


# ---------------------------------------------------------------------------------------------------------------------
# The harness
# ---------------------------------------------------------------------------------------------------------------------


def _harness(module: str) -> Any:
    """Import a part of the harness now, or say how to get it."""
    try:
        return importlib.import_module(f"lm_eval.{module}")
    except ImportError as error:
        raise ImportError(
            f"LMEval needs the lm-evaluation-harness, and {error.name!r} is not installed. "
            "Install both it and accelerate: pip install 'lmri[lm-eval]'."
        ) from error


def _load(names: list[str], include: str | Path | None) -> dict[str, Any]:
    manager = _harness("tasks").TaskManager
    folder = None if include is None else str(include)
    if folder is not None and not Path(folder).is_dir():
        raise ValueError(f"include is {folder!r}, which is no folder. Give the folder of your task files.")
    # Indexing all tasks of the harness takes seconds, so they are looked at only if they are needed.
    local_manager = manager(include_path=folder, include_defaults=False)
    local = all(name in local_manager.all_tasks or Path(name).is_file() for name in names)
    try:
        loaded = (local_manager if local else manager(include_path=folder)).load(names)["tasks"]
    except KeyError as error:
        raise ValueError(
            f"{error.args[0]}. Give names that the harness knows (lm-eval ls tasks), or include=, the folder of your "
            "own task files."
        ) from error
    except (OSError, ValueError, TypeError, RuntimeError, ImportError) as error:
        raise ValueError(f"The harness cannot load {names}: {error} Check the task files and their data.") from error
    if not loaded:
        raise ValueError(f"There is no task in {names}. Give at least one name, such as 'arc_easy'.")
    return dict(loaded)


def _prepare(task: Any, limit: int | None, num_fewshot: int | None, seed: int) -> None:
    """Build all requests, once, as the harness' own evaluation does."""
    if num_fewshot is not None:
        task.set_config(key="num_fewshot", value=num_fewshot)
    elif task.get_config("num_fewshot") is None:
        task.set_config(key="num_fewshot", value=0)
    task.set_fewshot_seed(seed=seed)
    task.build_all_requests(limit=limit, rank=0, world_size=1)


def _wrap(model: PreTrainedModel, tokenizer: Any, batch_size: int) -> Any:
    """Give the live model to the harness, without letting it change model or tokenizer."""
    if tokenizer.bos_token_id is None and tokenizer.eos_token_id is None:
        raise ValueError(
            "LMEval needs a tokenizer with a token for the begin or the end of a text; this one has neither. "
            "Set one that the model knows: tokenizer.eos_token = ..."
        )
    tokenizer_copy = copy.deepcopy(tokenizer)  # it sets a pad token, if there is none
    # It ties weights anew, which would undo what somebody has untied.
    model.tie_weights = lambda *args, **options: None
    try:
        return _harness("models.huggingface").HFLM(pretrained=model, tokenizer=tokenizer_copy, batch_size=batch_size)
    finally:
        del model.tie_weights


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep the harness from drawing progress bars and from telling what it does; a library does not print."""
    log = logging.getLogger("lm_eval")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        with contextlib.redirect_stderr(io.StringIO()):
            yield
    finally:
        log.setLevel(level)


# ---------------------------------------------------------------------------------------------------------------------
# Documents and values
# ---------------------------------------------------------------------------------------------------------------------


def _metric(name: str, task: Any, metric: str | None) -> str:
    """Choose a metric that is a mean over items, as all statistics here need it."""
    mean = _harness("api.metrics").mean
    means = [key for key, function in task.aggregation().items() if function is mean]
    if metric is None and means:
        return str(means[0])
    if metric not in means:
        raise ValueError(
            f"The metric of {name!r} is {metric!r}; accepted is one that is a mean over items: "
            f"{', '.join(map(repr, means)) or 'this task has none'} (of {', '.join(map(repr, task.aggregation()))})."
        )
    return str(metric)


def _filter(name: str, task: Any, chosen: str | None) -> str:
    names = [entry.name for entry in task._filters]
    if chosen is not None and chosen not in names:
        raise ValueError(f"The filter of {name!r} is {chosen!r}; accepted are {', '.join(map(repr, names))}.")
    return chosen or names[0]


def _cluster(name: str, doc: Any, field: str | None) -> str:
    if field is None:
        return text_hash(_plain(doc))
    if not isinstance(doc, Mapping) or field not in doc:
        fields = list(doc) if isinstance(doc, Mapping) else []
        raise ValueError(f"Documents of {name!r} have no field {field!r}; they have {', '.join(map(repr, fields))}.")
    return text_hash(_plain(doc[field]))


def _texts(task: Any, doc: Any) -> list[str]:
    """List what of a document may have been recorded: its texts as they are, and its prompt."""
    fields = [str(value) for value in doc.values() if isinstance(value, str)] if isinstance(doc, Mapping) else []
    return [*fields, str(task.doc_to_text(doc))]


def _plain(value: Any) -> str:
    return json.dumps(value, sort_keys=True, default=str, ensure_ascii=False)


def _value(value: Any) -> float:
    if isinstance(value, bool | int | float | np.number):
        return float(value)
    raise ValueError(f"The harness gave {value!r} for one item, which is no number. Choose another metric=.")
