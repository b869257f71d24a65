"""Items of a task: read from a file, a folder or a Hugging Face dataset, selected and checked."""

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

from lmri.storage import text_hash
from lmri.storage.splits import SPLITS, split_clusters
from lmri.storage.texts import check_characters, first_line
from lmri.storage.user_tables import FILE_ENDINGS, TABLE_ENDINGS, place, read_table_file

UNLABELLED = ("", "-", "-1", "nan", "None")
"""Values that files contain if the label is withheld or raters disagreed."""


@dataclass(frozen=True)
class Items:
    """Items of a task.

    Parameters
    ----------
    fields : list of dict of str to str
        Texts of each item, by name, such as ``{"premise": …, "hypothesis": …}``.
    targets : list
        Label, or list of references, of each item.
    clusters : list of str
        Unit of resampling and splitting of each item.
    linked : list of list of str
        Texts of each item that two splits may not share.
    notes : tuple of str
        Caveats of the items, for the rows.
    """

    fields: list[dict[str, str]]
    targets: list[Any]
    clusters: list[str]
    linked: list[list[str]]
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        """Return the number of items."""
        return len(self.fields)

    def take(self, places: Sequence[int]) -> "Items":
        """Select items by their indices."""
        return Items(
            [self.fields[index] for index in places],
            [self.targets[index] for index in places],
            [self.clusters[index] for index in places],
            [self.linked[index] for index in places],
            self.notes,
        )

    def of_split(
        self, name: str, split: str, shares: Sequence[float], seed: int, known: Mapping[str, str] | None
    ) -> "Items":
        """Select the items of one split, as assigned by `lmri.splits.split_clusters`."""
        if split not in SPLITS:
            raise ValueError(f"split is {split!r}; choose from {', '.join(map(repr, SPLITS))}.")
        assigned = split_clusters(self.clusters, self.linked, shares, seed, known)
        chosen = self.take([index for index, to in enumerate(assigned) if to == split])
        if not len(chosen):
            raise ValueError(
                f"None of the {len(self)} items of {name!r} is in the split {split!r}. Give more items, other shares, "
                "or another seed."
            )
        return chosen

    def sample(self, limit: int | None, seed: int) -> "Items":
        """Draw `limit` items at random, as files are often sorted by label, preserving their order."""
        if limit is None:
            return self
        if limit < 1:
            raise ValueError(f"limit is {limit}; it must be at least 1.")
        if limit > len(self):
            return replace(self, notes=(*self.notes, f"{limit} items asked for, {len(self)} there"))
        return self.take(sorted(random.Random(seed).sample(range(len(self)), limit)))


def read_source(
    source: str | Path,
    config: str | None = None,
    split: str | None = None,
    quoting: str | None = None,
    *,
    files: Sequence[str] = (),
    header: Sequence[str] = (),
    short_rows: bool = False,
) -> tuple[pd.DataFrame, str]:
    """Read the table of a task.

    Parameters
    ----------
    source : str or Path
        File, folder, or name of a Hugging Face dataset.
    config, split : str, optional
        Configuration and split of a Hugging Face dataset; the default split is ``"validation"``.
    quoting : {"csv", "none"}, optional
        Whether quotation marks in CSV and TSV files enclose fields; see `read_table_file`.
    files : sequence of str
        Names of files to look for in a folder; the first existing one is read.
    header : sequence of str
        Columns of a file without a header line, in order.
    short_rows : bool, default=False
        Whether the last fields of a row may be missing, as in the official files of QQP.

    Returns
    -------
    table : DataFrame
        Table with one row per item and the original columns; the index names the place of each row.
    name : str
        Name of the source, for messages.
    """
    path = Path(source).expanduser()
    if path.is_dir():
        if any((path / name).is_file() for name in ("dataset_info.json", "dataset_dict.json")):
            return _from_disk(path, split), str(path)
        path = _file_in(path, files)
    if path.is_file() or path.suffix.lower() in FILE_ENDINGS or str(source).startswith((".", "/", "~")):
        return read_table_file(path, quoting, header=header, short_rows=short_rows), str(path)
    return load_dataset(str(source), config, split), f"the dataset {source!r}"


def _file_in(folder: Path, names: Sequence[str]) -> Path:
    for name in names:
        if (folder / name).is_file():
            return folder / name
    tables = sorted(path for path in folder.iterdir() if path.suffix.lower() in TABLE_ENDINGS)
    if len(tables) != 1:
        listing = ", ".join(path.name for path in tables) or "none"
        raise ValueError(f"The folder {folder} contains several tables or none ({listing}). Name the file.")
    return tables[0]


def load_dataset(name: str, config: str | None = None, split: str | None = None) -> pd.DataFrame:
    """Load a split of a Hugging Face dataset, or of a folder that the `datasets` library can read."""
    import datasets

    try:
        loaded = datasets.load_dataset(name, config, split=split or "validation")
    except Exception as error:  # the library raises many kinds, for a bad name, configuration, split or connection
        raise ValueError(
            f"{name!r} is not a file and could not be loaded as a dataset (configuration {config!r}, split "
            f"{split or 'validation'!r}): {first_line(error)}. Give one file, or the name of a dataset."
        ) from error
    return _to_table(loaded)


def _from_disk(folder: Path, split: str | None) -> pd.DataFrame:
    import datasets

    loaded = datasets.load_from_disk(str(folder))
    if isinstance(loaded, datasets.DatasetDict):
        name = split or "validation"
        if name not in loaded:
            raise ValueError(f"{folder} has no split {name!r}; choose from {', '.join(map(repr, loaded))}. Name one.")
        loaded = loaded[name]
    return _to_table(loaded)


def _to_table(loaded: Any) -> pd.DataFrame:
    table = loaded.to_pandas()
    for column, feature in loaded.features.items():
        # Label names are used, as numbers depend on the dataset; -1 means "withheld" and has no name.
        if hasattr(feature, "int2str"):
            table[column] = [feature.int2str(int(code)) if code >= 0 else str(int(code)) for code in table[column]]
    return table.set_axis(pd.RangeIndex(1, len(table) + 1, name="row"), axis="index")


def find_column(table: pd.DataFrame, names: Sequence[str], where: str) -> str:
    """Find the column with one of several names, ignoring case.

    Raises
    ------
    ValueError
        If there is no such column, or several that differ only in case.
    """
    for name in names:
        matching = [str(column) for column in table if str(column).strip().casefold() == name.casefold()]
        if len(matching) > 1:
            raise ValueError(
                f"{where} has the columns {' and '.join(map(repr, matching))}, which differ only in case. Rename one."
            )
        if matching:
            return matching[0]
    accepted = " or ".join(map(repr, names))
    raise ValueError(
        f"{where} has no column {accepted}; it has {list(map(str, table))}. Rename a column, or name it in a YAML task "
        "file."
    )


def is_missing(value: object) -> bool:
    """Return whether a field is empty: None, NaN or an empty text."""
    if isinstance(value, str):
        return not value
    return value is None or value is pd.NA or (isinstance(value, float) and value != value)


def _text(value: object, where: str) -> str:
    """Return a field as text, empty if it is missing."""
    if is_missing(value):
        return ""
    if not isinstance(value, str):
        raise TypeError(f"{where} is {value!r} ({type(value).__name__}); texts must be strings. Enclose it in quotes.")
    check_characters(value, where)
    return value


def plain(value: object) -> str:
    """Format a label as text: ``1``, ``1.0`` and ``"1"`` are equal."""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value).strip()


def gather(
    table: pd.DataFrame,
    where: str,
    columns: Mapping[str, Sequence[str]],
    target: Callable[[Any, str], Any],
    target_columns: Sequence[str],
    cluster: Sequence[str],
    linked: Sequence[str],
    cluster_column: str = "",
) -> Items:
    """Create items from a table.

    Parameters
    ----------
    table : DataFrame
        Table with one row per item.
    where : str
        Name of the source, for messages.
    columns : mapping of str to sequence of str
        Accepted names of the column of each field.
    target : callable
        Function from a raw value and its place to the item's target; None if the item has no target and is to be
        excluded.
    target_columns : sequence of str
        Accepted names of the column of targets.
    cluster : sequence of str
        Fields that define a cluster.
    linked : sequence of str
        Fields that two splits may not share.
    cluster_column : str
        Column of cluster names (overrides `cluster`).
    """
    if table.empty:
        raise ValueError(f"{where} contains no rows. Give at least two.")
    texts = {field: list(table[find_column(table, names, where)]) for field, names in columns.items()}
    given = list(table[find_column(table, target_columns, where)])
    named = list(table[find_column(table, [cluster_column], where)]) if cluster_column else None
    items = Items([], [], [], [])
    n_unlabelled = n_empty = 0
    for number, raw in enumerate(given):
        here = f"{where}, {place(table, number)},"
        item = {field: _text(values[number], f"{here} {field}") for field, values in texts.items()}
        value = target(raw, here)
        n_unlabelled += value is None
        n_empty += value is not None and not all(text.strip() for text in item.values())
        if value is None or not all(text.strip() for text in item.values()):
            continue
        items.fields.append(item)
        items.targets.append(value)
        if named and is_missing(named[number]):
            raise ValueError(f"{here} has no {cluster_column!r}, which names its cluster. Add it, or remove the row.")
        # Sorted, so that a pair is the same cluster in either order.
        key = str(named[number]) if named else text_hash("\x1f".join(sorted(item[field] for field in cluster)))
        items.clusters.append(key)
        items.linked.append([*(item[field] for field in linked), "\x1f".join(item.values())])
    if not len(items):
        raise ValueError(
            f"None of the {len(given)} rows of {where} has both a label and texts ({n_unlabelled} without a label, "
            f"{n_empty} with an empty text). Labels of test sets are often withheld: use another file or split."
        )
    notes = [f"{n_unlabelled} rows without a label left out"] * bool(n_unlabelled)
    notes += [f"{n_empty} rows with an empty text left out"] * bool(n_empty)
    return replace(items, notes=tuple(notes))
