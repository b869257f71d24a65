"""Outcome: the text, tables and figures of an experiment, for storage, reports and papers. Data only.

On disk it consists of `outcome.json` with the text and the order of the tables, a TSV file per table, a TSV and a
Markdown file per layout, and an SVG and a PNG file per figure. The same outcome results in the same bytes, and reading
restores the outcome exactly.
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
from lmri.storage.files import atomic_path, read_json, write_json, write_text
from lmri.storage.provenance import digest
from lmri.storage.tables import current_names, escape, former_names, read_table, write_table

ABOUT = "outcome.json"
"""Name of the file that describes the other files."""

_STEM = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")

_MARKDOWN = re.compile(r"([\\|`*_<>\[\]])")


@dataclass(frozen=True, eq=False)
class Outcome:
    """Result of an experiment: text, tables and figures.

    Parameters
    ----------
    experiment : str
        Name of the experiment and of its command, such as ``"preserve"``.
    title : str
        Title of one line, for headings.
    text : str
        Results and their limitations in a few plain sentences; paragraphs are separated by an empty line.
    tables : mapping of str to DataFrame
        Tables by the stem of their file; the first is the main one. They are stored as TSV without the index; truth
        values become 0 and 1, and missing text becomes empty.
    layouts : mapping of str to DataFrame
        Tables for display, in the paper's layout, with the paper's values alongside where they exist. Cells are shown
        unchanged, so numbers are already rounded. `to_markdown` formats one as a Markdown table.
    figures : mapping of str to Drawing
        Figures by the stem of their file.

    Raises
    ------
    TypeError
        If a table or layout is not a DataFrame, a figure is not a `Drawing`, or a column contains values other than
        numbers or text.
    ValueError
        If a stem is not accepted as a file name, or a table has no columns or two columns of the same name.
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
                    f"A table or figure is named {stem!r}; use only letters, digits, '_' and '-', because the name "
                    "becomes a file name."
                )
        for stem, figure in self.figures.items():
            if not isinstance(figure, Drawing):
                raise TypeError(
                    f"The figure {stem!r} is a {type(figure).__name__}; accepted is a Drawing. Create one with "
                    "lmri.space.drawing.drawing(figure, caption)."
                )
        tables = {stem: _plain(table, stem) for stem, table in self.tables.items()}
        layouts = {stem: _layout(table, stem) for stem, table in self.layouts.items()}
        object.__setattr__(self, "tables", tables)
        object.__setattr__(self, "layouts", layouts)
        object.__setattr__(self, "figures", dict(self.figures))

    @cached_property
    def digest(self) -> str:
        """Hash of the text and tables; figures are excluded, because their bytes depend on the plotting library.

        Columns that have been renamed count under their former names, so that stored digests remain valid.
        """
        return digest(
            [
                self.experiment,
                self.title,
                self.text,
                [[stem, table.to_csv(index=False, header=former_names(table))] for stem, table in self.tables.items()],
                [[stem, table.to_csv(index=False)] for stem, table in self.layouts.items()],
            ]
        )

    def write(self, folder: str | Path) -> Path:
        """Write all files to a new folder atomically.

        Parameters
        ----------
        folder : str or Path
            Path of the folder, which must not exist.

        Returns
        -------
        Path
            Path of the folder.

        Raises
        ------
        FileExistsError
            If the folder exists.
        """
        folder = Path(folder)
        if folder.exists():
            raise FileExistsError(f"{folder} exists. Nothing was overwritten. Choose another --out.")
        with atomic_path(folder) as partial:
            partial.mkdir()
            self.save(partial.joinpath)
        return folder

    def save(self, file: Callable[[str], Path]) -> None:
        """Write all files.

        Parameters
        ----------
        file : callable
            Function from a file name, such as ``"effects.tsv"``, to the path to write to.
        """
        for stem, table in self.tables.items():
            write_table(file(f"{stem}.tsv"), table)
        for stem, table in self.layouts.items():
            write_table(file(f"{stem}.layout.tsv"), table)
            write_text(file(f"{stem}.md"), to_markdown(table))
        for stem, figure in self.figures.items():
            write_text(file(f"{stem}.svg"), figure.svg)
            with atomic_path(file(f"{stem}.png")) as partial:
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
        """Read an outcome that `save` wrote.

        Parameters
        ----------
        file : callable
            Function from a file name to its path, as for `save`; for a folder written by `write`, its ``joinpath``.

        Raises
        ------
        StudyError
            If a file is missing or incomplete.
        """
        about = read_json(file(ABOUT))
        try:
            tables = {stem: _read_table(file(f"{stem}.tsv"), kinds) for stem, kinds in about["tables"].items()}
            layouts = {stem: _read_layout(file(f"{stem}.layout.tsv")) for stem in about["layouts"]}
            figures = {stem: _read_figure(file, stem, caption) for stem, caption in about["figures"].items()}
            return cls(about["experiment"], about["title"], about["text"], tables, layouts, figures)
        except (KeyError, FileNotFoundError) as error:
            raise StudyError(f"{file(ABOUT)} does not match its files: {error}. Compute the outcome again.") from error


def to_markdown(table: pd.DataFrame) -> str:
    r"""Format a table in Markdown, with markup characters in cells escaped.

    Parameters
    ----------
    table : DataFrame
        Table to format, without its index. All columns except the first are aligned to the right.

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
    """Return a table of integers, floats and text, identical to the table that is read back from a file."""
    if not isinstance(table, pd.DataFrame):
        raise TypeError(f"The table {stem!r} is a {type(table).__name__}; accepted is a pandas DataFrame.")
    names = [str(name) for name in table.columns]
    if not names or len(set(names)) < len(names) or any(escape(name) != name or not name for name in names):
        raise ValueError(
            f"The table {stem!r} has the columns {names}; accepted is at least one, each with a unique name that "
            "contains no tab, quote, backslash or line break. Rename them."
        )
    plain = pd.DataFrame(
        {name: _plain_column(table.iloc[:, index], f"{stem}.{name}") for index, name in enumerate(names)}, columns=names
    )
    if len(names) == 1 and (plain[names[0]] == "").any():
        raise ValueError(
            f"The only column of the table {stem!r}, {names[0]!r}, contains empty text, and a file cannot "
            "distinguish an empty row from a missing one. Add a second column."
        )
    return plain


def _plain_column(column: pd.Series, where: str) -> np.ndarray:
    gaps = column.isna().to_numpy()
    known = column[~gaps].to_list()
    if not known:  # only gaps, or no rows: the dtype of the column decides
        kind = _kind(column)
        return np.full(len(column), np.nan) if len(column) else np.empty(0, _DTYPES[kind])
    if all(isinstance(value, str) for value in known):
        return np.array(["" if gap else value for value, gap in zip(column, gaps, strict=True)], dtype=object)
    if not all(isinstance(value, bool | np.bool_ | int | float | np.integer | np.floating) for value in known):
        raise TypeError(f"The column {where} contains {known[0]!r}; store a column of numbers or of text.")
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
    kinds = dict(zip(current_names(kinds), kinds.values(), strict=True))
    if list(table) != list(kinds):
        raise StudyError(f"{path} has the columns {list(table)} instead of {list(kinds)}. Compute it again.")
    return table.astype({name: _DTYPES[kind] for name, kind in kinds.items()})


def _read_layout(path: Path) -> pd.DataFrame:
    names = path.read_text(encoding="utf-8").split("\n", 1)[0].split("\t")
    return read_table(path, names)


def _read_figure(file: Callable[[str], Path], stem: str, caption: str) -> Drawing:
    # Bytes, because reading as text would change line endings.
    return Drawing(file(f"{stem}.svg").read_bytes().decode("utf-8"), file(f"{stem}.png").read_bytes(), caption)
