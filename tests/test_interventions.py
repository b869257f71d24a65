"""Interventions: a lesion equals zeroed weights, changes nothing else, and is removed completely."""

import contextlib
import copy
import warnings

import numpy as np
import pytest
import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

from lmri import MatchedControls, Network, NetworkSet, amplify, find_sites, lesion, preserve, record
from lmri.exceptions import NotThresholdedError, OtherWeightsWarning, SiteError, SpaceMismatchError
from lmri.lesions import tasks
from lmri.lesions.baselines import ResampleSource
from lmri.lesions.interventions import Intervention, output_norms
from lmri.models import hashes
from lmri.space import NeuronSpace
from tiny_models import EVERY, EVERY_CAUSAL, N_LAYERS, assert_untouched, build, read, sentences, snapshot
from tolerances import model_rounding, relative, rounding

SITES = ("mlp_out", "mlp_hidden")
IDS = torch.tensor([[5, 6, 7, 8, 9], [30, 31, 32, 33, 34]])


def some(space, seed=0, share=0.2, layers=None, name="some"):
    """Draw a network of random neurons in all or some layers."""
    members = np.random.default_rng(seed).random(space.n_neurons) < share
    if layers is not None:
        members &= np.isin(space.layer_of, layers)
    return Network.from_members(space, members, name)


def only(space, layer, neuron):
    members = np.zeros(space.n_neurons, dtype=bool)
    members[space.index(layer, neuron)] = True
    return Network.from_members(space, members)


def zeroed(model, network):
    """Copy the model with the weights of the neurons of a network set to zero: the oracle of a lesion."""
    copied = copy.deepcopy(model)
    space = network.space
    for z, layer in enumerate(space.layers):
        neurons = torch.from_numpy(np.flatnonzero(network.members[space.layer_of == z]))
        module = copied.base_model.get_submodule(layer.module)
        # (d_ff, d_model) of both kinds: a hidden neuron is a row, an output neuron a column and its bias.
        weight = module.weight.data if isinstance(module, Conv1D) else module.weight.data.T
        if space.site == "mlp_hidden":
            weight[neurons] = 0
        else:
            weight[:, neurons] = 0
            if getattr(module, "bias", None) is not None:
                module.bias.data[neurons] = 0
    return copied


def activation(model, space, ids=IDS):
    """Record the activations at a site with a hook that runs last, ``(n_tokens, n_neurons)``."""
    seen = []
    with contextlib.ExitStack() as stack:
        for layer in space.layers:
            module = model.base_model.get_submodule(layer.module)

            def keep(module, args, output):
                value = args[0] if space.site == "mlp_hidden" else output
                seen.append(value.detach().clone().reshape(-1, value.shape[-1]))

            stack.callback(module.register_forward_hook(keep).remove)
        read(model, ids)
    return torch.cat(seen, dim=1)


@pytest.fixture(params=SITES)
def site(request):
    return request.param


# -- laws, for every architecture -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", EVERY)
def test_a_lesion_is_the_model_with_zeroed_weights(name, site):
    model = build(name)
    network = some(find_sites(model, site))
    intact = read(model, IDS)
    with lesion(network).on(model) as lesioned:
        assert lesioned is model
        got = read(model, IDS)
    # Adding products with 0 is exact, so this holds to the last bit.
    assert torch.equal(got, read(zeroed(model, network), IDS))
    assert (got - intact).abs().max() > 0.01  # the lesion does something


@pytest.mark.parametrize("name", EVERY)
def test_the_model_is_bit_for_bit_itself_afterwards_also_if_the_body_raises(name, site):
    model = build(name)
    network = some(find_sites(model, site))
    before, intact = snapshot(model), read(model, IDS)
    for intervention in (lesion(network), preserve(network), amplify(network, gain=2), amplify(network, offset=1)):
        with intervention.on(model):
            read(model, IDS)
        assert_untouched(model, before)
        with pytest.raises(KeyError), intervention.on(model):
            raise KeyError
        assert_untouched(model, before)
    assert torch.equal(read(model, IDS), intact)


@pytest.mark.parametrize("name", EVERY)
def test_layers_below_a_lesion_are_exactly_unchanged(name, site):
    model = build(name)
    part = model.get_encoder() if model.config.is_encoder_decoder else model
    network = some(find_sites(model, site), layers=[1])

    def hidden_states():
        with torch.no_grad():
            return part(input_ids=IDS, output_hidden_states=True).hidden_states

    intact = hidden_states()
    with lesion(network).on(model):
        lesioned = hidden_states()
    assert len(intact) == len(lesioned) == N_LAYERS + 1
    changed = [not torch.equal(one, other) for one, other in zip(intact, lesioned, strict=True)]
    assert changed == [False, False, True, True]  # the embedding, layer 0, layer 1, layer 2
    assert all(torch.equal(one, other) for one, other in zip(hidden_states(), intact, strict=True))


@pytest.mark.parametrize("name", EVERY)
def test_only_the_neurons_meant_are_written(name, site):
    model = build(name)
    space = find_sites(model, site)
    network = some(space, layers=[0])  # of the layers above, the input itself changes
    first = space.layer_of == 0
    intact = activation(model, space)[:, first]
    for intervention, expected in (
        (lesion(network), torch.zeros_like(intact)),
        (amplify(network, gain=1.5), 1.5 * intact),
        (amplify(network, gain=-1), -intact),
        (amplify(network, offset=0.25), intact + 0.25),
    ):
        with intervention.on(model):
            got = activation(model, space)[:, first]
        members = torch.from_numpy(network.members[first])
        assert torch.equal(got[:, members], expected[:, members])
        assert torch.equal(got[:, ~members], intact[:, ~members])


@pytest.mark.parametrize("name", EVERY)
def test_preserving_a_network_is_a_lesion_of_all_others(name, site):
    model = build(name)
    network = some(find_sites(model, site), share=0.8)
    complement = Network.from_members(network.space, ~network.members)
    with preserve(network).on(model):
        preserved = read(model, IDS)
    with lesion(complement).on(model):
        lesioned = read(model, IDS)
    assert torch.equal(preserved, lesioned)
    with lesion(network).on(model):
        assert not torch.equal(preserved, read(model, IDS))


@pytest.mark.parametrize("name", ["gpt2", "opt", "falcon", "bert"])
def test_lesions_nest(name, site):
    model = build(name)
    space = find_sites(model, site)
    one, other = some(space, 1), some(space, 2)
    both = Network.from_members(space, one.members | other.members)
    assert (one.members & other.members).any()
    with lesion(one).on(model):
        once = read(model, IDS)
        with lesion(one).on(model):
            assert torch.equal(read(model, IDS), once)
        with lesion(other).on(model):
            nested = read(model, IDS)
        assert torch.equal(read(model, IDS), once)  # the inner one is gone, the outer is not
    with lesion(other).on(model), lesion(one).on(model):
        assert torch.equal(read(model, IDS), nested)
    with lesion(both).on(model):
        assert torch.equal(read(model, IDS), nested)
    assert not torch.equal(nested, once)


@pytest.mark.parametrize("name", ["gpt2", "falcon", "bert"])
def test_identity_interventions_register_no_hook(name, site):
    model = build(name)
    space = find_sites(model, site)
    network, empty = some(space), some(space, share=0)
    everything = Network.from_members(space, ~empty.members)
    before, intact = snapshot(model), read(model, IDS)
    for intervention in (
        amplify(network, gain=1),
        amplify(network, offset=0),
        lesion(empty),
        amplify(empty, gain=5),
        amplify(network, offset=0, along_sign=True),
        preserve(everything),
    ):
        assert intervention.edits() == []
        with intervention.on(model):
            assert_untouched(model, before)
            assert torch.equal(read(model, IDS), intact)
    with preserve(empty).on(model):  # the control: of nothing, nothing is left
        assert not torch.equal(read(model, IDS), intact)


@pytest.mark.parametrize("name", EVERY_CAUSAL)
def test_a_lesion_holds_while_text_is_generated(name, site):
    model = build(name)
    network = some(find_sites(model, site), share=0.3)
    options = {"max_new_tokens": 6, "min_new_tokens": 6, "do_sample": False, "pad_token_id": 0}
    options |= {"output_logits": True, "return_dict_in_generate": True}
    with lesion(network).on(model):
        got = model.generate(IDS[:1], **options)
    expected, intact = zeroed(model, network).generate(IDS[:1], **options), model.generate(IDS[:1], **options)
    assert torch.equal(got.sequences, expected.sequences)
    assert all(torch.equal(one, other) for one, other in zip(got.logits, expected.logits, strict=True))
    assert not torch.equal(got.logits[0], intact.logits[0])


# -- baselines --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["gpt2", "llama", "opt", "bert"])
def test_a_lesion_can_leave_the_mean_of_a_recording(tmp_path, tokenizer, name, site):
    model = build(name)
    recording = record(model, tokenizer, sentences(8), tmp_path, site=site)
    space = recording.space
    mean = np.concatenate(list(recording.arrays())).mean(axis=0, dtype=np.float64).astype(np.float32)
    network = some(space)
    intervention = lesion(network, baseline=recording)
    assert intervention.label == "mean of texts"
    with intervention.on(model):
        got = activation(model, space)
    members = torch.from_numpy(network.members)
    torch.testing.assert_close(
        got[:, members], torch.from_numpy(mean)[members].expand(len(got), -1), rtol=0, atol=rounding(mean)
    )
    others = torch.from_numpy(~network.members & (space.layer_of == 0))
    assert torch.equal(got[:, others], activation(model, space)[:, others])
    with preserve(network, baseline=recording).on(model):
        preserved = activation(model, space)
    torch.testing.assert_close(
        preserved[:, ~members], torch.from_numpy(mean)[~members].expand(len(got), -1), rtol=0, atol=rounding(mean)
    )


def test_a_baseline_has_to_be_zero_or_a_recording_of_the_same_neurons(recorded, gpt2):
    network = some(find_sites(gpt2, "mlp_out"))
    with pytest.raises(ValueError, match=r"baseline is 'mean'; accepted values are 'zero', a Recording \(its mean\)"):
        lesion(network, baseline="mean")
    with pytest.raises(SpaceMismatchError, match="The recording of 'words' has 3 layers of 56 neurons at mlp_hidden"):
        lesion(network, baseline=recorded.recording(site="mlp_hidden"))
    assert lesion(network, baseline=recorded.recording(site="mlp_out")).shift.any()


def test_an_infinite_activation_is_silenced_to_zero_and_not_to_nan(gpt2, site):
    # 0 times infinity is not a number.
    mlp = gpt2.transformer.h[1].mlp
    with torch.no_grad():
        if site == "mlp_out":
            mlp.c_proj.bias[4] = float("inf")
        else:
            mlp.c_fc.bias[4] = float("inf")
    space = find_sites(gpt2, site)
    assert not read(gpt2, IDS).isfinite().all()
    with lesion(only(space, 1, 4)).on(gpt2):
        assert activation(gpt2, space)[:, space.index(1, 4)].eq(0).all()
        assert read(gpt2, IDS).isfinite().all()
    with lesion(only(space, 1, 5)).on(gpt2):
        assert not read(gpt2, IDS).isfinite().all()


# -- donors -----------------------------------------------------------------------------------------------------------


def donors_for(space, n=50, seed=0):
    """ResampleSource with values that no model gives, so that each can be told."""
    values = np.random.default_rng(100 + seed).normal(size=(n, space.n_neurons)).astype(np.float32)
    return ResampleSource(space, values, "made", seed)


def places(ids):
    return np.broadcast_to(np.arange(ids.shape[1]), tuple(ids.shape))


def given_to(donors, ids, network):
    """Compute the expected values of the network at every token, ``(n_tokens, n_members)``: the oracle of writes."""
    return torch.from_numpy(donors.values[donors.choose(places(ids), ids.numpy()).ravel()][:, network.members])


@pytest.mark.parametrize("name", EVERY)
def test_a_silenced_neuron_has_its_value_at_the_donor_token(name, site):
    model = build(name)
    space = find_sites(model, site)
    network, donors = some(space), donors_for(space)
    first = torch.from_numpy(space.layer_of == 0)
    intact, before = activation(model, space), snapshot(model)
    with lesion(network, donors).on(model):
        got = activation(model, space)
    members = torch.from_numpy(network.members)
    # One donor a token, in all layers: the same rows of the donors everywhere.
    assert torch.equal(got[:, members], given_to(donors, IDS, network))
    assert torch.equal(got[:, ~members & first], intact[:, ~members & first])
    assert_untouched(model, before)
    with preserve(network, donors).on(model):
        kept = activation(model, space)
    complement = Network.from_members(space, ~network.members)
    assert torch.equal(kept[:, ~members], given_to(donors, IDS, complement))
    assert torch.equal(kept[:, members & first], intact[:, members & first])


def test_a_resampled_forward_pass_is_that_written_by_hand(gpt2, site):
    space = find_sites(gpt2, site)
    network, donors = some(space), donors_for(space)
    with lesion(network, donors).on(gpt2):
        got = read(gpt2, IDS)
    by_hand = copy.deepcopy(gpt2)
    values = donors.values[donors.choose(places(IDS), IDS.numpy())]  # (n_texts, n_tokens, n_neurons)
    for z, block in enumerate(by_hand.transformer.h):
        own = space.layer_of == z
        neurons = torch.from_numpy(np.flatnonzero(network.members[own]))
        written = torch.from_numpy(values[..., own])[..., neurons]

        def forward(hidden, mlp=block.mlp, neurons=neurons, written=written):
            hidden = mlp.act(mlp.c_fc(hidden))
            if site == "mlp_hidden":
                hidden[..., neurons] = written
                return mlp.c_proj(hidden)
            out = mlp.c_proj(hidden)
            out[..., neurons] = written
            return out

        block.mlp.forward = forward
    assert torch.equal(got, read(by_hand, IDS))
    assert not torch.equal(got, read(gpt2, IDS))


@pytest.mark.parametrize("name", ["gpt2", "llama", "opt", "bloom", "bert", "t5_encoder"])
def test_a_text_has_the_same_donors_alone_and_in_a_padded_batch(name, site):
    model = build(name)
    space = find_sites(model, site)
    intervention = lesion(some(space), donors_for(space))
    long = torch.tensor([[5, 6, 7, 8, 9, 10, 11]])
    batch, mask = torch.cat([long, torch.zeros_like(long)]), torch.ones((2, 7), dtype=torch.long)
    batch[1, :5], mask[1, 5:] = IDS[1], 0
    with intervention.on(model), torch.no_grad():
        alone = model(input_ids=IDS[1:])[0]
        padded = model(input_ids=batch, attention_mask=mask)[0]
    torch.testing.assert_close(padded[1, :5], alone[0], rtol=0, atol=model_rounding(model, alone))


def test_pads_on_the_left_do_not_shift_donors(gpt2, site):
    space = find_sites(gpt2, site)
    network, donors = some(space), donors_for(space)
    padded = torch.cat([torch.zeros((2, 3), dtype=torch.long), IDS], dim=1)
    mask = (torch.arange(8) >= 3).long().expand(2, -1)
    members = torch.from_numpy(network.members)
    seen = []
    with lesion(network, donors).on(gpt2), torch.no_grad():
        module = gpt2.transformer.h[2].mlp.c_proj
        handle = module.register_forward_hook(
            lambda module, args, output: seen.append(output if site == "mlp_out" else args[0])
        )
        gpt2(input_ids=padded, attention_mask=mask)
        handle.remove()
    last = torch.from_numpy(space.layer_of == 2)
    expected = given_to(donors, IDS, Network.from_members(space, network.members & (space.layer_of == 2)))
    assert torch.equal(seen[0][:, 3:].reshape(10, -1)[:, members[last]], expected)


@pytest.mark.parametrize("name", EVERY_CAUSAL)
def test_generated_tokens_have_the_donors_of_a_text_read_at_once(name, site):
    # With its cache the model sees one token a step; the donor follows its place in the text.
    model = build(name)
    space = find_sites(model, site)
    options = {"max_new_tokens": 6, "min_new_tokens": 6, "do_sample": False, "pad_token_id": 0}
    options |= {"output_logits": True, "return_dict_in_generate": True}
    with lesion(some(space), donors_for(space)).on(model):
        made = model.generate(IDS[:1], **options)
        again = model.generate(IDS[:1], **options)
        whole = read(model, made.sequences)
    assert torch.equal(made.sequences, again.sequences)
    steps = torch.stack(made.logits, dim=1)
    close = model_rounding(model, whole)
    torch.testing.assert_close(steps, whole[:, IDS.shape[1] - 1 : -1], rtol=0, atol=close)


def test_seeds_are_different_interventions_and_one_seed_is_the_same(recorded, gpt2, site):
    recording = recorded.recording(site=site)
    network = some(recording.space)
    results = []
    for seed in (0, 1, 2, 0):
        donors = ResampleSource.draw(recording, seed=seed, n=40)
        assert lesion(network, donors).label == f"resample of words, seed {seed}"
        with lesion(network, donors).on(gpt2):
            results.append(read(gpt2, IDS))
    assert torch.equal(results[0], results[3])
    assert not any(torch.equal(results[0], other) for other in results[1:3])
    digests = [lesion(network, ResampleSource.draw(recording, seed=seed, n=40)).digest() for seed in (0, 1, 0)]
    assert digests[0] == digests[2] != digests[1]


def test_donors_are_tokens_of_the_recording_with_all_neurons_together(recorded, site):
    recording = recorded.recording(site=site)
    rows = {row.tobytes() for row in np.concatenate(list(recording.arrays()))}
    donors = ResampleSource.draw(recording, seed=3, n=30)
    drawn = [row.tobytes() for row in donors.values]
    assert len(drawn) == 30
    assert set(drawn) <= rows
    assert donors.texts == hashes(recording.fit_texts)
    assert not donors.texts & hashes(recording.test_texts)
    every = ResampleSource.draw(recording, n=10**6)
    assert {row.tobytes() for row in every.values} == rows
    intervention = lesion(some(recording.space), donors)
    assert intervention.fit_texts == donors.texts
    assert lesion(some(recording.space)).fit_texts == frozenset()


def test_every_donor_is_as_likely(gpt2):
    donors = donors_for(find_sites(gpt2), n=20)
    positions, ids = np.meshgrid(np.arange(100), np.arange(100))
    counts = np.bincount(donors.choose(positions, ids).ravel(), minlength=20)
    assert ((counts - 500) ** 2 / 500).sum() < 19 + 4 * np.sqrt(2 * 19)
    # Places and ids beyond the tables are no error.
    assert donors.choose(np.array([10**6]), np.array([2 * 10**6])).shape == (1,)


def test_hooks_of_donors_are_gone_if_the_body_or_the_set_up_fails(gpt2, site, monkeypatch):
    space = find_sites(gpt2, site)
    intervention, before = lesion(some(space), donors_for(space)), snapshot(gpt2)
    with pytest.raises(KeyError), intervention.on(gpt2):
        raise KeyError
    assert_untouched(gpt2, before)

    def fail(*args, **kwargs):
        raise RuntimeError("no more hooks")

    kind = "register_forward_hook" if site == "mlp_out" else "register_forward_pre_hook"
    monkeypatch.setattr(gpt2.transformer.h[2].mlp.c_proj, kind, fail)
    with pytest.raises(RuntimeError, match="no more hooks"), intervention.on(gpt2):
        pytest.fail("the body must not run")
    assert_untouched(gpt2, before)


def test_an_empty_network_has_no_donors_to_wait_for(gpt2, site):
    space = find_sites(gpt2, site)
    empty, before = lesion(some(space, share=0), donors_for(space)), snapshot(gpt2)
    assert empty.edits() == []
    with empty.on(gpt2):
        assert_untouched(gpt2, before)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_donors_come_in_the_format_of_the_model(gpt2, site, dtype):
    gpt2.to(dtype)
    space = find_sites(gpt2, site)
    network, donors = some(space), donors_for(space)
    with lesion(network, donors).on(gpt2):
        got = activation(gpt2, space)
    assert torch.equal(got[:, torch.from_numpy(network.members)], given_to(donors, IDS, network).to(dtype))


def test_a_value_beyond_the_models_format_is_refused(gpt2):
    gpt2.to(torch.float16)
    space = find_sites(gpt2)
    donors = ResampleSource(space, np.full((3, space.n_neurons), 1e5, np.float32), "large")
    for intervention in (lesion(some(space), donors), amplify(some(space), offset=1e5)):
        with (
            pytest.raises(ValueError, match=r"reach 1e\+05, which exceeds the range of float16.*dtype='bfloat16'"),
            intervention.on(gpt2),
        ):
            read(gpt2, IDS)
    other = build("gpt2").to(torch.bfloat16)
    space = find_sites(other)
    with lesion(some(space), ResampleSource(space, donors.values, "large")).on(other):
        assert read(other, IDS).isfinite().all()


def test_gradients_flow_beside_donors_also_after_a_task(gpt2, tokenizer, site):
    space = find_sites(gpt2, site)
    with lesion(some(space), donors_for(space)).on(gpt2):
        tasks.Perplexity(sentences(3)).score(gpt2, tokenizer)
        gpt2(IDS).logits.logsumexp(-1).sum().backward()
    assert gpt2.transformer.wte.weight.grad.abs().max() > 0.1


def test_where_tokens_are_unknown_there_is_no_donor(gpt2):
    space = find_sites(gpt2)
    intervention = lesion(some(space), donors_for(space))
    with intervention.on(gpt2), pytest.raises(ValueError, match=r"given embeddings.*Call the model with input_ids"):
        gpt2(inputs_embeds=torch.zeros(1, 3, 32))
    with intervention.on(gpt2):
        read(gpt2, IDS)
        # Nor does a layer that is called by itself get those of the text before.
        with pytest.raises(ValueError, match="a layer was called by itself"):
            gpt2.transformer.h[0].mlp(torch.zeros(2, 5, 32))


def test_bad_donors_are_refused(recorded, gpt2):
    space = find_sites(gpt2)
    for shape in ((0, space.n_neurons), (3, 5), (space.n_neurons,)):
        with pytest.raises(ValueError, match=r"one row per donor is needed, \(n_donors, 96\)"):
            ResampleSource(space, np.zeros(shape, np.float32), "bad")
    with pytest.raises(ValueError, match="The donors of 'bad'"):
        ResampleSource(space, np.full((1, 96), np.nan, np.float32), "bad")
    with pytest.raises(ValueError, match="n is 0; at least 1 donor"):
        ResampleSource.draw(recorded.recording(site="mlp_out"), n=0)
    with pytest.raises(SpaceMismatchError, match="The recording of 'words' has 3 layers of 56"):
        lesion(some(space), ResampleSource.draw(recorded.recording(site="mlp_hidden")))


def test_a_control_has_the_same_donor_tokens(gpt2, site):
    space = find_sites(gpt2, site)
    donors, other = donors_for(space), some(space, seed=9)
    moved = lesion(some(space), donors).on_other(other)
    with moved.on(gpt2):
        got = activation(gpt2, space)
    assert torch.equal(got[:, torch.from_numpy(other.members)], given_to(donors, IDS, other))


def test_older_interventions_keep_the_hashes_of_stored_scores():
    space = NeuronSpace.build([40, 30])
    network = Network.from_members(space, np.isin(np.arange(70), [3, 17, 39, 41, 69]), "planted")
    assert lesion(network).digest() == "7fe5662111e132e0"
    assert preserve(network).digest() == "f65f5e313b14ff7d"
    assert amplify(network, gain=1.5).digest() == "08d497c4182935a3"
    assert amplify(network, offset=-2).digest() == "377fb33867f3538f"


# -- spared tokens ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", EVERY)
def test_a_lesion_that_spares_every_position_changes_nothing(name, site):
    model = build(name)
    network = some(find_sites(model, site))
    intact, before = read(model, IDS), snapshot(model)
    every = lesion(network, spare_positions=range(5))
    assert every.edits()  # the hooks are there, and give back what they got
    with every.on(model):
        assert torch.equal(read(model, IDS), intact)
    assert_untouched(model, before)
    with lesion(network, spare_positions=range(4)).on(model):  # the control: one token is enough
        assert not torch.equal(read(model, IDS), intact)


@pytest.mark.parametrize("name", EVERY)
def test_spared_tokens_keep_their_bits_and_all_others_are_silenced(name, site):
    model = build(name)
    space = find_sites(model, site)
    network = some(space)
    members, first = torch.from_numpy(network.members), torch.from_numpy(space.layer_of == 0)
    intact, outside = activation(model, space), torch.from_numpy(~network.members)
    place, ids = torch.arange(5).repeat(2), IDS.ravel()
    for options, spared in (
        ({"spare": "sinks"}, place == 0),
        ({"spare_positions": [1, 3]}, (place == 1) | (place == 3)),
        ({"spare_tokens": [7, 34]}, (ids == 7) | (ids == 34)),
        ({"spare": "sinks", "spare_tokens": [7]}, (place == 0) | (ids == 7)),
    ):
        with lesion(network, **options).on(model):
            got = activation(model, space)
        assert torch.equal(got[spared][:, first], intact[spared][:, first])
        assert got[spared][:, members].ne(0).any()
        assert got[~spared][:, members].eq(0).all()
        assert torch.equal(got[~spared][:, first & outside], intact[~spared][:, first & outside])


def test_a_lesion_that_spares_the_first_token_is_that_written_by_hand(gpt2, site):
    space = find_sites(gpt2, site)
    network = some(space)
    with lesion(network, spare="sinks").on(gpt2):
        got = read(gpt2, IDS)
    by_hand = copy.deepcopy(gpt2)
    for z, block in enumerate(by_hand.transformer.h):
        neurons = torch.from_numpy(np.flatnonzero(network.members[space.layer_of == z]))

        def forward(hidden, mlp=block.mlp, neurons=neurons):
            hidden = mlp.act(mlp.c_fc(hidden))
            if site == "mlp_hidden":
                hidden[:, 1:, neurons] = 0
                return mlp.c_proj(hidden)
            out = mlp.c_proj(hidden)
            out[:, 1:, neurons] = 0
            return out

        block.mlp.forward = forward
    assert torch.equal(got, read(by_hand, IDS))
    with lesion(network).on(gpt2):
        assert not torch.equal(got, read(gpt2, IDS))


@pytest.mark.parametrize("name", ["gpt2", "llama", "opt", "bloom", "bert", "t5_encoder"])
def test_a_text_is_spared_alike_alone_and_in_a_padded_batch(name, site):
    model = build(name)
    intervention = lesion(some(find_sites(model, site)), spare_positions=[0, 4])
    long = torch.tensor([[5, 6, 7, 8, 9, 10, 11]])
    batch, mask = torch.cat([long, torch.zeros_like(long)]), torch.ones((2, 7), dtype=torch.long)
    batch[1, :5], mask[1, 5:] = IDS[1], 0
    with intervention.on(model), torch.no_grad():
        alone = model(input_ids=IDS[1:])[0]
        padded = model(input_ids=batch, attention_mask=mask)[0]
    torch.testing.assert_close(padded[1, :5], alone[0], rtol=0, atol=model_rounding(model, alone))


@pytest.mark.parametrize("name", ["gpt2", "opt"])
def test_pads_on_the_left_are_not_the_first_token(name, site):
    model = build(name)
    space = find_sites(model, site)
    network = some(space)
    padded = torch.cat([torch.zeros((2, 3), dtype=torch.long), IDS], dim=1)
    mask = (torch.arange(8) >= 3).long().expand(2, -1)
    seen = []
    module = model.base_model.get_submodule(space.layers[2].module)
    with lesion(network, spare="sinks").on(model), torch.no_grad():
        handle = module.register_forward_hook(
            lambda module, args, output: seen.append(output if site == "mlp_out" else args[0])
        )
        model(input_ids=padded, attention_mask=mask)
        handle.remove()
    silenced = seen[0].reshape(2, 8, -1)[..., torch.from_numpy(network.members[space.layer_of == 2])].eq(0).all(-1)
    assert torch.equal(silenced[:, 3:], torch.tensor([[False, True, True, True, True]] * 2))


@pytest.mark.parametrize("name", EVERY_CAUSAL)
def test_positions_go_on_while_text_is_generated(name, site):
    # With its cache the model sees one token a step, which is not the first.
    model = build(name)
    network = some(find_sites(model, site), share=0.3)
    options = {"max_new_tokens": 5, "min_new_tokens": 5, "do_sample": False, "pad_token_id": 0}
    options |= {"output_logits": True, "return_dict_in_generate": True}
    with lesion(network, spare_positions=[0, 6]).on(model):
        made = model.generate(IDS[:1], **options)
        whole = read(model, made.sequences)
    steps = torch.stack(made.logits, dim=1)
    close = model_rounding(model, whole)
    torch.testing.assert_close(steps, whole[:, IDS.shape[1] - 1 : -1], rtol=0, atol=close)
    with lesion(network).on(model):
        assert not torch.allclose(read(model, made.sequences)[:, 4:-1], steps, rtol=0, atol=close)


def test_a_model_that_runs_tokens_first_is_spared_at_the_right_ones(gpt2, site):
    # ChatGLM hands its MLP (n_tokens, n_texts, width).
    space = find_sites(gpt2, site)
    intervention = lesion(some(space), spare="sinks")
    with intervention.on(gpt2):
        expected = read(gpt2, IDS)
    for block in gpt2.transformer.h:
        mlp = block.mlp
        mlp.forward = lambda hidden, whole=mlp.forward: whole(hidden.transpose(0, 1).contiguous()).transpose(0, 1)
    with intervention.on(gpt2):
        torch.testing.assert_close(read(gpt2, IDS), expected, rtol=0, atol=model_rounding(gpt2, expected))


@pytest.mark.parametrize("name", ["gpt2", "opt"])
def test_sparing_goes_with_donors_and_with_other_interventions(name, site):
    model = build(name)
    space = find_sites(model, site)
    one, other, donors = some(space, 1), some(space, 2), donors_for(space)
    members, rows = torch.from_numpy(one.members), torch.arange(5).repeat(2) == 0
    with lesion(one, donors, spare="sinks").on(model):
        got = activation(model, space)
    given = given_to(donors, IDS, one)
    assert torch.equal(got[~rows][:, members], given[~rows])
    assert not torch.isin(got[rows][:, members], given[rows]).any()
    # Two that spare different tokens: every token has what the one that touches it does.
    before = snapshot(model)
    with lesion(one, spare="sinks").on(model), lesion(one, spare_positions=range(1, 5)).on(model):
        nested = read(model, IDS)
        with lesion(other, spare_positions=range(5)).on(model):
            assert torch.equal(read(model, IDS), nested)
    with lesion(one).on(model):
        assert torch.equal(read(model, IDS), nested)
    assert_untouched(model, before)


def test_other_interventions_and_controls_spare_alike(gpt2, site):
    space = find_sites(gpt2, site)
    network, first = some(space), torch.from_numpy(space.layer_of == 0)
    intact, rows = activation(gpt2, space)[:, first], torch.arange(5).repeat(2) == 0
    for made in (
        preserve(network, spare="sinks"),
        amplify(network, gain=3, spare="sinks"),
        amplify(network, offset=1, spare="sinks"),
        amplify(network, offset=1, along_sign=True, spare="sinks"),
        lesion(network, spare="sinks").on_other(some(space, 9)),
    ):
        assert made.label.endswith(", first token spared")
        with made.on(gpt2):
            got = activation(gpt2, space)[:, first]
        assert torch.equal(got[rows], intact[rows])
        changed = torch.from_numpy(made.changed)[first]
        assert not (got[~rows][:, changed] == intact[~rows][:, changed]).all()
        assert torch.equal(got[:, ~changed], intact[:, ~changed])


def test_positions_of_embeddings_are_counted_and_tokens_in_them_are_unknown(gpt2, site):
    network = some(find_sites(gpt2, site))
    with torch.no_grad():
        embeddings = gpt2.transformer.wte(IDS)
    with lesion(network, spare="sinks").on(gpt2), torch.no_grad():
        assert torch.equal(gpt2(inputs_embeds=embeddings).logits, read(gpt2, IDS))
    with (
        lesion(network, spare_tokens=[5]).on(gpt2),
        pytest.raises(ValueError, match=r"given embeddings, which contain no token ids.*Call the model with input_ids"),
    ):
        gpt2(inputs_embeds=embeddings)
    with lesion(network, spare="sinks").on(gpt2):
        read(gpt2, IDS)
        with pytest.raises(ValueError, match="The tokens to spare are unknown: a layer was called by itself"):
            gpt2.transformer.h[0].mlp(torch.zeros(2, 5, 32))


def test_what_is_spared_is_in_the_label_and_in_the_hash():
    space = NeuronSpace.build([40, 30])
    network = Network.from_members(space, np.isin(np.arange(70), [3, 17, 39, 41, 69]), "planted")
    assert lesion(network, spare="sinks").label == "zero, first token spared"
    assert lesion(network, spare_positions=[4, 2]).label == "zero, positions 2, 4 spared"
    assert lesion(network, spare="sinks", spare_tokens=[9]).label == "zero, first token and token id 9 spared"
    assert amplify(network, gain=2, spare_positions=range(9)).label == "gain 2, 9 positions spared"
    made = [{}, {"spare": "sinks"}, {"spare_positions": [1]}, {"spare_tokens": [0]}, {"spare_tokens": [1]}]
    made += [{"spare_positions": range(9)}, {"spare_positions": range(1, 10)}]
    digests = [lesion(network, **options).digest() for options in made]
    assert len(set(digests)) == len(made)
    # One thing said in two ways is one thing, and nothing spared is as if nothing was said.
    assert lesion(network, spare_positions=[0, 0]).digest() == digests[1]
    assert lesion(network, spare_positions=[], spare_tokens=[]).digest() == "7fe5662111e132e0"
    with pytest.raises(ValueError, match=r"spare is 'first'; it must be 'sinks'"):
        lesion(network, spare="first")
    for wrong in ([-1], [1.5], ["0"], [True]):
        with pytest.raises(ValueError, match=r"spare_positions contains .*; use integers of at least 0"):
            preserve(network, spare_positions=wrong)


# -- what neurons write with ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", EVERY)
def test_output_norms_are_what_one_active_neuron_writes(name):
    model = build(name)
    space = find_sites(model, "mlp_hidden")
    norms = output_norms(model, space)
    assert norms.shape == (space.n_neurons,)
    for z in (0, space.n_layers - 1):
        module = model.base_model.get_submodule(space.layers[z].module)
        with torch.no_grad():
            written = module(torch.eye(space.widths[z])) - module(torch.zeros(1, space.widths[z]))
        np.testing.assert_allclose(
            norms[space.layer_of == z], written.pow(2).sum(-1).numpy(), rtol=relative(space.widths[z], np.float32)
        )


def test_output_norms_need_weights_that_can_be_read(gpt2):
    with pytest.raises(ValueError, match="only neurons at 'mlp_hidden' and 'attn_heads' have output weights"):
        output_norms(gpt2, find_sites(gpt2))
    space = find_sites(gpt2, "mlp_hidden")
    with pytest.raises(SiteError, match=r"has layers of width \[40, 40, 40\]"):
        output_norms(build("gpt2", hidden=40), space)
    with pytest.raises(SiteError, match="cannot be read: they are quantized or offloaded"):
        output_norms(gpt2.to("meta"), space)


# -- amplification ----------------------------------------------------------------------------------------------------


def test_exactly_one_of_gain_and_offset_is_given(gpt2):
    network = some(find_sites(gpt2))
    for wrong in ({}, {"gain": 2, "offset": 1}, {"gain": 1, "offset": 0}):
        with pytest.raises(ValueError, match="exactly one is needed"):
            amplify(network, **wrong)
    for wrong in ({"gain": float("inf")}, {"offset": float("nan")}):
        with pytest.raises(ValueError, match="it must be finite"):
            amplify(network, **wrong)
    assert amplify(network, gain=1.5).label == "gain 1.5"
    assert amplify(network, offset=-2).label == "offset -2"


def signed(space, seed=0):
    rng = np.random.default_rng(seed)
    weights = rng.normal(size=space.n_neurons).astype(np.float32)
    weights[0] = 0  # a member without a direction stays where it is
    members = (rng.random(space.n_neurons) < 0.3) | (np.arange(space.n_neurons) == 0)
    return Network(space, weights, members, "signed")


@pytest.mark.parametrize("name", ["gpt2", "llama", "opt"])
def test_an_offset_goes_along_the_sign_of_the_weights_only_if_asked(name, site):
    model = build(name)
    space = find_sites(model, site)
    network = signed(space)
    first = space.layer_of == 0
    intact = activation(model, space)[:, first]
    along, constant = amplify(network, offset=0.5, along_sign=True), amplify(network, offset=0.5)
    assert (along.label, constant.label) == ("offset 0.5 along sign", "offset 0.5")
    assert along.digest() != constant.digest()
    for intervention, step in ((along, 0.5 * np.sign(network.weights)), (constant, np.full(space.n_neurons, 0.5))):
        with intervention.on(model):
            got = activation(model, space)[:, first]
        expected = intact + torch.from_numpy(np.where(network.members, step, 0)[first].astype(np.float32))
        assert torch.equal(got, expected)


def test_the_control_of_an_offset_along_the_sign_goes_along_its_own(gpt2):
    network = signed(find_sites(gpt2))
    control = MatchedControls().draw(network, 0, 0)
    moved = amplify(network, offset=2, along_sign=True).on_other(control)
    assert moved.label == "offset 2 along sign"
    shifts = moved.shift[control.members]
    assert sorted(shifts) == sorted(2 * np.sign(network.weights[network.members]))
    assert (shifts < 0).any()
    # A constant offset has no sign to follow.
    assert set(amplify(network, offset=2).on_other(control).shift[control.members]) == {2.0}
    for wrong in ({"gain": 2}, {"offset": -1}):
        with pytest.raises(ValueError, match="along_sign needs an offset of at least 0"):
            amplify(network, along_sign=True, **wrong)


def test_a_gain_of_zero_is_a_lesion(gpt2, site):
    network = some(find_sites(gpt2, site))
    with amplify(network, gain=0).on(gpt2):
        muted = read(gpt2, IDS)
    with lesion(network).on(gpt2):
        assert torch.equal(read(gpt2, IDS), muted)


# -- hooks: set up whole or not at all --------------------------------------------------------------------------------


def test_nothing_stays_behind_when_the_set_up_fails_half_way(gpt2, site, monkeypatch):
    network = some(find_sites(gpt2, site))
    before = snapshot(gpt2)

    def fail(*args, **kwargs):
        raise RuntimeError("no more hooks")

    kind = "register_forward_hook" if site == "mlp_out" else "register_forward_pre_hook"
    monkeypatch.setattr(gpt2.transformer.h[2].mlp.c_proj, kind, fail)
    with pytest.raises(RuntimeError, match="no more hooks"), lesion(network).on(gpt2):
        pytest.fail("the body must not run")
    assert_untouched(gpt2, before)
    monkeypatch.undo()
    with lesion(network).on(gpt2):  # the control: three hooks, one a layer
        n_hooks = [sum(sum(counts) for counts in state["hooks"].values()) for state in (before, snapshot(gpt2))]
    assert n_hooks[1] - n_hooks[0] == N_LAYERS


def test_nothing_stays_behind_when_the_last_layer_is_missing(gpt2, site):
    network = some(find_sites(gpt2, site))
    gpt2.transformer.h[2].mlp.c_proj = nn.Identity()
    before = snapshot(gpt2)
    with pytest.raises(SpaceMismatchError), lesion(network).on(gpt2):
        pytest.fail("the body must not run")
    assert_untouched(gpt2, before)


def test_hooks_of_others_stay_and_so_do_those_of_transformers(gpt2, site):
    calls = []
    network = some(find_sites(gpt2, site))
    gpt2.transformer.h[1].mlp.c_proj.register_forward_hook(lambda *_: calls.append(1))
    with torch.no_grad():
        before = gpt2(IDS, output_hidden_states=True, output_attentions=True)
        with lesion(network).on(gpt2):
            within = gpt2(IDS, output_hidden_states=True)
        after = gpt2(IDS, output_hidden_states=True)
    assert len(before.hidden_states) == len(within.hidden_states) == len(after.hidden_states) == N_LAYERS + 1
    assert torch.equal(before.logits, after.logits)
    assert not torch.equal(before.logits, within.logits)
    assert len(calls) == 3


@pytest.mark.parametrize("name", ["gpt2", "opt", "falcon", "bert"])
def test_the_models_own_tensors_are_never_written_to(name, site):
    # Whoever holds an activation, such as a hook that came first, keeps what the model computed.
    model = build(name)
    space, held, copies = find_sites(model, site), [], []
    module = model.base_model.get_submodule(space.layers[0].module)

    def hold(value):
        held.append(value)
        copies.append(value.clone())

    if site == "mlp_out":
        module.register_forward_hook(lambda module, args, output: hold(output))
    else:
        module.register_forward_pre_hook(lambda module, args: hold(args[0]))
    network = some(space)
    for intervention in (lesion(network), amplify(network, gain=2)):
        with intervention.on(model):
            read(model, IDS)
        assert torch.equal(held[-1], copies[-1])


def test_one_intervention_can_be_used_again_and_on_other_models(gpt2, site):
    space = find_sites(gpt2, site)
    intervention = lesion(some(space))
    results = []
    for model in (gpt2, gpt2, build("gpt2")):
        with intervention.on(model):
            results.append(read(model, IDS))
    assert torch.equal(results[0], results[1])
    assert torch.equal(results[0], results[2])


def test_gradients_flow_also_after_a_task_was_scored(gpt2, tokenizer, site):
    # Tasks run in inference mode, whose tensors autograd refuses.
    network = some(find_sites(gpt2, site))
    oracle = zeroed(gpt2, network)
    oracle(IDS).logits.logsumexp(-1).sum().backward()
    for intervention in (lesion(network), amplify(network, gain=0)):
        gpt2.zero_grad()
        with intervention.on(gpt2):
            tasks.Perplexity(sentences(3)).score(gpt2, tokenizer)
            gpt2(IDS).logits.logsumexp(-1).sum().backward()
        got, expected = gpt2.transformer.wte.weight.grad, oracle.transformer.wte.weight.grad
        torch.testing.assert_close(got, expected, rtol=0, atol=model_rounding(gpt2, expected))
        assert got.abs().max() > 0.1


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_activations_keep_their_number_format(gpt2, site, dtype):
    gpt2.to(dtype)
    space = find_sites(gpt2, site)
    with lesion(some(space)).on(gpt2):
        lesioned = read(gpt2, IDS)
    assert lesioned.dtype == dtype
    torch.testing.assert_close(lesioned, read(zeroed(gpt2, some(space)), IDS), rtol=0, atol=0)
    with amplify(only(space, 0, 3), gain=2).on(gpt2):
        assert activation(gpt2, space).dtype == dtype


# -- what is refused --------------------------------------------------------------------------------------------------


def test_a_map_without_a_threshold_is_refused(gpt2):
    space = find_sites(gpt2)
    weights = np.random.default_rng(0).normal(size=(2, space.n_neurons)).astype(np.float32)
    maps = NetworkSet(space, weights)
    for make in (lesion, preserve, lambda network: amplify(network, gain=2)):
        with pytest.raises(NotThresholdedError, match="Threshold first"):
            make(maps[0])
        assert make(maps.threshold("z", z=2.0)[0]).edits()


def test_a_set_of_networks_is_refused_with_what_to_do(gpt2):
    space = find_sites(gpt2)
    networks = NetworkSet(space, np.eye(2, space.n_neurons, dtype=np.float32)).threshold("support")
    for make in (lesion, preserve, lambda network: amplify(network, gain=2)):
        with pytest.raises(TypeError, match=r"takes one network.*networks.union\(\)"):
            make(networks)
    assert lesion(networks.union()).target.n_neurons == 2


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("gpt2", {"width": 40, "hidden": 64}),
        ("gpt2", {"layers": N_LAYERS + 1}),
        ("gpt2", {"layers": N_LAYERS - 1}),
        ("llama", {}),
        ("gptj", {}),  # h.0 to h.2 too, of the same widths; but another module
        ("bert", {}),
    ],
)
def test_a_model_of_another_geometry_is_refused_and_left_alone(gpt2, site, name, changes):
    network, model = some(find_sites(gpt2, site)), build(name, **changes)
    before = snapshot(model)
    with pytest.raises(SpaceMismatchError, match="Use the model that was recorded"), lesion(network).on(model):
        pytest.fail("the body must not run")
    assert_untouched(model, before)


def test_other_weights_on_the_same_geometry_warn_and_strictly_are_refused(gpt2, site):
    network, other = some(find_sites(gpt2, site)), build("gpt2", seed=1)
    before = snapshot(other)
    with (
        pytest.warns(OtherWeightsWarning, match="has the geometry of the recorded model .*, but other weights"),
        lesion(network).on(other),
    ):
        lesioned = read(other, IDS)
    assert torch.equal(lesioned, read(zeroed(other, network), IDS))
    with pytest.raises(SpaceMismatchError, match="other weights"), lesion(network).on(other, strict=True):
        pytest.fail("the body must not run")
    assert_untouched(other, before)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with lesion(network).on(gpt2, strict=True):
            pass


def test_a_classifier_on_the_same_body_takes_networks_of_the_language_model(gpt2, site):
    network = some(find_sites(gpt2, site))
    classifier = build("gpt2", head="GPT2ForSequenceClassification", pad_token_id=0)
    intact = read(classifier, IDS)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # the body is the same, so not even a warning
        with lesion(network).on(classifier, strict=True):
            lesioned = read(classifier, IDS)
    assert torch.equal(lesioned, read(zeroed(classifier, network), IDS))
    assert not torch.equal(lesioned, intact)


def test_an_intervention_says_what_it_is_and_moves_to_other_neurons(gpt2):
    space = find_sites(gpt2)
    network, other = some(space), only(space, 0, 3)
    intervention = preserve(network)
    n_changed = space.n_neurons - network.n_neurons
    assert repr(intervention) == f"<preserve (zero) of 'some': {n_changed} neurons changed>"
    moved = amplify(network, gain=3).on_other(other)
    assert isinstance(moved, Intervention)
    assert [(edit.module, list(edit.neurons), list(edit.scale), list(edit.shift)) for edit in moved.edits()] == [
        ("h.0.mlp.c_proj", [3], [3.0], [0.0])
    ]
