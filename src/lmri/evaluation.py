"""Evaluation: tasks × conditions → item rows, each lesion beside its matched controls."""

import logging
import math
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import pandas as pd
from transformers import PreTrainedModel

from lmri.controls import Controls, random_share
from lmri.exceptions import DataWarning
from lmri.interventions import Intervention
from lmri.models import alterations, describe_model, fingerprint, hashes
from lmri.networks import Network, NetworkSet
from lmri.scores import INTACT, Scores
from lmri.storage import digest
from lmri.tasks import Task

logger = logging.getLogger(__name__)

Rows = list[dict[str, Any]]

PAPER_SHARE = 0.15
"""Share of all neurons in the paper's random control."""


def conditions_of(
    networks: NetworkSet, intervention: Callable[[Network], Intervention], seed: int = 0
) -> dict[str, Intervention]:
    """Make the conditions of the paper: each network, their union, and 15 % of all neurons at random.

    Parameters
    ----------
    networks : NetworkSet
        Thresholded.
    intervention : callable
        Such as `lmri.lesion`.
    seed : int, default=0
        Of the random neurons.
    """
    targets = [*networks, networks.union(), random_share(networks.space, PAPER_SHARE, seed)]
    return {target.name: intervention(target) for target in targets}


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
    plan = list(_plan(conditions, controls, seed))
    rows: list[dict[str, object]] = [_row(INTACT, INTACT, "", 0)]
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


def estimate_cost(
    model: PreTrainedModel,
    tokenizer: Any,
    tasks: Sequence[Task],
    conditions: Mapping[str, Intervention],
    controls: Controls | None = None,
    seed: int = 0,
) -> pd.DataFrame:
    """Say how long `evaluate` would take, by scoring the intact model once.

    Parameters
    ----------
    model, tokenizer, tasks, conditions, controls, seed
        As for `evaluate`.

    Returns
    -------
    DataFrame
        A row a task: ``task, n_items, seconds`` of one evaluation, ``n_evaluations`` of the intact model and of all
        conditions and controls that change anything, and ``total_seconds``.
    """
    n_evaluations = 1 + sum(bool(intervention.edits()) for _, intervention in _plan(conditions, controls, seed))
    rows = []
    for task in tasks:
        start = time.perf_counter()
        n_items = len(task.score(model, tokenizer))
        seconds = time.perf_counter() - start
        rows.append(
            {
                "task": task.info.name,
                "n_items": n_items,
                "seconds": seconds,
                "n_evaluations": n_evaluations,
                "total_seconds": seconds * n_evaluations,
            }
        )
    return pd.DataFrame(rows)


def identity(
    model: PreTrainedModel,
    tasks: Sequence[Task],
    conditions: Mapping[str, Intervention],
    controls: Controls | None,
    seed: int,
) -> dict[str, Any]:
    """Say what scores are a function of, as hashes: two evaluations of one identity are the same evaluation."""
    return {
        "model": fingerprint(model, head=True),
        "tasks": {task.info.name: task.digest() for task in tasks},
        "conditions": digest([[name, one.digest()] for name, one in conditions.items()]),
        "controls": controls.identity() if controls else None,
        "controls_seed": seed,
        "altered": alterations(model),
    }


def _row(condition: str, kind: str, network: str, n_neurons: int, **control: object) -> dict[str, object]:
    return {
        "condition": condition,
        "kind": kind,
        "network": network,
        "n_neurons": n_neurons,
        "control_of": control.get("control_of", ""),
        "control_family": control.get("control_family", ""),
        "draw": control.get("draw", -1),
        "note": control.get("note", ""),
    }


def _plan(
    conditions: Mapping[str, Intervention], controls: Controls | None, seed: int
) -> Iterator[tuple[dict[str, object], Intervention]]:
    for name, intervention in conditions.items():
        target = intervention.target
        controlled = controls is not None and target.kind in ("network", "union") and target.n_neurons > 0
        problem = controls.problem(target) if controls is not None and controlled else ""
        note = problem or (controls.note(target) if controls is not None and controlled else "")
        if note:
            warnings.warn(f"{name}: {note}.", DataWarning, stacklevel=3)
        yield _row(name, target.kind, target.name, target.n_neurons, note=note), intervention
        if controls is None or not controlled or problem:
            continue
        for number in range(controls.n):
            control = controls.draw(target, number, seed)
            row = _row(
                f"{name}/control-{number:03d}",
                "control",
                control.name,
                control.n_neurons,
                control_of=name,
                control_family=controls.family,
                draw=number,
            )
            yield row, intervention.on_other(control)


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
