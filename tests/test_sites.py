"""Sites are detected by shape in every architecture, and a wrong detection raises an error."""

import pytest
import torch
import transformers
from torch import nn
from transformers.pytorch_utils import Conv1D

from lmri import find_sites, record
from lmri.exceptions import SiteError
from lmri.models import fingerprint
from lmri.models.sites import projections, register_hook, to_batch_tokens, widths
from tiny_models import (
    ARCHITECTURES,
    HIDDEN,
    N_LAYERS,
    WIDTH,
    assert_untouched,
    build,
    mixture,
    randomize,
    read,
    remote_code,
    snapshot,
    word_tokenizer,
)

EVERY = sorted(ARCHITECTURES)
SITES = ("mlp_out", "mlp_hidden")
IDS = torch.tensor([[5, 6, 7, 8], [9, 10, 11, 12]])


def switch():
    """Build a tiny mixture of experts that keeps each expert in a module of its own."""
    config = transformers.SwitchTransformersConfig(
        vocab_size=96, d_model=WIDTH, d_ff=HIDDEN, d_kv=8, num_layers=4, num_heads=4, num_experts=4,
        num_sparse_encoder_layers=2, num_decoder_layers=2, decoder_start_token_id=0,
    )  # fmt: skip
    return randomize(transformers.SwitchTransformersForConditionalGeneration(config))


# -- finding ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("site", SITES)
@pytest.mark.parametrize("name", EVERY)
def test_the_final_projection_of_every_block_is_found(name, site):
    known, model = ARCHITECTURES[name], build(name)
    space = find_sites(model, site)
    assert [layer.module for layer in space.layers] == [known.projection.format(z=z) for z in range(N_LAYERS)]
    assert space.widths == (WIDTH if site == "mlp_out" else known.hidden,) * N_LAYERS
    assert space.site == site
    assert space.model.fingerprint == fingerprint(model)
    assert widths(model, space) == list(space.widths)


@pytest.mark.parametrize("name", EVERY)
def test_the_model_is_bit_for_bit_itself_afterwards(name):
    model = build(name)
    before, output = snapshot(model), read(model, IDS)
    for site in SITES:
        find_sites(model, site)
        assert_untouched(model, before)
    assert torch.equal(read(model, IDS), output)


def test_the_mode_of_every_module_is_its_own_afterwards(gpt2):
    gpt2.train()
    gpt2.transformer.h[0].eval()
    before = snapshot(gpt2)
    find_sites(gpt2)
    assert_untouched(gpt2, before)


def test_the_number_and_the_widths_of_the_layers_are_those_of_the_model():
    assert find_sites(build("gpt2", layers=1)).n_layers == 1
    assert find_sites(build("llama", layers=5, width=40, hidden=31), "mlp_hidden").widths == (31,) * 5
    assert find_sites(build("gpt2", hidden=8), "mlp_hidden").widths == (8,) * N_LAYERS


@pytest.mark.parametrize("name", sorted(set(EVERY) - {"bloom", "mpt"}))  # whose hidden layers are always wider
def test_a_hidden_layer_as_wide_as_the_model_is_not_mixed_up(name):
    # Then all linear maps of an MLP have one shape.
    model = build(name, hidden=WIDTH)
    assert find_sites(model).layers[1].module == ARCHITECTURES[name].projection.format(z=1)


@pytest.mark.parametrize("head", ["GPT2Model", "GPT2ForSequenceClassification", "GPT2ForTokenClassification"])
def test_the_head_does_not_change_the_sites(gpt2, head):
    assert find_sites(build("gpt2", head=head)) == find_sites(gpt2)


def test_an_unknown_site_is_refused(gpt2):
    with pytest.raises(ValueError, match=r"site is 'mlp'; choose from 'mlp_out', 'mlp_hidden'"):
        find_sites(gpt2, "mlp")


def test_the_projection_can_be_named(gpt2):
    assert find_sites(gpt2, projection="mlp.c_proj") == find_sites(gpt2)
    assert find_sites(gpt2, projection="attn.c_proj").layers[2].module == "h.2.attn.c_proj"


@pytest.mark.parametrize("wrong", ["mlp.c_prj", "mlp", "mlp.act", "", "h.0.mlp.c_proj"])
def test_a_projection_that_is_no_linear_module_is_refused_with_those_that_are(gpt2, wrong):
    with pytest.raises(SiteError, match=r"'attn.c_attn', 'attn.c_proj', 'mlp.c_fc', 'mlp.c_proj'"):
        find_sites(gpt2, projection=wrong)


# -- self-test: wrong finds are errors --------------------------------------------------------------------------------


@pytest.mark.parametrize("site", SITES)
def test_a_projection_that_bloom_bypasses_is_detected(site):
    # With tensor parallelism spelled out, BLOOM multiplies slices of the weight and never calls the module.
    with pytest.raises(SiteError, match=r"'h.0.mlp.dense_4h_to_h' had 0 calls .* bypassed"):
        find_sites(build("bloom", pretraining_tp=2, slow_but_exact=True), site)
    assert find_sites(build("bloom", pretraining_tp=1, slow_but_exact=True), site).n_layers == N_LAYERS


@pytest.mark.parametrize("site", SITES)
def test_a_module_whose_forward_is_never_called_is_detected(gpt2, site, monkeypatch):
    mlp = gpt2.transformer.h[1].mlp

    def fused(hidden):
        hidden = mlp.act(mlp.c_fc(hidden))
        return torch.addmm(mlp.c_proj.bias, hidden.flatten(0, -2), mlp.c_proj.weight).reshape(*hidden.shape[:-1], -1)

    ids, intact = IDS, read(gpt2, IDS)
    monkeypatch.setattr(mlp, "forward", remote_code(fused))
    torch.testing.assert_close(read(gpt2, ids), intact, rtol=0, atol=0)  # the same model, but hooks see nothing
    with pytest.raises(SiteError, match=r"'h.1.mlp.c_proj' had 0 calls"):
        find_sites(gpt2, site)


def test_a_projection_that_is_called_in_chunks_is_detected():
    with pytest.raises(SiteError, match="had 3 calls"):
        find_sites(build("bert", chunk_size_feed_forward=1))


@pytest.mark.parametrize("site", SITES)
def test_a_projection_whose_output_is_not_used_is_detected(gpt2, site, monkeypatch):
    mlp, original = gpt2.transformer.h[N_LAYERS // 2].mlp, type(gpt2.transformer.h[0].mlp).forward

    def unused(hidden):
        return 0 * original(mlp, hidden)

    monkeypatch.setattr(mlp, "forward", remote_code(unused))
    with pytest.raises(SiteError, match="does not change the output: its value is not used"):
        find_sites(gpt2, site)


@pytest.mark.parametrize("site", SITES)
def test_a_weight_that_is_used_elsewhere_too_is_detected(gpt2, site, monkeypatch):
    # Silencing the module's activation is then less than zeroing its weight.
    mlp, original = gpt2.transformer.h[N_LAYERS // 2].mlp, type(gpt2.transformer.h[0].mlp).forward

    def twice(hidden):
        inner = mlp.act(mlp.c_fc(hidden))
        return original(mlp, hidden) + inner @ mlp.c_proj.weight + mlp.c_proj.bias

    monkeypatch.setattr(mlp, "forward", remote_code(twice))
    with pytest.raises(SiteError, match=r"'h.1.mlp.c_proj' carries only part|differs by .* from zeroing its weights"):
        find_sites(gpt2, site)


def test_the_self_test_leaves_nothing_behind_when_it_fails(gpt2, monkeypatch):
    mlp, original = gpt2.transformer.h[N_LAYERS // 2].mlp, type(gpt2.transformer.h[0].mlp).forward
    before = snapshot(gpt2)
    monkeypatch.setattr(mlp, "forward", remote_code(lambda hidden: 0 * original(mlp, hidden)))
    with pytest.raises(SiteError):
        find_sites(gpt2)
    assert_untouched(gpt2, before)
    # And when the model itself fails, after the first of the hooks has seen something.
    monkeypatch.setattr(mlp, "forward", remote_code(lambda hidden: 1 / 0))
    with pytest.raises(ZeroDivisionError):
        find_sites(gpt2)
    assert_untouched(gpt2, before)


def test_a_model_that_holds_nan_can_be_searched(gpt2):
    # So that recording it names the neuron, instead of blaming the site.
    with torch.no_grad():
        gpt2.transformer.h[0].mlp.c_fc.weight[3, 4] = float("nan")
    assert find_sites(gpt2).n_layers == N_LAYERS


@pytest.mark.parametrize("site", SITES)
def test_a_mixture_of_experts_in_modules_of_their_own_is_refused_and_never_half_recorded(site):
    with pytest.raises(SiteError, match="is a mixture of experts"):
        find_sites(switch(), site)


def test_a_shared_expert_is_found_by_name(tmp_path):
    model = mixture("Qwen2Moe")
    path = "mlp.shared_expert.down_proj"
    assert find_sites(model, "mlp_hidden", path).widths == (40,) * N_LAYERS
    # It is called on (n_texts * n_tokens, width).
    recording = record(model, word_tokenizer(), ["the cat sits", "a dog"], tmp_path, test_fraction=0, projection=path)
    assert recording.n_volumes == 3


def test_a_model_without_a_stack_of_blocks_is_refused():
    class Flat(transformers.PreTrainedModel):
        config_class = transformers.GPT2Config

        def __init__(self, config):
            super().__init__(config)
            self.embeddings, self.linear = nn.Embedding(96, WIDTH), nn.Linear(WIDTH, WIDTH)
            self.heads = nn.ModuleList([nn.Linear(WIDTH, 96)])
            self.post_init()

    with pytest.raises(SiteError, match=r"Flat has no forward pass of its own"):
        find_sites(Flat(transformers.GPT2Config(vocab_size=96, n_embd=WIDTH)))


def test_a_block_without_an_mlp_is_refused_with_what_it_has():
    config = transformers.MambaConfig(vocab_size=96, hidden_size=WIDTH, num_hidden_layers=2, state_size=4)
    with pytest.raises(SiteError, match=r"layer 0 of 'mamba' \(linear modules: 'mixer.in_proj'"):
        find_sites(transformers.MambaForCausalLM(config))


# -- reading and writing ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("module", [nn.Linear(5, 3), Conv1D(3, 5)], ids=["Linear", "Conv1D"])
def test_a_site_is_seen_and_replaced_on_its_own_side(module):
    seen = []
    x = torch.randn(2, 4, 5, generator=torch.Generator().manual_seed(0))
    y = module(x)
    for site, value in (("mlp_hidden", x), ("mlp_out", y)):
        handle = register_hook(module, site, seen.append)  # append returns None: nothing is replaced
        assert torch.equal(module(x), y)
        assert torch.equal(seen.pop(), value)
        handle.remove()
    handle = register_hook(module, "mlp_hidden", torch.zeros_like)
    torch.testing.assert_close(module(x), module.bias.expand(2, 4, 3), rtol=0, atol=0)
    handle.remove()
    handle = register_hook(module, "mlp_out", torch.zeros_like)
    assert not module(x).any()
    handle.remove()
    assert torch.equal(module(x), y)


def test_every_layout_of_texts_and_tokens_is_brought_to_one():
    values = torch.arange(2 * 3 * 5).reshape(2, 3, 5)
    assert torch.equal(to_batch_tokens(values, 2, 3), values)
    assert torch.equal(to_batch_tokens(values.reshape(6, 5), 2, 3), values)  # OPT
    assert torch.equal(to_batch_tokens(values.transpose(0, 1), 2, 3), values)  # ChatGLM
    with pytest.raises(SiteError, match=r"shape \(4, 5\) cannot be assigned to 2 texts of 3 tokens"):
        to_batch_tokens(values.reshape(6, 5)[:4], 2, 3)


def test_a_model_without_the_modules_of_a_space_is_refused(gpt2):
    with pytest.raises(SiteError, match="LlamaForCausalLM lacks a module of the space"):
        projections(build("llama"), find_sites(gpt2))
