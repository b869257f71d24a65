"""Loading: offloading, quantization, refusals with the reason, and no random weights without a warning."""

import importlib.util
import json
import warnings
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from accelerate import init_empty_weights
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from lmri import Network, find_sites, lesion, load_model, record
from lmri.cli.app import app
from lmri.exceptions import DataWarning, SiteError
from lmri.models import (
    check_readable,
    check_tokenizer,
    describe_model,
    fingerprint,
    input_device,
    is_offloaded,
    parse_precision,
    warn_of_unknown,
)
from tiny_models import VOCABULARY, WORDS, build, byte_tokenizer, sentences, word_tokenizer
from tolerances import model_rounding

MAPS = {
    "all on disk": {"": "disk"},
    "a block on disk": {"transformer.wte": "cpu", "transformer.wpe": "cpu", "transformer.drop": "cpu"}
    | {"transformer.h.0": "cpu", "transformer.h.1": "disk", "transformer.h.2": "cpu"}
    | {"transformer.ln_f": "cpu", "lm_head": "cpu"},
    "embedding on disk": {"transformer.wte": "disk", "transformer.wpe": "disk", "transformer.drop": "cpu"}
    | {"transformer.h": "cpu", "transformer.ln_f": "cpu", "lm_head": "disk"},
}
QUANTIZED = [
    pytest.param(
        bits, method, marks=pytest.mark.skipif(importlib.util.find_spec(method) is None, reason=f"no {method}")
    )
    for bits, method in (("8", "torchao"), ("4", "bitsandbytes"))
]


@pytest.fixture
def folder(tmp_path, gpt2, tokenizer):
    return saved(tmp_path / "my-model", gpt2, tokenizer)


def saved(path, model, tokenizer, **options):
    model.save_pretrained(path, **options)
    tokenizer.save_pretrained(path)
    return path


def change(path, **entries):
    """Change entries of config.json; None deletes an entry."""
    config = json.loads((path / "config.json").read_text()) | entries
    (path / "config.json").write_text(json.dumps({key: value for key, value in config.items() if value is not None}))


def volumes(recording):
    return np.concatenate(list(recording.arrays()))


def first_neurons(model):
    space = find_sites(model, "mlp_hidden")
    return Network.from_members(space, np.arange(space.n_neurons) % 7 == 0)


# -- offloaded --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("where", sorted(MAPS))
def test_an_offloaded_model_is_recorded_and_lesioned_as_one_in_memory_bit_for_bit(tmp_path, folder, tokenizer, where):
    whole, _ = load_model(folder)
    spread, _ = load_model(folder, device_map=MAPS[where], offload_folder=tmp_path / "offload")
    assert is_offloaded(spread)
    assert not is_offloaded(whole)
    assert input_device(spread) == torch.device("cpu")
    texts = sentences(8)
    for site in ("mlp_out", "mlp_hidden"):
        first, second = (
            record(model, tokenizer, texts, tmp_path / name, corpus="words", site=site)
            for name, model in (("whole", whole), ("spread", spread))
        )
        assert first.n_volumes > 20
        assert volumes(first).tobytes() == volumes(second).tobytes()
    ids = torch.tensor([tokenizer(" ".join(WORDS[:9]))["input_ids"]])
    with torch.no_grad():
        intact = whole(ids)[0]
        assert torch.equal(spread(ids)[0], intact)
        with lesion(first_neurons(whole)).on(whole):
            lesioned = whole(ids)[0]
        with lesion(first_neurons(spread)).on(spread):
            assert torch.equal(spread(ids)[0], lesioned)
        assert torch.equal(spread(ids)[0], intact)
    assert not torch.equal(lesioned, intact)


@pytest.mark.parametrize("where", sorted(MAPS))
def test_a_fingerprint_is_that_of_the_weights_wherever_they_lie(tmp_path, folder, tokenizer, where):
    whole, _ = load_model(folder)
    spread, _ = load_model(folder, device_map=MAPS[where], offload_folder=tmp_path / "a")
    assert describe_model(spread) == describe_model(whole)
    assert fingerprint(spread, head=True) == fingerprint(whole, head=True)
    half, _ = load_model(folder, device_map=MAPS[where], dtype="bfloat16", offload_folder=tmp_path / "b")
    assert fingerprint(half) == fingerprint(load_model(folder, dtype="bfloat16")[0]) != fingerprint(whole)
    other = saved(tmp_path / "other", build("gpt2", seed=1), tokenizer)
    assert fingerprint(load_model(other, device_map=MAPS[where], offload_folder=tmp_path / "c")[0]) != fingerprint(
        whole
    )


def test_one_offloaded_weight_makes_another_fingerprint(tmp_path, folder):
    before = fingerprint(load_model(folder, device_map={"": "disk"}, offload_folder=tmp_path / "a")[0])
    weights = load_file(folder / "model.safetensors")
    weights["transformer.h.1.mlp.c_fc.weight"][3, 5] += 0.5
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    assert fingerprint(load_model(folder, device_map={"": "disk"}, offload_folder=tmp_path / "b")[0]) != before


def test_weights_in_the_memory_of_the_cpu_are_found_and_seen_to_change(gpt2):
    from accelerate import cpu_offload

    plain = build("gpt2")
    cpu_offload(gpt2, torch.device("cpu"))
    assert is_offloaded(gpt2)
    before = fingerprint(gpt2)
    assert before == fingerprint(plain)
    hook = gpt2.transformer.h[1].mlp.c_proj._hf_hook
    hook.weights_map["weight"].add_(1)
    assert fingerprint(gpt2) != before


def test_a_model_that_was_built_but_never_loaded_has_no_fingerprint(gpt2):
    with init_empty_weights():
        empty = type(gpt2)(gpt2.config)
    with pytest.raises(ValueError, match="never loaded"):
        fingerprint(empty)
    with pytest.raises(ValueError, match="never loaded"):
        input_device(empty)


def test_places_that_contradict_each_other_are_refused(folder, monkeypatch):
    for options, message in (
        ({"device_map": "everywhere"}, "device_map is 'everywhere'; choose from 'auto'"),
        ({"device_map": "auto", "device": "cpu:0"}, "Use only one of them"),
        ({"max_memory": {"cpu": "1GB"}}, "max_memory is .* only with device_map"),
        ({"offload_folder": "x"}, "offload_folder is 'x'"),
        ({"device_map": {"transformer.h.1": "disk"}}, "could not be loaded.*device_map"),
    ):
        with pytest.raises(ValueError, match=message):
            load_model(folder, **options)
    assert not is_offloaded(load_model(folder, device_map="auto")[0])
    monkeypatch.setattr("lmri.models.loading.load_model.importlib.util.find_spec", lambda name: None)
    with pytest.raises(ValueError, match="pip install accelerate"):
        load_model(folder, device_map="auto")


# -- quantized --------------------------------------------------------------------------------------------------------


def llama(tmp_path, tokenizer, seed=0):
    # Widths that are multiples of the 64 weights that share a scale.
    return saved(tmp_path / f"llama-{seed}", build("llama", seed, width=64, hidden=128, head_dim=16), tokenizer)


@pytest.mark.parametrize(("bits", "method"), QUANTIZED)
def test_a_quantized_model_is_another_one_and_the_same_on_reload(tmp_path, tokenizer, bits, method):
    folder = llama(tmp_path, tokenizer)
    whole = describe_model(load_model(folder)[0])
    quantized = describe_model(load_model(folder, quantize=f"{bits}bit")[0])
    assert quantized.dtype == f"{bits}-bit {method}, float32"
    assert quantized.fingerprint != whole.fingerprint
    assert describe_model(load_model(folder, quantize=f"{bits}bit")[0]) == quantized
    # As a study asks for the model that it was made of.
    assert describe_model(load_model(folder, **parse_precision(quantized.dtype))[0]) == quantized
    other = load_model(llama(tmp_path, tokenizer, seed=1), quantize=f"{bits}bit")[0]
    assert fingerprint(other) != quantized.fingerprint


@pytest.mark.parametrize(("bits", "method"), QUANTIZED)
def test_a_quantized_model_is_recorded_and_lesioned_by_its_activations(tmp_path, tokenizer, bits, method):
    folder = llama(tmp_path, tokenizer)
    model, _ = load_model(folder, quantize=f"{bits}bit")
    assert describe_model(model).dtype.startswith(f"{bits}-bit {method}")
    recording = record(model, tokenizer, sentences(8), tmp_path / "study", corpus="words", site="mlp_hidden")
    again = record(model, tokenizer, sentences(8), tmp_path / "again", corpus="words", site="mlp_hidden", batch_size=1)
    intact, _ = load_model(folder)
    whole = record(intact, tokenizer, sentences(8), tmp_path / "whole", corpus="words", site="mlp_hidden")
    values, alone, exact = map(volumes, (recording, again, whole))
    # What else is in a batch does not matter: weights are quantized, and activations are not.
    np.testing.assert_allclose(values, alone, atol=model_rounding(intact, values))
    assert 0.8 < np.corrcoef(values.ravel(), exact.ravel())[0, 1] < 0.99999  # close to the model, and not the model
    ids = torch.tensor([tokenizer(" ".join(WORDS[:9]))["input_ids"]])
    before = fingerprint(model)
    with torch.no_grad():
        logits = model(ids)[0]
        with lesion(first_neurons(model)).on(model):
            assert fingerprint(model) == before
            assert not torch.equal(model(ids)[0], logits)
        assert torch.equal(model(ids)[0], logits)


@pytest.mark.skipif(importlib.util.find_spec("torchao") is None, reason="no torchao")
def test_a_quantization_that_quantizes_nothing_is_refused(folder):
    with pytest.raises(ValueError, match=r"No weight of .* was quantized"):
        load_model(folder, quantize="8bit")  # GPT-2's layers are no Linear


def test_four_bit_weights_in_another_order_are_refused(gpt2):
    # As bitsandbytes leaves them after a forward pass on a CPU with AVX512-BF16.
    gpt2.transformer.h[0].mlp.c_fc.support_avx512bf16_for_cpu = True
    fingerprint(gpt2)
    assert not gpt2.transformer.h[0].mlp.c_fc.support_avx512bf16_for_cpu
    gpt2.transformer.h[0].mlp.c_fc.weight.quant_state = SimpleNamespace(packing_format_for_cpu=True)
    with pytest.raises(ValueError, match="were repacked"):
        fingerprint(gpt2)


def test_unsupported_quantizations_are_refused(folder, monkeypatch):
    with pytest.raises(ValueError, match="quantize is '3bit'; choose from '8bit', '4bit'"):
        load_model(folder, quantize="3bit")
    with pytest.raises(ValueError, match="Use only one of them"):
        load_model(folder, quantize="4bit", quantization=object())
    monkeypatch.setattr("lmri.models.loading.quantization.importlib.util.find_spec", lambda name: None)
    with pytest.raises(ValueError, match="pip install bitsandbytes accelerate"):
        load_model(folder, quantize="4bit")


# -- incomplete and unsafe checkpoints --------------------------------------------------------------------------------


def test_pickled_weights_are_read_only_on_request(folder):
    weights = load_model(folder)[0].state_dict()
    (folder / "model.safetensors").unlink()
    torch.save({}, folder / "optimizer.pt")
    with pytest.raises(ValueError, match=r"contains config\.json, but no weights"):
        load_model(folder)
    torch.save(weights, folder / "pytorch_model.bin")
    with pytest.raises(ValueError, match=r"only as pytorch_model\.bin.*run any code.*--allow-pickle"):
        load_model(folder)
    read = load_model(folder, allow_pickle=True)[0].state_dict()
    assert all(torch.equal(read[name], values) for name, values in weights.items())
    (folder / "pytorch_model.bin").rename(folder / "weights.pt")
    with pytest.raises(ValueError, match=r"as weights\.pt, but transformers reads"):
        load_model(folder, allow_pickle=True)


def test_missing_shards_and_truncated_files_are_named(tmp_path, gpt2, tokenizer):
    path = saved(tmp_path / "sharded", gpt2, tokenizer, max_shard_size="40KB")
    shards = sorted(path.glob("model-*.safetensors"))
    assert len(shards) > 2
    assert fingerprint(load_model(path)[0]) == fingerprint(gpt2)
    content = shards[1].read_bytes()
    shards[1].write_bytes(content[:-100])
    with pytest.raises(ValueError, match=rf"{shards[1].name} is damaged"):
        load_model(path)
    shards[1].write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 5\n")
    with pytest.raises(ValueError, match="git lfs pull"):
        load_model(path)
    shards[1].unlink()
    with pytest.raises(ValueError, match=rf"1 of the {len(shards)} weight files .* missing .*{shards[1].name}"):
        load_model(path)
    (path / "model.safetensors.index.json").write_text("{")
    with pytest.raises(ValueError, match="cannot be read"):
        load_model(path)


@pytest.mark.parametrize("where", ["alone", "with a model", "in a folder below"])
def test_a_folder_that_is_an_adapter_is_reported_with_its_base_and_how_to_merge_it(tmp_path, folder, where):
    path = {"alone": tmp_path / "fr", "with a model": folder, "in a folder below": tmp_path / "fr" / "default"}[where]
    path.mkdir(parents=True, exist_ok=True)
    settings = {"peft_type": "LORA", "base_model_name_or_path": "some/base", "task_type": "CAUSAL_LM"}
    (path / "adapter_config.json").write_text(json.dumps(settings))
    (tmp_path / "texts.txt").write_text("the cat sits\n")
    model = folder if where == "with a model" else tmp_path / "fr"
    arguments = ["record", str(model), str(tmp_path / "texts.txt"), "--out", str(tmp_path / "s")]
    result = CliRunner().invoke(app, arguments)
    said = " ".join(result.output.split())
    assert result.exit_code == 1
    assert f"{path} contains an adapter (LORA) for 'some/base', not a complete model" in said
    assert "AutoModelForCausalLM.from_pretrained('some/base')" in said
    assert "merge_and_unload().save_pretrained('merged')" in said
    assert ("remove adapter_config.json" in said) == (where == "with a model")
    assert not (tmp_path / "s").exists()
    (path / "adapter_config.json").unlink()
    if where == "with a model":
        load_model(folder)


def test_an_adapter_names_a_base_in_a_folder_by_its_path_and_prompts_cannot_be_merged(tmp_path, folder):
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    (adapter / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": "../my-model"}))
    with pytest.raises(ValueError, match=rf"adapter \(of unknown type\) for '{folder.resolve()}'"):
        load_model(adapter)
    (adapter / "adapter_config.json").write_text(json.dumps({"peft_type": "PREFIX_TUNING"}))
    with pytest.raises(ValueError, match=r"adapter \(PREFIX_TUNING\) for 'BASE'. It adds virtual tokens"):
        load_model(adapter)
    (adapter / "adapter_config.json").write_text("{")
    with pytest.raises(ValueError, match="contains an adapter"):
        load_model(adapter)


@pytest.mark.skipif(importlib.util.find_spec("bitsandbytes") is None, reason="no bitsandbytes")
def test_an_adapter_on_quantized_weights_is_recorded_at_its_outermost_module(tmp_path, tokenizer):
    path = saved(tmp_path / "wide", build("llama", width=64, hidden=128), tokenizer)
    model = load_model(path, quantize="4bit")[0]
    plain = find_sites(model, "mlp_hidden")

    class Lora(torch.nn.Module):
        def __init__(self, base):
            super().__init__()
            self.base_layer, self.scaling = base, 1.0
            self.lora_A, self.lora_B = torch.nn.Linear(128, 4), torch.nn.Linear(4, 64)

        def forward(self, x):
            return self.base_layer(x) + self.scaling * self.lora_B(self.lora_A(x))

    for block in model.model.layers:
        block.mlp.down_proj = Lora(block.mlp.down_proj)
    space = find_sites(model, "mlp_hidden")
    assert space == plain
    assert space.model.fingerprint != plain.model.fingerprint
    model.model.layers[0].mlp.down_proj.scaling = 0.5
    assert fingerprint(model) not in (space.model.fingerprint, plain.model.fingerprint)


@pytest.mark.parametrize("key", ["transformer.h.1.mlp.c_fc.weight", "transformer.wte.weight", "transformer.ln_f.bias"])
def test_random_weights_in_the_body_are_refused(folder, key):
    weights = load_file(folder / "model.safetensors")
    del weights[key]
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(ValueError, match=rf"lacks values for .*{key}.*would be random"):
        load_model(folder)


def test_blocks_that_the_checkpoint_has_not_are_refused_and_those_left_out_are_said(folder):
    change(folder, n_layer=4)
    with pytest.raises(ValueError, match=r"lacks values for 12 weights of the body.*transformer\.h\.3"):
        load_model(folder)
    change(folder, n_layer=2)
    with pytest.warns(DataWarning, match=r"more layers.*transformer\.h\.2"):
        assert load_model(folder)[0].config.n_layer == 2


def test_another_shape_than_that_of_the_configuration_is_refused(folder):
    change(folder, n_inner=48)
    with pytest.raises(ValueError, match="could not be loaded"):
        load_model(folder)


def test_a_random_head_is_warned_of(folder, tmp_path, tokenizer):
    change(folder, architectures=["GPT2ForSequenceClassification"])
    with pytest.warns(DataWarning, match=r"lacks values for 'score\.weight'"):
        model, _ = load_model(folder)
    assert fingerprint(model) == fingerprint(build("gpt2"))
    bare = saved(tmp_path / "bare", build("llama", head="LlamaModel"), tokenizer)
    change(bare, architectures=["LlamaForCausalLM"])
    with pytest.warns(DataWarning, match=r"lm_head\.weight"):
        load_model(bare)


@pytest.mark.parametrize("name", ["gpt2", "llama", "bert", "t5", "bart", "t5_encoder", "roberta", "bloom"])
def test_whole_checkpoints_load_without_a_word(tmp_path, tokenizer, name):
    path = saved(tmp_path / name, build(name), tokenizer)
    with warnings.catch_warnings():
        warnings.simplefilter("error", DataWarning)
        load_model(path)


@pytest.mark.parametrize("name", ["gpt2", "bert", "t5", "llama"])
def test_a_model_without_a_tokenizer_is_refused(tmp_path, name):
    # transformers would make tokenizers that know nothing of three of them.
    build(name).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="tokenizer"):
        load_model(tmp_path)


def test_a_vocabulary_without_its_merges_is_refused(tmp_path, gpt2):
    gpt2.save_pretrained(tmp_path)
    (tmp_path / "vocab.json").write_text(json.dumps({"a": 0, "b": 1, "ab": 2, "<|endoftext|>": 3}))
    with pytest.raises(ValueError, match="merges"):
        load_model(tmp_path)
    (tmp_path / "merges.txt").write_text("#version: 0.2\na b\n")
    assert load_model(tmp_path)[1]("ab")["input_ids"] == [2]


def test_code_of_the_model_runs_only_on_request(tmp_path, gpt2, tokenizer, monkeypatch):
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "modules"))
    monkeypatch.syspath_prepend(str(tmp_path / "modules"))
    path = saved(tmp_path / "own", gpt2, tokenizer)
    (path / "own.py").write_text(
        "from transformers import GPT2Config, GPT2LMHeadModel\n"
        "class OwnConfig(GPT2Config):\n    model_type = 'own'\n"
        "class OwnModel(GPT2LMHeadModel):\n    config_class = OwnConfig\n"
    )
    change(
        path,
        model_type="own",
        architectures=["OwnModel"],
        auto_map={"AutoConfig": "own.OwnConfig", "AutoModelForCausalLM": "own.OwnModel"},
    )
    with pytest.raises(ValueError, match=r"Python code that comes with its weights.*--trust-remote-code"):
        load_model(path)
    model, _ = load_model(path, trust_remote_code=True)
    assert type(model).__name__ == "OwnModel"
    assert fingerprint(model) == fingerprint(gpt2)


def test_a_folder_has_no_revision(folder):
    with pytest.raises(ValueError, match=r"revision is 'v2', but .* is a local folder"):
        load_model(folder, revision="v2")
    with pytest.raises(ValueError, match="revision is 'v2'"):
        load_model("lmri-demo", revision="v2")


def test_a_hub_that_cannot_be_reached_is_said_with_what_to_do(tmp_path):
    with pytest.raises(ValueError, match=r"hub cannot be reached.*copy its folder.*HF_HUB_OFFLINE"):
        load_model("nobody/no-such-model")


def test_a_revision_that_is_not_in_the_cache_is_refused(tmp_path, folder, monkeypatch):
    commit, place = "a1" * 20, tmp_path / "hub" / "models--nobody--tiny"
    (place / "snapshots").mkdir(parents=True)
    folder.rename(place / "snapshots" / commit)
    (place / "refs").mkdir()
    (place / "refs" / "main").write_text(commit)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    info = describe_model(load_model("nobody/tiny")[0])
    assert (info.id, info.revision) == ("nobody/tiny", commit)
    with pytest.raises(ValueError, match="could not be loaded"):
        load_model("nobody/tiny", revision="v9")


# -- compiled ---------------------------------------------------------------------------------------------------------


def compiled_inside(model):
    model.transformer.h[1].mlp.compile()
    return model


def compiled_forward(model):
    model.forward = torch.compile(model.forward)
    return model


def wrapped_inside(model):
    model.transformer.h[0] = torch.compile(model.transformer.h[0])
    return model


@pytest.mark.parametrize("compiled", [torch.compile, compiled_inside, compiled_forward, wrapped_inside])
def test_compiled_models_are_refused_with_the_reason(gpt2, compiled):
    check_readable(gpt2)
    with pytest.raises(SiteError, match=r"is compiled .*hooks.*without compiling it"):
        check_readable(compiled(gpt2))


def test_replicated_and_scripted_modules_are_refused(gpt2):
    with pytest.raises(SiteError, match="DataParallel"):
        check_readable(torch.nn.DataParallel(gpt2))
    gpt2.transformer.ln_f = torch.jit.trace(gpt2.transformer.ln_f, torch.zeros(1, 32))
    with pytest.raises(SiteError, match=r"'transformer\.ln_f' is a TorchScript module"):
        check_readable(gpt2)


# -- tokenizers -------------------------------------------------------------------------------------------------------


def test_a_tokenizer_that_seems_to_be_another_models_is_said(folder):
    model, own = load_model(folder)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_tokenizer(model, own, "m")  # 70 words of 96 rows: padding explains them
    with pytest.warns(DataWarning, match=f"has 204 tokens beyond the {VOCABULARY} tokens of the model"):
        check_tokenizer(model, byte_tokenizer(), "m")
    with pytest.warns(DataWarning, match="has 1,000 tokens, but its tokenizer only"):
        check_tokenizer(build("gpt2", vocab_size=1000), own, "m")


@pytest.mark.parametrize(
    ("n_rows", "n_ids", "odd"),
    [
        (152064, 151665, False),
        (51200, 50295, False),
        (50304, 50277, False),
        (102400, 100015, False),
        (50257, 50257, False),
        (250880, 250680, False),
        (50257, 30522, True),
        (128256, 32000, True),
    ],
)
def test_padding_of_known_models_is_no_alarm(n_rows, n_ids, odd):
    class Sized:
        def __init__(self):
            self.weight = torch.empty(n_rows, 1, device="meta")

        def get_input_embeddings(self):
            return self

        def get_vocab(self):
            return {"first": 0, "last": n_ids - 1}

    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        check_tokenizer(Sized(), Sized(), "m")
    assert bool(said) == odd


def test_a_corpus_of_unknown_words_is_said(tokenizer):
    known = [tokenizer(text)["input_ids"] for text in sentences(10, shortest=10, longest=10)]
    strange = [*known, tokenizer("ein zwei drei vier fünf sechs")["input_ids"]]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert warn_of_unknown(tokenizer, known, "news") == 0
        assert warn_of_unknown(tokenizer, [], "nothing") == 0
        # GPT-2's token for unknown words ends texts, and never stands for a word.
        assert warn_of_unknown(byte_tokenizer(), [[0] * 5], "ends") == 0
    with pytest.warns(DataWarning, match=r"6% of the 106 tokens of news are <unk>"):
        assert warn_of_unknown(tokenizer, strange, "news") == pytest.approx(6 / 106)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert warn_of_unknown(word_tokenizer(), [[1, *[5] * 19]], "one in twenty") == 0.05


def test_precisions_are_read_back():
    assert parse_precision("float32") == {"dtype": "float32"}
    assert parse_precision("8-bit torchao, bfloat16") == {"dtype": "bfloat16", "quantize": "8bit"}
    assert parse_precision("4-bit gptq, float16") == {"dtype": "float16"}  # quantized when it was stored


def test_the_command_line_hands_the_options_on(tmp_path, folder):
    weights = load_model(folder)[0].state_dict()
    (folder / "model.safetensors").unlink()
    torch.save(weights, folder / "pytorch_model.bin")
    (tmp_path / "texts.txt").write_text("\n".join(sentences(8)))
    study = tmp_path / "study"
    command = ["record", folder, tmp_path / "texts.txt", "--out", study, "--corpus", "words", "--batch-size", 4]
    assert "--allow-pickle" in run(*command, code=1)
    run(*command, "--allow-pickle", "--device-map", "auto", "--offload-folder", tmp_path / "offload")
    run("decompose", study, "--n-components", 2)
    run("threshold", study, "ica", "--by", "top:0.1", "--name", "some")
    scored = ["lesion", study, "--networks", "some", "--n-controls", 1]
    assert "--allow-pickle" in run(*scored, code=1)
    assert "device_map is 'everywhere'" in run(*scored, "--device-map", "everywhere", code=1)
    run(*scored, "--allow-pickle", "--device-map", "auto")
    assert "quantize is '2bit'" in run(*command, "--allow-pickle", "--quantize", "2bit", code=1)


def run(*arguments, code=0):
    done = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert done.exit_code == code, done.output
    return " ".join(done.output.split())
