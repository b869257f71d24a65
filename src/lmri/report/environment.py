"""Template environment of all pages, and number formats for tables."""

from importlib.resources import files
from typing import Any

import jinja2
import numpy as np
from markupsafe import Markup

from lmri.decomposition.quality.tokens import visible
from lmri.report.wording import cell, heading, method_words, standardized_words, typeset


def environment() -> jinja2.Environment:
    """Return the template environment of all pages: values are escaped, and undefined values raise an error."""
    jinja = jinja2.Environment(
        loader=jinja2.PackageLoader("lmri.report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    jinja.filters |= {"number": number, "token": visible, "plural": plural, "p_value": p_value}
    jinja.filters |= {"typeset": typeset, "heading": heading, "method_words": method_words}
    jinja.globals |= {"cell": cell, "standardized_words": standardized_words}
    return jinja


def asset(name: str) -> Markup:
    """Read a style sheet or script of the package, which is inserted into a page without escaping."""
    return Markup(files("lmri.report").joinpath("templates", name).read_text(encoding="utf-8"))


def number(value: Any, digits: int = 3) -> str:
    """Format a number for tables; a dash if it is missing or not finite.

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
    """Format a p or q value; values above 0 are never shown as 0.

    Examples
    --------
    >>> p_value(0.0004), p_value(0.0005), p_value(0.25), p_value(None)
    ('< 0.001', '0.001', '0.250', '–')
    """
    shown = number(value)
    return shown if shown == "–" or not value < 0.0005 else "< 0.001"


def plural(n: int, noun: str) -> str:
    """Format a number with its noun.

    Examples
    --------
    >>> plural(1, "set"), plural(1200, "set")
    ('1 set', '1,200 sets')
    """
    return f"{n:,} {noun}{'' if n == 1 else 's'}"


def encodable(html: str) -> str:
    r"""Escape lone surrogates, which cannot be encoded in UTF-8.

    Examples
    --------
    >>> encodable("a\ud800")
    'a\\ud800'
    """
    return html.encode("utf-8", "backslashreplace").decode("utf-8")
