"""Capture of the activations at one or several sites in a forward pass."""

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
"""Types of devices whose activations are copied asynchronously, during the forward pass."""


class ActivationBuffers:
    """Reusable host buffers for the activations of successive forward passes.

    Activations of a GPU are copied on a separate CUDA stream to pinned memory, while the GPU continues to compute;
    `collect` waits for the copies. Allocating memory for each pass would take longer than filling it.

    Parameters
    ----------
    spaces : sequence of NeuronSpace
        Spaces of the sites that are read in a pass.
    n_rows : int
        Largest number of tokens stored per pass.
    """

    def __init__(self, spaces: Sequence[NeuronSpace], n_rows: int) -> None:
        self.spaces, self.n_rows = spaces, n_rows
        with torch.inference_mode(False):  # pending copies may complete outside inference mode
            self._values = [torch.from_numpy(np.empty((n_rows, space.n_neurons), dtype=np.float32)) for space in spaces]
        self._pinned: dict[tuple[int, int], torch.Tensor] = {}
        self._streams: dict[torch.device, Any] = {}
        self._tokens = torch.zeros(0, dtype=torch.long)
        self._tokens_on: dict[torch.device, torch.Tensor] = {}
        self._ranges: list[tuple[int, int, int]] = []
        self._pending: dict[tuple[int, int], Any] = {}

    def begin(self, tokens: torch.Tensor) -> None:
        """Start a pass that stores the tokens at these indices, ascending, on the CPU."""
        if len(tokens) > self.n_rows:
            raise ValueError(f"The buffers have room for {self.n_rows} tokens, but {len(tokens)} are to be stored.")
        self._tokens, self._ranges = tokens, _contiguous_ranges(tokens)
        self._tokens_on, self._pending = {}, {}

    def store(self, number: int, z: int, rows: torch.Tensor) -> None:
        """Store the activations of a layer, ``(n_tokens, width)``; the layer may overwrite them after the call."""
        values = self._values[number][: len(self._tokens), self._columns(number, z)]
        if rows.device.type in _STREAMED:
            self._pending[number, z] = self._send(number, z, rows.index_select(0, self._indices_on(rows.device)))
        elif rows.device.type == "cpu":
            for start, end, first in self._ranges:
                values[first : first + end - start].copy_(rows[start:end])
        else:
            values.copy_(rows.index_select(0, self._indices_on(rows.device)))

    def _indices_on(self, device: torch.device) -> torch.Tensor:
        """Return the token indices on a device, cached for all layers, because a transfer would block the device."""
        if device not in self._tokens_on:
            self._tokens_on[device] = self._tokens.to(device)
        return self._tokens_on[device]

    def _send(self, number: int, z: int, rows: torch.Tensor) -> "torch.Event":
        """Start an asynchronous copy of rows that are not used elsewhere; return its completion event."""
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
            # Same dtype and contiguous on both sides: otherwise the copy uses unsynchronized temporary memory.
            pinned[: len(rows)].copy_(rows, non_blocking=True)
            arrived.record(stream)
        if rows.device.type != "cpu":
            rows.record_stream(stream)  # keeps the memory from being reused before it is copied
        return arrived

    def collect(self) -> list[np.ndarray]:
        """Wait for pending copies; return one array per space, ``(n_stored, n_neurons)``, float32."""
        for (number, z), arrived in self._pending.items():
            arrived.synchronize()
            values = self._values[number][: len(self._tokens), self._columns(number, z)]
            values.copy_(self._pinned[number, z][: len(self._tokens)])
        self._pending = {}
        return [values[: len(self._tokens)].numpy() for values in self._values]

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
    """Run one forward pass and store the activations at the tokens in `keep`.

    Parameters
    ----------
    model : PreTrainedModel
        Model in evaluation mode.
    spaces : sequence of NeuronSpace
        Spaces of the sites to read in this pass.
    ids, mask : Tensor of shape (n_texts, n_tokens)
        Token ids and attention mask, as returned by `lmri.models.right_pad`.
    keep : Tensor of bool, shape (n_texts, n_tokens)
        Mask of the tokens to store, on the CPU.
    into : ActivationBuffers, optional
        Buffers of the same spaces; activations of an earlier pass are overwritten.

    Returns
    -------
    ActivationBuffers
        Buffers whose `collect` returns the activations of the stored tokens, in the order of texts; `into` if given.

    Raises
    ------
    SiteError
        If a layer was not called exactly once.
    """
    tokens = keep.flatten().nonzero().flatten()
    buffers = ActivationBuffers(spaces, len(tokens)) if into is None else into
    buffers.begin(tokens)
    calls = [[0] * space.n_layers for space in spaces]

    def copier(number: int, z: int) -> Callable[[torch.Tensor], None]:
        n_before = int(stack_of(spaces[number].site) == "decoder")  # its start token is not a token of the text

        def copy(activation: torch.Tensor) -> None:
            calls[number][z] += 1
            by_token = to_batch_tokens(activation, ids.shape[0], ids.shape[1] + n_before)[:, n_before:]
            # Copies, not views: Falcon overwrites this tensor in place immediately afterwards.
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


def _contiguous_ranges(tokens: torch.Tensor) -> list[tuple[int, int, int]]:
    """Split ascending indices into contiguous ranges: (start, end, first row in the buffer)."""
    if not len(tokens):
        return []
    indices = tokens.numpy()
    breaks = np.flatnonzero(np.diff(indices) != 1) + 1
    starts = np.concatenate([[0], breaks])
    ends = np.concatenate([breaks, [len(indices)]])
    return [
        (int(indices[start]), int(indices[end - 1]) + 1, int(start)) for start, end in zip(starts, ends, strict=True)
    ]
