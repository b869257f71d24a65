"""Curves: scores over the number of preserved neurons and over the dose of an amplification, with controls."""

from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, NullFormatter, NullLocator

from lmri.lesions.scores import INTACT
from lmri.space.drawing import BAND, NEGATIVE, NEUTRAL, POSITIVE, SOFT, STYLE, Drawing, drawing

PALE = "#9fbbe0"
"""Colour of the controls of points drawn in `NEGATIVE`."""

UNION = "-union"
"""Suffix of the names of unions, which are larger than any single network, as are their controls."""

MOST_COLUMNS = 3
MOST_COLOURS = 10
"""Largest number of distinguishable colours; with more networks, only the extremes are named."""

MARKS = "osD^vP<>X*"
"""Markers of networks, in addition to colours, for readers with colour-vision deficiency."""


def preservation_figure(table: pd.DataFrame, controls: pd.DataFrame) -> Drawing:
    """Draw scores over the number of preserved neurons, as in the paper's Figure 3: one panel per task (main metric).

    Parameters
    ----------
    table : DataFrame
        Table as returned by `lmri.experiments.preservation_table`.
    controls : DataFrame
        Table as returned by `lmri.experiments.preservation.control_table`.
    """
    tasks = list(dict.fromkeys(table["task"]))
    with mpl.rc_context(STYLE):
        figure, axes = _panels(len(tasks), 3.1, 2.5)
        for axis, task in zip(axes, tasks, strict=True):
            rows = table[table["task"] == task]
            rows = rows[rows["metric"] == rows["metric"].iloc[0]].drop_duplicates("condition")
            control_rows = controls[(controls["task"] == task) & (controls["metric"] == rows["metric"].iloc[0])]
            _draw_preserved(axis, rows, control_rows)
            axis.set_title(task, fontsize=9)
            axis.set_ylabel(_ylabel(rows), fontsize=8)
            axis.set_xlabel("neurons kept", fontsize=8)
        n_columns = min(len(tasks), MOST_COLUMNS)
        handles = _preservation_legend(table, controls)
        figure.legend(
            handles=handles, loc="outside lower left", frameon=False, fontsize=7.5, ncols=min(n_columns * 2, 4)
        )
        n_empty = int(((table["n_neurons"] == 0) & (table["set"] != "")).sum() > 0)
        caption = (
            "Score with only these neurons active, over their number. Bars: 95 % intervals over texts. Pale marks: "
            "random neurons, the same number in every layer. Larger sets preserve more, regardless of their members."
        )
        return drawing(figure, caption + " Points without neurons are not shown, as the axis is logarithmic." * n_empty)


def _panels(n: int, width: float, height: float) -> tuple[Figure, list[Axes]]:
    """Create `n` panels, row by row, and remove unused panels of the last row."""
    n_columns = min(n, MOST_COLUMNS)
    n_rows = -(-n // n_columns)
    figure = Figure(figsize=(0.5 + width * n_columns, 0.8 + height * n_rows), layout="constrained")
    axes = list(figure.subplots(n_rows, n_columns, squeeze=False).ravel())
    for axis in axes[n:]:
        axis.remove()
    return figure, axes[:n]


def _ylabel(rows: pd.DataFrame, what: str = "") -> str:
    return f"{str(rows['metric'].iloc[0]).replace('_', ' ')}{what}\n({rows['better'].iloc[0]} is better)"


def _series(rows: pd.DataFrame) -> list[tuple[pd.DataFrame, Any, str, str]]:
    """Split the points into unions and shares of a decomposition, each with colour, pale colour and marker."""
    points = rows[(rows["set"] != "") & (rows["n_neurons"] > 0)].sort_values("n_neurons", kind="stable")
    series: list[tuple[pd.DataFrame, Any, str, str]] = [
        (points[points["share"].isna()], POSITIVE, SOFT, "o"),
        (points[points["share"].notna()], NEGATIVE, PALE, "s"),
    ]
    return [entry for entry in series if len(entry[0])]


def _draw_preserved(axis: Any, table: pd.DataFrame, controls: pd.DataFrame) -> None:
    rows = table.set_index("condition")
    intact = rows.loc[INTACT, "value"]
    axis.axhline(intact, color="black", lw=0.9, ls="--")
    nothing = rows[(rows["n_neurons"] == 0) & (rows["set"] == "")]
    axis.axhline(nothing["value"].iloc[0], color="black", lw=0.9, ls=":")
    for points, colour, pale, mark in _series(table):
        for row in points.itertuples():
            values = controls.loc[controls["condition"] == row.condition, "value"]
            axis.plot(np.full(len(values), row.n_neurons), values, "_", color=pale, ms=7, mew=1.1, zorder=2)
        if points["control_mean"].notna().any():
            axis.plot(points["n_neurons"], intact + points["control_mean"], "-", color=pale, lw=1, zorder=1.5)
        # The interval refers to the difference from intact, so its widths are computed from the difference.
        low, high = points["diff"] - points["ci_low"], points["ci_high"] - points["diff"]
        known = points["ci_low"].notna().to_numpy()
        axis.errorbar(
            points["n_neurons"][known], points["value"][known], [low[known].clip(lower=0), high[known].clip(lower=0)],
            fmt="none", ecolor=colour, elinewidth=1.1, zorder=3,
        )  # fmt: skip
        axis.plot(points["n_neurons"], points["value"], f"-{mark}", color=colour, lw=1.3, ms=4.5, zorder=4)
        # Below the curve, on the side where the curve is higher.
        side = 1 if table["better"].iloc[0] == "more" else -1
        for row in points[points["share"].isna()].itertuples():
            axis.annotate(
                f"K {row.k}", (row.n_neurons, row.value), (5 * side, -9), textcoords="offset points", fontsize=6.5,
                color=colour, ha="left" if side > 0 else "right", zorder=5,
                bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.4, "alpha": 0.7},
            )  # fmt: skip
    axis.set_xscale("log")
    _log_ticks(axis, table.loc[(table["n_neurons"] > 0) & (table["set"] != ""), "n_neurons"].to_numpy(dtype=float))
    axis.tick_params(labelsize=8)
    axis.grid(axis="y", lw=0.3)


def _log_ticks(axis: Any, values: np.ndarray) -> None:
    """Label round numbers on a log axis; powers would be math text, which is not rendered."""
    low, high = (values.min(), values.max()) if len(values) else (1.0, 10.0)
    axis.set_xlim(low / 1.35, high * 1.35)
    steps = (1, 2, 5) if high / low < 300 else (1,)
    ticks = [step * 10.0**power for power in range(-1, 12) for step in steps]
    shown = [tick for tick in ticks if low / 1.35 <= tick <= high * 1.35]
    axis.xaxis.set_major_locator(FixedLocator(shown or [low]))
    axis.xaxis.set_major_formatter("{x:.0f}")
    axis.xaxis.set_minor_locator(NullLocator())
    axis.xaxis.set_minor_formatter(NullFormatter())


def _preservation_legend(table: pd.DataFrame, controls: pd.DataFrame) -> list[Line2D]:
    handles = []
    for points, colour, pale, mark in _series(table):
        name = "networks (union)" if points["share"].isna().all() else f"strongest |z| of {points['set'].iloc[0]}"
        handles.append(Line2D([], [], color=colour, marker=mark, ms=4.5, lw=1.3, label=name))
        if controls["condition"].isin(points["condition"]).any():
            label = "controls of these, and their mean"
            handles.append(Line2D([], [], color=pale, marker="_", ms=7, mew=1.1, lw=1, label=label))
    handles.append(Line2D([], [], color="black", lw=0.9, ls="--", label="intact"))
    handles.append(Line2D([], [], color="black", lw=0.9, ls=":", label="nothing kept"))
    return handles


# -- doses ------------------------------------------------------------------------------------------------------------


def dose_figure(table: pd.DataFrame, controls: pd.DataFrame) -> Drawing:
    """Draw differences from intact over the dose: one panel per task and kind of dose, one line per network.

    Parameters
    ----------
    table : DataFrame
        Table as returned by `lmri.experiments.dose_table`. Only the first metric of each task is drawn and, for tasks
        scored on two splits, only *test*.
    controls : DataFrame
        Table of the controls of all networks.
    """
    drawn = table
    if {"select", "test"} <= set(table["split"]):
        drawn = table[table["split"] != "select"]
    panels = list(dict.fromkeys(zip(drawn["task"], drawn["kind"], strict=True)))
    colours = _colours(drawn)
    with mpl.rc_context(STYLE):
        figure, axes = _panels(len(panels), 3.1, 2.5)
        for axis, (task, kind) in zip(axes, panels, strict=True):
            rows = drawn[(drawn["task"] == task) & (drawn["kind"] == kind)]
            rows = rows[rows["metric"] == rows["metric"].iloc[0]]
            _draw_doses(axis, rows, controls, colours)
            axis.set_title(task, fontsize=9)
            axis.set_ylabel(_ylabel(rows, ", from intact"), fontsize=8)
            axis.set_xlabel(kind, fontsize=8)
        n_columns = min(len(panels), MOST_COLUMNS)
        figure.legend(
            handles=_dose_legend(colours, controls), loc="outside lower left", frameon=False, fontsize=7.5,
            ncols=min(2 * n_columns, 5),
        )  # fmt: skip
        caption = (
            "Difference of the score from the intact model over the dose, one line per network; bars: 95 % intervals "
            "over texts. Grey: mean and central 95 % of the matched controls of all single networks, pooled over "
            "network sizes; p compares each network with its own controls."
        )
        return drawing(figure, caption)


def _colours(table: pd.DataFrame) -> dict[str, Any]:
    """Assign a colour to every network; if there are many, only to the two extremes and to unions."""
    known = table[table["n_neurons"] > 0]
    names = list(dict.fromkeys(known["network"]))
    networks = [name for name in names if not name.endswith(UNION)]
    unions = {name: "black" for name in names if name.endswith(UNION)}
    if len(networks) <= MOST_COLOURS:
        wheel = mpl.colormaps["tab10"]
        return {name: wheel(number) for number, name in enumerate(networks)} | unions
    mean = known[known["network"].isin(networks)].groupby("network")["diff"].mean()
    extremes = {str(mean.idxmax()): POSITIVE, str(mean.idxmin()): NEGATIVE} if mean.notna().any() else {}
    return dict.fromkeys(networks, SOFT) | extremes | unions


def _marks(colours: dict[str, Any]) -> dict[str, str]:
    """Assign a marker to every network; networks without their own colour share one."""
    apart = [name for name, colour in colours.items() if colour is not SOFT]
    return dict.fromkeys(colours, "o") | {name: MARKS[number % len(MARKS)] for number, name in enumerate(apart)}


def _draw_doses(axis: Any, rows: pd.DataFrame, controls: pd.DataFrame, colours: dict[str, Any]) -> None:
    axis.axhline(0, color="black", lw=0.9, ls="--")
    doses = rows.drop_duplicates("condition").set_index("condition")["dose"]
    task, metric = rows["task"].iloc[0], rows["metric"].iloc[0]
    neutral = 1.0 if rows["kind"].iloc[0] == "gain" else 0.0
    control_rows = controls[(controls["task"] == task) & (controls["metric"] == metric)]
    control_rows = control_rows[control_rows["condition"].isin(doses.index)]
    whole = (
        control_rows["condition"].map(rows.set_index("condition")["network"].to_dict()).astype(str).str.endswith(UNION)
    )
    for part, colour, style in ((control_rows[~whole], NEUTRAL, "-"), (control_rows[whole], "black", ":")):
        if len(part):
            by = part.assign(dose=part["condition"].map(doses)).groupby("dose")["diff"]
            mean, low, high = (
                _through(statistic, neutral) for statistic in (by.mean(), by.quantile(0.025), by.quantile(0.975))
            )
            if colour == NEUTRAL:
                axis.fill_between(mean.index, low, high, color=BAND, lw=0, zorder=1)
            axis.plot(mean.index, mean, style, color=colour, lw=1.2, zorder=2)
    marks = _marks(colours)
    for network, colour in colours.items():
        line = rows[rows["network"] == network].drop_duplicates("condition").sort_values("dose")
        known = line["ci_low"].notna().to_numpy()
        low, high = (line["diff"] - line["ci_low"]).clip(lower=0), (line["ci_high"] - line["diff"]).clip(lower=0)
        axis.errorbar(
            line["dose"][known], line["diff"][known], [low[known], high[known]],
            fmt="none", ecolor=colour, elinewidth=0.8, alpha=0.6, zorder=3,
        )  # fmt: skip
        course, above = _through(line.set_index("dose")["diff"], neutral), colour is not SOFT
        axis.plot(course.index, course, "-", color=colour, lw=1.2, zorder=4 if above else 2.5)
        axis.plot(line["dose"], line["diff"], marks[network], color=colour, ms=3.5, zorder=4 if above else 2.5)
    ticks = sorted({*doses, neutral})
    axis.set_xticks(ticks, [f"{dose:g}" for dose in ticks], fontsize=8)
    axis.tick_params(labelsize=8)
    axis.grid(axis="y", lw=0.3)


def _through(points: pd.Series, neutral: float) -> pd.Series:
    """Add the neutral dose to a line, where the difference from intact is exactly 0."""
    if len(points):
        points = pd.concat([points[points.index != neutral], pd.Series([0.0], index=[neutral])]).sort_index()
    return points


def _dose_legend(colours: dict[str, Any], controls: pd.DataFrame) -> list[Line2D]:
    marks = _marks(colours)
    handles = [
        Line2D([], [], color=colour, marker=marks[name], ms=3.5, lw=1.2, label=name)
        for name, colour in colours.items()
        if colour is not SOFT
    ]
    if SOFT in colours.values():
        handles.append(Line2D([], [], color=SOFT, marker="o", ms=3.5, lw=1.2, label="other networks"))
    if len(controls):
        handles.append(Line2D([], [], color=NEUTRAL, lw=1.2, label="controls of networks, mean and 95 %"))
        if any(name.endswith(UNION) for name in colours):
            handles.append(Line2D([], [], color="black", lw=1.2, ls=":", label="controls of the union, mean"))
    handles.append(Line2D([], [], color="black", lw=0.9, ls="--", label="intact"))
    return handles
