"""Amplification: performance of a model as a function of the dose by which a network's activity is increased.

Amplification can help or harm, so both tails are reported. The best dose is a choice, and a choice is never scored on
the texts that it was made on: it is made on one split and reported on another, and matched controls choose their best
dose in the same way.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from lmri.lesions.experiments.curves import dose_figure
from lmri.lesions.experiments.tails import control_table, p_better, with_better, with_q
from lmri.lesions.scores import ALPHA, FEWEST_CLUSTERS, Scores, TaskInfo
from lmri.lesions.scores.p_values import at_least_as_bad, permutation_p
from lmri.networks import Network, NetworkSet
from lmri.storage.outcome import Outcome

if TYPE_CHECKING:  # importing torch takes seconds, and tables do not need it
    from lmri.lesions.interventions import Intervention

GAIN, OFFSET, ALONG = "gain", "offset", "offset along sign"

COLUMNS = (
    "network", "task", "metric", "kind", "dose", "n_neurons", "value", "diff", "ci_low", "ci_high", "control_mean",
    "effect", "p", "q", "p_better", "q_better", "control_family", "n_controls", "n_items", "better", "split", "note",
    "condition",
)  # fmt: skip

BEST_COLUMNS = (
    "network", "task", "metric", "kind", "dose", "n_neurons", "diff_select", "improves_on_select", "value", "diff",
    "ci_low", "ci_high", "control_mean", "effect", "p", "q", "p_better", "q_better", "control_family", "n_controls",
    "better", "note",
)  # fmt: skip


MOST_NAMED = 5
"""Largest number of best doses in the text; the table contains all."""


@dataclass(frozen=True, eq=False)
class Dose:
    """A point of the grid: a network and a dose.

    Parameters
    ----------
    network : Network
        Amplified network.
    kind : {"gain", "offset", "offset along sign"}
        Kind of dose: a factor, a constant, or a constant with the sign of each neuron's weight.
    dose : float
        Value; gain 1 and offset 0 change nothing.
    """

    network: Network
    kind: str
    dose: float

    @property
    def name(self) -> str:
        """Name of the condition."""
        return f"{self.network.name} {self.kind} {self.dose:g}"


def dose_grid(
    networks: NetworkSet, gains: Sequence[float] = (), offsets: Sequence[float] = (), along_sign: bool = False
) -> list[Dose]:
    """List all combinations of networks, including their union if there are several, with doses.

    Parameters
    ----------
    networks : NetworkSet
        Thresholded networks; an empty one gives a row without a change.
    gains : sequence of float
        Factors applied to the activity.
    offsets : sequence of float
        Constants added to the activity.
    along_sign : bool, default=False
        Whether to add the offsets with the sign of each neuron's weight; offsets must then be at least 0.
    """
    if not gains and not offsets:
        raise ValueError("There is no dose. Give gains, such as 1.5, or offsets, such as 1.0.")
    if along_sign and (not offsets or min(offsets) < 0):
        raise ValueError(
            f"along_sign needs offsets of at least 0; offsets are {list(offsets)}. A gain preserves signs anyway. To "
            "move against the map, lesion the network or give constant offsets."
        )
    doses = [(GAIN, gain) for gain in gains] + [(ALONG if along_sign else OFFSET, offset) for offset in offsets]
    for kind, dose in doses:
        if not np.isfinite(dose):
            raise ValueError(f"{kind} is {dose}; it must be finite.")
    targets = [*networks, *([networks.union()] if len(networks) > 1 else [])]
    grid = [Dose(target, kind, float(dose)) for target in targets for kind, dose in doses]
    names = [point.name for point in grid]
    twice = sorted({f"{point.kind} {point.dose:g}" for point in grid if names.count(point.name) > 1})
    if twice:
        raise ValueError(f"{', '.join(twice)} is repeated. Give every dose once.")
    return grid


def dose_conditions(grid: Sequence[Dose]) -> "dict[str, Intervention]":
    """Create the conditions of a grid, for `lmri.evaluate`."""
    from lmri.lesions.interventions import amplify

    return {
        point.name: amplify(point.network, gain=point.dose)
        if point.kind == GAIN
        else amplify(point.network, offset=point.dose, along_sign=point.kind == ALONG)
        for point in grid
    }


# -- results -----------------------------------------------------------------------------------------------------------


def dose_table(scores: Scores, grid: Sequence[Dose]) -> pd.DataFrame:
    """Tabulate the scores of a grid: one row per network, task, metric, dose and family of controls.

    Parameters
    ----------
    scores : Scores
        Scores of `dose_conditions`.
    grid : sequence of Dose
        Grid of networks and doses.

    Returns
    -------
    DataFrame
        Table with `COLUMNS`, as in `Scores.summary`, and

        ``p_better, q_better``
            ``(1 + controls at least as good) / (1 + controls)`` for the same controls, and adjusted as `q`. `p` tests
            for harm, ``p_better`` for benefit; for a two-sided test, double the smaller one.
        ``better``
            Whether ``"more"`` or ``"less"`` is better.
    """
    return _tables(scores, grid)[0]


def _tables(scores: Scores, grid: Sequence[Dose]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Compute the table of doses and the table of their controls."""
    points = {point.name: point for point in grid}
    missing = sorted(set(points) - set(scores.conditions["condition"]))
    if missing or not points:
        raise ValueError(
            f"The scores have no condition {', '.join(map(repr, missing[:5]))}. Evaluate all conditions of this grid: "
            "dose_conditions(grid)."
        )
    summary = scores.summary()
    controls = control_table(scores, summary)
    summary = summary[summary["condition"].isin(points)].reset_index(drop=True)
    table = with_better(summary, scores, controls)
    row_points = [points[name] for name in table["condition"]]
    table["network"] = [point.network.name for point in row_points]
    table["kind"], table["dose"] = [point.kind for point in row_points], [point.dose for point in row_points]
    empty = table["n_neurons"] == 0
    notes = ["; ".join(filter(None, [note, "empty: nothing changes"])) for note in table.loc[empty, "note"]]
    table.loc[empty, "note"] = notes
    return table[list(COLUMNS)], controls


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
    table, controls = _tables(scores, grid)
    return _best(scores, grid, table, controls)


def _best(scores: Scores, grid: Sequence[Dose], table: pd.DataFrame, controls: pd.DataFrame) -> pd.DataFrame:
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
        _of(table, task).drop_duplicates("condition").set_index("condition") for task in (select, test)
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
        select_diffs, test_diffs = (_by_draw(_of(of_family, task), names) for task in (select, test))
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


def _of(table: pd.DataFrame, task: TaskInfo) -> pd.DataFrame:
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


def dose_layout(table: pd.DataFrame) -> pd.DataFrame:
    """Format the table of doses: one row per task and network, one column per dose.

    Parameters
    ----------
    table : DataFrame
        Table as returned by `dose_table`.

    Returns
    -------
    DataFrame
        Layout whose cells are the difference from intact and, if there are controls, ``(p / p_better)``.
    """
    rows = []
    for (task, metric, network), group in table.groupby(["task", "metric", "network"], sort=False):
        cells = {f"{row.kind} {row.dose:g}": _cell(row) for row in group.drop_duplicates("condition").itertuples()}
        words = f"{task} ({str(metric).replace('_', ' ')}, {group['better'].iloc[0]} is better)"
        rows.append({"task": words, "network": network, "neurons": group["n_neurons"].iloc[0], **cells})
    return pd.DataFrame(rows)


def _cell(row: Any) -> str:
    if pd.isna(row.diff):
        return "–"
    text = "0" if row.diff == 0 else f"{row.diff:+.4f}"
    return text if pd.isna(row.p) else f"{text} ({row.p:.3g} / {_shown(row.p_better)})"


def _shown(number: float) -> str:
    return "–" if pd.isna(number) else f"{number:.3g}"


def best_layout(best: pd.DataFrame) -> pd.DataFrame:
    """Format the table of best doses: one row per task, network and family of controls."""
    rows = []
    for row in best.itertuples():
        ci = "" if pd.isna(row.ci_low) else f" [{row.ci_low:+.4f}, {row.ci_high:+.4f}]"
        control_mean = "–" if pd.isna(row.control_mean) else f"{row.control_mean:+.4f} ({row.control_family})"
        rows.append(
            {
                "task": row.task,
                "network": row.network,
                "best dose on select": f"{row.kind} {row.dose:g}" + ("" if row.improves_on_select else " (none helps)"),
                "difference on test [95 %]": f"{row.diff:+.4f}{ci}",
                "controls at their best": control_mean,
                "p": _shown(row.p),
                "p_better": _shown(row.p_better),
                "q_better": _shown(row.q_better),
            }
        )
    return pd.DataFrame(rows)


def amplification_outcome(scores: Scores, grid: Sequence[Dose]) -> Outcome:
    """Summarize the amplification of networks at all doses: tables, layouts, a figure and a text.

    Parameters
    ----------
    scores : Scores
        Scores of `dose_conditions`.
    grid : sequence of Dose
        Grid of networks and doses.
    """
    table, controls = _tables(scores, grid)
    best = _best(scores, grid, table, controls)
    tables = {"doses": table, "controls": controls} | ({"best": best} if len(best) else {})
    layouts = {"doses": dose_layout(table)} | ({"best": best_layout(best)} if len(best) else {})
    title = "Effects of amplifying networks on the model"
    text = _text(scores, table, best)
    return Outcome("amplify", title, text, tables, layouts, {"doses": dose_figure(table, controls)})


def _text(scores: Scores, table: pd.DataFrame, best: pd.DataFrame) -> str:
    doses = dict.fromkeys(f"{row.kind} {row.dose:g}" for row in table.itertuples())
    n_networks, empty = table["network"].nunique(), table.loc[table["n_neurons"] == 0, "network"].nunique()
    lines = [f"{n_networks} networks at {', '.join(doses)}" + (f"; {empty} of them empty." if empty else ".")]
    # Scores on the split of the choice are not results.
    tested = table[table["n_neurons"] > 0]
    tested = tested[tested["split"] != "select"] if len(best) else tested
    for (task, metric), group in tested.groupby(["task", "metric"], sort=False):
        shown = group.drop_duplicates("condition").dropna(subset=["diff"])
        words = f"{str(metric).replace('_', ' ')}, {group['better'].iloc[0]} is better"
        if not len(shown):
            lines.append(f"{task} ({words}): no score at any dose, because the model gave NaN or infinity.")
            continue
        low, high = shown.loc[shown["diff"].idxmin()], shown.loc[shown["diff"].idxmax()]
        lines.append(
            f"{task} ({words}): differences from intact from {low['diff']:+.4f} ({low['condition']}) to "
            f"{high['diff']:+.4f} ({high['condition']}); {_significant(group)}."
        )
    if not len(best):
        lines.append(_why_no_best(scores.tasks, table))
    lines += _describe_best(best)
    lines.append(
        "p tests whether amplifying these neurons does more harm, and p_better whether it does more good, than "
        "amplifying matched sets, for this model and these items; for a two-sided test, double the smaller one. "
        f"Intervals are over texts, of which at least {FEWEST_CLUSTERS} are needed. Large doses drive a model to "
        "activity that does not occur naturally. One model is one subject."
    )
    return "\n\n".join(lines)


def _describe_best(best: pd.DataFrame) -> list[str]:
    """Summarize the best doses on test: how many improve the score, and the first by p_better."""
    if not len(best):
        return []
    sign = np.where(best["better"] == "more", 1, -1)
    once = best.assign(gain=sign * best["diff"]).sort_values(["p_better", "gain"], ascending=[True, False])
    once = once.drop_duplicates(["task", "network"])
    chosen = once[once["improves_on_select"] == 1]
    if best["q_better"].notna().any():
        n_beyond = int((best["q_better"] <= ALPHA).sum())
        beyond = f"{n_beyond} of all are better than controls at the controls' best doses at q ≤ {ALPHA}"
    else:
        beyond = "there are too few controls for a q"
    lines = [
        f"In {len(chosen)} of {len(once)} pairs of a network and a task, a dose is better than intact on select; on "
        f"test, {int((chosen['gain'] > 0).sum())} of these are better than intact; {beyond}."
    ]
    for row in chosen.head(MOST_NAMED).itertuples():
        ci = "" if pd.isna(row.ci_low) else f" (95 % {row.ci_low:+.4f} to {row.ci_high:+.4f})"
        p = "" if pd.isna(row.p_better) else f", p_better {row.p_better:.3g}"
        lines.append(f"{row.task}, {row.network}: chosen {row.kind} {row.dose:g}; on test {row.diff:+.4f}{ci}{p}.")
    if len(chosen) > MOST_NAMED:
        lines.append(f"See the table of best doses for the other {len(chosen) - MOST_NAMED}.")
    return lines


def _significant(rows: pd.DataFrame) -> str:
    tested = rows.dropna(subset=["p"])
    if not len(tested):
        return "no controls"
    if tested["q"].isna().all():
        return f"{int(tested['n_controls'].min())} controls each are too few for a q"
    counts = [int((tested[q] <= ALPHA).sum()) for q in ("q", "q_better")]
    return f"{counts[0]} of {len(tested)} worse and {counts[1]} better than controls at q ≤ {ALPHA}"


def _why_no_best(tasks: Sequence[TaskInfo], table: pd.DataFrame) -> str:
    if table["condition"].nunique() == table["network"].nunique():
        return "There is one dose, so none was chosen."
    if in_both_splits(tasks):
        return "No best dose was chosen: no network has both neurons and a score."
    splits = ", ".join(sorted({task.split or "all items" for task in tasks}))
    return (
        f"No best dose is given: it would have to be chosen on one split and reported on another, and scored were "
        f"only: {splits}. A best dose on the texts that it was chosen on looks better than it is."
    )
