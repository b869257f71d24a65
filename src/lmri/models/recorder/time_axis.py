"""The time axis of a recording: which tokens become one volume."""

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
    """What a volume is.

    Parameters
    ----------
    per : {"token", "word", "sentence"}
        A token; or the mean over the tokens of a word, which ends at white space, or of a sentence, which ends at a
        full stop, question or exclamation mark, or at a line break.
    every : int
        Keep every so-manieth token, from the first that is no dummy.
    """

    per: str = "token"
    every: int = 1

    def __post_init__(self) -> None:
        if self.per not in UNITS:
            raise ValueError(f"per is {self.per!r}; accepted are {', '.join(map(repr, UNITS))}.")
        if self.every < 1:
            raise ValueError(f"every is {self.every}; it must be at least 1.")
        if self.every > 1 and self.per != "token":
            raise ValueError(f"every is {self.every} and per is {self.per!r}; tokens can be left out, or averaged.")

    def volumes(self, encoding: "Encoding", text: str, kept: np.ndarray, n_prompt: int | None = None) -> np.ndarray:
        """Say which volume of a text every token is in.

        Parameters
        ----------
        encoding : Encoding
            Its tokens.
        text : str
            The text.
        kept : ndarray of bool, shape (n_tokens,)
            Which tokens are no dummies.
        n_prompt : int, optional
            Tokens of a prompt; nothing is averaged over its end.

        Returns
        -------
        ndarray of int, shape (n_tokens,)
            Volume of every token, counted from 0 in this text; -1 of those that are in none.
        """
        volumes = np.full(len(kept), -1)
        places = np.flatnonzero(kept)
        if self.per == "token":
            chosen = places[:: self.every]
            volumes[chosen] = np.arange(len(chosen))
        elif places.size:
            units = self._units(encoding, text)[places]
            if n_prompt is not None:
                units = 2 * units + (places >= n_prompt)
            volumes[places] = np.concatenate([[0], np.cumsum(units[1:] != units[:-1])])
        return volumes

    def _units(self, encoding: "Encoding", text: str) -> np.ndarray:
        """Count words or sentences up to every token; one that stands for no part of the text goes on with the last."""
        starts, ends = np.array(encoding.spans).reshape(-1, 2).T
        if len(starts) and not (starts >= 0).any():
            raise ValueError(
                f"per is {self.per!r}, but this tokenizer does not say which part of the text a token stands for. "
                "Record tokens: leave out per (--per)."
            )
        parts = [text[max(start, 0) : max(end, 0)] for start, end in zip(starts, ends, strict=True)]
        first = starts + [len(part) - len(part.lstrip()) if part.strip() else 0 for part in parts]
        if self.per == "sentence":
            units = np.searchsorted(sentence_starts(text), first, side="right")
        else:
            is_space = np.array([True, *(char.isspace() for char in text)])
            n_begun = np.concatenate([[0], np.cumsum(is_space[:-1] & ~is_space[1:])])
            units = n_begun[np.clip(first + 1, 0, len(text))]
        stands_for_something = np.array([bool(part.strip()) for part in parts], dtype=bool)
        # Blanks alone, and tokens without a place, go on with what was before them.
        before = np.maximum.accumulate(np.where(stands_for_something, np.arange(len(units)), 0))
        return units[before] if len(units) else units


def units_table(tokens: pd.DataFrame, text_of: Mapping[str, str]) -> pd.DataFrame:
    """Put the rows of tokens together that are one volume.

    Parameters
    ----------
    tokens : DataFrame
        A row a token that is in a volume.
    text_of : mapping from str to str
        Texts by their id.

    Returns
    -------
    DataFrame
        A row a volume, with ``last_position`` behind ``position``. Ids are negative, and the same for the same words,
        whatever tokens and blanks they are made of.
    """
    groups = tokens.groupby("volume", sort=True)
    first, last = groups.head(1).reset_index(drop=True), groups.tail(1).reset_index(drop=True)
    joined = groups["token"].agg("".join).tolist()
    texts = first["text_id"].map(text_of)
    spans = zip(texts, first["start"], last["end"], joined, strict=True)
    words = [text[start:end] if 0 <= start < end else whole for text, start, end, whole in spans]
    # One of a single token has no id of the vocabulary: "The" and " The" are two tokens, and one word.
    made = first.assign(token=words, token_id=[_hash(word.strip()) for word in words], end=last["end"])
    made.insert(made.columns.get_loc("position") + 1, "last_position", last["position"])
    return made


def _hash(words: str) -> int:
    return -1 - int.from_bytes(hashlib.sha256(words.encode("utf-8", "surrogatepass")).digest()[:6], "big")


def averaged(rows: np.ndarray, volumes: np.ndarray) -> np.ndarray:
    """Average rows over the volumes that they belong to.

    Parameters
    ----------
    rows : ndarray of float32, shape (n_tokens, n_neurons)
        Activity at the tokens that are in a volume.
    volumes : ndarray of int, shape (n_tokens,)
        Their volumes, ascending.

    Returns
    -------
    ndarray of float32, shape (n_volumes, n_neurons)
        Means, summed in float64.
    """
    starts = np.flatnonzero(np.diff(volumes, prepend=-1))
    if len(starts) == len(rows):
        return rows
    counts = np.diff(np.append(starts, len(rows)))[:, None]
    return (np.add.reduceat(rows, starts, axis=0, dtype=np.float64) / counts).astype(np.float32)
