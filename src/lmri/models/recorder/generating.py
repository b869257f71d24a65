"""Generating: what a model writes on from a prompt, token by token, to be recorded with it."""

import contextlib
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from transformers import GenerationConfig, PreTrainedModel

from lmri.exceptions import DataWarning
from lmri.models import Encoding, context_length, encode, evaluation_mode, input_device, read, reader
from lmri.models.recorder.options import Generation
from lmri.storage import text_hash

_UNFINISHED = "\ufffd"  # what a part of a character is decoded as


@dataclass(frozen=True)
class Written:
    """A prompt and what the model made of it.

    Parameters
    ----------
    prompt : str
        As it was given.
    text : str
        Both.
    encoding : Encoding
        The tokens that the model read: all but the last that it wrote, which it never reads.
    n_prompt : int
        Tokens of the prompt.
    """

    prompt: str
    text: str
    encoding: Encoding
    n_prompt: int


class Kept(Protocol):
    """What was written before, found by the tokens of the prompt and by how many more there may be."""

    def get(self, prompt: str, ids: Sequence[int], n_new: int) -> list[int] | None:
        """Give it, None if there is none."""

    def add(self, prompt: str, ids: Sequence[int], n_new: int, new: list[int]) -> None:
        """Keep it."""


def write_all(
    model: PreTrainedModel,
    tokenizer: Any,
    prompts: list[str],
    how: Generation,
    max_tokens: int | None = None,
    drafts: Kept | None = None,
) -> tuple[Written, ...]:
    """Let a model write on from each of several prompts; those that leave no room are listed in a warning.

    What `drafts` has is not written again, and what is written is put there.

    Raises
    ------
    ValueError
        If none leaves room, or the model cannot write, or cannot be read again.
    """
    check_causal(model, max((room(model, tokenizer, prompt, how, max_tokens)[0].ids for prompt in prompts), key=len))
    made = [write_on(model, tokenizer, prompt, how, max_tokens, drafts) for prompt in prompts]
    written = tuple(one for one in made if one is not None)
    full = [prompt for prompt, one in zip(prompts, made, strict=True) if one is None]
    if not written:
        raise ValueError(
            f"None of the {len(prompts)} prompts leaves room for a token more (first: {prompts[0][:40]!r}). "
            "Give shorter ones, or raise max_tokens."
        )
    if full:
        warnings.warn(
            f"{len(full)} of {len(prompts)} prompts leave no room for a token more and are left out (first: "
            f"{full[0][:40]!r}).",
            DataWarning,
            stacklevel=3,
        )
    return written


def check_can_write(model: PreTrainedModel) -> None:
    """Refuse a model that writes no text behind a prompt."""
    if not model.can_generate() or getattr(model.config, "is_encoder_decoder", False):
        raise ValueError(
            f"{type(model).__name__} writes no text behind its prompt, so nothing can be generated. Load a causal "
            "language model, or leave out generate."
        )


def room(
    model: PreTrainedModel, tokenizer: Any, prompt: str, how: Generation, max_tokens: int | None = None
) -> tuple[Encoding, int]:
    """Give a prompt as the model reads it to go on from it, and how many tokens it may write; 0 or less if none."""
    opened = _open_ended(encode(model, tokenizer, prompt, max_tokens))
    limits = [limit for limit in (context_length(model, tokenizer), max_tokens) if limit]
    n_new = min([how.max_new_tokens, *(limit - len(opened.ids) for limit in limits)])
    return opened, n_new if opened.ids else 0


def write_on(
    model: PreTrainedModel,
    tokenizer: Any,
    prompt: str,
    how: Generation,
    max_tokens: int | None = None,
    drafts: Kept | None = None,
) -> Written | None:
    """Let a model write on from a prompt, with a cache of keys and values.

    Parameters
    ----------
    model, tokenizer
        A decoder with a language-model head.
    prompt : str
        Any text.
    how : Generation
        How far, and by which draws.
    max_tokens : int, optional
        Of prompt and continuation.
    drafts : Kept, optional
        What was written before.

    Returns
    -------
    Written or None
        None if the prompt leaves no room for anything more.

    Raises
    ------
    ValueError
        If the model writes no text.
    """
    check_can_write(model)
    opened, n_new = room(model, tokenizer, prompt, how, max_tokens)
    if n_new < 1:
        return None
    new = drafts.get(prompt, opened.ids, n_new) if drafts is not None else None
    if new is None:
        new = _write(model, prompt, opened, n_new, how)
        if drafts is not None:
            drafts.add(prompt, opened.ids, n_new, new)
    return _put_together(tokenizer, prompt, opened, new)


def _write(model: PreTrainedModel, prompt: str, opened: Encoding, n_new: int, how: Generation) -> list[int]:
    ids = torch.tensor([opened.ids], device=input_device(model))
    with torch.random.fork_rng(), evaluation_mode(model):
        torch.manual_seed(int(text_hash(f"{how.seed} {prompt}")[:15], 16))
        with _writing_plainly(model, how, n_new):
            made = model.generate(ids, attention_mask=torch.ones_like(ids))
    return [int(one) for one in made[0, len(opened.ids) :]]


@contextlib.contextmanager
def _writing_plainly(model: PreTrainedModel, how: Generation, n_new: int) -> Iterator[None]:
    """Put the checkpoint's own way to generate aside: no penalty or cut of its own decides what is written."""
    drawn: dict[str, Any] = {"do_sample": False}
    if how.temperature:
        drawn = {"do_sample": True, "temperature": how.temperature, "top_k": 0, "top_p": 1.0}
    own = model.generation_config
    ends = getattr(own, "eos_token_id", None)
    model.generation_config = GenerationConfig(
        max_new_tokens=n_new, num_beams=1, use_cache=True, eos_token_id=ends, pad_token_id=0, **drawn
    )
    try:
        yield
    finally:
        model.generation_config = own


def check_causal(model: PreTrainedModel, ids: list[int]) -> None:
    """Refuse a model that reads otherwise what more is written behind: its activity could not be read again.

    Lengths differ, and so may the kernels and their rounding: what counts is the difference as a share of the whole.
    """
    device = input_device(model)
    ids = (ids * 4)[: max(4, len(ids))] or [0] * 4
    whole, part = torch.tensor([ids], device=device), torch.tensor([ids[:-1]], device=device)
    with evaluation_mode(model):
        read_whole, read_part = (read(reader(model), one, torch.ones_like(one)) for one in (whole, part))
    difference = (read_whole[:, :-1].float() - read_part.float()).norm() / read_part.float().norm()
    if not difference <= (1e-3 if read_part.dtype in (torch.float32, torch.float64) else 3e-2):
        raise ValueError(
            f"{type(model).__name__} reads a token otherwise once others follow, so what it did while it wrote cannot "
            "be read again. Record texts: leave out generate."
        )


def _open_ended(read: Encoding) -> Encoding:
    """Leave out the end-of-text token that some tokenizers put behind every text."""
    n = len(read.ids)
    while n > 1 and read.special[n - 1] and not 0 <= read.spans[n - 1][0] < read.spans[n - 1][1]:  # in no text
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
    return Written(prompt, kept + text, encoding, len(read.ids))
