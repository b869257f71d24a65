"""Controls: draws have the stated properties, energy is matched, and remaining imbalance is reported."""

import copy
import itertools
import json
from collections import Counter

import numpy as np
import pytest
import torch

from lmri import MatchedControls, Network
from lmri.exceptions import SpaceMismatchError
from lmri.lesions.controls import (
    Controls,
    EnergyMatchedControls,
    PermutedControls,
    SharedControls,
    moments,
    random_share,
    removed_energy,
)
from lmri.lesions.controls.energy import cut
from lmri.lesions.interventions import output_norms
from lmri.space import NeuronSpace
from tiny_models import build
from tolerances import relative

SPACE = NeuronSpace.build([200] * 4)


def network_of(space, members, name="net", weights=None):
    members = np.asarray(members, dtype=bool)
    weights = members.astype(np.float32) if weights is None else weights.astype(np.float32)
    return Network(space, weights, members, name)


def some(space=SPACE, share=0.1, seed=0):
    rng = np.random.default_rng(seed)
    return network_of(space, rng.random(space.n_neurons) < share, weights=rng.normal(size=space.n_neurons))


def skewed(space=SPACE, seed=0, sd=1.0):
    """Draw energies with a long tail and a different scale in every layer, as in trained models."""
    rng = np.random.default_rng(seed)
    return np.exp(sd * rng.normal(size=space.n_neurons) + 2 * space.layer_of)


def strong(energy, space=SPACE, n=12, slope=1.0, seed=1):
    """Select a network that prefers high-energy neurons in every layer."""
    rng = np.random.default_rng(seed)
    members = np.zeros(space.n_neurons, dtype=bool)
    for z in range(space.n_layers):
        own = np.flatnonzero(space.layer_of == z)
        chance = energy[own] ** slope
        members[rng.choice(own, size=n, replace=False, p=chance / chance.sum())] = True
    return network_of(space, members, "strong", rng.normal(size=space.n_neurons))


FAMILIES = [MatchedControls(5), PermutedControls(5), EnergyMatchedControls(SPACE, skewed(), n=5)]


@pytest.fixture(params=FAMILIES, ids=lambda one: one.family)
def controls(request):
    return request.param


# -- laws of all families ---------------------------------------------------------------------------------------------


def test_a_control_has_as_many_neurons_in_every_layer(controls):
    network = some()
    for number in range(20):
        control = controls.draw(network, number, seed=3)
        assert control.kind == "control"
        assert control.layer_profile().tolist() == network.layer_profile().tolist()
        assert control.space is network.space
    assert not np.array_equal(controls.draw(network, 0, 3).members, network.members)


def test_a_draw_depends_on_number_and_seed_and_on_nothing_else(controls):
    network = some()
    first = controls.draw(network, 4, seed=1).members
    for number in (9, 0, 4):
        last = controls.draw(network, number, seed=1).members
    np.testing.assert_array_equal(first, last)
    others = [controls.draw(network, 5, seed=1), controls.draw(network, 4, seed=2)]
    assert not any(np.array_equal(first, other.members) for other in others)


def test_draws_of_one_number_are_controls_of_all_networks_at_once(controls):
    # What the largest effect of several networks is compared with has to overlap as they do.
    one, two = some(share=0.05, seed=1), some(share=0.05, seed=2)
    apart = network_of(SPACE, two.members & ~one.members)
    both = network_of(SPACE, one.members | apart.members, "union")
    for number in range(5):
        drawn = [controls.draw(network, number, 3).members for network in (one, apart, both)]
        assert not (drawn[0] & drawn[1]).any()
        np.testing.assert_array_equal(drawn[0] | drawn[1], drawn[2])


def test_a_control_has_the_weights_of_the_network_layer_by_layer(controls):
    # So that an offset along the sign raises and lowers as many neurons of each layer.
    network = some()
    control = controls.draw(network, 0, 0)
    assert not control.weights[~control.members].any()
    for z in range(SPACE.n_layers):
        own = SPACE.layer_of == z
        np.testing.assert_array_equal(
            np.sort(control.weights[own & control.members]), np.sort(network.weights[own & network.members])
        )


def test_the_expected_overlap_is_that_of_many_draws(controls):
    network = some(share=0.3)
    shares = [
        (controls.draw(network, number, 0).members & network.members).sum() / network.n_neurons for number in range(300)
    ]
    error = np.std(shares) / np.sqrt(len(shares))
    assert abs(np.mean(shares) - controls.expected_overlap(network)) < 4 * error


def test_an_empty_network_has_empty_controls(controls):
    empty = network_of(SPACE, np.zeros(SPACE.n_neurons))
    assert controls.draw(empty, 0, 0).n_neurons == 0
    assert controls.expected_overlap(empty) == 0
    assert controls.unavailable_reason(empty) == ""


def test_identities_are_json_and_differ(controls):
    protocol: Controls = controls
    assert set(json.loads(json.dumps(protocol.identity()))) == set(protocol.identity())
    families = [*FAMILIES, MatchedControls(6), EnergyMatchedControls(SPACE, skewed(), n=5, baseline="mean")]
    families += [EnergyMatchedControls(SPACE, skewed(seed=1), n=5), EnergyMatchedControls(SPACE, skewed(), 5, ratio=2)]
    identities = [json.dumps(one.identity(), sort_keys=True) for one in families]
    assert len(set(identities)) == len(identities)
    # Energies that rounding changes in the last digit give the same draws, and so the same identity.
    again = EnergyMatchedControls(SPACE, skewed() * (1 + 1e-15), n=5)
    assert again.identity() == FAMILIES[2].identity()


@pytest.mark.parametrize("n", [0, -3])
def test_the_number_of_draws_must_be_positive(n):
    for make in (MatchedControls, PermutedControls, lambda n: EnergyMatchedControls(SPACE, skewed(), n)):
        with pytest.raises(ValueError, match=f"n is {n}; it must be at least 1"):
            make(n)


def test_every_set_is_as_likely_and_as_many_as_said():
    # p is exact only if the network could have been drawn as well as any other set.
    space = NeuronSpace.build([4, 4])
    energy = np.array([10, 9, 8, 7.0, 1, 1, 50, 50])
    network = network_of(space, [1, 0, 0, 0, 1, 1, 1, 0])
    for controls, n_sets in (
        (MatchedControls(), 4 * 4),
        (PermutedControls(), 12),
        (EnergyMatchedControls(space, energy, ratio=1.5), 4 * 1 * 2),
    ):
        assert controls.n_possible(network) == n_sets
        counts = Counter(controls.draw(network, number, 0).members.tobytes() for number in range(1500))
        assert len(counts) == n_sets
        assert network.members.tobytes() in counts
        expected = 1500 / n_sets
        assert sum((count - expected) ** 2 / expected for count in counts.values()) < n_sets + 4 * np.sqrt(2 * n_sets)


# -- (a) layer and size -----------------------------------------------------------------------------------------------


def test_draws_by_layer_and_size_are_the_same_in_every_version():
    # Stored scores hold them.
    space = NeuronSpace.build([40, 30])
    members = np.isin(np.arange(70), [3, 17, 39, 41, 69])
    network = Network.from_members(space, members, "planted")
    drawn = {number: MatchedControls().draw(network, number, seed=5) for number in (0, 7)}
    assert np.flatnonzero(drawn[0].members).tolist() == [6, 8, 9, 50, 53]
    assert np.flatnonzero(drawn[7].members).tolist() == [2, 20, 29, 40, 55]
    assert drawn[7].name == "planted-control-007"
    assert MatchedControls(7).identity() == {"n": 7, "match": ("layer", "size"), "draws": "joint"}
    assert MatchedControls().family == "layer+size"


def test_a_network_of_whole_layers_has_no_control():
    whole = network_of(SPACE, SPACE.layer_of < 2, "halves")
    for controls in FAMILIES:
        assert controls.n_possible(whole) == 1
        assert controls.unavailable_reason(whole).startswith("'halves' has no control: no other neurons ")
    nearly = whole.members.copy()
    nearly[0] = False
    note = MatchedControls(500).note(network_of(SPACE, nearly))
    assert note == (
        "only 200 different sets can be drawn, so p cannot be much below 0.005; "
        "controls share 100% of their neurons with the network"
    )
    assert MatchedControls(500).note(some()) == MatchedControls(500).unavailable_reason(some()) == ""


def test_the_papers_share_is_of_all_neurons():
    drawn = random_share(SPACE, 0.15, seed=0)
    assert (drawn.n_neurons, drawn.kind, drawn.name) == (120, "random", "random-15%")
    with pytest.raises(ValueError, match="share is 15; it must lie between 0 and 1"):
        random_share(SPACE, 15, seed=0)


# -- (b) removed energy -----------------------------------------------------------------------------------------------


def test_removed_energy_is_matched_where_layer_and_size_leave_it_apart():
    energy = skewed()
    network, controls = strong(energy), EnergyMatchedControls(SPACE, energy)
    balance = controls.balance(network)
    assert balance.smd_before > 0.5
    assert abs(balance.smd_after) < 0.1
    assert balance.energy_before > 1.5
    assert balance.energy_after == pytest.approx(1, abs=0.1)  # within a tenth, as the two limits above and below

    # The same, from draws: the difference of mean log energy, in standard deviations within layers.
    def smd(family):
        logs = np.log(energy) - 2 * SPACE.layer_of
        drawn = [logs[family.draw(network, number, 0).members].mean() for number in range(200)]
        return (logs[network.members].mean() - np.mean(drawn)) / logs.std()

    assert smd(MatchedControls()) > 0.5
    assert abs(smd(controls)) < 0.1


def test_the_balance_is_what_draws_have_on_average():
    energy = skewed()
    network, controls = strong(energy, slope=2.0), EnergyMatchedControls(SPACE, energy, ratio=3.0)
    balance = controls.balance(network)
    removed = [energy[controls.draw(network, number, 0).members].sum() for number in range(400)]
    expected = energy[network.members].sum() / balance.energy_after
    assert abs(np.mean(removed) - expected) < 4 * np.std(removed) / np.sqrt(len(removed))
    assert balance.overlap == pytest.approx(controls.expected_overlap(network))
    assert balance.row()["n_neurons"] == network.n_neurons


def test_a_strong_network_is_unusual_among_size_controls_but_not_energy_controls():
    # What a lesion does is here the energy that it removes, whichever neurons they are: a control ought to say so.
    energy = skewed()

    def p(network, family, effect):
        drawn = [effect(family.draw(network, number, 0)) for number in range(99)]
        return (1 + sum(value >= effect(network) for value in drawn)) / 100

    by_energy = EnergyMatchedControls(SPACE, energy)
    strongs = [strong(energy, seed=seed) for seed in range(20)]
    removed = lambda one: np.log(energy[one.members]).sum()  # noqa: E731
    assert all(p(one, MatchedControls(), removed) <= 0.05 for one in strongs)
    assert sum(p(one, by_energy, removed) <= 0.05 for one in strongs) <= 4
    # The positive control: an effect of particular neurons stays unusual beside others of the same energy.
    special = strong(energy, seed=3)
    own = lambda one: (one.members & special.members).sum()  # noqa: E731
    assert p(special, by_energy, own) == 0.01


def test_a_neuron_without_match_is_reported_and_kept_in_every_control():
    energy = skewed()
    place = SPACE.index(2, 7)
    energy[place] = 1e9
    members = strong(energy).members.copy()
    members[place] = True
    network, controls = network_of(SPACE, members), EnergyMatchedControls(SPACE, energy)
    table = controls.unmatched(network)
    assert [2, 7, 1e9] in table.to_numpy().tolist()
    assert controls.balance(network).n_unmatched == len(table)
    assert f"{len(table)} of {network.n_neurons} neurons have no match in removed energy" in controls.note(network)
    assert all(controls.draw(network, number, 0).members[place] for number in range(20))
    assert controls.unavailable_reason(network) == ""  # the others have controls
    # The control: without it among the members, it is in no control, and nothing is said of it.
    members[place] = False
    network = network_of(SPACE, members)
    assert not any(controls.draw(network, number, 0).members[place] for number in range(50))
    assert 1e9 not in controls.unmatched(network)["energy"].to_numpy()


def test_a_network_of_unmatched_neurons_has_no_control():
    energy = skewed()
    places = [SPACE.index(0, 1), SPACE.index(3, 5)]
    energy[places] = 1e9
    controls = EnergyMatchedControls(SPACE, energy)
    lonely = network_of(SPACE, np.isin(np.arange(SPACE.n_neurons), places), "lonely")
    assert controls.unavailable_reason(lonely) == (
        "'lonely' has no control: no other neurons remove as much, within a factor of 1.5"
    )


def test_remaining_imbalance_is_reported():
    energy = skewed(sd=0.01)
    energy[:40] *= 1.4  # within the ratio of the others of their layer, and yet apart
    network = network_of(SPACE, np.arange(SPACE.n_neurons) < 25)
    wide = EnergyMatchedControls(SPACE, energy, size=1000)
    assert abs(wide.balance(network).smd_after) > 0.1
    assert "removed energy differs by" in wide.note(network)
    narrow = EnergyMatchedControls(SPACE, energy, n=20)
    assert abs(narrow.balance(network).smd_after) < 0.1
    assert "removed energy differs by" not in narrow.note(network)


def test_strata_are_narrow_whole_and_of_like_size():
    rng = np.random.default_rng(0)
    for energy in (np.exp(rng.normal(size=500)), rng.integers(0, 4, size=500).astype(float), np.ones(7), np.zeros(3)):
        labels = cut(energy, ratio=1.5, size=20)
        assert set(labels) == set(range(labels.max() + 1))
        for stratum in range(labels.max() + 1):
            own = energy[labels == stratum]
            assert own.max() <= 1.5 * own.min() * (1 + relative())
            assert len(own) <= 30
    dense = cut(np.exp(0.1 * rng.normal(size=2000)), ratio=1.5, size=20)
    assert np.percentile(np.bincount(dense), 5) >= 13


def test_strata_lie_in_one_layer_also_of_layers_of_different_width():
    space = NeuronSpace.build([30, 80, 5])
    controls = EnergyMatchedControls(space, np.ones(space.n_neurons))
    for stratum in np.unique(controls.strata):
        assert len(set(space.layer_of[controls.strata == stratum])) == 1
    network = some(space, share=0.4)
    assert controls.draw(network, 0, 0).layer_profile().tolist() == network.layer_profile().tolist()


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"energy": np.ones(3)}, SpaceMismatchError, r"energy has shape \(3,\); \(800,\) is needed"),
        ({"energy": np.where(np.arange(800) == 403, np.nan, 1)}, ValueError, "neuron 3 of layer 2 is nan"),
        ({"energy": np.where(np.arange(800) == 0, -1, 1)}, ValueError, "neuron 0 of layer 0 is -1"),
        ({"ratio": 1.0}, ValueError, "ratio is 1.0; it must be above 1"),
        ({"size": 1}, ValueError, "size is 1; a stratum needs at least 2"),
    ],
)
def test_bad_energies_and_parameters_are_refused(changes, error, message):
    with pytest.raises(error, match=message):
        EnergyMatchedControls(**{"space": SPACE, "energy": skewed(), **changes})


def test_a_network_of_another_space_is_refused():
    other = some(NeuronSpace.build([200] * 5))
    for what in (FAMILIES[2].note, FAMILIES[2].unavailable_reason, lambda one: FAMILIES[2].draw(one, 0, 0)):
        with pytest.raises(SpaceMismatchError, match="'net' has 5 layers"):
            what(other)


# -- measuring what a lesion removes ----------------------------------------------------------------------------------


def test_moments_are_those_of_all_runs_together():
    rng = np.random.default_rng(0)
    runs = [rng.normal(size=(n, 6)).astype(np.float32) * [1, 1, 5, 0, 1e-3, 1] for n in (1, 130, 64)]
    for run in runs:
        run[:, 5] += 1e4  # E[h²] − E[h]² would lose the variance of single precision here
    together = np.concatenate(runs).astype(np.float64)
    mean, variance = moments(run.astype(np.float32) for run in runs)
    together = np.concatenate([run.astype(np.float32) for run in runs]).astype(np.float64)
    np.testing.assert_allclose(mean, together.mean(axis=0), rtol=relative(len(together)))
    np.testing.assert_allclose(
        variance, together.var(axis=0), rtol=1e4 * relative(len(together))
    )  # a mean of 10,000 sds
    assert variance[3] == 0
    with pytest.raises(ValueError, match="There are no tokens"):
        moments([])


def test_removed_energy_is_what_the_output_loses(recorded):
    # The oracle: the MLP's output with and without one hidden neuron, token by token.
    model, recording = build("gpt2"), recorded.recording(site="mlp_hidden")
    space = recording.space
    hidden = np.concatenate(list(recording.arrays()))
    norms = output_norms(model, space)
    energy = {kind: removed_energy(recording, kind, norms) for kind in ("zero", "mean", "resample")}
    for layer, neuron in ((0, 3), (2, 55)):
        module = copy.deepcopy(model.base_model.get_submodule(space.layers[layer].module)).double()
        own = torch.from_numpy(hidden[:, space.layer_of == layer]).double()

        def out(value, own=own, neuron=neuron, module=module):
            changed = own.clone()
            changed[:, neuron] = value
            with torch.no_grad():
                return ((module(own) - module(changed)) ** 2).sum(-1).double().mean().item()

        values = own[:, neuron].clone()
        place = space.index(layer, neuron)
        assert energy["zero"][place] == pytest.approx(out(0.0), rel=relative(own.numel(), np.float32))
        assert energy["mean"][place] == pytest.approx(out(values.mean()), rel=relative(own.numel(), np.float32))
        # A donor for every token: the mean over all pairs of tokens.
        every = np.mean([out(value) for value in values])
        assert energy["resample"][place] == pytest.approx(every, rel=relative(own.numel(), np.float32))


def test_a_baseline_of_other_texts_removes_what_lies_between_them(recorded):
    recording = recorded.recordings("mlp_out")[0]
    space = recording.space
    rng = np.random.default_rng(0)
    own = np.concatenate(list(recording.arrays())).astype(float)
    other = rng.normal(3, 2, size=(500, space.n_neurons)).astype(np.float32)

    class Other:
        corpus = "other"

        def __init__(self):
            self.space = space

        def arrays(self):
            return iter([other])

    found = removed_energy(recording, "mean", None, Other())
    np.testing.assert_allclose(
        found, ((own - other.mean(axis=0, dtype=float)) ** 2).mean(axis=0), rtol=relative(len(own) + len(other))
    )
    drawn = other[rng.integers(len(other), size=20 * len(own))]
    expected = ((np.tile(own, (20, 1)) - drawn) ** 2).mean(axis=0)
    close = 5 * np.sqrt(2 / len(drawn))  # 5 standard errors of a mean of squares
    np.testing.assert_allclose(removed_energy(recording, "resample", None, Other()), expected, rtol=close)


def test_at_mlp_out_a_neuron_removes_itself(recorded):
    recording = recorded.recording(site="mlp_out")
    own = np.concatenate(list(recording.arrays())).astype(np.float64)
    np.testing.assert_allclose(removed_energy(recording), (own**2).mean(axis=0), rtol=relative(len(own)))
    np.testing.assert_allclose(
        removed_energy([recording, recording], "mean"), own.var(axis=0), rtol=relative(2 * len(own))
    )
    controls = EnergyMatchedControls.measured([recording], "mean", n=7)
    assert (controls.n, controls.baseline, controls.family) == (7, "mean", "layer+size+energy")
    assert controls.draw(some(recording.space), 0, 0).n_neurons == some(recording.space).n_neurons


def test_energy_is_not_measured_with_parts_missing(recorded):
    hidden, out = (recorded.recording(site=site) for site in ("mlp_hidden", "mlp_out"))
    with pytest.raises(ValueError, match=r"norms are missing.*output_norms\(model, recording.space\)"):
        removed_energy(hidden)
    with pytest.raises(SpaceMismatchError, match="norms have shape"):
        removed_energy(hidden, norms=np.ones(3))
    with pytest.raises(ValueError, match="norms are given at 'mlp_out'"):
        removed_energy(out, norms=np.ones(out.space.n_neurons))
    with pytest.raises(ValueError, match="baseline is 'median'; choose from 'zero', 'mean', 'resample'"):
        removed_energy(out, "median")
    with pytest.raises(ValueError, match="There is no recording"):
        removed_energy([])
    with pytest.raises(SpaceMismatchError, match="The recording of 'words' has 3 layers of 56"):
        removed_energy([out, hidden])


# -- (c) one permutation for all layers -------------------------------------------------------------------------------


def columns(network):
    """Count the patterns of layers in which each index is a member."""
    patterns = network.members.reshape(network.space.n_layers, -1).T
    return Counter(map(bytes, patterns))


def recurring(network):
    """Return the weights of every index that is a member in all layers, sorted by size."""
    whole = network.members.reshape(network.space.n_layers, -1).all(axis=0)
    return sorted(map(tuple, network.weights.reshape(network.space.n_layers, -1).T[whole]))


def test_a_permuted_control_holds_as_many_coordinates_in_the_same_layers():
    members = np.zeros((4, 200), dtype=bool)
    members[:, [5, 60, 199]] = True  # three coordinates, in all layers
    members[3, 20:30] = True
    rng = np.random.default_rng(0)
    network = network_of(SPACE, members.ravel(), "recurring", rng.normal(size=800))
    for number in range(20):
        control = PermutedControls().draw(network, number, 0)
        assert columns(control) == columns(network)
        # And each weight goes with its neuron.
        assert recurring(control) == recurring(network)
    # The control of the control: layer by layer, coordinates scatter.
    scattered = [columns(MatchedControls().draw(network, number, 0)) for number in range(20)]
    assert all(counts[bytes([1, 1, 1, 1])] == 0 for counts in scattered)


def test_permuting_indices_is_refused_where_they_mean_nothing():
    hidden = some(NeuronSpace.build([200] * 4, "mlp_hidden"))
    ragged = some(NeuronSpace.build([20, 30]))
    controls = PermutedControls()
    for what in (
        controls.note,
        controls.unavailable_reason,
        controls.expected_overlap,
        lambda one: controls.draw(one, 0, 0),
    ):
        with pytest.raises(ValueError, match=r"'mlp_hidden', where neuron 7 .* nothing in common"):
            what(hidden)
        with pytest.raises(ValueError, match="The layers have 20 to 30 neurons"):
            what(ragged)


def test_counting_sets_stays_finite_arithmetic_for_large_networks():
    space = NeuronSpace.build([4096] * 30)
    large = some(space, share=0.3)
    for controls in (MatchedControls(), PermutedControls()):
        assert controls.n_possible(large) == np.inf
        assert controls.note(large) == ""
    few = [network_of(space, np.arange(space.n_neurons) < n) for n in (1, 2)]
    assert [MatchedControls().n_possible(one) for one in few] == [4096, 4096 * 4095 / 2]
    pairs = list(itertools.combinations(range(6), 2))
    assert MatchedControls().n_possible(network_of(NeuronSpace.build([6]), [1, 1, 0, 0, 0, 0])) == len(pairs)


@pytest.mark.slow
def test_energy_is_matched_on_a_trained_model(real_data, tmp_path):
    import lmri

    folder = real_data / "models" / "mini-gpt2"
    model, tokenizer = lmri.load_model(folder)
    lines = (folder / "heldout_news.jsonl").read_text(encoding="utf-8").splitlines()[:60]
    texts = [json.loads(line)["text"] for line in lines]
    recording = lmri.record(model, tokenizer, texts, tmp_path / "study", corpus="news", site="mlp_hidden")
    maps = lmri.NetworkSet.from_estimator(lmri.FastICA(recording.space, 10).fit(recording.imgs))
    networks = maps.threshold("z", z=3.0)
    norms = output_norms(model, recording.space)
    for baseline in ("zero", "mean"):
        controls = EnergyMatchedControls.measured(recording, baseline, norms)
        found = [controls.balance(network) for network in networks if network.n_neurons >= 20]
        assert len(found) >= 5
        assert max(one.smd_before for one in found) > 0.5
        assert max(abs(one.smd_after) for one in found) < 0.1
        assert all(one.n_unmatched <= 0.1 * one.n_neurons for one in found)


# -- shared by networks of like size ----------------------------------------------------------------------------------


def sized(profile, seed, name=""):
    members = np.zeros(SPACE.n_neurons, dtype=bool)
    rng = np.random.default_rng(seed)
    for z, count in enumerate(profile):
        members[200 * z + rng.choice(200, size=count, replace=False)] = True
    return network_of(SPACE, members, name or f"net-{seed}")


def test_networks_of_like_size_share_their_controls():
    alike = [sized([10, 5, 0, 5], 0), sized([9, 6, 0, 5], 1), sized([9, 5, 1, 4], 2)]
    other = sized([0, 0, 0, 20], 3)
    controls = SharedControls([*alike, other], n=9, slack=0.25)
    drawn = [[controls.draw(network, number, 1).members.tobytes() for number in range(9)] for network in alike]
    assert drawn[0] == drawn[1] == drawn[2]
    assert len(set(drawn[0])) == 9
    assert controls.draw(other, 0, 1).layer_profile().tolist() == [0, 0, 0, 20]
    for network in alike:
        cover = controls.draw(network, 0, 1).layer_profile()
        assert (cover >= network.layer_profile()).all()
        assert cover.sum() <= 1.25 * network.n_neurons
        assert "more neurons, so p is conservative" in controls.note(network)
    assert controls.note(other) == ""


def test_without_slack_only_the_same_layer_profile_is_shared():
    one, same, other = sized([10, 5, 0, 5], 0), sized([10, 5, 0, 5], 1), sized([10, 5, 1, 5], 2)
    controls = SharedControls([one, same, other], slack=0)
    assert [len(members) for _, members in controls.groups] == [1, 2]
    # Then they are no others than those by layer and size: no larger, and every set as likely.
    assert controls.draw(one, 3, 0).layer_profile().tolist() == one.layer_profile().tolist()
    share = one.layer_profile() @ one.layer_profile() / 200 / 20
    assert controls.expected_overlap(one) == pytest.approx(share)
    overlaps = [(controls.draw(one, number, 0).members & one.members).sum() / 20 for number in range(400)]
    assert np.mean(overlaps) == pytest.approx(share, abs=4 * np.std(overlaps) / 20)  # 4 standard errors of 400 draws


def test_networks_that_share_controls_have_to_be_known():
    with pytest.raises(ValueError, match="'stranger' is not among the 1 networks"):
        SharedControls([sized([5, 5, 5, 5], 0)]).draw(sized([5, 5, 5, 5], 1, "stranger"), 0, 0)
    with pytest.raises(ValueError, match="slack is 2"):
        SharedControls([], slack=2)
    with pytest.raises(ValueError, match="n is 0"):
        SharedControls([], n=0)
