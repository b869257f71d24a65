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

    Returns
    -------
    list of ndarray of float32, shape (n_kept, n_neurons)
        One a space, tokens in the order of texts.

    Raises
    ------
    SiteError
        If a layer was not called exactly once.
    """
    kept = keep.flatten().nonzero().flatten()
    made = [torch.empty((int(keep.sum()), space.n_neurons), dtype=torch.float32) for space in spaces]
    calls = [[0] * space.n_layers for space in spaces]

    def copier(number: int, z: int) -> Callable[[torch.Tensor], None]:
        space = spaces[number]
        columns = slice(int(space.offsets[z]), int(space.offsets[z + 1]))
        n_before = int(stack_of(space.site) == "decoder")  # its start token stands for none of the text's

        def copy(activation: torch.Tensor) -> None:
            calls[number][z] += 1
            by_token = by_text(activation, ids.shape[0], ids.shape[1] + n_before)[:, n_before:]
            # A copy, not a view: Falcon overwrites this tensor in place a moment later.
            rows = by_token.reshape(ids.numel(), -1).index_select(0, kept.to(activation.device))
            made[number][:, columns].copy_(rows)

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
