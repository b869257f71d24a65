"""Reading: texts turned into tokens, tokens into batches, and batches read by the model's body."""

import contextlib
import inspect
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from transformers import PreTrainedModel

from lmri.models.offloading import running_device
from lmri.storage import text_hash
from lmri.storage.texts import check_characters

_UNBOUNDED = 1_000_000  # tokenizers without a limit say 1e30


def reader(model: PreTrainedModel) -> torch.nn.Module:
    """Give the part of the model that reads text: the base model without a head, or the encoder."""
    if getattr(model.config, "is_encoder_decoder", False):
        return model.get_encoder()
    return model.base_model


def read(part: torch.nn.Module, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Let `part`, as `reader` gives it, read a batch; give its last hidden states."""
    # Decoders would keep keys and values of every layer for a next token that never comes.
    cache = {"use_cache": False} if "use_cache" in inspect.signature(part.forward).parameters else {}
    return part(input_ids=ids, attention_mask=mask, **cache)[0]


@contextlib.contextmanager
def evaluation_mode(model: torch.nn.Module) -> Iterator[None]:
    """Switch dropout off and gradients, and restore each module's own mode afterwards."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        with torch.inference_mode():
            yield
    finally:
        for module, mode in modes:
            module.training = mode


@dataclass(frozen=True)
class Encoding:
    """A text as the model reads it.

    Parameters
    ----------
    ids : list of int
        Token ids, special tokens included as the tokenizer adds them.
    tokens : list of str
        The part of the text that each stands for, or its name if it stands for none.
    spans : list of tuple of int
        First character and the one behind the last; tokens of byte-level tokenizers which share a character, as the
        parts of an emoji do, all have it in their spans. ``(-1, -1)`` if the tokenizer cannot tell, as those that are
        not "fast" cannot.
    special : list of bool
        Whether it is a special token, also where the text itself names one.
    n_cut : int
        Tokens beyond the model's context, cut from the end of the text.
    """

    ids: list[int]
    tokens: list[str]
    spans: list[tuple[int, int]]
    special: list[bool]
    n_cut: int


def context_length(model: PreTrainedModel, tokenizer: Any) -> int | None:
    """Longest text that the model can read, in tokens; None if it has no limit."""
    config = model.config.get_text_config()
    limits = [getattr(config, name, None) for name in ("max_position_embeddings", "n_positions", "max_seq_len")]
    limits.append(getattr(tokenizer, "model_max_length", None))
    places: Any = getattr(getattr(model.base_model, "embeddings", None), "position_embeddings", None)
    if getattr(places, "padding_idx", None) is not None:
        # RoBERTa and its kin count positions from behind that of the pad, so the last of them are missing.
        limits.append(places.num_embeddings - places.padding_idx - 1)
    known = [int(limit) for limit in limits if isinstance(limit, int | float) and 0 < limit < _UNBOUNDED]
    return min(known) if known else None


def encode(model: PreTrainedModel, tokenizer: Any, text: str, max_tokens: int | None = None) -> Encoding:
    """Tokenize one text as ``tokenizer(text)`` does, and cut it at the context.

    The name of a special token in the text, such as ``<|endoftext|>``, is read as that token: models are trained on
    texts in which it parts documents. It is marked as special, and its span is that of the name.

    Parameters
    ----------
    model : PreTrainedModel
        Gives the context length.
    tokenizer : PreTrainedTokenizer
        Its tokenizer; none of pad, bos and eos is needed.
    text : str
        Any text.
    max_tokens : int, optional
        Cut earlier.

    Raises
    ------
    ValueError
        If the tokenizer knows tokens that the model does not, the text holds half a surrogate pair, or no token of the
        text fits beside the special ones.
    """
    if max_tokens is not None and max_tokens < 1:
        raise ValueError(f"max_tokens is {max_tokens}; it must be at least 1.")
    check_characters(text)
    limits = [limit for limit in (context_length(model, tokenizer), max_tokens) if limit]
    fast = bool(getattr(tokenizer, "is_fast", False))
    options = {"return_offsets_mapping": fast, "return_attention_mask": False, "verbose": False}
    encoded = tokenizer(text, **options)
    n_cut = max(0, len(encoded["input_ids"]) - min(limits)) if limits else 0
    if n_cut:
        encoded = _truncated(tokenizer, text, min(limits), options)
    ids = [int(token) for token in encoded["input_ids"]]
    n_known = model.get_input_embeddings().weight.shape[0]
    if ids and max(ids) >= n_known:
        raise ValueError(
            f"The tokenizer gave the token id {max(ids)}, but the model knows {n_known} tokens. "
            "Load the tokenizer that belongs to the model."
        )
    names = tokenizer.convert_ids_to_tokens(ids)
    spans = [(int(start), int(end)) for start, end in encoded["offset_mapping"]] if fast else [(-1, -1)] * len(ids)
    tokens = [
        text[start:end] if 0 <= start < end else str(name) for (start, end), name in zip(spans, names, strict=True)
    ]
    special = _special_ids(tokenizer)
    return Encoding(ids, tokens, spans, [token in special for token in ids], n_cut)


def _truncated(tokenizer: Any, text: str, limit: int, options: dict[str, Any]) -> Any:
    """Tokenize a text that is too long, and cut it at the end, wherever the tokenizer would cut."""
    n_added = tokenizer.num_special_tokens_to_add()
    if limit <= n_added:
        raise ValueError(
            f"A text can have {limit} tokens at most (max_tokens, or the context), and the tokenizer adds {n_added} "
            f"special ones to each: nothing of it is left. Take at least {n_added + 1}."
        )
    side = getattr(tokenizer, "truncation_side", "right")
    tokenizer.truncation_side = "right"
    try:
        return tokenizer(text, truncation=True, max_length=limit, **options)
    finally:
        tokenizer.truncation_side = side


def _special_ids(tokenizer: Any) -> set[int]:
    # A token for unknown words stands for a word of the text, unless it is bos or eos at once, as in GPT-2.
    roles = ("bos_token_id", "eos_token_id", "sep_token_id", "cls_token_id", "pad_token_id", "mask_token_id")
    markers: set[Any] = {getattr(tokenizer, role, None) for role in roles} - {None}
    others: set[Any] = set(tokenizer.all_special_ids) - {getattr(tokenizer, "unk_token_id", None)}
    return {int(token) for token in others | markers}


def hashes(texts: list[str]) -> frozenset[str]:
    """Fingerprints of texts, by which fitted and tested ones are kept apart."""
    return frozenset(text_hash(text) for text in texts)


def bucket(lengths: list[int], batch_size: int, waste: float = math.inf, n_tokens: float = math.inf) -> list[list[int]]:
    """Plan batches of texts of like length, before the first forward pass.

    Parameters
    ----------
    lengths : list of int
        Of each text, in tokens.
    batch_size : int
        Texts in a batch, at most.
    waste : float, default=inf
        Pads in a batch for each of its tokens, at most: a short text read beside a long one costs as much as that one.
    n_tokens : float, default=inf
        Tokens in a batch, pads included, unless one text has more: more than a processor's caches hold are read slower.

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
        # The text is the longest so far, so all are padded to its length.
        n_all = lengths[text] * (len(last) + 1)
        n_pads = n_all - n_real - lengths[text]
        if not last or len(last) == batch_size or n_all > n_tokens or n_pads > waste * (n_real + lengths[text]):
            batches.append([])
            n_real = 0
        batches[-1].append(text)
        n_real += lengths[text]
    return batches


AT_ONCE, AT_ONCE_ELSEWHERE = {"cpu": 1024}, 16_384
"""Tokens in a batch of a recording: with more, activations of GPT-2's width leave the caches of a CPU."""


def plan_batches(model: PreTrainedModel, lengths: list[int], parameters: Mapping[str, Any]) -> list[list[int]]:
    """Plan the batches of a recording, by its parameters and the device: the same for whoever reads its texts again."""
    at_once = parameters.get("batch_tokens") or AT_ONCE.get(input_device(model).type, AT_ONCE_ELSEWHERE)
    return bucket(lengths, parameters["batch_size"], n_tokens=at_once)


def right_pad(rows: list[list[int]], device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Pad on the right, where causal attention never looks from a real token.

    Returns
    -------
    input_ids, attention_mask : Tensor of shape (n_texts, longest)
        Pads have id 0, which any vocabulary has, and mask 0. As many texts as tokens get a pad more, so that a layer
        which runs tokens first can be told from one that runs texts first.
    """
    longest = max(len(row) for row in rows)
    if len(rows) > 1 and len(rows) in (longest, longest + 1):  # a decoder reads a start token more
        longest = len(rows) + 1
    ids = torch.zeros((len(rows), longest), dtype=torch.long)
    mask = torch.zeros((len(rows), longest), dtype=torch.long)
    for place, row in enumerate(rows):
        ids[place, : len(row)] = torch.tensor(row, dtype=torch.long)
        mask[place, : len(row)] = 1
    return ids.to(device), mask.to(device)


def input_device(model: PreTrainedModel) -> torch.device:
    """Where token ids have to be: on the device of the embedding, or where it will run if it is offloaded."""
    return running_device(model.get_input_embeddings())
