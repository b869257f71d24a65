"""A device that computes wrong values without an error is refused; a right one is not."""

import copy
import json

import pytest
import torch
from torch import nn

import lmri
from lmri.exceptions import DeviceError
from lmri.models import device_check
from lmri.models.device_check import check_device
from tiny_models import build, sentences, word_tokenizer

IDS = list(range(5, 45))


class OnDevice(nn.Module):
    """A part that computes on a simulated device; its copy on the CPU is the part itself."""

    def __init__(self, part, error):
        super().__init__()
        self.part, self.error = part, error
        self.in_features, self.out_features = part.in_features, part.out_features

    def forward(self, values):
        return self.part(values) * (1 + self.error)

    def __deepcopy__(self, memo):
        return copy.deepcopy(self.part, memo)


def on_device(error, layer=0):
    model = build("llama")
    mlp = model.model.layers[layer].mlp
    mlp.down_proj = OnDevice(mlp.down_proj, error)
    return model


@pytest.fixture
def elsewhere(monkeypatch):
    """Let the weights be on a device other than the CPU."""
    monkeypatch.setattr(device_check, "devices_of", lambda model: {"mps"})
    monkeypatch.setattr("lmri.models.recorder.planning.devices_of", lambda model: {"mps"})


@pytest.fixture(params=["whole model", "first and last block"])
def extent(request, monkeypatch):
    if request.param != "whole model":
        monkeypatch.setattr(device_check, "_free_memory", lambda: 0)
    return request.param


@pytest.mark.parametrize("layer", [0, 2])
def test_a_faulty_device_is_refused_and_a_right_one_is_not(elsewhere, extent, layer):
    with pytest.raises(DeviceError, match=r"device mps.* other values than on the CPU.*--no-device-check"):
        check_device(on_device(0.01, layer), IDS)
    assert check_device(on_device(0.0, layer), IDS).startswith("32 tokens on mps and on the CPU")


def test_a_model_on_the_cpu_needs_no_comparison():
    assert check_device(build("gpt2"), IDS) == ""


def test_the_comparison_runs_once(elsewhere, monkeypatch):
    model = on_device(0.0)
    first = check_device(model, IDS)
    monkeypatch.setattr(device_check, "_compare", lambda *_: pytest.fail("compared again"))
    assert check_device(model, IDS) == first


def test_a_model_that_the_cpu_cannot_run_is_reported(elsewhere, monkeypatch):
    def fail(model, ids):
        raise NotImplementedError("no kernel for this format on the CPU")

    monkeypatch.setattr(device_check, "_whole", fail)
    assert check_device(on_device(0.01), IDS) == "not done: the CPU cannot run the model (NotImplementedError)"


def sidecar_of(recording):
    path = recording.runs[0].img
    return json.loads(path.with_name(path.name.replace(".nii.gz", ".json").replace(".nii", ".json")).read_text())


def test_a_recording_states_the_comparison_in_its_sidecar(elsewhere, tmp_path):
    tokenizer, texts = word_tokenizer(), sentences(6)
    with pytest.raises(DeviceError):
        lmri.record(on_device(0.01), tokenizer, texts, tmp_path / "faulty")
    compared = sidecar_of(lmri.record(on_device(0.0), tokenizer, texts, tmp_path / "right"))
    assert "differs by at most" in compared["DeviceCheck"]
    skipped = lmri.record(on_device(0.01), tokenizer, texts, tmp_path / "skipped", device_check=False)
    assert sidecar_of(skipped)["DeviceCheck"] == "not done: device_check=False (--no-device-check)"


def test_a_recording_on_the_cpu_states_no_comparison(tmp_path):
    assert "DeviceCheck" not in sidecar_of(lmri.record(build("gpt2"), word_tokenizer(), sentences(6), tmp_path))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_real_gpu_agrees_with_the_cpu(tmp_path):
    recording = lmri.record(build("llama").to("cuda"), word_tokenizer(), sentences(6), tmp_path)
    assert "differs by at most" in sidecar_of(recording)["DeviceCheck"]
