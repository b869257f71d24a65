"""Confounds that depend on the text and on the model's predictions, but not on the site."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd

from lmri.storage.texts import sentence_starts


@dataclass(frozen=True, eq=False)
class RunTexts:
    """Texts of one run, from which confounds are computed.

    Parameters
    ----------
    events : DataFrame
        Events, one row per volume.
    tokens : DataFrame
        Tokens, one row per token, including dummies.
    features : DataFrame
        Features of the token of every volume; see `lmri.networks.annotation.features.token_features`.
    expected : DataFrame
        Columns ``surprisal`` and ``entropy`` of every token; NaN without a prediction.
    text_of : dict of str to str
        Texts by their id.
    """

    events: pd.DataFrame
    tokens: pd.DataFrame
    features: pd.DataFrame
    expected: pd.DataFrame
    text_of: dict[str, str]

    @cached_property
    def inside(self) -> np.ndarray:
        """Numbers of the tokens that are in a volume."""
        return np.flatnonzero(self.tokens["volume"].notna())

    @cached_property
    def starts(self) -> np.ndarray:
        """Index of the first token of every volume among `inside`; a volume may be a word of several tokens."""
        return np.unique(self.tokens["volume"].to_numpy()[self.inside], return_index=True)[1]

    @cached_property
    def begun(self) -> np.ndarray:
        """Number of the first token of every volume."""
        return self.inside[self.starts]

    @cached_property
    def sentences(self) -> tuple[np.ndarray, np.ndarray]:
        """Index of the sentence of every token, and position of the token in it."""
        index, position_in_sentence = np.empty(len(self.tokens)), np.empty(len(self.tokens))
        for name, rows in self.tokens.groupby("text_id", sort=False).indices.items():
            spans = (self.tokens[side].to_numpy()[rows] for side in ("start", "end"))
            index[rows], position_in_sentence[rows] = sentences(self.text_of[str(name)], *spans)
        return index, position_in_sentence


def position(run: RunTexts) -> np.ndarray:
    """Return the position of every volume in its text."""
    return run.events["position"].to_numpy()


def sentence_position(run: RunTexts) -> np.ndarray:
    """Return the position of every volume in its sentence."""
    return run.sentences[1][run.begun]


def sentence_index(run: RunTexts) -> np.ndarray:
    """Return the index of the sentence of every volume."""
    return run.sentences[0][run.begun]


def log_frequency(run: RunTexts) -> np.ndarray:
    """Return the logarithm of the share of every volume's token in the corpus."""
    return run.features["log_frequency"].to_numpy()


def token_length(run: RunTexts) -> np.ndarray:
    """Count the characters of every volume; NaN if the span is unknown."""
    return np.where(run.events["start"] >= 0, run.features["token_length"], np.nan)


def surprisal(run: RunTexts) -> np.ndarray:
    """Sum the surprisal of the tokens of every volume."""
    return np.add.reduceat(run.expected["surprisal"].to_numpy()[run.inside], run.starts)


def entropy(run: RunTexts) -> np.ndarray:
    """Return the entropy of the prediction of the first token of every volume."""
    return run.expected["entropy"].to_numpy()[run.begun]


def sentences(text: str, starts: np.ndarray, ends: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Compute the sentence of every token of a text and its position in it, in order; NaN if spans are unknown.

    A token belongs to the sentence of its first non-blank character; a token of blanks belongs to the sentence before.

    Parameters
    ----------
    text : str
        Complete text.
    starts, ends : ndarray of int, shape (n_tokens,)
        Index of the first character of every token, and of the character after its last; negative if unknown.
    """
    blanks = np.array(
        [
            len(part) - len(bare) if (bare := part.lstrip()) else 0
            for part in (text[max(start, 0) : max(end, 0)] for start, end in zip(starts, ends, strict=True))
        ],
        dtype=np.int64,
    )
    index = np.searchsorted(sentence_starts(text), starts + blanks, side="right")
    counted = ends > starts
    before: np.ndarray = np.cumsum(counted) - counted
    position_in_sentence = before - pd.Series(before).groupby(index).transform("min").to_numpy()
    known = starts >= 0
    return np.where(known, index, np.nan), np.where(known, position_in_sentence, np.nan)
