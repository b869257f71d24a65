"""The figure of dissociations: effects of lesions on tasks, in standard deviations of their controls."""

from string import ascii_lowercase
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from lmri.space.drawing import BAND, NEUTRAL, POSITIVE, STYLE

MOST_MARKED = 12
"""Largest number of dissociated pairs with a letter; further pairs are only filled."""


def draw_dissociations(effects: pd.DataFrame, table: pd.DataFrame) -> Figure:
    """Draw the effect of every network on every task, and mark the pairs that dissociate.

    Parameters
    ----------
    effects : DataFrame
        Effects relative to one family of controls: ``network, task, effect, ci_low, ci_high``, in sd of the controls;
        positive is worse.
    table : DataFrame
        Pairs of networks and tasks of the same family, with ``dissociated``. The strongest pairs get letters: A on task
        1 and B on task 2 have the same letter.
    """
    networks, tasks = list(dict.fromkeys(effects["network"])), list(dict.fromkeys(effects["task"]))
    letters = _letters(table)
    with mpl.rc_context(STYLE):
        longest = max(map(len, networks))
        figure = Figure(
            figsize=(min(0.8 + 0.07 * longest + 2.1 * len(tasks), 14), 1.15 + 0.27 * len(networks)),
            layout="constrained",
        )
        axes = figure.subplots(1, len(tasks), sharey=True, sharex=True, squeeze=False)[0]
        for axis, task in zip(axes, tasks, strict=True):
            rows = effects[effects["task"] == task].set_index("network").loc[networks]
            _draw_effects(axis, rows, [letters.get((name, task)) for name in networks])
            axis.set_title(task, fontsize=9)
        axes[0].set_yticks(range(len(networks)), networks, fontsize=8)
        axes[0].set_ylim(len(networks) - 0.5, -0.5)
        axes[0].margins(x=0.1)  # for the letters
        axes[0].xaxis.set_major_locator(MaxNLocator(nbins=5, integer=True))
        figure.supxlabel("effect of the lesion in sd of its controls (right: worse)", fontsize=8)
    return figure


def _letters(table: pd.DataFrame) -> dict[tuple[str, str], str]:
    """Assign letters, by network and task, to dissociated pairs: the strongest first, none to the weakest."""
    pairs = table[table["dissociated"] == 1].sort_values("interaction", ascending=False, kind="stable")
    letters: dict[tuple[str, str], str] = {}
    for rank, row in enumerate(pairs.itertuples()):
        letter = ascii_lowercase[rank] if rank < MOST_MARKED else ""
        for cell in ((str(row.network_a), str(row.task_1)), (str(row.network_b), str(row.task_2))):
            letters[cell] = letters.get(cell, "") + letter
    return letters


def _draw_effects(axis: Any, rows: pd.DataFrame, letters: list[str | None]) -> None:
    axis.axvspan(-1.96, 1.96, color=BAND, lw=0, zorder=0)
    axis.axvline(0, color=NEUTRAL, lw=0.8, zorder=1)
    for y, (row, letter) in enumerate(zip(rows.itertuples(), letters, strict=True)):
        if not np.isfinite(row.effect):
            axis.text(0, y, "controls have no effect", ha="center", va="center", fontsize=6.5, color=NEUTRAL)
            continue
        if np.isfinite(row.ci_low):
            axis.plot([row.ci_low, row.ci_high], [y, y], color=POSITIVE, lw=1.4)
        axis.plot(row.effect, y, "o", color=POSITIVE, mfc="white" if letter is None else POSITIVE, ms=4.5)
        if letter:
            right = max(row.effect, row.ci_high if np.isfinite(row.ci_high) else row.effect)
            axis.annotate(
                letter, (right, y), (4, 0), textcoords="offset points", va="center", fontsize=7.5, weight="bold"
            )
    axis.grid(axis="x", lw=0.3)
    axis.tick_params(axis="y", length=0)
    axis.tick_params(axis="x", labelsize=8)
