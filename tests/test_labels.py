"""Labels are read back unchanged, are kept over suggestions, and change no result."""

import shutil

import pytest
from typer.testing import CliRunner

from lmri import FastICA, NetworkSet, storage
from lmri.cli.app import app
from lmri.cli.networks import summary_columns
from lmri.exceptions import StudyError
from lmri.report.validation import validate
from lmri.storage.files import lock_wait
from lmri.study import open_study

NASTY = "a\tb \"c\" 'd' <b>bold</b> & {{ 7 * 7 }} \\n NA\nnew [red]line[/red]"


def run(*arguments: object):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def fill(study):
    """Decompose both sites under one name, and threshold one of them twice."""
    for recording in study.recordings():
        estimator = FastICA(recording.space, 2, random_state=0).fit(recording.imgs)
        study.save_decomposition(estimator, [recording], "two")
        study.save_networks(NetworkSet.from_estimator(estimator).threshold("z", z=2.0), "two")
    return study


@pytest.fixture(scope="module")
def labelled(recorded, tmp_path_factory):
    return fill(open_study(shutil.copytree(recorded.root, tmp_path_factory.mktemp("labels") / "study")))


@pytest.fixture
def copy(labelled, tmp_path):
    return open_study(shutil.copytree(labelled.root, tmp_path / "study"))


def entries(study) -> dict:
    return {path: path.read_bytes() for path in study.layout.derivatives_dir.rglob("*") if path.parent.name == "two"}


def test_labels_come_back_whatever_is_in_them(copy):
    copy.suggest_labels({"two-00": "digits; code", "two-01": "unclear"}, "two", "mlp_out")
    assert copy.label("two-01", f" {NASTY} ", "mlp_out") == "two-01"
    again = open_study(copy.root)
    assert again.decomposition("two", "mlp_out").metrics["label"].tolist() == ["digits; code", NASTY]
    assert again.networks("two", "mlp_out").table["label"].tolist() == ["digits; code", NASTY]
    assert again.labels("two", "mlp_out")["source"].tolist() == ["suggested", "edited"]
    assert summary_columns(again.networks("two", "mlp_out"))["label"].tolist() == ["digits; code", NASTY]
    # The other site has networks of the same names.
    assert "label" not in again.networks("two", "mlp_hidden").table
    assert not len(again.labels("two", "mlp_hidden"))


def test_what_was_edited_outlives_suggestions_and_what_was_suggested_does_not(copy):
    copy.suggest_labels({"two-00": "first", "two-01": "first"}, "two", "mlp_out")
    copy.label("two-01", "mine", "mlp_out")
    copy.label("two-01", "mine, better", "mlp_out")
    assert copy.suggest_labels({"two-00": "second", "two-01": "second"}, "two", "mlp_out") == ["two-01"]
    assert copy.labels("two", "mlp_out")["label"].tolist() == ["second", "mine, better"]
    # An edit at one site says nothing of the other.
    assert copy.suggest_labels({"two-01": "other"}, "two", "mlp_hidden") == []
    assert copy.labels("two", "mlp_hidden")["label"].tolist() == ["other"]
    assert copy.labels("two", "mlp_out")["label"].tolist() == ["second", "mine, better"]
    assert copy.networks("two", "mlp_hidden").table["label"].tolist() == ["", "other"]


def test_no_result_changes_with_a_label(copy):
    before = entries(copy)
    digests = {one.folder: one.digest for kind in storage.ENTRY_KINDS for one in copy.entries.list(kind)}
    copy.label("two-00", "mine", "mlp_out")
    labelled = copy.decomposition("two", "mlp_out").threshold("z", z=1.5)
    copy.save_networks(labelled, "two", "looser")
    assert copy.networks("looser", "mlp_out").table["label"].tolist() == ["mine", ""]
    stored = copy.entries.find("networks", "looser", "mlp_out").digest
    shutil.rmtree(copy.entries.find("networks", "looser", "mlp_out").folder)
    copy.label("two-00", "other", "mlp_out")
    copy.save_networks(copy.decomposition("two", "mlp_out").threshold("z", z=1.5), "two", "looser")
    assert copy.entries.find("networks", "looser", "mlp_out").digest == stored
    assert entries(copy) == before
    assert {one.folder: one.digest for one in copy.entries.list("networks") if one.name == "two"}.items() <= (
        digests.items()
    )
    assert not [one for one in validate(copy).problems]


def test_labels_of_thresholded_networks_are_those_of_their_decomposition(copy):
    copy.save_networks(copy.decomposition("two", "mlp_out").threshold("z", z=1.5), "two", "looser")
    assert copy.label("looser-01", "mine") == "two-01"
    assert copy.networks("two", "mlp_out").table["label"].tolist() == ["", "mine"]


def test_a_decomposition_made_otherwise_does_not_inherit_labels(copy):
    copy.label("two-00", "mine", "mlp_out")
    entry = copy.entries.find("decompositions", "two", "mlp_out")
    recording = copy.recording("words", "mlp_out")
    kept = entry.folder.rename(copy.root.parent / "kept")
    shutil.rmtree(copy.entries.find("networks", "two", "mlp_out").folder)
    copy.save_decomposition(FastICA(recording.space, 2, random_state=1).fit(recording.imgs), [recording], "two")
    assert "label" not in copy.decomposition("two", "mlp_out").metrics
    copy.suggest_labels({"two-00": "of the new one"}, "two", "mlp_out")
    assert copy.labels("two", "mlp_out")["label"].tolist() == ["of the new one"]
    # Nothing that a person wrote is lost: it is there again with what it was written for.
    shutil.rmtree(entry.folder)
    kept.rename(entry.folder)
    assert copy.labels("two", "mlp_out")["label"].tolist() == ["mine"]


def test_invalid_labels_are_refused_with_a_reason(copy):
    with pytest.raises(ValueError, match=r"matches two@mlp_hidden and two@mlp_out.*Choose the site"):
        copy.label("two-00", "mine")
    with pytest.raises(ValueError, match=r"no network 'ica-00' at mlp_out.*two at mlp_hidden, two at mlp_out"):
        copy.label("ica-00", "mine", "mlp_out")
    with pytest.raises(ValueError, match="no network 'two-02'; networks are two-00 to two-01"):
        copy.label("two-02", "mine", "mlp_out")
    with pytest.raises(ValueError, match="use at least one word"):
        copy.label("two-00", " \n", "mlp_out")
    with pytest.raises(ValueError, match="no network 'three-00'"):
        copy.suggest_labels({"two-00": "a", "three-00": "b"}, "two", "mlp_out")
    assert not copy.layout.network_labels.exists()
    with storage.write_lock(copy.root), lock_wait(0), pytest.raises(StudyError, match="Another command is writing"):
        copy.label("two-00", "mine", "mlp_out")


@pytest.mark.parametrize("damage", [("source", "origin"), ("mine", "mi\\qne"), ("mine", "mine\tyours")])
def test_a_damaged_table_is_said_and_not_passed_over(copy, damage):
    copy.label("two-00", "mine", "mlp_out")
    path = copy.layout.network_labels
    path.write_text(path.read_text().replace(*damage))
    with pytest.raises(StudyError, match=r"labels\.tsv"):
        copy.networks("two", "mlp_out")
    with pytest.raises(StudyError, match=r"labels\.tsv"):
        copy.label("two-00", "other", "mlp_out")
    assert any("labels.tsv" in one for one in validate(copy).problems)


def test_the_report_shows_labels_as_text(copy):
    copy.label("two-01", NASTY, "mlp_out")
    page = copy.report().read_text()
    assert page.count('<span class="label">') == 1
    assert "&lt;b&gt;bold&lt;/b&gt; &amp; {{ 7 * 7 }}" in page
    assert "<b>bold</b>" not in page


def test_the_commands_save_edit_and_show(copy):
    describe = ("describe", copy.root, "two", "--site", "mlp_out", "--n-permutations", 20)
    assert run(*describe).exit_code == 0
    assert not copy.layout.network_labels.exists()
    assert "Saved 2 labels" in run(*describe, "--save").stdout
    suggested = copy.labels("two", "mlp_out")
    assert (suggested["source"] == "suggested").all()
    done = run("label", copy.root, "two-01", NASTY, "--site", "mlp_out")
    assert done.exit_code == 0, done.output
    assert "[red]" in done.stdout
    again = run(*describe, "--save")
    assert "Saved 1 labels" not in again.stdout
    assert "Edited labels were not replaced: two-01" in again.stdout
    assert copy.labels("two", "mlp_out")["label"].tolist() == [suggested["label"].iloc[0], NASTY]
    shown = run("threshold", copy.root, "two", "--site", "mlp_out", "--by", "z:1.5", "--name", "looser")
    assert "[red]line[/red]" in shown.stdout
    assert run("validate", copy.root).exit_code == 0
    failed = run("label", copy.root, "two-01", "mine")
    assert failed.exit_code == 1
    assert "Choose the site" in " ".join(failed.stderr.split())


@pytest.mark.parametrize("rows", ["a\tb\nx\n", "a\tb\nx\ty\tz\n", "a\tb\nx\ty\nx\n"])
def test_rows_that_differ_in_length_are_refused(tmp_path, rows):
    (tmp_path / "table.tsv").write_text(rows)
    with pytest.raises(StudyError, match=r"table\.tsv is not a complete table"):
        storage.read_table(tmp_path / "table.tsv", ["a", "b"])
    (tmp_path / "whole.tsv").write_text("a\tb\nx\ty\n")
    assert storage.read_table(tmp_path / "whole.tsv", ["a", "b"]).to_numpy().tolist() == [["x", "y"]]
