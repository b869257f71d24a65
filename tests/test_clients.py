"""Other programs read our files with the same values: validators, libraries and command-line tools of viewers.

Programs that are not installed are skipped with a message; docs/viewers/index.md describes their installation.
"""

import json
import shutil
import subprocess
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from typer.testing import CliRunner

import lmri
from lmri import storage
from lmri.cli.app import app
from lmri.demo.texts import generate
from lmri.report.export import accept, export, format_labels, read_labels
from lmri.report.export.melodic import power
from lmri.report.validation import validate
from tolerances import epsilon, rounding

DEBIAN = {
    "nifti_tool": "nifti-bin",
    "mrinfo": "mrtrix3",
    "wb_command": "connectome-workbench",
}


def program(name):
    """Return the path of a program of Debian, or skip the test."""
    if (found := shutil.which(name)) is None:
        pytest.skip(f"{name} is not installed (apt-get install {DEBIAN[name]})")
    return found


def call(name, *arguments):
    done = subprocess.run([program(name), *map(str, arguments)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def run(*arguments):
    done = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert done.exit_code == 0, done.output
    return done


def data(path):
    return np.asarray(nib.load(path).dataobj)


def assert_valid(root):
    """Raise the problems that the BIDS validator and our own validation report for a study."""
    found = validate(lmri.open_study(root))
    assert found.problems == []
    assert "Checked by the BIDS validator." in found.notes


# -- studies ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """One on which most commands were run: two corpora at two sites, confounds, QC, networks, a report and exports."""
    root = tmp_path_factory.mktemp("clients") / "study"
    for corpus in ("code", "news"):
        texts = root.parent / f"{corpus}.txt"
        texts.write_text("\n".join(" ".join(text.split()) for text in generate(corpus, 12, 4)))
        sites = ("--site", "mlp_hidden", "--site", "mlp_out")
        run("record", "lmri-demo", texts, "--out", root, "--corpus", corpus, *sites, "--run-tokens", 300)
    run("confounds", root)
    run("qc", root, "--site", "mlp_out", "--corpus", "code")
    how = ("--method", "fastica-temporal", "--n-components", 3, "--threshold", "z:2", "--site", "mlp_hidden")
    for seed, name in enumerate(("first", "second")):
        run("decompose", root, *how, "--name", name, "--seed", seed)
    run("compare", root, "first", "second")
    run("localize", root, "--contrast", "code - news", "--site", "mlp_hidden", "--n-permutations", 20)
    run("describe", root, "first", "--save", "--n-permutations", 50)
    run("label", root, "first-00", "of code, mostly")
    for to in ("melodic", "workbench", "strip"):
        run("export", root, "first", "--to", to)
    found = lmri.open_study(root)
    roi = found.layout.folder / "rois" / "mlphidden" / "mine.nii.gz"
    storage.save_img(found.space("mlp_hidden").to_img(np.arange(found.space("mlp_hidden").n_neurons) < 9), roi)
    return found


# -- BIDS -------------------------------------------------------------------------------------------------------------


def test_a_study_of_many_commands_is_valid_bids(study):
    folders = {path.name for path in study.layout.folder.iterdir()}
    assert {"qc", "export", "rois", "labels.tsv", "comparisons", "atlas"} <= folders
    assert list(study.layout.func.glob("*confounds_timeseries.tsv"))
    assert_valid(study.root)


def test_the_bids_check_detects_damage(study, tmp_path):
    root = shutil.copytree(study.root, tmp_path / "study")
    shutil.copy(next(root.rglob("*_bold.nii")), root / "sub-lmridemo" / "func" / "stray.nii")
    with pytest.raises(AssertionError, match="BIDS"):
        assert_valid(root)


def test_volumes_of_any_kind_are_valid_bids(tmp_path):
    from tiny_models import build, sentences, word_tokenizer

    def record(name, corpus, site="mlp_out", model="gpt2", texts=None, **options):
        texts = sentences(8) if texts is None else texts
        return lmri.record(build(model), word_tokenizer(), texts, tmp_path / name, corpus=corpus, site=site, **options)

    record("axis", "words", per="word")
    pairs = [f"{one}. {two}." for one, two in zip(sentences(8), sentences(8, seed=1), strict=True)]
    record("axis", "sentences", texts=pairs, per="sentence", n_dummy=0)
    record("axis", "thinned", every=2, n_dummy=0)
    record("axis", "generated", texts=sentences(6, 2, 4), generate=4)
    for number in (1, 2):
        record("axis", "shards", site=["mlp_out", "attn_out"], shard=(number, 2), run_tokens=20)
    lmri.merge(tmp_path / "axis")
    record("stacks", "words", site=["mlp_out", "decoder_mlp_hidden"], model="t5")
    for name in ("axis", "stacks"):
        assert_valid(tmp_path / name)
    assert len(lmri.open_study(tmp_path / "axis").recordings()) == 6


def test_pybids_reads_a_study_as_a_derivative(study):
    bids = pytest.importorskip("bids", reason="pybids is not installed (pip install pybids)")
    layout = bids.BIDSLayout(study.root, validate=False, is_derivative=True)
    assert layout.get_subjects() == [study.subject]
    assert sorted(layout.get_tasks()) == ["code", "news"]
    assert sorted(layout.get_spaces(suffix="bold")) == ["mlphidden", "mlpout"]
    for recording in study.recordings():
        space = storage.bids_label(recording.space.site)
        found = layout.get(suffix="bold", task=recording.corpus, space=space, extension=".nii")
        assert [Path(one.path) for one in found] == [run.img for run in recording.runs]
        about = found[0].get_metadata()
        assert (about["RepetitionTime"], about["TaskName"]) == (1.0, recording.corpus)
        events = layout.get(suffix="events", task=recording.corpus, extension=".tsv")
        assert [len(one.get_df()) for one in events] == [run.n_volumes for run in recording.runs]


@pytest.mark.filterwarnings("ignore")
def test_nilearns_first_level_runs_on_a_study_and_gives_the_betas_of_a_glm_by_hand(study):
    from nilearn.glm.first_level import first_level_from_bids

    recording = study.recording("news", "mlp_hidden")
    models, imgs, events, confounds = first_level_from_bids(
        str(study.root), "news", space_label="mlphidden", derivatives_folder=".", mask_img=recording.mask_img,
        hrf_model=None, drift_model=None, noise_model="ols", signal_scaling=False, slice_time_ref=0.5,
        minimize_memory=False,
    )  # fmt: skip
    assert len(models) == 1
    assert imgs[0] == recording.imgs
    assert [len(table) for table in confounds[0]] == [run.n_volumes for run in recording.runs]
    # A condition that some tokens meet and others do not, and one nuisance regressor.
    longer = [table["token"].astype(str).str.len() > 3 for table in recording.events]
    chosen = [
        table[["onset", "duration"]][is_long.to_numpy()].assign(trial_type="long")
        for table, is_long in zip(events[0], longer, strict=True)
    ]
    nuisance = [table[["position"]] for table in confounds[0]]
    models[0].fit(imgs[0], chosen, nuisance)
    effect = models[0].compute_contrast("long", output_type="effect_size")
    by_hand, weights = [], []
    for array, is_long, table in zip(recording.arrays(), longer, nuisance, strict=True):
        X = np.column_stack([is_long, table["position"], np.ones(len(array))]).astype(float)
        by_hand.append(np.linalg.lstsq(X, array.astype(np.float64), rcond=None)[0][0])
        residual = array - X @ np.linalg.lstsq(X, array.astype(np.float64), rcond=None)[0]
        variance = (residual**2).sum(axis=0) / (len(X) - 3) * np.linalg.inv(X.T @ X)[0, 0]
        weights.append(variance)
    # nilearn adds runs up as fixed effects: their mean.
    assert np.allclose(recording.space.from_img(effect), np.mean(by_hand, axis=0), atol=rounding(array, len(array)))
    z = models[0].compute_contrast("long", output_type="stat")
    t = np.sum(by_hand, axis=0) / np.sqrt(np.sum(weights, axis=0))
    assert np.corrcoef(recording.space.from_img(z), t)[0, 1] > 0.999


# -- FSL --------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def fsl():
    """fslpy, which FSLeyes is built on."""
    return pytest.importorskip("fsl.data.melodicimage", reason="fslpy is not installed (pip install fslpy)")


def test_fslpy_takes_an_exported_folder_for_melodics(study, fsl):
    from fsl.data.melodicanalysis import isMelodicDir, isMelodicImage

    folder, networks = export(study, "first", site="mlp_hidden"), study.networks("first", "mlp_hidden")
    assert isMelodicDir(folder)
    assert isMelodicImage(folder / "melodic_IC.nii.gz")
    img = fsl.MelodicImage(str(folder))
    assert img.numComponents() == len(networks)
    assert img.tr == 1.0
    courses = np.concatenate([table.to_numpy() for _, _, table in study.time_courses("first", "mlp_hidden")])
    for number, network in enumerate(networks):
        assert np.array_equal(img.getComponentTimeSeries(number), courses[:, number])
        assert np.array_equal(img.getComponentPowerSpectrum(number), power(courses)[:, number])
        volume = nib.Nifti1Image(np.asarray(img[..., number], dtype=np.float32), np.eye(4))
        assert np.array_equal(networks.space.from_img(volume), network.z.astype(np.float32))
    mean = img.getMeanFile() if hasattr(img, "getMeanFile") else folder / "mean.nii.gz"
    assert np.isfinite(data(mean)).all()


def test_fslpy_reads_images_with_their_numbers_and_space(study, fsl):
    from fsl.data.image import Image

    run = study.recording("news", "mlp_hidden").runs[0]
    img = Image(str(run.img))
    assert np.array_equal(np.asarray(img[:]), data(run.img))
    assert np.array_equal(img.voxToWorldMat, np.eye(4))
    assert img.isNeurological()
    assert img.pixdim == (1.0,) * 4


def test_labels_go_to_fslpy_and_back(study, tmp_path, fsl):
    from fsl.data.fixlabels import loadLabelFile, saveLabelFile

    folder = export(study, "first", site="mlp_hidden", out=tmp_path / "first.ica")
    named, labels = loadLabelFile(str(folder / "labels.txt"))[:2]
    assert Path(named).resolve() == folder.resolve()
    assert labels[0] == ["of code; mostly", "Unknown"]
    assert all(one[-1] == "Unknown" for one in labels)
    # As a person leaves it in FSLeyes, which saves by this function.
    decided = [["of code; mostly", "Signal"], ["Unclassified noise"], ["Unknown"]]
    saveLabelFile(decided, str(folder / "labels.txt"), str(folder))
    read = read_labels(folder / "labels.txt", 3)
    assert [list(one) for one in read.labels] == decided
    assert read.rejected.tolist() == [False, True, False]
    root = shutil.copytree(study.root, tmp_path / "study")
    found = accept(lmri.open_study(root), "first", folder / "labels.txt", "accepted", "mlp_hidden")
    assert found.rejected == ["first-01"]
    assert found.labelled == []
    run("lesion", root, "--networks", "accepted", "--site", "mlp_hidden", "--n-controls", 1, "--quiet")
    scores = lmri.open_study(root).scores("lesion-accepted", "mlp_hidden").summary()
    n_neurons = scores.groupby("network")["n_neurons"].first()
    assert n_neurons["accepted-01"] == 0
    assert n_neurons["accepted-00"] > 0


@pytest.mark.parametrize("seed", range(5))
def test_any_labels_are_the_same_to_fslpy_and_to_us(tmp_path, fsl, seed):
    from fsl.data.fixlabels import InvalidLabelFileError, isNoisyComponent, loadLabelFile, saveLabelFile

    rng = np.random.default_rng(seed)
    words = ["Signal", "signal", "Unknown", "Movement", "Unclassified noise", "code or news", "1", "x.y-z"]
    labels = [list(rng.choice(words, size=rng.integers(1, 4), replace=False)) for _ in range(6)]
    theirs, ours = tmp_path / "theirs.txt", tmp_path / "ours.txt"
    saveLabelFile(labels, str(theirs), str(tmp_path))
    ours.write_text(format_labels(labels))
    for path in (theirs, ours):
        assert [list(one) for one in read_labels(path, 6).labels] == labels == loadLabelFile(str(path))[1]
    assert read_labels(ours, 6).rejected.tolist() == [isNoisyComponent(one) for one in labels]
    # What fslpy refuses is refused here.
    swapped = ours.read_text().replace("[", "[7, ") if seed % 2 else ours.read_text().replace("2, ", "3, ", 1)
    ours.write_text(swapped)
    with pytest.raises((InvalidLabelFileError, IndexError, ValueError)):
        loadLabelFile(str(ours))
    with pytest.raises(ValueError, match="Nothing was changed"):
        read_labels(ours, 6)


# -- ITK, NIfTI's own tools, MRtrix, Connectome Workbench -------------------------------------------------------------


@pytest.fixture(scope="module")
def images(study):
    """An image of every kind, small ones."""
    decomposition = study.entries.find("decompositions", "first", "mlp_hidden").folder
    networks = study.entries.find("networks", "first", "mlp_hidden").folder
    return [
        study.recording("news", "mlp_hidden").runs[0].img,
        study.layout.mask("news", "mlp_hidden"),
        study.layout.atlas("mlp_hidden") / "layers.nii.gz",
        next(decomposition.glob("*_components.nii.gz")),
        next(decomposition.glob("*_component-00_stat-z_statmap.nii.gz")),
        next(decomposition.glob("*_mean.nii.gz")),
        next(networks.glob("*_members.nii.gz")),
        study.layout.export("mlp_hidden", "first.ica") / "melodic_IC.nii.gz",
    ]


def test_simpleitk_reads_the_same_numbers_at_the_same_places(images):
    sitk = pytest.importorskip("SimpleITK", reason="SimpleITK is not installed (pip install SimpleITK)")
    for path in images:
        img = sitk.ReadImage(str(path))
        wanted = data(path)
        assert np.array_equal(sitk.GetArrayFromImage(img).T, wanted)
        assert img.GetSpacing() == (1.0,) * wanted.ndim
        # ITK counts from right to left and from front to back (LPS).
        place = img.TransformIndexToPhysicalPoint([2, 3, 1, 0][: wanted.ndim])
        assert place[:3] == (-2.0, -3.0, 1.0)


def test_nifti_tool_finds_no_fault_and_the_same_header(images):
    for path in images:
        said = call("nifti_tool", "-check_hdr", "-check_nim", "-infiles", path)
        assert "FAILURE" not in said
        assert said.count("GOOD") >= 2
        header = nib.load(path).header
        for field in ("sform_code", "qform_code", "intent_code", "datatype", "xyzt_units"):
            shown = call("nifti_tool", "-disp_hdr1", "-field", field, "-infiles", path).split()
            assert int(shown[-1]) == int(header[field])
    volume = data(images[0])
    shown = call("nifti_tool", "-disp_ts", 2, 3, 1, "-quiet", "-infiles", images[0])
    shown = np.array(shown.split(), dtype=float)
    assert np.allclose(shown, volume[2, 3, 1], rtol=1e-5, atol=1e-5)  # printed with 6 decimals


def test_mrtrix_reads_the_same_numbers_and_layer_names(study, images, tmp_path):
    for path in images:
        about = tmp_path / "about.json"
        call("mrinfo", path, "-json_all", about, "-force")
        content = json.loads(about.read_text())
        wanted = data(path)
        assert content["size"] == list(wanted.shape)
        assert np.allclose(np.array(content["transform"])[:3], np.eye(4)[:3])
        call("mrdump", path, tmp_path / "values.txt", "-force", "-quiet")
        values = np.loadtxt(tmp_path / "values.txt")
        assert np.allclose(values, wanted.ravel(order="F"), rtol=1e-5, atol=0)  # printed with 6 digits
    folder = study.layout.atlas("mlp_hidden")
    table, labels = folder / "layers_mrtrix.txt", folder / "layers.nii.gz"
    call("labelconvert", labels, table, table, tmp_path / "same.nii", "-quiet")
    assert np.array_equal(data(tmp_path / "same.nii"), data(labels))
    call("label2colour", labels, tmp_path / "colours.nii", "-lut", table, "-quiet")
    colours = data(tmp_path / "colours.nii")[data(labels) == 1]
    first = study.space("mlp_hidden").labels_table["color"].iloc[0]
    assert np.unique(colours, axis=0).tolist() == [[int(first[at : at + 2], 16) for at in (1, 3, 5)]]


def test_workbench_reads_images_maps_and_layer_names(study, images, tmp_path):
    said = call("wb_command", "-file-information", images[4])
    assert "Plane:                RAS" in said or "Orientation" in said
    folder = study.layout.export("mlp_hidden", "first_workbench")
    networks = study.networks("first", "mlp_hidden")
    call("wb_command", "-cifti-convert", "-to-text", folder / "maps_stat-z.dscalar.nii", tmp_path / "maps.txt")
    text = np.loadtxt(tmp_path / "maps.txt")  # (n_voxels, n_maps)
    axis = nib.load(folder / "maps_stat-z.dscalar.nii").header.get_axis(1)
    z = networks.space.to_img(np.stack([one.z for one in networks]))
    assert np.allclose(text, np.asarray(z.dataobj)[tuple(axis.voxel.T)], rtol=1e-5, atol=0)  # printed with 6 digits
    names = call("wb_command", "-file-information", folder / "maps_stat-z.dscalar.nii", "-only-map-names").splitlines()
    assert names == ["first-00 of code, mostly", *(f"first-0{number} {label}".strip() for number, label in (
        (1, networks.metrics["label"][1]), (2, networks.metrics["label"][2])
    ))]  # fmt: skip
    dense = tmp_path / "dense.nii.gz"
    call("wb_command", "-cifti-separate", folder / "maps_stat-z.dscalar.nii", "COLUMN", "-volume-all", dense)
    assert np.allclose(
        np.stack([one.z for one in networks]), networks.space.from_img(dense), rtol=epsilon(np.float32), atol=0
    )
    atlas = study.layout.atlas("mlp_hidden")
    imported = tmp_path / "layers.nii.gz"
    call("wb_command", "-volume-label-import", atlas / "layers.nii.gz", atlas / "layers_workbench.txt", imported)
    call("wb_command", "-volume-label-export-table", imported, 1, tmp_path / "table.txt")
    wanted = (atlas / "layers_workbench.txt").read_text()
    assert wanted in (tmp_path / "table.txt").read_text()
    assert np.array_equal(data(imported), data(atlas / "layers.nii.gz"))
