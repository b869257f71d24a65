"""Plots in notebooks contain the values of the maps, and nilearn and matplotlib return their usual objects."""

import math

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.figure import Figure

from lmri import NetworkSet, NeuronSpace
from lmri.space.plotting import GAP, mosaic, pooled
from test_imports import _loaded
from tolerances import epsilon

SPACE = NeuronSpace.build([40, 37, 40])


@pytest.fixture(autouse=True)
def _headless():
    before = mpl.get_backend()
    plt.switch_backend("agg")
    yield
    plt.close("all")
    plt.switch_backend(before)


@pytest.fixture(scope="module")
def networks():
    weights = np.random.default_rng(0).laplace(size=(3, SPACE.n_neurons)).astype(np.float32)
    return NetworkSet(SPACE, weights, method="a$b$").threshold("z", z=2.0)


def test_every_neuron_is_one_pixel_of_the_mosaic():
    values = 1.0 + np.arange(2 * SPACE.n_neurons, dtype=np.float32).reshape(2, -1)
    picture, rows, columns = mosaic(SPACE, values)
    nx, ny, nz = SPACE.shape
    assert np.array_equal(np.sort(picture[np.isfinite(picture)]), values.ravel())
    assert picture.shape == (2 * (ny + GAP) - GAP, nz * (nx + GAP) - GAP)
    # Neuron 11 of layer 2 is the voxel (3, 1, 2), and y goes upwards, as in viewers.
    assert picture[ny + GAP + (ny - 1 - 1), 2 * (nx + GAP) + 3] == values[1, SPACE.index(2, 11)]
    assert (rows, columns) == ([2.0, 9.0], [3.5, 13.5, 23.5])


def test_the_strongest_of_pooled_neurons_is_shown_with_its_sign():
    tile = np.array([[1.0, -3.0, np.nan], [2.0, 0.0, -0.5], [0.0, 0.0, np.nan]])
    expected = [[-3.0, -0.5], [0.0, np.nan]]
    np.testing.assert_array_equal(pooled(tile[None], 2)[0], expected)
    np.testing.assert_array_equal(pooled(tile, 1), tile)


def test_no_neuron_of_a_large_model_disappears():
    space = NeuronSpace.build([11008] * 36)
    values = np.zeros((1, space.n_neurons))
    chosen = np.random.default_rng(0).choice(space.n_neurons, 50, replace=False)
    values[0, chosen] = -np.arange(1.0, 51.0)
    picture, _, columns = mosaic(space, values)
    assert picture.shape[1] < 2000
    assert len(columns) == 36
    found = np.unique(picture[picture < 0])
    assert found[0] == -50
    assert len(found) > 45  # where two are neighbours, the stronger one


def test_networks_are_drawn_as_they_are(networks, tmp_path):
    figure = networks.plot(title="$x$")
    assert isinstance(figure, Figure)
    axes = figure.axes[0]
    z = np.stack([np.where(one.members, one.z, 0) for one in networks])
    expected, _, _ = mosaic(SPACE, z)
    shown = axes.images[0]
    np.testing.assert_array_equal(np.ma.filled(shown.get_array(), np.nan), expected)
    largest = float(np.abs(z).max().astype(np.float32))
    assert shown.get_clim() == (-largest, largest)
    assert [label.get_text() for label in axes.get_yticklabels()] == networks.names
    assert [label.get_text() for label in axes.get_xticklabels()] == ["0", "1", "2"]
    figure.canvas.draw()  # dollar signs are text

    own, (left, right) = plt.subplots(1, 2)
    assert networks.plot(axes=right, vmax=9) is own
    assert not left.images
    assert right.images[0].get_clim() == (-9, 9)
    given = plt.figure()
    assert networks.plot(figure=given) is given
    n_open = len(plt.get_fignums())
    assert networks.plot(output_file=tmp_path / "maps.png") is None
    assert (tmp_path / "maps.png").stat().st_size > 1000
    assert len(plt.get_fignums()) == n_open


def test_what_is_empty_or_not_thresholded_is_drawn_too(networks):
    maps = NetworkSet(SPACE, networks.weights)
    np.testing.assert_array_equal(
        np.ma.filled(maps.plot().axes[0].images[0].get_array(), np.nan),
        mosaic(SPACE, np.stack([one.z for one in maps]))[0],
    )
    empty = maps.threshold("z", z=99.0)
    assert empty.plot().axes[0].images[0].get_clim() == (-1, 1)
    assert "<html" in empty[0].view().get_standalone()


def test_a_network_is_viewed_without_a_brain_and_without_interpolation(networks, monkeypatch):
    import nilearn.plotting

    page = networks[1].view()
    assert isinstance(page, type(nilearn.plotting.view_img(networks[1].img, bg_img=False)))
    assert "a$b$-01" in page.get_standalone()
    asked = {}
    monkeypatch.setattr(nilearn.plotting, "view_img", lambda img, **options: asked.update(options, img=img))
    networks[1].view(threshold=2.5, cmap="cold_hot")
    values = SPACE.from_img(asked["img"])
    np.testing.assert_allclose(values, np.where(networks[1].members, networks[1].z, 0), rtol=epsilon(np.float32))
    assert (asked["bg_img"], asked["resampling_interpolation"]) == (False, "nearest")
    assert (asked["threshold"], asked["cmap"]) == (2.5, "cold_hot")
    x, y, z = asked["cut_coords"]
    strongest = int(np.abs(values).argmax())
    assert (z, x + y * SPACE.shape[0]) == (SPACE.layer_of[strongest], SPACE.neuron_of[strongest])


def test_a_carpet_is_nilearns_with_layers_beside_it(walked, tmp_path, capsys, recwarn):
    recording = walked.recording("code")
    figure = recording.plot_carpet(run=2)
    assert (capsys.readouterr().out, [str(one.message) for one in recwarn]) == ("", [])
    assert isinstance(figure, Figure)
    main = next(axes for axes in figure.axes if axes.get_xlabel() == "volume")
    array = list(recording.arrays())[1]
    n_shown = main.images[0].get_array().shape[1]
    assert n_shown == math.ceil(len(array) / 2 ** math.ceil(math.log2(math.ceil(len(array) / 800))))
    assert main.images[0].get_array().shape[0] == recording.space.n_neurons
    assert all(label.get_text().isdecimal() for label in main.get_xticklabels())
    labels = [label.get_text() for axes in figure.axes for label in axes.get_yticklabels()]
    assert sorted(labels) == sorted(layer.name for layer in recording.space.layers)

    own, (left, right) = plt.subplots(1, 2)
    plt.figure()  # nilearn would draw the layers here
    assert recording.plot_carpet(axes=right) is own
    assert left in own.axes
    assert any(axes.get_xlabel() == "volume" for axes in own.axes)
    assert recording.plot_carpet(output_file=tmp_path / "carpet.png") is None
    assert (tmp_path / "carpet.png").stat().st_size > 1000
    with pytest.raises(ValueError, match=r"run is 0; runs are 1 to"):
        recording.plot_carpet(run=0)


def test_drawing_is_loaded_when_something_is_drawn():
    code = "import lmri; lmri.NetworkSet.plot; lmri.Recording.plot_carpet; assert 'matplotlib' not in sys.modules"
    assert _loaded(code) == set()
