"""Mixtures of experts: units of fused experts, recorded and lesioned exactly."""

import numpy as np
import pytest
import torch

import lmri
from lmri import find_sites, record, storage
from lmri.exceptions import SiteError
from lmri.models import evaluation_mode
from lmri.models.capture import capture
from lmri.models.sites import experts, projections
from lmri.networks import Network
from tiny_models import (
    HIDDEN,
    MIXTURES,
    N_LAYERS,
    WIDTH,
    assert_untouched,
    mixture,
    read,
    remote_code,
    snapshot,
    word_tokenizer,
)
from tolerances import model_rounding, rounding

IDS = torch.tensor([[5, 6, 7, 8, 9, 10], [11, 12, 13, 14, 15, 16]])


def by_hand(module, states, indices):
    """Compute the hidden units of every expert, one token after the other: {expert: (n_tokens, width)}."""
    units = {one: torch.zeros(len(states), experts.width(module)) for one in range(experts.count(module))}
    for token, row in enumerate(indices.tolist()):
        for expert in row:
            weight = module.gate_up_proj[expert]
            gate_up = states[token] @ (weight if module.is_transposed else weight.T)
            if module.has_bias:
                gate_up = gate_up + module.gate_up_proj_bias[expert]
            units[expert][token] = module._apply_gate(gate_up[None])[0]
    return units


def captured(model, space, ids=IDS):
    with evaluation_mode(model):
        made = capture(model, [space], ids, torch.ones_like(ids), torch.ones_like(ids, dtype=torch.bool))
    [values] = made.collect()
    return torch.from_numpy(values)


def columns(space, z):
    return slice(int(space.offsets[z]), int(space.offsets[z + 1]))


@pytest.mark.parametrize("kind", MIXTURES)
def test_units_are_those_computed_by_hand_and_0_where_a_token_was_not_routed(kind):
    model = mixture(kind)
    space = find_sites(model, "mlp_hidden")
    values = captured(model, space)
    inputs: dict[int, tuple] = {}
    handles = []
    for z, layer in enumerate(space.layers):
        if layer.expert is not None:
            module = projections(model, space)[z]
            handles.append(
                module.register_forward_pre_hook(
                    remote_code(lambda m, args, z=z: inputs.__setitem__(z, (args[0], args[1])))
                )
            )
    with evaluation_mode(model):
        model.base_model(input_ids=IDS)
        for handle in handles:
            handle.remove()
        n_routed = 0
        for z, (states, indices) in inputs.items():
            layer = space.layers[z]
            expected = by_hand(projections(model, space)[z], states, indices)[layer.expert]
            torch.testing.assert_close(values[:, columns(space, z)], expected, atol=rounding(expected, WIDTH), rtol=0)
            here = (indices == layer.expert).any(-1)
            assert not values[~here][:, columns(space, z)].any()
            n_routed += int(here.sum())
    n_mixtures = len({layer.block for layer in space.layers if layer.expert is not None})
    assert n_routed == 2 * IDS.numel() * n_mixtures  # every token is given to two experts of each mixture


@pytest.mark.parametrize("kind", MIXTURES)
def test_a_lesion_of_units_is_zeroed_weights_and_leaves_the_model_alone(kind):
    model = mixture(kind)
    space = find_sites(model, "mlp_hidden")
    before, intact = snapshot(model), read(model, IDS)
    active = captured(model, space).abs().amax(0)
    members = torch.zeros(space.n_neurons, dtype=torch.bool)
    for z, layer in enumerate(space.layers):
        if layer.expert in (1, 2):
            members[columns(space, z)][active[columns(space, z)].topk(5).indices] = True
    network = Network.from_members(space, members.numpy())
    with lmri.lesion(network).on(model):
        lesioned = read(model, IDS)
    assert_untouched(model, before)
    assert torch.equal(read(model, IDS), intact)
    assert not torch.equal(lesioned, intact)
    for z, layer in enumerate(space.layers):
        for neuron in torch.nonzero(members[columns(space, z)]).flatten().tolist():
            experts.output_weights(projections(model, space)[z], layer.expert, neuron).zero_()
    assert torch.equal(read(model, IDS), lesioned)


def test_lesions_of_different_experts_differ():
    model = mixture("Mixtral")
    space = find_sites(model, "mlp_hidden")
    outputs = []
    for expert in range(4):
        members = [layer.expert == expert for layer in space.layers for _ in range(layer.width)]
        with lmri.lesion(Network.from_members(space, members)).on(model):
            outputs.append(read(model, IDS))
    for first in range(4):
        for second in range(first):
            assert not torch.equal(outputs[first], outputs[second])


@pytest.mark.parametrize("kind", MIXTURES)
def test_the_output_of_a_mixture_is_that_of_the_whole(kind):
    model = mixture(kind)
    space = find_sites(model, "mlp_out")
    assert space.widths == (WIDTH,) * N_LAYERS
    z = N_LAYERS - 1
    module, seen = projections(model, space)[z], []
    handle = module.register_forward_hook(
        remote_code(lambda m, a, out: seen.append(out[0] if isinstance(out, tuple) else out))
    )
    values = captured(model, space)
    handle.remove()
    assert torch.equal(values[:, columns(space, z)], seen[0].reshape(-1, WIDTH))
    members = torch.zeros(space.n_neurons, dtype=torch.bool)
    members[columns(space, z)][3] = True
    with lmri.lesion(Network.from_members(space, members.numpy())).on(model):
        lesioned = read(model, IDS)
    for one in module.modules():
        if experts.is_fused(one):
            for view in experts.input_weights(one, 3):
                view.zero_()
        elif isinstance(one, torch.nn.Linear) and one.out_features == WIDTH:
            one.weight.data[3] = 0
    torch.testing.assert_close(read(model, IDS), lesioned, atol=model_rounding(model, lesioned), rtol=0)


def test_layers_name_their_block_and_expert_and_widths_may_differ():
    space = find_sites(mixture("DeepseekV3"), "mlp_hidden", experts=[0, 3])
    assert [layer.name for layer in space.layers] == [
        "layer 0",
        "layer 1 expert 0", "layer 1 expert 3", "layer 1 shared expert",
        "layer 2 expert 0", "layer 2 expert 3", "layer 2 shared expert",
    ]  # fmt: skip
    assert space.widths == (HIDDEN, 24, 24, 24, 24, 24, 24)
    assert space.blocks == (0, 1, 1, 1, 2, 2, 2)
    assert type(space).from_dict(space.to_dict()) == space


@pytest.mark.parametrize("chosen", [[0], [0, 1], None])
def test_dense_layers_between_mixtures_keep_the_number_of_their_block(chosen):
    # Or a lesion of them would be looked for in another block, whose prefix holds the intact one.
    model = mixture("Qwen2Moe", num_hidden_layers=4, mlp_only_layers=[0, 2])
    space = find_sites(model, "mlp_hidden", experts=chosen)
    expected = [int(layer.module.split(".")[1]) for layer in space.layers]
    assert list(space.blocks) == expected
    tokenizer, tasks = (
        word_tokenizer(),
        [lmri.lesions.tasks.Perplexity(["the cat sits under a tree", "a small dog runs"])],
    )
    z = max(place for place, block in enumerate(space.blocks) if block == 2)
    network = Network.from_members(space, space.layer_of == z)
    with lmri.lesion(network).on(model):
        by_hand = lmri.evaluate(model, tokenizer, tasks, {}).items
    scores = lmri.evaluate(model, tokenizer, tasks, {"lesion": lmri.lesion(network)}).items
    own = scores[scores["condition"] == "lesion"]["value"].to_numpy()
    close = model_rounding(model, own)
    assert own == pytest.approx(by_hand["value"].to_numpy(), abs=close)
    assert own != pytest.approx(scores[scores["condition"] == "intact"]["value"].to_numpy(), abs=close)


def test_means_and_donors_of_experts_are_refused(tmp_path):
    model = mixture("Mixtral")
    recording = record(model, word_tokenizer(), ["the cat sits", "a dog"], tmp_path, test_fraction=0, site="mlp_hidden")
    network = Network.from_members(recording.space, recording.space.layer_of == 0)
    for baseline in (recording, lmri.ResampleSource.draw(recording)):
        with pytest.raises(ValueError, match="does not run at tokens that are not routed to it"):
            lmri.lesion(network, baseline)


def test_experts_are_chosen_where_they_are_slices_and_nowhere_else(tmp_path):
    model, tokenizer = mixture("Qwen3Moe"), word_tokenizer()
    units, heads = record(
        model, tokenizer, ["the cat sits"], tmp_path / "both", test_fraction=0, site=["mlp_hidden", "attn_heads"],
        experts=[1],
    )  # fmt: skip
    assert {layer.expert for layer in units.space.layers} == {1}
    assert heads.space.n_layers == N_LAYERS
    with pytest.raises(ValueError, match="the neurons at attn_out do not belong to single experts"):
        record(model, tokenizer, ["the cat sits"], tmp_path / "one", site="attn_out", experts=[1])


@pytest.mark.parametrize("how", ["eager", "batched_mm", "grouped_mm"])
def test_every_way_to_compute_experts_gives_the_same_and_is_set_back(how):
    model = mixture("Qwen3Moe")
    expected = captured(model, find_sites(model, "mlp_hidden"))
    model.config._experts_implementation = how
    torch.testing.assert_close(
        captured(model, find_sites(model, "mlp_hidden")), expected, atol=model_rounding(model, expected), rtol=0
    )
    assert model.config._experts_implementation == how


def test_nested_lesions_of_two_experts_are_one_lesion_of_both():
    model = mixture("Olmoe")
    space = find_sites(model, "mlp_hidden")

    def of(*chosen):
        return Network.from_members(space, [one.expert in chosen for one in space.layers for _ in range(one.width)])

    with lmri.lesion(of(0)).on(model), lmri.lesion(of(2)).on(model):
        nested = read(model, IDS)
    with lmri.lesion(of(0, 2)).on(model):
        assert torch.equal(read(model, IDS), nested)


def test_an_offset_changes_no_token_that_an_expert_does_not_see():
    # A unit that does not run cannot be amplified: with all of an expert's tokens gone, nothing changes.
    model = mixture("Mixtral")
    space = find_sites(model, "mlp_hidden")
    ids = IDS[:1, :1]
    seen = captured(model, space, ids).abs()
    unused = [z for z in range(4) if not seen[:, columns(space, z)].any()]
    assert len(unused) == 2
    members = [z in unused for z, layer in enumerate(space.layers) for _ in range(layer.width)]
    intact = captured(model, find_sites(model, "mlp_out"), ids)
    with lmri.amplify(Network.from_members(space, members), offset=5.0).on(model):
        assert torch.equal(captured(model, find_sites_quietly(space, model), ids), intact)


def find_sites_quietly(space, model):
    """Return the other site without its self-test, which would run within the intervention."""
    from lmri.space import Layer, NeuronSpace

    return NeuronSpace(tuple(Layer(f"layer {z}", f"layers.{z}.mlp", WIDTH) for z in range(N_LAYERS)), "mlp_out")


def test_experts_are_recorded(tmp_path):
    model = mixture("GptOss")
    recording = record(
        model, word_tokenizer(), ["the cat sits", "a dog runs"], tmp_path, test_fraction=0, site="mlp_hidden",
        experts=[1], n_dummy=0,
    )  # fmt: skip
    assert recording.space.n_layers == N_LAYERS
    assert recording.space.layers[0].expert == 1
    [values] = list(recording.arrays())
    assert values.shape == (6, N_LAYERS * HIDDEN)


def test_an_expert_that_is_not_there_is_refused():
    with pytest.raises(SiteError, match="Layer 0 has no expert 4; experts are 0 to 3"):
        find_sites(mixture("Mixtral"), "mlp_hidden", experts=[0, 4])


def test_experts_of_a_dense_model_are_refused(gpt2):
    with pytest.raises(SiteError, match=r"experts are \[0\], but 'gpt2' has no separate experts"):
        find_sites(gpt2, "mlp_hidden", experts=[0])


def test_too_many_neurons_at_once_have_to_be_chosen_from(monkeypatch):
    monkeypatch.setattr("lmri.models.sites.finding.MOST_NEURONS", 100)
    with pytest.raises(SiteError, match=r"All experts of 'mixtral' have 672 neurons.*experts=\[0, 1\]"):
        find_sites(mixture("Mixtral"), "mlp_hidden")
    assert find_sites(mixture("Mixtral"), "mlp_hidden", experts=[2]).n_neurons == 168


# -- routers ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", MIXTURES)
def test_the_router_says_who_was_given_which_token_and_with_what_weight(kind):
    model = mixture(kind)
    before = snapshot(model)
    space = find_sites(model, "router")
    values = captured(model, space)
    assert space.widths == (4,) * space.n_layers
    assert ((values != 0).sum(1) == 2 * space.n_layers).all()
    units = find_sites(model, "mlp_hidden")
    activity = captured(model, units)
    for z, layer in enumerate(units.layers):
        if layer.expert is not None:
            own = values[:, columns(space, space.blocks.index(layer.block))][:, layer.expert] != 0
            assert torch.equal(activity[:, columns(units, z)].any(1), own)
    assert_untouched(model, before)


def test_weights_of_a_router_are_those_of_its_softmax():
    model = mixture("Mixtral")
    space = find_sites(model, "router")
    logits = []
    handle = model.model.layers[1].mlp.gate.register_forward_hook(remote_code(lambda m, a, out: logits.append(out[0])))
    values = captured(model, space)
    handle.remove()
    top = logits[0].float().softmax(-1).topk(2)
    expected = torch.zeros_like(values[:, :4]).scatter(1, top.indices, top.values / top.values.sum(-1, keepdim=True))
    torch.testing.assert_close(values[:, 4:8], expected, atol=rounding(expected, 4), rtol=0)


def test_a_router_is_not_lesioned():
    model = mixture("Mixtral")
    space = find_sites(model, "router")
    network = Network.from_members(space, space.neuron_of == 0)
    with pytest.raises(SiteError, match="can be recorded but not changed"), lmri.lesion(network).on(model):
        read(model, IDS)


def test_routing_is_recorded_beside_the_units_in_one_pass(tmp_path):
    units, router = record(
        mixture("Qwen3Moe"), word_tokenizer(), ["the cat sits", "a dog"], tmp_path, test_fraction=0,
        site=["mlp_hidden", "router"], experts=[0, 2],
    )  # fmt: skip
    assert units.n_volumes == router.n_volumes == 3
    assert {layer.expert for layer in units.space.layers} == {0, 2}
    assert router.space.n_neurons == 4 * N_LAYERS


@pytest.mark.parametrize("kind", ["Qwen3Moe", "Mixtral"])
def test_a_routing_table_stands_beside_chosen_experts(tmp_path, kind):
    texts = ["the cat sits", "a dog", "the dog sits on a cat"]
    options = {"test_fraction": 0, "experts": [0, 2]}
    _, router = record(
        mixture(kind), word_tokenizer(), texts, tmp_path / "both", site=["mlp_hidden", "router"], **options
    )
    assert not list((tmp_path / "both").rglob("*desc-routing*"))  # there it is an image
    units = record(mixture(kind), word_tokenizer(), texts, tmp_path / "one", site="mlp_hidden", **options)
    study = lmri.open_study(tmp_path / "one")
    assert [one.space.site for one in study.recordings()] == ["mlp_hidden"]
    assert study.orphans() == study.unfinished() == []
    [path] = (tmp_path / "one").rglob("*desc-routing_timeseries.tsv")
    assert storage.sidecar(path).is_file()
    table = storage.read_table(path, text=[layer.name for layer in router.space.layers])
    assert list(table) == [layer.name for layer in router.space.layers]
    assert len(table) == units.n_volumes == router.n_volumes
    found = np.zeros((len(table), router.space.n_neurons))
    for z, name in enumerate(table):
        for row, cell in enumerate(table[name]):
            pairs = [(int(expert), float(weight)) for expert, weight in (one.split(":") for one in cell.split())]
            assert [weight for _, weight in pairs] == sorted((weight for _, weight in pairs), reverse=True)
            for expert, weight in pairs:
                found[row, router.space.offsets[z] + expert] = weight
    [expected] = router.arrays()
    np.testing.assert_allclose(found, expected, atol=5e-5)  # written with 4 decimals
    assert ((found != 0).sum(axis=1) == 2 * router.space.n_layers).all()
    for number in (1, 2):
        record(
            mixture(kind), word_tokenizer(), texts, tmp_path / "two", site="mlp_hidden", shard=(number, 2), **options
        )
    lmri.merge(tmp_path / "two")
    assert (tmp_path / "two" / path.relative_to(tmp_path / "one")).read_bytes() == path.read_bytes()
    for site in ("mlp_hidden", "router"):  # whose name the table bears, though it belongs to the experts
        record(mixture(kind), word_tokenizer(), texts, tmp_path / "all", site=site, test_fraction=0)
    assert (tmp_path / "all" / path.relative_to(tmp_path / "one")).read_bytes() == path.read_bytes()


def test_a_dense_model_has_no_router(gpt2):
    with pytest.raises(SiteError, match="not a mixture of fused experts"):
        find_sites(gpt2, "router")
