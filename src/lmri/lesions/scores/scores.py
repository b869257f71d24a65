"""Scores: item rows, and a summary with fixed columns that is a pure function of them (data only).

An *item* is the unit that a task scores, such as one text. A *condition* is the intact model, a lesion, or a control of
a lesion. The bootstrap resamples clusters, which are texts unless the task defines others; it never resamples tokens.
"""

import warnings
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from lmri.exceptions import DataWarning
from lmri.lesions.scores.columns import CONDITIONS, ITEM_TEXT, ITEMS, LABELS, SUMMARY, SUMMARY_COLUMNS, with_columns
from lmri.lesions.scores.design import Design, TaskInfo
from lmri.lesions.scores.labels import count_labels
from lmri.lesions.scores.metrics import ClusterSums, cluster_sums
from lmri.lesions.scores.p_values import at_least_as_bad, maxt_p, permutation_p, sequential_p
from lmri.networks.thresholds import q_values
from lmri.space import ModelInfo
from lmri.space.html import html_table

INTACT = "intact"
ALPHA = 0.05
N_BOOTSTRAP = 2000
FEWEST_CLUSTERS = 5
"""Smallest number of clusters for an interval: a bootstrap of fewer clusters would be far too narrow."""


@with_columns(items=ITEMS, conditions=CONDITIONS)
@dataclass(frozen=True, eq=False)
class Scores:
    """Result of an evaluation.

    Parameters
    ----------
    items : DataFrame
        Item rows. `repeat`, the labels and their margin, and `answer` are present only where they apply:

        <items>
    conditions : DataFrame
        Conditions:

        <conditions>
    tasks : sequence of TaskInfo
        Tasks in the order of the summary.
    seed : int
        Seed of the controls and of the bootstrap.
    model : ModelInfo, optional
        Evaluated model, whose weights may differ from the recorded ones.
    made_of : mapping
        Hashes of everything that determines the rows: weights, tasks, conditions and controls.
    design : Design
        Design of the controls.
    """

    items: pd.DataFrame
    conditions: pd.DataFrame
    tasks: Sequence[TaskInfo]
    seed: int
    model: ModelInfo | None = None
    made_of: Mapping[str, Any] = field(default_factory=dict)
    design: "Design" = field(default_factory=lambda: Design())

    def __post_init__(self) -> None:
        # Tasks without labels or answers leave these columns empty; files store empty text.
        gaps = [name for name in ITEM_TEXT if name in self.items and self.items[name].isna().any()]
        if gaps:
            object.__setattr__(self, "items", self.items.assign(**{name: self.items[name].fillna("") for name in gaps}))

    @with_columns(summary=SUMMARY)
    def summary(self) -> pd.DataFrame:
        """Compute the summary: one row per condition, task, metric and family of controls, ``intact`` first.

        Returns
        -------
        DataFrame
            Rows of a task's main metric come before rows of its further metrics. The columns are defined in
            `lmri.lesions.scores.columns`:

            <summary>
        """
        table = self._summary.copy()
        broken = table.loc[~np.isfinite(table["value"].astype(float)), "condition"].unique()
        if len(broken):
            warnings.warn(
                f"Under {', '.join(map(repr, broken[:5]))} the model gives NaN or infinity, or no answer could be "
                "parsed, so there is no score. Use a weaker intervention or another scoring.",
                DataWarning,
                stacklevel=2,
            )
        return table

    def _repr_html_(self) -> str:
        shown = ("condition", "n_neurons", "task", "metric", "value", "diff", "ci_low", "ci_high", "control_family")
        n_controls = int((self.conditions["kind"] == "control").sum())
        return html_table(f"Scores with {n_controls:,} controls", self._summary, (*shown, "effect", "p", "q"))

    @cached_property
    def _summary(self) -> pd.DataFrame:
        rows = [row for task in self.tasks for metric in task.metrics for row in self._rows(task, metric)]
        table = pd.DataFrame(rows, columns=list(SUMMARY_COLUMNS))
        for _, family in table[table["p"].notna()].groupby(["task", "metric", "control_family"]):
            if (1 / (1 + self._n_draws(family["n_controls"]))).max() <= ALPHA:
                table.loc[family.index, "q"] = q_values(family["p"].to_numpy(dtype=float))
        return table

    def _n_draws(self, n_controls: pd.Series) -> pd.Series:
        """Count the draws that bound p: the planned draws if drawing stopped early, else the actual ones."""
        return n_controls * 0 + self.design.n_planned if self.design.stop_after else n_controls

    @property
    def p_floor(self) -> float:
        """Smallest p that the number of controls allows; 1 if there are none."""
        draws = self.conditions.loc[self.conditions["kind"] == "control"]
        counts = self._n_draws(draws.groupby(["control_of", "control_family"]).size())
        return float(1 / (1 + counts.min())) if len(counts) else 1.0

    @property
    def controls_needed(self) -> int:
        """Number of matched controls with which a single network can reach q ≤ 0.05 among all tested networks."""
        n_tested = self.conditions.loc[self.conditions["kind"] == "control", "control_of"].nunique()
        return max(0, round(n_tested / ALPHA) - 1)

    def control_diffs(self, task: TaskInfo, metric: str | None = None) -> dict[str, np.ndarray]:
        """List the difference from intact of every control, by the condition that it controls.

        Parameters
        ----------
        task : TaskInfo
            Task in `tasks`.
        metric : str, optional
            Metric of the task; the main metric by default.
        """
        sums = self._sums(task, metric or task.metric)
        whole = np.ones((1, len(sums.clusters)))
        controls = self.conditions[self.conditions["kind"] == "control"]
        intact = sums.metric(INTACT, whole)[0]
        return {
            str(name): np.array([sums.metric(control, whole)[0] - intact for control in draws["condition"]])
            for name, draws in controls.groupby("control_of")
        }

    def diffs(self, task: TaskInfo, conditions: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """Compute differences from intact, over all texts and over bootstrap samples of texts.

        Parameters
        ----------
        task : TaskInfo
            Task in `tasks`; its main metric is used.
        conditions : sequence of str
            Scored conditions, such as networks or controls.

        Returns
        -------
        whole : ndarray of shape (n_conditions,)
            Differences over all texts, in units of the metric.
        resampled : ndarray of shape (n_bootstrap, n_conditions)
            Differences over resampled clusters. The same clusters are drawn for every condition, and for every task
            with these clusters; tasks with other texts are drawn independently.
        """
        sums = self._sums(task, task.metric)
        drawn = zlib.crc32("\n".join(sums.clusters).encode())
        counts = _resampled(len(sums.clusters), [self.seed, drawn])
        whole = np.ones((1, len(sums.clusters)))
        over_all, over_samples = (
            np.stack([sums.metric(name, how) for name in conditions], axis=-1) - sums.metric(INTACT, how)[:, None]
            for how in (whole, counts)
        )
        return over_all[0], over_samples

    def _sums(self, task: TaskInfo, metric: str) -> ClusterSums:
        return sums_of(self.items[self.items["task"] == task.name], task, metric)

    def _rows(self, task: TaskInfo, metric: str) -> list[dict[str, object]]:
        sums = self._sums(task, metric)
        counts = _resampled(len(sums.clusters), self.seed)
        whole = np.ones((1, len(sums.clusters)))
        value = {name: sums.metric(name, whole)[0] for name in self.conditions["condition"]}
        spread = self._spread_of_repeats(task, metric)
        intact_resampled = sums.metric(INTACT, counts)
        facts = self._label_facts
        rows: list[dict[str, object]] = []
        for condition in self.conditions[self.conditions["kind"] != "control"].itertuples():
            name = str(condition.condition)
            diff = value[name] - value[INTACT]
            row: dict[str, object] = {
                "condition": name,
                "network": condition.network,
                "n_neurons": condition.n_neurons,
                "task": task.name,
                "scoring": task.scoring,
                "metric": metric,
                "value": value[name],
                "control_family": "",
                "n_items": sums.n_items,
                "n_controls": 0,
                "n_repeats": 1,
                "unparseable": sums.unparseable[name],
                "seed": self.seed,
                "predicted_counts": "",
                "split": task.split,
                "note": "; ".join(filter(None, [task.note, str(getattr(condition, "note", ""))])),
            } | facts.get((name, task.name), {})
            row |= spread.get(name, {})
            resampled = None
            if name != INTACT:
                row["diff"] = diff
                if len(sums.clusters) >= FEWEST_CLUSTERS and np.isfinite(diff):
                    resampled = sums.metric(name, counts) - intact_resampled
                    row["ci_low"], row["ci_high"] = np.nanpercentile(resampled, [2.5, 97.5])
            rows.extend(self._control_rows(row, name, value, task, sums, counts, resampled))
        self._add_p_fwe(rows, value, task)
        return rows

    def _spread_of_repeats(self, task: TaskInfo, metric: str) -> dict[str, dict[str, object]]:
        """Compute the spread of each condition's value over repetitions, such as seeds of donor tokens."""
        if "repeat" not in self.items:
            return {}
        repeats = self.items[(self.items["task"] == task.name) & (self.items["repeat"] >= 0)]
        values: dict[str, list[float]] = {}
        for _, items in repeats.groupby("repeat"):
            for name, value in values_of(items, task, metric).items():
                values.setdefault(name, []).append(value)
        return {
            name: {
                "n_repeats": len(repeat_values),
                "sd_repeats": float(np.std(repeat_values, ddof=1)) if len(repeat_values) > 1 else np.nan,
            }
            for name, repeat_values in values.items()
        }

    @cached_property
    def _label_facts(self) -> dict[tuple[str, str], dict[str, object]]:
        """Context for interpreting an accuracy, by condition and task."""
        facts: dict[tuple[str, str], dict[str, object]] = {}
        for (condition, task), labels in self.label_counts().groupby(["condition", "task"], sort=False):
            shared = labels.iloc[0]
            facts[str(condition), str(task)] = {
                name: shared[name] for name in ("majority_rate", "balanced_accuracy", "mean_margin", "collapsed")
            } | {"predicted_counts": ", ".join(f"{row.label} {row.n_predicted}" for row in labels.itertuples())}
        return facts

    def _control_rows(
        self,
        row: dict[str, object],
        name: str,
        value: Mapping[str, float],
        task: TaskInfo,
        sums: ClusterSums,
        counts: np.ndarray,
        resampled: np.ndarray | None,
    ) -> list[dict[str, object]]:
        controls = self.conditions[self.conditions["control_of"] == name]
        if controls.empty:
            return [row]
        diff = value[name] - value[INTACT]
        rows = []
        for family, draws in controls.sort_values("draw", kind="stable").groupby("control_family", sort=False):
            names = list(draws["condition"])
            diffs = np.array([value[control] - value[INTACT] for control in names])
            bad = at_least_as_bad(diffs, diff, task.higher_is_better)
            p = sequential_p(bad, self.design.stop_after) if self.design.stop_after else permutation_p(bad)
            comparison: dict[str, object] = {
                "control_family": family,
                "control_mean": diffs.mean(),
                "effect": diff - diffs.mean(),
                "p": p if np.isfinite(diff) else np.nan,
                "n_controls": len(diffs),
            }
            if resampled is not None and np.isfinite(diffs).all():
                control_values = sum(sums.metric(control, counts) for control in names) / len(names)
                beyond = resampled - (control_values - sums.metric(INTACT, counts))
                comparison["effect_low"], comparison["effect_high"] = np.nanpercentile(beyond, [2.5, 97.5])
            rows.append(row | comparison)
        return rows

    def _add_p_fwe(self, rows: list[dict[str, object]], value: Mapping[str, float], task: TaskInfo) -> None:
        """Add `p_fwe` to the rows of every family of controls whose draws are joint and complete."""
        if self.design.stop_after:
            return
        controls = self.conditions[self.conditions["kind"] == "control"]
        for family, draws in controls.groupby("control_family"):
            if family not in self.design.joint:
                continue
            table = draws.pivot(index="draw", columns="control_of", values="condition")
            if table.isna().to_numpy().any():
                continue  # some controls of a network are missing
            effects = np.array(
                [[value[name] for name in table], *[[value[control] for control in row] for row in table.values]]
            )
            sign = -1.0 if task.higher_is_better else 1.0
            p_fwe = dict(zip(table, maxt_p(sign * (effects - value[INTACT])), strict=True))
            for row in rows:
                if row["control_family"] == family:
                    row["p_fwe"] = p_fwe[str(row["condition"])]

    @with_columns(labels=LABELS)
    def label_counts(self) -> pd.DataFrame:
        """Count true and predicted labels: one row per condition, classification task and label.

        Returns
        -------
        DataFrame
            An accuracy equal to the majority rate, with all predictions on one label, shows no discrimination. Answers
            that could not be parsed count only in ``n_true``. The columns are:

            <labels>
        """
        return count_labels(self.items, self.conditions)


def sums_of(items: pd.DataFrame, task: TaskInfo, metric: str) -> ClusterSums:
    """Compute the sums of a task's items by condition and cluster, for one of its metrics."""
    # Only generated answers can fail to be parsed; any other missing value makes the metric missing.
    column = "value" if metric == task.metric else metric
    return cluster_sums(items, metric, column, task.per_token, task.scoring == "generate", task.positive)


def values_of(items: pd.DataFrame, task: TaskInfo, metric: str) -> dict[str, float]:
    """Compute a metric of a task under every condition of its items."""
    sums = sums_of(items, task, metric)
    whole = np.ones((1, len(sums.clusters)))
    return {name: float(sums.metric(name, whole)[0]) for name in sums.parts}


def _resampled(n_clusters: int, seed: int | Sequence[int]) -> np.ndarray:
    """Draw the count of each cluster in every bootstrap sample, ``(N_BOOTSTRAP, n_clusters)``."""
    rng = np.random.default_rng(seed)
    return rng.multinomial(n_clusters, np.full(n_clusters, 1 / n_clusters), size=N_BOOTSTRAP).astype(float)
