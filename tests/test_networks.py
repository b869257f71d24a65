"""Networks have members if, and only if, they are thresholded."""

from dataclasses import replace

import numpy as np
import pytest
from sklearn.decomposition import PCA

from lmri import Origin
from lmri.exceptions import NonFiniteError, NotThresholdedError, SpaceMismatchError
from lmri.lesions.controls import MatchedControls
from lmri.networks import Network, NetworkSet
from lmri.networks.thresholds import SurrogateNull
from lmri.space import NeuronSpace

SPACE = NeuronSpace.build([30, 20, 25])


@pytest.fixture
def maps():
    rng = np.random.default_rng(0)
    weights = rng.normal(size=(3, SPACE.n_neurons)).astype(np.float32)
    weights[0, [2, 40, 60]] = 15, -15, 12
    return NetworkSet(SPACE, weights, method="ica", origin=Origin("ica"))


def test_nothing_that_needs_members_works_before_a_threshold(maps):
    network = maps[0]
    asks = [
        lambda: network.members,
        lambda: network.n_neurons,
        network.neurons,
        network.layer_profile,
        lambda: maps.members,
        maps.union,
        lambda: maps.table,
        lambda: MatchedControls(1).draw(network, 0, 0),
    ]
    for ask in asks:
        with pytest.raises(NotThresholdedError, match="Threshold first"):
            ask()
    assert network.img.shape == SPACE.shape
    assert network.weights.shape == (SPACE.n_neurons,)


def test_neurons_are_listed_by_layer_and_neuron_with_their_signs(maps):
    network = maps.threshold("top", share=0.04)[0]
    table = network.neurons()
    assert table[["layer", "neuron"]].to_numpy().tolist() == [[1, 10], [0, 2], [2, 10]]  # by |z|
    assert table["weight"].tolist() == [-15, 15, 12]
    assert network.layer_profile().tolist() == [1, 1, 1]
    shown = SPACE.from_img(network.img)
    assert np.array_equal(shown, np.where(network.members, network.weights, 0))


def test_a_threshold_says_what_it_was_and_leaves_the_maps_alone(maps):
    found = maps.threshold("z", z=2.5)
    assert not maps.is_thresholded
    assert np.array_equal(found.weights, maps.weights)
    assert found.origin.threshold["method"] == "z"
    assert found.origin.threshold["z"] == 2.5
    assert "descriptive" in found.origin.threshold["description"]


def test_the_default_threshold_is_fdr_and_for_dictionary_learning_the_support(maps):
    null = SurrogateNull.from_maps([np.random.default_rng(0).normal(size=maps.weights.shape) for _ in range(20)])
    found = replace(maps, null=lambda: null).threshold()
    assert found.origin.threshold["method"] == "fdr"
    assert found.origin.threshold["n_surrogates"] == 20
    with pytest.raises(ValueError, match=r"comes without surrogates, .* networks.threshold\('z', z=3.0\)"):
        maps.threshold()
    sparse = NetworkSet(SPACE, np.where(np.abs(maps.weights) > 2, maps.weights, 0), origin=Origin("dictlearning"))
    assert np.array_equal(sparse.threshold().members, sparse.weights != 0)


def test_an_empty_network_is_a_row_not_an_error(maps):
    found = maps.threshold("z", z=50)
    assert found.table["n_neurons"].tolist() == [0, 0, 0]
    assert np.isnan(found.table["mean_layer"]).all()
    assert found[0].neurons().empty
    assert found.union().n_neurons == 0
    assert not SPACE.from_img(found[0].img).any()


def test_the_union_holds_every_member_with_its_largest_weight(maps):
    found = maps.threshold("top", share=0.1)
    union = found.union()
    assert np.array_equal(union.members, found.members.any(axis=0))
    assert np.array_equal(np.abs(union.weights), np.abs(found.weights).max(axis=0))


def test_a_map_drawn_in_a_viewer_counts_as_thresholded():
    drawn = np.zeros(SPACE.n_neurons)
    drawn[[5, 33]] = 1.5, -3
    network = Network.from_img(SPACE.to_img(drawn), SPACE)
    assert np.flatnonzero(network.members).tolist() == [5, 33]
    assert network.weights[network.members].tolist() == [1.5, -3]
    with pytest.raises(SpaceMismatchError):
        Network.from_img(SPACE.to_img(drawn), NeuronSpace.build([30, 20]))
    with pytest.raises(ValueError, match="2 volumes"):
        Network.from_img(SPACE.to_img(np.stack([drawn, drawn])), SPACE)


def test_sets_are_sequences(maps):
    assert len(maps) == 3
    assert maps[-1].name == "ica-02"
    assert np.array_equal(maps["ica-01"].weights, maps[1].weights)
    with pytest.raises(KeyError, match="ica-00, ica-01"):
        maps["ica-07"]
    assert [network.name for network in maps[1:]] == ["ica-01", "ica-02"]
    with pytest.raises(IndexError, match="counted from 0"):
        maps[3]


def test_bad_thresholds_are_named(maps):
    with pytest.raises(ValueError, match="'bonferroni'; choose from 'fdr', 'fdr_set', 'z'"):
        maps.threshold("bonferroni")
    with pytest.raises(ValueError, match="'z' takes z, not alpha"):
        maps.threshold("z", alpha=0.05)


def test_maps_that_are_not_finite_or_of_another_space_are_refused(maps):
    weights = maps.weights.copy()
    weights[1, 31] = np.nan
    with pytest.raises(NonFiniteError, match="layer 1, neuron 1"):
        NetworkSet(SPACE, weights)
    with pytest.raises(SpaceMismatchError):
        NetworkSet(NeuronSpace.build([30, 20]), maps.weights)


def test_any_fitted_estimator_with_component_images_will_do(maps):
    class Fitted:
        components_img_ = SPACE.to_img(maps.weights)

    assert np.array_equal(NetworkSet.from_estimator(Fitted(), SPACE).weights, maps.weights)
    with pytest.raises(ValueError, match="does not know its neuron space"):
        NetworkSet.from_estimator(Fitted())
    with pytest.raises(ValueError, match="not fitted"):
        NetworkSet.from_estimator(PCA(), SPACE)
