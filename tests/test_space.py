"""Neurons map to one voxel and back, independent of the software that processed the file in between."""

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from nilearn.maskers import NiftiLabelsMasker, NiftiMasker
from nilearn.plotting import plot_stat_map
from sklearn.base import clone

from lmri.exceptions import DataWarning, NonFiniteError, OtherWeightsWarning, SpaceMismatchError
from lmri.space import ModelInfo, NeuronSpace, fold
from tolerances import rounding

RAGGED = NeuronSpace.build([40, 7, 61, 1])
EVEN = NeuronSpace.build([48] * 5)


@pytest.mark.parametrize(
    ("width", "expected"),
    [(768, (32, 24)), (3072, (64, 48)), (11008, (128, 86)), (18944, (148, 128)), (1, (1, 1)), (2, (2, 1)), (7, (3, 3))],
)
def test_layers_are_folded_near_square(width, expected):
    assert fold(width) == expected


@given(st.integers(1, 30_000))
def test_every_fold_holds_its_layer_and_stays_within_aspect_two(width):
    nx, ny = fold(width)
    assert nx * ny >= width
    assert ny <= nx <= 2 * ny
    # Padding never fills a whole row.
    assert nx * ny - width < nx


@pytest.mark.parametrize("space", [RAGGED, EVEN], ids=["ragged", "even"])
def test_slice_z_is_layer_z_and_neurons_run_along_x(space):
    nx, _, _ = space.shape
    data = space.to_img(np.arange(1, space.n_neurons + 1)).get_fdata()
    for layer, width in enumerate(space.widths):
        for neuron in range(width):
            assert data[neuron % nx, neuron // nx, layer] == space.index(layer, neuron) + 1
    assert (data > 0).sum() == space.n_neurons
    assert np.array_equal(space.mask_img.get_fdata() > 0, data > 0)


@given(widths=st.lists(st.integers(1, 70), min_size=1, max_size=5), n=st.integers(1, 4), seed=st.integers(0, 99))
def test_neuron_to_voxel_to_neuron_is_the_identity(widths, n, seed):
    space = NeuronSpace.build(widths)
    values = np.random.default_rng(seed).normal(size=(n, space.n_neurons)).astype(np.float32)
    assert np.array_equal(space.from_img(space.to_img(values)), values)
    assert np.array_equal(space.from_img(space.to_img(values[0])), values[0])
    assert np.array_equal(space.masker().transform(space.to_img(values)), values)


def test_headers_say_what_viewers_need(tmp_path):
    path = tmp_path / "series.nii"
    nib.save(EVEN.to_img(np.ones((3, EVEN.n_neurons), np.float32)), path)
    img = nib.load(path)
    assert nib.aff2axcodes(img.affine) == ("R", "A", "S")
    assert np.array_equal(img.affine, np.eye(4))
    assert int(img.header["sform_code"]) == int(img.header["qform_code"]) == 1
    assert np.array_equal(img.get_qform(), img.get_sform())
    assert img.header.get_xyzt_units() == ("mm", "sec")
    assert img.header.get_zooms() == (1, 1, 1, 1)
    assert NeuronSpace.from_dict(__import__("json").loads(img.header.extensions[0].get_content())["lmri"]) == EVEN


@pytest.mark.parametrize(("intent", "code"), [("z", 5), ("t", 3), ("label", 1002), ("estimate", 1001), ("none", 0)])
def test_intents_are_in_the_header(intent, code):
    assert int(EVEN.to_img(np.ones(EVEN.n_neurons), intent).header["intent_code"]) == code


def test_number_formats_are_those_that_nibabel_takes():
    ones = np.ones(EVEN.n_neurons)
    for values, dtype in [(ones, np.float32), (ones > 0, np.uint8), (ones.astype(int), np.int16)]:
        assert EVEN.to_img(values).get_data_dtype() == dtype
    assert EVEN.mask_img.get_data_dtype() == np.uint8
    assert EVEN.labels_img.get_data_dtype() == np.int16


def _values(space, n=3):
    return np.random.default_rng(0).normal(size=(n, space.n_neurons)).astype(np.float32)


@pytest.mark.parametrize("space", [RAGGED, EVEN], ids=["ragged", "even"])
@pytest.mark.parametrize("codes", [("L", "A", "S"), ("R", "P", "S"), ("L", "P", "I")], ids="".join)
def test_images_turned_by_other_software_give_the_same_neurons(space, codes):
    values = _values(space)
    img = space.to_img(values)
    turn = nib.orientations.ornt_transform(nib.io_orientation(img.affine), nib.orientations.axcodes2ornt(codes))
    turned = img.as_reoriented(turn)
    assert nib.aff2axcodes(turned.affine) == codes
    assert np.array_equal(space.from_img(turned), values)


def test_scaled_int16_and_nifti2_files_are_read(tmp_path):
    values = _values(RAGGED)
    img = RAGGED.to_img(values)
    short = nib.Nifti1Image(img.get_fdata(), img.affine)
    short.header.set_data_dtype(np.int16)
    nib.save(short, tmp_path / "short.nii.gz")

    step = (values.max() - values.min()) / 2**16  # half of the largest step of scaled int16 over this range
    assert np.allclose(RAGGED.from_img(tmp_path / "short.nii.gz"), values, atol=step)
    nib.save(nib.Nifti2Image(img.get_fdata(dtype=np.float32), img.affine), tmp_path / "two.nii")
    assert np.array_equal(RAGGED.from_img(tmp_path / "two.nii"), values)


def test_images_on_another_grid_are_refused_not_interpolated():
    img = EVEN.to_img(_values(EVEN))
    with pytest.raises(SpaceMismatchError, match="shape"):
        NeuronSpace.build([48] * 6).from_img(img)
    moved = nib.Nifti1Image(img.get_fdata(), np.diag([2.0, 2, 2, 1]))
    with pytest.raises(SpaceMismatchError, match="affine"):
        EVEN.from_img(moved)
    with pytest.raises(SpaceMismatchError, match="interpolate"):
        EVEN.masker().transform(moved)


def test_values_of_another_length_are_refused():
    for shape in [(EVEN.n_neurons + 1,), (2, EVEN.n_neurons - 1), (1, 1, EVEN.n_neurons)]:
        with pytest.raises(SpaceMismatchError, match="shape"):
            EVEN.to_img(np.zeros(shape))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_are_named(bad):
    values = _values(RAGGED)
    values[1, RAGGED.index(2, 5)] = bad
    with pytest.raises(NonFiniteError, match=r"layer 2, neuron 5, volume 1"):
        RAGGED.from_img(RAGGED.to_img(values))
    with pytest.raises(NonFiniteError):
        RAGGED.masker().transform(RAGGED.to_img(values))


def test_values_outside_the_mask_are_left_out_with_a_warning():
    img = RAGGED.to_img(_values(RAGGED, 1)[0])
    data = img.get_fdata(dtype=np.float32)
    data[-1, -1, 3] = 9  # layer 3 has one neuron, in the first voxel
    with pytest.warns(DataWarning, match="1 voxels that do not represent a neuron"):
        values = RAGGED.from_img(nib.Nifti1Image(data, img.affine))
    assert np.array_equal(values, _values(RAGGED, 1)[0])


def test_files_that_are_missing_or_cut_short_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"absent\.nii"):
        EVEN.from_img(tmp_path / "absent.nii")
    path = tmp_path / "short.nii"
    nib.save(EVEN.to_img(_values(EVEN)), path)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ValueError, match="cut short"):
        EVEN.from_img(path)
    (tmp_path / "text.nii").write_text("no image")
    with pytest.raises(ValueError, match=r"text\.nii"):
        EVEN.from_img(tmp_path / "text.nii")


def test_nilearn_orders_voxels_otherwise_which_is_why_the_masker_is_ours():
    order = NiftiMasker(EVEN.mask_img, standardize=None).fit().transform(EVEN.to_img(np.arange(EVEN.n_neurons)))
    assert order[:3].tolist() == [0, 48, 96]
    assert np.array_equal(EVEN.masker().transform(EVEN.to_img(np.arange(EVEN.n_neurons))), np.arange(EVEN.n_neurons))


def test_masker_goes_back_clones_and_standardizes():
    values = _values(RAGGED, 20)
    masker = RAGGED.masker(standardize="zscore_sample")
    scaled = masker.transform(RAGGED.to_img(values))
    expected = (values - values.mean(axis=0)) / values.std(axis=0, ddof=1)
    assert np.allclose(scaled, expected, atol=rounding(expected, 20, np.float32))
    plain = RAGGED.masker()
    assert np.array_equal(RAGGED.from_img(plain.inverse_transform(values)), values)
    assert np.array_equal(clone(plain).fit().transform(RAGGED.to_img(values)), values)


def test_masker_checks_every_image_of_a_list():
    values = _values(RAGGED, 1)[0]
    good = RAGGED.to_img(values)
    assert np.array_equal(RAGGED.masker().transform([good, good]), [values, values])
    moved = nib.Nifti1Image(good.get_fdata(dtype=np.float32), np.diag([2.0, 1, 1, 1]))
    broken = np.where(np.arange(len(values)) == 3, np.nan, values)
    for bad, error in ((moved, SpaceMismatchError), (RAGGED.to_img(broken), NonFiniteError)):
        with pytest.raises(error):
            RAGGED.masker().transform([good, bad])


def test_images_from_the_masker_are_stamped_again():
    header = RAGGED.masker().inverse_transform(_values(RAGGED)).header
    assert int(header["sform_code"]) == int(header["qform_code"]) == 1
    assert header.get_xyzt_units() == ("mm", "sec")


def test_masker_refuses_to_smooth():
    with pytest.raises(ValueError, match="smoothing_fwhm is 6"):
        EVEN.masker(smoothing_fwhm=6)


def test_labels_count_layers_from_one_and_nilearn_reads_them():
    means = NiftiLabelsMasker(
        RAGGED.labels_img, lut=RAGGED.labels_table[["index", "name", "color"]], standardize=None
    ).fit_transform(RAGGED.to_img(RAGGED.layer_of[None].astype(np.float32)))
    assert np.allclose(means, [[0, 1, 2, 3]])
    assert list(RAGGED.labels_table["index"]) == [1, 2, 3, 4]
    # A JSON extension would be read as label text by MRIcroGL.
    assert not RAGGED.labels_img.header.extensions


def test_images_can_be_plotted_by_nilearn_unmodified():
    display = plot_stat_map(
        EVEN.to_img(_values(EVEN, 1)[0], "z"),
        bg_img=None,
        display_mode="z",
        cut_coords=list(range(5)),
        draw_cross=False,
    )
    assert sorted(display.axes) == [0, 1, 2, 3, 4]
    display.close()


def test_strip_lays_layers_out_as_rows():
    values = _values(RAGGED, 1)[0]
    strip = RAGGED.to_strip_img(values)
    assert strip.shape == (61, 4, 1)
    data = strip.get_fdata(dtype=np.float32)[..., 0]
    assert all(
        data[neuron, layer] == values[RAGGED.index(layer, neuron)] for layer, neuron in [(0, 39), (2, 60), (3, 0)]
    )


def test_geometry_alone_decides_equality():
    one, other = (ModelInfo("m", None, fingerprint, "gpt2", "float32") for fingerprint in ("a" * 16, "b" * 16))
    parent, child = NeuronSpace.build([48] * 5, model=one), NeuronSpace.build([48] * 5, model=other)
    assert parent == child == EVEN
    assert hash(parent) == hash(child)
    assert parent != NeuronSpace.build([48] * 5, "mlp_hidden")
    assert parent != NeuronSpace.build([48] * 4)
    assert NeuronSpace.from_dict(parent.to_dict()).model == one
    with pytest.warns(OtherWeightsWarning, match="other weights"):
        parent.check_same(child, "The child")
    with pytest.raises(SpaceMismatchError, match="other weights"):
        parent.check_same(child, "The child", strict=True)
    with pytest.raises(SpaceMismatchError, match="4 layers"):
        parent.check_same(NeuronSpace.build([48] * 4), "The child")


def test_counts_per_layer_are_of_layers():
    members = np.zeros(RAGGED.n_neurons, dtype=bool)
    members[[RAGGED.index(0, 3), RAGGED.index(2, 0), RAGGED.index(2, 60)]] = True
    assert RAGGED.count_per_layer(members).tolist() == [1, 0, 2, 0]


@pytest.mark.parametrize(("layer", "neuron"), [(4, 0), (-1, 0), (0, 40), (3, 1)])
def test_neurons_that_do_not_exist_are_refused(layer, neuron):
    with pytest.raises(IndexError, match=r"layer|neuron"):
        RAGGED.index(layer, neuron)


def test_spaces_without_layers_or_of_unknown_sites_are_refused():
    with pytest.raises(ValueError, match="at least one layer"):
        NeuronSpace(())
    with pytest.raises(ValueError, match="width 0"):
        NeuronSpace.build([3, 0])
    with pytest.raises(ValueError, match="attention"):
        NeuronSpace.build([3], "attention")
