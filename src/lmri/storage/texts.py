"""Reading of texts from files, folders and datasets, and their split into fitted and held-out texts."""

import hashlib
import logging
import random
import re
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from lmri.exceptions import DataWarning
from lmri.storage.folders import files_of
from lmri.storage.notices import notice
from lmri.storage.provenance import text_hash
from lmri.storage.text_files import TextFile
from lmri.storage.user_tables import FILE_ENDINGS, check_quoting, place, read_table_file, report

logger = logging.getLogger(__name__)

_SURROGATE = re.compile("[\ud800-\udfff]")


def read_texts(
    source: str | Path | Iterable[str],
    *,
    column: str = "text",
    limit: int | None = None,
    shuffle: bool = False,
    seed: int = 0,
    config: str | None = None,
    split: str | None = None,
    quoting: str | None = None,
) -> list[str]:
    """Read texts from a list, a file, a folder of files or a Hugging Face dataset.

    Parameters
    ----------
    source : str, Path or iterable of str
        Texts; or a file: ``.txt`` (one text per line), ``.csv``, ``.tsv``, ``.jsonl``, ``.json`` (a list of objects) or
        ``.parquet``; or a folder of such files; or the name of a Hugging Face dataset, such as ``"ag_news"``.
    column : str, default="text"
        Column of a table or dataset with the texts.
    limit : int, optional
        Maximum number of texts.
    shuffle : bool, default=False
        Whether to shuffle the texts before `limit` is applied; files are often sorted by topic.
    seed : int, default=0
        Seed of the shuffle.
    config, split : str, optional
        Configuration and split of a Hugging Face dataset; the default split is ``"train"``. Files of a folder belong to
        a split by their name.
    quoting : {"csv", "none"}, optional
        Whether quotation marks in CSV and TSV files enclose fields (``"csv"``) or belong to the texts (``"none"``); by
        default they enclose fields in ``.csv`` files only.

    Returns
    -------
    list of str
        At least one text, without duplicates and without texts of white space only.

    Raises
    ------
    ValueError
        If there are no such texts, or the column or dataset is unknown.
    """
    if limit is not None and limit < 1:
        raise ValueError(f"limit is {limit}; it must be at least 1.")
    check_quoting(quoting)
    parts, name = _load(source, column, config, split, quoting)
    for file, texts in parts.items():
        _check(texts, file)
    selected = _without_empty_and_duplicates([text for texts in parts.values() for text in texts], name)
    if shuffle:
        random.Random(seed).shuffle(selected)
    selected = selected[:limit]
    if not selected:
        raise ValueError(f"{name} contains no texts. Provide at least one text that is not only white space.")
    logger.info("%d texts from %s", len(selected), name)
    return selected


def _check(texts: pd.Series, name: str) -> None:
    """Raise an error that names the place of the first text that is not a string of valid characters."""
    for number, text in enumerate(texts):
        if isinstance(text, str) and (text.isascii() or not _SURROGATE.search(text)):
            continue
        where = f"Text {number} of {name}"
        if texts.index.name:
            where = f"{name}, {place(texts, number)}" + (f", column {texts.name!r}," if texts.name else ",")
        if not isinstance(text, str):
            # A key that is missing in a line of JSON Lines is NaN in the table.
            value = "missing" if isinstance(text, float) and text != text else f"{text!r} ({type(text).__name__})"
            raise TypeError(f"{where} is {value}; texts must be strings.")
        check_characters(text, where)


def check_characters(text: str, name: str = "The text") -> None:
    """Raise `ValueError` if a text contains half a surrogate pair, which can be neither tokenized nor stored."""
    if not text.isascii() and (half := _SURROGATE.search(text)):
        raise ValueError(
            f"{name} contains half a surrogate pair, which is not a valid character: {half[0]!a} at {half.start()}. "
            "Remove it."
        )


def get_column(
    table: pd.DataFrame,
    column: str,
    name: str,
    hint: str = "Name the column that contains the texts: --text-column (column= in Python).",
) -> pd.Series:
    """Return one column of `table`, or raise `ValueError` with the list of columns."""
    if not len(table.columns):
        raise ValueError(f"{name} contains no rows. Provide at least one text.")
    if column not in table:
        if f'"{column}"' in table:
            hint = 'Quotation marks enclose the names: use --quoting csv (quoting="csv").'
        raise ValueError(f"{name} has no column {column!r}; it has {', '.join(map(repr, table.columns))}. {hint}")
    return table[column]


def _load(
    source: str | Path | Iterable[str], column: str, config: str | None, split: str | None, quoting: str | None
) -> tuple[dict[str, pd.Series], str]:
    """Load texts by file, with their places as the index, and the name of their source."""
    if not isinstance(source, str | Path):
        return {"the list": pd.Series(list(source), dtype=object)}, "the list"
    path = Path(source)
    files = files_of(path, split) if path.is_dir() and config is None else []
    if path.is_file() or path.suffix.lower() in FILE_ENDINGS:
        files = files or [path]
    if files:
        return {str(file): _from_file(file, column, quoting) for file in files}, str(path)
    name = f"the dataset {str(source)!r}, split {split or 'train'!r}"
    return {name: _load_dataset(str(source), column, config, split)}, name


def _from_file(path: Path, column: str, quoting: str | None) -> pd.Series:
    if path.suffix.lower() != ".txt":
        return get_column(read_table_file(path, quoting), column, str(path))
    file = TextFile.read(path)
    texts = pd.Series({number: line for number, line in enumerate(file.lines(), start=1) if line.strip()}, dtype=object)
    report(file, len(texts))
    return texts.rename_axis("line")


def first_line(error: Exception) -> str:
    """Return the first line of an error message, because other libraries list hundreds of files after it."""
    words = (str(error).strip() or type(error).__name__).splitlines()[0]
    return words.rstrip(".") if len(words) <= 300 else f"{words[:300]} ..."


def _load_dataset(name: str, column: str, config: str | None, split: str | None) -> pd.Series:
    import datasets

    split = split or "train"
    try:
        dataset = datasets.load_dataset(name, config, split=split)
    except Exception as error:  # the library raises many kinds, for a bad name, configuration, split or connection
        raise ValueError(
            f"{name!r} is neither a file nor a dataset that could be loaded (configuration {config!r}, "
            f"split {split!r}): {first_line(error)}. Accepted are a file ({', '.join(FILE_ENDINGS)}), a folder of such "
            "files, or the name of a dataset."
        ) from error
    if column not in dataset.column_names:
        get_column(pd.DataFrame(columns=dataset.column_names), column, f"The dataset {name!r}")
    return pd.Series(list(dataset[column]), dtype=object)


def _without_empty_and_duplicates(texts: list[str], name: str) -> list[str]:
    filled = [text for text in texts if text.strip()]
    unique = list(dict.fromkeys(filled))
    n_duplicates = len(filled) - len(unique)
    if n_duplicates:
        warnings.warn(
            f"{n_duplicates} of {len(filled)} texts of {name} are repeated. Each text is used once, so that no text is "
            "used both for fitting and for testing.",
            DataWarning,
            stacklevel=3,
        )
    if len(filled) < len(texts):
        notice(f"Skipped {len(texts) - len(filled):,} texts of white space only of {name}")
    return unique


def split_texts(texts: Iterable[str], test_fraction: float, seed: int, known: Mapping[str, str]) -> list[str]:
    """Assign each text to ``"fit"`` or ``"test"``.

    Texts are ranked by a hash of the seed and the text itself, so the assignment depends on neither their order nor the
    machine, and the first ``test_fraction`` of the ranking are test texts. Texts in `known` keep their split.

    Parameters
    ----------
    texts : iterable of str
        Texts, without duplicates.
    test_fraction : float
        Fraction of test texts, in [0, 1). At least one text is assigned to fit.
    seed : int
        Seed of the ranking.
    known : mapping of str to str
        Splits of previously recorded texts of the study, by text hash.

    Returns
    -------
    list of {"fit", "test"}
        Split of each text, in the order of `texts`.
    """
    if not 0 <= test_fraction < 1:
        raise ValueError(f"test_fraction is {test_fraction}; it must be at least 0 and below 1.")
    hashes = [text_hash(text) for text in texts]
    ranked = sorted(hashes, key=lambda digest: hashlib.sha256(f"{seed}:{digest}".encode()).digest())
    n_test = min(round(test_fraction * len(hashes)), len(hashes) - 1)
    test = {digest for digest in hashes if known.get(digest) == "test"}
    for digest in ranked:
        if len(test) >= n_test:
            break
        if known.get(digest) != "fit":
            test.add(digest)
    return ["test" if digest in test else "fit" for digest in hashes]


# Possessive quantifiers, so that backtracking never makes a closing mark at the end of a text start a new sentence.
_SENTENCE_END = re.compile(
    r"""(?:[.!?…]++["'”’»)\]]*+(?=\s)|[。！？]++["'”’»」』)\]]*+|[\n\r])\s*+(?=\S)""",
)


def sentence_starts(text: str) -> np.ndarray:
    r"""Return the index of the first character of each sentence except the first.

    Examples
    --------
    >>> sentence_starts('Is it 3.14? "Yes." So\n\nbe it.').tolist()
    [12, 19, 23]
    """
    return np.array([match.end() for match in _SENTENCE_END.finditer(text)], dtype=np.int64)
