"""Generation of continuations: tokens generated after a prompt, recorded together with the prompt."""

import contextlib
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from transformers import GenerationConfig, PreTrainedModel

from lmri.exceptions import DataWarning
from lmri.models import (
    Encoding,
    context_length,
    encode,
    evaluation_mode,
    input_device,
    special_ids,
    why_not_causal,
)
from lmri.models.recorder.options import Generation
from lmri.storage import text_hash

_UNFINISHED = "\ufffd"  # replacement character: an incomplete character is decoded as this


@dataclass(frozen=True)
class Continuation:
    """A prompt and the text that the model generated after it.

    Parameters
    ----------
    prompt : str
        Prompt, unchanged.
    text : str
        Prompt and continuation.
    encoding : Encoding
        Tokens that the model read: all except the last generated token, which is never read.
    n_prompt : int
        Number of tokens of the prompt.
    """

    prompt: str
    text: str
    encoding: Encoding
    n_prompt: int


class ContinuationCache(Protocol):
    """Cached continuations, keyed by the tokens of the prompt and the largest number of new tokens."""

    def get(self, prompt: str, ids: Sequence[int], n_new: int) -> list[int] | None:
        """Return the cached continuation, or None."""

    def add(self, prompt: str, ids: Sequence[int], n_new: int, new: list[int]) -> None:
        """Store a continuation."""


def continue_prompts(
    model: PreTrainedModel,
    tokenizer: Any,
    prompts: list[str],
    how: Generation,
    max_tokens: int | None = None,
    cache: ContinuationCache | None = None,
) -> tuple[Continuation, ...]:
    """Generate a continuation of each prompt, and warn about prompts that leave no room for one.

    Continuations in `cache` are reused; new ones are added to it.

    Raises
    ------
    ValueError
        If no prompt leaves room, or the model cannot generate text or is not causal.
    """
    encodings = [prompt_with_room(model, tokenizer, prompt, how, max_tokens)[0] for prompt in prompts]
    check_causal(model, [encoding.ids for encoding in encodings], tokenizer)
    results = [continue_prompt(model, tokenizer, prompt, how, max_tokens, cache) for prompt in prompts]
    written = tuple(result for result in results if result is not None)
    full = [prompt for prompt, result in zip(prompts, results, strict=True) if result is None]
    if not written:
        raise ValueError(
            f"None of the {len(prompts)} prompts leaves room for a new token (first: {prompts[0][:40]!r}). "
            "Use shorter prompts, or increase max_tokens."
        )
    if full:
        warnings.warn(
            f"{len(full)} of {len(prompts)} prompts leave no room for a new token and are excluded (first: "
            f"{full[0][:40]!r}).",
            DataWarning,
            stacklevel=3,
        )
    return written


def check_can_generate(model: PreTrainedModel) -> None:
    """Raise `ValueError` if a model cannot continue a prompt."""
    if not model.can_generate() or getattr(model.config, "is_encoder_decoder", False):
        raise ValueError(
            f"{type(model).__name__} cannot continue a prompt, so generate is not possible. "
            "Load a causal language model, or omit generate (--generate)."
        )


def prompt_with_room(
    model: PreTrainedModel, tokenizer: Any, prompt: str, how: Generation, max_tokens: int | None = None
) -> tuple[Encoding, int]:
    """Return the encoding of a prompt for generation and the largest number of new tokens; 0 or less if none fit."""
    opened = encode(model, tokenizer, prompt, max_tokens).opened()
    limits = [limit for limit in (context_length(model, tokenizer), max_tokens) if limit]
    n_new = min([how.max_new_tokens, *(limit - len(opened.ids) for limit in limits)])
    return opened, n_new if opened.ids else 0


def continue_prompt(
    model: PreTrainedModel,
    tokenizer: Any,
    prompt: str,
    how: Generation,
    max_tokens: int | None = None,
    cache: ContinuationCache | None = None,
) -> Continuation | None:
    """Generate a continuation of a prompt, with a key–value cache.

    Parameters
    ----------
    model, tokenizer
        Decoder with a language-model head, and its tokenizer.
    prompt : str
        Prompt.
    how : Generation
        Number of new tokens, temperature and seed.
    max_tokens : int, optional
        Largest number of tokens of prompt and continuation.
    cache : ContinuationCache, optional
        Cached continuations.

    Returns
    -------
    Continuation or None
        None if the prompt leaves no room for a new token.

    Raises
    ------
    ValueError
        If the model cannot generate text.
    """
    check_can_generate(model)
    opened, n_new = prompt_with_room(model, tokenizer, prompt, how, max_tokens)
    if n_new < 1:
        return None
    new = cache.get(prompt, opened.ids, n_new) if cache is not None else None
    if new is None:
        new = _write(model, prompt, opened, n_new, how)
        if cache is not None:
            cache.add(prompt, opened.ids, n_new, new)
    return _put_together(tokenizer, prompt, opened, new)


def _write(model: PreTrainedModel, prompt: str, opened: Encoding, n_new: int, how: Generation) -> list[int]:
    ids = torch.tensor([opened.ids], device=input_device(model))
    with torch.random.fork_rng(), evaluation_mode(model):
        torch.manual_seed(int(text_hash(f"{how.seed} {prompt}")[:15], 16))
        with _plain_generation(model, how, n_new):
            generated = model.generate(ids, attention_mask=torch.ones_like(ids))
    return [int(token) for token in generated[0, len(opened.ids) :]]


@contextlib.contextmanager
def _plain_generation(model: PreTrainedModel, how: Generation, n_new: int) -> Iterator[None]:
    """Replace the generation settings of the checkpoint, so that none of its penalties and cut-offs apply."""
    sampling: dict[str, Any] = {"do_sample": False}
    if how.temperature:
        sampling = {"do_sample": True, "temperature": how.temperature, "top_k": 0, "top_p": 1.0}
    original = model.generation_config
    ends = getattr(original, "eos_token_id", None)
    model.generation_config = GenerationConfig(
        max_new_tokens=n_new, num_beams=1, use_cache=True, eos_token_id=ends, pad_token_id=0, **sampling
    )
    try:
        yield
    finally:
        model.generation_config = original


def check_causal(model: PreTrainedModel, rows: Sequence[Sequence[int]], tokenizer: Any = None) -> None:
    """Raise `ValueError` if the activity during generation could not be reproduced by reading the whole text."""
    if reason := why_not_causal(model, rows, tokenizer):
        raise ValueError(
            f"{reason} Its activity during generation cannot be reproduced by reading the text. Record the texts "
            "without generate (--generate)."
        )


def _put_together(tokenizer: Any, prompt: str, read: Encoding, new: list[int]) -> Continuation:
    """Append the generated tokens to the prompt, and find the span of text of each."""
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
    if not ends:  # the tokenizer decodes a prompt differently when tokens follow
        text = tokenizer.decode(new, **options)
    beginning = prompt if not read.n_cut else prompt[: max((end for _, end in read.spans), default=0)]
    shift, spans, tokens = len(beginning), list(read.spans), list(read.tokens)
    for index in range(len(seen)):
        start = ends[index] if ends else -1
        end = next((later for later in ends[index + 1 :] if later > start), -1)
        has_span = bool(ends) and end > start
        spans.append((shift + start, shift + end) if has_span else (-1, -1))
        tokens.append(text[start:end] if has_span else str(names[index]))
    marks = special_ids(tokenizer)
    special = [*read.special, *(token in marks for token in seen)]
    encoding = Encoding([*read.ids, *seen], tokens, spans, special, read.n_cut, n_repeated=read.n_repeated)
    return Continuation(prompt, beginning + text, encoding, len(read.ids))
