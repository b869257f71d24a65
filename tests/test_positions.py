"""Interventions at chosen tokens only, also while text is generated with a cache of keys and values."""

import numpy as np
import pytest
import torch
import transformers

import lmri
from lmri import find_sites
from lmri.networks import Network
from tiny_models import assert_untouched, build, randomize, snapshot
from tolerances import model_rounding

PROMPT = torch.tensor([[5, 6, 7, 8, 9]])
STEPS = [11, 12, 13]


def network_of(model, site="mlp_hidden"):
    space = find_sites(model, site)
    rng = np.random.default_rng(0)
    return Network.from_members(space, rng.random(space.n_neurons) < 0.3)


def generated(model, lesions):
    """Return the logits of a prompt and of each generation step; `lesions` lists the intervention of each pass."""
    cache, logits = None, []
    for number, ids in enumerate([PROMPT, *(torch.tensor([[step]]) for step in STEPS)]):
        with lesions(number), torch.no_grad():
            made = model(input_ids=ids, past_key_values=cache, use_cache=True)
        cache = made.past_key_values
        logits.append(made.logits)
    return torch.cat(logits, dim=1)


def whole(intervention, model):
    """Apply one intervention over all passes, as around `generate`."""
    with intervention.on(model):
        return generated(model, lambda number: torch.no_grad())


@pytest.mark.parametrize("name", ["gpt2", "llama", "opt", "bloom"])
@pytest.mark.parametrize("positions", ["prompt", "generated"])
def test_the_prompt_and_what_is_generated_from_it_are_told_apart(name, positions):
    model = build(name)
    network = network_of(model)
    plain = lmri.lesion(network)
    before = snapshot(model)

    def by_hand(number):
        return plain.on(model) if (number == 0) == (positions == "prompt") else torch.no_grad()

    expected = generated(model, by_hand)
    made = whole(lmri.lesion(network, positions=positions), model)
    assert torch.equal(made, expected)
    assert_untouched(model, before)
    # A lesion of all is another, and so is none.
    assert not torch.equal(made, whole(plain, model))
    assert not torch.equal(made, generated(model, lambda number: torch.no_grad()))


def test_the_last_token_of_every_pass_is_the_only_one_to_change():
    model = build("gpt2")
    network = network_of(model, "mlp_out")
    with lmri.lesion(network, positions="last").on(model), torch.no_grad():
        last = model(PROMPT).logits
    with lmri.lesion(network, positions=[4]).on(model), torch.no_grad():
        fourth = model(PROMPT).logits
    with torch.no_grad():
        intact = model(PROMPT).logits
    assert torch.equal(last, fourth)
    assert torch.equal(last[:, :4], intact[:, :4])  # a causal model sees nothing of it before
    assert not torch.equal(last[:, 4], intact[:, 4])


@pytest.mark.parametrize("left", [False, True])
def test_the_last_token_is_that_of_each_text_wherever_its_pads_are(left):
    model = build("llama")
    network = network_of(model)
    intervention = lmri.lesion(network, positions="last")
    alone = []
    for ids in (PROMPT, PROMPT[:, :3]):
        with intervention.on(model), torch.no_grad():
            alone.append(model(ids).logits[0, -1])
    pads = torch.zeros((1, 2), dtype=torch.long)
    short = torch.cat([pads, PROMPT[:, :3]] if left else [PROMPT[:, :3], pads], dim=1)
    mask = torch.ones((2, 5), dtype=torch.long)
    mask[1, slice(0, 2) if left else slice(3, 5)] = 0
    with intervention.on(model), torch.no_grad():
        logits = model(torch.cat([PROMPT, short]), attention_mask=mask).logits
    torch.testing.assert_close(logits[0, 4], alone[0], atol=model_rounding(model, alone[0]), rtol=0)
    torch.testing.assert_close(logits[1, 4 if left else 2], alone[1], atol=model_rounding(model, alone[1]), rtol=0)


def test_places_go_on_behind_the_prompt():
    model = build("gpt2")
    network = network_of(model)
    plain = lmri.lesion(network)
    expected = generated(model, lambda number: plain.on(model) if number == 2 else torch.no_grad())
    assert torch.equal(whole(lmri.lesion(network, positions=[6]), model), expected)


def test_a_sink_is_spared_among_the_chosen_too():
    model = build("gpt2")
    network = network_of(model)
    with lmri.lesion(network, positions="prompt", spare="sinks").on(model), torch.no_grad():
        made = model(PROMPT).logits
    with lmri.lesion(network, positions=[1, 2, 3, 4]).on(model), torch.no_grad():
        assert torch.equal(model(PROMPT).logits, made)


def test_labels_and_digests_tell_them_apart():
    network = network_of(build("gpt2"))
    made = [
        lmri.lesion(network),
        lmri.lesion(network, spare="sinks"),
        *(lmri.lesion(network, positions=one) for one in ("prompt", "generated", "last", [0], [0, 1])),
        lmri.lesion(network, positions="prompt", spare="sinks"),
    ]
    assert len({one.digest() for one in made}) == len({one.label for one in made}) == len(made)
    assert made[2].label == "zero, prompt only"
    assert made[-1].label == "zero, prompt only, first token spared"


def test_a_model_without_a_cache_cannot_tell_a_prompt():
    config = transformers.OpenAIGPTConfig(vocab_size=96, n_embd=32, n_layer=3, n_head=4, n_positions=64)
    model = randomize(transformers.OpenAIGPTLMHeadModel(config))
    network = network_of(model)
    with (
        pytest.raises(ValueError, match="has no key-value cache"),
        lmri.lesion(network, positions="prompt").on(model),
    ):
        pass
    with lmri.lesion(network, positions=[0]).on(model):
        model(PROMPT)


@pytest.mark.parametrize(
    ("positions", "message"),
    [
        ("first", "positions is 'first'; choose from 'prompt', 'generated', 'last', positions"),
        ([], "positions is empty"),
        ([-1], "positions contains -1"),
        ([1.5], r"positions contains 1\.5"),
    ],
)
def test_positions_that_mean_nothing_are_refused(positions, message):
    with pytest.raises(ValueError, match=message):
        lmri.lesion(network_of(build("gpt2")), positions=positions)
