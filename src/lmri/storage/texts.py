"""Texts: where they come from, and how they are split into texts to fit and texts to test."""

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
    """Read texts from wherever they are.

    Parameters
    ----------
    source : str, Path or iterable of str
        The texts themselves; or a file: ``.txt`` (a text a line), ``.csv``, ``.tsv``, ``.jsonl``, ``.json`` (a list of
        objects) or ``.parquet``; or the name of a Hugging Face dataset, such as ``"ag_news"``.
    column : str, default="text"
        Column of a table or dataset that holds the texts.
    limit : int, optional
        How many texts to keep.
    shuffle : bool, default=False
        Shuffle before `limit`; files are often sorted by topic.
    seed : int, default=0
        Of the shuffle.
    config, split : str, optional
        Configuration and split of a Hugging Face dataset; the default split is ``"train"``.

    Returns
    -------
    list of str
        Never empty; each text holds more than white space, and none comes twice.

    Raises
    ------
    ValueError
        If nothing is left, or the column or dataset is unknown.
    """
    if limit is not None and limit < 1:
        raise ValueError(f"limit is {limit}; it must be at least 1.")
    texts, name = _load(source, column, config, split)
    for number, text in enumerate(texts):
        if not isinstance(text, str):
            raise TypeError(f"Text {number} of {name} is {text!r} ({type(text).__name__}); texts must be strings.")
        check_characters(text, f"Text {number} of {name}")
    kept = _without_empty_and_double(texts, name)
    if shuffle:
        random.Random(seed).shuffle(kept)
    kept = kept[:limit]
    if not kept:
        raise ValueError(f"{name} holds no texts. Give at least one text that is more than white space.")
    logger.info("%d texts from %s", len(kept), name)
    return kept


def check_characters(text: str, name: str = "The text") -> None:
    """Raise `ValueError` if a text holds half a surrogate pair, which can be neither tokenized nor stored."""
    if not text.isascii() and (half := _SURROGATE.search(text)):
        raise ValueError(
            f"{name} holds half a surrogate pair, which is no character: {half[0]!a} at {half.start()}. Remove it."
        )


def read_table_file(path: Path) -> pd.DataFrame:
    """Read a CSV, TSV, JSONL, JSON or Parquet file; nothing in a column of text is taken for missing.

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
                    "its rows have more fields than its first line has names. Quote texts that hold the separator."
                )
            return table
        if ending in (".jsonl", ".json"):
            # Not by pandas, which would turn a text such as "2004" into something else.
            content = path.read_text(encoding="utf-8-sig")
            rows = [json.loads(line) for line in content.split("\n") if line.strip()] if ending == ".jsonl" else None
            # Columns stay objects: pandas' own strings refuse half a surrogate pair without saying in which text.
            return pd.DataFrame(json.loads(content) if rows is None else rows, dtype=object)
        if ending == ".parquet":
            return pd.read_parquet(path)
    except (ValueError, UnicodeDecodeError, OSError) as error:
        raise ValueError(f"{path} cannot be read as {ending[1:].upper()}: {error}") from error
    raise ValueError(f"{path} ends in {ending!r}; accepted are {', '.join(FILE_ENDINGS)}.")


def get_column(
    table: pd.DataFrame, column: str, name: str, hint: str = "Name the one with the texts: --text-column, or column=."
) -> list:
    """Give one column of `table`, or raise `ValueError` listing those that there are."""
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
    """Give what an error says first: other libraries list hundreds of files behind it."""
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
            f"split {split!r}): {first_line(error)}. Give one file (.txt, .csv, .tsv, .jsonl, .parquet), a folder of "
            ".txt files alone, or the name of a dataset."
        ) from error
    if column not in dataset.column_names:
        get_column(pd.DataFrame(columns=dataset.column_names), column, f"The dataset {name!r}")
    return list(dataset[column]), f"the dataset {name!r}, split {split!r}"


def _without_empty_and_double(texts: list[str], name: str) -> list[str]:
    filled = [text.removesuffix("\r") for text in texts if text.strip()]
    kept = list(dict.fromkeys(filled))
    n_double = len(filled) - len(kept)
    if n_double:
        warnings.warn(
            f"{n_double} of {len(filled)} texts of {name} are repeated; each is kept once, "
            "so that none is both fitted and tested.",
            DataWarning,
            stacklevel=3,
        )
    if len(filled) < len(texts):
        logger.info("%d empty texts of %s are left out", len(texts) - len(filled), name)
    return kept


def split_texts(texts: Iterable[str], test_fraction: float, seed: int, known: Mapping[str, str]) -> list[str]:
    """Assign each text to ``"fit"`` or ``"test"``.

    Texts are ranked by a hash of the seed and the text itself, so the assignment depends on neither their order nor the
    machine, and the first ``test_fraction`` of the ranking are test texts. A text that `known` lists keeps its side.

    Parameters
    ----------
    texts : iterable of str
        Without repetitions.
    test_fraction : float
        In [0, 1). At least one text is left to fit.
    seed : int
        Of the ranking.
    known : mapping of str to str
        Text hash to side, of texts that the study has seen before.

    Returns
    -------
    list of {"fit", "test"}
        In the order of `texts`.
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


# Possessive, so that a closing mark at the end of a text is never given back to begin a sentence of its own.
_SENTENCE_END = re.compile(
    r"""(?:[.!?…]++["'”’»)\]]*+(?=\s)|[。！？]++["'”’»」』)\]]*+|[\n\r])\s*+(?=\S)""",
)


def sentence_starts(text: str) -> np.ndarray:
    r"""Give the first character of every sentence but the first.

    Examples
    --------
    >>> sentence_starts('Is it 3.14? "Yes." So\n\nbe it.').tolist()
    [12, 19, 23]
    """
    return np.array([match.end() for match in _SENTENCE_END.finditer(text)], dtype=np.int64)
