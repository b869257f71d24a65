"""Capture: stored values equal the activations, for every transfer path."""

import numpy as np
import pytest
import torch

from lmri import find_sites
from lmri.models import capture as capturing
from lmri.models import evaluation_mode
from lmri.models.capture import ActivationBuffers, capture
from tiny_models import build

PASSES = [torch.randint(3, 20, (2, n), generator=torch.Generator().manual_seed(n)) for n in (9, 4, 12)]


def read(model, spaces, ids, into=None):
    keep = torch.ones(ids.shape, dtype=torch.bool)
    keep[:, 0] = keep[1, 2] = False
    with evaluation_mode(model):
        return capture(model, spaces, ids, torch.ones_like(ids), keep, into)


def test_memory_that_is_used_again_holds_the_last_pass_alone(gpt2):
    spaces = [find_sites(gpt2, site) for site in ("mlp_out", "mlp_hidden")]
    expected = [[values.copy() for values in read(gpt2, spaces, ids).collect()] for ids in PASSES]
    memory = ActivationBuffers(spaces, 24)
    for ids, own in zip(PASSES, expected, strict=True):
        for found, wanted in zip(read(gpt2, spaces, ids, memory).collect(), own, strict=True):
            np.testing.assert_array_equal(found, wanted)


def test_more_tokens_than_there_is_room_for_are_refused(gpt2):
    with pytest.raises(ValueError, match="room for 3 tokens, but 15 are to be stored"):
        read(gpt2, [find_sites(gpt2)], PASSES[0], ActivationBuffers([find_sites(gpt2)], 3))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", ["gpt2", "falcon"])
def test_values_copied_on_a_separate_stream_are_identical(monkeypatch, name, dtype):
    """The transfer path of a GPU, run on the CPU with dummy streams; Falcon overwrites its returned activations."""
    model = build(name).to(dtype)
    spaces = [find_sites(model, site) for site in ("mlp_out", "mlp_hidden")]
    expected = [[values.copy() for values in read(model, spaces, ids).collect()] for ids in PASSES]
    monkeypatch.setattr(capturing, "_STREAMED", ("cpu",))
    turns = [ActivationBuffers(spaces, 24), ActivationBuffers(spaces, 24)]
    buffers = [read(model, spaces, ids, turns[number]) for number, ids in enumerate(PASSES[:2])]  # two under way
    for arrived, own in zip(buffers, expected, strict=False):
        for found, wanted in zip(arrived.collect(), own, strict=True):
            np.testing.assert_array_equal(found, wanted)
    last = read(model, spaces, PASSES[2], turns[0])
    for found, wanted in zip(last.collect(), expected[2], strict=True):
        np.testing.assert_array_equal(found, wanted)


def test_memory_that_was_used_in_another_format_is_not_read_in_it(monkeypatch):
    monkeypatch.setattr(capturing, "_STREAMED", ("cpu",))
    spaces = [find_sites(build("gpt2"))]
    memory = ActivationBuffers(spaces, 24)
    for dtype in (torch.float32, torch.bfloat16, torch.float32):
        model = build("gpt2").to(dtype)
        expected = read(model, spaces, PASSES[1]).collect()[0]
        np.testing.assert_array_equal(read(model, spaces, PASSES[1], memory).collect()[0], expected)


def test_values_are_waited_for(monkeypatch, gpt2):
    """A stream that copies only when it is waited for gives the same values, not the previous buffer content."""
    spaces = [find_sites(gpt2)]
    expected = [read(gpt2, spaces, ids).collect()[0].copy() for ids in PASSES]
    later = []

    class Event(torch.cpu.Event):
        def record(self, stream=None):
            self.due = list(later)
            later.clear()

        def synchronize(self):
            for copy in self.due:
                copy()

    original = torch.Tensor.copy_

    def copy_(self, source, non_blocking=False):
        if not non_blocking:
            return original(self, source)
        later.append(lambda: original(self, source))
        return self

    monkeypatch.setattr(capturing, "_STREAMED", ("cpu",))
    monkeypatch.setattr(torch.cpu, "Event", Event)
    monkeypatch.setattr(torch.Tensor, "copy_", copy_)
    memory = ActivationBuffers(spaces, 24)
    for ids, wanted in zip(PASSES, expected, strict=True):
        np.testing.assert_array_equal(read(gpt2, spaces, ids, memory).collect()[0], wanted)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_a_gpu_copies_while_it_goes_on(monkeypatch, dtype):
    model = build("gpt2").to("cuda", dtype)
    spaces = [find_sites(model, site) for site in ("mlp_out", "mlp_hidden")]
    passes = [ids.cuda() for ids in PASSES] * 20
    turns = [ActivationBuffers(spaces, 24), ActivationBuffers(spaces, 24)]
    found, before = [], None
    for number, ids in enumerate(passes):
        now = read(model, spaces, ids, turns[number % 2])
        if before is not None:
            found.append([values.copy() for values in before.collect()])
        before = now
    found.append(before.collect())
    monkeypatch.setattr(capturing, "_STREAMED", ())
    for ids, own in zip(passes, found, strict=True):
        for values, wanted in zip(own, read(model, spaces, ids).collect(), strict=True):
            np.testing.assert_array_equal(values, wanted)
