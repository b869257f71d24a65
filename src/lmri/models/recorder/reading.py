"""Tokens of the texts of a recording, dummy tokens that are excluded from the images, and the tables of runs."""

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

_MOST_CACHED_TOKENS = 50_000
"""Largest number of cached tokens, about 10 MB: short recordings tokenize once, long ones three times."""


@dataclass(frozen=True)
class Lengths:
    """Lengths of texts in tokens and volumes.

    Parameters
    ----------
    n_tokens, n_volumes, n_cut, n_repeated : list of int
        Numbers per text: tokens read, volumes, tokens truncated beyond the context, and special tokens that were not
        added, because the text already begins or ends with them.
    n_unknown : int
        Number of unknown tokens.
    digest : str
        Hash of all tokens, dummies and volumes, which depend on the tokenizer and its settings.
    """

    n_tokens: list[int]
    n_volumes: list[int]
    n_cut: list[int]
    n_repeated: list[int]
    n_unknown: int
    digest: str


@dataclass
class _EncodingCache:
    """Cache of the encodings of the first texts, up to a limit."""

    encodings: dict[int, Encoding] = field(default_factory=dict)
    n_tokens: int = 0

    def add(self, text: int, encoding: Encoding) -> None:
        if self.n_tokens + len(encoding.ids) <= _MOST_CACHED_TOKENS:
            self.encodings[text] = encoding
            self.n_tokens += len(encoding.ids)


@dataclass(frozen=True)
class Reading:
    """Model, texts and time axis of a recording. Texts are tokenized when needed and never all held in memory.

    Parameters
    ----------
    model, tokenizer
        Model and tokenizer, as returned by `lmri.load_model`.
    texts : list of str
        All texts, including held-out texts.
    max_tokens : int or None
        Largest number of tokens per text, if smaller than the context.
    n_dummy : int
        Number of initial tokens of each text to exclude from the images.
    axis : Axis
        Assignment of the other tokens to volumes.
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
    _encodings: _EncodingCache = field(default_factory=_EncodingCache, init=False, repr=False, compare=False)

    def encode(self, text: int) -> Encoding:
        """Tokenize one text, with a cache for the first texts."""
        if self.written:
            return self.written[text].encoding
        known = self._encodings.encodings.get(text)
        if known is not None:
            return known
        encoding = encode(self.model, self.tokenizer, self.texts[text], self.max_tokens)
        self._encodings.add(text, encoding)
        return encoding

    def volumes(self, text: int, encoding: Encoding) -> np.ndarray:
        """Return the volume of every token, counted within its text; -1 for tokens without a volume."""
        n_prompt = self.written[text].n_prompt if self.written else None
        return self.axis.volumes(encoding, self.texts[text], ~self.dummies(encoding), n_prompt)

    def dummies(self, encoding: Encoding) -> np.ndarray:
        """Return the mask of the tokens that are excluded from the images."""
        special = np.array(encoding.special, dtype=bool)
        return special | (np.arange(len(special)) < self.n_dummy)

    @cached_property
    def lengths(self) -> Lengths:
        """Lengths of all texts, for which each text is tokenized once."""
        n_tokens, n_volumes, n_cut, n_repeated, n_unknown, digest = [], [], [], [], 0, hashlib.sha256()
        unknown = unknown_id(self.tokenizer)
        for text in range(len(self.texts)):
            encoding = self.encode(text)
            dummies, volumes = self.dummies(encoding), self.volumes(text, encoding)
            n_tokens.append(len(encoding.ids))
            n_volumes.append(int(volumes.max(initial=-1)) + 1)
            n_cut.append(encoding.n_cut)
            n_repeated.append(encoding.n_repeated)
            n_unknown += encoding.ids.count(unknown) if unknown is not None else 0
            numbers = [len(encoding.ids), encoding.n_cut, *encoding.ids, *dummies, *volumes]
            digest.update(np.array(numbers, dtype="<i8").tobytes())
        return Lengths(n_tokens, n_volumes, n_cut, n_repeated, n_unknown, digest.hexdigest()[:16])

    def tables(self, corpus: str, run: list[int], text_ids: list[str]) -> tuple[pd.DataFrame, pd.DataFrame]:
        """Build the events (one row per volume) and the tokens (one row per token) of one run."""
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


def _joined(parts: list[np.ndarray] | list[list[Any]]) -> np.ndarray | list[Any]:
    """Concatenate columns; concatenating one table per text would take twice the time."""
    return np.concatenate(parts) if isinstance(parts[0], np.ndarray) else list(chain.from_iterable(parts))
