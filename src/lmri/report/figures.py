"""Figures: maps as pixel-exact images, comparisons and scores as vector graphics."""

import base64
import io
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter
from PIL import Image

from lmri.networks.comparison import AnyComparison, Comparison, Consensus, CourseComparison
from lmri.space import NeuronSpace
from lmri.space.drawing import BAND, NEGATIVE, NEUTRAL, POSITIVE, SOFT, STYLE, svg


def lightbox(space: NeuronSpace, values: np.ndarray) -> list[str]:
    """Draw every layer as in the image: one pixel per neuron, ``y`` upwards as in viewers.

    Parameters
    ----------
    space : NeuronSpace
        Space of the neurons.
    values : ndarray of shape (n_neurons,)
        Values to draw; 0 is transparent.

    Returns
    -------
    list of str
        ``data:`` URL of a PNG per layer.
    """
    nx, ny, nz = space.shape
    volume = np.zeros((nz, ny * nx))
    volume[space.layer_of, space.neuron_of] = values
    scale = np.abs(volume).max() or 1.0
    return [png(volume[z].reshape(ny, nx)[::-1] / scale) for z in range(nz)]


def strip(space: NeuronSpace, values: np.ndarray) -> str:
    """Draw values as in Figure 2 of the paper: one row per layer, the first at the top, and one column per neuron."""
    image = np.zeros((space.n_layers, max(space.widths)))
    image[space.layer_of, space.neuron_of] = values
    return png(image / (np.abs(image).max() or 1.0))


def png(values: np.ndarray) -> str:
    """Draw values from -1 to 1 as a PNG: red above 0, blue below 0, transparent at 0."""
    rgba = np.zeros((*values.shape, 4))
    rgba[values > 0, :3] = POSITIVE
    rgba[values < 0, :3] = NEGATIVE
    # A minimum opacity keeps weak members visible.
    rgba[..., 3] = np.where(values != 0, 0.45 + 0.55 * np.abs(values), 0)
    stream = io.BytesIO()
    Image.fromarray((255 * rgba + 0.5).astype(np.uint8)).save(stream, "png")
    return "data:image/png;base64," + base64.b64encode(stream.getvalue()).decode()


def comparison_figure(comparison: AnyComparison) -> str:
    """Draw a comparison of two sets (maps or time courses), or a consensus of several sets."""
    with mpl.rc_context(STYLE):
        if isinstance(comparison, Consensus):
            return svg(_consensus_figure(comparison))
        return svg(_pair_figure(comparison))


def _pair_figure(comparison: Comparison | CourseComparison) -> Figure:
    """Draw the correlations of all pairs, matched pairs first, and the matched pairs with their nulls."""
    table = comparison.table
    first, second = comparison.first.names, comparison.second.names
    rows = [first.index(name) for name in table["first"]]
    columns = [second.index(name) for name in table["second"]]
    rows += [row for row in range(len(first)) if row not in rows]
    columns += [column for column in range(len(second)) if column not in columns]
    over = "volumes" if isinstance(comparison, CourseComparison) else "neurons"
    figure = Figure(figsize=(9, 3.9), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=[1, 1.25])
    image = left.imshow(np.abs(comparison.correlation)[np.ix_(rows, columns)], vmin=0, vmax=1, cmap="magma_r")
    for axis, names, order in ((left.xaxis, second, columns), (left.yaxis, first, rows)):
        axis.set_ticks(
            range(len(order)), [names[index].rsplit("-", 1)[-1] for index in order], fontsize=_small(len(order))
        )
    left.set(xlabel=comparison.second.method, ylabel=comparison.first.method, title=f"|r| over {over}, matched first")
    figure.colorbar(image, ax=left, shrink=0.8)
    _draw_pairs(right, table)
    return figure


def _small(n: int) -> float:
    """Choose a font size at which `n` labels fit along one side."""
    return float(np.clip(140 / max(n, 1), 3, 7))


def _draw_pairs(axis: Any, table: pd.DataFrame) -> None:
    """Draw every matched pair as a dot over the 95 % band of arbitrary unmixings, filled if it exceeds the band."""
    rank = np.arange(1, len(table) + 1)
    edges = np.append(rank - 0.5, len(table) + 0.5)
    axis.stairs(table["r_null_95"], edges, fill=True, color=BAND, label="|r|: null (95 % of arbitrary unmixings)")
    axis.plot(rank, table["r"].abs(), "-", color=POSITIVE, lw=0.8, alpha=0.5)
    beyond = table["above_null"].to_numpy(dtype=bool)
    for selected, face, label in ((beyond, POSITIVE, "|r|, above null"), (~beyond, "white", "|r|, within null")):
        if selected.any():
            axis.plot(rank[selected], table["r"].abs()[selected], "o", color=POSITIVE, mfc=face, ms=5, label=label)
    has_overlap = "iou" in table and bool(table["iou"].notna().any())
    if has_overlap:
        axis.plot(rank, table["iou"], "s", color=NEGATIVE, ms=3.5, label="IoU of members")
        axis.plot(
            rank, table["iou_null_95"], "_", color=NEGATIVE, ms=8, mew=1, label="IoU: null (95 % of random networks)"
        )
    axis.set(ylim=(0, 1.03), xlim=(0.5, max(len(table), 1) + 0.5), xlabel="matched pair, best first")
    axis.set_ylabel("|r| or IoU" if has_overlap else "|r|")
    axis.set_title("Matched pairs and their nulls" if "iou" in table else "Matched pairs and their null")
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    axis.legend(frameon=False, loc="upper left", bbox_to_anchor=(0, -0.16), fontsize=7.5, ncols=2)


def _consensus_figure(consensus: Consensus) -> Figure:
    """Draw which sets contain each network, the number of sets per network, and the match of every pair of sets."""
    table, names, n = consensus.table, consensus.names, len(consensus.sets)
    n_shown = max(len(table), 8)
    figure = Figure(figsize=(min(5.2 + 0.26 * n_shown + 0.34 * n, 16), 1.9 + 0.36 * n), layout="constrained")
    grid = figure.add_gridspec(2, 2, width_ratios=[n_shown, max(n, 3) * 1.25], height_ratios=[1, max(n, 3) * 0.75])
    count, main = figure.add_subplot(grid[0, 0]), figure.add_subplot(grid[1, 0])
    pairs = figure.add_subplot(grid[:, 1])
    positions = np.arange(len(table))
    count.bar(
        positions,
        table["found_by"],
        color=[POSITIVE if n_sets == n else SOFT for n_sets in table["found_by"]],
        width=0.72,
    )
    for x, n_sets in enumerate(table["found_by"]):
        count.text(x, n_sets, str(n_sets), ha="center", va="bottom", fontsize=7)
    count.set(xlim=(-0.5, max(len(table), 1) - 0.5), ylim=(0, n * 1.25), xticks=[], yticks=[])
    count.spines[["left", "bottom"]].set_visible(False)
    everyone = f" ({consensus.n_found_by_all} by all)" if len(table) else ""
    count.set_title(f"Networks found by two or more of {n} sets: {len(table)}{everyone}")
    if len(table):
        image = main.imshow(consensus.strength, vmin=0, vmax=1, cmap="magma_r", aspect="auto")
        main.set_facecolor(BAND)
        figure.colorbar(image, ax=main, shrink=0.9, label="|r| with the other maps", pad=0.01)
        main.set_xticks(positions, [name.rsplit("-", 1)[1] for name in table["network"]], fontsize=_small(len(table)))
    else:
        main.set(xlim=(-0.5, 0.5), ylim=(n - 0.5, -0.5), xticks=[])
        main.text(0, (n - 1) / 2, "no network was found by two sets", ha="center", va="center", color=NEUTRAL)
    overview = consensus.overview
    labels = [f"{name}  {a}/{b}" for name, a, b in zip(names, overview["n_found"], overview["n_networks"], strict=True)]
    main.set_yticks(range(n), labels, fontsize=8)
    main.set_xlabel("network, sorted by number of sets (grey: not found)")
    for axis in (main, pairs):
        for spine in axis.spines.values():
            spine.set_visible(False)
        axis.tick_params(length=0)
        axis.set_xticks(np.arange(0.5, (len(table) if axis is main else n) - 1), minor=True)
        axis.set_yticks(np.arange(0.5, n - 1), minor=True)
        axis.grid(which="minor", color="white", lw=1.2)
        axis.tick_params(which="minor", length=0)
    _draw_means(pairs, consensus)
    return figure


def _draw_means(axis: Any, consensus: Consensus) -> None:
    """Draw the mean matched ``|r|`` of every pair of sets, with the 95th percentile of its null in brackets."""
    n = len(consensus.sets)
    values = np.full((n, n), np.nan)
    for (first, second), comparison in consensus.comparisons.items():
        values[second, first] = comparison.mean_r
        # Only means above the null are bold.
        bold = "bold" if comparison.mean_r > comparison.null_95 else "normal"
        ink = "white" if comparison.mean_r > 0.55 else "black"
        size = float(np.clip(30 / n, 4, 7.5))
        axis.text(
            first,
            second - 0.12,
            f"{comparison.mean_r:.2f}",
            ha="center",
            va="center",
            color=ink,
            weight=bold,
            size=size,
        )
        axis.text(
            first, second + 0.2, f"({comparison.null_95:.2f})", ha="center", va="center", color=ink, size=0.8 * size
        )
    axis.imshow(values, vmin=0, vmax=1, cmap="magma_r")
    axis.set_xticks(range(n - 1), consensus.names[:-1], fontsize=7, rotation=35, ha="right", rotation_mode="anchor")
    axis.set_yticks(range(1, n), consensus.names[1:], fontsize=7)
    axis.set(xlim=(-0.5, n - 1.5), ylim=(n - 0.5, 0.5))
    axis.set_title("Mean matched |r|")
    axis.set_xlabel("in brackets: null, 95th percentile", fontsize=7)


def order_figure(curves: pd.DataFrame) -> str:
    """Draw eigenvalues with the null of independently shifted neurons, for all runs together and for each run.

    Parameters
    ----------
    curves : DataFrame
        Curves of a `lmri.decomposition.order.OrderEstimate`.
    """
    runs = [curve for run, curve in curves.groupby("run") if run > 0]
    together = curves[curves["run"] == 0]
    panels = [bool(len(together)), len(runs) > 1 or not len(together)]
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(0.6 + 3.9 * sum(panels), 3.6), layout="constrained")
        axes = iter(figure.subplots(1, sum(panels), squeeze=False)[0])
        if panels[0]:
            _draw_scree(next(axes), together)
        if panels[1]:
            _draw_runs(next(axes), runs)
        return svg(figure)


def _n_above(curve: pd.DataFrame) -> int:
    """Count the eigenvalues above the limit for the first rank, as `parallel_analysis` does."""
    return int((curve["eigenvalue"] > curve["limit"].iloc[0] * (1 + 1e-6)).sum())


def _draw_scree(axis: Any, curve: pd.DataFrame) -> None:
    """Draw the eigenvalues of all runs together, filled if they are counted."""
    n = _n_above(curve)
    # A tail of hundreds of ranks would hide the rank at which the curves separate.
    shown = curve.head(max(2 * n, 20))
    rank, values = shown["rank"].to_numpy(), shown["eigenvalue"].to_numpy()
    axis.fill_between(rank, shown["limit"], color=BAND, lw=0, label="null (shifted neurons): 95 % per rank")
    axis.axhline(
        curve["limit"].iloc[0], color=NEUTRAL, lw=1, ls="--", label="limit: 95 % of the largest null eigenvalue"
    )
    axis.plot(rank, values, "-", color=POSITIVE, lw=0.8, alpha=0.5)
    size = float(np.clip(150 / len(rank), 2, 4))
    for selected, face, label in ((rank <= n, POSITIVE, "counted"), (rank > n, "white", "not counted")):
        if selected.any():
            axis.plot(rank[selected], values[selected], "o", color=POSITIVE, mfc=face, ms=size, mew=0.8, label=label)
    lowest = min(values[-1], shown["limit"].iloc[-1])
    _scree_axes(axis, len(rank), max(0.8 * lowest, 1e-6 * values[0]), "eigenvalue")
    axis.set_title(f"All runs together: {n} component{'' if n == 1 else 's'}")


def _draw_runs(axis: Any, runs: list[pd.DataFrame]) -> None:
    """Draw the eigenvalues of every run divided by its own limit, because limits depend on the length of a run."""
    counts = np.array([_n_above(curve) for curve in runs])
    shown = [curve.head(max(2 * int(counts.max()), 20)) for curve in runs]
    ratios = [curve["eigenvalue"].to_numpy() / curve["limit"].iloc[0] for curve in shown]
    alpha = float(np.clip(4 / len(runs), 0.15, 0.8))
    axis.axhline(1, color=NEUTRAL, lw=1, ls="--", label="limit")
    for number, (curve, ratio) in enumerate(zip(shown, ratios, strict=True)):
        axis.plot(curve["rank"], ratio, color=POSITIVE, lw=1, alpha=alpha, label=None if number else "one run")
    _scree_axes(axis, max(map(len, shown)), max(0.8 * min(ratio[-1] for ratio in ratios), 0.02), "eigenvalue / limit")
    spread = "" if counts.min() == counts.max() else f", {counts.min()} to {counts.max()}"
    axis.set_title(f"Separate runs: median {int(np.median(counts))}{spread}")


def _scree_axes(axis: Any, n_ranks: int, bottom: float, label: str) -> None:
    axis.set_yscale("log")
    axis.set(ylim=(bottom, None), xlim=(0, n_ranks + 1), xlabel="rank", ylabel=label)
    axis.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
    # Plain numbers, because formulas such as powers are not drawn.
    axis.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.yaxis.set_major_formatter("{x:g}")
    axis.yaxis.set_minor_formatter(NullFormatter())
    axis.legend(frameon=False, loc="upper left", bbox_to_anchor=(0, -0.2), fontsize=7.5, ncols=2)


def reliability_figure(curve: pd.DataFrame) -> str:
    """Draw agreement between samples of texts by the number of texts per sample, with arbitrary unmixings as null."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(9, 3), layout="constrained")
        axes = figure.subplots()
        by = curve.groupby("n_texts")
        middle = by["mean_r"].median()
        axes.fill_between(
            middle.index, by["null_mean"].median(), by["null_95"].median(), color=NEUTRAL, alpha=0.25, linewidth=0
        )
        axes.plot(middle.index, by["null_mean"].median(), color=NEUTRAL, linewidth=1, label="arbitrary unmixing")
        axes.plot(middle.index, middle, color=NEGATIVE, linewidth=1.5, label="median")
        axes.plot(curve["n_texts"], curve["mean_r"], "o", color=NEGATIVE, markersize=3.5, alpha=0.6)
        axes.set(xlabel="texts in each sample", ylabel="mean matched |r|", ylim=(0, 1), title="Reliability")
        axes.legend(frameon=False, loc="lower right")
        return svg(figure)
