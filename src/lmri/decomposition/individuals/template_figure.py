"""Figure of templates: counts of their matches in single texts of every corpus."""

from collections.abc import Mapping

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from lmri.decomposition.individuals.templates import TemplateOverlap
from lmri.space.drawing import NEUTRAL, STYLE, svg


def templates_figure(overlaps: Mapping[str, TemplateOverlap]) -> str:
    """Draw the counts of templates in single texts as SVG, with one panel per corpus of the templates."""
    return svg(draw_templates(overlaps))


def draw_templates(overlaps: Mapping[str, TemplateOverlap]) -> Figure:
    """Draw the counts of templates in single texts, with one panel per corpus of the templates."""
    with mpl.rc_context(STYLE):
        n_rows = max(len(overlap.templates) for overlap in overlaps.values())
        n_columns = len(next(iter(overlaps.values())).counts.columns)
        figure = Figure(
            figsize=(0.9 + len(overlaps) * (0.5 + 0.52 * n_columns), 1.5 + 0.23 * n_rows), layout="constrained"
        )
        axes = figure.subplots(1, len(overlaps), squeeze=False)[0]
        top = max(int(overlap.counts.to_numpy().max()) for overlap in overlaps.values())
        for axis, (corpus, overlap) in zip(axes, overlaps.items(), strict=True):
            counts = overlap.counts
            limits = overlap.table.pivot(index="template", columns="label", values="chance_95").loc[
                counts.index, counts.columns
            ]
            axis.imshow(counts, cmap="Blues", vmin=0, vmax=max(1.8 * top, 1), aspect="auto")
            for (row, column), count in np.ndenumerate(counts.to_numpy()):
                above = count > limits.iloc[row, column]
                axis.text(
                    column, row, str(count), ha="center", va="center", fontsize=7,
                    color="#111111" if above else NEUTRAL, fontweight="bold" if above else "normal",
                )  # fmt: skip
            axis.set_xticks(range(n_columns), counts.columns, rotation=45, ha="right", fontsize=7)
            numbers = [str(name).rsplit("-", 1)[-1] for name in counts.index]
            axis.set_yticks(range(len(counts)), numbers, fontsize=7)
            axis.tick_params(length=0)
            axis.set_title(f"of {corpus}", fontsize=8.5)
        axes[0].set_ylabel("template")
        figure.supxlabel("corpus of the single texts; bold: beyond the 95 % level of chance", fontsize=7.5)
    return figure
