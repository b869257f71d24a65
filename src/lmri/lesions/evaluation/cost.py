"""Run time of an evaluation, estimated."""

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
    """Estimate the run time of `evaluate` by scoring the intact model once.

    Parameters
    ----------
    model, tokenizer, tasks, conditions, controls, seed, store
        Arguments of `evaluate`; stored evaluations cost nothing.

    Returns
    -------
    DataFrame
        One row per task: ``task, n_items, seconds`` per evaluation, ``n_evaluations`` (the intact model, and all
        distinct conditions and controls that change an activation and are not stored), and ``total_seconds``. The
        estimate is an upper bound if draws stop early or if layers below a lesion are skipped.
    """
    runs = [run for plan in make_plans(conditions, controls, seed) for run in plan.runs()]
    # Identical sets of neurons, such as shared controls, are scored once.
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
