"""Attention output and heads, decoders of encoder-decoder models, and layers that share their weights."""

import numpy as np
import pytest
import torch
import transformers

import lmri
from lmri import find_sites, record
from lmri.exceptions import SiteError
from lmri.models import evaluation_mode
from lmri.models.capture import capture
from lmri.models.sites import blocks, projections
from lmri.networks import Network
from lmri.space import NeuronSpace
from tiny_models import (
    EVERY,
    HIDDEN,
    N_HEADS,
    N_LAYERS,
    WIDTH,
    WORDS,
    albert,
    assert_untouched,
    build,
    randomize,
    read,
    remote_code,
    snapshot,
    word_tokenizer,
)
from tolerances import model_rounding

IDS = torch.tensor([[5, 6, 7, 8], [9, 10, 11, 12]])

ATTENTION = {
    "gpt2": "h.{z}.attn.c_proj",
    "gptj": "h.{z}.attn.out_proj",
    "gpt_neox": "layers.{z}.attention.dense",
    "opt": "decoder.layers.{z}.self_attn.out_proj",
    "mpt": "blocks.{z}.attn.out_proj",
    "llama": "layers.{z}.self_attn.o_proj",
    "phi": "layers.{z}.self_attn.dense",
    "bert": "encoder.layer.{z}.attention.output.dense",
    "distilbert": "transformer.layer.{z}.attention.out_lin",
    "modernbert": "layers.{z}.attn.Wo",
    "bart": "encoder.layers.{z}.self_attn.out_proj",
    "t5": "encoder.block.{z}.layer.0.SelfAttention.o",
}


def captured(model, spaces, ids=IDS):
    with evaluation_mode(model):
        made = capture(model, spaces, ids, torch.ones_like(ids), torch.ones_like(ids, dtype=torch.bool))
    return [torch.from_numpy(values) for values in made.collect()]


# -- attention --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("site", ["attn_out", "attn_heads"])
@pytest.mark.parametrize("name", EVERY)
def test_the_output_projection_of_attention_is_found_and_checked(name, site):
    model = build(name)
    before = snapshot(model)
    space = find_sites(model, site)
    assert_untouched(model, before)
    assert space.n_layers == N_LAYERS
    if name in ATTENTION:
        assert [layer.module for layer in space.layers] == [ATTENTION[name].format(z=z) for z in range(N_LAYERS)]
    assert space.widths == (WIDTH,) * N_LAYERS


def test_every_projection_of_attention_but_the_last_is_refused_by_the_self_test():
    model = build("llama", num_key_value_heads=N_HEADS)  # then all four are square
    for wrong in ("q_proj", "k_proj", "v_proj"):
        with pytest.raises(SiteError, match=r"'layers.1.self_attn.o_proj' runs after it"):
            find_sites(model, "attn_out", projection=f"self_attn.{wrong}")
    assert find_sites(model, "attn_out", projection="self_attn.o_proj") == find_sites(model, "attn_out")


def test_heads_are_blocks_of_neurons_and_lesioning_one_is_zeroing_what_it_writes_with():
    model = build("llama")
    space = find_sites(model, "attn_heads")
    assert [layer.n_heads for layer in space.layers] == [N_HEADS] * N_LAYERS
    assert np.array_equal(space.head_of[:WIDTH], np.repeat(np.arange(N_HEADS), WIDTH // N_HEADS))
    head = Network.from_members(space, (space.layer_of == 1) & (space.head_of == 2), "head 1.2")
    assert head.n_neurons == WIDTH // N_HEADS
    intact = read(model, IDS)
    with lmri.lesion(head).on(model):
        lesioned = read(model, IDS)
    assert not torch.equal(lesioned, intact)
    model.model.layers[1].self_attn.o_proj.weight.data[:, 16:24] = 0
    assert torch.equal(read(model, IDS), lesioned)


@pytest.mark.parametrize("name", EVERY)
def test_every_architecture_says_how_many_heads_it_has(name):
    assert {layer.n_heads for layer in find_sites(build(name), "attn_heads").layers} == {N_HEADS}


def test_layers_may_differ_in_their_heads():
    config = transformers.Qwen3NextConfig(
        vocab_size=96, hidden_size=WIDTH, intermediate_size=HIDDEN, num_hidden_layers=4, num_attention_heads=2,
        num_key_value_heads=2, head_dim=16, linear_num_value_heads=8, linear_num_key_heads=4, linear_key_head_dim=8,
        linear_value_head_dim=8, num_experts=0, mlp_only_layers=[0, 1, 2, 3], max_position_embeddings=64,
    )  # fmt: skip
    space = find_sites(randomize(transformers.Qwen3NextForCausalLM(config)), "attn_heads")
    assert [layer.n_heads for layer in space.layers] == [8, 8, 8, 2]


def test_other_sites_have_no_heads():
    assert (find_sites(build("llama"), "attn_out").head_of == -1).all()


def test_several_sites_in_one_pass_are_what_they_are_alone():
    model = build("gpt2")
    spaces = [find_sites(model, site) for site in ("mlp_out", "mlp_hidden", "attn_out", "attn_heads")]
    together = captured(model, spaces)
    for space, values in zip(spaces, together, strict=True):
        assert torch.equal(values, captured(model, [space])[0])
    # What attention and MLP give is what the residual stream grows by.
    with torch.no_grad():
        hidden = model.transformer(IDS, output_hidden_states=True).hidden_states
    grown = (hidden[1] - hidden[0]).reshape(-1, WIDTH)
    torch.testing.assert_close(
        together[0][:, :WIDTH] + together[2][:, :WIDTH], grown, atol=model_rounding(model, grown), rtol=0
    )


# -- encoder and decoder ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "hidden"), [("t5", HIDDEN), ("bart", 48)])
def test_the_decoder_is_a_site_of_its_own(name, hidden):
    model = build(name)
    space = find_sites(model, "decoder_mlp_hidden")
    assert space.widths == (hidden,) * N_LAYERS
    assert all("decoder" in layer.module for layer in space.layers)
    assert space != find_sites(model, "mlp_hidden")
    assert find_sites(model, "decoder_attn_out").n_layers == N_LAYERS
    assert not any("EncDec" in layer.module for layer in find_sites(model, "decoder_attn_out").layers)


@pytest.mark.parametrize(("n_texts", "n_tokens"), [(5, 4), (5, 5), (4, 5)])
def test_texts_and_places_of_a_decoder_that_runs_tokens_first_are_told_apart(n_texts, n_tokens, tmp_path):
    config = transformers.FSMTConfig(
        langs=["en", "de"], src_vocab_size=96, tgt_vocab_size=96, d_model=WIDTH, encoder_layers=2, decoder_layers=2,
        encoder_ffn_dim=40, decoder_ffn_dim=48, encoder_attention_heads=4, decoder_attention_heads=4,
        max_position_embeddings=64, decoder_start_token_id=2,
    )  # fmt: skip
    model = randomize(transformers.FSMTForConditionalGeneration(config))
    texts = [" ".join(np.random.default_rng(n).choice(WORDS, n_tokens)) for n in range(n_texts)]
    options = {"site": "decoder_mlp_hidden", "test_fraction": 0, "n_dummy": 0}
    together = record(model, word_tokenizer(), texts, tmp_path / "together", **options)
    alone = record(model, word_tokenizer(), texts, tmp_path / "alone", batch_size=1, **options)
    for one, other in zip(together.arrays(), alone.arrays(), strict=True):
        np.testing.assert_allclose(one, other, atol=model_rounding(model, other))


@pytest.mark.parametrize("name", ["t5", "bart"])
def test_texts_as_long_as_the_context_leave_room_for_the_start_of_a_decoder(name, tmp_path):
    model = build(name, **({"context": 16} if name == "bart" else {}))
    with pytest.warns(match="were truncated"):
        made = record(
            model, word_tokenizer(), ["the cat " * 20], tmp_path, site=["mlp_out", "decoder_mlp_out"], test_fraction=0,
            n_dummy=0, max_tokens=16,
        )  # fmt: skip
    assert {one.n_volumes for one in made} == {15 if name == "bart" else 16}


@pytest.mark.parametrize("name", ["t5", "bart"])
def test_the_decoder_is_seen_at_the_places_where_it_reads_the_tokens(name):
    model = build(name)
    encoder, decoder = find_sites(model, "mlp_out"), find_sites(model, "decoder_mlp_out")
    both = captured(model, [encoder, decoder])
    alone = captured(model, [encoder])[0]
    torch.testing.assert_close(both[0], alone, atol=model_rounding(model, alone), rtol=0)
    seen = []
    handle = projections(model, decoder)[1].register_forward_hook(remote_code(lambda m, a, out: seen.append(out)))
    start = torch.full((2, 1), model.config.decoder_start_token_id)
    with torch.no_grad():
        model.base_model(input_ids=IDS, decoder_input_ids=torch.cat([start, IDS], 1))
    handle.remove()
    expected = seen[0].reshape(2, 5, WIDTH)[:, 1:].reshape(-1, WIDTH)
    torch.testing.assert_close(both[1][:, WIDTH : 2 * WIDTH], expected, atol=model_rounding(model, expected), rtol=0)


def test_a_lesion_of_the_decoder_leaves_the_encoder_alone():
    model = build("t5")
    encoder, decoder = find_sites(model, "mlp_out"), find_sites(model, "decoder_mlp_out")
    intact = captured(model, [encoder, decoder])
    members = np.arange(decoder.n_neurons) < 5
    with lmri.lesion(Network.from_members(decoder, members)).on(model):
        lesioned = captured(model, [encoder, decoder])
    assert torch.equal(lesioned[0], intact[0])
    assert not torch.equal(lesioned[1][:, -WIDTH:], intact[1][:, -WIDTH:])


def test_a_model_of_one_stack_has_no_decoder_beside_it(gpt2):
    with pytest.raises(SiteError, match="GPT2LMHeadModel is not an encoder–decoder"):
        find_sites(gpt2, "decoder_mlp_out")


def test_the_stacks_of_two_are_told_apart():
    model = build("bart")
    assert blocks(model)[0] is model.model.encoder.layers[0]
    assert blocks(model, "decoder")[0] is model.model.decoder.layers[0]


# -- layers that share their weights ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("n_layers", "n_groups"), [(3, 1), (4, 2), (3, 3), (1, 1)])
@pytest.mark.parametrize("site", ["mlp_out", "mlp_hidden"])
def test_layers_that_share_their_weights_are_calls_of_one_module(n_layers, n_groups, site):
    model = albert(n_layers, n_groups)
    space = find_sites(model, site)
    assert space.n_layers == n_layers
    seen: list[torch.Tensor] = []
    handles = [
        module.register_forward_hook(remote_code(lambda m, a, out: seen.append(out if site == "mlp_out" else a[0])))
        for module in set(projections(model, space))
    ]
    [values] = captured(model, [space])
    for handle in handles:
        handle.remove()
    for z, activation in enumerate(seen):
        own = values[:, int(space.offsets[z]) : int(space.offsets[z + 1])]
        assert torch.equal(own, activation.reshape(-1, activation.shape[-1]))


def test_a_lesion_of_one_call_leaves_the_calls_before_it_alone():
    model = albert(3)
    space = find_sites(model, "mlp_out")
    [intact] = captured(model, [space])
    before = snapshot(model)
    members = space.layer_of == 1
    with lmri.lesion(Network.from_members(space, members)).on(model):
        for _ in range(2):  # counted anew in every pass
            [lesioned] = captured(model, [space])
            assert torch.equal(lesioned[:, :WIDTH], intact[:, :WIDTH])
            assert not lesioned[:, WIDTH : 2 * WIDTH].any()
            assert not torch.equal(lesioned[:, 2 * WIDTH :], intact[:, 2 * WIDTH :])
    assert_untouched(model, before)
    assert torch.equal(captured(model, [space])[0], intact)


def test_calls_are_counted_anew_after_a_pass_that_failed():
    model = albert(3)
    space = find_sites(model, "mlp_out")
    network = Network.from_members(space, space.layer_of == 2)
    with lmri.lesion(network).on(model):
        expected = read(model, IDS)
        handle = model.albert.encoder.register_forward_hook(remote_code(lambda m, a, out: 1 / 0))
        with pytest.raises(ZeroDivisionError):
            read(model, IDS)
        handle.remove()
        assert torch.equal(read(model, IDS), expected)


def test_a_block_that_two_layers_have_in_common_is_two_layers(gpt2):
    gpt2.transformer.h[2].mlp = gpt2.transformer.h[1].mlp
    space = find_sites(gpt2)
    assert [(layer.module, layer.call) for layer in space.layers] == [
        ("h.0.mlp.c_proj", 0), ("h.1.mlp.c_proj", 0), ("h.1.mlp.c_proj", 1),
    ]  # fmt: skip


def test_the_stored_form_of_simple_spaces_is_unchanged():
    # The hash of a geometry stands in studies that were made before these were known.
    space = NeuronSpace.build([4, 4])
    assert space.to_dict()["layers"][0] == {"name": "layer 0", "module": "layers.0", "width": 4}
    assert space.geometry == "a5099b0c493314ff"
