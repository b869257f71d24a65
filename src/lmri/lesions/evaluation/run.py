"""Evaluation: tasks × conditions → item rows, with matched controls for each lesion."""

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from transformers import PreTrainedModel

from lmri.exceptions import DataWarning
from lmri.lesions.controls import Controls
from lmri.lesions.controls.base import DRAWS
from lmri.lesions.evaluation.plan import (
    ConditionRun,
    Conditions,
    Plan,
    families_of,
    identity,
    make_plans,
    plan_row,
    repeats,
)
from lmri.lesions.evaluation.prefix import PrefixCache
from lmri.lesions.evaluation.store import ItemStore, Rows
from lmri.lesions.interventions import Intervention
from lmri.lesions.scores import INTACT, Design, Scores, TaskInfo, values_of
from lmri.lesions.scores.p_values import at_least_as_bad
from lmri.lesions.tasks import Task
from lmri.models import alterations, check_readable, describe_model, hashes, look_closely, transformer
from lmri.space.layers import stack_of


def evaluate(
    model: PreTrainedModel,
    tokenizer: Any,
    tasks: Sequence[Task],
    conditions: Mapping[str, Conditions],
    controls: Controls | Sequence[Controls] | None = None,
    seed: int = 0,
    strict: bool = False,
    progress: Callable[[int, int], None] | None = None,
    *,
    store: ItemStore | None = None,
    stop_after: int = 0,
) -> Scores:
    """Score a model when intact, under every condition, and under every control of each condition.

    Parameters
    ----------
    model : PreTrainedModel
        Model, which is restored afterwards.
    tokenizer : PreTrainedTokenizer
        Tokenizer of the model.
    tasks : sequence of Task
        Tasks, such as ``lmri.tasks.Perplexity(recording.test_texts)``.
    conditions : mapping of str to Intervention, or to a sequence of them
        Conditions by their name in tables. Several interventions are repetitions on the same neurons, such as lesions
        with ten seeds of donor tokens; their items are pooled.
    controls : Controls, or sequence of Controls, optional
        One or several families of controls, such as `lmri.MatchedControls`, drawn for every condition on a non-empty
        network or union. Caveats of the controls raise a warning and are stored in the row of the network.
    seed : int, default=0
        Seed of the controls and of the bootstrap.
    strict : bool, default=False
        Whether to refuse weights that differ from the recorded ones.
    progress : callable, optional
        Called with the number of finished evaluations and the total.
    store : ItemStore, optional
        Store to which item rows are written as they are computed, such as ``study.item_store()``: an interrupted
        evaluation resumes, controls can be added later, and no evaluation is run twice.
    stop_after : int, default=0
        Number N of controls after which drawing stops: no more controls are drawn for a condition once N of them did at
        least as much harm in every task and metric; p is then the sequential p of Besag and Clifford. 0 draws all
        controls.

    Returns
    -------
    Scores
        Item rows; ``scores.summary()`` computes the table.

    Notes
    -----
    Activations below the first layer that an intervention changes are reused from the intact run, so that lesions of
    deep layers cost less. The results are identical.
    """
    tasks = list(tasks)
    check_readable(model)
    model = transformer(model)
    look_closely(model)
    _check(tasks, conditions, stop_after)
    _warn_of_overlap(tasks, conditions)
    altered = alterations(model)
    if altered:
        warnings.warn(
            f"The model is already under an intervention ({'; '.join(altered)}), so the condition {INTACT!r} is not "
            "the intact model. Evaluate outside of the with block.",
            DataWarning,
            stacklevel=2,
        )
    made_of = identity(model, tasks, conditions, controls, seed, stop_after)
    plans = make_plans(conditions, controls, seed)
    # A store identifies rows by the weights, which do not identify an altered model.
    item_store = ItemStore() if store is None or altered else store
    run = _Run(model, tokenizer, tasks, plans, strict, stop_after, item_store, progress)
    items, rows = run.all()
    families = families_of(controls)
    design = Design(
        stop_after,
        max((family.n for family in families), default=0),
        tuple(family.family for family in families if family.identity().get("draws") == DRAWS),
    )
    return Scores(items, rows, [task.info for task in tasks], seed, describe_model(model), made_of, design)


class _Run:
    """State of a running evaluation."""

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: Any,
        tasks: Sequence[Task],
        plans: Sequence[Plan],
        strict: bool,
        stop_after: int,
        store: ItemStore,
        progress: Callable[[int, int], None] | None,
    ) -> None:
        self.model, self.tokenizer, self.tasks, self.plans = model, tokenizer, tasks, plans
        self.strict, self.stop_after, self.store, self.progress = strict, stop_after, store, progress
        self.keys = {task.info.name: store.key(model, tokenizer, task) for task in tasks}
        self.prefix = PrefixCache(
            model, {first_layer(intervention) for plan in plans for intervention in plan.run.interventions}
        )
        self.intact: dict[str, Rows] = {}
        self.items: Rows = []
        self.rows: list[dict[str, Any]] = []
        self.n_done = 0
        self.n_all = (1 + sum(1 + sum(plan.n_draws) for plan in plans)) * len(tasks)

    def all(self) -> tuple[pd.DataFrame, pd.DataFrame]:
        self._score_intact()
        for plan in self.plans:
            condition_rows = self._score(plan.run)
            for draw, n in zip(plan.families, plan.n_draws, strict=True):
                self._score_controls(condition_rows, draw, n)
        items = pd.DataFrame(self.items)
        for column in ("label", "predicted"):
            if column in items:
                items[column] = items[column].fillna("")
        if "repeat" in items:
            items["repeat"] = items["repeat"].fillna(-1).astype(int)
        return items, pd.DataFrame(self.rows)

    def _count(self, n: int = 1) -> None:
        for _ in range(n):
            self.n_done += 1
            if self.progress is not None:
                self.progress(self.n_done, self.n_all)

    def _score_intact(self) -> None:
        self.rows.append(plan_row(INTACT, INTACT, "", 0))
        with self.prefix.keeping():
            for task in self.tasks:
                # Always scored, to check that stored rows come from a model with the same results here.
                live = _rows(task, self.model, self.tokenizer)
                rows = self.store.check(self.keys[task.info.name], task, live)
                self.intact[task.info.name] = rows
                self.items.extend(_named(rows, INTACT, task))
                self._count()
        self.prefix.check()
        _warn_of_guessing(self.model, self.tasks, self.intact)

    def _score(self, run: ConditionRun) -> dict[str, Rows]:
        """Score one condition or control on all tasks; return its rows by task."""
        self.rows.append(run.row)
        scored: dict[str, Rows] = {task.info.name: [] for task in self.tasks}
        for number, intervention in enumerate(run.interventions):
            for name, rows in self._score_intervention(intervention).items():
                scored[name].extend({**row, "repeat": number} if len(run.interventions) > 1 else row for row in rows)
        for task in self.tasks:
            self.items.extend(_named(scored[task.info.name], run.name, task))
        self._count(len(self.tasks))
        return scored

    def _score_intervention(self, intervention: Intervention) -> dict[str, Rows]:
        if not intervention.edits():
            return self.intact  # no activation changes, as for an empty network
        known = intervention.digest()
        rows_by_task: dict[str, Rows] = {}
        missing: list[Task] = []
        for task in self.tasks:
            rows = self.store.find(self.keys[task.info.name], known, task)
            if rows is None:
                missing.append(task)
            else:
                rows_by_task[task.info.name] = rows
        if not missing:
            return rows_by_task
        with self.prefix.using(first_layer(intervention)), intervention.on(self.model, strict=self.strict):
            for task in missing:
                rows = _rows(task, self.model, self.tokenizer)
                self.store.keep(self.keys[task.info.name], known, task, rows)
                rows_by_task[task.info.name] = rows
        return rows_by_task

    def _score_controls(self, condition_rows: Mapping[str, Rows], draw: Callable[[int], ConditionRun], n: int) -> None:
        n_exceedances = {(task.info.name, metric): 0 for task in self.tasks for metric in task.info.metrics}
        bounds = {key: self._diff(condition_rows[key[0]], *key) for key in n_exceedances} if self.stop_after else {}
        for number in range(n):
            scored = self._score(draw(number))
            for key, bound in bounds.items():
                info = self._info(key[0])
                diff = np.array([self._diff(scored[key[0]], *key)])
                n_exceedances[key] += int(at_least_as_bad(diff, bound, info.higher_is_better)[0])
            if bounds and min(n_exceedances.values()) >= self.stop_after:
                self._count((n - number - 1) * len(self.tasks))
                return

    def _info(self, task: str) -> TaskInfo:
        return next(candidate.info for candidate in self.tasks if candidate.info.name == task)

    def _diff(self, rows: Rows, task: str, metric: str) -> float:
        both = [*({**row, "condition": "own"} for row in rows), *_as(self.intact[task], INTACT)]
        values = values_of(pd.DataFrame(both), self._info(task), metric)
        return values["own"] - values[INTACT]


def _rows(task: Task, model: PreTrainedModel, tokenizer: Any) -> Rows:
    # Plain dictionaries: thousands of small tables between large activations would fragment memory.
    return [
        {str(name): value for name, value in row.items()} for row in task.score(model, tokenizer).to_dict("records")
    ]


def _as(rows: Rows, condition: str) -> Rows:
    return [{**row, "condition": condition} for row in rows]


def _named(rows: Rows, condition: str, task: Task) -> Rows:
    return [{"condition": condition, "task": task.info.name, **row} for row in rows]


def first_layer(intervention: Intervention) -> int:
    """Return the first block that an intervention changes.

    It is 0 if there is no such block, or if other blocks may run before it: in a decoder stack and for shared layers.
    """
    changed, space = np.flatnonzero(intervention.changed), intervention.space
    if stack_of(space.site) == "decoder" or any(layer.call is not None for layer in space.layers):
        return 0  # a block shared by several layers runs again after a lesion
    return space.blocks[space.layer_of[changed[0]]] if changed.size else 0


def _check(tasks: Sequence[Task], conditions: Mapping[str, Conditions], stop_after: int) -> None:
    if not tasks:
        raise ValueError("tasks is empty. Give at least one, such as lmri.lesions.tasks.Perplexity(texts).")
    names = [task.info.name for task in tasks]
    if len(set(names)) < len(names):
        raise ValueError(f"The tasks are named {names}; names must be unique. Set name=.")
    if INTACT in conditions:
        raise ValueError(
            f"A condition is named {INTACT!r}, the reserved name of the model without intervention. Rename it."
        )
    if stop_after < 0:
        raise ValueError(
            f"stop_after is {stop_after}; it must be 0 (draw all controls) or a positive integer, such as 10."
        )


def _warn_of_guessing(model: PreTrainedModel, tasks: Sequence[Task], intact: Mapping[str, Rows]) -> None:
    uniform = math.log(model.get_input_embeddings().weight.shape[0])
    for task in tasks:
        values = [float(row["value"]) for row in intact[task.info.name]]
        mean = sum(values) / len(values)
        if task.info.metric == "nats_per_token" and mean > uniform:
            warnings.warn(
                f"The intact model predicts {task.info.name!r} worse than guessing ({mean:.2f} nats per token; "
                f"guessing gives {uniform:.2f}). The model has not learned such texts, so effects of lesions on them "
                "are meaningless. Choose other texts.",
                DataWarning,
                stacklevel=5,
            )


def _warn_of_overlap(tasks: Sequence[Task], conditions: Mapping[str, Conditions]) -> None:
    every = [intervention for condition in conditions.values() for intervention in repeats(condition)]
    fitted: frozenset[str] = frozenset().union(*(intervention.fit_texts for intervention in every))
    for task in tasks:
        scored = hashes(task.texts)
        if scored & fitted:
            warnings.warn(
                f"{len(scored & fitted)} of the {len(scored)} texts of {task.info.name!r} were used to find the "
                "networks, so scores on them are biased (circular analysis). Score held-out texts instead: "
                "recording.test_texts.",
                DataWarning,
                stacklevel=3,
            )
