"""Outcome: what an experiment gives, ready to be stored, reported and put in a paper. Data only.

On disk it is a few files: `outcome.json` with words and order, a TSV for each table, a TSV and a Markdown file for each
layout, an SVG and a PNG for each figure. The same outcome gives the same bytes, and what is read is what was written.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd

from lmri.exceptions import StudyError
from lmri.space.drawing import Drawing
from lmri.storage.files import read_json, whole, write_json, write_text
from lmri.storage.provenance import digest
from lmri.storage.tables import escape, read_table, write_table

ABOUT = "outcome.json"
"""The file that says what the others are."""

_STEM = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")

_MARKDOWN = re.compile(r"([\\|`*_<>\[\]])")


@dataclass(frozen=True, eq=False)
class Outcome:
    """What an experiment gives.

    Parameters
    ----------
    experiment : str
        Such as ``"preserve"``; also the command.
    title : str
        A line, for headings.
    text : str
        What was found and what it does not say, in a few plain sentences; an empty line parts paragraphs.
    tables : mapping of str to DataFrame
        By the stem of the file; the first is the main one. Stored as TSV. The index is left out; truth values become 0
        and 1, and missing text becomes empty.
    layouts : mapping of str to DataFrame
        Tables for the eye, in the paper's layout, with the paper's numbers beside these where they exist: what is in a
        cell is shown as it is, so numbers are rounded already. `to_markdown` writes one as a Markdown table.
    figures : mapping of str to Drawing
        By the stem of the file.

    Raises
    ------
    TypeError
        If a table or layout is no DataFrame, a figure no `Drawing`, or a column holds neither numbers nor text.
    ValueError
        If a stem cannot be a file name, or there is a table without columns or with two of one name.
    """

    experiment: str
    title: str
    text: str
    tables: Mapping[str, pd.DataFrame]
    layouts: Mapping[str, pd.DataFrame] = field(default_factory=dict)
    figures: Mapping[str, Drawing] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for stem in (*self.tables, *self.layouts, *self.figures):
            if not isinstance(stem, str) or not _STEM.fullmatch(stem):
                raise ValueError(
                    f"A table or figure is called {stem!r}; it becomes a file, so accepted are letters, digits, "
                    "'_' and '-'. Call it something else."
                )
        for stem, figure in self.figures.items():
            if not isinstance(figure, Drawing):
                raise TypeError(
                    f"The figure {stem!r} is a {type(figure).__name__}; accepted is a Drawing. Make one with "
                    "lmri.space.drawing.drawing(figure, caption)."
                )
        tables = {stem: _plain(table, stem) for stem, table in self.tables.items()}
        layouts = {stem: _layout(table, stem) for stem, table in self.layouts.items()}
        object.__setattr__(self, "tables", tables)
        object.__setattr__(self, "layouts", layouts)
        object.__setattr__(self, "figures", dict(self.figures))

    @cached_property
    def digest(self) -> str:
        """Hash of the words and numbers; figures are drawn from these, by a version of something or other."""
        return digest(
            [
                self.experiment,
                self.title,
                self.text,
                [[stem, table.to_csv(index=False)] for stem, table in self.tables.items()],
                [[stem, table.to_csv(index=False)] for stem, table in self.layouts.items()],
            ]
        )

    def write(self, folder: str | Path) -> Path:
        """Write all files to a new folder, whole or not at all.

        Parameters
        ----------
        folder : str or Path
            Must not exist.

        Returns
        -------
        Path
            The same.

        Raises
        ------
        FileExistsError
            If it does.
        """
        folder = Path(folder)
        if folder.exists():
            raise FileExistsError(f"{folder} exists. Nothing was overwritten: choose another --out.")
        with whole(folder) as partial:
            partial.mkdir()
            self.save(partial.joinpath)
        return folder

    def save(self, file: Callable[[str], Path]) -> None:
        """Write all files.

        Parameters
        ----------
        file : callable
            Turns a name, such as ``"effects.tsv"``, into the path to write to.
        """
        for stem, table in self.tables.items():
            write_table(file(f"{stem}.tsv"), table)
        for stem, table in self.layouts.items():
            write_table(file(f"{stem}.layout.tsv"), table)
            write_text(file(f"{stem}.md"), to_markdown(table))
        for stem, figure in self.figures.items():
            write_text(file(f"{stem}.svg"), figure.svg)
            with whole(file(f"{stem}.png")) as partial:
                partial.write_bytes(figure.png)
        content = {
            "experiment": self.experiment,
            "title": self.title,
            "text": self.text,
            "tables": {stem: {name: _kind(table[name]) for name in table} for stem, table in self.tables.items()},
            "layouts": list(self.layouts),
            "figures": {stem: figure.caption for stem, figure in self.figures.items()},
        }
        write_json(file(ABOUT), content)

    @classmethod
    def read(cls, file: Callable[[str], Path]) -> "Outcome":
        """Read what `save` wrote.

        Parameters
        ----------
        file : callable
            As it was given to `save`; of a folder that `write` made, its ``joinpath``.

        Raises
        ------
        StudyError
            If a file is missing or not whole.
        """
        about = read_json(file(ABOUT))
        try:
            tables = {stem: _read_table(file(f"{stem}.tsv"), kinds) for stem, kinds in about["tables"].items()}
            layouts = {stem: _read_layout(file(f"{stem}.layout.tsv")) for stem in about["layouts"]}
            figures = {stem: _read_figure(file, stem, caption) for stem, caption in about["figures"].items()}
            return cls(about["experiment"], about["title"], about["text"], tables, layouts, figures)
        except (KeyError, FileNotFoundError) as error:
            raise StudyError(
                f"{file(ABOUT)} does not agree with its files: {error}. Make the outcome again."
            ) from error


def to_markdown(table: pd.DataFrame) -> str:
    r"""Write a table in Markdown; whatever would be markup in a cell is escaped.

    Parameters
    ----------
    table : DataFrame
        The index is left out. All columns but the first are set flush right.

    Examples
    --------
    >>> print(to_markdown(pd.DataFrame({"task": ["a|b"], "score": ["0.50"]})))
    | task | score |
    | --- | ---: |
    | a\|b | 0.50 |
    <BLANKLINE>
    """
    lines = [[_escaped(value) for value in row] for row in (list(table), *table.itertuples(index=False))]
    lines.insert(1, ["---", *["---:"] * (table.shape[1] - 1)])
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _escaped(value: object) -> str:
    return _MARKDOWN.sub(r"\\\1", " ".join(_shown(value).split()))


def _shown(value: object) -> str:
    if value is None or (isinstance(value, float | np.floating) and np.isnan(value)):
        return "–"
    return str(value)


def _layout(table: object, stem: str) -> pd.DataFrame:
    return _plain(table.map(_shown) if isinstance(table, pd.DataFrame) else table, stem)


def _plain(table: object, stem: str) -> pd.DataFrame:
    """Give a table of whole numbers, numbers and text, as it comes back from a file."""
    if not isinstance(table, pd.DataFrame):
        raise TypeError(f"The table {stem!r} is a {type(table).__name__}; accepted is a pandas DataFrame.")
    names = [str(name) for name in table.columns]
    if not names or len(set(names)) < len(names) or any(escape(name) != name or not name for name in names):
        raise ValueError(
            f"The table {stem!r} has the columns {names}; accepted is at least one, each with a name of its own that "
            "holds no tab, quote, backslash or line end. Rename them."
        )
    columns = {name: table.iloc[:, place] for place, name in enumerate(names)}
    plain = pd.DataFrame({name: _plain_column(own, f"{stem}.{name}") for name, own in columns.items()}, columns=names)
    if len(names) == 1 and (plain[names[0]] == "").any():
        raise ValueError(
            f"The only column of the table {stem!r}, {names[0]!r}, holds empty text, and a file cannot tell an empty "
            "row from none. Give it a second column."
        )
    return plain


def _plain_column(column: pd.Series, where: str) -> np.ndarray:
    gaps = column.isna().to_numpy()
    known = column[~gaps].to_list()
    if not known:  # gaps, or nothing at all: of the kind that the column was made for
        kind = _kind(column)
        return np.full(len(column), np.nan) if len(column) else np.empty(0, _DTYPES[kind])
    if all(isinstance(value, str) for value in known):
        return np.array(["" if gap else value for value, gap in zip(column, gaps, strict=True)], dtype=object)
    if not all(isinstance(value, bool | np.bool_ | int | float | np.integer | np.floating) for value in known):
        raise TypeError(f"The column {where} holds {known[0]!r}; accepted are columns of numbers, or of text.")
    if not gaps.any() and not any(isinstance(value, float | np.floating) for value in known):
        return np.array(known, dtype=np.int64)
    return np.array([np.nan if gap else float(value) for value, gap in zip(column, gaps, strict=True)])


def _kind(column: pd.Series) -> str:
    if pd.api.types.is_bool_dtype(column) or pd.api.types.is_integer_dtype(column):
        return "whole"
    return "number" if pd.api.types.is_numeric_dtype(column) else "text"


_DTYPES = {"whole": np.int64, "number": np.float64, "text": object}


def _read_table(path: Path, kinds: Mapping[str, str]) -> pd.DataFrame:
    table = read_table(path, [name for name, kind in kinds.items() if kind == "text"])
    if list(table) != list(kinds):
        raise StudyError(f"{path} has the columns {list(table)}, and should have {list(kinds)}. Make it again.")
    return table.astype({name: _DTYPES[kind] for name, kind in kinds.items()})


def _read_layout(path: Path) -> pd.DataFrame:
    names = path.read_text(encoding="utf-8").split("\n", 1)[0].split("\t")
    return read_table(path, names)


def _read_figure(file: Callable[[str], Path], stem: str, caption: str) -> Drawing:
    # Bytes, because reading text would change line ends.
    return Drawing(file(f"{stem}.svg").read_bytes().decode("utf-8"), file(f"{stem}.png").read_bytes(), caption)
