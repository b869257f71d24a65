"""Colours and style of all figures, and their rendering as files."""

import io
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure


POSITIVE, NEGATIVE, NEUTRAL = (0.80, 0.22, 0.13), (0.13, 0.40, 0.74), "#7a7f87"

BAND, SOFT = "#e4e7ea", "#e3a59b"

DPI = 200

STYLE: Any = {
    "font.family": "sans-serif",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    # Names come from users: a dollar sign must not start a formula.
    "text.parse_math": False,
    "svg.fonttype": "none",
    "svg.hashsalt": "lmri",
}


@dataclass(frozen=True)
class Drawing:
    """Figure in two formats; created by `drawing`.

    Parameters
    ----------
    svg : str
        Content of the SVG file.
    png : bytes
        Content of the PNG file, at 200 dots per inch.
    caption : str
        Caption of one or two sentences.
    """

    svg: str
    png: bytes
    caption: str = ""


def drawing(figure: "Figure", caption: str = "") -> Drawing:
    """Render a figure in both formats; the same figure always results in the same bytes.

    Parameters
    ----------
    figure : Figure
        Figure that was created with `STYLE`: ``with mpl.rc_context(STYLE): ...``.
    caption : str, default=""
        Caption of one or two sentences.
    """
    import matplotlib as mpl  # takes a second to import, and is not needed to read outcomes

    with mpl.rc_context(STYLE):
        # Layout is computed once: each further rendering would shift elements slightly, and the formats would differ.
        figure.draw_without_rendering()
        figure.set_layout_engine("none")
        stream, text = io.BytesIO(), svg(figure)
        figure.savefig(stream, format="png", dpi=DPI, metadata={"Software": None})
    return Drawing(text, stream.getvalue(), caption)


def svg(figure: "Figure") -> str:
    """Render a figure as an SVG element with reproducible content."""
    import matplotlib as mpl
    from matplotlib.backends.backend_svg import FigureCanvasSVG

    stream = io.StringIO()
    with mpl.rc_context(STYLE):  # the style also determines how text and ids are written
        FigureCanvasSVG(figure).print_svg(stream, metadata={"Date": None, "Creator": None})
    text = stream.getvalue()
    return text[text.index("<svg") :]
