"""Scores: item-level rows, and a summary with fixed columns that is a pure function of them. Data only.

An *item* is what a task scores, such as one text. A *condition* is the intact model, a lesion, or a control of one.
The text, or whatever the task names as its cluster, is the unit that is resampled; tokens never are.
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
from lmri.lesions.scores.metrics import ClusterSums, cluster_sums
from lmri.lesions.scores.p_values import at_least_as_bad, maxt_p, permutation_p, sequential_p
from lmri.networks.thresholds import q_values
from lmri.space import ModelInfo
from lmri.space.html import html_table

SUMMARY_COLUMNS = (
    "condition", "network", "n_neurons", "task", "scoring", "metric", "value", "diff", "ci_low", "ci_high",
    "control_family", "control_mean", "effect", "effect_low", "effect_high", "p", "p_max", "q", "n_items",
    "n_controls", "n_repeats", "sd_repeats", "unparseable", "seed",
    "majority_rate", "balanced_accuracy", "mean_margin", "predicted_counts", "collapsed", "split", "note",
)  # fmt: skip

ITEM_TEXT = ("condition", "task", "item", "cluster", "label", "predicted", "answer")
CONDITION_TEXT = ("condition", "kind", "network", "control_of", "control_family", "note")
SUMMARY_TEXT = (
    "condition", "network", "task", "scoring", "metric", "control_family", "predicted_counts", "split", "note",
)  # fmt: skip

INTACT = "intact"
ALPHA = 0.05
N_BOOTSTRAP = 2000
FEWEST_CLUSTERS = 5
"""Below this no interval is given: a bootstrap of so few would be far too narrow."""


@dataclass(frozen=True)
class TaskInfo:
    """What the summary has to know of a task.

    Parameters
    ----------
    name : str
        Of the task.
    scoring : str
        How it is scored: ``"loglikelihood"``, ``"loglikelihood/token"`` or ``"loglikelihood/character"`` where that is
        divided by length, ``"generate"``, or ``"head"``.
    metric : str
        What the values are, such as ``"nats_per_token"`` or ``"accuracy"``; ``"f1"``, ``"matthews"`` and
        ``"balanced_accuracy"`` are made of labels, and any other is a mean of the values.
    higher_is_better : bool
        Decides what "worse" means.
    per_token : bool
        Whether items count by their tokens, or each the same.
    also : tuple of str
        Further metrics of the same items, each with rows of its own: those of labels, or any column of the items.
    positive : str
        The label that F1 is of.
    split : str
        Of which split the items are: ``"fit"``, ``"select"`` or ``"test"``; empty if they were not split.
    note : str
        What a reader of the row should know of the data.
    """

    name: str
    scoring: str
    metric: str
    higher_is_better: bool
    per_token: bool
    also: tuple[str, ...] = ()
    positive: str = ""
    split: str = ""
    note: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "also", tuple(self.also))  # a list, if it comes from a file
        if "f1" in self.metrics and not self.positive:
            raise ValueError(
                f"The task {self.name!r} has the metric 'f1', but names no positive label. Give positive=."
            )

    @property
    def metrics(self) -> tuple[str, ...]:
        """All metrics, the task's own first."""
        return (self.metric, *self.also)

    def identity(self) -> dict[str, Any]:
        """Say what values depend on, for hashes; what is left at its default leaves a hash as it was without it."""
        optional = {name: getattr(self, name) for name in ("also", "positive", "split") if getattr(self, name)}
        required = ("name", "scoring", "metric", "higher_is_better", "per_token")
        return {name: getattr(self, name) for name in required} | optional


@dataclass(frozen=True)
class Design:
    """How controls were drawn, which decides how p is computed.

    Parameters
    ----------
    stop_after : int
        Controls at least as bad as a network after which no more were drawn for it; 0 if all were.
    n_planned : int
        Draws a network if none stops early; 0 if that is not known, as in scores of earlier versions.
    joint : tuple of str
        Families of controls whose draws of one number, over all networks, are controls of these networks together.
    """

    stop_after: int = 0
    n_planned: int = 0
    joint: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "joint", tuple(self.joint))  # a list, if it comes from a file


@dataclass(frozen=True, eq=False)
class Scores:
    """What an evaluation gave.

    Parameters
    ----------
    items : DataFrame
        ``condition, task, item, cluster, n_tokens, value``, and ``repeat`` where a condition was scored several times,
        as with several seeds of donor tokens; classification adds ``label, predicted, margin``, and what
        is generated ``answer``. A value that could not be read off a generated answer is NaN, and so is one of a model
        that gives NaN.
    conditions : DataFrame
        ``condition, kind, network, n_neurons, control_of, control_family, draw, note``; `kind` is ``intact``,
        ``network``, ``union``, ``random`` or ``control``.
    tasks : sequence of TaskInfo
        In order.
    seed : int
        Of the controls and of the bootstrap.
    model : ModelInfo, optional
        The weights that were scored, which may be others than those that were recorded.
    made_of : mapping
        Hashes of everything that the rows are a function of: weights, tasks, conditions and controls.
    design : Design
        How controls were drawn.
    """

    items: pd.DataFrame
    conditions: pd.DataFrame
    tasks: Sequence[TaskInfo]
    seed: int
    model: ModelInfo | None = None
    made_of: Mapping[str, Any] = field(default_factory=dict)
    design: "Design" = field(default_factory=lambda: Design())

    def __post_init__(self) -> None:
        # Tasks without labels or answers leave these columns empty, and files hold text there.
        gaps = [name for name in ITEM_TEXT if name in self.items and self.items[name].isna().any()]
        if gaps:
            object.__setattr__(self, "items", self.items.assign(**{name: self.items[name].fillna("") for name in gaps}))

    def summary(self) -> pd.DataFrame:
        """Summarize: a row for every condition, task and metric, ``intact`` first, controls beside what they control.

        Returns
        -------
        DataFrame
            With `SUMMARY_COLUMNS`. Rows of a task's own metric come before those of its further ones:

            ``value``
                The metric under this condition; ``diff`` is its difference from intact, and ``ci_low`` to ``ci_high``
                the 95 % interval of `diff` over resampled clusters (texts).
            ``control_mean``
                Mean `diff` of the matched controls; ``effect`` is ``diff - control_mean``, and ``effect_low`` to
                ``effect_high`` its 95 % interval over resampled clusters: whether the network does more than its
                controls on other texts, too, the controls held fixed.
            ``p``
                (1 + controls at least as bad) / (1 + controls): whether this set of neurons is unusual among sets
                matched to it, for this model and these items. It never falls below 1 / (1 + ``n_controls``). If draws
                stopped early, it is that of Besag and Clifford, and `control_mean` is of the draws that were made.
            ``p_max``
                `p` adjusted for having looked at all conditions of the same task, metric and family of controls: how
                often the largest effect among jointly drawn controls of all of them is as large. Missing where draws
                are not joint or stopped early.
            ``q``
                `p` adjusted for the false discovery rate over all conditions of the same task, metric and family of
                controls; missing where even the smallest possible p of all of them would not be significant at 0.05.
            ``n_repeats``, ``sd_repeats``
                How often the condition was scored, as with several seeds of donor tokens, and the standard deviation
                of the value over these; `value` is of all of them together.
            ``unparseable``
                Share of generated answers without a value. Where nothing is generated, a value that is missing means
                that the model gives NaN or infinity; the mean is missing then, too, and so is p.
            ``majority_rate, balanced_accuracy, mean_margin, predicted_counts, collapsed``
                What an accuracy has to be read beside, as in `label_counts`; missing where there are no labels.
        """
        table = self._summary.copy()
        broken = table.loc[~np.isfinite(table["value"].astype(float)), "condition"].unique()
        if len(broken):
            warnings.warn(
                f"Under {', '.join(map(repr, broken[:5]))} the model gives NaN or infinity, or no answer that could be "
                "read, so there is no score.",
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
        """Count the draws by which p is bounded: those planned, where stopping early is what made them fewer."""
        return n_controls * 0 + self.design.n_planned if self.design.stop_after else n_controls

    @property
    def p_floor(self) -> float:
        """The smallest p that the controls allow; 1 if there are none."""
        draws = self.conditions.loc[self.conditions["kind"] == "control"]
        counts = self._n_draws(draws.groupby(["control_of", "control_family"]).size())
        return float(1 / (1 + counts.min())) if len(counts) else 1.0

    @property
    def controls_needed(self) -> int:
        """Matched controls with which one network alone could reach q ≤ 0.05 among all that are tested with it."""
        n_tested = self.conditions.loc[self.conditions["kind"] == "control", "control_of"].nunique()
        return max(0, round(n_tested / ALPHA) - 1)

    def control_diffs(self, task: TaskInfo, metric: str | None = None) -> dict[str, np.ndarray]:
        """List the difference from intact of every control, by the condition it belongs to.

        Parameters
        ----------
        task : TaskInfo
            One of `tasks`.
        metric : str, optional
            One of its metrics; its own by default.
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
        """Compute differences from intact, over all texts and over resampled ones.

        Parameters
        ----------
        task : TaskInfo
            One of `tasks`; its own metric is taken.
        conditions : sequence of str
            Networks, controls or whatever else was scored.

        Returns
        -------
        whole : ndarray of shape (n_conditions,)
            In the units of the metric.
        resampled : ndarray of shape (n_bootstrap, n_conditions)
            The same clusters are drawn for every condition, and for every task that has these clusters; tasks of other
            texts are drawn independently.
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
        self._add_p_max(rows, value, task)
        return rows

    def _spread_of_repeats(self, task: TaskInfo, metric: str) -> dict[str, dict[str, object]]:
        """Say how much a condition's value depends on what was repeated, such as the seed of donor tokens."""
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
        """What an accuracy has to be read beside, by condition and task."""
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

    def _add_p_max(self, rows: list[dict[str, object]], value: Mapping[str, float], task: TaskInfo) -> None:
        """Add `p_max` to the rows of every family of controls, where draws are joint and whole."""
        if self.design.stop_after:
            return
        controls = self.conditions[self.conditions["kind"] == "control"]
        for family, draws in controls.groupby("control_family"):
            if family not in self.design.joint:
                continue
            table = draws.pivot(index="draw", columns="control_of", values="condition")
            if table.isna().to_numpy().any():
                continue  # a network without all of its controls
            effects = np.array(
                [[value[name] for name in table], *[[value[control] for control in row] for row in table.values]]
            )
            sign = -1.0 if task.higher_is_better else 1.0
            p_max = dict(zip(table, maxt_p(sign * (effects - value[INTACT])), strict=True))
            for row in rows:
                if row["control_family"] == family:
                    row["p_max"] = p_max[str(row["condition"])]

    def label_counts(self) -> pd.DataFrame:
        """Say how classifications came about: a row for every condition, classification task and label.

        Returns
        -------
        DataFrame
            ``condition, task, label, n_true, n_predicted, recall, majority_rate, balanced_accuracy, mean_margin,
            collapsed``; an accuracy at the majority rate, with all predictions on one label, has learned nothing.
            Answers that could not be read count in ``n_true`` only; the margin is missing where none is known.
        """
        columns = [
            "condition", "task", "label", "n_true", "n_predicted", "recall", "majority_rate", "balanced_accuracy",
            "mean_margin", "collapsed",
        ]  # fmt: skip
        if "predicted" not in self.items:
            return pd.DataFrame(columns=columns)
        shown = self.conditions.loc[self.conditions["kind"] != "control", "condition"]
        rows = []
        classified = self.items[self.items["condition"].isin(shown) & (self.items["label"] != "")]
        for (condition, task), items in classified.groupby(["condition", "task"], sort=False):
            true = items["label"].value_counts()
            # Of the items that the accuracy is of.
            read = items[(items["predicted"] != "") & items["value"].notna()]
            majority = read["label"].value_counts().max() / len(read) if len(read) else np.nan
            recall = (read["predicted"] == read["label"]).groupby(read["label"]).mean()
            predicted = items.loc[items["predicted"] != "", "predicted"].value_counts()
            for label in sorted(true.index.union(predicted.index)):
                rows.append(
                    {
                        "condition": condition,
                        "task": task,
                        "label": label,
                        "n_true": int(true.get(label, 0)),
                        "n_predicted": int(predicted.get(label, 0)),
                        "recall": recall.get(label, np.nan),
                        "majority_rate": majority,
                        "balanced_accuracy": recall.mean(),
                        "mean_margin": items["margin"].mean() if "margin" in items else np.nan,
                        "collapsed": int(len(predicted) == 1 and len(true) > 1),
                    }
                )
        return pd.DataFrame(rows, columns=columns)


def sums_of(items: pd.DataFrame, task: TaskInfo, metric: str) -> ClusterSums:
    """Sum up the items of a task by condition and cluster, for one of its metrics."""
    # Only an answer that was generated can fail to be read; any other missing value makes the metric missing.
    column = "value" if metric == task.metric else metric
    return cluster_sums(items, metric, column, task.per_token, task.scoring == "generate", task.positive)


def values_of(items: pd.DataFrame, task: TaskInfo, metric: str) -> dict[str, float]:
    """Compute a metric of a task under every condition of its items."""
    sums = sums_of(items, task, metric)
    whole = np.ones((1, len(sums.clusters)))
    return {name: float(sums.metric(name, whole)[0]) for name in sums.parts}


def _resampled(n_clusters: int, seed: int | Sequence[int]) -> np.ndarray:
    """Draw how often each cluster comes in every bootstrap sample, ``(N_BOOTSTRAP, n_clusters)``."""
    rng = np.random.default_rng(seed)
    return rng.multinomial(n_clusters, np.full(n_clusters, 1 / n_clusters), size=N_BOOTSTRAP).astype(float)
