"""The figure of a robustness analysis: the effect of every specification compared with its controls."""

from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from lmri.space.drawing import BAND, NEUTRAL, POSITIVE, STYLE

BASE = "base"
HEADINGS = {
    "site": "other site",
    "baseline": "lesion baseline",
    "threshold": "threshold",
    "seed": "seed of the decomposition",
    "method": "decomposition",
    "sinks": "attention sinks",
    "controls": "matched controls",
}
CAPTION = (
    "Effect of the lesion minus the mean of its matched controls, in the base and in every variant that differs from "
    "it in one choice, with 95 % intervals over texts; grey: central 95 % of the controls. Filled: the conclusion "
    "holds. Dashed: the base. In parentheses: number of neurons."
)


def robustness_figure(table: pd.DataFrame) -> Figure:
    """Draw a specification plot: one row per choice, grouped by kind, and one panel per task.

    Parameters
    ----------
    table : DataFrame
        Table of `lmri.experiments.Robustness`.
    """
    tasks = list(dict.fromkeys(table["task"]))
    first = table[table["task"] == tasks[0]]
    places, headings = _places(first)
    n_rows = places[-1] + 1
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(2.1 + 3.3 * len(tasks), 1.5 + 0.215 * n_rows), layout="constrained")
        axes = figure.subplots(1, len(tasks), sharey=True, squeeze=False)[0]
        for axis, task in zip(axes, tasks, strict=True):
            rows = table[table["task"] == task]
            _draw_task(axis, rows, places)
            holds = int((rows["status"] == "holds").sum() - (rows["status"].iloc[0] == "holds"))
            axis.set_title(f"{task}: {holds} of {len(rows) - 1} variants hold", fontsize=9)
            axis.set_xlabel(f"{str(rows['metric'].iloc[0]).replace('_', ' ')}, beyond matched controls", fontsize=8)
        labels = [f"{'base' if row.kind == BASE else row.choice}  ({row.n_neurons})" for row in first.itertuples()]
        ticks = [*places, *headings.values()]
        axes[0].set_yticks(ticks, [*labels, *(HEADINGS.get(kind, kind) for kind in headings)], fontsize=8)
        for label, y in zip(axes[0].get_yticklabels(), ticks, strict=True):
            label.set_fontweight("bold" if y in headings.values() or y == 0 else "normal")
        axes[0].set_ylim(n_rows - 0.4, -0.7)
        figure.legend(
            handles=_legend(), loc="outside lower left", ncols=5, frameon=False, fontsize=7.5, handletextpad=0.4,
            columnspacing=1.2,
        )  # fmt: skip
        return figure


def _places(rows: pd.DataFrame) -> tuple[list[int], dict[str, int]]:
    """Assign a line to every choice, after a line for the heading of each kind of choice."""
    places: list[int] = []
    headings: dict[str, int] = {}
    line = 0
    for kind in rows["kind"]:
        if kind != BASE and kind not in headings:
            headings[kind] = line
            line += 1
        places.append(line)
        line += 1
    return places, headings


def _draw_task(axis: Any, rows: pd.DataFrame, places: list[int]) -> None:
    axis.use_sticky_edges = False  # bars also keep a distance from the frame
    axis.axvline(0, color=NEUTRAL, lw=0.8, zorder=1)
    base = rows["effect"].iloc[0]
    if np.isfinite(base):
        axis.axvline(base, color=POSITIVE, lw=0.8, ls=(0, (4, 3)), alpha=0.7, zorder=1)
    transform = axis.get_yaxis_transform()
    for y, row in zip(places, rows.to_dict("records"), strict=True):
        if not np.isfinite(row["effect"]):
            axis.text(0.01, y, row["status"], transform=transform, va="center", fontsize=7, color=NEUTRAL)
            continue
        band = row["control_high"] - row["control_low"]
        low = row["control_low"] - row["control_mean"]
        axis.barh(y, band, 0.72, low, color=BAND, zorder=0)
        if np.isfinite(row["effect_low"]):
            axis.plot([row["effect_low"], row["effect_high"]], [y, y], color=POSITIVE, lw=1.4, zorder=2)
        holds, matched = row["status"] == "holds", row["status"] != "not found again"
        axis.plot(
            row["effect"], y, "o" if matched else "X", color=POSITIVE, ms=4.5 if matched else 5.5,
            mfc=POSITIVE if holds else "white", mew=1, zorder=3,
        )  # fmt: skip
        axis.text(1.01, y, f"p {row['p']:.3f}", transform=transform, va="center", fontsize=7, color=NEUTRAL)
    axis.xaxis.set_major_locator(MaxNLocator(nbins=5))
    axis.tick_params(axis="y", length=0)
    axis.grid(axis="x", lw=0.3)
    axis.set_axisbelow(True)


def _legend() -> list[Line2D | Patch]:
    def dot(marker: str, face: Any, label: str) -> Line2D:
        return Line2D([], [], color=POSITIVE, marker=marker, mfc=face, ms=4.5, lw=1.4, label=label)

    return [
        dot("o", POSITIVE, "holds"),
        dot("o", "white", "does not hold"),
        dot("X", "white", "not found again"),
        Patch(color=BAND, label="95 % of controls"),
        Line2D([], [], color=POSITIVE, lw=0.8, ls=(0, (4, 3)), label="base"),
    ]
