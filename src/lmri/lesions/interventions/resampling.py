"""The tokens of the current forward pass, and the recorded donor tokens whose values lesioned neurons take."""

import contextlib
import functools
import inspect
from collections.abc import Iterator
from typing import Any

import torch
from transformers import PreTrainedModel

from lmri.lesions.baselines.resample_source import ResampleSource
from lmri.models.sites import around


class CurrentTokens:
    """The tokens of the current forward pass, and the donor token of each.

    Parameters
    ----------
    donors : ResampleSource
        Donor tokens and their activations.
    """

    def __init__(self, donors: ResampleSource) -> None:
        self.donors = donors
        self._now: torch.Tensor | None = None

    @property
    def donor_of_token(self) -> torch.Tensor:
        """Donor of every token of the current forward pass: int, ``(n_texts, n_tokens)``."""
        if self._now is None:
            raise ValueError(
                "The tokens that the model reads are unknown, so they have no donor: the model was given embeddings, "
                "or a layer was called by itself. Call the model with input_ids, or use the baseline 'zero' or the "
                "mean of a recording."
            )
        return self._now

    @contextlib.contextmanager
    def of(self, model: PreTrainedModel, path: str) -> Iterator[None]:
        """Track the inputs of the modules around the module at `path` within the ``with`` block."""
        with contextlib.ExitStack() as stack:
            for part in around(model, path):
                look = functools.partial(self._look, inspect.signature(part.forward))
                stack.callback(part.register_forward_pre_hook(look, with_kwargs=True).remove)
                stack.callback(part.register_forward_hook(self._forget, always_call=True).remove)
            yield

    def _look(self, signature: inspect.Signature, module: torch.nn.Module, args: Any, kwargs: dict[str, Any]) -> None:
        given = signature.bind_partial(*args, **kwargs).arguments
        given = {**given, **given.get("kwargs", {})}
        ids = given.get("input_ids")
        if isinstance(ids, torch.Tensor):  # otherwise an outer module may have received them
            positions = _positions(ids, given).expand_as(ids)
            chosen = self.donors.choose(positions.cpu().numpy(), ids.cpu().numpy())
            self._now = torch.from_numpy(chosen).to(ids.device)

    def _forget(self, *_: Any) -> None:
        self._now = None


def _positions(ids: torch.Tensor, given: dict[str, Any]) -> torch.Tensor:
    """Return the position of every token in its text, accounting for padding and cached tokens."""
    n_tokens = ids.shape[1]
    mask, places, past = (given.get(name) for name in ("attention_mask", "position_ids", "past_key_values"))
    if isinstance(mask, torch.Tensor) and mask.ndim == 2 and mask.shape[1] >= n_tokens:
        # During generation the mask also covers the tokens in the cache.
        return (mask.long().cumsum(-1) - 1).clamp(min=0)[:, -n_tokens:]
    if isinstance(places, torch.Tensor) and places.ndim == 2:
        return places
    n_before = int(past.get_seq_length()) if past is not None else 0
    return torch.arange(n_before, n_before + n_tokens, device=ids.device)[None]
