"""The best dose of every network, chosen on one split of the items and scored on the other."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from lmri.lesions.experiments.amplification import Dose, dose_tables
from lmri.lesions.experiments.tails import p_better, with_q
from lmri.lesions.scores import Scores, TaskInfo
from lmri.lesions.scores.p_values import at_least_as_bad, permutation_p

BEST_COLUMNS = (
    "network", "task", "metric", "kind", "dose", "n_neurons", "diff_select", "improves_on_select", "value", "diff",
    "ci_low", "ci_high", "control_mean", "effect", "p", "q", "p_better", "q_better", "control_family", "n_controls",
    "better", "note",
)  # fmt: skip


def in_both_splits(tasks: Sequence[TaskInfo]) -> list[tuple[TaskInfo, TaskInfo, str]]:
    """Pair the tasks scored on *select* and on *test*, by their names without ``-select`` and ``-test``.

    Returns
    -------
    list of tuple
        Task on select, task on test, and their common name.
    """
    by_split = {(base_name(task), task.metric, task.split): task for task in tasks}
    return [
        (task, by_split[name, metric, "test"], name)
        for (name, metric, split), task in by_split.items()
        if split == "select" and (name, metric, "test") in by_split
    ]


def base_name(task: TaskInfo) -> str:
    """Return a task's name without the suffix of its split."""
    return task.name.removesuffix(f"-{task.split}") if task.split else task.name


def best_doses(scores: Scores, grid: Sequence[Dose]) -> pd.DataFrame:
    """Choose the best dose of every network on the select split, and report it on the test split.

    Parameters
    ----------
    scores : Scores
        Scores of `dose_conditions`, on tasks of both splits (see `in_both_splits`).
    grid : sequence of Dose
        Grid of networks and doses.

    Returns
    -------
    DataFrame
        Table with `BEST_COLUMNS`: one row per non-empty network, task (main metric) and family of controls. Empty if no
        task was scored on both splits.

        ``kind, dose``
            Dose with the best score on select; in case of ties, the first in the grid. ``diff_select`` is its
            difference from intact on select, and ``improves_on_select`` whether it was better than intact.
        ``value, diff, ci_low, ci_high``
            Results on test.
        ``control_mean, effect, p, p_better``
            Comparison with controls, for each of which the best dose was also chosen on select.
        ``q, q_better``
            p adjusted over the networks of a task, metric and family.
    """
    table, controls = dose_tables(scores, grid)
    return best_table(scores, grid, table, controls)


def best_table(scores: Scores, grid: Sequence[Dose], table: pd.DataFrame, controls: pd.DataFrame) -> pd.DataFrame:
    """Choose the best doses as `best_doses` does, from the tables of all doses and of their controls."""
    rows = []
    for select, test, name in in_both_splits(scores.tasks):
        for network in dict.fromkeys(point.network for point in grid if point.network.n_neurons):
            doses = [point for point in grid if point.network is network]
            rows += _best_rows(doses, select, test, name, table, controls, bool(scores.design.stop_after))
    best = pd.DataFrame(rows, columns=list(BEST_COLUMNS))
    if rows:
        for p, q in (("p", "q"), ("p_better", "q_better")):
            best = with_q(best, p, q, ["task", "metric", "control_family"])
    return best


def _best_rows(
    doses: Sequence[Dose],
    select: TaskInfo,
    test: TaskInfo,
    name: str,
    table: pd.DataFrame,
    controls: pd.DataFrame,
    early: bool,
) -> list[dict[str, Any]]:
    """Compute the rows of a network on a task, one per family of controls."""
    sign = 1.0 if test.higher_is_better else -1.0
    names = [point.name for point in doses]
    on_select, on_test = (
        rows_of(table, task).drop_duplicates("condition").set_index("condition") for task in (select, test)
    )
    chosen = _choice(sign * on_select.loc[names, "diff"].to_numpy(dtype=float)[None])[0]
    if chosen < 0:
        return []  # the model gave no finite score at any dose; the table of doses shows this
    dose, gained = doses[chosen], float(on_select.loc[names[chosen], "diff"])
    shared = on_test.loc[dose.name]
    common = {key: shared[key] for key in ("metric", "n_neurons", "value", "diff", "ci_low", "ci_high", "better")}
    common |= {
        "network": dose.network.name, "task": name, "kind": dose.kind, "dose": dose.dose, "diff_select": gained,
        "improves_on_select": int(sign * gained > 1e-9), "control_family": "", "n_controls": 0, "note": shared["note"],
    }  # fmt: skip
    rows = []
    network_controls = controls[controls["condition"].isin(names)]
    for family in dict.fromkeys(network_controls["control_family"]):
        of_family = network_controls[network_controls["control_family"] == family]
        select_diffs, test_diffs = (_by_draw(rows_of(of_family, task), names) for task in (select, test))
        if early:
            continue  # the drawn controls differ between doses
        picks = _choice(sign * select_diffs.to_numpy(dtype=float))
        values = test_diffs.to_numpy(dtype=float)
        # A control without a finite score at any dose has no best dose, and counts as worse than any other.
        diffs = np.where(picks >= 0, values[np.arange(len(picks)), picks], np.nan)
        diff = float(shared["diff"])
        worse = at_least_as_bad(diffs, diff, test.higher_is_better)
        rows.append(
            common
            | {
                "control_family": family, "n_controls": len(diffs), "control_mean": diffs.mean(),
                "effect": diff - diffs.mean(),
                "p": permutation_p(worse) if np.isfinite(diff) else np.nan,
                "p_better": p_better(diff, diffs, test.higher_is_better),
            }
        )  # fmt: skip
    return rows or [common]


def rows_of(table: pd.DataFrame, task: TaskInfo) -> pd.DataFrame:
    """Select the rows of a task's main metric."""
    return table[(table["task"] == task.name) & (table["metric"] == task.metric)]


def _by_draw(controls: pd.DataFrame, names: list[str]) -> pd.DataFrame:
    """Pivot the differences of controls: one row per draw (the same neurons at all doses), one column per dose."""
    return controls.pivot(index="draw", columns="condition", values="diff").reindex(columns=names)


def _choice(gains: np.ndarray) -> np.ndarray:
    """Return the index of the best dose in every row, the first in case of ties; -1 without a finite value."""
    known = np.where(np.isfinite(gains), gains, -np.inf)
    # Values that differ by rounding count as equal, so that the first of several doses without effect is chosen.
    first = (known >= known.max(axis=1, keepdims=True) - 1e-9).argmax(axis=1)
    return np.where(np.isfinite(known).any(axis=1), first, -1)
