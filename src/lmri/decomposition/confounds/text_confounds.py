"""Confounds that depend on the text and on the model's predictions, not on where neurons were read."""

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
        One row per volume.
    tokens : DataFrame
        One row per token, dummies included.
    features : DataFrame
        Features of the token of every volume; see `lmri.networks.annotation.features.token_features`.
    expected : DataFrame
        ``surprisal, entropy`` of every token; NaN where nothing was predicted.
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
        """Number of the sentence of every token, and its place in it."""
        index, place = np.empty(len(self.tokens)), np.empty(len(self.tokens))
        for name, rows in self.tokens.groupby("text_id", sort=False).indices.items():
            spans = (self.tokens[side].to_numpy()[rows] for side in ("start", "end"))
            index[rows], place[rows] = sentences(self.text_of[str(name)], *spans)
        return index, place


def position(run: RunTexts) -> np.ndarray:
    """Return the place of every volume in its text."""
    return run.events["position"].to_numpy()


def sentence_position(run: RunTexts) -> np.ndarray:
    """Return the place of every volume in its sentence."""
    return run.sentences[1][run.begun]


def sentence_index(run: RunTexts) -> np.ndarray:
    """Return the number of the sentence of every volume."""
    return run.sentences[0][run.begun]


def log_frequency(run: RunTexts) -> np.ndarray:
    """Return the logarithm of the share of every volume's token in the corpus."""
    return run.features["log_frequency"].to_numpy()


def token_length(run: RunTexts) -> np.ndarray:
    """Count the characters of every volume; NaN where the span is unknown."""
    return np.where(run.events["start"] >= 0, run.features["token_length"], np.nan)


def surprisal(run: RunTexts) -> np.ndarray:
    """Sum the surprisal of the tokens of every volume."""
    return np.add.reduceat(run.expected["surprisal"].to_numpy()[run.inside], run.starts)


def entropy(run: RunTexts) -> np.ndarray:
    """Return the entropy of the prediction of the first token of every volume."""
    return run.expected["entropy"].to_numpy()[run.begun]


def sentences(text: str, starts: np.ndarray, ends: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Find sentence and place in it of every token of a text, in order; NaN where spans are unknown.

    A token is in the sentence of its first character that is no blank; one of blanks only is in that before it.

    Parameters
    ----------
    text : str
        The whole text.
    starts, ends : ndarray of int, shape (n_tokens,)
        First character of every token and the one behind its last; negative if not known.
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
    place = before - pd.Series(before).groupby(index).transform("min").to_numpy()
    known = starts >= 0
    return np.where(known, index, np.nan), np.where(known, place, np.nan)
