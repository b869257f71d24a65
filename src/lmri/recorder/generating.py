"""Generating: what a model writes on from a prompt, token by token, to be recorded with it."""

from dataclasses import dataclass
from typing import Any

import torch
from transformers import PreTrainedModel

from lmri.models import Encoding, context_length, encode, evaluation_mode, input_device

_UNFINISHED = "\ufffd"  # what a part of a character is decoded as


@dataclass(frozen=True)
class Generation:
    """How a model is to go on from a prompt.

    Parameters
    ----------
    max_new_tokens : int
        It may stop earlier, by its end-of-text token.
    temperature : float, default=0.0
        0 takes the likeliest token each time; more draws one.
    seed : int, default=0
        Of the draws; each text has draws of its own, whatever comes before it.
    """

    max_new_tokens: int
    temperature: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.max_new_tokens < 1:
            raise ValueError(f"generate is {self.max_new_tokens}; it must be at least 1 token.")
        if not 0 <= self.temperature < float("inf"):
            raise ValueError(f"temperature is {self.temperature}; it must be at least 0.")


@dataclass(frozen=True)
class Written:
    """A prompt and what the model made of it.

    Parameters
    ----------
    text : str
        Both.
    encoding : Encoding
        The tokens that the model read: all but the last that it wrote, which it never reads.
    n_prompt : int
        Tokens of the prompt.
    """

    text: str
    encoding: Encoding
    n_prompt: int


def write_on(
    model: PreTrainedModel, tokenizer: Any, prompt: str, how: Generation, number: int, max_tokens: int | None = None
) -> Written:
    """Let a model write on from a prompt, with a cache of keys and values.

    Parameters
    ----------
    model, tokenizer
        A decoder with a language-model head.
    prompt : str
        Any text.
    how : Generation
        How far, and by which draws.
    number : int
        Of the text, which is part of its seed.
    max_tokens : int, optional
        Of prompt and continuation.

    Raises
    ------
    ValueError
        If the model writes no text, or the prompt leaves no room for any.
    """
    if not model.can_generate() or getattr(model.config, "is_encoder_decoder", False):
        raise ValueError(
            f"{type(model).__name__} writes no text behind its prompt, so nothing can be generated. Load a causal "
            "language model, or leave out generate."
        )
    read = _open_ended(encode(model, tokenizer, prompt, max_tokens))
    limits = [limit for limit in (context_length(model, tokenizer), max_tokens) if limit]
    n_new = min([how.max_new_tokens, *(limit - len(read.ids) for limit in limits)])
    if n_new < 1 or not read.ids:
        raise ValueError(
            f"The prompt {prompt[:40]!r} has {len(read.ids)} tokens, which leaves no room for others"
            f"{f' below {min(limits)}' if limits else ''}. Give a shorter one that is not empty."
        )
    ids = torch.tensor([read.ids], device=input_device(model))
    drawn = {"do_sample": True, "temperature": how.temperature} if how.temperature else {"do_sample": False}
    with torch.random.fork_rng(), evaluation_mode(model):
        torch.manual_seed(how.seed * 1_000_003 + number)
        made = model.generate(
            ids, attention_mask=torch.ones_like(ids), max_new_tokens=n_new, num_beams=1, pad_token_id=0, **drawn
        )
    new = [int(one) for one in made[0, len(read.ids) :]]
    return _put_together(tokenizer, prompt, read, new)


def _open_ended(read: Encoding) -> Encoding:
    """Leave out the end-of-text token that some tokenizers put behind every text."""
    n = len(read.ids)
    while n > 1 and read.special[n - 1]:
        n -= 1
    return Encoding(read.ids[:n], read.tokens[:n], read.spans[:n], read.special[:n], read.n_cut)


def _put_together(tokenizer: Any, prompt: str, read: Encoding, new: list[int]) -> Written:
    """Lay the written tokens behind the prompt, and find the part of the text that each stands for."""
    options = {"skip_special_tokens": False, "clean_up_tokenization_spaces": False}
    base = tokenizer.decode(read.ids, **options)
    ends, text = [0], ""
    for count in range(1, len(new) + 1):
        whole = tokenizer.decode([*read.ids, *new[:count]], **options)
        if not whole.startswith(base):
            ends = []
            break
        text = whole[len(base) :]
        ends.append(max(ends[-1], len(text.rstrip(_UNFINISHED)) if count < len(new) else len(text)))
    seen, names = new[:-1], tokenizer.convert_ids_to_tokens(new)
    if not ends:  # a tokenizer that writes a prompt otherwise as soon as something follows
        text = tokenizer.decode(new, **options)
    kept = prompt if not read.n_cut else prompt[: max((end for _, end in read.spans), default=0)]
    shift, spans, tokens = len(kept), list(read.spans), list(read.tokens)
    for place in range(len(seen)):
        start = ends[place] if ends else -1
        end = next((one for one in ends[place + 1 :] if one > start), -1)
        has_span = bool(ends) and end > start
        spans.append((shift + start, shift + end) if has_span else (-1, -1))
        tokens.append(text[start:end] if has_span else str(names[place]))
    special = set(tokenizer.all_special_ids)
    encoding = Encoding(
        [*read.ids, *seen], tokens, spans, [*read.special, *(one in special for one in seen)], read.n_cut
    )
    return Written(kept + text, encoding, len(read.ids))
