"""Capture: one forward pass, and what the neurons of one or several sites did in it."""

import contextlib
from collections.abc import Callable, Sequence

import numpy as np
import torch
from transformers import PreTrainedModel

from lmri.exceptions import SiteError
from lmri.layers import stack_of
from lmri.sites import by_text, forward, tapped
from lmri.space import NeuronSpace


def capture(
    model: PreTrainedModel,
    spaces: Sequence[NeuronSpace],
    ids: torch.Tensor,
    mask: torch.Tensor,
    keep: torch.Tensor,
    into: Sequence[np.ndarray] | None = None,
) -> list[np.ndarray]:
    """Run one forward pass and keep what neurons do at the tokens in `keep`.

    Parameters
    ----------
    model : PreTrainedModel
        In evaluation mode.
    spaces : sequence of NeuronSpace
        Sites to read, all in this pass.
    ids, mask : Tensor of shape (n_texts, n_tokens)
        As `lmri.models.right_pad` gives them.
    keep : Tensor of bool, shape (n_texts, n_tokens)
        Tokens to keep; on the CPU.
    into : sequence of ndarray of float32, shape (at least n_kept, n_neurons), optional
        Memory to use, one array a space: getting it from the system anew for each pass takes longer than filling it.

    Returns
    -------
    list of ndarray of float32, shape (n_kept, n_neurons)
        One a space, tokens in the order of texts; the first rows of `into` where that is given.

    Raises
    ------
    SiteError
        If a layer was not called exactly once.
    """
    kept = keep.flatten().nonzero().flatten()
    stretches = _stretches(kept)
    if into is None:
        into = [np.empty((len(kept), space.n_neurons), dtype=np.float32) for space in spaces]
    made = [torch.from_numpy(own[: len(kept)]) for own in into]
    calls = [[0] * space.n_layers for space in spaces]

    def copier(number: int, z: int) -> Callable[[torch.Tensor], None]:
        space = spaces[number]
        columns = slice(int(space.offsets[z]), int(space.offsets[z + 1]))
        n_before = int(stack_of(space.site) == "decoder")  # its start token stands for none of the text's

        def copy(activation: torch.Tensor) -> None:
            calls[number][z] += 1
            by_token = by_text(activation, ids.shape[0], ids.shape[1] + n_before)[:, n_before:]
            rows = by_token.reshape(ids.numel(), -1)
            # Copies, not views: Falcon overwrites this tensor in place a moment later.
            if activation.device.type == "cpu":
                for start, end, place in stretches:
                    made[number][place : place + end - start, columns].copy_(rows[start:end])
            else:
                made[number][:, columns].copy_(rows.index_select(0, kept.to(activation.device)))

        return copy

    with contextlib.ExitStack() as stack:
        for number, space in enumerate(spaces):
            stack.enter_context(tapped(model, space, {z: copier(number, z) for z in range(space.n_layers)}))
        forward(model, ids, mask, {stack_of(space.site) for space in spaces})
    for space, counts in zip(spaces, calls, strict=True):
        for layer, count in zip(space.layers, counts, strict=True):
            if count != 1:
                raise SiteError(f"{layer.module!r} was called {count} times in a forward pass; once was expected.")
    return [values.numpy() for values in made]


def _stretches(kept: torch.Tensor) -> list[tuple[int, int, int]]:
    """Part ascending places into stretches without a gap: first, behind the last, and where it goes."""
    if not len(kept):
        return []
    places = kept.numpy()
    breaks = np.flatnonzero(np.diff(places) != 1) + 1
    starts = np.concatenate([[0], breaks])
    ends = np.concatenate([breaks, [len(places)]])
    return [(int(places[start]), int(places[end - 1]) + 1, int(start)) for start, end in zip(starts, ends, strict=True)]
