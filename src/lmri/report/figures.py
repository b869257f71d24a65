"""Figures: maps as pixel-exact images, comparisons and scores as vector graphics."""

import base64
import io
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.image import imsave

from lmri.comparison import Comparison
from lmri.networks import Network
from lmri.scores import INTACT, Scores

POSITIVE, NEGATIVE, NEUTRAL = (0.80, 0.22, 0.13), (0.13, 0.40, 0.74), "#7a7f87"

STYLE: Any = {
    "font.family": "sans-serif",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    # Names come from users: a dollar sign is no formula.
    "text.parse_math": False,
    "svg.fonttype": "none",
    "svg.hashsalt": "lmri",
}


def lightbox(network: Network) -> list[str]:
    """Draw every layer of a network as it lies in the image: one pixel a neuron, ``y`` upwards as viewers show it.

    Returns
    -------
    list of str
        A ``data:`` address of a PNG for each layer.
    """
    nx, ny, nz = network.space.shape
    volume = np.zeros((nz, ny * nx))
    volume[network.space.layer_of, network.space.neuron_of] = np.where(network.members, network.z, 0)
    scale = np.abs(volume).max() or 1.0
    return [png(volume[z].reshape(ny, nx)[::-1] / scale) for z in range(nz)]


def strip(network: Network) -> str:
    """Draw a network as the paper's Figure 2 does: a row a layer, the first at the top, a column a neuron."""
    space = network.space
    image = np.zeros((space.n_layers, max(space.widths)))
    image[space.layer_of, space.neuron_of] = np.where(network.members, network.z, 0)
    return png(image / (np.abs(image).max() or 1.0))


def png(values: np.ndarray) -> str:
    """Draw values from -1 to 1 as a PNG: red above 0, blue below, and nothing at 0."""
    rgba = np.zeros((*values.shape, 4))
    rgba[values > 0, :3] = POSITIVE
    rgba[values < 0, :3] = NEGATIVE
    # Members are never fainter than this, however far the strongest is ahead of them.
    rgba[..., 3] = np.where(values != 0, 0.45 + 0.55 * np.abs(values), 0)
    stream = io.BytesIO()
    imsave(stream, rgba, format="png", metadata={"Software": ""})
    return "data:image/png;base64," + base64.b64encode(stream.getvalue()).decode()


def comparison_figure(comparison: Comparison) -> str:
    """Draw the correlations of all pairs, matched pairs first, and the matched ones beside their null."""
    table = comparison.table
    first, second = comparison.first.names, comparison.second.names
    rows = [first.index(name) for name in table["first"]]
    columns = [second.index(name) for name in table["second"]]
    rows += [row for row in range(len(first)) if row not in rows]
    columns += [column for column in range(len(second)) if column not in columns]
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(9, 3.9), layout="constrained")
        left, right = figure.subplots(1, 2, width_ratios=[1, 1.25])
        image = left.imshow(np.abs(comparison.correlation)[np.ix_(rows, columns)], vmin=0, vmax=1, cmap="magma_r")
        left.set_xticks(range(len(columns)), [name.rsplit("-", 1)[1] for name in np.array(second)[columns]], fontsize=7)
        left.set_yticks(range(len(rows)), [name.rsplit("-", 1)[1] for name in np.array(first)[rows]], fontsize=7)
        left.set(
            xlabel=comparison.second.method, ylabel=comparison.first.method, title="|r| of all pairs, matched first"
        )
        figure.colorbar(image, ax=left, shrink=0.8)
        place = np.arange(1, len(table) + 1)
        right.plot(place, table["r"].abs(), "o-", color=POSITIVE, ms=4, lw=1, label="matched |r|")
        right.plot(place, table["r_null_95"], "--", color=NEUTRAL, lw=1.2, label="95 % of random rotations")
        if "iou" in table:
            right.plot(place, table["iou"], "s", color=NEGATIVE, ms=3.5, label="IoU of members")
        right.set(ylim=(0, 1.03), xlabel="matched pair, best first", title="Matched pairs beside their null")
        right.legend(frameon=False, loc="best", fontsize=8)
        return svg(figure)


def scores_figure(scores: Scores) -> str:
    """Draw the effect of every condition on every task, beside all of its controls."""
    summary = scores.summary()
    shown = [name for name in dict.fromkeys(summary["condition"]) if name != INTACT]
    with mpl.rc_context(STYLE):
        height = 1.1 + 0.21 * len(shown)
        figure = Figure(figsize=(min(2.4 + 2.6 * len(scores.tasks), 13), height), layout="constrained")
        axes = figure.subplots(1, len(scores.tasks), sharey=True, squeeze=False)[0]
        for axis, info in zip(axes, scores.tasks, strict=True):
            task = info.name
            own = summary[summary["task"] == task].drop_duplicates("condition").set_index("condition")
            _draw_task(axis, own.loc[shown], scores.control_diffs(info))
            axis.set_title(task, fontsize=9)
            axis.set_xlabel(f"{own['metric'].iloc[0].replace('_', ' ')}, difference from intact", fontsize=8)
        axes[0].set_yticks(range(len(shown)), shown, fontsize=8)
        axes[0].invert_yaxis()
        return svg(figure)


def _draw_task(axis: Any, own: pd.DataFrame, controls: dict[str, np.ndarray]) -> None:
    axis.axvline(0, color=NEUTRAL, lw=0.8)
    for place, (name, row) in enumerate(own.iterrows()):
        diffs = controls.get(str(name), np.empty(0))
        axis.plot(diffs, np.full(len(diffs), place), "|", color=NEUTRAL, ms=7, alpha=0.55)
        if np.isfinite(row["ci_low"]):
            axis.plot([row["ci_low"], row["ci_high"]], [place, place], color=POSITIVE, lw=1.4)
        axis.plot(row["diff"], place, "o", color=POSITIVE, ms=4)
    axis.grid(axis="x", lw=0.3)
    axis.tick_params(axis="y", length=0)


def svg(figure: Figure) -> str:
    """Write a figure as an SVG element that is the same every time."""
    stream = io.StringIO()
    FigureCanvasSVG(figure).print_svg(stream, metadata={"Date": None, "Creator": None})
    text = stream.getvalue()
    return text[text.index("<svg") :]
