"""Tokens of one text, and the special tokens that a tokenizer adds at its ends.

Every text that a model reads passes through this module: texts, prompts, and prompts with answers. Special tokens with
which a text already begins or ends are not added again (decision 33). The added tokens are identified by position, not
by id, because a special token may also be a word of the text.
"""

import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

_MARK = re.compile(r"[▁Ġ\s]*[<>\[{|].+[<>\]}|]\s*", re.DOTALL)
"""Names of special tokens that are no words of a text: ``<s>``, ``[SEP]``, ``<|end|>``, ``>>title<<``."""


@dataclass(frozen=True)
class Tokens:
    """Token ids of a text, with the special tokens at its ends.

    Parameters
    ----------
    ids : list of int
        Token ids.
    spans : list of tuple of int
        Start and end (exclusive) of each token in characters; ``(-1, -1)`` if the tokenizer does not report spans.
    is_end : list of bool
        Whether each token is one of the special tokens that begin and end every text.
    n_after : int
        Number of special tokens that the tokenizer added after the text.
    n_repeated : int
        Number of special tokens that were not added, because the text already begins or ends with them.
    n_cut : int
        Number of tokens beyond the limit, truncated at the end of the text.
    """

    ids: list[int]
    spans: list[tuple[int, int]]
    is_end: list[bool]
    n_after: int = 0
    n_repeated: int = 0
    n_cut: int = 0

    @property
    def prompt(self) -> list[int]:
        """Token ids without those added after the text, so that it can be continued."""
        return self.ids[: len(self.ids) - self.n_after]


def tokenize(tokenizer: Any, text: str, limit: int | None = None) -> Tokens:
    """Tokenize one text like ``tokenizer(text)``, but without a second copy of special tokens at its ends.

    Parameters
    ----------
    tokenizer : PreTrainedTokenizer
        Tokenizer.
    text : str
        Text. Names of special tokens in it are read as these tokens.
    limit : int, optional
        Largest number of tokens. A longer text is truncated at its end; the special tokens after it are kept.

    Raises
    ------
    ValueError
        If the special tokens leave no room for a token of the text.
    """
    fast = bool(getattr(tokenizer, "is_fast", False))
    options = {"return_attention_mask": False, "verbose": False}
    encoded = tokenizer(text, return_offsets_mapping=fast, return_special_tokens_mask=fast, **options)
    ids = [int(token) for token in encoded["input_ids"]]
    spans = [(int(start), int(end)) for start, end in encoded["offset_mapping"]] if fast else [(-1, -1)] * len(ids)
    added = [bool(flag) for flag in encoded["special_tokens_mask"]] if fast else _added(tokenizer, text, len(ids))
    of_text = [index for index, is_added in enumerate(added) if not is_added]

    def kept(n_cut: int) -> tuple[list[int], set[int]]:
        """Return the indices to keep if the end of the text is cut, and the indices of special tokens at its ends."""
        cut = set(of_text[len(of_text) - n_cut :])
        rest = [index for index in range(len(ids)) if index not in cut]
        again = added_again(tokenizer, [ids[index] for index in rest], [added[index] for index in rest])
        ends = {index for index in rest if added[index]} | {rest[at] for at in again.values()}
        return [index for at, index in enumerate(rest) if at not in again], ends

    (indices, ends), n_cut = kept(0), 0
    n_whole = len(indices)
    # A text that is cut may have lost its own special token, which the tokenizer then adds.
    while limit is not None and len(indices) > limit:
        n_cut += len(indices) - limit
        if n_cut >= len(of_text):
            n_added = sum(added)
            raise ValueError(
                f"The limit is {limit} tokens per text (max_tokens, or the context), but the tokenizer adds {n_added} "
                f"special tokens to each text, which leaves no room. Set max_tokens to at least {n_added + 1}."
            )
        indices, ends = kept(n_cut)
    flags = [added[index] for index in indices]
    return Tokens(
        [ids[index] for index in indices],
        [spans[index] for index in indices],
        [index in ends for index in indices],
        n_after=_n_leading(flags[::-1]) if of_text else len(ids) - _n_before(tokenizer),
        n_repeated=len(ids) - n_cut - len(indices),
        n_cut=n_whole - len(indices) if n_cut else 0,
    )


def prompt_ids(tokenizer: Any, text: str) -> list[int]:
    """Tokenize a prompt, without the special tokens that the tokenizer adds after every text."""
    return tokenize(tokenizer, text).prompt


def added_again(tokenizer: Any, ids: Sequence[int], added: Sequence[bool]) -> dict[int, int]:
    """Find added special tokens next to which the text already has the same tokens.

    White space between the two is ignored. Tokens between two texts, such as ``[SEP]``, are compared with both.

    Parameters
    ----------
    tokenizer : PreTrainedTokenizer
        Tokenizer, for the text of a token.
    ids : sequence of int
        Token ids.
    added : sequence of bool
        Whether each token was added by the tokenizer.

    Returns
    -------
    dict of int to int
        Indices of these tokens, with the index of the same token in the text.
    """
    again: dict[int, int] = {}

    def text(indices: range, marks: Sequence[int]) -> list[int]:
        """List indices of the text from its border on, without blank tokens there."""
        # A token of the text stands for one added token only, as in a text of one token.
        following = itertools.takewhile(lambda index: not added[index] and index not in again.values(), indices)
        words = itertools.dropwhile(
            lambda index: ids[index] not in marks and not tokenizer.decode([ids[index]]).strip(), following
        )
        return list(itertools.islice(words, len(marks)))

    own_ids = {token for token, is_added in zip(ids, added, strict=True) if not is_added}
    for is_added, indices in itertools.groupby(range(len(ids)), key=lambda index: added[index]):
        run = list(indices)
        marks = [ids[index] for index in run]
        if not is_added or own_ids.isdisjoint(marks):
            continue
        before, after = text(range(run[0] - 1, -1, -1), marks), text(range(run[-1] + 1, len(ids)), marks)
        n_before = _n_shared(marks, [ids[index] for index in before])
        n_after = _n_shared(marks[::-1], [ids[index] for index in after])
        again |= dict(zip(run[:n_before], reversed(before[:n_before]), strict=True))
        again |= dict(zip(run[len(run) - n_after :], after[:n_after], strict=True))
    return again


def _n_shared(marks: list[int], text: list[int]) -> int:
    """Return the length of the longest run of marks, from the first on, that the text repeats.

    Both are listed from their common border, so the text lists the run from its end.

    Examples
    --------
    >>> _n_shared([1, 5], [1, 7]), _n_shared([1, 5], [5, 1]), _n_shared([1, 5], [7, 1])
    (1, 2, 0)
    """
    lengths = range(min(len(marks), len(text)), 0, -1)
    return next((n for n in lengths if marks[:n] == text[:n][::-1]), 0)


def _n_leading(flags: list[bool]) -> int:
    return sum(1 for _ in itertools.takewhile(bool, flags))


def _added(tokenizer: Any, text: str, n: int) -> list[bool]:
    """Return which of the `n` tokens of a text were added, for a tokenizer that does not flag them."""
    n_own = len(tokenizer(text, add_special_tokens=False, return_attention_mask=False, verbose=False)["input_ids"])
    n_before = min(_n_before(tokenizer), n - n_own)
    return [not n_before <= index < n_before + n_own for index in range(n)]


def _n_before(tokenizer: Any) -> int:
    """Return the number of tokens that a tokenizer adds before a text, from a word that is certainly not special."""
    options = {"return_attention_mask": False, "verbose": False}
    whole, bare = (list(tokenizer("a", add_special_tokens=add, **options)["input_ids"]) for add in (True, False))
    starts = range(len(whole) - len(bare) + 1)
    return next((index for index in starts if whole[index : index + len(bare)] == bare), 0)


# -- special tokens by their names ------------------------------------------------------------------------------------


def marker_ids(tokenizer: Any) -> set[int]:
    """Return the ids of special tokens whose names are no words of a text, such as ``<pad>`` or ``[SEP]``.

    A special token may also be a word: ``!`` is a common pad token of GPT-2.
    """
    listed = sorted({int(token) for token in tokenizer.all_special_ids})
    names = tokenizer.convert_ids_to_tokens(listed)
    return {token for token, name in zip(listed, names, strict=True) if _MARK.fullmatch(str(name))}


def special_ids(tokenizer: Any) -> set[int]:
    """Return the ids that separate texts or parts of them: `marker_ids` without the token for unknown words.

    In GPT-2, the token for unknown words also separates texts.
    """
    roles = ("bos_token_id", "eos_token_id", "sep_token_id", "cls_token_id", "pad_token_id", "mask_token_id")
    others = {getattr(tokenizer, role, None) for role in roles}
    return marker_ids(tokenizer) - ({getattr(tokenizer, "unk_token_id", None)} - others)
