"""Double dissociation: one network matters for one task, and another network for another task.

Any harmful lesion affects some task more than another, if only because tasks differ in difficulty and scale. Effects
are therefore expressed in standard deviations of the effects of the network's matched controls on the same task, and
the crossed interaction is tested: (A on 1 - A on 2) - (B on 1 - B on 2).
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd

from lmri.lesions.controls import SHARED
from lmri.lesions.scores import ALPHA, FEWEST_CLUSTERS, Scores, TaskInfo
from lmri.networks.thresholds import q_values
from lmri.storage.outcome import Outcome

FEWEST_CONTROLS = 19
"""Smallest number of controls with which p of a network can reach 0.05."""

COLUMNS = (
    "network_a", "task_1", "network_b", "task_2", "control_family", "a_on_1", "a_on_2", "b_on_1", "b_on_2",
    "interaction", "ci_low", "ci_high", "p_interaction", "p_a", "p_b", "p", "q", "dissociated", "n_controls_a",
    "n_controls_b",
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class Dissociations:
    """Result of `dissociate`.

    Parameters
    ----------
    table : DataFrame
        One row per pair of networks and pair of tasks, with `COLUMNS`; see `dissociate`.
    effects : DataFrame
        Effects of single networks: ``network, task, control_family, diff, control_mean, control_sd, effect, ci_low,
        ci_high, n_controls``. `diff` is in the units of the task, and positive is worse; `effect` is in sd of the
        controls, and ``ci_low`` to ``ci_high`` its 95 % interval over resampled texts, with the sd held fixed.
    """

    table: pd.DataFrame
    effects: pd.DataFrame

    def to_dict(self) -> dict[str, Any]:
        """Return both tables as lists of rows."""
        return {"dissociations": self.table.to_dict("records"), "effects": self.effects.to_dict("records")}


@dataclass(frozen=True, eq=False)
class _Harm:
    """Effects of a network (first set) and its matched controls on tasks; positive is worse."""

    network: str
    family: str
    sets: np.ndarray  # (1 + n_controls, n_tasks)
    beyond: np.ndarray  # (n_bootstrap, n_tasks), network minus mean of its controls, over resampled texts

    @property
    def mean(self) -> np.ndarray:
        return self.sets[1:].mean(axis=0)

    @property
    def sd(self) -> np.ndarray:
        return self.sets[1:].std(axis=0, ddof=1)

    @property
    def effect(self) -> np.ndarray:
        """Effect of the network in sd of its controls: ``(n_tasks,)``."""
        return _divided(self.sets[0] - self.mean, self.sd)

    def contrast(self, first: int, second: int) -> np.ndarray:
        """Compute how much more each set harms the first task than the second: ``(1 + n_controls,)``.

        Network and controls are standardized by the same mean and sd, so that they are exchangeable under the null.
        """
        scaled = _divided(self.sets - self.sets.mean(axis=0), self.sets.std(axis=0, ddof=1))
        return scaled[:, first] - scaled[:, second]

    def resampled_effect(self) -> np.ndarray:
        """Return the effect in every bootstrap sample of texts, in sd of the controls over all texts."""
        return _divided(self.beyond, self.sd)


def _divided(values: np.ndarray, scale: np.ndarray) -> np.ndarray:
    return np.divide(
        values, scale, out=np.full(np.shape(values), np.nan), where=np.broadcast_to(scale > 0, values.shape)
    )


def dissociate(
    scores: Scores, networks: Iterable[str] | None = None, tasks: Iterable[str] | None = None
) -> Dissociations:
    """Test every pair of networks on every pair of tasks for a double dissociation.

    Parameters
    ----------
    scores : Scores
        Scores of lesions of at least two networks on at least two tasks, with matched controls.
    networks : iterable of str, optional
        Conditions to test; by default all networks with controls.
    tasks : iterable of str, optional
        Tasks to test; all by default.

    Returns
    -------
    Dissociations
        In its ``table``, networks and tasks are ordered such that the interaction is positive: if there is a
        dissociation, A matters for task 1 and B for task 2.

        ``a_on_1`` ... ``b_on_2``
            Harm of the lesion relative to its controls, in sd of the controls.
        ``interaction``
            ``(a_on_1 - a_on_2) - (b_on_1 - b_on_2)``; ``ci_low`` to ``ci_high`` is its 95 % interval over resampled
            texts (the clusters of the tasks), with the controls' sd held fixed.
        ``p_interaction``
            Two-sided p of the interaction: the share of pairs of sets (one from A and its controls, one from B and its
            controls) whose interaction is at least as large. It tests whether this pair of networks is unusual among
            such pairs.
        ``p_a``, ``p_b``
            Two-sided p of the simple effects: A harms task 1 more than task 2, and B harms task 2 more than task 1,
            each relative to its own controls.
        ``p``
            Largest of the three, as all must hold. ``q`` adjusts it for the false discovery rate over all rows, and is
            missing if even the smallest possible p could not be significant.
        ``dissociated``
            1 if q ≤ 0.05 and both lesions do harm (``a_on_1`` and ``b_on_2`` above 0).

    Raises
    ------
    ValueError
        If there are fewer than two networks with controls or fewer than two tasks, if a name is unknown, or if a
        network has too few controls for any p to reach 0.05.

    Notes
    -----
    A pair of tasks in one direction only is a single dissociation: B may simply be a weaker network, or task 2 a harder
    task (Shallice, 1988).
    """
    chosen = _tasks(scores, tasks)
    harms = _harms(scores, chosen, networks)
    rows = [
        row
        for a, b in combinations(harms, 2)
        if a.family == b.family
        for first, second in combinations(range(len(chosen)), 2)
        for row in [_row(a, b, first, second, chosen)]
    ]
    table = pd.DataFrame(rows, columns=list(COLUMNS))
    for _, family in table.groupby("control_family"):
        floor = 1 / (1 + family[["n_controls_a", "n_controls_b"]].to_numpy().min())
        if floor <= ALPHA:
            table.loc[family.index, "q"] = q_values(family["p"].to_numpy(dtype=float))
    harmful = (table["a_on_1"] > 0) & (table["b_on_2"] > 0)
    table["dissociated"] = ((table["q"].astype(float) <= ALPHA) & harmful).astype(int)
    effects = [
        {
            "network": harm.network,
            "task": task.name,
            "control_family": harm.family,
            "diff": harm.sets[0, index],
            "control_mean": harm.mean[index],
            "control_sd": harm.sd[index],
            "effect": harm.effect[index],
            **dict(zip(("ci_low", "ci_high"), _interval(harm.resampled_effect()[:, index]), strict=True)),
            "n_controls": len(harm.sets) - 1,
        }
        for harm in harms
        for index, task in enumerate(chosen)
    ]
    return Dissociations(table, pd.DataFrame(effects))


def _tasks(scores: Scores, tasks: Iterable[str] | None) -> list[TaskInfo]:
    known = {task.name: task for task in scores.tasks}
    names = list(known) if tasks is None else list(tasks)
    unknown = [name for name in names if name not in known]
    if unknown:
        raise ValueError(f"There are no scores of {unknown}; choose from {list(known)}.")
    if len(set(names)) < 2:
        raise ValueError(
            f"A dissociation needs two tasks, but there is only {names}. Score the same lesions on another task."
        )
    return [known[name] for name in dict.fromkeys(names)]


def _harms(scores: Scores, tasks: Sequence[TaskInfo], networks: Iterable[str] | None) -> list[_Harm]:
    controls = scores.conditions[scores.conditions["kind"] == "control"]
    single = set(scores.conditions.loc[scores.conditions["kind"] == "network", "condition"])
    names = [name for name in controls["control_of"].unique() if name in single] if networks is None else list(networks)
    unknown = [name for name in names if name not in set(controls["control_of"])]
    if unknown:
        raise ValueError(f"There are no controls of {unknown}; choose from {sorted(controls['control_of'].unique())}.")
    if len(set(names)) < 2:
        raise ValueError(
            f"A dissociation needs two networks with matched controls, but there are {len(set(names))}. Lesion more "
            "networks, or lower the threshold: a network without neurons has no controls."
        )
    if scores.design.stop_after:
        raise ValueError(
            "The controls of these scores stopped early, once they did as much harm as the network, so they are a "
            "biased sample. Score again with all controls (--stop-after 0); existing scores are reused."
        )
    harms = []
    for name in dict.fromkeys(names):
        for family, draws in controls[controls["control_of"] == name].groupby("control_family", sort=False):
            if family == SHARED:
                continue  # larger than the network, which is conservative for harm, but not for a difference
            if len(draws) < FEWEST_CONTROLS:
                raise ValueError(
                    f"{name!r} has {len(draws)} controls; with fewer than {FEWEST_CONTROLS} no p can reach {ALPHA}. "
                    "Score again with more controls."
                )
            diffs = [scores.diffs(task, [name, *draws["condition"]]) for task in tasks]
            signs = np.array([-1.0 if task.higher_is_better else 1.0 for task in tasks])
            whole = np.stack([diff[0] for diff in diffs], axis=-1) * signs
            beyond = np.stack([diff[1][:, 0] - diff[1][:, 1:].mean(axis=1) for diff in diffs], axis=-1) * signs
            beyond[:, [_n_clusters(scores, task) < FEWEST_CLUSTERS for task in tasks]] = np.nan
            harms.append(_Harm(name, str(family), whole, beyond))
    if not harms:
        raise ValueError(
            "All controls are shared by networks of similar size and larger than the networks. Score again with "
            "--controls layer."
        )
    return harms


def _n_clusters(scores: Scores, task: TaskInfo) -> int:
    return int(scores.items.loc[scores.items["task"] == task.name, "cluster"].nunique())


def _row(a: _Harm, b: _Harm, first: int, second: int, tasks: Sequence[TaskInfo]) -> dict[str, object]:
    effect = (a.effect[first] - a.effect[second]) - (b.effect[first] - b.effect[second])
    if effect < 0:  # ordered such that it is positive
        first, second, effect = second, first, -effect
    own_a, own_b = a.contrast(first, second), b.contrast(first, second)
    drawn = a.resampled_effect(), b.resampled_effect()
    resampled = (drawn[0][:, first] - drawn[0][:, second]) - (drawn[1][:, first] - drawn[1][:, second])
    low, high = _interval(resampled)
    p = {
        "p_interaction": _two_sided(own_a[:, None] - own_b[None, :]),
        "p_a": _two_sided(own_a),
        "p_b": _two_sided(own_b),
    }
    # Simple effects in the opposite direction contradict the dissociation, regardless of their size.
    p["p_a"] = p["p_a"] if own_a[0] > 0 else 1.0 if np.isfinite(own_a[0]) else np.nan
    p["p_b"] = p["p_b"] if own_b[0] < 0 else 1.0 if np.isfinite(own_b[0]) else np.nan
    return {
        "network_a": a.network,
        "task_1": tasks[first].name,
        "network_b": b.network,
        "task_2": tasks[second].name,
        "control_family": a.family,
        "a_on_1": a.effect[first],
        "a_on_2": a.effect[second],
        "b_on_1": b.effect[first],
        "b_on_2": b.effect[second],
        "interaction": effect,
        "ci_low": low,
        "ci_high": high,
        **p,
        "p": np.max(list(p.values())),
        "n_controls_a": len(a.sets) - 1,
        "n_controls_b": len(b.sets) - 1,
    }


def _interval(resampled: np.ndarray) -> tuple[float, float]:
    if not np.isfinite(resampled).any():
        return np.nan, np.nan
    low, high = np.nanpercentile(resampled, [2.5, 97.5])
    return float(low), float(high)


def dissociation_outcome(dissociations: Dissociations, of: str) -> Outcome:
    """Summarize dissociations as text, tables and one figure per family of controls.

    Parameters
    ----------
    dissociations : Dissociations
        Result of `dissociate`.
    of : str
        Name of the scores, such as the name of the evaluation.
    """
    from lmri.lesions.experiments.effects import draw_dissociations
    from lmri.space.drawing import drawing

    table = dissociations.table.sort_values("p", kind="stable")
    figures = {}
    for number, (family, effects) in enumerate(dissociations.effects.groupby("control_family", sort=False)):
        figure = draw_dissociations(effects, dissociations.table[dissociations.table["control_family"] == family])
        figures["effects" if number == 0 else f"effects-{number + 1}"] = drawing(figure, _caption(str(family)))
    return Outcome(
        "dissociate",
        f"Dissociations among the lesions of {of}",
        _text(table),
        {"dissociations": table, "effects": dissociations.effects},
        {},
        figures,
    )


def _caption(family: str) -> str:
    return (
        f"Effect of each lesion on each task relative to its controls ({family}), in sd of the controls, with the 95 % "
        "interval over texts; grey: within 1.96 sd. Filled dots are part of a double dissociation; equal letters mark "
        "the two lesions of a pair, each on the task that it harms more."
    )


def _text(table: pd.DataFrame) -> str:
    n_found, n_all = int(table["dissociated"].sum()), len(table)
    sentences = [
        f"{n_found} of {n_all} pairs of networks and tasks show a double dissociation: q ≤ {ALPHA:g} for the "
        "interaction and both simple effects jointly, and both lesions do harm."
    ]
    strongest = table[table["dissociated"] == 1].sort_values("interaction", ascending=False, kind="stable").head(3)
    sentences += [
        f"{row.network_a} matters more for {row.task_1} and {row.network_b} for {row.task_2}: interaction "
        f"{row.interaction:.1f} sd [{row.ci_low:.1f}, {row.ci_high:.1f}], p {row.p:.3g}, q {row.q:.3g}."
        for row in strongest.itertuples()
    ]
    fewest = int(table[["n_controls_a", "n_controls_b"]].to_numpy().min())
    needed = math.ceil(n_all / ALPHA) - 1
    if table["q"].isna().all():
        sentences.append(
            f"No q could be computed: {fewest} controls per network are too few, or no control affects a task."
        )
    if fewest < needed:
        sentences.append(
            f"With {fewest} controls per network no p can be below {1 / (1 + fewest):.2g}; for a single pair to reach "
            f"q ≤ {ALPHA:g} among {n_all}, {needed} are needed. Restrict the test to the networks and tasks of your "
            "hypothesis."
        )
    return " ".join(sentences) + (
        "\n\np tests whether a pair of networks is unusual among matched pairs of sets of neurons, for this model and "
        "these items; the interval shows the variation of the interaction over texts. One model is one subject."
    )


def _two_sided(values: np.ndarray) -> float:
    """Compute the share of absolute values at least as large as the first, including it, up to rounding."""
    size = np.abs(values).ravel()
    if not np.isfinite(size[0]):
        return np.nan
    return float((~(size < size[0] - 1e-9)).mean())
