"""`lmri check` passes for right models, and fails when a fault is put back into the program."""

import contextlib
import json

import numpy as np
import pytest
import torch
from torch import nn
from typer.testing import CliRunner

import lmri
from lmri.cli.app import app
from lmri.models import batching, fingerprint, reading
from lmri.models.sites import find_sites
from lmri.networks import Network
from lmri.space import Layer, NeuronSpace
from lmri.verification import check_model, file_checks, model_checks
from lmri.verification.result import FAILED, PASSED, Check, Verification
from test_batching import centred
from test_runtime_state import bigbird
from tiny_models import HIDDEN, WIDTH, bert_tokenizer, build, mixture, sentences, word_tokenizer

TEXTS = [*sentences(5, 3, 20, seed=4), "the cat <pad> sees the dog"]


def status_of(verification):
    return {check.name: check.status for check in verification.checks}


def failures(model, tokenizer=None, **options):
    """Return the names of the checks that fail."""
    return [check.name for check in check_model(model, tokenizer or word_tokenizer(), TEXTS, **options).failures]


# -- right models -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["gpt2", "llama", "bloom", "bert", "opt"])
def test_right_models_pass(name):
    verification = check_model(build(name), word_tokenizer(), TEXTS)
    assert verification.passed, verification.to_markdown()
    done = [check.name for check in verification.checks if check.status == PASSED]
    assert len(done) >= len(verification.checks) - 2  # the device and, for an encoder, the likelihoods


@pytest.mark.parametrize("build_model", [lambda: mixture("Mixtral"), lambda: build("t5"), centred])
def test_mixtures_encoder_decoders_and_unusual_models_pass(build_model):
    verification = check_model(build_model(), word_tokenizer(), TEXTS)
    assert verification.passed, verification.to_markdown()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_passes(dtype):
    verification = check_model(build("llama").to(dtype), word_tokenizer(), TEXTS)
    assert verification.passed, verification.to_markdown()


def test_the_model_is_left_as_it_was():
    model = build("llama")
    before = fingerprint(model)
    check_model(model, word_tokenizer(), TEXTS)
    assert fingerprint(model) == before


# -- faults that are put back -----------------------------------------------------------------------------------------


class Lora(nn.Module):
    """An adapter of low rank on a projection."""

    def __init__(self, base):
        super().__init__()
        self.in_features, self.out_features, self.base_layer = base.in_features, base.out_features, base
        self.lora_A = nn.ModuleDict({"default": nn.Linear(base.in_features, 4, bias=False)})
        self.lora_B = nn.ModuleDict({"default": nn.Linear(4, base.out_features, bias=False)})
        self.disable_adapters, self.active_adapters, self.merged_adapters = False, ["default"], []
        self.scaling = {"default": 1.0}

    def enable_adapters(self, enabled):
        self.disable_adapters = not enabled

    def forward(self, values):
        output = self.base_layer(values)
        if self.disable_adapters:
            return output
        return output + self.lora_B["default"](self.lora_A["default"](values)) * self.scaling["default"]


def adapted():
    torch.manual_seed(0)
    model = build("llama")
    for layer in model.model.layers:
        layer.mlp.down_proj = Lora(layer.mlp.down_proj)
    return model


def test_an_adapter_passes_and_its_base_layer_as_site_fails(monkeypatch):
    model = adapted()
    assert failures(model) == []

    def inner(model, site="mlp_out", projection=None):
        width = WIDTH if site == "mlp_out" else HIDDEN
        layers = [Layer(f"layer {z}", f"layers.{z}.mlp.down_proj.base_layer", width) for z in range(3)]
        return NeuronSpace(tuple(layers), site)

    monkeypatch.setattr(model_checks, "find_sites", inner)
    assert "nothing bypasses the site" in failures(model)


def test_a_fingerprint_without_adapters_fails(monkeypatch):
    model = adapted()
    monkeypatch.setattr(
        model_checks,
        "fingerprint",
        lambda model: str(sum(float(values.sum()) for name, values in model.named_parameters() if "lora" not in name)),
    )
    assert failures(model) == ["fingerprint identifies the model"]


def test_likelihoods_of_a_model_that_sees_later_tokens_fail(monkeypatch):
    model = build("bert")
    assert failures(model) == []
    monkeypatch.setattr("lmri.lesions.tasks.perplexity.check_causal", lambda *args, **options: None)
    assert failures(model) == ["likelihoods only from causal models"]


def test_a_reader_that_merges_quoted_rows_fails(monkeypatch):
    def merging(path):
        import pandas as pd

        return pd.read_csv(path, sep="\t" if str(path).endswith("tsv") else ",")["text"].tolist()

    monkeypatch.setattr(file_checks, "read_texts", merging)
    assert failures(build("gpt2")) == ["text files keep every text"]


def test_batches_that_change_values_fail(monkeypatch):
    monkeypatch.setattr(batching, "is_independent", lambda *args: True)
    assert failures(centred()) == ["recording in batches equals each text alone"]


def test_a_region_of_all_voxels_that_are_not_zero_fails(monkeypatch):
    def nonzero(path, space):
        return Network.from_members(space, space.from_img(path).reshape(-1) != 0, "all")

    monkeypatch.setattr(file_checks, "read_roi", nonzero)
    assert failures(build("gpt2")) == ["regions of interest select the drawn neurons"]


def test_a_measurement_under_autocast_fails(monkeypatch):
    monkeypatch.setattr(reading, "check_runtime_state", lambda model: None)
    assert "nothing in the program changes the model" in failures(build("gpt2"))


def test_special_tokens_that_are_added_twice_fail(monkeypatch):
    tokenizer = bert_tokenizer()
    assert failures(build("gpt2"), tokenizer) == []

    monkeypatch.setattr(model_checks, "encode", lambda model, tok, text: type("E", (), {"ids": tok(text)["input_ids"]}))
    assert "special tokens read once" in failures(build("gpt2"), tokenizer)


def test_prompts_that_end_in_a_separator_fail(monkeypatch):
    monkeypatch.setattr(model_checks, "prompt_ids", lambda tokenizer, text: tokenizer(text)["input_ids"])
    assert failures(build("gpt2"), bert_tokenizer()) == ["special tokens read once"]


def test_masks_from_ids_fail(monkeypatch):
    def from_ids(rows, device):
        ids, mask = reading.right_pad(rows, device)
        return ids, mask * (ids != 0)

    monkeypatch.setattr("lmri.models.recorder.write_activations.right_pad", from_ids)
    assert "recording equals plain hooks" in failures(build("bert"))


def test_sites_in_another_stack_fail(monkeypatch):
    def vision(model, site="mlp_out", projection=None):
        space = find_sites(model, site)
        return NeuronSpace(space.layers[:2], site, space.model)

    monkeypatch.setattr(model_checks, "find_sites", vision)
    assert failures(build("gpt2")) == ["site found in every layer of the text model"]


def test_a_model_that_reading_changes_fails(monkeypatch):
    monkeypatch.setattr(reading, "preserved_state", lambda model: contextlib.nullcontext())
    assert "model restored bit for bit" in failures(bigbird())


def test_a_lesion_of_another_neuron_fails(monkeypatch):
    def other(network):
        return lmri.lesion(Network.from_members(network.space, np.roll(network.members, 1), "other"))

    monkeypatch.setattr(model_checks, "lesion", other)
    assert failures(build("gpt2")) == ["lesion equals zeroed weights"]


# -- results ----------------------------------------------------------------------------------------------------------


def test_the_table_can_be_pasted_into_an_issue():
    checks = (Check("first", PASSED, "a | b\nc"), Check("second", FAILED))
    verification = Verification(checks, {"lmri": "1", "torch": "2"})
    assert verification.to_markdown().splitlines() == [
        "lmri 1, torch 2", "", "| check | result | detail |", "|---|---|---|", "| first | passed | a \\| b c |",
        "| second | FAILED |  |",
    ]  # fmt: skip
    assert not verification.passed
    assert verification.table["result"].tolist() == [PASSED, FAILED]


def test_the_command_prints_the_table_and_its_status_is_1_after_a_failure(tmp_path, monkeypatch):
    texts = tmp_path / "texts.txt"
    # A repeated text is read once, and UTF-16 has a byte-order mark.
    texts.write_bytes("The house is old.\n\nThe river is wide.\nThe house is old.\n".encode("utf-16"))
    result = CliRunner().invoke(app, ["check", "lmri-demo", "--texts", str(texts), "--json"])
    content = json.loads(result.stdout)
    assert result.exit_code == 0
    assert content["passed"]
    assert {"check": "text files keep every text", "result": "passed", "detail": "2 texts from 2 lines"} in content[
        "checks"
    ]
    monkeypatch.setattr(file_checks, "texts_are_read", lambda *_: (FAILED, "lost"))
    result = CliRunner().invoke(app, ["check", "lmri-demo", "--texts", str(texts)])
    assert result.exit_code == 1
    assert "| text files keep every text | FAILED | lost |" in result.stdout.replace("\n", " ").replace("  ", " ")
