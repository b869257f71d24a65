"""How pages are made of templates: one environment for all of them, and numbers as tables show them."""

from importlib.resources import files
from typing import Any

import jinja2
import numpy as np
from markupsafe import Markup

from lmri.decomposition.quality.tokens import visible
from lmri.report.wording import cell, heading, method_words, standardized_words, typeset


def environment() -> jinja2.Environment:
    """Make the environment of all pages: whatever is put into a template is escaped, and nothing may be missing."""
    made = jinja2.Environment(
        loader=jinja2.PackageLoader("lmri.report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {"number": number, "token": visible, "plural": plural, "p_value": p_value}
    made.filters |= {"typeset": typeset, "heading": heading, "method_words": method_words}
    made.globals |= {"cell": cell, "standardized_words": standardized_words}
    return made


def asset(name: str) -> Markup:
    """Read a style sheet or script of ours, which goes into a page as it is."""
    return Markup(files("lmri.report").joinpath("templates", name).read_text(encoding="utf-8"))


def number(value: Any, digits: int = 3) -> str:
    """Show a number as tables do: a dash where there is none.

    Examples
    --------
    >>> number(1234), number(-0.5), number(float("nan"))
    ('1,234', '−0.500', '–')
    """
    if value is None or (isinstance(value, float | np.floating) and not np.isfinite(value)):
        return "–"
    if isinstance(value, int | np.integer):
        return f"{value:,}"
    return f"{value:.{digits}f}".replace("-", "−")


def p_value(value: Any) -> str:
    """Show a p or a q: one that is no 0 is never shown as one.

    Examples
    --------
    >>> p_value(0.0004), p_value(0.0005), p_value(0.25), p_value(None)
    ('< 0.001', '0.001', '0.250', '–')
    """
    shown = number(value)
    return shown if shown == "–" or not value < 0.0005 else "< 0.001"


def plural(n: int, noun: str) -> str:
    """Write a number with its noun.

    Examples
    --------
    >>> plural(1, "set"), plural(1200, "set")
    ('1 set', '1,200 sets')
    """
    return f"{n:,} {noun}{'' if n == 1 else 's'}"


def encodable(html: str) -> str:
    r"""Write lone surrogates, which no file can hold, as escapes.

    Examples
    --------
    >>> encodable("a\ud800")
    'a\\ud800'
    """
    return html.encode("utf-8", "backslashreplace").decode("utf-8")
