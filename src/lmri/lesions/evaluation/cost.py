"""How long an evaluation would take."""

import time
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
from transformers import PreTrainedModel

from lmri.lesions.controls import Controls
from lmri.lesions.evaluation.plan import Conditions, make_plans
from lmri.lesions.evaluation.store import ItemStore
from lmri.lesions.tasks import Task


def estimate_cost(
    model: PreTrainedModel,
    tokenizer: Any,
    tasks: Sequence[Task],
    conditions: Mapping[str, Conditions],
    controls: Controls | Sequence[Controls] | None = None,
    seed: int = 0,
    store: ItemStore | None = None,
) -> pd.DataFrame:
    """Say how long `evaluate` would take, by scoring the intact model once.

    Parameters
    ----------
    model, tokenizer, tasks, conditions, controls, seed, store
        As for `evaluate`; what is stored costs nothing.

    Returns
    -------
    DataFrame
        A row a task: ``task, n_items, seconds`` of one evaluation, ``n_evaluations`` of the intact model and of all
        different conditions and controls that change anything and are not stored, and ``total_seconds``. Stopping
        early, and not running the layers below a lesion, can only make it less.
    """
    runs = [run for plan in make_plans(conditions, controls, seed) for run in plan.runs()]
    # Equal sets of neurons, such as shared controls, are scored once.
    digests = {intervention.digest() for run in runs for intervention in run.interventions if intervention.edits()}
    rows = []
    for task in tasks:
        key = store.key(model, tokenizer, task) if store else ""
        start = time.perf_counter()
        n_items = len(task.score(model, tokenizer))
        seconds = time.perf_counter() - start
        n_stored = sum(store.find(key, digest, task) is not None for digest in digests) if store else 0
        n_evaluations = 1 + len(digests) - n_stored
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
