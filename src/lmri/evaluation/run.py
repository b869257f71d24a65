"""Evaluation: tasks × conditions → item rows, each lesion beside its matched controls."""

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pandas as pd
from transformers import PreTrainedModel

from lmri.controls import Controls
from lmri.evaluation.plan import identity, make_plan, plan_row
from lmri.exceptions import DataWarning
from lmri.interventions import Intervention
from lmri.models import alterations, describe_model, hashes
from lmri.scores import INTACT, Scores
from lmri.tasks import Task

Rows = list[dict[str, Any]]


def evaluate(
    model: PreTrainedModel,
    tokenizer: Any,
    tasks: Sequence[Task],
    conditions: Mapping[str, Intervention],
    controls: Controls | None = None,
    seed: int = 0,
    strict: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Scores:
    """Score a model intact, under every condition, and under every control of each.

    Parameters
    ----------
    model : PreTrainedModel
        Left as it was.
    tokenizer : PreTrainedTokenizer
        Its tokenizer.
    tasks : sequence of Task
        Such as ``lmri.tasks.Perplexity(recording.test_texts)``.
    conditions : mapping of str to Intervention
        By the name that tables give them.
    controls : MatchedControls, EnergyMatchedControls or PermutedControls, optional
        Drawn for every condition on a network or union that is not empty. What has to be known of those of a network is
        warned of, and stands in its row.
    seed : int, default=0
        Of the controls and of the bootstrap.
    strict : bool, default=False
        Refuse other weights than those recorded.
    progress : callable, optional
        Called with evaluations done and in all.

    Returns
    -------
    Scores
        Item rows; ``scores.summary()`` is the table.
    """
    tasks = list(tasks)
    if not tasks:
        raise ValueError("tasks is empty; give at least one, such as lmri.tasks.Perplexity(texts).")
    names = [task.info.name for task in tasks]
    if len(set(names)) < len(names):
        raise ValueError(f"The tasks are named {names}; each needs a name of its own (name=).")
    if INTACT in conditions:
        raise ValueError(f"A condition is named {INTACT!r}, which is the model without any. Rename it.")
    _warn_of_overlap(tasks, conditions)
    if alterations(model):
        warnings.warn(
            f"The model is under an intervention already ({'; '.join(alterations(model))}), so what is called "
            f"{INTACT!r} is not. Evaluate outside of the with block.",
            DataWarning,
            stacklevel=2,
        )

    made_of = identity(model, tasks, conditions, controls, seed)
    plan = list(make_plan(conditions, controls, seed))
    rows: list[dict[str, object]] = [plan_row(INTACT, INTACT, "", 0)]
    items: list[dict[str, object]] = []
    n_all, n_done = (1 + len(plan)) * len(tasks), 0

    def score(task: Task, condition: str) -> Rows:
        # Plain rows: thousands of small tables, kept between large activations, would fragment the memory.
        scored = task.score(model, tokenizer).to_dict("records")
        return [{"condition": condition, "task": task.info.name, **row} for row in scored]

    def count() -> None:
        nonlocal n_done
        n_done += 1
        if progress is not None:
            progress(n_done, n_all)

    intact = {}
    for task in tasks:
        intact[task.info.name] = score(task, INTACT)
        items.extend(intact[task.info.name])
        count()
    _warn_of_guessing(model, tasks, intact)
    for row, intervention in plan:
        rows.append(row)
        name = str(row["condition"])
        if not intervention.edits():
            # Nothing changes, as for an empty network, so nothing needs to be run.
            for task in tasks:
                items.extend({**row, "condition": name} for row in intact[task.info.name])
                count()
            continue
        with intervention.on(model, strict=strict):
            for task in tasks:
                items.extend(score(task, name))
                count()
    merged = pd.DataFrame(items)
    for column in ("label", "predicted"):
        if column in merged:
            merged[column] = merged[column].fillna("")
    return Scores(merged, pd.DataFrame(rows), [task.info for task in tasks], seed, describe_model(model), made_of)


def _warn_of_guessing(model: PreTrainedModel, tasks: Sequence[Task], intact: Mapping[str, Rows]) -> None:
    uniform = math.log(model.get_input_embeddings().weight.shape[0])
    for task in tasks:
        values = [float(row["value"]) for row in intact[task.info.name]]
        mean = sum(values) / len(values)
        if task.info.metric == "nats_per_token" and mean > uniform:
            warnings.warn(
                f"The intact model predicts {task.info.name!r} worse than guessing ({mean:.2f} nats per token; "
                f"guessing gives {uniform:.2f}). It knows no such texts, and lesions say nothing there.",
                DataWarning,
                stacklevel=3,
            )


def _warn_of_overlap(tasks: Sequence[Task], conditions: Mapping[str, Intervention]) -> None:
    fitted: frozenset[str] = frozenset().union(*(one.fit_texts for one in conditions.values()))
    for task in tasks:
        scored = hashes(task.texts)
        if scored & fitted:
            warnings.warn(
                f"{len(scored & fitted)} of the {len(scored)} texts of {task.info.name!r} are among those in which the "
                "networks were found. Score held-out texts instead: recording.test_texts.",
                DataWarning,
                stacklevel=3,
            )
