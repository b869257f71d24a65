"""The figure of scores: the effect of every condition on every task, with all of its controls."""

from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from lmri.lesions.scores.scores import INTACT, Scores
from lmri.space.drawing import NEUTRAL, POSITIVE, STYLE, svg


def scores_figure(scores: Scores) -> str:
    """Draw the effect of every condition on every task with all of its controls, as SVG."""
    return svg(draw_scores(scores))


def draw_scores(scores: Scores) -> Figure:
    """Draw the effect of every condition on every task with all of its controls, for `drawing`."""
    summary = scores.summary()
    shown = [name for name in dict.fromkeys(summary["condition"]) if name != INTACT]
    with mpl.rc_context(STYLE):
        height = 1.1 + 0.21 * len(shown)
        figure = Figure(figsize=(min(2.4 + 2.6 * len(scores.tasks), 13), height), layout="constrained")
        axes = figure.subplots(1, len(scores.tasks), sharey=True, squeeze=False)[0]
        for axis, info in zip(axes, scores.tasks, strict=True):
            task = info.name
            rows = summary[summary["task"] == task].drop_duplicates("condition").set_index("condition")
            _draw_task(axis, rows.loc[shown], scores.control_diffs(info))
            axis.set_title(task, fontsize=9)
            axis.set_xlabel(f"{rows['metric'].iloc[0].replace('_', ' ')}, difference from intact", fontsize=8)
        axes[0].set_yticks(range(len(shown)), shown, fontsize=8)
        axes[0].set_ylim(len(shown) - 0.5, -0.5)
    return figure


def _draw_task(axis: Any, rows: pd.DataFrame, controls: dict[str, np.ndarray]) -> None:
    axis.axvline(0, color=NEUTRAL, lw=0.8)
    for y, (name, row) in enumerate(rows.iterrows()):
        diffs = controls.get(str(name), np.empty(0))
        axis.plot(diffs, np.full(len(diffs), y), "|", color=NEUTRAL, ms=7, alpha=0.55)
        if np.isfinite(row["ci_low"]):
            axis.plot([row["ci_low"], row["ci_high"]], [y, y], color=POSITIVE, lw=1.4)
        axis.plot(row["diff"], y, "o", color=POSITIVE, ms=4)
    axis.grid(axis="x", lw=0.3)
    axis.tick_params(axis="y", length=0)
