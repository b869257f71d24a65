"""A small study that an earlier state of lmri wrote in format version 1 is read as it was written after an upgrade."""

import json
import tarfile
from csv import DictReader
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from lmri import NeuronICA, open_study, storage
from lmri.decomposition.codec import decomposition_identity
from lmri.exceptions import EntryExistsError
from lmri.lesions.scores import SUMMARY_TEXT
from lmri.networks.thresholds import THRESHOLDS
from lmri.report.validation import validate
from lmri.report.viewer.cached_reader import CachedReader
from lmri.storage.entries import _changes
from lmri.storage.upgrade import upgrade
from tolerances import relative

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
    upgrade(folder / "study")
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


def test_stored_values_are_read_back_unchanged(study):
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
    # It is computed again, from weights that were stored in single precision.
    close = relative(networks.space.n_neurons, np.float32)
    stored = study.find("comparisons", "ica--canica", "mlp_hidden").results["mean_abs_r"]
    assert comparison.mean_r == pytest.approx(stored, rel=close)


def test_a_former_column_is_read_under_its_current_name_and_digests_remain(study):
    entry, of_scores = (study.find(kind, "lesion-ica", "mlp_hidden") for kind in ("experiments", "scores"))
    outcome = study.experiment("lesion-ica", "mlp_hidden")
    paths = [study.file_of(entry)("scores.tsv"), study.file_of(of_scores)("scores.tsv")]
    tables = [outcome.tables["scores"], CachedReader(study.root).table(of_scores, "scores.tsv", SUMMARY_TEXT)]
    for path, table in zip(paths, tables, strict=True):
        stored = path.read_text().splitlines()[0].split("\t")
        assert "p_max" in stored
        assert "p_fwe" not in stored
        assert ["p_max" if column == "p_fwe" else column for column in table] == stored
        np.testing.assert_array_equal(table["p_fwe"], [float(row["p_max"]) for row in _rows(path)])
    assert outcome.digest == entry.results["outcome_sha256"]
    inputs = {key: value for key, value in entry.inputs.items() if not key.endswith("_sha256")}
    assert study.save_experiment(outcome, "lesion-ica", "mlp_hidden", inputs, entry.parameters).digest == entry.digest


def _rows(path):
    with path.open() as file:
        return [
            {key: value.replace("n/a", "nan") for key, value in row.items()}
            for row in DictReader(file, dialect="excel-tab")
        ]


def test_it_has_no_problem_and_a_report(study, tmp_path):
    assert validate(study).problems == []
    text = study.report(tmp_path / "report.html").read_text(encoding="utf-8")
    assert "could not be read" not in text
    assert "a label" in text


def test_damage_would_be_noticed(study, tmp_path):
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(tmp_path, filter="data")
    upgrade(tmp_path / "study")
    copy = open_study(tmp_path / "study")
    entry = copy.find("networks", "ica", "mlp_hidden")
    copy.file_of(entry)("members.nii.gz").unlink()
    assert any("members.nii.gz" in problem for problem in validate(copy).problems)


def test_settings_that_are_stored_are_spelled_as_they_were(study):
    """A stored entry is found again: no setting, not even the description of a threshold, has another spelling."""
    site = "mlp_hidden"
    recordings = study.group(site)
    estimator = NeuronICA(study.space(site), 3, n_init=2)
    assert study.entries.has("decompositions", site, "ica", *decomposition_identity(estimator, recordings))
    again = study.decomposition("ica", site).threshold("z", z=1.5)
    assert study.save_networks(again, "ica").digest == study.find("networks", "ica", site).digest
    entry = study.find("scores", "lesion-ica", site)
    assert study.entries.has("scores", site, "lesion-ica", entry.inputs, entry.parameters)
    with pytest.raises(EntryExistsError, match=r"z: 1\.5 stored, 2\.0 requested"):
        study.save_networks(study.decomposition("ica", site).threshold("z", z=2.0), "ica")


@pytest.mark.parametrize("method", sorted(THRESHOLDS))
def test_other_words_for_a_threshold_are_the_same_setting(method, tmp_path):
    # So that a description can be reworded without refusing to repeat a command on an older study.
    settings = {"method": method, "description": THRESHOLDS[method].description}
    stored = {"inputs": {}, "parameters": {**settings, "description": "other words"}}
    (tmp_path / "entry.json").write_text(json.dumps(stored), encoding="utf-8")
    assert _changes(tmp_path, {}, settings) == []
    assert _changes(tmp_path, {}, {**settings, "method": "other"}) != []
