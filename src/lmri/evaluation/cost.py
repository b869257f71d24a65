"""How long an evaluation would take."""

import time
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
from transformers import PreTrainedModel

from lmri.controls import Controls
from lmri.evaluation.plan import make_plan
from lmri.interventions import Intervention
from lmri.tasks import Task


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
    n_evaluations = 1 + sum(bool(intervention.edits()) for _, intervention in make_plan(conditions, controls, seed))
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
