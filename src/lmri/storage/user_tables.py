"""Tables of users, in CSV, TSV, JSON, JSON Lines or Parquet, with the place of every row for error messages."""

import re
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from lmri.exceptions import DataWarning
from lmri.storage.json_files import read_json, read_json_lines
from lmri.storage.notices import notice
from lmri.storage.text_files import Record, TextFile

TABLE_ENDINGS = (".csv", ".tsv", ".jsonl", ".json", ".parquet")
FILE_ENDINGS = (".txt", *TABLE_ENDINGS)
QUOTINGS = ("csv", "none")
"""Accepted values of `quoting`, besides None."""


def read_table_file(
    path: Path, quoting: str | None = None, *, header: Sequence[str] = (), short_rows: bool = False
) -> pd.DataFrame:
    """Read a table; no text is interpreted as a missing value or as a number.

    ``.csv`` is RFC 4180 with the separator ``,`` or ``;``, decided by the header. ``.tsv``, and ``.txt`` with a table,
    have no quoting; see `docs/decisions/30-quotation-marks.md`. Lines of JSON Lines may be blank.

    Parameters
    ----------
    path : Path
        File.
    quoting : {"csv", "none"}, optional
        Whether quotation marks in CSV and TSV files enclose fields; by default they do in ``.csv`` only.
    header : sequence of str
        Columns of a file whose first line is a row, not a header.
    short_rows : bool, default=False
        Whether the last fields of a row may be missing; they are then empty.

    Returns
    -------
    DataFrame
        Table of objects. The index is the line, item or row of each row, counted from 1, and has this name.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If the format is unknown, or the file cannot be read without guessing.
    """
    check_quoting(quoting)
    ending = path.suffix.lower()
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist. Check the path.")
    if ending not in FILE_ENDINGS:
        raise ValueError(f"{path} ends in {ending!r}; choose from {', '.join(FILE_ENDINGS)}.")
    if ending == ".parquet":
        return _from_parquet(path)
    file = TextFile.read(path)
    if ending == ".jsonl":
        table = _from_objects(read_json_lines(file), "line")
    elif ending == ".json":
        table = _from_json(file, read_json(file))
    else:
        separator = _separator(file) if ending == ".csv" else "\t"
        records = _records(file, separator, quoting or ("csv" if ending == ".csv" else None), header)
        table = _from_records(file, separator, records, header, short_rows)
    report(file, len(table))
    return table


def check_quoting(quoting: str | None) -> None:
    """Raise `ValueError` if a value of ``quoting`` is not accepted."""
    if quoting not in (None, *QUOTINGS):
        raise ValueError(
            f"quoting is {quoting!r}; choose from 'csv' (quotation marks enclose fields), 'none' (they belong to the "
            "texts), and None (csv in .csv files, none in .tsv files)."
        )


def report(file: TextFile, n_texts: int) -> None:
    """Print the number of texts of a file next to its number of lines, so that merged rows are noticed."""
    notice(f"Read {_count(n_texts, 'text')} from {_count(file.n_lines, 'line')} of {file.path}")


def _count(n: int, noun: str) -> str:
    return f"{n:,} {noun}{'' if n == 1 else 's'}"


def place(table: pd.DataFrame | pd.Series, number: int) -> str:
    """Name the place of a row in its file, such as ``line 3``."""
    return f"{table.index.name or 'row'} {table.index[number]}"


# -- CSV and TSV ------------------------------------------------------------------------------------------------------


def _separator(file: TextFile) -> str:
    """Determine the separator of a CSV file from its first line, outside quotation marks."""
    first = re.match(r'\s*((?:"(?:[^"]++|"")*+"|[^\r\n])*)', file.text)
    names = re.sub(r'"(?:[^"]++|"")*+"', "", first[1] if first else "")
    if "," in names and ";" in names:
        raise file.refusal(
            1, "contains both ',' and ';' outside quotation marks, so the separator is unknown. Enclose names that "
            "contain one of them in quotation marks.",
        )  # fmt: skip
    return ";" if ";" in names else ","


def _records(file: TextFile, separator: str, quoting: str | None, header: Sequence[str]) -> list[Record]:
    """Split a file into records without blank lines; of a TSV file without `quoting`, check that it has none."""
    if quoting == "csv":
        return _filled(list(file.quoted_records(separator)))
    plain = _filled(file.plain_records(separator))
    if quoting is None and '"' in file.text:
        _check_unquoted(file, separator, plain, header)
    return plain


def _filled(records: list[Record]) -> list[Record]:
    return [(line, fields) for line, fields in records if len(fields) > 1 or fields[0].strip()]


def _check_unquoted(file: TextFile, separator: str, plain: list[Record], header: Sequence[str]) -> None:
    """Refuse a TSV file if its fields can be read as quoted ones, and the rows depend on it.

    Only if every field that begins with a quotation mark also ends with one are the records of RFC 4180 complete.
    """
    try:
        quoted = _filled(list(file.quoted_records(separator)))
    except ValueError:
        return
    fields = [field for _, record in quoted for field in record]
    if any(char in field for field in fields for char in (separator, "\n", "\r")):
        n_quoted, n_plain = (len(records) - _has_names(records, header) for records in (quoted, plain))
        raise ValueError(
            f"{file.path} is ambiguous: it has {_count(n_quoted, 'text')} with quoting, and {_count(n_plain, 'text')} "
            'without. Choose --quoting csv (quoting="csv"), if the marks enclose fields that '
            'contain tabs or line ends, or --quoting none (quoting="none"), if they belong to the texts.'
        )
    doubled = [f for _, record in plain for f in record if f[:1] == f[-1:] == '"' and '""' in f[1:-1]]
    if doubled:
        warnings.warn(
            f"{len(doubled)} fields of {file.path} are enclosed in quotation marks and contain doubled ones, such as "
            f"{doubled[0][:40]!r}. TSV files have no quoting, so all marks are part of the texts. If a program added "
            'them, use --quoting csv (quoting="csv").',
            DataWarning,
            stacklevel=2,
        )


def _from_records(
    file: TextFile, separator: str, records: list[Record], header: Sequence[str], short_rows: bool
) -> pd.DataFrame:
    if not records:
        raise ValueError(f"{file.path} is empty. It needs a line with the names of its columns, and one row per text.")
    names = list(header)
    if _has_names(records, header):
        names, records = _names(file, *records[0]), records[1:]
    for line, fields in records:
        if len(fields) < len(names) and short_rows:
            fields += [""] * (len(names) - len(fields))
        if len(fields) != len(names):
            more = "more" if len(fields) > len(names) else "fewer"
            raise file.refusal(
                line, f"has {len(fields)} fields, {more} than its first line has names ({len(names)}). "
                + ("Remove tabs and line ends from the texts." if separator == "\t"
                   else f"Enclose texts that contain {separator!r} in quotation marks."),
            )  # fmt: skip
    columns = {name: [fields[number] for _, fields in records] for number, name in enumerate(names) if name}
    return pd.DataFrame(columns, index=pd.Index([line for line, _ in records], name="line"), dtype=object)


def _has_names(records: list[Record], header: Sequence[str]) -> bool:
    """Return whether the first record is a header: names are not numbers, while a row has its label in some column."""
    first = records[0][1]
    return len(first) != len(header) or not any(field.strip().lstrip("-").isdecimal() for field in first)


def _names(file: TextFile, line: int, fields: Sequence[str]) -> list[str]:
    """Return the names of columns; columns without a name, such as an index that a program added, are ignored."""
    names = [field.strip() for field in fields]
    for name in names:
        if name and names.count(name) > 1:
            numbers = [str(number) for number, other in enumerate(names, start=1) if other == name]
            raise file.refusal(line, f"names the columns {' and '.join(numbers)} {name!r}. Rename one of them.")
    return names


# -- JSON and Parquet -------------------------------------------------------------------------------------------------


def _from_objects(rows: list[tuple[int, dict[str, Any]]], index: str) -> pd.DataFrame:
    # Object columns, because pandas strings reject half a surrogate pair without naming the text.
    table = pd.DataFrame([row for _, row in rows], dtype=object)
    return table.set_axis(pd.Index([number for number, _ in rows], name=index), axis="index")


def _from_json(file: TextFile, content: Any) -> pd.DataFrame:
    if isinstance(content, list):
        for number, item in enumerate(content, start=1):
            if not isinstance(item, dict):
                raise ValueError(
                    f"{file.path} cannot be read as JSON: item {number} is {str(item)[:80]!r}; needed are objects such "
                    'as {"text": "..."}.'
                )
        return _from_objects(list(enumerate(content, start=1)), "item")
    try:
        table = pd.DataFrame(content, dtype=object)
    except ValueError as error:
        raise ValueError(f"{file.path} cannot be read as JSON: {error}. Needed is a list of objects.") from error
    return table.set_axis(pd.RangeIndex(1, len(table) + 1, name="item"), axis="index")


def _from_parquet(path: Path) -> pd.DataFrame:
    try:
        table = pd.read_parquet(path)
    except (ValueError, OSError) as error:
        raise ValueError(f"{path} cannot be read as PARQUET: {error}") from error
    notice(f"Read {_count(len(table), 'text')} from {path}")
    return table.set_axis(pd.RangeIndex(1, len(table) + 1, name="row"), axis="index")
