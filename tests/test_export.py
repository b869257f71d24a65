"""Networks are exported to other programs without changes, and decisions made there are imported."""

import json
import re
import shutil

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from nibabel import cifti2
from typer.testing import CliRunner

import lmri
from lmri import FastICA, storage
from lmri.cli.app import app
from lmri.exceptions import DataWarning, EntryExistsError, StudyError
from lmri.networks import NetworkSet
from lmri.report.export import accept, export, format_labels, read_labels
from lmri.report.export.melodic import power
from lmri.report.validation import validate
from lmri.space.headers import INTENTS
from lmri.storage.dataset_files import atlas_files
from lmri.storage.files import LockedError, lock_wait
from tolerances import rounding

SITE = "mlp_hidden"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A study of two corpora at two sites, with networks of two decompositions and of a localizer."""
    from tiny_models import build, sentences, word_tokenizer

    root = tmp_path_factory.mktemp("export") / "study"
    for seed, corpus in enumerate(("first", "second")):
        texts = sentences(24, seed=seed)
        lmri.record(build("gpt2"), word_tokenizer(), texts, root, corpus=corpus, site=[SITE, "mlp_out"], run_tokens=60)
    study = lmri.open_study(root)
    recordings = study.group(SITE)
    imgs = [img for one in recordings for img in one.imgs]
    for name, n, seed in (("ica", 3, 0), ("other", 3, 1), ("one", 1, 0)):
        fitted = FastICA(recordings[0].space, n, kind="temporal", random_state=seed).fit(imgs)
        study.save_decomposition(fitted, recordings, name)
        study.save_networks(study.decomposition(name, SITE).threshold("z", z=1.5), name)
    found = lmri.localize(recordings, "first - second", n_permutations=50)
    study.save_decomposition(found, recordings, "contrast")
    study.save_networks(found.threshold(), "contrast")
    study.label("ica-01", "verbs, mostly")
    return study


@pytest.fixture
def study(made, tmp_path):
    """One that the test may change."""
    return lmri.open_study(shutil.copytree(made.root, tmp_path / "study"))


def data(path):
    return np.asarray(nib.load(path).dataobj)


# -- what every image says of itself ----------------------------------------------------------------------------------

INTENT_OF = {
    r"_bold\.nii$": "none",
    r"_?mask\.nii\.gz$": "none",
    r"(_dseg|layers)\.nii\.gz$": "label",
    r"(stat-z_statmap|melodic_IC|thresh_zstat\d+|ica-\d+_strip)\.nii\.gz$": "z",
    r"(stat-t_statmap|contrast-\d+_strip)\.nii\.gz$": "t",
    r"desc-(?!contrast)\w+_components\.nii\.gz$": "estimate",
    r"desc-contrast_components\.nii\.gz$": "t",
    r"_(weights|effect)\.nii\.gz$": "estimate",
    r"(_members|_?mean)\.nii\.gz$": "none",
    r"_p\.nii\.gz$": "p",
}


def check_laws(path):
    """Raise an error unless all viewers interpret the header of an image in the same way."""
    img = nib.load(path)
    header = img.header
    assert (header["sform_code"], header["qform_code"]) == (1, 1)
    assert np.array_equal(img.get_sform(), img.get_qform())
    assert np.array_equal(img.affine, img.get_sform())
    assert nib.aff2axcodes(img.affine) == ("R", "A", "S")
    if not path.name.endswith("_strip.nii.gz"):
        assert np.array_equal(img.affine, np.eye(4))
    assert header.get_xyzt_units() == ("mm", "sec")
    assert img.ndim in (3, 4)
    assert np.allclose(header.get_zooms()[:3], np.diag(img.affine)[:3])
    assert header.get_zooms()[3:] == (1.0,) * (img.ndim - 3)
    assert header.get_slope_inter() in ((None, None), (1.0, 0.0))
    assert header.get_data_dtype() in (np.float32, np.uint8, np.int16)
    assert isinstance(img, nib.Nifti1Image)
    assert not isinstance(img, nib.Nifti2Image)
    fitting = [intent for pattern, intent in INTENT_OF.items() if re.search(pattern, path.name)]
    assert len(fitting) == 1
    assert int(header["intent_code"]) == INTENTS[fitting[0]]
    if fitting == ["label"]:
        assert not header.extensions  # MRIcroGL would read a comment as the text of the labels
    assert np.isfinite(np.asarray(img.dataobj)).all()


def test_every_image_of_a_study_keeps_the_laws_of_headers(study):
    export(study, "ica", "melodic", SITE)
    for name in ("ica", "contrast"):
        for to in ("workbench", "strip"):
            export(study, name, to, SITE)
    paths = [path for path in (*study.root.rglob("*.nii"), *study.root.rglob("*.nii.gz")) if "dscalar" not in path.name]
    paths = [path for path in paths if "dlabel" not in path.name]
    seen = {pattern for path in paths for pattern in INTENT_OF if re.search(pattern, path.name)}
    assert seen == set(INTENT_OF)
    for path in paths:
        check_laws(path)


@pytest.mark.parametrize("change", ["qform", "intent", "flipped", "unnamed"])
def test_the_header_check_detects_damage(made, tmp_path, change):
    path = tmp_path / ("melodic_IC.nii.gz" if change != "unnamed" else "something.nii.gz")
    img = made.space(SITE).to_img(np.ones(made.space(SITE).n_neurons), "z")
    if change == "qform":
        img.set_qform(np.eye(4), 0)
    elif change == "intent":
        img.header.set_intent(0)
    elif change == "flipped":
        img = img.as_reoriented(np.array([[0, -1], [1, 1], [2, 1]]))
    nib.save(img, path)
    with pytest.raises(AssertionError):
        check_laws(path)


def test_maps_lie_beside_each_other_whole_and_thresholded_and_with_their_mean(made):
    space, networks = made.space(SITE), made.networks("ica", SITE)
    entry = made.entries.find("decompositions", "ica", SITE)
    for number, network in enumerate(networks):
        (whole,) = entry.folder.glob(f"*_component-{number:02d}_stat-z_statmap.nii.gz")
        assert np.array_equal(space.from_img(whole), network.z.astype(np.float32))
        (cut,) = made.entries.find("networks", "ica", SITE).folder.glob(f"*_network-{number:02d}_stat-z_statmap.nii.gz")
        assert np.array_equal(space.from_img(cut), np.where(network.members, network.z, 0).astype(np.float32))
    (mean,) = entry.folder.glob("*_mean.nii.gz")
    volumes = np.concatenate([array for one in made.group(SITE) for array in one.arrays()])
    assert np.allclose(space.from_img(mean), volumes.mean(axis=0, dtype=np.float64), atol=rounding(volumes))
    assert made.recording("first", SITE).n_volumes != made.recording("second", SITE).n_volumes  # or any mean would do


def test_localizer_maps_are_exported_and_labelled_as_t(made):
    entry = made.entries.find("decompositions", "contrast", SITE)
    (path,) = entry.folder.glob("*_component-00_stat-t_statmap.nii.gz")
    t = made.decomposition("contrast", SITE).weights[0]
    space, network = made.space(SITE), made.decomposition("contrast", SITE).threshold("top", share=0.1)[0]
    assert np.array_equal(space.from_img(path), t)
    assert not np.allclose(network.z, t)
    assert np.array_equal(network.stat_map, t)
    assert np.array_equal(network.neurons()["t"], network.neurons()["weight"])
    (cut,) = made.entries.find("networks", "contrast", SITE).folder.glob("*_network-00_stat-t_statmap.nii.gz")
    members = made.networks("contrast", SITE).members[0]
    assert np.array_equal(space.from_img(cut), np.where(members, t, 0))
    export(made, "contrast", "workbench", SITE)
    dense = nib.load(made.layout.folder / f"export/{SITE.replace('_', '')}/contrast_workbench/maps_stat-t.dscalar.nii")
    assert np.isin(dense.get_fdata().ravel(), t).all()


def test_counted_signs_equal_displayed_signs(made):
    """Both count signs relative to 0, independent of the mean of a map."""
    space, rng = made.space(SITE), np.random.default_rng(0)
    shifted = rng.normal(3, 1, (1, space.n_neurons)).astype(np.float32)
    sparse = np.where(rng.random((1, space.n_neurons)) < 0.2, np.abs(shifted) * 0.1, 0).astype(np.float32)
    sparse[0, :3] = 5, -0.01, 8
    for weights, threshold in ((shifted, "z"), (sparse, "support")):
        networks = NetworkSet(space, weights).threshold(threshold, **({"z": 1.0} if threshold == "z" else {}))
        [row] = networks.table.to_dict("records")
        painted = np.where(networks.members[0], networks[0].stat_map, 0)
        assert row["n_positive"] == (painted > 0).sum()
        assert row["n_neurons"] - row["n_positive"] == (painted < 0).sum()
    assert row["n_neurons"] - row["n_positive"] == 1  # of the sparse map, whose mean is above most of its weights


@pytest.mark.parametrize("n", [100, 101])
def test_spectra_have_as_many_frequencies_as_fsleyes_expects(n):
    courses = 3 + np.random.default_rng(0).standard_normal((n, 2))
    even = n + n % 2
    found = power(courses)
    assert len(found) == len(np.fft.rfftfreq(even)) - 1
    whole = np.vstack([courses, np.broadcast_to(courses.mean(axis=0), (even - n, 2))])
    k, t = np.arange(1, len(found) + 1), np.arange(even)
    by_hand = np.abs(np.exp(-2j * np.pi * np.outer(k, t) / even) @ whole) ** 2
    assert np.allclose(found, by_hand, rtol=0, atol=rounding(2 * np.sqrt(found.max()) * 3 * even, even))


# -- names and colours of layers --------------------------------------------------------------------------------------


def lut(text):
    rows = [line.split(maxsplit=4) for line in text.splitlines()]
    return {int(n): (name, tuple(round(255 * float(part)) for part in rgb)) for n, *rgb, name in rows}


def niivue(text):
    content = json.loads(text)
    colors = zip(content["R"], content["G"], content["B"], strict=True)
    return dict(list(zip(content["I"], zip(content["labels"], colors, strict=True), strict=True))[1:])


def mrtrix(text):
    rows = [line.split() for line in text.splitlines()]
    return {int(n): (name, tuple(map(int, rgb))) for n, _, name, *rgb, alpha in rows if alpha == "255"}


def workbench(text):
    lines = text.splitlines()
    numbers = [list(map(int, line.split())) for line in lines[1::2]]
    return {n: (name, tuple(rgb)) for name, (n, *rgb, _) in zip(lines[::2], numbers, strict=True)}


def test_every_viewer_is_told_the_same_names_and_colours(made):
    space = made.space(SITE)
    folder = made.layout.atlas(SITE)
    assert {path.name for path in folder.iterdir()} == {"layers.nii.gz", *atlas_files(space.labels_table)}
    assert np.array_equal(data(folder / "layers.nii.gz"), data(made.layout.labels("first", SITE)))
    labels = made.layout.labels("first", SITE)
    table = storage.read_table(labels.with_name(labels.name.replace(".nii.gz", ".tsv")), ["name", "color", "module"])
    colors = [tuple(int(color[at : at + 2], 16) for at in (1, 3, 5)) for color in table["color"]]
    wanted = dict(zip(table["index"].tolist(), zip(table["name"], colors, strict=True), strict=True))
    assert len(set(wanted.values())) == space.n_layers
    read = {name: (folder / name).read_text() for name in atlas_files(space.labels_table)}
    assert lut(read["layers.lut"]) == niivue(read["layers.json"]) == workbench(read["layers_workbench.txt"]) == wanted
    plain = {n: (name.replace(" ", "_"), rgb) for n, (name, rgb) in wanted.items()}
    assert mrtrix(read["layers_mrtrix.txt"]) == plain
    rows = [line.split() for line in read["layers.txt"].splitlines()]
    assert {int(n): name for n, name in rows} == {n: name for n, (name, _) in plain.items()}
    assert set(np.unique(data(folder / "layers.nii.gz"))) - {0} == set(wanted)


# -- an .ica folder ---------------------------------------------------------------------------------------------------


def test_a_melodic_folder_holds_the_numbers_of_the_study(study):
    networks = study.networks("ica", SITE)
    folder = export(study, "ica", site=SITE)
    assert folder == study.layout.folder / "export" / "mlphidden" / "ica.ica"
    z = networks.space.from_img(folder / "melodic_IC.nii.gz")
    assert np.array_equal(z, np.stack([one.z for one in networks]).astype(np.float32))
    courses = np.concatenate([table.to_numpy() for _, _, table in study.time_courses("ica", SITE)])
    assert np.array_equal(np.loadtxt(folder / "melodic_mix"), courses)
    assert np.array_equal(np.loadtxt(folder / "melodic_FTmix"), power(courses))
    assert np.array_equal(data(folder / "mask.nii.gz"), data(study.layout.mask("first", SITE)))
    for number, network in enumerate(networks, start=1):
        shown = networks.space.from_img(folder / "stats" / f"thresh_zstat{number}.nii.gz")
        assert np.array_equal(shown != 0, network.members)
        assert np.array_equal(shown[network.members], network.z[network.members].astype(np.float32))
    volumes = storage.read_table(folder / "volumes.tsv", ["corpus", "text_id", "token"])
    events = pd.concat([table for one in study.group(SITE) for table in one.events], ignore_index=True)
    assert volumes["token"].tolist() == events["token"].tolist()
    assert volumes["volume"].tolist() == list(range(len(courses)))
    assert storage.read_table(folder / "components.tsv", ["network", "label"])["component"].tolist() == [1, 2, 3]


def test_the_spectrum_is_at_the_frequencies_that_it_says():
    time = np.arange(100)
    found = power(np.column_stack([3 + np.sin(2 * np.pi * 0.07 * time), np.cos(np.pi * time)]))
    assert found.shape == (50, 2)
    assert found.argmax(axis=0).tolist() == [6, 49]  # 7 and 50 cycles in 100 tokens
    # Parseval, with the mean left out; but for the last, every frequency stands for two.
    both = np.where(np.arange(50) == 49, 1, 2) @ found / 100
    assert np.allclose(both, [100 * 0.5, 100])


def test_a_decomposition_without_networks_is_exported_without_thresholds(study):
    shutil.rmtree(study.layout.entry("networks", SITE, "other"))
    folder = export(study, "other")
    assert not (folder / "stats").exists()
    assert np.loadtxt(folder / "melodic_mix").shape[1] == 3


def test_a_second_export_keeps_what_a_person_saved_there(study, tmp_path):
    folder = export(study, "ica", site=SITE)
    (folder / "labels.txt").write_text("mine")
    before = {path: path.read_bytes() for path in folder.rglob("*.nii.gz")}
    assert export(study, "ica", site=SITE) == folder
    assert (folder / "labels.txt").read_text() == "mine"
    assert {path: path.read_bytes() for path in folder.rglob("*.nii.gz")} == before
    elsewhere = export(study, "other", out=tmp_path / "a.ica")
    with pytest.raises(EntryExistsError, match=r"is not 'ica' at mlp_hidden in the format melodic.*another --out"):
        export(study, "ica", out=elsewhere)
    with pytest.raises(ValueError, match=r"Use .*folder\.ica"):
        export(study, "ica", out=tmp_path / "folder")
    with pytest.raises(ValueError, match=r"'one' has one network; FSLeyes opens an \.ica folder only with two or more"):
        export(study, "one")
    with pytest.raises(ValueError, match="to is 'fsl'; choose from 'melodic', 'workbench', 'strip'"):
        export(study, "ica", "fsl")
    assert not list(study.root.rglob(f"{storage.PARTIAL}*"))


def test_an_export_is_written_without_the_lock_and_kept_if_the_study_is_locked(study):
    with storage.write_lock(study.root), lock_wait(0), pytest.raises(LockedError, match="was kept in") as raised:
        export(study, "ica", site=SITE)
    [kept] = study.layout.kept_entries("export", SITE, "ica")
    folder = study.layout.export(SITE, "ica.ica")
    assert str(raised.value).endswith(f"mv {kept} {folder}")
    assert (kept / "melodic_mix").is_file()
    assert not folder.exists()
    assert any("Run lmri export again" in note for note in validate(study).notes)
    assert export(study, "ica", site=SITE) == folder
    assert (folder / "melodic_mix").is_file()
    assert not study.layout.unfinished.exists()


# -- labels -----------------------------------------------------------------------------------------------------------


def write(path, *lines):
    path.write_text("\n".join(lines) + "\n")
    return path


def test_labels_are_read_as_they_were_written(tmp_path):
    labels = [["Signal"], ["Unclassified noise"], ["code", "Unknown"], ["Movement", "Cardiac"], ["code", "Signal"]]
    read = read_labels(write(tmp_path / "labels.txt", format_labels(labels)), 5)
    assert [list(one) for one in read.labels] == labels
    assert read.rejected.tolist() == [False, True, False, True, False]
    assert read.unknown.tolist() == [False, False, True, False, False]
    assert read.words == ["", "", "code", "Movement, Cardiac", "code"]
    assert read.folder == tmp_path


@pytest.mark.parametrize(
    ("line", "others", "noise"),
    [("[2, 3]", "Signal", [1, 2]), ("2,3", "Unknown", [1, 2]), ("[]", "Signal", []), ("[ 1 ]", "Signal", [0])],
)
def test_a_list_of_noise_alone_is_taken(tmp_path, line, others, noise):
    read = read_labels(write(tmp_path / "hand_labels_noise.txt", line), 4)
    assert np.flatnonzero(read.rejected).tolist() == noise
    assert {one for number, one in enumerate(read.labels) if number not in noise} == {(others,)}
    assert read.words == [""] * 4


def test_other_programs_ways_to_write_it_are_taken(tmp_path):
    lines = ["﻿some.ica", "", " 1 , signal, FALSE", "2,Movement, True , 0.93", "3, Unknown, False, 1e-3", "[ 2 ]", ""]
    read = read_labels(write(tmp_path / "labels.txt", *lines), 3)
    assert read.rejected.tolist() == [False, True, False]
    assert read.folder == tmp_path / "some.ica"
    assert read_labels(write(tmp_path / "bare.txt", "1, Signal, False", "2, MRI, True"), 2).rejected.tolist() == [0, 1]


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        ([], "it is empty"),
        (["x.ica", "1, Signal, False", "[]"], "it labels 1 components, but there are 2"),
        (["x.ica", "1, Signal, False", "2, Signal, False", "3, Signal, False", "[]"], "labels 3 components"),
        (["x.ica", "1, Signal, False", "3, Signal, False", "[]"], "is in the place of component 2"),
        (["x.ica", "1, Signal, False", "1, Signal, False", "[]"], "is in the place of component 2"),
        (["x.ica", "1, Signal, False", "2, Movement, True", "[1]"], "disagree on the noise components"),
        (["x.ica", "1, Signal, False", "2, Movement, True", "[]"], "disagree on the noise components"),
        (["x.ica", "1, Signal, True", "2, Signal, False", "[1]"], "contradicts itself"),
        (["x.ica", "1, Movement, False", "2, Signal, False", "[]"], "contradicts itself"),
        (["x.ica", "1, False", "2, Signal, False", "[]"], "does not end with a label"),
        (["x.ica", "1, Signal, maybe", "2, Signal, False", "[]"], "does not end with a label"),
        (["x.ica", "1, Signal, False", "and so on", "[]"], "is not the line of a component"),
        (["[3]"], "it names component 3, but components are numbered 1 to 2"),
        (["[0]"], "it names component 0"),
        (["[1 2]"], "is not a list of numbers"),
        (["[1,,2]"], "is not a list of numbers"),
    ],
)
def test_malformed_labels_are_refused_in_words(tmp_path, lines, says):
    with pytest.raises(ValueError, match=f"{re.escape(says)}.*Nothing was changed"):
        read_labels(write(tmp_path / "labels.txt", *lines), 2)


def test_what_is_no_text_is_refused(tmp_path):
    (tmp_path / "labels.txt").write_bytes(b"\xe9t\xe9")
    with pytest.raises(ValueError, match="it is not text"):
        read_labels(tmp_path / "labels.txt", 2)
    with pytest.raises(FileNotFoundError, match="Save the labels in FSLeyes"):
        read_labels(tmp_path / "none.txt", 2)


def decide(folder, *labels):
    """Save labels in the format of FSLeyes, over the exported file."""
    return write(folder / "labels.txt", format_labels([one.split(", ") for one in labels], str(folder)))


def test_what_a_person_rejected_is_empty_and_the_rest_can_be_lesioned(study):
    networks = study.networks("ica", SITE)
    assert networks.members.any(axis=1).all()
    folder = export(study, "ica", site=SITE)
    labels = decide(folder, "Signal", "Movement, Cardiac", "numbers; small, Unknown")
    found = accept(study, "ica", labels, "accepted")
    assert found.rejected == ["ica-01"]
    assert found.unknown == ["ica-02"]
    kept = study.networks("accepted", SITE)
    assert np.array_equal(kept.weights, networks.weights)
    assert np.array_equal(kept.members, networks.members & [[True], [False], [True]])
    assert np.array_equal(kept.union().members, networks.members[0] | networks.members[2])
    assert kept.origin.threshold["method"] == "accepted"
    assert kept.origin.threshold["z"] == 1.5
    assert "ica-01" in kept.origin.threshold["description"]
    page = study.report().read_text(encoding="utf-8")
    assert "1 of 3 networks were rejected manually" in page
    assert page.count("Rejected manually.") == 1
    assert "were thresholded by z (z = 1.5, )" not in page
    [method] = [sentence for sentence in re.findall(r"For the network set[^<]*", page) if "accepted" in sentence]
    assert "1.5" in method
    conditions = lmri.conditions_of(kept, lmri.lesion)
    assert conditions["accepted-01"].target.n_neurons == 0
    assert conditions["accepted-00"].target.n_neurons > 0
    # What they are called is said of the maps, whatever set of them is looked at.
    assert networks.metrics["label"].tolist() == ["", "verbs, mostly", ""]
    assert study.networks("ica", SITE).metrics["label"].tolist() == ["", "Movement, Cardiac", "numbers; small"]
    study.report()


def test_labels_that_went_out_and_came_back_unchanged_stay_as_they_were(study):
    before = study.labels("ica", SITE)
    folder = export(study, "ica", site=SITE)
    assert "2, verbs; mostly, Unknown, False" in (folder / "labels.txt").read_text().splitlines()
    found = accept(study, "ica", folder / "labels.txt", "all")
    assert (found.rejected, found.labelled, len(found.unknown)) == ([], [], 3)
    pd.testing.assert_frame_equal(study.labels("ica", SITE), before)
    assert np.array_equal(study.networks("all", SITE).members, study.networks("ica", SITE).members)
    nothing = accept(study, "ica", folder / "labels.txt", "nothing", reject_unknown=True)
    assert not nothing.networks.members.any()


def test_another_decision_under_the_same_name_is_refused(study):
    folder = export(study, "ica", site=SITE)
    accept(study, "ica", decide(folder, "Signal", "Signal", "MRI"), "mine")
    accept(study, "ica", decide(folder, "Signal", "Signal", "MRI"), "mine")  # the same again is the same
    with pytest.raises(EntryExistsError, match="rejected"):
        accept(study, "ica", decide(folder, "Signal", "MRI", "Signal"), "mine")


def test_labels_of_other_maps_are_refused_and_of_unknown_ones_said(study, tmp_path):
    folder = export(study, "other", site=SITE)
    labels = decide(folder, "Signal", "MRI", "Signal")
    for path in (labels, shutil.copy(labels, tmp_path / "labels.txt")):  # also when the file was moved
        with pytest.raises(StudyError, match="labels 'other' at mlp_hidden: different maps from 'ica'"):
            accept(study, "ica", path, "mine")
    shutil.rmtree(folder)
    with pytest.warns(DataWarning, match="does not identify its maps"):
        accept(study, "ica", tmp_path / "labels.txt", "mine")
    # A set of the same maps, thresholded otherwise, is theirs.
    study.save_networks(study.decomposition("ica", SITE).threshold("z", z=2.0), "ica", "ica-z2")
    labels = decide(export(study, "ica", site=SITE), "Signal", "MRI", "Signal")
    assert accept(study, "ica-z2", labels, "mine-z2").rejected == ["ica-01"]


# -- other formats ----------------------------------------------------------------------------------------------------


def test_a_strip_has_a_row_a_layer_and_a_column_a_neuron(study):
    folder = export(study, "ica", "strip", SITE)
    networks = study.networks("ica", SITE)
    for network in networks:
        strip = data(folder / f"{network.name}_strip.nii.gz")
        assert strip.shape == (max(networks.space.widths), networks.space.n_layers, 1)
        wanted = np.where(network.members, network.z, 0).astype(np.float32)
        assert np.array_equal(strip[networks.space.neuron_of, networks.space.layer_of, 0], wanted)


def test_cifti_files_hold_every_neuron_at_its_voxel_and_name_maps_and_layers(study):
    folder = export(study, "ica", "workbench", SITE)
    networks = study.networks("ica", SITE)
    for name, values in (
        ("maps_stat-z.dscalar.nii", np.stack([one.z for one in networks])),
        ("networks_stat-z.dscalar.nii", np.stack([np.where(one.members, one.z, 0) for one in networks])),
        ("layers.dlabel.nii", networks.space.layer_of[None] + 1),
    ):
        img = nib.load(folder / name)
        maps, voxels = (img.header.get_axis(axis) for axis in (0, 1))
        volume = np.zeros((*networks.space.shape, len(values)), dtype=np.float32)
        volume[tuple(voxels.voxel.T)] = np.asarray(img.dataobj).T
        assert np.array_equal(
            networks.space.from_img(nib.Nifti1Image(volume, voxels.affine)), values.astype(np.float32)
        )
        if isinstance(maps, cifti2.LabelAxis):
            key = {n: (name, tuple(round(255 * part) for part in rgb)) for n, (name, rgb) in maps.label[0].items() if n}
            own = lut(atlas_files(networks.space.labels_table)["layers.lut"])
            assert {n: (name, rgb[:3]) for n, (name, rgb) in key.items()} == own
        else:
            assert maps.name.tolist() == ["ica-00", "ica-01 verbs, mostly", "ica-02"]


# -- commands ---------------------------------------------------------------------------------------------------------


def run(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_from_a_command_to_fsleyes_and_back(study):
    done = run("export", study.root, "ica", "--site", SITE)
    assert done.exit_code == 0, done.output
    assert "fsleyes" in done.stdout
    folder = study.layout.export(SITE, "ica.ica")
    labels = decide(folder, "Signal", "MRI", "Unknown")
    done = run("accept", study.root, "ica", labels, "--name", "mine", "--json")
    assert done.exit_code == 0, done.output
    content = json.loads(done.stdout)
    assert (content["rejected"], content["unknown"], content["labelled"]) == (["ica-01"], ["ica-02"], ["ica-01"])
    assert [row["n_neurons"] > 0 for row in content["networks"]] == [True, False, True]
    text = run("accept", study.root, "ica", labels, "--name", "mine").stdout
    assert "No decision on ica-02: they were kept" in text
    assert f"lmri lesion {study.root} --networks mine --n-controls 20 --site mlp_hidden" in text
    for wrong in (("accept", study.root, "ica", study.root / "none.txt", "--name", "x"),
                  ("export", study.root, "nothing"), ("export", study.root, "ica", "--to", "spm")):  # fmt: skip
        failed = run(*wrong)
        assert failed.exit_code == 1
        assert "Traceback" not in failed.output
        assert failed.stderr.startswith("Error:")
