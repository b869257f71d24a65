"""Colours and style of all figures, and figures as files."""

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
    # Names come from users: a dollar sign is no formula.
    "text.parse_math": False,
    "svg.fonttype": "none",
    "svg.hashsalt": "lmri",
}


@dataclass(frozen=True)
class Drawing:
    """A figure in both of its formats; `drawing` makes it.

    Parameters
    ----------
    svg : str
        The whole file.
    png : bytes
        The whole file, at 200 dots an inch.
    caption : str
        What is seen, in a sentence or two.
    """

    svg: str
    png: bytes
    caption: str = ""


def drawing(figure: "Figure", caption: str = "") -> Drawing:
    """Draw a figure in both formats; the same figure gives the same bytes.

    Parameters
    ----------
    figure : Figure
        Made under `STYLE`: ``with mpl.rc_context(STYLE): ...``.
    caption : str, default=""
        What is seen, in a sentence or two.
    """
    import matplotlib as mpl  # takes a second to load, and outcomes are read without it

    with mpl.rc_context(STYLE):
        # Laid out once: every further drawing would move things by a little, and the formats would differ.
        figure.draw_without_rendering()
        figure.set_layout_engine("none")
        stream, text = io.BytesIO(), svg(figure)
        figure.savefig(stream, format="png", dpi=DPI, metadata={"Software": None})
    return Drawing(text, stream.getvalue(), caption)


def svg(figure: "Figure") -> str:
    """Write a figure as an SVG element that is the same every time."""
    import matplotlib as mpl
    from matplotlib.backends.backend_svg import FigureCanvasSVG

    stream = io.StringIO()
    with mpl.rc_context(STYLE):  # which also decides how text and names in the file are written
        FigureCanvasSVG(figure).print_svg(stream, metadata={"Date": None, "Creator": None})
    text = stream.getvalue()
    return text[text.index("<svg") :]
