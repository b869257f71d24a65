"""Reading of texts from files, folders and datasets, and their split into fitted and held-out texts."""

import csv
import hashlib
import json
import logging
import random
import re
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from lmri.exceptions import DataWarning
from lmri.storage.provenance import text_hash

logger = logging.getLogger(__name__)

_SURROGATE = re.compile("[\ud800-\udfff]")
FILE_ENDINGS = (".txt", ".csv", ".tsv", ".jsonl", ".json", ".parquet")


def read_texts(
    source: str | Path | Iterable[str],
    *,
    column: str = "text",
    limit: int | None = None,
    shuffle: bool = False,
    seed: int = 0,
    config: str | None = None,
    split: str | None = None,
) -> list[str]:
    """Read texts from a list, a file or a Hugging Face dataset.

    Parameters
    ----------
    source : str, Path or iterable of str
        Texts; or a file: ``.txt`` (one text per line), ``.csv``, ``.tsv``, ``.jsonl``, ``.json`` (a list of objects) or
        ``.parquet``; or the name of a Hugging Face dataset, such as ``"ag_news"``.
    column : str, default="text"
        Column of a table or dataset with the texts.
    limit : int, optional
        Maximum number of texts.
    shuffle : bool, default=False
        Whether to shuffle the texts before `limit` is applied; files are often sorted by topic.
    seed : int, default=0
        Seed of the shuffle.
    config, split : str, optional
        Configuration and split of a Hugging Face dataset; the default split is ``"train"``.

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
    texts, name = _load(source, column, config, split)
    for number, text in enumerate(texts):
        if not isinstance(text, str):
            raise TypeError(f"Text {number} of {name} is {text!r} ({type(text).__name__}); texts must be strings.")
        check_characters(text, f"Text {number} of {name}")
    selected = _without_empty_and_duplicates(texts, name)
    if shuffle:
        random.Random(seed).shuffle(selected)
    selected = selected[:limit]
    if not selected:
        raise ValueError(f"{name} contains no texts. Provide at least one text that is not only white space.")
    logger.info("%d texts from %s", len(selected), name)
    return selected


def check_characters(text: str, name: str = "The text") -> None:
    """Raise `ValueError` if a text contains half a surrogate pair, which can be neither tokenized nor stored."""
    if not text.isascii() and (half := _SURROGATE.search(text)):
        raise ValueError(
            f"{name} contains half a surrogate pair, which is not a valid character: {half[0]!a} at {half.start()}. "
            "Remove it."
        )


def read_table_file(path: Path) -> pd.DataFrame:
    """Read a CSV, TSV, JSONL, JSON or Parquet file, without interpreting any text as a missing value.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If the format is unknown, or the file cannot be parsed.
    """
    ending = path.suffix.lower()
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist. Check the path.")
    try:
        if ending in (".csv", ".tsv"):
            separator = "," if ending == ".csv" else "\t"
            table = pd.read_csv(path, sep=separator, dtype=str, keep_default_na=False, quoting=csv.QUOTE_MINIMAL)
            if not isinstance(table.index, pd.RangeIndex):
                raise ValueError(
                    "its rows have more fields than its first line has names. Quote texts that contain the separator."
                )
            return table
        if ending in (".jsonl", ".json"):
            # Not with pandas, which would convert a text such as "2004".
            content = path.read_text(encoding="utf-8-sig")
            rows = [json.loads(line) for line in content.split("\n") if line.strip()] if ending == ".jsonl" else None
            # Object columns, because pandas strings reject half a surrogate pair without naming the text.
            return pd.DataFrame(json.loads(content) if rows is None else rows, dtype=object)
        if ending == ".parquet":
            return pd.read_parquet(path)
    except (ValueError, UnicodeDecodeError, OSError) as error:
        raise ValueError(f"{path} cannot be read as {ending[1:].upper()}: {error}") from error
    raise ValueError(f"{path} ends in {ending!r}; choose from {', '.join(FILE_ENDINGS)}.")


def get_column(
    table: pd.DataFrame,
    column: str,
    name: str,
    hint: str = "Name the column that contains the texts: --text-column (column= in Python).",
) -> list:
    """Return one column of `table`, or raise `ValueError` with the list of columns."""
    if column not in table:
        raise ValueError(f"{name} has no column {column!r}; it has {', '.join(map(repr, table.columns))}. {hint}")
    return table[column].tolist()


def _load(
    source: str | Path | Iterable[str], column: str, config: str | None, split: str | None
) -> tuple[list[str], str]:
    if not isinstance(source, str | Path):
        return list(source), "the list"
    path = Path(source)
    if path.is_file() or path.suffix.lower() in FILE_ENDINGS:
        if not path.is_file():
            raise FileNotFoundError(f"{path} does not exist. Check the path.")
        if path.suffix.lower() == ".txt":
            try:
                return path.read_text(encoding="utf-8-sig").split("\n"), str(path)
            except UnicodeDecodeError as error:
                raise ValueError(f"{path} is not UTF-8 ({error}). Save it as UTF-8.") from error
        return get_column(read_table_file(path), column, str(path)), str(path)
    return _load_dataset(str(source), column, config, split)


def first_line(error: Exception) -> str:
    """Return the first line of an error message, because other libraries list hundreds of files after it."""
    words = (str(error).strip() or type(error).__name__).splitlines()[0]
    return words.rstrip(".") if len(words) <= 300 else f"{words[:300]} ..."


def _load_dataset(name: str, column: str, config: str | None, split: str | None) -> tuple[list[str], str]:
    import datasets

    split = split or "train"
    try:
        dataset = datasets.load_dataset(name, config, split=split)
    except Exception as error:  # the library raises many kinds, for a bad name, configuration, split or connection
        raise ValueError(
            f"{name!r} is neither a file nor a dataset that could be loaded (configuration {config!r}, "
            f"split {split!r}): {first_line(error)}. Accepted are a file (.txt, .csv, .tsv, .jsonl, .parquet), a "
            "folder that contains only .txt files, or the name of a dataset."
        ) from error
    if column not in dataset.column_names:
        get_column(pd.DataFrame(columns=dataset.column_names), column, f"The dataset {name!r}")
    return list(dataset[column]), f"the dataset {name!r}, split {split!r}"


def _without_empty_and_duplicates(texts: list[str], name: str) -> list[str]:
    filled = [text.removesuffix("\r") for text in texts if text.strip()]
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
        logger.info("%d empty texts of %s were skipped", len(texts) - len(filled), name)
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
