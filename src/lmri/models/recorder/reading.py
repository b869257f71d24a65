"""Texts as a recording sees them: their tokens, those that are kept out of the images, and the tables of runs."""

import hashlib
from dataclasses import dataclass, field
from functools import cached_property
from itertools import chain
from typing import Any

import numpy as np
import pandas as pd
from transformers import PreTrainedModel

from lmri.models import Encoding, encode, unknown_id
from lmri.models.recorder.generating import Continuation
from lmri.models.recorder.time_axis import Axis, units_table

_REMEMBERED = 50_000
"""Tokens whose encodings are kept, some 10 MB: small recordings tokenize once, long ones thrice in little memory."""


@dataclass(frozen=True)
class Lengths:
    """How long texts are.

    Parameters
    ----------
    n_tokens, n_volumes, n_cut : list of int
        Of each text: tokens that are read, those of them that become volumes, and tokens beyond the context.
    n_unknown : int
        Tokens that stand for words which the tokenizer does not know.
    digest : str
        Hash of all tokens and of which are kept: what the tokenizer and its settings made of the texts.
    """

    n_tokens: list[int]
    n_volumes: list[int]
    n_cut: list[int]
    n_unknown: int
    digest: str


@dataclass
class _Remembered:
    """Encodings of the first texts that were asked for, as many as there is room for."""

    encodings: dict[int, Encoding] = field(default_factory=dict)
    n_tokens: int = 0

    def take(self, text: int, encoding: Encoding) -> None:
        if self.n_tokens + len(encoding.ids) <= _REMEMBERED:
            self.encodings[text] = encoding
            self.n_tokens += len(encoding.ids)


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
    axis : Axis
        Which of the others become one volume.
    written : tuple of Continuation, optional
        Continuations of prompts, one per text, if the texts are generated.
    """

    model: PreTrainedModel
    tokenizer: Any
    texts: list[str]
    max_tokens: int | None
    n_dummy: int
    axis: Axis = field(default_factory=Axis)
    written: tuple[Continuation, ...] = ()
    _remembered: _Remembered = field(default_factory=_Remembered, init=False, repr=False, compare=False)

    def encode(self, text: int) -> Encoding:
        """Tokenize one text; the first are remembered."""
        if self.written:
            return self.written[text].encoding
        known = self._remembered.encodings.get(text)
        if known is not None:
            return known
        encoding = encode(self.model, self.tokenizer, self.texts[text], self.max_tokens)
        self._remembered.take(text, encoding)
        return encoding

    def volumes(self, text: int, encoding: Encoding) -> np.ndarray:
        """Give the volume of every token, counted in its text; -1 of those that are in none."""
        n_prompt = self.written[text].n_prompt if self.written else None
        return self.axis.volumes(encoding, self.texts[text], ~self.dummies(encoding), n_prompt)

    def dummies(self, encoding: Encoding) -> np.ndarray:
        """Say which tokens are kept out of the images."""
        special = np.array(encoding.special, dtype=bool)
        return special | (np.arange(len(special)) < self.n_dummy)

    @cached_property
    def lengths(self) -> Lengths:
        """Lengths of all texts; they are tokenized once for it."""
        n_tokens, n_volumes, n_cut, n_unknown, digest = [], [], [], 0, hashlib.sha256()
        unknown = unknown_id(self.tokenizer)
        for text in range(len(self.texts)):
            encoding = self.encode(text)
            dummies, volumes = self.dummies(encoding), self.volumes(text, encoding)
            n_tokens.append(len(encoding.ids))
            n_volumes.append(int(volumes.max(initial=-1)) + 1)
            n_cut.append(encoding.n_cut)
            n_unknown += encoding.ids.count(unknown) if unknown is not None else 0
            told = [len(encoding.ids), encoding.n_cut, *encoding.ids, *dummies, *volumes]
            digest.update(np.array(told, dtype="<i8").tobytes())
        return Lengths(n_tokens, n_volumes, n_cut, n_unknown, digest.hexdigest()[:16])

    def tables(self, corpus: str, run: list[int], text_ids: list[str]) -> tuple[pd.DataFrame, pd.DataFrame]:
        """Make the events (a row a volume) and the tokens (a row a token) of one run."""
        parts: list[dict[str, Any]] = []
        first = 0
        for text in run:
            encoding = self.encode(text)
            volumes = self.volumes(text, encoding)
            positions = np.arange(len(encoding.ids))
            part = {
                "text_id": [text_ids[text]] * len(positions),
                "token": encoding.tokens,
                "token_id": encoding.ids,
                "position": positions,
                "start": [start for start, _ in encoding.spans],
                "end": [end for _, end in encoding.spans],
                "dummy": self.dummies(encoding).astype(int),
                "volume": np.where(volumes >= 0, volumes + first, np.nan),
            }
            if self.written:
                part["phase"] = np.where(positions >= self.written[text].n_prompt, "generated", "prompt")
            parts.append(part)
            first += int(volumes.max(initial=-1)) + 1
        tokens = pd.DataFrame({name: _joined([part[name] for part in parts]) for name in parts[0]})
        events = tokens[tokens["volume"].notna()]
        if self.axis.per != "token":
            text_of = dict(zip(text_ids, self.texts, strict=True))
            events = units_table(events, text_of)
        events = events.drop(columns=["dummy", "volume"]).reset_index(drop=True)
        events.insert(0, "onset", np.arange(len(events), dtype=float))
        events.insert(1, "duration", 1.0)
        events.insert(2, "trial_type", corpus)
        return events, tokens


def _joined(parts: list[Any]) -> Any:
    """Put columns behind each other: a table a text, and then all of them together, takes twice the time."""
    return np.concatenate(parts) if isinstance(parts[0], np.ndarray) else list(chain.from_iterable(parts))
