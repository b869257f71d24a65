"""Preservation: performance of a model with only a few neurons active.

The union of the networks of a decomposition is preserved and all other neurons are silenced, for increasing numbers of
components; or, for comparison, the neurons with the largest |z| over the maps, for increasing shares. Each point is
compared with random neurons, the same number in every layer, and placed on a scale from no preserved neurons to the
intact model: most small sets preserve little performance, and large sets preserve much, regardless of their members.
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

if TYPE_CHECKING:  # importing torch takes seconds, and tables do not need it
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
    """A point of the grid: the preserved neurons and their origin.

    Parameters
    ----------
    network : Network
        Preserved neurons; the name is the name of the condition.
    set : str
        Network set or decomposition; empty if no neuron is preserved.
    k : int
        Number of maps of the set or decomposition.
    share : float
        Requested share of all neurons; NaN for a union of networks.
    """

    network: Network
    set: str
    k: int
    share: float = float("nan")

    @property
    def name(self) -> str:
        """Name of the condition."""
        return self.network.name


def strongest(maps: NetworkSet, share: float) -> Network:
    """Select the neurons with the largest ``|z|`` over all maps.

    Parameters
    ----------
    maps : NetworkSet
        Maps, thresholded or not: z is computed over all neurons of each map.
    share : float
        Share of all neurons, above 0 and at most 1. Ties are resolved in (layer, neuron) order.

    Returns
    -------
    Network
        Selected neurons, weighted by the z with the largest ``|z|``; matched controls are drawn as for a union.
    """
    n_all = maps.space.n_neurons
    if not 0 < share <= 1:
        raise ValueError(f"share is {share}; it must be above 0 and at most 1, such as 0.05 for 5 % of all neurons.")
    n_kept = round(share * n_all)
    if not n_kept:
        raise ValueError(
            f"share is {share}, which selects none of {n_all} neurons; it must be at least {1 / n_all:.2g}."
        )
    if not len(maps):
        raise ValueError(f"{maps.method!r} has no maps to select neurons from. Name another decomposition.")
    z = map_scores(maps.weights)
    largest = np.take_along_axis(z, np.abs(z).argmax(axis=0)[None], axis=0)[0]
    members = np.zeros(n_all, dtype=bool)
    members[np.argsort(-np.abs(largest), kind="stable")[:n_kept]] = True
    name = f"{maps.method}-top-{100 * share:g}%"
    return Network(maps.space, largest.astype(np.float32), members, name, maps.fit_texts, "union")


def preservation_grid(
    sets: Sequence[NetworkSet] = (), maps: NetworkSet | None = None, shares: Sequence[float] = ()
) -> list[Kept]:
    """List the points of a grid: no neurons, the union of every set, and the strongest neurons of a decomposition.

    Parameters
    ----------
    sets : sequence of NetworkSet
        Thresholded network sets of one site, such as decompositions into 10, 64 and 128 components.
    maps : NetworkSet, optional
        Decomposition for `shares`.
    shares : sequence of float
        Shares of all neurons; see `strongest`.

    Returns
    -------
    list of Kept
        Points of the grid, `NOTHING` first.
    """
    if not sets and not shares:
        raise ValueError("There is nothing to preserve. Give network sets, or shares of a decomposition's neurons.")
    if bool(shares) != (maps is not None):
        raise ValueError(f"shares are {list(shares)} and maps are {maps}. Give both or neither.")
    all_maps = [*sets, *([maps] if maps is not None else [])]
    space = all_maps[0].space
    for networks in all_maps:
        if networks.space.site != space.site:
            raise ValueError(
                f"{all_maps[0].method!r} is at {space.site}, but {networks.method!r} is at {networks.space.site}: "
                "numbers of neurons at different sites are not comparable. Give sets of one site."
            )
        space.check_same(networks.space, repr(networks.method))
    grid = [keep_nothing(space)]
    grid += [Kept(networks.union(), networks.method, len(networks)) for networks in sets]
    grid += [Kept(strongest(maps, share), maps.method, len(maps), float(share)) for share in shares if maps is not None]
    names = [point.name for point in grid]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"{', '.join(twice)} is repeated. Give every network set and every share once.")
    return grid


def keep_nothing(space: NeuronSpace) -> Kept:
    """Create the point at which all neurons are silenced; it has no controls, as there is only one such set."""
    return Kept(Network.from_members(space, np.zeros(space.n_neurons, dtype=bool), NOTHING, "random"), "", 0)


def preservation_conditions(
    grid: Sequence[Kept], baseline: "str | Recording | ResampleSource" = "zero"
) -> "dict[str, Intervention]":
    """Create the conditions of a grid, for `lmri.evaluate`.

    Parameters
    ----------
    grid : sequence of Kept
        Grid as returned by `preservation_grid`.
    baseline : "zero", Recording or ResampleSource, default="zero"
        Value assigned to silenced neurons, as in `lmri.preserve`.
    """
    from lmri.lesions.interventions import preserve

    return {point.name: preserve(point.network, baseline) for point in grid}


# -- results -----------------------------------------------------------------------------------------------------------


def preservation_table(scores: Scores, grid: Sequence[Kept]) -> pd.DataFrame:
    """Tabulate the scores of a grid: one row per task, metric, point and family of controls.

    Parameters
    ----------
    scores : Scores
        Scores of `preservation_conditions`.
    grid : sequence of Kept
        Grid of preserved neurons.

    Returns
    -------
    DataFrame
        Table with `COLUMNS`; ``intact`` and `NOTHING` have separate rows. Columns as in `Scores.summary`, and

        ``set, k, share``
            Origin of the neurons; `share` is missing for a union of networks.
        ``n_neurons, share_kept``
            Number of preserved neurons, and their share of all neurons.
        ``p_better, q_better``
            ``(1 + controls at least as good) / (1 + controls)``, and adjusted as `q`: whether these neurons preserve
            more than matched sets. `p` and `q` test the other tail: whether they preserve less.
        ``recovered``
            ``(value - nothing) / (intact - nothing)``, where `nothing` is the score with no neurons preserved: 0
            corresponds to this score and 1 to the intact model, but values may be outside of 0 to 1. Missing if the
            intact model is not better than `nothing`.
        ``control_recovered``
            The same for the mean of the controls.
        ``better``
            Whether ``"more"`` or ``"less"`` is better.
    """
    return _tables(scores, grid)[0]


def _tables(scores: Scores, grid: Sequence[Kept]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Compute the table of points and the table of their controls."""
    points = {point.name: point for point in grid}
    missing = [name for name in (NOTHING, *points) if name not in set(scores.conditions["condition"])]
    if missing or NOTHING not in points:
        raise ValueError(
            f"The scores have no condition {', '.join(map(repr, missing or [NOTHING]))}. Evaluate all conditions of "
            "this grid: preservation_conditions(grid)."
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
    """Rescale every value, from 0 for no preserved neurons to 1 for the intact model."""
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
    """Format a table like the paper's Table 8: one row per task, one column per K, cells ``score (neurons)``.

    The first column is the intact model. Rows of controls of equal size follow, with their mean score and ``p_better``.

    Parameters
    ----------
    table : DataFrame
        Table as returned by `preservation_table`.
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
    """Return the paper's rows for tasks with the same metric; empty if there are none.

    Parameters
    ----------
    table : DataFrame
        Table as returned by `preservation_table`.
    model : {"gpt2", "qwen2.5-3b", "chatglm3-6b"}, default="gpt2"
        Model of the paper.
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
    """Summarize the preservation of the neurons of a grid: tables, the paper's layout, a figure and a text.

    Parameters
    ----------
    scores : Scores
        Scores of `preservation_conditions`.
    grid : sequence of Kept
        Grid of preserved neurons.
    baseline : str, default="zero"
        Value assigned to silenced neurons, for the text.
    """
    table, controls = _tables(scores, grid)
    layouts = {"table-8": preservation_layout(table), "table-8-paper": paper_layout(table)}
    return Outcome(
        "preserve",
        "Preservation: networks preserved, all other neurons silenced",
        _text(table, baseline),
        {"preservation": table, "controls": controls},
        {name: layout for name, layout in layouts.items() if len(layout)},
        {"preservation": preservation_figure(table, controls)},
    )


def _text(table: pd.DataFrame, baseline: str) -> str:
    lines = [
        f"All neurons except the named ones were silenced (to: {baseline}). The recovered share is 0 % with no neurons "
        "preserved and 100 % for the intact model."
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
            f"{n_q} of {len(tested)} points preserve more than their controls at q ≤ {ALPHA} (q is over the points of "
            f"a task; with {few} controls no p can be below {1 / (1 + few):.2g})."
            if known
            else f"No q was computed: {few} controls per point are too few for any p to reach {ALPHA}."
        )
    lines.append(
        "p_better tests whether this set preserves more, and p whether it preserves less, than matched sets, for this "
        "model and these items; intervals are over texts. Larger sets preserve more regardless of their members, so "
        "compare points with their controls first. One model is one subject."
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
