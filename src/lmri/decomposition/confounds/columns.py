"""The columns: what each of them is, and how it is computed from a recording."""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd

from lmri.networks.annotation.features import token_features
from lmri.storage.recording import Recording
from lmri.storage.texts import sentence_starts

MASSIVE = (100.0, 1000.0)
"""Least size of a massive activation, and how many times it is the median size of its layer at that token [1]_.

References
----------
.. [1] Sun et al. (2024). Massive activations in large language models. COLM.
"""

NO_SPANS = "The tokenizer cannot tell which part of the text a token stands for."

TEXT_COLUMNS: dict[str, dict[str, str]] = {
    "position": {
        "Description": "Place of the token in its text, counted from 0, dummies and special tokens included; of a word "
        "or sentence, that of its first token",
        "Units": "token",
    },
    "sentence_position": {
        "Description": "Place of the token in its sentence, counted from 0, dummies included, tokens that stand for "
        "no part of the text not. A sentence ends behind . ! ? or … and closing quotes or brackets where a blank "
        "follows, behind 。！？, and at a line end. Of a word or sentence, that of its first token",
        "Units": "token",
    },
    "sentence_index": {
        "Description": "Number of the sentence in its text, counted from 0; of a word or sentence, that of its first "
        "token",
        "Units": "sentence",
    },
    "log_frequency": {
        "Description": "Natural logarithm of the share of this token_id among all volumes of the corpus; words and "
        "sentences have ids of their own",
        "Units": "nat",
    },
    "token_length": {
        "Description": "Characters of the part of the text that the token stands for, without blanks around it; of "
        "the whole word or sentence",
        "Units": "character",
    },
    "surprisal": {
        "Description": "Minus the natural logarithm of the probability that the model itself gave the token, from all "
        "tokens before it in its text, special ones included; n/a for the first token of a text. Of a word or "
        "sentence, the sum over its tokens; n/a if it holds the first token of its text",
        "Units": "nat",
    },
    "entropy": {
        "Description": "Entropy of the model's prediction of this token, made one token before; n/a for the first "
        "token of a text. Of a word or sentence, that of its first token, not the sum; n/a if it holds the first token "
        "of its text",
        "Units": "nat",
    },
}
"""Columns that depend on the text and on the model's predictions, not on where neurons were read."""

SITE_COLUMNS: dict[str, dict[str, str]] = {
    "global_signal": {
        "Description": "Mean activation over all neurons of the site, as they are (not standardized)",
        "Units": "activation",
    },
    "massive_activation": {
        "Description": f"1 if a neuron exceeds {MASSIVE[0]:g} in size and is at least {MASSIVE[1]:g} times the median "
        "size of its layer at this token, zeros left out (Sun et al., 2024), else 0",
        "Units": "flag",
    },
}
"""Columns that depend on where neurons were read."""

COLUMNS = (*TEXT_COLUMNS, *SITE_COLUMNS)

PREDICTED = ("surprisal", "entropy")
"""Columns for which the model has to read the texts once more."""


@dataclass(frozen=True, eq=False)
class Predictions:
    """What a model expected at every token that it read.

    Parameters
    ----------
    tables : list of DataFrame
        One a run, a row a token as in ``recording.tokens``: ``token_id, surprisal, entropy``, in nats, NaN for the
        first token of a text. Empty if there is a `reason`.
    weights : str
        Hash of all weights, the head's too.
    reason : str, default=""
        Why this model predicts no tokens.
    """

    tables: list[pd.DataFrame]
    weights: str
    reason: str = ""


def sentences(text: str, starts: np.ndarray, ends: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Give number of, and place in, its sentence of every token of one text, in order; NaN where spans are unknown.

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


def text_columns(recording: Recording, predictions: Predictions | None = None) -> list[pd.DataFrame]:
    """Compute the columns of `TEXT_COLUMNS`, a table a run, a row a volume; n/a where nothing was predicted."""
    runs = recording.events
    joined = pd.concat([table[["token", "token_id", "position"]] for table in runs], ignore_index=True)
    features = token_features(joined)  # frequencies are of the whole corpus
    text_of = dict(zip(recording.texts["text_id"], recording.texts["text"], strict=True))
    found, first = [], 0
    for number, (events, tokens) in enumerate(zip(runs, recording.tokens, strict=True)):
        own = features.iloc[first : first + len(events)]
        first += len(events)
        index, place = _sentences_of(tokens, text_of)
        expected = _predicted(predictions, number, tokens)
        # A volume may be a word or sentence of several tokens; what it begins with places it.
        inside = np.flatnonzero(tokens["volume"].notna())
        starts = np.unique(tokens["volume"].to_numpy()[inside], return_index=True)[1]
        begun = inside[starts]
        surprisal = np.add.reduceat(expected["surprisal"].to_numpy()[inside], starts)
        table = pd.DataFrame(
            {
                "position": events["position"].to_numpy(),
                "sentence_position": place[begun],
                "sentence_index": index[begun],
                "log_frequency": own["log_frequency"].to_numpy(),
                "token_length": np.where(events["start"] >= 0, own["token_length"], np.nan),
                "surprisal": surprisal,
                "entropy": expected["entropy"].to_numpy()[begun],
            }
        )
        found.append(_whole_numbers(table, ("sentence_position", "sentence_index", "token_length")))
    return found


def _sentences_of(tokens: pd.DataFrame, text_of: dict[str, str]) -> tuple[np.ndarray, np.ndarray]:
    index, place = np.empty(len(tokens)), np.empty(len(tokens))
    for name, rows in tokens.groupby("text_id", sort=False).indices.items():
        spans = (tokens[side].to_numpy()[rows] for side in ("start", "end"))
        index[rows], place[rows] = sentences(text_of[str(name)], *spans)
    return index, place


def _predicted(predictions: Predictions | None, run: int, tokens: pd.DataFrame) -> pd.DataFrame:
    if predictions is None or predictions.reason:
        return pd.DataFrame({name: np.full(len(tokens), np.nan) for name in PREDICTED})
    table = predictions.tables[run] if run < len(predictions.tables) else tokens.iloc[:0]
    if not np.array_equal(table["token_id"], tokens["token_id"]):
        raise ValueError(
            f"The predictions of run {run + 1} are of {len(table)} tokens, and not of the {len(tokens)} that were read "
            "there. Make them of this recording: lmri.models.surprisal.predictions(model, recording)."
        )
    return table


def _whole_numbers(table: pd.DataFrame, names: tuple[str, ...]) -> pd.DataFrame:
    """Turn counts without a missing one into integers, so that files hold 3 and not 3.0."""
    whole = {name: table[name].astype(np.int64) for name in names if table[name].notna().all()}
    return table.assign(**whole)


def site_columns(recording: Recording) -> Iterator[pd.DataFrame]:
    """Compute the columns of `SITE_COLUMNS`, a table a run, a row a volume; one image is in memory at a time."""
    offsets = recording.space.offsets
    least, times = MASSIVE
    for array in recording.arrays():
        massive = np.zeros(len(array), dtype=bool)
        for first, last in itertools.pairwise(offsets):
            if last == first:
                continue
            size = np.abs(array[:, first:last])
            largest = size.max(axis=1)
            rows = np.flatnonzero(largest > least)  # medians take long, and hardly any volume needs one
            for row in rows:
                # Units of a ReLU, or of experts that were not chosen, are 0 for the most part.
                massive[row] |= largest[row] >= times * np.median(size[row][size[row] > 0])
        yield pd.DataFrame(
            {"global_signal": array.mean(axis=1, dtype=np.float64), "massive_activation": massive.astype(np.int64)}
        )
