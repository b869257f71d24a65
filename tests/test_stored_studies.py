"""A small study that an earlier state of lmri wrote, in format version 1, is read as it was written."""

import tarfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from lmri import open_study, storage
from lmri.report.validation import validate

ARCHIVE = Path(__file__).parent / "data" / "study-v1.tar.xz"

ENTRIES = {
    ("decompositions", "mlp_hidden"): ["canica", "first-second", "ica"],
    ("decompositions", "mlp_out"): ["canica", "ica"],
    ("networks", "mlp_hidden"): ["canica", "first-second", "ica"],
    ("networks", "mlp_out"): ["canica", "ica"],
    ("comparisons", "mlp_hidden"): ["ica--canica", "three"],
    ("comparisons", "mlp_out"): ["ica--canica", "ica--ica-mlphidden"],
    ("scores", "mlp_hidden"): ["lesion-ica"],
    ("experiments", "mlp_hidden"): ["lesion-ica"],
}


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    folder = tmp_path_factory.mktemp("stored")
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(folder, filter="data")
    return open_study(folder / "study")


def test_the_archive_is_small():
    assert ARCHIVE.stat().st_size < 300_000


def test_every_entry_is_there_and_can_be_opened(study):
    found: dict[tuple[str, str], list[str]] = {}
    for codec in study.codecs.values():
        for entry in study.entries.list(codec.kind):
            found.setdefault((entry.kind, entry.site), []).append(entry.name)
            study.open(codec, entry.name, entry.site)
    assert found == ENTRIES
    assert [(one.corpus, one.space.site) for one in study.recordings()] == [
        ("first", "mlp_hidden"), ("second", "mlp_hidden"), ("first", "mlp_out"), ("second", "mlp_out"),
    ]  # fmt: skip


def test_what_is_read_is_what_was_written(study):
    summary = study.scores().summary()
    stored = storage.read_table(
        study.file_of(study.find("scores", "lesion-ica", "mlp_hidden"))("scores.tsv"),
        [name for name in summary if not pd.api.types.is_numeric_dtype(summary[name])],
    )
    pd.testing.assert_frame_equal(summary.reset_index(drop=True), stored, check_dtype=False)
    networks = study.networks("ica", "mlp_hidden")
    again = study.decomposition("ica", "mlp_hidden").threshold("z", z=1.5)
    assert np.array_equal(networks.members, again.members)
    assert networks.table["label"].tolist() == ["", "a label", ""]
    comparison = study.comparison("ica--canica", "mlp_hidden")
    assert comparison.mean_r == pytest.approx(
        study.find("comparisons", "ica--canica", "mlp_hidden").results["mean_abs_r"], rel=1e-6
    )  # it is computed again, from weights that were stored in single precision


def test_it_has_no_problem_and_a_report(study, tmp_path):
    assert validate(study).problems == []
    text = study.report(tmp_path / "report.html").read_text(encoding="utf-8")
    assert "could not be read" not in text
    assert "a label" in text


def test_damage_would_be_noticed(study, tmp_path):
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(tmp_path, filter="data")
    copy = open_study(tmp_path / "study")
    entry = copy.find("networks", "ica", "mlp_hidden")
    copy.file_of(entry)("members.nii.gz").unlink()
    assert any("members.nii.gz" in problem for problem in validate(copy).problems)
