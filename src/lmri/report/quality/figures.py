"""Figures of quality control: carpet plots, neurons by layer, norms by position, and outlier texts."""

from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, LogLocator, MaxNLocator, NullFormatter, NullLocator

from lmri.decomposition.quality import Carpet, Quality
from lmri.decomposition.quality.robust import OUTLYING
from lmri.decomposition.quality.tokens import FEWEST_SEEN, SINK_RATIO
from lmri.space.drawing import NEGATIVE, NEUTRAL, POSITIVE, STYLE, svg

_WIDTH = 10.0
_CLIP = 2.5
_MOST_COLUMNS = 600
_MOST_DROPPED = 50
_Z_TICKS = (-1000, -300, -100, -30, -10, -OUTLYING, 0, OUTLYING, 10, 30, 100, 300, 1000)


def _adaptive(figure: Figure) -> str:
    """Return an SVG element without background that uses the light or dark colours of the page."""
    figure.patch.set_alpha(0)
    for axis in figure.axes:
        axis.patch.set_alpha(0)
    text = svg(figure)
    for color, page_color in (("#000000", "currentColor"), (POSITIVE, "var(--accent)"), (NEGATIVE, "var(--cool)")):
        text = text.replace(to_hex(color), page_color)
    return text


def carpet_figure(carpet: Carpet, quality: Quality) -> str:
    """Draw the carpet plot of a run, neurons by layer × tokens with text boundaries, below global signal and DVARS."""
    volumes = quality.volumes[quality.volumes["run"] == carpet.run]
    n = len(volumes)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(_WIDTH, 4.8), layout="constrained")
        signal, change, main = figure.subplots(3, 1, height_ratios=[1, 1, 5.2])
        bar = main.inset_axes((-0.016, 0, 0.011, 1))
        x = np.arange(n) + 0.5
        signal.plot(x, volumes["global_signal"], color=NEGATIVE, lw=0.7)
        signal.set_ylabel("global\nsignal", fontsize=8, rotation=0, ha="right", va="center")
        change.plot(x, volumes["dvars"], color=NEUTRAL, lw=0.7)
        spikes = volumes["spike"].to_numpy() == 1
        change.plot(x[spikes], volumes["dvars"].to_numpy()[spikes], "o", color=POSITIVE, ms=2.6, mew=0)
        change.set_ylabel("DVARS", fontsize=8, rotation=0, ha="right", va="center")
        for axis in (signal, change):
            axis.set(xlim=(0, n), xticks=[])
            axis.spines["bottom"].set_visible(False)
            axis.yaxis.set_major_locator(MaxNLocator(2))
            axis.tick_params(labelsize=7)
        n_rows = len(carpet.values)
        main.imshow(
            np.clip(carpet.values, -_CLIP, _CLIP), cmap="gray", vmin=-_CLIP, vmax=_CLIP, aspect="auto",
            extent=(0, n, n_rows, 0), interpolation="none",
        )  # fmt: skip
        main.vlines(carpet.bounds[1:-1], 0, n_rows, color=POSITIVE, lw=0.55, alpha=0.8)
        main.set(xlim=(0, n), yticks=[], xlabel="token (red lines: start of a new text)")
        main.spines["left"].set_visible(False)
        _draw_layers(bar, carpet.layers)
        signal.set_title(_carpet_title(quality.runs, carpet.run), fontsize=9)
        return _adaptive(figure)


def _carpet_title(runs: pd.DataFrame, number: int) -> str:
    row = runs[runs["run"] == number].iloc[0]
    n_spikes, n_texts = int(row["n_spikes"]), int(row["n_texts"])
    return (
        f"Run {number}: {int(row['n_volumes']):,} volumes of {n_texts} text{'' if n_texts == 1 else 's'}, "
        f"{n_spikes or 'no'} spike{'' if n_spikes == 1 else 's'}"
    )


def _draw_layers(axis: Any, layers: np.ndarray) -> None:
    """Draw the layer of each row in two alternating tones; at most 24 layers are numbered."""
    numbers, starts = np.unique(layers, return_index=True)
    ends = np.r_[starts[1:], len(layers)]
    for layer, first, last in zip(numbers, starts, ends, strict=True):
        axis.axhspan(first, last, color=NEUTRAL, alpha=0.85 if layer % 2 else 0.35, lw=0)
    some = slice(None, None, -(-len(numbers) // 24))
    axis.set_yticks(((starts + ends) / 2)[some], numbers[some], fontsize=7)
    axis.set(ylim=(len(layers), 0), xlim=(0, 1), xticks=[])
    axis.set_ylabel("layer", fontsize=8)
    axis.tick_params(length=0)
    for spine in axis.spines.values():
        spine.set_visible(False)


def neurons_figure(quality: Quality) -> str:
    """Draw the peak of every neuron as a map by layer, and the distribution of sd in each layer."""
    layers = quality.layers
    n_layers = len(layers)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(_WIDTH, float(np.clip(1.5 + 0.22 * n_layers, 2.7, 9))), layout="constrained")
        left, right = figure.subplots(1, 2, width_ratios=[2.2, 1], sharey=True)
        values, width = _map(quality)
        image = left.imshow(
            values, cmap="magma_r", aspect="auto", vmin=0, interpolation="none",
            extent=(0, width, n_layers - 0.5, -0.5), vmax=max(2.0, float(np.nanmax(values, initial=0))),
        )  # fmt: skip
        flagged = quality.neurons[(quality.neurons["extreme"] == 1) | (quality.neurons["massive"] == 1)]
        left.plot(flagged["neuron"] + 0.5, flagged["layer"], "o", color=NEGATIVE, mfc="none", ms=7, mew=1.1)
        marked = (
            "no neuron is massive or extreme" if flagged.empty else f"{len(flagged):,} massive or extreme (circles)"
        )
        left.set_title(f"Largest |value| of every neuron: {marked}", fontsize=9)
        left.set(xlabel="neuron", ylabel="layer")
        bar = figure.colorbar(image, ax=left, pad=0.01, shrink=0.95)
        powers = np.arange(0, int(np.ceil(image.norm.vmax)) + 1)
        bar.set_ticks([float(power) for power in powers if power <= image.norm.vmax])
        bar.set_ticklabels([f"{10**power:,}" for power in powers if power <= image.norm.vmax])
        bar.ax.tick_params(labelsize=7)
        bar.set_label("times the layer's median |value|", fontsize=7.5)
        bar.outline.set_visible(False)
        _draw_sd(right, layers)
        figure.legend(*right.get_legend_handles_labels(), loc="outside lower right", ncols=4, frameon=False, fontsize=7)
        left.set_ylim(n_layers - 0.4, -0.6)
        left.yaxis.set_major_locator(MaxNLocator(nbins=16, integer=True))
        for axis in (left, right):
            axis.tick_params(labelsize=7)
        return _adaptive(figure)


def _map(quality: Quality) -> tuple[np.ndarray, int]:
    """Return log10 peaks, one row per layer, and the width; neurons that share a pixel are reduced to their maximum."""
    width = int(quality.layers["n_neurons"].max())
    step = -(-width // _MOST_COLUMNS)
    values = np.full((len(quality.layers), -(-width // step)), np.nan)
    neurons = quality.neurons
    logs = np.log10(np.maximum(neurons["peak"].to_numpy(), 1.0))
    np.fmax.at(values, (neurons["layer"].to_numpy(), neurons["neuron"].to_numpy() // step), logs)
    return values, values.shape[1] * step


def _draw_sd(axis: Any, layers: pd.DataFrame) -> None:
    """Draw quantiles of sd over the neurons of each layer, on a log axis; zeros are raised to the next value."""
    layer = layers["layer"].to_numpy()
    names = ["sd_01", "sd_25", "sd_median", "sd_75", "sd_99", "sd_max"]
    values = layers[names].to_numpy()
    floor = float(values[values > 0].min()) if (values > 0).any() else 1.0
    get = dict(zip(names, np.maximum(values, floor).T, strict=True))
    axis.hlines(layer, get["sd_01"], get["sd_99"], color=NEUTRAL, lw=1.2, label="98 % of the neurons")
    axis.hlines(layer, get["sd_25"], get["sd_75"], color=NEGATIVE, lw=5, alpha=0.55, label="half")
    axis.plot(get["sd_median"], layer, "|", color=NEGATIVE, ms=8, mew=1.6, label="median")
    axis.plot(get["sd_max"], layer, "o", color=POSITIVE, ms=3, mew=0, label="largest")
    axis.set_xscale("log")
    axis.xaxis.set_major_locator(LogLocator(subs=(1, 3)))
    axis.xaxis.set_major_formatter("{x:g}")
    axis.xaxis.set_minor_formatter(NullFormatter())
    axis.xaxis.set_minor_locator(NullLocator())
    axis.set_title("sd of the neurons of each layer", fontsize=9)
    axis.set_xlabel("sd, activation units")


def positions_figure(quality: Quality) -> str:
    """Draw the relative norm at each position of the texts, with the positions excluded from the images."""
    table = quality.positions[quality.positions["n_volumes"] >= FEWEST_SEEN]
    table = quality.positions if table.empty else table
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(_WIDTH, 2.5), layout="constrained")
        axis = figure.subplots()
        position = table["position"].to_numpy()
        axis.fill_between(
            position, table["relative_norm_25"], table["relative_norm_75"], color=NEUTRAL, alpha=0.3, lw=0,
            label="half of the texts",
        )  # fmt: skip
        axis.plot(position, table["relative_norm"], color=NEGATIVE, lw=1.1, label="median")
        axis.axhline(SINK_RATIO, color=POSITIVE, lw=0.8, ls="--", label=f"{SINK_RATIO:g} times the median norm")
        sinks = table[table["sink"] == 1]
        axis.plot(sinks["position"], sinks["relative_norm"], "o", color=POSITIVE, ms=4, label=f"sinks: {len(sinks)}")
        dropped = quality.left_out["position"].unique()
        dropped = dropped[dropped <= position.max()]
        for number, excluded in enumerate(dropped[:_MOST_DROPPED]):
            axis.axvspan(
                excluded - 0.5, excluded + 0.5, color=POSITIVE, alpha=0.18, lw=0, label=None if number else "excluded"
            )
        top = float(table["relative_norm_75"].max())
        if top > 10:
            axis.set_yscale("log")
            axis.yaxis.set_major_formatter("{x:g}")
            axis.yaxis.set_minor_formatter(NullFormatter())
        else:
            axis.set_ylim(0, max(SINK_RATIO * 1.15, top * 1.1))
        axis.set(xlim=(-0.5, max(position.max(), 1) + 0.5), xlabel="position in the text", ylabel="norm, relative")
        axis.legend(frameon=False, fontsize=7.5, ncols=5, loc="lower left", bbox_to_anchor=(0, 1.0), borderaxespad=0.2)
        axis.tick_params(labelsize=7.5)
        return _adaptive(figure)


def texts_figure(quality: Quality) -> str:
    """Draw every text by the robust z of its norm and of its distance; outliers are coloured and labelled."""
    table = quality.texts
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(_WIDTH, 3.4), layout="constrained")
        axis = figure.subplots()
        out = table["outlier"] == 1
        axis.axvspan(-OUTLYING, OUTLYING, ymin=0, ymax=1, color=NEUTRAL, alpha=0.1, lw=0)
        for limit in (-OUTLYING, OUTLYING):
            axis.axvline(limit, color=NEUTRAL, lw=0.8, ls="--")
        axis.axhline(OUTLYING, color=NEUTRAL, lw=0.8, ls="--")
        axis.plot(table["norm_z"][~out], table["distance_z"][~out], "o", color=NEGATIVE, ms=4, mew=0, alpha=0.65)
        axis.plot(table["norm_z"][out], table["distance_z"][out], "o", color=POSITIVE, ms=5.5, mew=0)
        for row in table[out].head(12).itertuples():
            axis.annotate(row.text_id, (row.norm_z, row.distance_z), (5, 3), textcoords="offset points", fontsize=7)
        for side, values in ((axis.xaxis, table["norm_z"]), (axis.yaxis, table["distance_z"])):
            _asinh(axis, side, values)
        axis.set(xlabel="norm, robust z", ylabel="distance from the mean pattern, robust z")
        axis.set_title(f"{len(table):,} texts: {int(out.sum()) or 'no'} outlier{'' if out.sum() == 1 else 's'}")
        return _adaptive(figure)


def _asinh(axis: Any, side: Any, values: pd.Series) -> None:
    """Set an asinh scale, so that typical texts and distant outliers are both visible."""
    low, high = min(-OUTLYING, float(values.min())) * 1.25, max(OUTLYING, float(values.max())) * 1.25
    name = "x" if side is axis.xaxis else "y"
    getattr(axis, f"set_{name}scale")("asinh", linear_width=OUTLYING)
    side.set_major_locator(FixedLocator([tick for tick in _Z_TICKS if low <= tick <= high]))
    side.set_minor_locator(NullLocator())
    side.set_major_formatter("{x:g}")
    getattr(axis, f"set_{name}lim")(low, high)
