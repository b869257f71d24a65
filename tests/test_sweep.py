"""Every head class of transformers as a small model: detected sites are correct, and refusals name the reason."""

import importlib.util
import random
import re
from pathlib import Path

import pytest
import torch
import transformers
from torch import nn

from lmri import find_sites
from lmri.exceptions import SiteError
from lmri.models import evaluation_mode
from lmri.models.sites import blocks, projections
from lmri.models.sites.caveats import caveats
from lmri.models.sites.checking import probe
from shrinking import MOST_PARAMETERS, build_small, head_classes
from tiny_models import N_LAYERS, WIDTH, albert, assert_untouched, build, mixture, remote_code, snapshot
from tolerances import rounding

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "architectures.md"
WRITTEN_FOR = re.search(r"transformers (\S+) and", PAGE.read_text(encoding="utf-8"))
on_the_page = pytest.mark.skipif(
    WRITTEN_FOR is None or WRITTEN_FOR[1] != transformers.__version__,
    reason=f"docs/architectures.md is of transformers {WRITTEN_FOR and WRITTEN_FOR[1]}, here is "
    f"{transformers.__version__}: python tools/architectures.py > docs/architectures.md",
)

_KINDS = {
    "AlbertForMaskedLM", "BartForConditionalGeneration", "BertForMaskedLM", "BloomForCausalLM", "DeepseekV3ForCausalLM",
    "Gemma2ForCausalLM", "GPT2LMHeadModel", "GptOssForCausalLM", "JambaForCausalLM", "LlamaForCausalLM",
    "MambaForCausalLM", "MixtralForCausalLM", "MobileBertForMaskedLM", "RecurrentGemmaForCausalLM",
    "SwitchTransformersForConditionalGeneration", "T5ForConditionalGeneration", "XLMWithLMHeadModel",
}  # fmt: skip
_OTHERS = [one for one in head_classes() if one[2] not in _KINDS]
SAMPLE = [one for one in head_classes() if one[2] in _KINDS] + random.Random(0).sample(_OTHERS, 24)

# Their activation functions are no modules; of BitNet, a norm follows.
_FUNCTIONAL = {"bitnet", "bloom", "esm", "flaubert", "lfm2", "lfm2_moe", "lfm3", "minimax_m3_vl_text", "rwkv", "xlm"}


@pytest.fixture(scope="module")
def tool():
    """Load the program that writes the page."""
    path = ROOT / "tools" / "architectures.py"
    spec = importlib.util.spec_from_file_location("architectures", path)
    module = importlib.util.module_from_spec(spec)
    import sys

    sys.modules["architectures"] = module  # dataclasses look themselves up
    spec.loader.exec_module(module)
    yield module
    del sys.modules["architectures"]


# -- the oracle: hidden units are what activation functions give ------------------------------------------------------


def is_what_activation_gives(model, projection) -> bool:
    """Return whether the input of a linear map is act(gate), or act(gate) * up, of the preceding modules."""
    ran, verdicts, handles = [], [], []

    def note(module, args, output):
        if isinstance(output, torch.Tensor):
            is_act = type(module).__module__ in ("transformers.activations", "torch.nn.modules.activation")
            ran.append((is_act, output.reshape(-1, output.shape[-1]).clone()))

    def judge(module, args):
        hidden = args[0].reshape(-1, args[0].shape[-1])
        width, recent = hidden.shape[-1], ran[-12:]
        factors = [torch.ones_like(hidden)]
        for _, values in recent:
            if values.shape[-1] == 2 * width:  # both in one: halves, or every other one
                factors += [values[:, :width], values[:, width:], values[:, ::2], values[:, 1::2]]
            factors.append(values)
        factors = [one for one in factors if one.shape == hidden.shape]
        activated = [values for is_act, values in recent if is_act and values.shape == hidden.shape]
        close = rounding(hidden)
        verdicts.append(
            any(torch.allclose(act * one, hidden, rtol=0, atol=close) for act in activated for one in factors)
        )

    for module in model.modules():
        if not list(module.children()) and module is not projection:
            handles.append(module.register_forward_hook(remote_code(note)))
    handles.append(projection.register_forward_pre_hook(remote_code(judge)))
    with evaluation_mode(model):
        probe(model, "encoder")
    for handle in handles:
        handle.remove()
    return bool(verdicts) and all(verdicts)


def state(model):
    """Copy parameters and buffers of any precision bit by bit, and count hooks."""
    tensors = {name: values.detach().flatten().view(torch.uint8).clone() for name, values in model.state_dict().items()}
    hooks = [len(module._forward_hooks) + len(module._forward_pre_hooks) for module in model.modules()]
    return {**tensors, "hooks": torch.tensor(hooks)}


def check_class(head, kind, name):
    """Find the MLP's sites of one class, and look at them with other means than the self-test's."""
    try:
        model = build_small(name)
    except Exception as error:
        return f"not built: {error}"
    before = state(model)
    try:
        hidden = find_sites(model, "mlp_hidden")
    except SiteError as error:
        return f"refused: {error}"
    finally:
        after = state(model)
        assert before.keys() == after.keys()
        # BigBird exchanges its attention at the first short text, which is transformers' doing.
        parts = set(before) - ({"hooks"} if kind in ("big_bird", "bigbird_pegasus") else set())
        assert all(torch.equal(before[part], after[part]) for part in parts), name
    plain = [z for z, layer in enumerate(hidden.layers) if layer.expert is None]
    stacked = {layer.block if layer.block is not None else z for z, layer in enumerate(hidden.layers)}
    assert len(stacked) >= len(blocks(model))
    for z in plain:
        projection = projections(model, hidden)[z]
        if kind not in _FUNCTIONAL:
            assert is_what_activation_gives(model, projection), f"{name}: {hidden.layers[z].module}"
    return "found"


@pytest.mark.parametrize(("head", "kind", "name"), SAMPLE, ids=lambda one: one)
def test_hidden_units_are_what_the_activation_function_gives(head, kind, name):
    outcome = check_class(head, kind, name)  # where nothing is found, the page has the reason
    assert outcome == "found" or outcome.startswith(("refused: ", "not built: "))


def test_the_oracle_accepts_no_other_linear_map():
    model = build("llama", num_key_value_heads=4)
    mlp, attention = model.model.layers[1].mlp, model.model.layers[1].self_attn
    assert is_what_activation_gives(model, mlp.down_proj)
    for other in (mlp.gate_proj, mlp.up_proj, attention.q_proj, attention.o_proj):
        assert not is_what_activation_gives(model, other)
    mobile = build_small("MobileBertForMaskedLM")
    block = mobile.mobilebert.encoder.layer[1]
    assert is_what_activation_gives(mobile, block.output.dense)
    assert not is_what_activation_gives(mobile, block.output.bottleneck.dense)


# -- the page ---------------------------------------------------------------------------------------------------------


@on_the_page
def test_the_page_says_what_the_sample_gives(tool):
    page = PAGE.read_text(encoding="utf-8").splitlines()
    rows = tool.sweep(SAMPLE)
    assert {tool.kind_of(row) for row in rows if row.works} == {"dense", "experts", "shared layers"}
    assert any(row.failure for row in rows)
    for row in rows:
        assert tool.line(row) in page, row.name


@on_the_page
@pytest.mark.slow
def test_the_page_is_what_the_whole_sweep_gives(tool):
    made, written = (text.splitlines() for text in (tool.page(tool.sweep()), PAGE.read_text(encoding="utf-8")))
    is_version = re.compile("^Measured with ")
    assert [line for line in made if not is_version.match(line)] == [
        line for line in written if not is_version.match(line)
    ], "python tools/architectures.py > docs/architectures.md"


@pytest.mark.slow
def test_hidden_units_are_right_in_every_class():
    outcomes = {one[2]: check_class(*one) for one in head_classes()}
    n_found = sum(outcome == "found" for outcome in outcomes.values())
    n_built = sum(not outcome.startswith("not built") for outcome in outcomes.values())
    assert n_found > 0.85 * n_built


# -- shrinking --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["LlamaForCausalLM", "BertForMaskedLM", "T5ForConditionalGeneration"])
def test_a_shrunk_model_is_small_and_has_no_parameter_at_0(name):
    model = build_small(name)
    assert model.config.hidden_size == WIDTH
    assert model.config.num_hidden_layers == N_LAYERS
    assert sum(values.numel() for values in model.parameters()) < MOST_PARAMETERS / 10
    assert all(values.any() for values in model.parameters())


def test_a_class_that_reads_images_is_not_built():
    with pytest.raises(ValueError, match=r"reads more than text \(vision_config\)"):
        build_small("Gemma3ForConditionalGeneration")


def test_every_class_is_listed_once_a_head():
    listed = [(head, name) for head, _, name in head_classes()]
    assert len(listed) == len(set(listed)) > 350


# -- what once was picked wrongly -------------------------------------------------------------------------------------


def modules_of(model, site):
    return [layer.module for layer in find_sites(model, site).layers]


def test_a_model_without_mlps_is_refused_with_its_reason():
    with pytest.raises(SiteError, match=r"No MLP final projection found in layer 0 of 'mamba' .*'mixer.in_proj'"):
        find_sites(build_small("MambaForCausalLM"))


@pytest.mark.parametrize("site", ["mlp_out", "mlp_hidden"])
def test_a_bottleneck_behind_the_mlp_is_not_taken_for_its_projection(site):
    # As in the published model, where hidden layer and stream are of one width.
    for model in (build_small("MobileBertForMaskedLM"), build_small("MobileBertForMaskedLM", intermediate_size=WIDTH)):
        with pytest.raises(SiteError, match=r"has width 16, and the activation function before it has width (56|32)"):
            find_sites(model, site)
        named = find_sites(model, "mlp_hidden", projection="output.dense")
        assert named.widths == (model.config.intermediate_size,) * N_LAYERS


def test_attention_in_a_list_of_its_own_is_not_taken_for_the_mlp():
    assert modules_of(build_small("XLMWithLMHeadModel"), "mlp_hidden") == [f"ffns.{z}.lin2" for z in range(N_LAYERS)]


def test_what_mixes_tokens_is_not_taken_for_the_mlp_however_wide():
    model = build_small("RecurrentGemmaForCausalLM", intermediate_size=40)  # narrower than the recurrence
    assert modules_of(model, "mlp_out") == [f"layers.{z}.mlp_block.down_proj" for z in range(N_LAYERS)]
    assert not any("conv" in path for path in modules_of(build_small("Lfm2MoeForCausalLM"), "mlp_hidden"))


def test_the_name_of_a_model_says_nothing_of_its_parts():
    expected = [f"encoder.layer.{z}.output.dense" for z in range(N_LAYERS)]
    for name in ("RobertaPreLayerNormForMaskedLM", "ConvBertForMaskedLM"):
        assert [path.replace("convbert.", "") for path in modules_of(build_small(name), "mlp_out")] == expected


def test_a_gate_that_is_declared_last_is_not_the_output_of_attention():
    for name in ("AfmoeForCausalLM", "Qwen3_5ForCausalLM"):
        assert all(path.endswith(("o_proj", "out_proj")) for path in modules_of(build_small(name), "attn_out"))


def test_a_norm_behind_attention_is_no_part_of_it():
    assert set(modules_of(build_small("AXK2ForCausalLM"), "attn_out")) == {
        f"layers.{z}.self_attn.o_proj" for z in range(N_LAYERS)
    }


def test_keys_and_values_are_not_the_output_of_an_attention_of_experts():
    with pytest.raises(SiteError, match=r"attention in layer 0 of 'jetmoe' is a mixture of experts"):
        find_sites(build_small("JetMoeForCausalLM"), "attn_out")


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("BltForCausalLM", "has no hidden_size"),
        ("MusicgenForCausalLM", "no single table of token embeddings"),
        ("CanineForSequenceClassification", "no single table of token embeddings"),
        ("LongformerForMaskedLM", "cannot be assigned to"),
    ],
)
def test_models_of_another_kind_are_refused(name, reason):
    with pytest.raises(SiteError, match=reason):
        find_sites(build_small(name))


def test_a_decoder_without_a_start_token_begins_with_another():
    model = build_small("T5ForConditionalGeneration")
    assert getattr(model.config, "decoder_start_token_id", None) is None
    assert find_sites(model, "decoder_mlp_out").n_layers == N_LAYERS


# -- caveats ----------------------------------------------------------------------------------------------------------


def caveats_of(model, site="mlp_out"):
    return caveats(model, find_sites(model, site))


@pytest.mark.parametrize("site", ["mlp_out", "mlp_hidden", "attn_out"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", ["gpt2", "llama", "gptj", "falcon", "bloom", "t5", "modernbert"])
def test_a_plain_sum_has_no_caveat(name, dtype, site):
    assert caveats_of(build(name).to(dtype), site) == []


@pytest.mark.parametrize("site", ["mlp_out", "mlp_hidden", "attn_out"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("gemma2", "gives is normalized before it is added"),
        ("olmo2", "gives is normalized before it is added"),
        ("granite", "gives is multiplied by 0.5"),
        ("bert", "(post-norm)"),
        ("bart", "(post-norm)"),
    ],
)
def test_what_stands_between_a_site_and_the_stream_is_named(name, expected, dtype, site):
    [caveat] = caveats_of(build(name).to(dtype), site)
    assert expected in caveat or (expected.endswith("0.5") and re.search(r"multiplied by 0\.(49|50)\d* before", caveat))
    assert ("attention" in caveat) == (site == "attn_out")


@pytest.mark.parametrize("factor", [0.25, 3.0, -1.0])
def test_a_constant_factor_is_reported_exactly(factor):
    [caveat] = caveats_of(build("granite", residual_multiplier=factor))
    assert f"multiplied by {factor:.4g} before" in caveat
    assert caveats_of(build("granite", residual_multiplier=1.0)) == []


def test_weights_of_a_shared_expert_and_of_a_channel_mix_are_named():
    assert caveats_of(mixture("Mixtral"), "mlp_hidden") == []
    for model in (mixture("Qwen2Moe"), build_small("RwkvForCausalLM")):
        [caveat] = caveats_of(model, "mlp_hidden")
        assert "is weighted, by token or neuron" in caveat


def test_layers_that_share_their_weights_and_decoders_have_theirs():
    [caveat] = caveats_of(albert(3))
    assert "(post-norm)" in caveat
    [caveat] = caveats_of(build("bart"), "decoder_mlp_out")
    assert "(post-norm)" in caveat


def test_undetermined_caveats_are_reported():
    [caveat] = caveats_of(build_small("XLMWithLMHeadModel"))
    assert "is not known" in caveat
    [caveat] = caveats_of(build_small("Gemma3nForCausalLM"))
    assert "several residual streams" in caveat


@pytest.mark.parametrize("name", ["bert", "gemma2", "falcon"])
def test_looking_for_caveats_leaves_the_model_alone(name):
    model = build(name)
    space = find_sites(model, "attn_out")
    before = snapshot(model)
    caveats(model, space)
    assert_untouched(model, before)


def test_a_norm_that_is_put_behind_an_mlp_is_found(gpt2):
    assert caveats_of(gpt2) == []
    mlp = gpt2.transformer.h[N_LAYERS // 2].mlp
    mlp.dropout = nn.LayerNorm(WIDTH)
    [caveat] = caveats_of(gpt2)
    assert "is normalized before it is added" in caveat
    mlp.dropout = nn.Tanh()
    [caveat] = caveats_of(gpt2)
    assert "not simply added" in caveat  # what saturates is no normalization: neurons do not rescale each other
