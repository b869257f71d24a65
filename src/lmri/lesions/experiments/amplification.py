"""Amplification: performance of a model as a function of the dose by which a network's activity is increased.

Amplification can help or harm, so both tails are reported. The best dose is a choice, and a choice is never scored on
the texts that it was made on: it is made on one split and reported on another, and matched controls choose their best
dose in the same way.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from lmri.lesions.experiments.tails import control_table, with_better
from lmri.lesions.scores import Scores
from lmri.networks import Network, NetworkSet

if TYPE_CHECKING:  # importing torch takes seconds, and tables do not need it
    from lmri.lesions.interventions import Intervention

GAIN, OFFSET, ALONG = "gain", "offset", "offset along sign"

COLUMNS = (
    "network", "task", "metric", "kind", "dose", "n_neurons", "value", "diff", "ci_low", "ci_high", "control_mean",
    "effect", "p", "q", "p_better", "q_better", "control_family", "n_controls", "n_items", "better", "split", "note",
    "condition",
)  # fmt: skip


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
    return dose_tables(scores, grid)[0]


def dose_tables(scores: Scores, grid: Sequence[Dose]) -> tuple[pd.DataFrame, pd.DataFrame]:
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
