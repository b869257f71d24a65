"""Token masks: tokens that an intervention does not change, such as the attention sink at the start of every text."""

import contextlib
import inspect
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedModel

from lmri.lesions.baselines.resample_source import ResampleSource
from lmri.lesions.interventions.resampling import CurrentTokens, _positions
from lmri.models.sites import around
from lmri.storage import digest

SINKS = "sinks"
ONLY = ("prompt", "generated", "last")
"""Token classes to which an intervention can be restricted: prompt, generated, or last token of each forward pass."""
_LISTED = 4  # a label lists up to this number of values, and counts more


@dataclass(frozen=True)
class TokenMask:
    """Tokens at which activations are not changed.

    Parameters
    ----------
    positions : tuple of int
        Positions in a text, counted from 0 without padding; position 0 is the attention sink of decoders.
    tokens : tuple of int
        Token ids, at any position.
    only : {"prompt", "generated", "last"} or tuple of int, optional
        The only tokens that are changed. Tokens that are read with a non-empty key-value cache count as generated; all
        others count as prompt, including every token of a text that is read at once. The last token is the last of a
        text in each forward pass: the last token of the prompt, and then every generated token. Numbers are positions
        in a text, as in `positions`.
    """

    positions: tuple[int, ...] = ()
    tokens: tuple[int, ...] = ()
    only: str | tuple[int, ...] | None = None

    @property
    def label(self) -> str:
        """Label in scores."""
        positions = "first token" if self.positions == (0,) else _listed("position", self.positions)
        spared = " and ".join(filter(None, [positions, _listed("token id", self.tokens)]))
        return ", ".join(filter(None, [_only_label(self.only), f"{spared} spared" if spared else ""]))

    def digest(self) -> str:
        """Return the hash of the mask."""
        # Absent parts are omitted, so that the hashes of earlier stored scores stay valid.
        only = [] if self.only is None else [self.only if isinstance(self.only, str) else list(self.only)]
        return digest([list(self.positions), list(self.tokens), *only])


def make_token_mask(
    spare: str | None = None,
    positions: Iterable[int] | None = None,
    tokens: Iterable[int] | None = None,
    only: str | Iterable[int] | None = None,
) -> TokenMask | None:
    """Build the mask of spared tokens; None if every token is changed.

    Raises
    ------
    ValueError
        If `spare` or `only` is unknown, or a position or id is not a non-negative integer.
    """
    if isinstance(only, str) and only not in ONLY:
        raise ValueError(
            f"positions is {only!r}; choose from {', '.join(map(repr, ONLY))}, positions in a text such as [0, 1], "
            "and None for all."
        )
    if spare not in (None, SINKS):
        raise ValueError(
            f"spare is {spare!r}; it must be {SINKS!r} (the first token of every text) or None. For other tokens, "
            "use spare_positions=[0, 1] or spare_tokens=[tokenizer.bos_token_id]."
        )
    masked_positions = _whole("spare_positions", positions) | ({0} if spare == SINKS else set())
    chosen = only if only is None or isinstance(only, str) else tuple(sorted(_whole("positions", only)))
    if chosen == ():
        raise ValueError(
            "positions is empty, so the intervention would change nothing. Give at least one position, or None for all."
        )
    mask = TokenMask(tuple(sorted(masked_positions)), tuple(sorted(_whole("spare_tokens", tokens))), chosen)
    return mask if mask.positions or mask.tokens or mask.only is not None else None


def _whole(name: str, values: Iterable[int] | None) -> set[int]:
    given = [] if values is None else [values] if isinstance(values, int | str) else list(values)
    for value in given:
        if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 0:
            raise ValueError(f"{name} contains {value!r}; use integers of at least 0, such as [0, 1].")
    return {int(value) for value in given}


def _listed(noun: str, values: tuple[int, ...]) -> str:
    if len(values) > _LISTED:
        return f"{len(values)} {noun}s"
    return f"{noun}{'s' * (len(values) > 1)} {', '.join(map(str, values))}" if values else ""


def _only_label(only: str | tuple[int, ...] | None) -> str:
    if only is None:
        return ""
    if isinstance(only, str):
        return {"prompt": "prompt only", "generated": "generated tokens only", "last": "last token only"}[only]
    return f"{_listed('position', only)} only"


class MaskedTokens(CurrentTokens):
    """The tokens of the current forward pass: mask of spared tokens and, if there are donors, the donor of each."""

    def __init__(self, spare: TokenMask, donors: ResampleSource | None = None) -> None:
        if donors is not None:
            super().__init__(donors)
        self._has_donors = donors is not None
        self.spare = spare
        self._spared: torch.Tensor | None = None
        self._why = ""

    @contextlib.contextmanager
    def of(self, model: PreTrainedModel, path: str) -> Iterator[None]:
        """Track the tokens of the model, if it can distinguish the requested ones."""
        parts = around(model, path)
        if self.spare.only in ("prompt", "generated") and not any(
            "past_key_values" in inspect.signature(part.forward).parameters for part in parts
        ):
            raise ValueError(
                f"{type(model).__name__} has no key-value cache, so generated tokens cannot be distinguished from the "
                f"prompt, and positions={self.spare.only!r} is undefined. Give positions as numbers: positions=[0, 1, "
                "2]."
            )
        with super().of(model, path):
            yield

    @property
    def spared(self) -> torch.Tensor:
        """Mask of the spared tokens of the current forward pass: bool, ``(n_texts, n_tokens)``."""
        if self._spared is None:
            raise ValueError(
                f"The tokens to spare are unknown: {self._why or 'a layer was called by itself'}. Call the model with "
                "input_ids, or spare no tokens."
            )
        return self._spared

    def _look(self, signature: inspect.Signature, module: torch.nn.Module, args: Any, kwargs: dict[str, Any]) -> None:
        if self._has_donors:
            super()._look(signature, module, args, kwargs)
        given = signature.bind_partial(*args, **kwargs).arguments
        given = {**given, **given.get("kwargs", {})}
        ids, embeddings = given.get("input_ids"), given.get("inputs_embeds")
        if isinstance(ids, torch.Tensor):
            positions = _positions(ids, given).expand_as(ids)
            self._spared = _among(positions, self.spare.positions) | _among(ids, self.spare.tokens)
            self._spared |= self._outside(positions, given)
        elif isinstance(embeddings, torch.Tensor) and self._spared is None:  # else an outer module had the tokens
            if self.spare.tokens:
                self._why = "the model was given embeddings, which contain no token ids"
                return
            shape = embeddings[..., 0]
            positions = _positions(shape, given).expand_as(shape)
            self._spared = _among(positions, self.spare.positions) | self._outside(positions, given)

    def _outside(self, positions: torch.Tensor, given: dict[str, Any]) -> torch.Tensor:
        """Return the mask of the tokens outside the restriction `only`."""
        only = self.spare.only
        if only is None:
            return torch.zeros_like(positions, dtype=torch.bool)
        if not isinstance(only, str):
            return ~_among(positions, only)
        if only == "last":
            mask = given.get("attention_mask")
            real = torch.ones_like(positions)
            if isinstance(mask, torch.Tensor) and mask.ndim == 2 and mask.shape[1] >= positions.shape[1]:
                real = mask[:, -positions.shape[1] :].to(positions.device).long()
            indices = torch.arange(positions.shape[1], device=positions.device)
            return indices != (real * (indices + 1)).argmax(dim=1, keepdim=True)
        past = given.get("past_key_values")
        is_generated = past is not None and int(past.get_seq_length()) > 0
        return torch.full_like(positions, is_generated == (only == "prompt"), dtype=torch.bool)

    def _forget(self, *_: Any) -> None:
        super()._forget()
        self._spared, self._why = None, ""


def _among(values: torch.Tensor, wanted: tuple[int, ...]) -> torch.Tensor:
    return torch.isin(values, torch.tensor(wanted, dtype=torch.long, device=values.device))
