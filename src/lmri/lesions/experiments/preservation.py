"""Preservation: how much of a model a few neurons carry, if nothing but them is left.

The union of the networks of a decomposition is kept and all other neurons are silenced, for decompositions into more
and more components; or, for comparison, the neurons that stand out most of the maps, for larger and larger shares. Each
point is read beside random neurons, as many in every layer, and between the intact model and one of which nothing is
left: most sets of a few neurons leave little, and a large set leaves much, whatever it consists of.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from lmri.lesions.experiments.curves import preservation_figure
from lmri.lesions.experiments.paper import COMPONENTS, MODELS, PRESERVED, paper_task
from lmri.lesions.experiments.tails import control_table, with_better
from lmri.lesions.scores import ALPHA, INTACT, Scores
from lmri.networks import Network, NetworkSet
from lmri.networks.thresholds import map_scores
from lmri.space import NeuronSpace
from lmri.storage.outcome import Outcome

if TYPE_CHECKING:  # torch takes seconds, and tables need none
    from lmri.lesions.baselines import ResampleSource
    from lmri.lesions.interventions import Intervention
    from lmri.storage.recording import Recording

NOTHING = "nothing-kept"
"""Condition in which all neurons are silenced."""

COLUMNS = (
    "task", "metric", "set", "k", "share", "n_neurons", "share_kept", "value", "diff", "ci_low", "ci_high",
    "control_mean", "effect", "p", "q", "p_better", "q_better", "recovered", "control_recovered", "control_family",
    "n_controls", "n_items", "better", "split", "note", "condition",
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class Kept:
    """A point of the grid: which neurons are kept, and where they come from.

    Parameters
    ----------
    network : Network
        The neurons; its name is that of the condition.
    set : str
        The network set or decomposition; empty if nothing is kept.
    k : int
        Number of maps there.
    share : float
        That was asked for, of all neurons; NaN for a union of networks.
    """

    network: Network
    set: str
    k: int
    share: float = float("nan")

    @property
    def name(self) -> str:
        """Of the condition."""
        return self.network.name


def strongest(maps: NetworkSet, share: float) -> Network:
    """Pick the neurons that stand out most of any map: those with the largest of their ``|z|`` over the maps.

    Parameters
    ----------
    maps : NetworkSet
        Thresholded or not: z is over all neurons of each map.
    share : float
        Of all neurons, above 0 and at most 1. Equally strong neurons come in (layer, neuron) order.

    Returns
    -------
    Network
        Its weight is the z with the largest ``|z|``; matched controls are drawn for it as for a union.
    """
    n_all = maps.space.n_neurons
    if not 0 < share <= 1:
        raise ValueError(f"share is {share}; it must be above 0 and at most 1, such as 0.05 for 5 % of all neurons.")
    n_kept = round(share * n_all)
    if not n_kept:
        raise ValueError(f"share is {share}, which is none of {n_all} neurons; give at least {1 / n_all:.2g}.")
    if not len(maps):
        raise ValueError(f"{maps.method!r} has no maps, so no neuron stands out of any. Name another decomposition.")
    z = map_scores(maps.weights)
    largest = np.take_along_axis(z, np.abs(z).argmax(axis=0)[None], axis=0)[0]
    members = np.zeros(n_all, dtype=bool)
    members[np.argsort(-np.abs(largest), kind="stable")[:n_kept]] = True
    name = f"{maps.method}-top-{100 * share:g}%"
    return Network(maps.space, largest.astype(np.float32), members, name, maps.fit_texts, "union")


def preservation_grid(
    sets: Sequence[NetworkSet] = (), maps: NetworkSet | None = None, shares: Sequence[float] = ()
) -> list[Kept]:
    """List what is to be kept: nothing, the union of every set, and the strongest neurons of a decomposition.

    Parameters
    ----------
    sets : sequence of NetworkSet
        Thresholded, all of one site; such as decompositions into 10, 64 and 128 components.
    maps : NetworkSet, optional
        The decomposition that `shares` are of.
    shares : sequence of float
        Of all neurons; see `strongest`.

    Returns
    -------
    list of Kept
        `NOTHING` first.
    """
    if not sets and not shares:
        raise ValueError("There is nothing to keep. Give network sets, or shares of a decomposition's neurons.")
    if bool(shares) != (maps is not None):
        raise ValueError(f"shares are {list(shares)} and maps are {maps}; they go together.")
    all_maps = [*sets, *([maps] if maps is not None else [])]
    space = all_maps[0].space
    for networks in all_maps:
        if networks.space.site != space.site:
            raise ValueError(
                f"{all_maps[0].method!r} is at {space.site} and {networks.method!r} at {networks.space.site}: these are other "
                "neurons, and their numbers are no grid. Give sets of one site."
            )
        space.check_same(networks.space, repr(networks.method))
    grid = [keep_nothing(space)]
    grid += [Kept(networks.union(), networks.method, len(networks)) for networks in sets]
    grid += [Kept(strongest(maps, share), maps.method, len(maps), float(share)) for share in shares if maps is not None]
    names = [point.name for point in grid]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"{', '.join(twice)} would come twice. Give every network set and every share once.")
    return grid


def keep_nothing(space: NeuronSpace) -> Kept:
    """Make the point at which all neurons are silenced; it has no controls, as there is one such set."""
    return Kept(Network.from_members(space, np.zeros(space.n_neurons, dtype=bool), NOTHING, "random"), "", 0)


def preservation_conditions(
    grid: Sequence[Kept], baseline: "str | Recording | ResampleSource" = "zero"
) -> "dict[str, Intervention]":
    """Make the conditions of a grid, for `lmri.evaluate`.

    Parameters
    ----------
    grid : sequence of Kept
        As `preservation_grid` gives it.
    baseline : "zero", Recording or ResampleSource, default="zero"
        What a silenced neuron gives, as for `lmri.preserve`.
    """
    from lmri.lesions.interventions import preserve

    return {point.name: preserve(point.network, baseline) for point in grid}


# -- what came out ----------------------------------------------------------------------------------------------------


def preservation_table(scores: Scores, grid: Sequence[Kept]) -> pd.DataFrame:
    """Arrange the scores of a grid: a row for every task, metric, point and family of controls.

    Parameters
    ----------
    scores : Scores
        Of `preservation_conditions`.
    grid : sequence of Kept
        What was kept.

    Returns
    -------
    DataFrame
        With `COLUMNS`; ``intact`` and `NOTHING` have rows of their own. Columns as in `Scores.summary`, and

        ``set, k, share``
            Where the neurons come from; `share` is missing for a union of networks.
        ``n_neurons, share_kept``
            How many were kept, and which share of all.
        ``p_better, q_better``
            ``(1 + controls at least as good) / (1 + controls)``, and adjusted as `q`: whether these neurons carry more
            than as many others. `p` and `q` look at the other side: whether they carry less.
        ``recovered``
            ``(value - nothing) / (intact - nothing)``, where `nothing` is the score with nothing kept: 0 for that, 1
            for the intact model; neither is a bound. Missing where the intact model is no better than nothing.
        ``control_recovered``
            The same of the controls' mean.
        ``better``
            Whether ``"more"`` or ``"less"`` is better.
    """
    return _tables(scores, grid)[0]


def _tables(scores: Scores, grid: Sequence[Kept]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Make the table of points, and that of their controls."""
    points = {point.name: point for point in grid}
    missing = [name for name in (NOTHING, *points) if name not in set(scores.conditions["condition"])]
    if missing or NOTHING not in points:
        raise ValueError(
            f"The scores have no condition {', '.join(map(repr, missing or [NOTHING]))}. Evaluate all of "
            "preservation_conditions(grid), of this grid."
        )
    n_all = grid[0].network.space.n_neurons
    summary = scores.summary()
    controls = control_table(scores, summary)
    summary = summary[summary["condition"].isin([INTACT, *points])].reset_index(drop=True)
    table = with_better(summary, scores, controls)
    table["set"] = [points[name].set if name in points else "" for name in table["condition"]]
    table["k"] = [points[name].k if name in points else 0 for name in table["condition"]]
    table["share"] = [points[name].share if name in points else np.nan for name in table["condition"]]
    table["n_neurons"] = [points[name].network.n_neurons if name in points else n_all for name in table["condition"]]
    table["share_kept"] = table["n_neurons"] / n_all
    return _recovered(table)[list(COLUMNS)], controls


def _recovered(table: pd.DataFrame) -> pd.DataFrame:
    """Place every value between nothing kept, 0, and intact, 1."""
    table["recovered"] = table["control_recovered"] = np.nan
    for _, group in table.groupby(["task", "metric"]):
        intact = group.loc[group["condition"] == INTACT, "value"].iloc[0]
        nothing = group.loc[group["condition"] == NOTHING, "value"].iloc[0]
        gain = (intact - nothing) * (1 if group["better"].iloc[0] == "more" else -1)
        if not gain > 1e-9:
            note = "no share recovered: the intact model is not better than one of which nothing is kept"
            table.loc[group.index, "note"] = [_joined(old, note) for old in group["note"]]
            continue
        table.loc[group.index, "recovered"] = (group["value"] - nothing) / (intact - nothing)
        table.loc[group.index, "control_recovered"] = (intact + group["control_mean"] - nothing) / (intact - nothing)
    empty = (table["n_neurons"] == 0) & (table["condition"] != NOTHING)
    table.loc[empty, "note"] = [_joined(old, "empty: nothing is kept") for old in table.loc[empty, "note"]]
    return table


def _joined(*notes: str) -> str:
    return "; ".join(filter(None, notes))


def preservation_layout(table: pd.DataFrame) -> pd.DataFrame:
    """Lay a table out as the paper's Table 8: a row a task, a column a K, each ``score (neurons)``; intact first.

    Below each stands what controls of equal size leave, on average, and p of more being left by chance.

    Parameters
    ----------
    table : DataFrame
        As `preservation_table` gives it.
    """
    points = table[~table["condition"].isin([INTACT, NOTHING])].drop_duplicates("condition")
    shared = points.loc[points["share"].isna(), "k"].duplicated(keep=False)
    names = {INTACT: "intact"}
    for row in points.sort_values(["share", "k"], na_position="first", kind="stable").itertuples():
        label = f"K = {row.k}" + (f" ({row.set})" if shared.get(row.Index, False) else "")
        names[str(row.condition)] = label if pd.isna(row.share) else f"strongest {100 * row.share:g} % of {row.set}"
    names[NOTHING] = "nothing kept"
    rows = []
    for (task, metric), group in table.groupby(["task", "metric"], sort=False):
        values = group.drop_duplicates("condition").set_index("condition")
        words = f"{task} ({str(metric).replace('_', ' ')}, {group['better'].iloc[0]} is better)"
        cells = {
            label: _cell(values.loc[name, "value"], values.loc[name, "n_neurons"]) for name, label in names.items()
        }
        rows.append({"task": words, **cells})
        intact = float(values.loc[INTACT, "value"])
        for family, control_rows in group[group["p_better"].notna()].groupby("control_family", sort=False):
            known = control_rows.set_index("condition")
            control_cells = {
                label: f"{intact + known.loc[name, 'control_mean']:.4f} ({known.loc[name, 'p_better']:.3g})"
                for name, label in names.items()
                if name in known.index
            }
            rows.append({"task": f"{family} controls: mean (p_better)", **control_cells})
    return pd.DataFrame(rows).fillna("–")


def _cell(value: float, n_neurons: int) -> str:
    return f"– ({n_neurons})" if pd.isna(value) else f"{value:.4f} ({n_neurons})"


def paper_layout(table: pd.DataFrame, model: str = "gpt2") -> pd.DataFrame:
    """Give the paper's rows for what it has, too: the same task under the same metric; no rows if there is none.

    Parameters
    ----------
    table : DataFrame
        As `preservation_table` gives it.
    model : {"gpt2", "qwen2.5-3b", "chatglm3-6b"}, default="gpt2"
        Of the paper.
    """
    pairs = dict.fromkeys(zip(table["task"], table["metric"], strict=True))
    known = {str(task): PRESERVED[model].get(paper_task(str(task), str(metric)) or "") for task, metric in pairs}
    rows = [
        {"task": f"{task} (the paper's {MODELS[model]})"}
        | {f"K = {k}": _cell(*cell) for k, cell in zip(COMPONENTS, cells, strict=True)}
        for task, cells in known.items()
        if cells
    ]
    return pd.DataFrame(rows)


def preservation_outcome(scores: Scores, grid: Sequence[Kept], baseline: str = "zero") -> Outcome:
    """Say what came of keeping the neurons of a grid: tables, the paper's layout, a figure and a text.

    Parameters
    ----------
    scores : Scores
        Of `preservation_conditions`.
    grid : sequence of Kept
        What was kept.
    baseline : str, default="zero"
        What silenced neurons gave, for the text.
    """
    table, controls = _tables(scores, grid)
    layouts = {"table-8": preservation_layout(table), "table-8-paper": paper_layout(table)}
    return Outcome(
        "preserve",
        "What a few neurons carry: networks kept, all others silenced",
        _text(table, baseline),
        {"preservation": table, "controls": controls},
        {name: layout for name, layout in layouts.items() if len(layout)},
        {"preservation": preservation_figure(table, controls)},
    )


def _text(table: pd.DataFrame, baseline: str) -> str:
    lines = [
        f"All neurons but those named were silenced (to: {baseline}). Recovered is the share of the way from nothing "
        "kept to the intact model."
    ]
    points = table[~table["condition"].isin([INTACT, NOTHING])]
    for (task, metric), group in points.groupby(["task", "metric"], sort=False):
        whole = table[(table["task"] == task) & (table["metric"] == metric)].drop_duplicates("condition")
        ends = whole.set_index("condition")["value"]
        descriptions = "; ".join(_describe(row) for row in group.itertuples())
        lines.append(
            f"{task} ({str(metric).replace('_', ' ')}, {group['better'].iloc[0]} is better): intact "
            f"{ends[INTACT]:.3f}, nothing kept {ends[NOTHING]:.3f}, {group['n_items'].iloc[0]} items. {descriptions}."
        )
    tested = points.dropna(subset=["p_better"])
    if len(tested):
        n_q = int((tested["q_better"] <= ALPHA).sum())
        known = tested["q_better"].notna().any()
        few = int(tested["n_controls"].min())
        lines.append(
            f"{n_q} of {len(tested)} points keep more than their controls at q ≤ {ALPHA} (q is over the points of a "
            f"task; with {few} controls no p is below {1 / (1 + few):.2g})."
            if known
            else f"No q is given: {few} controls a point are too few for any p to reach {ALPHA}."
        )
    lines.append(
        "p_better says whether this set carries more, and p whether it carries less, than sets matched to it, for this "
        "model and these items; intervals are over texts. A larger set leaves more whatever it consists of, so points "
        "are to be compared with their controls first. One model is one subject."
    )
    return "\n\n".join(lines)


def _describe(row: Any) -> str:
    where = f"K = {row.k} of {row.set}" if pd.isna(row.share) else f"strongest {100 * row.share:g} % of {row.set}"
    text = f"{where}, {row.n_neurons} neurons ({100 * row.share_kept:.1f} %)"
    if not row.n_neurons:
        return f"{text}: nothing"
    text += ": no score" if pd.isna(row.value) else f": {row.value:.3f}"
    if pd.notna(row.recovered):
        text += f", {_whole(row.recovered)} recovered"
    if row.n_controls:
        recovered = f"{_whole(row.control_recovered)}, " if pd.notna(row.control_recovered) else ""
        text += f" ({row.control_family} controls {recovered}p_better {row.p_better:.3g})"
    return text


def _whole(share: float) -> str:
    return f"{round(100 * share)} %"
