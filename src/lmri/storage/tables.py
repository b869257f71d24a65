"""TSV tables that are restored exactly when they are read, and checked for completeness."""

import csv
import gzip
import io
import re
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from lmri.exceptions import StudyError
from lmri.storage.files import atomic_path

# All line breaks that any reader recognizes, the tab, the quote (readers treat it as the start of a quoted field), the
# backslash itself, and lone surrogates, which UTF-8 cannot encode.
_UNSAFE = re.compile('[\\\\"\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]')

_ESCAPE = re.compile(r"\\(?:u([0-9a-f]{4})|(.))", re.DOTALL)

_SHORT = {"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r"}

_LONG = {escape[1]: char for char, escape in _SHORT.items()}

FORMER_COLUMNS = {"p_max": "p_fwe"}
"""Former names of columns of scores, as in stored files, and the names that replaced them."""


def escape(text: str) -> str:
    r"""Escape a text as one field of a TSV file; `unescape` is the inverse.

    Examples
    --------
    >>> print(escape("a\tb"))
    a\tb
    """
    return _UNSAFE.sub(lambda match: _SHORT.get(match[0], f"\\u{ord(match[0]):04x}"), text)


def unescape(field: str) -> str:
    r"""Restore a text from a field that `escape` wrote.

    Examples
    --------
    >>> unescape(escape("\n")) == "\n"
    True
    """
    return _ESCAPE.sub(lambda match: chr(int(match[1], 16)) if match[1] else _LONG[match[2]], field)


def write_table(path: Path, table: pd.DataFrame) -> None:
    """Write a TSV file atomically, with escaped text, missing numbers as ``n/a`` and floats at full precision.

    Parameters
    ----------
    path : Path
        Path of the file, with the suffix ``.tsv`` or ``.tsv.gz``.
    table : DataFrame
        Table to write, without its index.
    """
    plain: dict[str, Any] = {
        str(column): _escaped(table[column]) if _is_text(table[column]) else table[column] for column in table
    }
    text = pd.DataFrame(plain, columns=table.columns).to_csv(
        sep="\t", index=False, na_rep="n/a", quoting=csv.QUOTE_NONE, lineterminator="\n"
    )
    content = text.encode("utf-8")
    with atomic_path(path) as partial:
        # The gzip header contains no time and no file name, so that the same table results in the same bytes.
        partial.write_bytes(gzip.compress(content, mtime=0) if path.suffix == ".gz" else content)


def _is_text(column: pd.Series) -> bool:
    return not pd.api.types.is_numeric_dtype(column)


def _escaped(column: pd.Series) -> pd.Series:
    """Escape a column; each distinct value is escaped once, because tokens recur and pandas strings are slow."""
    values = column.to_numpy(dtype=object)
    fields = {value: escape(value) for value in set(values)}
    return pd.Series([fields[value] for value in values], index=column.index, dtype=object)


def read_table(path: Path, text: Iterable[str] = ()) -> pd.DataFrame:
    """Read a TSV file that `write_table` wrote.

    Parameters
    ----------
    path : Path
        Path of the file.
    text : iterable of str
        Names of text columns, whose values are never read as numbers or missing values, even ``NA`` or ``1e3``.

    Returns
    -------
    DataFrame
        Table with the current names of columns; see `current_names`.

    Raises
    ------
    StudyError
        If the file is missing, or its rows differ in length.
    """
    text = set(text)
    try:
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        fields = pd.read_csv(
            io.BytesIO(content), sep="\t", dtype=str, keep_default_na=False, quoting=csv.QUOTE_NONE, encoding="utf-8"
        )
    except FileNotFoundError:
        raise StudyError(f"{path} is missing. Run `lmri validate` to list all missing files.") from None
    except (
        pd.errors.ParserError,
        pd.errors.EmptyDataError,
        UnicodeDecodeError,
        EOFError,
        OSError,
        zlib.error,
    ) as error:
        raise StudyError(f"{path} is not a complete table ({error}). Delete it and create it again.") from error
    # pandas pads short rows and reads surplus fields in all rows as an index; fields never contain tabs.
    if content.count(b"\t") != (1 + len(fields)) * (fields.shape[1] - 1):
        raise StudyError(f"{path} is not a complete table (its rows differ in length). Delete it and create it again.")
    names = content.split(b"\n", 1)[0].removesuffix(b"\r").decode().split("\t")
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise StudyError(f"{path} has several columns {twice!r}. Rename or delete all but one of them.")
    columns: dict[str, Any] = {}
    for column in fields:
        if column in text:
            columns[column] = pd.Series([unescape(field) for field in fields[column]], dtype=object)
        else:
            columns[column] = _numbers(list(fields[column]), path, str(column))
    return pd.DataFrame(columns, columns=fields.columns).set_axis(current_names(fields.columns), axis="columns")


def current_names(columns: Iterable[str]) -> list[str]:
    """Replace former names of columns, which files of earlier versions hold, with the current names.

    Parameters
    ----------
    columns : iterable of str
        Names of the columns of a table. Only tables of scores, which have a column ``control_family``, are concerned.

    Examples
    --------
    >>> current_names(["p", "p_max", "control_family"]), current_names(["p_max"])
    (['p', 'p_fwe', 'control_family'], ['p_max'])
    """
    return _renamed(list(columns), FORMER_COLUMNS)


def former_names(columns: Iterable[str]) -> list[str]:
    """Replace names of columns with their former names, on which digests of tables are based; see `current_names`."""
    return _renamed(list(columns), {new: old for old, new in FORMER_COLUMNS.items()})


def _renamed(columns: list[str], names: Mapping[str, str]) -> list[str]:
    if "control_family" not in columns:
        return columns
    return [column if names.get(column, column) in columns else names[column] for column in columns]


def _numbers(fields: list[str], path: Path, column: str) -> np.ndarray:
    # Python's conversion, because pandas' faster one can be wrong in the last bit.
    try:
        if all(field.lstrip("-").isdecimal() for field in fields):
            return np.array([int(field) for field in fields], dtype=np.int64)
        return np.array([np.nan if field == "n/a" else float(field) for field in fields], dtype=np.float64)
    except ValueError as error:
        raise StudyError(f"{path} is not a complete table (column {column!r}: {error}). Create it again.") from error
