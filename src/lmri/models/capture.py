"""Capture: one forward pass, and what the neurons of one or several sites did in it."""

import contextlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedModel

from lmri.exceptions import SiteError
from lmri.models.sites import forward, hooked, to_batch_tokens
from lmri.space import NeuronSpace
from lmri.space.layers import stack_of

_STREAMED = ("cuda",)
"""Kinds of devices whose activations are copied while the pass goes on."""


class ActivationBuffers:
    """Memory of the host for what passes give, used by one after the other.

    Activations of a GPU come by a stream of their own into memory that the system keeps in place, so that the GPU goes
    on meanwhile; `collect` waits for them. Getting memory from the system anew for each pass would take longer than
    filling it.

    Parameters
    ----------
    spaces : sequence of NeuronSpace
        Sites that are read in a pass.
    n_rows : int
        Tokens that a pass keeps, at most.
    """

    def __init__(self, spaces: Sequence[NeuronSpace], n_rows: int) -> None:
        self.spaces, self.n_rows = spaces, n_rows
        with torch.inference_mode(False):  # what is under way may arrive outside of it
            self._made = [torch.from_numpy(np.empty((n_rows, space.n_neurons), dtype=np.float32)) for space in spaces]
        self._pinned: dict[tuple[int, int], torch.Tensor] = {}
        self._streams: dict[torch.device, Any] = {}
        self._kept = torch.zeros(0, dtype=torch.long)
        self._kept_on: dict[torch.device, torch.Tensor] = {}
        self._stretches: list[tuple[int, int, int]] = []
        self._under_way: dict[tuple[int, int], Any] = {}

    def begin(self, kept: torch.Tensor) -> None:
        """Begin a pass, of which these tokens are kept: their places, ascending, on the CPU."""
        if len(kept) > self.n_rows:
            raise ValueError(f"There is room for {self.n_rows} tokens, and {len(kept)} are to be kept.")
        self._kept, self._stretches = kept, _stretches(kept)
        self._kept_on, self._under_way = {}, {}

    def store(self, number: int, z: int, rows: torch.Tensor) -> None:
        """Keep what a layer does, ``(n_tokens, width)``; the layer may overwrite it as soon as this returns."""
        made = self._made[number][: len(self._kept), self._columns(number, z)]
        if rows.device.type in _STREAMED:
            self._under_way[number, z] = self._send(number, z, rows.index_select(0, self._places(rows.device)))
        elif rows.device.type == "cpu":
            for start, end, place in self._stretches:
                made[place : place + end - start].copy_(rows[start:end])
        else:
            made.copy_(rows.index_select(0, self._places(rows.device)))

    def _places(self, device: torch.device) -> torch.Tensor:
        """Give the kept tokens there; each layer asks, and a transfer would make the device wait."""
        if device not in self._kept_on:
            self._kept_on[device] = self._kept.to(device)
        return self._kept_on[device]

    def _send(self, number: int, z: int, rows: torch.Tensor) -> Any:
        """Start copying what belongs to nobody else; gives the event of its arrival."""
        accelerator = torch.get_device_module(rows.device)
        pinned = self._pinned.get((number, z))
        if pinned is None or pinned.dtype != rows.dtype:
            with torch.inference_mode(False):
                pinned = torch.empty(
                    (self.n_rows, rows.shape[1]), dtype=rows.dtype, pin_memory=rows.device.type != "cpu"
                )
            self._pinned[number, z] = pinned
        if rows.device not in self._streams:
            self._streams[rows.device] = accelerator.Stream(rows.device)
        stream, arrived = self._streams[rows.device], accelerator.Event()
        stream.wait_stream(accelerator.current_stream(rows.device))
        with accelerator.stream(stream):
            # One format on both sides and no gaps: otherwise a copy goes by way of memory that nobody waits for.
            pinned[: len(rows)].copy_(rows, non_blocking=True)
            arrived.record(stream)
        if rows.device.type != "cpu":
            rows.record_stream(stream)  # so that its memory is not given away before it is read
        return arrived

    def collect(self) -> list[np.ndarray]:
        """Wait for what is under way; give all that was kept: one array a space, ``(n_kept, n_neurons)``, float32."""
        for (number, z), arrived in self._under_way.items():
            arrived.synchronize()
            made = self._made[number][: len(self._kept), self._columns(number, z)]
            made.copy_(self._pinned[number, z][: len(self._kept)])
        self._under_way = {}
        return [made[: len(self._kept)].numpy() for made in self._made]

    def _columns(self, number: int, z: int) -> slice:
        offsets = self.spaces[number].offsets
        return slice(int(offsets[z]), int(offsets[z + 1]))


def capture(
    model: PreTrainedModel,
    spaces: Sequence[NeuronSpace],
    ids: torch.Tensor,
    mask: torch.Tensor,
    keep: torch.Tensor,
    into: ActivationBuffers | None = None,
) -> ActivationBuffers:
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
    into : ActivationBuffers, optional
        Of the same spaces; whatever an earlier pass has left there is lost.

    Returns
    -------
    ActivationBuffers
        Whose `collect` gives those of the kept tokens, in the order of texts: `into`, if that is given.

    Raises
    ------
    SiteError
        If a layer was not called exactly once.
    """
    kept = keep.flatten().nonzero().flatten()
    buffers = ActivationBuffers(spaces, len(kept)) if into is None else into
    buffers.begin(kept)
    calls = [[0] * space.n_layers for space in spaces]

    def copier(number: int, z: int) -> Callable[[torch.Tensor], None]:
        n_before = int(stack_of(spaces[number].site) == "decoder")  # its start token stands for none of the text's

        def copy(activation: torch.Tensor) -> None:
            calls[number][z] += 1
            by_token = to_batch_tokens(activation, ids.shape[0], ids.shape[1] + n_before)[:, n_before:]
            # Copies, not views: Falcon overwrites this tensor in place a moment later.
            buffers.store(number, z, by_token.reshape(ids.numel(), -1))

        return copy

    with contextlib.ExitStack() as stack:
        for number, space in enumerate(spaces):
            stack.enter_context(hooked(model, space, {z: copier(number, z) for z in range(space.n_layers)}))
        forward(model, ids, mask, {stack_of(space.site) for space in spaces})
    for space, counts in zip(spaces, calls, strict=True):
        for layer, count in zip(space.layers, counts, strict=True):
            if count != 1:
                raise SiteError(f"{layer.module!r} was called {count} times in a forward pass; once was expected.")
    return buffers


def _stretches(kept: torch.Tensor) -> list[tuple[int, int, int]]:
    """Part ascending places into stretches without a gap: first, behind the last, and where it goes."""
    if not len(kept):
        return []
    places = kept.numpy()
    breaks = np.flatnonzero(np.diff(places) != 1) + 1
    starts = np.concatenate([[0], breaks])
    ends = np.concatenate([breaks, [len(places)]])
    return [(int(places[start]), int(places[end - 1]) + 1, int(start)) for start, end in zip(starts, ends, strict=True)]
