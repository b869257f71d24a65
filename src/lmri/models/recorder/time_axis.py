"""Time axis of a recording: the assignment of tokens to volumes."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from lmri.storage.texts import sentence_starts

if TYPE_CHECKING:
    from lmri.models import Encoding

UNITS = ("token", "word", "sentence")


@dataclass(frozen=True)
class Axis:
    """Unit and sampling interval of volumes.

    Parameters
    ----------
    per : {"token", "word", "sentence"}
        Unit of one volume: a token; or the mean over the tokens of a word, which ends at white space, or of a sentence,
        which ends at a full stop, question mark, exclamation mark or line break.
    every : int
        Sampling interval: every N-th token is used, starting with the first token after the dummies.
    """

    per: str = "token"
    every: int = 1

    def __post_init__(self) -> None:
        if self.per not in UNITS:
            raise ValueError(f"per is {self.per!r}; choose from {', '.join(map(repr, UNITS))}.")
        if self.every < 1:
            raise ValueError(f"every is {self.every}; it must be at least 1.")
        if self.every > 1 and self.per != "token":
            raise ValueError(
                f"every is {self.every} and per is {self.per!r}; tokens can be skipped or averaged, not both. "
                "Set every=1 or per='token'."
            )

    def volumes(self, encoding: "Encoding", text: str, included: np.ndarray, n_prompt: int | None = None) -> np.ndarray:
        """Return the volume of every token of a text.

        Parameters
        ----------
        encoding : Encoding
            Tokens of the text.
        text : str
            Text.
        included : ndarray of bool, shape (n_tokens,)
            Mask of the tokens that are not dummies.
        n_prompt : int, optional
            Number of tokens of the prompt; no average extends beyond its end.

        Returns
        -------
        ndarray of int, shape (n_tokens,)
            Volume of every token, counted from 0 within the text; -1 for tokens without a volume.
        """
        volumes = np.full(len(included), -1)
        indices = np.flatnonzero(included)
        if self.per == "token":
            chosen = indices[:: self.every]
            volumes[chosen] = np.arange(len(chosen))
        elif indices.size:
            units = self._units(encoding, text)[indices]
            if n_prompt is not None:
                units = 2 * units + (indices >= n_prompt)
            volumes[indices] = np.concatenate([[0], np.cumsum(units[1:] != units[:-1])])
        return volumes

    def _units(self, encoding: "Encoding", text: str) -> np.ndarray:
        """Count the words or sentences; a token without text belongs to the unit of the preceding token."""
        starts, ends = np.array(encoding.spans).reshape(-1, 2).T
        if len(starts) and not (starts >= 0).any():
            raise ValueError(
                f"per is {self.per!r}, but this tokenizer does not report the text span of a token. "
                "Record tokens instead: omit per (--per)."
            )
        parts = [text[max(start, 0) : max(end, 0)] for start, end in zip(starts, ends, strict=True)]
        first = starts + [len(part) - len(part.lstrip()) if part.strip() else 0 for part in parts]
        if self.per == "sentence":
            units = np.searchsorted(sentence_starts(text), first, side="right")
        else:
            is_space = np.array([True, *(char.isspace() for char in text)])
            n_begun = np.concatenate([[0], np.cumsum(is_space[:-1] & ~is_space[1:])])
            units = n_begun[np.clip(first + 1, 0, len(text))]
        has_text = np.array([bool(part.strip()) for part in parts], dtype=bool)
        # White space alone, and tokens without a span, belong to the unit of the preceding token.
        before = np.maximum.accumulate(np.where(has_text, np.arange(len(units)), 0))
        return units[before] if len(units) else units


def units_table(tokens: pd.DataFrame, text_of: Mapping[str, str]) -> pd.DataFrame:
    """Combine the rows of all tokens of a volume.

    Parameters
    ----------
    tokens : DataFrame
        Table with one row per token that belongs to a volume.
    text_of : mapping from str to str
        Texts by id.

    Returns
    -------
    DataFrame
        Table with one row per volume, with ``last_position`` after ``position``. Token ids are negative, and equal for
        equal words, regardless of their tokens and white space.
    """
    groups = tokens.groupby("volume", sort=True)
    first, last = groups.head(1).reset_index(drop=True), groups.tail(1).reset_index(drop=True)
    joined = groups["token"].agg("".join).tolist()
    texts = first["text_id"].map(text_of)
    spans = zip(texts, first["start"], last["end"], joined, strict=True)
    words = [text[start:end] if 0 <= start < end else whole for text, start, end, whole in spans]
    # Even a word of one token gets no id of the vocabulary: "The" and " The" are two tokens, but one word.
    units = first.assign(token=words, token_id=[_hash(word.strip()) for word in words], end=last["end"])
    units.insert(units.columns.get_loc("position") + 1, "last_position", last["position"])
    return units


def _hash(words: str) -> int:
    return -1 - int.from_bytes(hashlib.sha256(words.encode("utf-8", "surrogatepass")).digest()[:6], "big")


def average_volumes(rows: np.ndarray, volumes: np.ndarray) -> np.ndarray:
    """Average the rows of each volume.

    Parameters
    ----------
    rows : ndarray of float32, shape (n_tokens, n_neurons)
        Activity at the tokens that belong to a volume.
    volumes : ndarray of int, shape (n_tokens,)
        Volumes of the tokens, ascending.

    Returns
    -------
    ndarray of float32, shape (n_volumes, n_neurons)
        Mean activity per volume, summed in float64.
    """
    starts = np.flatnonzero(np.diff(volumes, prepend=-1))
    if len(starts) == len(rows):
        return rows
    counts = np.diff(np.append(starts, len(rows)))[:, None]
    return (np.add.reduceat(rows, starts, axis=0, dtype=np.float64) / counts).astype(np.float32)
