"""Reading texts: tokenization, batching, and forward passes of the body of the model."""

import contextlib
import inspect
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from transformers import PreTrainedModel

from lmri.models.loading.offloading import running_device
from lmri.models.module_state import preserved_state
from lmri.models.runtime_state import check_runtime_state
from lmri.models.tokenization import special_ids, tokenize
from lmri.storage import text_hash
from lmri.storage.texts import check_characters

_UNBOUNDED = 1_000_000  # tokenizers without a limit report 1e30


def reader(model: PreTrainedModel) -> torch.nn.Module:
    """Return the part of the model that reads text: the base model without a head, or the encoder."""
    if getattr(model.config, "is_encoder_decoder", False):
        return model.get_encoder()
    return model.base_model


def read(part: torch.nn.Module, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Run `part`, as returned by `reader`, on a batch; return its last hidden states."""
    # Decoders would otherwise cache the keys and values of every layer for further tokens.
    cache = {"use_cache": False} if "use_cache" in inspect.signature(part.forward).parameters else {}
    return part(input_ids=ids, attention_mask=mask, **cache)[0]


@contextlib.contextmanager
def evaluation_mode(model: torch.nn.Module) -> Iterator[None]:
    """Disable dropout and gradients, and restore the mode and the state of each module afterwards.

    Every measurement runs in this context, so that it also refuses a disturbed model; see `check_runtime_state`.
    """
    check_runtime_state(model)
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        with torch.inference_mode(), preserved_state(model):
            yield
    finally:
        for module, mode in modes:
            module.training = mode


@dataclass(frozen=True)
class Encoding:
    """Encoding of a text, as the model reads it.

    Parameters
    ----------
    ids : list of int
        Token ids, special tokens included as the tokenizer adds them.
    tokens : list of str
        Span of text of each token, or the name of the token if it has no span.
    spans : list of tuple of int
        Start and end (exclusive) of each token in characters. Tokens of a byte-level tokenizer that share a character,
        such as parts of an emoji, all have it in their spans. ``(-1, -1)`` if the tokenizer does not report spans, as
        tokenizers that are not "fast".
    special : list of bool
        Whether each token is a special token, including special tokens named in the text itself.
    n_cut : int
        Number of tokens beyond the context of the model, truncated at the end of the text.
    n_after : int
        Number of special tokens that the tokenizer added after the text.
    n_repeated : int
        Number of special tokens that were not added, because the text already begins or ends with them.
    """

    ids: list[int]
    tokens: list[str]
    spans: list[tuple[int, int]]
    special: list[bool]
    n_cut: int
    n_after: int = 0
    n_repeated: int = 0

    def opened(self) -> "Encoding":
        """Return the encoding without the special tokens added after the text, so that it can be continued."""
        n = len(self.ids) - self.n_after
        parts = (self.ids[:n], self.tokens[:n], self.spans[:n], self.special[:n])
        return Encoding(*parts, self.n_cut, 0, self.n_repeated)


def context_length(model: PreTrainedModel, tokenizer: Any) -> int | None:
    """Return the length of the longest text that the model can read, in tokens; None if there is no limit."""
    config = model.config.get_text_config()
    limits = [getattr(config, name, None) for name in ("max_position_embeddings", "n_positions", "max_seq_len")]
    limits.append(getattr(tokenizer, "model_max_length", None))
    positions: Any = getattr(getattr(model.base_model, "embeddings", None), "position_embeddings", None)
    if getattr(positions, "padding_idx", None) is not None:
        # RoBERTa and related models count positions from the position after the pad, so fewer are available.
        limits.append(positions.weight.shape[0] - positions.padding_idx - 1)
    known = [int(limit) for limit in limits if isinstance(limit, int | float) and 0 < limit < _UNBOUNDED]
    return min(known) if known else None


def encode(model: PreTrainedModel, tokenizer: Any, text: str, max_tokens: int | None = None) -> Encoding:
    """Tokenize one text like ``tokenizer(text)``, and truncate it at the context length.

    Special tokens that the text already begins or ends with are not added again; see `lmri.models.tokenization`.

    The name of a special token in the text, such as ``<|endoftext|>``, is read as this token: models are trained on
    texts in which it separates documents. The token is marked as special, and its span is the span of the name.

    Parameters
    ----------
    model : PreTrainedModel
        Model, which determines the context length.
    tokenizer : PreTrainedTokenizer
        Tokenizer of the model; pad, bos and eos tokens are not required.
    text : str
        Text.
    max_tokens : int, optional
        Largest number of tokens, if smaller than the context.

    Raises
    ------
    ValueError
        If the tokenizer has tokens that the model lacks, the text contains half a surrogate pair, or the special tokens
        leave no room for a token of the text.
    """
    if max_tokens is not None and max_tokens < 1:
        raise ValueError(f"max_tokens is {max_tokens}; it must be at least 1.")
    check_characters(text)
    limits = [limit for limit in (context_length(model, tokenizer), max_tokens) if limit]
    read = tokenize(tokenizer, text, min(limits) if limits else None)
    n_known = model.get_input_embeddings().weight.shape[0]
    if read.ids and max(read.ids) >= n_known:
        raise ValueError(
            f"The tokenizer returned the token id {max(read.ids)}, but the model has only {n_known} tokens. "
            "Load the tokenizer of the model."
        )
    names = tokenizer.convert_ids_to_tokens(read.ids)
    tokens = [
        text[start:end] if 0 <= start < end else str(name) for (start, end), name in zip(read.spans, names, strict=True)
    ]
    marks = special_ids(tokenizer)
    special = [is_end or token in marks for token, is_end in zip(read.ids, read.is_end, strict=True)]
    return Encoding(read.ids, tokens, read.spans, special, read.n_cut, read.n_after, read.n_repeated)


def hashes(texts: list[str]) -> frozenset[str]:
    """Return the hashes of texts, used to separate training and test texts."""
    return frozenset(text_hash(text) for text in texts)


def bucket(lengths: list[int], batch_size: int, waste: float = math.inf, n_tokens: float = math.inf) -> list[list[int]]:
    """Group texts of similar length into batches, before the first forward pass.

    Parameters
    ----------
    lengths : list of int
        Length of each text in tokens.
    batch_size : int
        Largest number of texts per batch.
    waste : float, default=inf
        Largest ratio of pads to tokens in a batch; a short text in a batch costs as much as the longest one.
    n_tokens : float, default=inf
        Largest number of tokens per batch, pads included, unless a single text is longer; batches that exceed the
        processor caches are slower.

    Examples
    --------
    >>> bucket([5, 90, 6, 80], batch_size=2)
    [[0, 2], [3, 1]]
    >>> bucket([5, 90, 6, 80], batch_size=3, waste=0.25)
    [[0, 2], [3, 1]]
    >>> bucket([5, 90, 6, 80], batch_size=3, n_tokens=100)
    [[0, 2], [3], [1]]
    """
    if batch_size < 1:
        raise ValueError(f"batch_size is {batch_size}; it must be at least 1.")
    batches: list[list[int]] = []
    n_real = 0
    for text in sorted(range(len(lengths)), key=lambda text: lengths[text]):
        last = batches[-1] if batches else []
        # The text is the longest so far, so all texts of the batch are padded to its length.
        n_all = lengths[text] * (len(last) + 1)
        n_pads = n_all - n_real - lengths[text]
        if not last or len(last) == batch_size or n_all > n_tokens or n_pads > waste * (n_real + lengths[text]):
            batches.append([])
            n_real = 0
        batches[-1].append(text)
        n_real += lengths[text]
    return batches


def right_pad(rows: list[list[int]], device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Pad on the right, which causal attention of real tokens never sees.

    Returns
    -------
    input_ids, attention_mask : Tensor of shape (n_texts, longest)
        Token ids and mask; pads have id 0, which exists in every vocabulary, and mask 0. If the number of texts
        equals the number of tokens, with or without the start token of a decoder, pads are added, so that the axes of
        texts and tokens can be distinguished in every layer.
    """
    longest = max(len(row) for row in rows)
    if len(rows) > 1 and len(rows) in (longest, longest + 1):  # a decoder also reads a start token
        longest = len(rows) + 1
    ids = torch.zeros((len(rows), longest), dtype=torch.long)
    mask = torch.zeros((len(rows), longest), dtype=torch.long)
    for index, row in enumerate(rows):
        ids[index, : len(row)] = torch.tensor(row, dtype=torch.long)
        mask[index, : len(row)] = 1
    return ids.to(device), mask.to(device)


def input_device(model: PreTrainedModel) -> torch.device:
    """Return the device for token ids: the device on which the embedding runs, even if it is offloaded."""
    return running_device(model.get_input_embeddings())
