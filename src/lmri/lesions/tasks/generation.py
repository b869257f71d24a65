"""Generation of greedy answers to prompts, and parsing of labels from them."""

import contextlib
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from transformers import GenerationConfig, LogitsProcessor, LogitsProcessorList, PreTrainedModel

from lmri.models import evaluation_mode, input_device, is_independent, marker_ids

_NEGATION = re.compile(r"\b(not|no|never|neither|nor|cannot|isn't|aren't|wasn't|doesn't|don't|can't)\b|n't\b")


def generate(
    model: PreTrainedModel, tokenizer: Any, rows: Sequence[list[int]], max_new_tokens: int, batch_size: int
) -> list[str | None]:
    """Generate answers to prompts with a causal model: greedy, with key-value cache, ignoring the model's settings.

    Only prompts of equal length are batched. Left padding would shift positions in some architectures and change the
    answers.

    Parameters
    ----------
    model : PreTrainedModel
        Causal model, intact or under an intervention.
    tokenizer : PreTrainedTokenizer
        Tokenizer of the model.
    rows : sequence of list of int
        Token ids of the prompts.
    max_new_tokens : int
        Largest number of tokens of an answer.
    batch_size : int
        Number of prompts per forward pass.

    Returns
    -------
    list of str or None
        Answers without prompts and special tokens; None where the model gave NaN.
    """
    if not model.can_generate():
        raise TypeError(
            f"{type(model).__name__} cannot generate text, because its class has no generate method. Score the task "
            "by 'loglikelihood'."
        )
    by_length: dict[int, list[int]] = defaultdict(list)
    for number, row in enumerate(rows):
        by_length[len(row)].append(number)
    ends = _end_ids(model, tokenizer)
    marks = marker_ids(tokenizer)
    answers: list[str | None] = [None] * len(rows)
    batch_size = batch_size if is_independent(model) else 1
    with evaluation_mode(model), _greedy_settings(model, ends, max_new_tokens):
        for numbers in by_length.values():
            for first in range(0, len(numbers), batch_size):
                batch = numbers[first : first + batch_size]
                ids = torch.tensor([rows[number] for number in batch], device=input_device(model))
                watch = _Watch(len(batch))
                output = model.generate(
                    input_ids=ids, attention_mask=torch.ones_like(ids), logits_processor=LogitsProcessorList([watch])
                )
                for index, number in enumerate(batch):
                    new = output[index, ids.shape[1] :].tolist()
                    cut = next((at for at, token in enumerate(new) if token in ends), len(new))
                    if not watch.broken[index]:
                        # Not skip_special_tokens=True, which also skips a word that is a special token.
                        words = [token for token in new[:cut] if token not in marks]
                        answers[number] = tokenizer.decode(words, skip_special_tokens=False)
    return answers


class _Watch(LogitsProcessor):
    """Record for which answers the model gave NaN, as the argmax of NaN would pass for a token."""

    def __init__(self, n: int) -> None:
        self.broken = [False] * n

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor) -> torch.FloatTensor:
        """Check the scores for NaN, and return them unchanged."""
        for index in torch.isnan(scores).any(-1).nonzero().flatten().tolist():
            self.broken[index] = True
        return scores


def _end_ids(model: PreTrainedModel, tokenizer: Any) -> list[int]:
    known = [getattr(model.generation_config, "eos_token_id", None), getattr(tokenizer, "eos_token_id", None)]
    flat = [token_id for ids in known for token_id in (ids if isinstance(ids, list) else [ids]) if token_id is not None]
    return sorted({int(token_id) for token_id in flat})


@contextlib.contextmanager
def _greedy_settings(model: PreTrainedModel, ends: list[int], max_new_tokens: int) -> Iterator[None]:
    """Replace the model's generation settings, as sampling or a repetition penalty would change answers."""
    before = model.generation_config
    # Any id may follow the end of an answer, but one is needed.
    pad = ends[0] if ends else 0
    model.generation_config = GenerationConfig(
        max_new_tokens=max_new_tokens, do_sample=False, num_beams=1, eos_token_id=ends or None, pad_token_id=pad
    )
    try:
        yield
    finally:
        model.generation_config = before


def parse_label(answer: str, words: Mapping[str, str]) -> str | None:
    """Parse the label from an answer; None if it is ambiguous or missing.

    Only the first non-empty line is parsed. It must start with a label's words, or name exactly one label without a
    preceding negation. Case, and punctuation at the ends, are ignored.

    Parameters
    ----------
    answer : str
        Generated text.
    words : mapping of str to str
        Words by label.

    Examples
    --------
    >>> words = {"yes": " yes", "no": " no"}
    >>> parse_label(" Yes, it is.", words), parse_label("I would say no.", words), parse_label("42", words)
    ('yes', 'no', None)
    """
    line = next((line for line in answer.casefold().splitlines() if line.strip()), "").strip(" \t\"'*.:-_([")
    # Longer words first: "not entailment" contains "entailment".
    ordered = sorted(words, key=lambda label: -len(words[label]))
    matches: dict[str, tuple[int, int]] = {}
    for label in ordered:
        match = re.search(rf"(?<!\w){re.escape(words[label].strip().casefold())}(?!\w)", line)
        if match and not any(start <= match.start() and match.end() <= end for start, end in matches.values()):
            matches[label] = match.span()
    starting = [label for label, (start, _) in matches.items() if start == 0]
    if starting:
        return starting[0]
    if len(matches) != 1:
        return None
    label, (start, _) = matches.popitem()
    return None if _NEGATION.search(line[:start]) else label
