"""Scores: item-level rows, and a summary with fixed columns that is a pure function of them. Data only.

An *item* is what a task scores, such as one text. A *condition* is the intact model, a lesion, or a control of one.
The text, or whatever the task names as its cluster, is the unit that is resampled; tokens never are.
"""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from lmri.exceptions import DataWarning
from lmri.space import ModelInfo
from lmri.thresholds import q_values

SUMMARY_COLUMNS = (
    "condition", "network", "n_neurons", "task", "scoring", "metric", "value", "diff", "ci_low", "ci_high",
    "control_family", "control_mean", "effect", "p", "q", "n_items", "n_controls", "unparseable", "seed",
)  # fmt: skip

ITEM_TEXT = ("condition", "task", "item", "cluster", "label", "predicted")
CONDITION_TEXT = ("condition", "kind", "network", "control_of", "control_family")
SUMMARY_TEXT = ("condition", "network", "task", "scoring", "metric", "control_family")

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
        How it is scored: ``"loglikelihood"``.
    metric : str
        What the values are, such as ``"nats_per_token"`` or ``"accuracy"``.
    higher_is_better : bool
        Decides what "worse" means.
    per_token : bool
        Whether items count by their tokens, or each the same.
    """

    name: str
    scoring: str
    metric: str
    higher_is_better: bool
    per_token: bool


@dataclass(frozen=True, eq=False)
class Scores:
    """What an evaluation gave.

    Parameters
    ----------
    items : DataFrame
        ``condition, task, item, cluster, n_tokens, value``; classification adds ``label, predicted, margin``. A value
        that could not be read off a generated answer is NaN, and so is one of a model that gives NaN.
    conditions : DataFrame
        ``condition, kind, network, n_neurons, control_of, control_family, draw``; `kind` is ``intact``, ``network``,
        ``union``, ``random`` or ``control``.
    tasks : sequence of TaskInfo
        In order.
    seed : int
        Of the controls and of the bootstrap.
    model : ModelInfo, optional
        The weights that were scored, which may be others than those that were recorded.
    made_of : mapping
        Hashes of everything that the rows are a function of: weights, tasks, conditions and controls.
    """

    items: pd.DataFrame
    conditions: pd.DataFrame
    tasks: Sequence[TaskInfo]
    seed: int
    model: ModelInfo | None = None
    made_of: Mapping[str, Any] = field(default_factory=dict)

    def summary(self) -> pd.DataFrame:
        """Summarize: a row for every condition and task, ``intact`` first, controls beside what they control.

        Returns
        -------
        DataFrame
            With `SUMMARY_COLUMNS`:

            ``value``
                The metric under this condition; ``diff`` is its difference from intact, and ``ci_low`` to ``ci_high``
                the 95 % interval of `diff` over resampled clusters (texts).
            ``control_mean``
                Mean `diff` of the matched controls; ``effect`` is ``diff - control_mean``.
            ``p``
                (1 + controls at least as bad) / (1 + controls): whether this set of neurons is unusual among sets
                matched to it, for this model and these items. It never falls below 1 / (1 + ``n_controls``).
            ``q``
                `p` adjusted for the false discovery rate over all conditions of the same task and family of controls;
                missing where even the smallest possible p of all of them would not be significant at 0.05.
            ``unparseable``
                Share of generated answers without a value. Where nothing is generated, a value that is missing means
                that the model gives NaN or infinity; the mean is missing then, too, and so is p.
        """
        rows = [row for task in self.tasks for row in self._rows(task)]
        table = pd.DataFrame(rows, columns=list(SUMMARY_COLUMNS))
        broken = table.loc[~np.isfinite(table["value"].astype(float)), "condition"].unique()
        if len(broken):
            warnings.warn(
                f"Under {', '.join(map(repr, broken[:5]))} the model gives NaN or infinity, so there is no score.",
                DataWarning,
                stacklevel=2,
            )
        for _, family in table[table["p"].notna()].groupby(["task", "control_family"]):
            if (1 / (1 + family["n_controls"])).max() <= ALPHA:
                table.loc[family.index, "q"] = q_values(family["p"].to_numpy(dtype=float))
        return table

    @property
    def p_floor(self) -> float:
        """The smallest p that the controls allow; 1 if there are none."""
        counts = self.conditions.loc[self.conditions["kind"] == "control"].groupby("control_of").size()
        return float(1 / (1 + counts.min())) if len(counts) else 1.0

    @property
    def controls_needed(self) -> int:
        """Matched controls with which one network alone could reach q ≤ 0.05 among all that are tested with it."""
        n_tested = self.conditions.loc[self.conditions["kind"] == "control", "control_of"].nunique()
        return max(0, round(n_tested / ALPHA) - 1)

    def control_diffs(self, task: TaskInfo) -> dict[str, np.ndarray]:
        """List the difference from intact of every control, by the condition it belongs to."""
        sums = _cluster_sums(self.items[self.items["task"] == task.name], task)
        whole = np.ones((1, len(sums.clusters)))
        controls = self.conditions[self.conditions["kind"] == "control"]
        intact = _ratio(sums, INTACT, whole)[0]
        return {
            str(name): np.array([_ratio(sums, control, whole)[0] - intact for control in draws["condition"]])
            for name, draws in controls.groupby("control_of")
        }

    def _rows(self, task: TaskInfo) -> list[dict[str, object]]:
        sums = _cluster_sums(self.items[self.items["task"] == task.name], task)
        names = list(self.conditions["condition"])
        weights = _resampled(len(sums.clusters), self.seed)
        whole = np.ones((1, len(sums.clusters)))
        value = {name: _ratio(sums, name, whole)[0] for name in names}
        intact_resampled = _ratio(sums, INTACT, weights)
        rows: list[dict[str, object]] = []
        for condition in self.conditions.itertuples():
            if condition.kind == "control":
                continue
            name = str(condition.condition)
            diff = value[name] - value[INTACT]
            row: dict[str, object] = {
                "condition": name,
                "network": condition.network,
                "n_neurons": condition.n_neurons,
                "task": task.name,
                "scoring": task.scoring,
                "metric": task.metric,
                "value": value[name],
                "control_family": "",
                "n_items": sums.n_items,
                "n_controls": 0,
                "unparseable": sums.unparseable[name],
                "seed": self.seed,
            }
            if name != INTACT:
                row["diff"] = diff
                if len(sums.clusters) >= FEWEST_CLUSTERS and np.isfinite(diff):
                    resampled = _ratio(sums, name, weights) - intact_resampled
                    row["ci_low"], row["ci_high"] = np.nanpercentile(resampled, [2.5, 97.5])
            rows.extend(self._beside_controls(row, name, diff, value, task))
        return rows

    def _beside_controls(
        self, row: dict[str, object], name: str, diff: float, value: dict[str, float], task: TaskInfo
    ) -> list[dict[str, object]]:
        controls = self.conditions[self.conditions["control_of"] == name]
        if controls.empty:
            return [row]
        rows = []
        for family, draws in controls.groupby("control_family", sort=False):
            diffs = np.array([value[control] - value[INTACT] for control in draws["condition"]])
            # Equal up to rounding counts as equally bad, and so does a control that breaks the model.
            worse = (diffs <= diff + 1e-9) if task.higher_is_better else (diffs >= diff - 1e-9)
            worse |= ~np.isfinite(diffs)
            rows.append(
                row
                | {
                    "control_family": family,
                    "control_mean": diffs.mean(),
                    "effect": diff - diffs.mean(),
                    "p": (1 + worse.sum()) / (1 + len(diffs)) if np.isfinite(diff) else np.nan,
                    "n_controls": len(diffs),
                }
            )
        return rows

    def label_counts(self) -> pd.DataFrame:
        """Say how classifications came about: a row for every condition, classification task and label.

        Returns
        -------
        DataFrame
            ``condition, task, label, n_true, n_predicted, recall, majority_rate, balanced_accuracy, mean_margin,
            collapsed``; an accuracy at the majority rate, with all predictions on one label, has learned nothing.
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
            recall = items["value"].groupby(items["label"]).mean()
            for label in sorted(true.index.union(items["predicted"].unique())):
                rows.append(
                    {
                        "condition": condition,
                        "task": task,
                        "label": label,
                        "n_true": int(true.get(label, 0)),
                        "n_predicted": int((items["predicted"] == label).sum()),
                        "recall": recall.get(label, np.nan),
                        "majority_rate": true.max() / len(items),
                        "balanced_accuracy": recall.mean(),
                        "mean_margin": items["margin"].mean(),
                        "collapsed": int(items["predicted"].nunique() == 1 and len(true) > 1),
                    }
                )
        return pd.DataFrame(rows, columns=columns)


@dataclass(frozen=True)
class _Sums:
    """Per cluster and condition, the weighted sum of values and the weights: enough for any resampling of clusters."""

    clusters: list[str]
    totals: dict[str, np.ndarray]
    weights: dict[str, np.ndarray]
    unparseable: dict[str, float]
    n_items: int


def _cluster_sums(items: pd.DataFrame, task: TaskInfo) -> _Sums:
    weight = items["n_tokens"].astype(float) if task.per_token else pd.Series(1.0, index=items.index)
    missing = ~np.isfinite(items["value"].astype(float))
    # Only an answer that was generated can fail to be read; any other missing value makes the mean missing.
    unread = missing & (task.scoring == "generate")
    broken = set(items.loc[missing & ~unread, "condition"])
    frame = pd.DataFrame(
        {
            "condition": items["condition"],
            "cluster": items["cluster"],
            "total": (items["value"].astype(float) * weight).where(~missing, 0.0),
            "weight": weight.where(~missing, 0.0),
        }
    )
    grouped = frame.groupby(["condition", "cluster"], sort=True)[["total", "weight"]].sum()
    totals = grouped["total"].unstack(fill_value=0.0)
    weights = grouped["weight"].unstack(fill_value=0.0)
    return _Sums(
        list(totals.columns),
        {str(name): row.to_numpy() * (np.nan if name in broken else 1) for name, row in totals.iterrows()},
        {str(name): row.to_numpy() for name, row in weights.iterrows()},
        {str(name): float(share) for name, share in unread.groupby(items["condition"]).mean().items()},
        int(items["item"].nunique()),
    )


def _resampled(n_clusters: int, seed: int) -> np.ndarray:
    """Draw how often each cluster comes in every bootstrap sample, ``(N_BOOTSTRAP, n_clusters)``."""
    rng = np.random.default_rng(seed)
    return rng.multinomial(n_clusters, np.full(n_clusters, 1 / n_clusters), size=N_BOOTSTRAP).astype(float)


def _ratio(sums: _Sums, condition: str, weights: np.ndarray) -> np.ndarray:
    with np.errstate(invalid="ignore"):
        return (weights @ sums.totals[condition]) / (weights @ sums.weights[condition])
