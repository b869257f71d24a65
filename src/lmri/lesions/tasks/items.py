"""Items of a task: read from a file, a folder or a Hugging Face dataset, selected and checked."""

import csv
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

from lmri.storage import text_hash
from lmri.storage.splits import SPLITS, split_clusters
from lmri.storage.texts import FILE_ENDINGS, first_line, read_table_file

TABLE_ENDINGS = tuple(ending for ending in FILE_ENDINGS if ending != ".txt")

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
    *,
    files: Sequence[str] = (),
    header: Sequence[str] = (),
    quoted: bool = True,
) -> tuple[pd.DataFrame, str]:
    """Read the table of a task.

    Parameters
    ----------
    source : str or Path
        File, folder, or name of a Hugging Face dataset.
    config, split : str, optional
        Configuration and split of a Hugging Face dataset; the default split is ``"validation"``.
    files : sequence of str
        Names of files to look for in a folder; the first existing one is read.
    header : sequence of str
        Columns of a file without a header line, in order.
    quoted : bool, default=True
        Whether TSV files quote their fields; GLUE files do not, and contain unpaired quotation marks.

    Returns
    -------
    table : DataFrame
        Table with one row per item and the original columns.
    name : str
        Name of the source, for messages.
    """
    path = Path(source).expanduser()
    if path.is_dir():
        if any((path / name).is_file() for name in ("dataset_info.json", "dataset_dict.json")):
            return _from_disk(path, split), str(path)
        path = _file_in(path, files)
    if path.is_file() or path.suffix.lower() in FILE_ENDINGS or str(source).startswith((".", "/", "~")):
        if not path.is_file():
            raise FileNotFoundError(f"{path} does not exist. Check the path.")
        if header or (not quoted and path.suffix.lower() in (".tsv", ".txt")):
            return _read_lines(path, header, quoted), str(path)
        return read_table_file(path), str(path)
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


def _read_lines(path: Path, header: Sequence[str], quoted: bool) -> pd.DataFrame:
    """Read CSV or TSV whose first line may be a header or an item."""
    ending = path.suffix.lower()
    if ending not in (".csv", ".tsv", ".txt"):
        return read_table_file(path)
    quoting = csv.QUOTE_MINIMAL if quoted or ending == ".csv" else csv.QUOTE_NONE
    try:
        table = pd.read_csv(
            path,
            sep="," if ending == ".csv" else "\t",
            header=None,
            dtype=str,
            keep_default_na=False,
            quoting=quoting,
            encoding="utf-8-sig",
        ).fillna("")  # lines that are too short
    except (ValueError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} cannot be read as {ending[1:].upper()}: {error}") from error
    first = [str(field) for field in table.iloc[0]]
    # Column names are not numbers, while an item has its numeric label in some column.
    is_item = len(header) == len(first) and any(field.strip().lstrip("-").isdecimal() for field in first)
    if is_item:
        return table.set_axis(list(header), axis=1)
    return table.iloc[1:].set_axis(first, axis=1).reset_index(drop=True)


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
    return table


def find_column(table: pd.DataFrame, names: Sequence[str], where: str) -> str:
    """Find the column with one of several names, ignoring case.

    Raises
    ------
    ValueError
        If there is no such column.
    """
    known = {str(column).strip().casefold(): str(column) for column in table}
    for name in names:
        if name.casefold() in known:
            return known[name.casefold()]
    accepted = " or ".join(map(repr, names))
    raise ValueError(
        f"{where} has no column {accepted}; it has {list(map(str, table))}. Rename a column, or name it in a YAML task "
        "file."
    )


def plain(value: object) -> str:
    """Format a label as text: ``1``, ``1.0`` and ``"1"`` are equal."""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value).strip()


def gather(
    table: pd.DataFrame,
    where: str,
    columns: Mapping[str, Sequence[str]],
    target: Callable[[Any], Any],
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
        Function from a raw value to the item's target; None if the item has no target and is to be excluded.
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
        item = {field: values[number] for field, values in texts.items()}
        for field, text in item.items():
            if not isinstance(text, str):
                item[field] = "" if text is None or text != text else str(text)
        value = target(raw)
        n_unlabelled += value is None
        n_empty += value is not None and not all(text.strip() for text in item.values())
        if value is None or not all(text.strip() for text in item.values()):
            continue
        items.fields.append(item)
        items.targets.append(value)
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
