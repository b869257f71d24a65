"""Texts as a recording sees them: their tokens, those that are kept out of the images, and the tables of runs."""

import hashlib
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from transformers import PreTrainedModel

from lmri.models import Encoding, encode


@dataclass(frozen=True)
class Lengths:
    """How long texts are.

    Parameters
    ----------
    n_tokens, n_volumes, n_cut : list of int
        Of each text: tokens that are read, those of them that become volumes, and tokens beyond the context.
    digest : str
        Hash of all tokens and of which are kept: what the tokenizer and its settings made of the texts.
    """

    n_tokens: list[int]
    n_volumes: list[int]
    n_cut: list[int]
    digest: str


@dataclass(frozen=True)
class Reading:
    """What is read, and how. Texts are tokenized again wherever their tokens are needed, and never held all at once.

    Parameters
    ----------
    model, tokenizer
        As `lmri.load_model` gives them.
    texts : list of str
        All texts, those held out too.
    max_tokens : int or None
        Cut at fewer tokens than the context.
    n_dummy : int
        First tokens of each text that are kept out of the images.
    """

    model: PreTrainedModel
    tokenizer: Any
    texts: list[str]
    max_tokens: int | None
    n_dummy: int

    def encode(self, text: int) -> Encoding:
        """Tokenize one text."""
        return encode(self.model, self.tokenizer, self.texts[text], self.max_tokens)

    def dummies(self, encoding: Encoding) -> np.ndarray:
        """Say which tokens are kept out of the images."""
        special = np.array(encoding.special, dtype=bool)
        return special | (np.arange(len(special)) < self.n_dummy)

    @cached_property
    def lengths(self) -> Lengths:
        """Lengths of all texts; they are tokenized once for it."""
        n_tokens, n_volumes, n_cut, digest = [], [], [], hashlib.sha256()
        for text in range(len(self.texts)):
            encoding = self.encode(text)
            dummies = self.dummies(encoding)
            n_tokens.append(len(encoding.ids))
            n_volumes.append(int((~dummies).sum()))
            n_cut.append(encoding.n_cut)
            digest.update(np.array([len(encoding.ids), encoding.n_cut, *encoding.ids, *dummies], dtype="<i8").tobytes())
        return Lengths(n_tokens, n_volumes, n_cut, digest.hexdigest()[:16])

    def tables(self, corpus: str, run: list[int], text_ids: list[str]) -> tuple[pd.DataFrame, pd.DataFrame]:
        """Make the events (a row a volume) and the tokens (a row a token) of one run."""
        parts = []
        for text in run:
            encoding = self.encode(text)
            parts.append(
                pd.DataFrame(
                    {
                        "text_id": text_ids[text],
                        "token": encoding.tokens,
                        "token_id": encoding.ids,
                        "position": np.arange(len(encoding.ids)),
                        "start": [start for start, _ in encoding.spans],
                        "end": [end for _, end in encoding.spans],
                        "dummy": self.dummies(encoding).astype(int),
                    }
                )
            )
        tokens = pd.concat(parts, ignore_index=True)
        kept = tokens["dummy"] == 0
        tokens["volume"] = np.where(kept, kept.cumsum() - 1, np.nan)
        events = tokens[kept].drop(columns=["dummy", "volume"]).reset_index(drop=True)
        events.insert(0, "onset", np.arange(len(events), dtype=float))
        events.insert(1, "duration", 1.0)
        events.insert(2, "trial_type", corpus)
        return events, tokens
