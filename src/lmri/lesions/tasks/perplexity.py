"""Perplexity of held-out texts under a causal model."""

import warnings
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import pandas as pd
from transformers import PreTrainedModel

from lmri.exceptions import DataWarning
from lmri.lesions.scores import TaskInfo
from lmri.lesions.tasks.base import check_causal, remark, repeated_note, token_log_likelihoods
from lmri.models import context_length, encode
from lmri.storage import digest, text_hash


class Perplexity:
    """Mean negative log-likelihood of texts, in nats per token: the logarithm of perplexity.

    Each text is one item and one cluster; the mean weights texts by their number of tokens. Texts longer than the
    context are truncated.

    Parameters
    ----------
    texts : iterable of str
        Texts to predict. Scores on texts in which a network was found are biased (circular analysis).
    name : str, default="perplexity"
        Name in tables.
    batch_size : int, default=8
        Number of texts per forward pass.
    split : str, default=""
        Split of the texts, shown in the rows: ``"fit"``, ``"select"`` or ``"test"``.
    note : str, default=""
        Caveats of the texts, shown in the rows.
    """

    def __init__(
        self, texts: Iterable[str], name: str = "perplexity", batch_size: int = 8, *, split: str = "", note: str = ""
    ) -> None:
        if isinstance(texts, str):
            raise TypeError("texts is one string; give a list of texts.")
        self.texts = list(texts)
        if not self.texts:
            raise ValueError(f"{name} has no texts to score. Hold out texts (test_fraction), or give other texts.")
        self.info = TaskInfo(name, "loglikelihood", "nats_per_token", False, True, split=split, note=note)
        self._given_note = note
        self.batch_size = batch_size
        self._prepared: tuple[Any, tuple[int | None, int], list[list[int]]] | None = None

    def digest(self) -> str:
        """Return the hash of the texts and of the batch size."""
        return digest([self.info.identity(), self.texts, self.batch_size])

    def score(self, model: PreTrainedModel, tokenizer: Any) -> pd.DataFrame:
        """Score every text: ``value`` is nats per token."""
        rows = self._rows(model, tokenizer)
        check_causal(model, "Perplexity", rows, tokenizer)
        scored = [number for number, row in enumerate(rows) if len(row) > 1]
        likelihoods = token_log_likelihoods(model, [rows[number] for number in scored], self.batch_size)
        return pd.DataFrame(
            {
                "item": scored,
                "cluster": [text_hash(self.texts[number]) for number in scored],
                "n_tokens": [len(likelihood) for likelihood in likelihoods],
                "value": [-float(likelihood.mean()) for likelihood in likelihoods],
            }
        )

    def _rows(self, model: PreTrainedModel, tokenizer: Any) -> list[list[int]]:
        reads = (context_length(model, tokenizer), model.get_input_embeddings().weight.shape[0])
        if self._prepared is None or self._prepared[0] is not tokenizer or self._prepared[1] != reads:
            encodings = [encode(model, tokenizer, text) for text in self.texts]
            rows = [encoding.ids for encoding in encodings]
            cut = [encoding.n_cut for encoding in encodings if encoding.n_cut]
            if cut:
                warnings.warn(
                    f"{len(cut)} of {len(rows)} texts of {self.info.name!r} are longer than the model's context and "
                    f"are truncated; up to {max(cut)} tokens are not scored.",
                    DataWarning,
                    stacklevel=4,
                )
            short = sum(len(row) < 2 for row in rows)
            notes = [f"{len(cut)} texts cut at the context"] * bool(cut) + [f"{short} texts not scored"] * bool(short)
            self.info = replace(self.info, note="; ".join(filter(None, [self._given_note, *notes])))
            if n_repeated := sum(encoding.n_repeated > 0 for encoding in encodings):
                self.info = remark(self.info, repeated_note(n_repeated, len(rows), "texts"), stacklevel=5)
            if short == len(rows):
                raise ValueError(f"None of the {short} texts of {self.info.name!r} has two tokens. Use longer texts.")
            if short:
                warnings.warn(
                    f"{short} of {len(rows)} texts of {self.info.name!r} have fewer than two tokens and are not "
                    "scored.",
                    DataWarning,
                    stacklevel=4,
                )
            self._prepared = tokenizer, reads, rows
        return self._prepared[2]
