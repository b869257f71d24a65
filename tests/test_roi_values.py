"""Images of regions are read as masks, labels or weights, or refused; never as a larger region than was drawn."""

import warnings

import nibabel as nib
import numpy as np
import pytest
from scipy.ndimage import gaussian_filter, shift, uniform_filter

from lmri import NetworkSet, NeuronSpace
from lmri.exceptions import DataWarning, NonFiniteError
from lmri.networks import Network
from lmri.networks.rois import read_roi, read_rois, save
from lmri.storage import Layout

SPACE = NeuronSpace.build([768] * 6)  # folded 32 × 24
PADDED = NeuronSpace.build([40, 37, 40])  # the second layer leaves three voxels empty
RNG = np.random.default_rng(7)
MEMBERS = np.isin(np.arange(SPACE.n_neurons), RNG.choice(SPACE.n_neurons, 16, replace=False))
MASK = np.asarray(SPACE.to_img(MEMBERS).dataobj).astype(np.float64)
NOISE = RNG.normal(size=MASK.shape)
CODES = np.where(MASK > 0, RNG.permuted(np.resize([1, 2, 3], MASK.size)).reshape(MASK.shape), 0)


def image(values, dtype=None, slope=None, intent=None):
    """Create an image; with a slope and an intercept, `values` are the stored integers."""
    img = nib.Nifti1Image(np.asarray(values, dtype=dtype), np.eye(4))
    if slope is not None:
        img.header.set_slope_inter(*slope)
    if intent is not None:
        img.header.set_intent(intent)
    return img


def read(tmp_path, img, space=SPACE):
    """Read an image as a file, because scaling is applied when a file is read."""
    nib.save(img, tmp_path / "roi.nii.gz")
    return read_rois(tmp_path / "roi.nii.gz", space)


@pytest.mark.parametrize(
    ("values", "dtype", "slope"),
    [
        (MASK, np.uint8, None),
        (MASK, np.float64, None),
        (MASK * 255, np.uint8, None),
        (MASK * -128, np.int8, None),  # which has no absolute value in int8
        (MASK * -2.5, np.float32, None),
        (MASK * 0.3, np.float32, None),
        (np.where(MASK > 0, 1, 1e-12), np.float32, None),
        (np.where(MASK > 0, 1, 1e-40), np.float32, None),  # a denormal number
        (np.where(MASK > 0, 1, 5e-324), np.float64, None),
        (MASK + 1e-9 * NOISE, np.float32, None),  # rounding in both
        (MASK[..., None], np.uint8, None),
        (np.round((MASK - 0.1) / 0.3), np.int16, (0.3, 0.1)),  # 0 is stored as 0.1
        (np.round(MASK * 255), np.uint8, (1 / 255, 0)),
        (MASK + 5, np.int16, (1, -5)),  # exact, because the slope is 1
        (1 - MASK, np.uint8, None),
    ],
)
def test_masks_are_read_as_drawn(tmp_path, values, dtype, slope):
    found = read(tmp_path, image(values, dtype, slope))
    assert (found.kind, found.labels) == ("mask", (1,))
    [region] = found.regions
    assert np.array_equal(region.members, ~MEMBERS if np.array_equal(values, 1 - MASK) else MEMBERS)
    assert np.array_equal(region.weights, region.members)


@pytest.mark.parametrize(
    ("values", "dtype", "slope", "intent"),
    [
        (CODES, np.uint8, None, None),
        (CODES, np.float32, None, None),
        (CODES + 1e-9 * NOISE, np.float64, None, None),
        (CODES, np.int16, None, "label"),
        (CODES * 85, np.uint8, (3 / 255, 0), None),  # 1 is stored as 85 steps
    ],
)
def test_each_label_is_a_region(tmp_path, values, dtype, slope, intent):
    found = read(tmp_path, image(values, dtype, slope, intent))
    assert (found.kind, found.labels) == ("label image", (1, 2, 3))
    assert [region.name for region in found.regions] == ["roi-1", "roi-2", "roi-3"]
    for label, region in zip(found.labels, found.regions, strict=True):
        assert np.array_equal(SPACE.to_img(region.members).get_fdata(), label == CODES)
        assert set(region.weights[region.members]) == {1.0}
    with pytest.raises(ValueError, match=r"is a label image of 3 regions: .*read_rois"):
        read_roi(tmp_path / "roi.nii.gz", SPACE)
    with pytest.raises(ValueError, match="label image"):
        Network.from_img(tmp_path / "roi.nii.gz", SPACE)


def test_labels_need_not_be_consecutive_and_one_label_is_a_mask(tmp_path):
    found = read(tmp_path, image(np.choose(CODES, [0, 3, 7, 2035]), np.int16))
    assert found.labels == (3, 7, 2035)
    large = read(tmp_path, image(np.choose(CODES, [0, 1, 312_782_560, 312_782_561]), np.int32))
    assert large.labels == (1, 312_782_560, 312_782_561)  # as in the Allen atlas
    assert [region.n_neurons for region in large.regions] == [region.n_neurons for region in found.regions]
    assert read(tmp_path, image(MASK * 5, np.int16)).kind == "mask"


def test_more_labels_are_accepted_if_the_header_declares_them(tmp_path):
    values = np.arange(SPACE.n_neurons) % 41
    with pytest.raises(ValueError, match=r"40 different whole numbers from 1 to 40.*intent code 1002"):
        read(tmp_path, SPACE.to_img(values))
    assert read(tmp_path, SPACE.to_img(values, intent="label")).labels == tuple(range(1, 41))
    # Labels of all neurons have no background.
    with pytest.raises(ValueError, match=r"has no background.*intent code 1002"):
        read(tmp_path, SPACE.to_img(SPACE.layer_of + 1))
    found = read(tmp_path, SPACE.to_img(SPACE.layer_of + 1, intent="label"))
    assert [region.n_neurons for region in found.regions] == [768] * 6


@pytest.mark.parametrize(
    ("weights", "dtype"),
    [
        (MASK * NOISE, np.float32),
        (MASK * NOISE + 1e-12, np.float64),
        (MASK * NOISE, np.int16),  # nibabel stores the scaled integers
        (MASK * (3.1 + np.abs(NOISE)), np.float32),  # a one-sided threshold
        (-MASK * (3.1 + np.abs(NOISE)), np.float32),
        (MASK * (0.1 + 0.8 * RNG.random(MASK.shape)), np.float32),
    ],
)
def test_thresholded_weights_keep_members_and_signs(tmp_path, weights, dtype):
    img = nib.Nifti1Image(weights.astype(np.float64), np.eye(4))
    img.set_data_dtype(dtype)
    found = read(tmp_path, img)
    [region] = found.regions
    assert found.kind == "weight map"
    assert np.array_equal(region.members, MEMBERS)
    given = weights.reshape(-1, order="F")[SPACE.inside]
    step = np.abs(weights).max() / 2**15 if dtype is np.int16 else 0
    # Rounding to float32, and to the nearest of the 2¹⁶ steps that int16 has.
    assert np.abs(region.weights - given)[MEMBERS].max() <= step + 2.0**-23 * np.abs(given).max()
    assert read_roi(tmp_path / "roi.nii.gz", SPACE).weights[~MEMBERS].tolist() == [0.0] * (SPACE.n_neurons - 16)


AMBIGUOUS = {
    "smoothed": (gaussian_filter(MASK, 1), "not thresholded: .* nonzero values are below"),
    "smoothed a little": (gaussian_filter(MASK, 0.3), "not thresholded"),
    "smoothed and cut": (gaussian_filter(MASK, 1, truncate=2), "not thresholded"),
    "smoothed widely": (gaussian_filter(MASK, 3), "has no background"),
    "smoothed 255": (gaussian_filter(MASK * 255, 1), "not thresholded"),
    "smoothed integers": (np.rint(gaussian_filter(MASK * 255, 0.5)), "whole numbers that rise from 0 to"),
    "smoothed integers, few": (np.rint(gaussian_filter(MASK * 255, 2)), "whole numbers that rise from 0 to"),
    "box": (uniform_filter(MASK, 3), "over neighbouring voxels"),
    "box 255": (uniform_filter(MASK * 255, 3), "over neighbouring voxels"),
    "resampled": (shift(MASK, (0.3, 0, 0), order=1), "over neighbouring voxels"),
    "probabilities": (MASK * RNG.choice([0.25, 0.5, 1], MASK.shape), "values are between 0 and 1, such as 0.25"),
    "percentages": (MASK * RNG.permutation(MASK.size).reshape(MASK.shape), "different whole numbers for 16 neurons"),
    "an unthresholded map": (NOISE, "has no background"),
    "an unthresholded map with zeros": (np.where(RNG.random(MASK.shape) < 0.5, 0, NOISE), "not thresholded"),
    "1 and 2": (MASK + 1, r"no background, .* 1 \(4592 neurons\), 2 \(16 neurons\).*'img == 2'"),
    "-1 and 1": (2 * MASK - 1, r"no background, .* -1 \(4592 neurons\), 1 \(16 neurons\).*'img == 1'"),
    "-1, 0 and 1": (MASK * np.sign(NOISE), "negative whole numbers"),
    "ones": (np.ones(MASK.shape), "no background.*no matched controls"),
    "a constant": (np.full(MASK.shape, 0.5), "no background"),
    "zeros": (0 * MASK, "0 everywhere: it selects no neuron"),
    "noise": (1e-12 * NOISE, "rounding noise: it selects no neuron"),
    "denormal noise": (np.full(MASK.shape, 1e-40), "rounding noise"),
    "volumes": (np.stack([MASK, MASK], axis=-1), "2 volumes"),
}


@pytest.mark.parametrize("name", AMBIGUOUS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_ambiguous_images_are_refused_with_the_next_step(tmp_path, name, dtype):
    values, message = AMBIGUOUS[name]
    with pytest.raises(ValueError, match=f"(?s){message}"):
        read(tmp_path, image(values, dtype))
    with pytest.raises(ValueError, match=f"(?s){message}"):
        Network.from_img(image(values, dtype), SPACE)


def test_the_next_step_of_the_message_gives_a_mask(tmp_path):
    from nilearn.image import math_img

    smoothed = image(gaussian_filter(MASK, 0.3), np.float32)
    with pytest.raises(ValueError, match=r"'abs\(img\) > 0\.\d+'") as error:
        read(tmp_path, smoothed)
    formula = str(error.value).split("math_img('")[1].split("'")[0]
    found = read(tmp_path, math_img(formula, img=smoothed))
    assert found.kind == "mask"
    assert np.array_equal(found.regions[0].members, MEMBERS)


def test_integers_with_coarse_steps_are_not_guessed(tmp_path):
    with pytest.raises(ValueError, match="steps of 2, so labels and other values cannot be distinguished"):
        read(tmp_path, image(CODES, np.uint8, (2, 0)))
    assert read(tmp_path, image(MASK, np.uint8, (2, 0))).kind == "mask"


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_values_that_are_no_numbers_are_refused_only_at_neurons(tmp_path, bad):
    with pytest.raises(NonFiniteError, match=r"voxel \(0, 0, 0\) \(4592 such voxels in all\)"):
        read(tmp_path, image(np.where(MASK > 0, 1, bad), np.float32))
    members = np.isin(np.arange(PADDED.n_neurons), [3, 60])
    drawn, inside = (np.asarray(img.dataobj) for img in (PADDED.to_img(members), PADDED.mask_img))
    assert (inside == 0).sum() == 3
    if np.isnan(bad):  # as SPM marks voxels outside its mask
        [region] = read(tmp_path, image(np.where(inside, drawn, bad), np.float32), PADDED).regions
        assert np.array_equal(region.members, members)
    [region] = read(tmp_path, image(drawn + 1e-12, np.float64), PADDED).regions
    assert np.array_equal(region.members, members)
    # -128 has no absolute value in int8.
    with pytest.raises(ValueError, match=r"is not 0 at voxel \(\d, \d, 1\), which holds no neuron"):
        read(tmp_path, image(np.where(inside, drawn, -128), np.int8), PADDED)
    # The zeros of voxels without a neuron are no background.
    with pytest.raises(ValueError, match=r"no background, .* 1 \(115 neurons\), 2 \(2 neurons\)"):
        read(tmp_path, image(np.where(inside, drawn + 1, 0), np.uint8), PADDED)


def test_images_without_orientation_are_read_in_stored_order(tmp_path):
    img = nib.Nifti1Image(MASK.astype(np.uint8), np.eye(4))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert np.array_equal(read(tmp_path, img).regions[0].members, MEMBERS)
    path = tmp_path / "bare.nii"
    nib.save(nib.Nifti1Image(MASK.astype(np.uint8), None), path)
    assert not np.array_equal(nib.load(path).affine, np.eye(4))  # nibabel assumes a flipped, centred image
    with pytest.warns(DataWarning, match="has no orientation"):
        assert np.array_equal(read_roi(path, SPACE).members, MEMBERS)
    # Images that say that they are flipped are flipped.
    affine = np.array([[-1, 0, 0, 31], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
    flipped = nib.Nifti1Image(MASK[::-1].astype(np.uint8), affine)
    assert np.array_equal(read(tmp_path, flipped).regions[0].members, MEMBERS)


def test_saved_regions_can_always_be_read(tmp_path):
    layout = Layout(tmp_path, "sub-tiny")
    assert np.array_equal(read_roi(save(layout, SPACE, "mine", MEMBERS), SPACE).members, MEMBERS)
    for members, message in [(np.zeros_like(MEMBERS), "no neuron"), (np.ones_like(MEMBERS), "every neuron")]:
        with pytest.raises(ValueError, match=message):
            save(layout, SPACE, "other", members)


@pytest.mark.parametrize("method", [{"method": "top", "share": 0.02}, {"method": "z", "z": 3.0}])
@pytest.mark.parametrize("power", [1.0, 1.5])
def test_thresholded_networks_are_read_back_from_their_images(method, power):
    """Maps with heavy tails, as those of ICA, scaled as CanICA scales them; with weights of both signs or of one."""
    maps = RNG.laplace(size=(4, SPACE.n_neurons))
    maps = np.sign(maps) * np.abs(maps) ** power
    maps[2:] = np.abs(maps[2:])
    maps /= np.linalg.norm(maps, axis=1, keepdims=True)
    for network in NetworkSet(SPACE, maps).threshold(**method):
        assert 0 < network.n_neurons < SPACE.n_neurons / 10
        again = Network.from_img(network.img, SPACE)
        assert np.array_equal(again.members, network.members)
        assert np.array_equal(again.weights[again.members], network.weights[network.members].astype(np.float32))
