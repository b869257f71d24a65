"""HTML tables for the display of results in notebooks: compact and accessible, with all text escaped."""

import math
import numbers
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import pandas as pd

MOST_ROWS = 12
"""Maximum number of rows shown; a last row contains the number of the others."""


def html_table(caption: str, rows: pd.DataFrame | Mapping[str, Any], columns: Sequence[str] | None = None) -> str:
    """Render a table with caption, header cells and escaped text.

    Parameters
    ----------
    caption : str
        Caption of the table.
    rows : DataFrame or mapping
        Rows, with their names in the first column; or pairs of name and value.
    columns : sequence of str, optional
        Columns to show, if they exist; all by default.

    Returns
    -------
    str
        HTML, for ``_repr_html_``.

    Examples
    --------
    >>> html_table("<Study>", {"model": "gpt2"})
    '<table><caption>&lt;Study&gt;</caption><tbody><tr><th scope="row">model</th><td>gpt2</td></tr></tbody></table>'
    """
    if isinstance(rows, Mapping):
        body = "".join(_row([name, value]) for name, value in rows.items())
        return f"<table><caption>{escape(caption)}</caption><tbody>{body}</tbody></table>"
    shown = rows if columns is None else rows[[name for name in columns if name in rows]]
    head = "".join(f'<th scope="col">{escape(str(name).replace("_", " "))}</th>' for name in shown)
    body = "".join(_row(row) for row in shown.head(MOST_ROWS).itertuples(index=False))
    left_out = len(shown) - MOST_ROWS
    rest = f'<tr><td colspan="{shown.shape[1]}">and {left_out:,} more</td></tr>' if left_out > 0 else ""
    return (
        f"<table><caption>{escape(caption)}</caption><thead><tr>{head}</tr></thead><tbody>{body}{rest}</tbody></table>"
    )


def _row(values: Sequence[Any]) -> str:
    first, *others = map(_cell, values)
    return f'<tr><th scope="row">{first}</th>{"".join(f"<td>{cell}</td>" for cell in others)}</tr>'


def _cell(value: Any) -> str:
    if isinstance(value, numbers.Real) and not isinstance(value, bool | numbers.Integral):
        return "–" if math.isnan(value) else f"{float(value):.3g}"
    return f"{value:,}" if isinstance(value, numbers.Integral) and not isinstance(value, bool) else escape(str(value))
