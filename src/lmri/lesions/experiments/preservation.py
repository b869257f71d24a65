"""Preservation: performance of a model with only a few neurons active.

The union of the networks of a decomposition is preserved and all other neurons are silenced, for increasing numbers of
components; or, for comparison, the neurons with the largest |z| over the maps, for increasing shares. Each point is
compared with random neurons, the same number in every layer, and placed on a scale from no preserved neurons to the
intact model: most small sets preserve little performance, and large sets preserve much, regardless of their members.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from lmri.lesions.experiments.tails import control_table, with_better
from lmri.lesions.scores import INTACT, Scores
from lmri.networks import Network, NetworkSet
from lmri.networks.thresholds import map_scores
from lmri.space import NeuronSpace

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
    return preservation_tables(scores, grid)[0]


def preservation_tables(scores: Scores, grid: Sequence[Kept]) -> tuple[pd.DataFrame, pd.DataFrame]:
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
