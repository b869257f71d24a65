"""Regions of interest: lesions affect exactly the drawn neurons, and invalid images are refused."""

import json
import shutil
import warnings
from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest
from typer.testing import CliRunner

import lmri
from lmri import NeuronSpace, SpaceMismatchError, storage
from lmri.cli.app import app
from lmri.exceptions import EntryExistsError, NonFiniteError, OtherWeightsWarning
from lmri.networks.rois import RoiSet, members_of, read_roi, save, stored
from lmri.networks.stored_rois import open_rois
from lmri.report.validation import validate
from lmri.space.layers import ModelInfo
from lmri.storage import Layout

SPACE = NeuronSpace.build([40, 37, 40])  # folded 8 × 5; the second layer leaves three voxels empty
NEURONS = [[0, 3], [1, 36], [2, 0], [2, 39]]


@pytest.fixture
def members():
    return members_of(SPACE, NEURONS)


def places(network):
    return sorted(network.neurons()[["layer", "neuron"]].values.tolist())


def test_saved_regions_are_read_back_unchanged(tmp_path, members):
    path = save(Layout(tmp_path, "sub-tiny"), SPACE, "mine", members)
    found = read_roi(path, SPACE)
    assert places(found) == NEURONS
    assert (found.name, found.kind) == ("mine", "network")
    assert set(found.weights[found.members]) == {1.0}
    img = nib.load(path)
    assert img.get_data_dtype() == np.uint8
    assert (int(img.header["sform_code"]), int(img.header["qform_code"])) == (1, 1)
    assert np.asarray(img.dataobj).sum() == len(NEURONS)
    assert nib.aff2axcodes(img.affine) == ("R", "A", "S")
    about = storage.read_json(storage.sidecar(path))
    assert (about["name"], about["site"], about["n_neurons"]) == ("mine", "mlp_out", 4)
    [listed] = stored(Layout(tmp_path, "sub-tiny"))
    assert (listed.name, listed.site, listed.n_neurons, listed.problem) == ("mine", "mlp_out", 4, "")


def test_nothing_is_overwritten(tmp_path, members):
    path = save(Layout(tmp_path, "sub-tiny"), SPACE, "mine", members)
    before = path.read_bytes()
    with pytest.raises(EntryExistsError, match="Choose another name"):
        save(Layout(tmp_path, "sub-tiny"), SPACE, "mine", ~members)
    assert path.read_bytes() == before
    save(Layout(tmp_path, "sub-tiny"), SPACE, "other", ~members)
    with pytest.raises(EntryExistsError, match="only in case"):
        save(Layout(tmp_path, "sub-tiny"), SPACE, "Mine", ~members)
    with pytest.raises(ValueError, match="Windows reserves"):
        save(Layout(tmp_path, "sub-tiny"), SPACE, "aux", members)


@pytest.mark.parametrize("name", ["", "..", "a/b", "../a", ".hidden", "a b", "intact", "a\x00", "ä"])
def test_names_are_those_of_entries(tmp_path, members, name):
    with pytest.raises(ValueError, match=r"name|called"):
        save(Layout(tmp_path / "study", "sub-tiny"), SPACE, name, members)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def flipped(img):
    """Save an image with reversed orientation, as some software does."""
    return nib.as_closest_canonical(img).as_reoriented(np.array([[0, -1], [1, 1], [2, 1]]))


def test_images_of_other_software_give_the_same_region(tmp_path, members):
    mask = SPACE.to_img(members)
    weights = SPACE.to_img(np.where(members, -2.5, 0))
    data = np.asarray(mask.dataobj)
    in_4d = nib.Nifti1Image(data[..., None], mask.affine)
    scaled = nib.Nifti1Image(np.round((data - 0.1) / 0.3).astype(np.int16), mask.affine)
    # Whatever is stored for 0 is a little off: the offset is no multiple of the step.
    scaled.header.set_slope_inter(0.3, 0.1)
    for number, img in enumerate([mask, weights, flipped(mask), in_4d, scaled]):
        nib.save(img, tmp_path / f"{number}.nii.gz")
        assert places(read_roi(tmp_path / f"{number}.nii.gz", SPACE)) == NEURONS, number
    stored_zero = np.unique(np.abs(nib.load(tmp_path / "4.nii.gz").get_fdata()))
    assert stored_zero[0] > 0  # without the rule of half a step every neuron would be a member


def test_invalid_regions_are_refused(tmp_path, members):
    data = np.asarray(SPACE.to_img(members).dataobj).astype(np.float32)

    def read(changed, affine=None):
        nib.save(nib.Nifti1Image(changed, np.eye(4) if affine is None else affine), tmp_path / "roi.nii.gz")
        return read_roi(tmp_path / "roi.nii.gz", SPACE)

    assert places(read(data)) == NEURONS
    with pytest.raises(ValueError, match="0 everywhere"):
        read(0 * data)
    for bad in (np.nan, np.inf):
        broken = data.copy()
        broken[3, 2, 1] = bad
        with pytest.raises(NonFiniteError, match=r"voxel \(3, 2, 1\)"):
            read(broken)
    beyond = data.copy()
    beyond[6, 4, 1] = 1  # neuron 38 of a layer of 37
    with pytest.raises(ValueError, match=r"voxel \(6, 4, 1\), which holds no neuron: layer 1 has 37"):
        read(beyond)
    with pytest.raises(SpaceMismatchError, match="shape"):
        read(data[:-1])
    with pytest.raises(SpaceMismatchError, match="affine"):
        read(data, np.diag([2.0, 2.0, 2.0, 1.0]))
    with pytest.raises(ValueError, match="2 volumes"):
        read(np.stack([data, data], axis=-1))
    (tmp_path / "cut.nii.gz").write_bytes((tmp_path / "roi.nii.gz").read_bytes()[:60])
    with pytest.raises(ValueError, match="cut"):
        read_roi(tmp_path / "cut.nii.gz", SPACE)
    with pytest.raises(FileNotFoundError, match="Check the path"):
        read_roi(tmp_path / "none.nii.gz", SPACE)


def test_other_neurons_on_the_same_grid_are_refused(tmp_path, members):
    other = NeuronSpace(SPACE.layers, "attn_out")
    path = save(Layout(tmp_path, "sub-tiny"), SPACE, "mine", members)
    alone = tmp_path / "alone.nii.gz"
    shutil.copy(path, alone)
    assert places(read_roi(alone, SPACE)) == NEURONS
    with pytest.raises(SpaceMismatchError, match="attn_out"):  # by the image itself
        read_roi(alone, other)
    bare = nib.Nifti1Image(np.asarray(nib.load(path).dataobj), np.eye(4))
    nib.save(bare, path)
    with pytest.raises(SpaceMismatchError, match="--site mlp_out"):  # by the sidecar
        read_roi(path, other)
    storage.sidecar(path).unlink()
    assert places(read_roi(path, other)) == NEURONS  # nothing says otherwise


def test_a_region_of_other_weights_is_told(tmp_path, members):
    one, other = (replace(SPACE, model=ModelInfo("gpt2", None, print_, "gpt2", "float32")) for print_ in ("aa", "bb"))
    path = save(Layout(tmp_path, "sub-tiny"), one, "mine", members)
    with pytest.warns(OtherWeightsWarning, match="other weights"):
        read_roi(path, other)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        read_roi(path, one)


def test_a_name_comes_from_the_sidecar_or_the_file(tmp_path, members):
    nib.save(SPACE.to_img(members), tmp_path / "left.1.nii.gz")
    assert read_roi(tmp_path / "left.1.nii.gz", SPACE).name == "left.1"
    storage.write_json(tmp_path / "left.1.json", {"name": "verbs"})
    assert read_roi(tmp_path / "left.1.nii.gz", SPACE).name == "verbs"
    assert read_roi(tmp_path / "left.1.nii.gz", SPACE, "given").name == "given"
    storage.write_json(tmp_path / "left.1.json", {"name": "intact"})
    with pytest.raises(ValueError, match="cannot be named 'intact'"):
        read_roi(tmp_path / "left.1.nii.gz", SPACE)


@pytest.mark.parametrize(
    ("neurons", "error"),
    [
        ([], ValueError),
        ([[3, 0]], IndexError),
        ([[-1, 0]], IndexError),
        ([[1, 37]], IndexError),
        ([[0]], TypeError),
        ([[0, 1.0]], TypeError),
        ([[True, 1]], TypeError),
        (["01"], TypeError),
    ],
)
def test_neurons_that_do_not_exist_are_refused(neurons, error):
    with pytest.raises(error, match=r"layer|neuron"):
        members_of(SPACE, neurons)


def test_regions_keep_their_names_in_a_set(members):
    regions = [
        lmri.Network.from_members(SPACE, members, "one"),
        lmri.Network.from_members(SPACE, members_of(SPACE, [[0, 0]]), "two"),
    ]
    found = RoiSet.of(regions)
    assert [one.name for one in found] == ["one", "two"]
    assert places(found["two"]) == [[0, 0]]
    assert (found.union().name, found.union().n_neurons) == ("one-two-union", 5)
    with pytest.raises(ValueError, match="at least one is needed, with different names"):
        RoiSet.of([regions[0], regions[0]])


# -- in a study -------------------------------------------------------------------------------------------------------


def run(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture
def copy(walked, tmp_path):
    return lmri.open_study(shutil.copytree(walked.root, tmp_path / "study"))


def test_the_lesion_of_a_region_is_that_of_the_same_neurons(copy, tmp_path):
    """The oracle is the lesion of a network with the same members, by the library."""
    space = copy.space()
    network = copy.networks("canica")[0]
    path = save(copy.layout, space, "mine", network.members)
    outside = tmp_path / "drawn.nii.gz"
    nib.save(space.to_img(~network.members & (space.layer_of == 0)), outside)
    lesion = ("lesion", copy.root, "--roi", path, "--n-controls", 2, "--json")
    done = run(*lesion)
    assert done.exit_code == 0, done.output
    said = json.loads(done.stdout)
    assert said["name"] == "lesion-mine"
    assert {row["condition"] for row in said["summary"]} == {"intact", "mine"}
    model, tokenizer = lmri.load_model("lmri-demo")
    tasks = [lmri.lesions.tasks.Perplexity(one.test_texts, f"perplexity-{one.corpus}") for one in copy.recordings()]
    expected = lmri.evaluate(model, tokenizer, tasks, {"mine": lmri.lesion(network)}, lmri.MatchedControls(2), seed=0)
    for row, wanted in zip(said["summary"], expected.summary().to_dict("records"), strict=True):
        for column in ("condition", "task", "n_neurons", "value", "control_mean", "p"):
            assert row[column] == wanted[column] or (row[column] is None and wanted[column] != wanted[column]), column
    entry = copy.entries.find("scores", "lesion-mine")
    assert "networks" not in entry.inputs
    place = {"path": "lmri/sub-lmridemo/rois/mlphidden/mine.nii.gz", "sha256": storage.file_hash(path)}
    assert entry.parameters["rois"] == [{"name": "mine", **place, "n_neurons": network.n_neurons}]
    assert "mine (lmri/sub-lmridemo/rois/" in copy.entries.find("experiments", "lesion-mine").parameters["rois"]
    again = run(*lesion)
    assert json.loads(again.stdout)["summary"] == said["summary"]

    two = run("lesion", copy.root, "--roi", path, "--roi", outside, "--n-controls", 1, "--name", "both", "--json")
    assert {row["condition"] for row in json.loads(two.stdout)["summary"]} == {
        "intact", "mine", "drawn", "mine-drawn-union",
    }  # fmt: skip
    assert copy.entries.find("scores", "both").parameters["rois"][1]["path"] == "drawn.nii.gz"


def test_a_command_reports_the_interpretation_and_lesions_each_label(copy, tmp_path):
    study, space = copy, copy.space()
    values = np.zeros(space.n_neurons)
    values[[1, 5, 9, 30]], values[[2, 60]] = 1, 2
    nib.save(space.to_img(values.astype(np.int16)), tmp_path / "two.nii.gz")
    found = open_rois(study, [tmp_path / "two.nii.gz"])
    assert found.names == ["two-1", "two-2"]
    entries = found.origin.other["rois"]
    assert [(roi["name"], roi["kind"], roi["label"], roi["n_neurons"]) for roi in entries] == [
        ("two-1", "label image", 1, 4),
        ("two-2", "label image", 2, 2),
    ]
    with pytest.raises(ValueError, match="with different names"):
        open_rois(study, [tmp_path / "two.nii.gz"] * 2)
    arguments = ["lesion", study.root, "--roi", tmp_path / "two.nii.gz", "--n-controls", 1, "--name", "of-labels"]
    done = run(*arguments, "--json")
    assert done.exit_code == 0, done.output
    printed = json.loads(done.stdout)
    assert {row["condition"] for row in printed["summary"]} == {"intact", "two-1", "two-2", "two-1-two-2-union"}
    assert [roi["kind"] for roi in printed["rois"]] == ["label image"] * 2
    assert "two.nii.gz is a label image of 2 regions: two-1 (4 neurons), two-2 (2 neurons)" in done.stderr
    again = run(*arguments)
    assert "Region two-2: 2 neurons (label image, label 2)." in again.stdout
    written = study.entries.find("experiments", "of-labels").parameters["rois"]
    assert written.startswith("two-1 (label 1 of two.nii.gz, a label image, 4 neurons)")


def test_fitted_texts_count_as_those_a_region_was_drawn_from(copy):
    path = save(copy.layout, copy.space(), "mine", copy.networks("canica")[0].members)
    found = open_rois(copy, [path], None)
    fitted = {storage.text_hash(text) for one in copy.recordings() for text in one.fit_texts}
    assert found.fit_texts == found[0].fit_texts == fitted


def test_the_command_says_what_is_wrong(copy, tmp_path):
    img = nib.Nifti1Image(np.zeros((2, 2, 2), dtype=np.uint8), np.eye(4))
    nib.save(img, tmp_path / "other.nii.gz")
    for arguments, words in [
        (("--roi", tmp_path / "none.nii.gz"), "does not exist"),
        (("--roi", tmp_path / "other.nii.gz"), "has shape (2, 2, 2)"),
        (("--roi", tmp_path / "other.nii.gz", "--networks", "canica"), "cannot be combined with --networks or --paper"),
    ]:
        done = run("lesion", copy.root, *arguments)
        assert done.exit_code == 1
        assert words in " ".join(done.stderr.split())


def test_validation_looks_at_regions(copy):
    space = copy.space()
    members = copy.networks("canica")[0].members
    whole = save(copy.layout, space, "whole", members)
    nib.save(space.to_img(members), whole.with_name("put-there.nii.gz"))  # by a person, without a sidecar
    assert not validate(copy).problems
    image = whole.read_bytes()
    whole.write_bytes(image[:-20])
    [problem] = validate(copy).problems
    assert "'whole'" in problem
    assert "changed since it was saved" in problem
    nib.save(nib.Nifti1Image(np.ones((2, 2, 2), dtype=np.uint8), np.eye(4)), whole)
    about = json.loads(storage.sidecar(whole).read_text())
    storage.write_json(storage.sidecar(whole), about | {"sha256": storage.file_hash(whole)})
    [problem] = validate(copy).problems
    assert "has shape (2, 2, 2)" in problem
