"""The upgrade of studies of format version 1: in place, images untouched, digests unchanged, safe to kill."""

import hashlib
import json
import shutil
import tarfile
from pathlib import Path

import pandas as pd
import pytest
from typer.testing import CliRunner

from lmri import open_study, record, storage
from lmri.cli.app import app
from lmri.exceptions import StudyError
from lmri.report.validation import validate
from lmri.storage import Layout
from lmri.storage.corpora import SHARED
from lmri.storage.files import LockedError, lock_wait
from lmri.storage.upgrade import STEPS, upgrade
from tiny_models import build, sentences, word_tokenizer

ARCHIVE = Path(__file__).parent / "data" / "study-v1.tar.xz"
SCOPE = "sub-unnamedgpt2"


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    folder = tmp_path_factory.mktemp("original")
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(folder, filter="data")
    return folder / "study"


@pytest.fixture
def old(original, tmp_path):
    """A study in version 1, which the test may change."""
    return shutil.copytree(original, tmp_path / "study")


def content(root):
    """Return the hash of every file by its path, without locks."""
    return {
        path.relative_to(root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(root.rglob("*"))
        if path.is_file() and path.name != storage.LOCK
    }


def test_there_is_a_step_from_every_version():
    assert sorted(STEPS) == list(range(1, storage.FORMAT_VERSION))


def test_version_1_is_refused_with_the_command_that_upgrades_it(old):
    before = content(old)
    with pytest.raises(StudyError, match=f"lmri upgrade {old}"):
        open_study(old)
    with pytest.raises(StudyError, match="lmri upgrade"):
        record(build("gpt2"), word_tokenizer(), sentences(8), old, corpus="third")
    assert content(old) == before


@pytest.mark.parametrize("version", [storage.FORMAT_VERSION + 1, 0, "1", None])
def test_other_versions_are_not_upgraded(old, version):
    path = old / "lmri" / "study.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"format_version": version}))
    before = content(old)
    with pytest.raises(StudyError, match="Update lmri"):
        upgrade(old)
    assert content(old) == before
    with pytest.raises(StudyError, match="Update lmri"):
        open_study(old)


def test_a_folder_without_a_study_is_refused(tmp_path):
    with pytest.raises(StudyError, match="not a study"):
        upgrade(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_images_and_entries_are_untouched_and_digests_are_the_same(old):
    before = content(old)
    assert upgrade(old) == [1]
    after = content(old)
    assert upgrade(old) == []
    assert content(old) == after
    moved = {name.replace("lmri/", f"lmri/{SCOPE}/", 1) if name.startswith("lmri/") else name: value
             for name, value in before.items()}  # fmt: skip
    changed = {name for name, value in moved.items() if after.get(name) != value}
    assert changed == {
        f"lmri/{SCOPE}/{name}"
        for name in ("log.jsonl", "split.tsv", "study.json", "texts/first.tsv", "texts/second.tsv")
    } | {"README.md", ".bidsignore"}  # fmt: skip
    assert set(after) - set(moved) == {
        "lmri/log.jsonl", "lmri/split.tsv", "lmri/study.json", "lmri/texts/first.tsv", "lmri/texts/second.tsv",
        f"lmri/{SCOPE}/model.json",
    }  # fmt: skip
    # The split of texts that were not generated is the same, and so is the log but for the scope.
    assert after["lmri/split.tsv"] == before["lmri/split.tsv"]
    study = open_study(old)
    for line in storage.read_log(study.layout):
        assert line["scope"] == SCOPE
    assert validate(study).problems == []
    for codec in study.codecs.values():
        for entry in study.entries.list(codec.kind):
            study.open(codec, entry.name, entry.site)  # compares all digests


def test_texts_are_the_same_rows(original, old):
    upgrade(old)
    for corpus in ("first", "second"):
        stored = storage.read_table(
            original / "lmri" / "texts" / f"{corpus}.tsv", ["text_id", "sha256", "split", "text"]
        )
        layout = Layout(old, SCOPE)
        assert list(storage.read_table(layout.texts(corpus), SHARED).columns) == SHARED
        pd.testing.assert_frame_equal(open_study(old).recording(corpus, "mlp_out").texts, stored)


class StoppedError(BaseException):
    """Error that a test raises in place of a kill."""


def test_an_upgrade_that_is_killed_at_any_step_is_continued(original, tmp_path, monkeypatch):
    whole = shutil.copytree(original, tmp_path / "whole")
    upgrade(whole)
    expected, replace = content(whole), Path.replace
    n_steps = 0
    while True:
        root = shutil.copytree(original, tmp_path / f"killed-{n_steps}")
        calls = []

        def stop(path, target, calls=calls, last=n_steps):
            if len(calls) == last:
                raise StoppedError
            calls.append(path)
            return replace(path, target)

        with monkeypatch.context() as patch:
            patch.setattr(Path, "replace", stop)
            try:
                upgrade(root)
                break
            except StoppedError:
                pass
        with pytest.raises(StudyError, match="lmri upgrade"):
            open_study(root)  # never half of it
        assert upgrade(root) == [1]
        assert content(root) == expected
        shutil.rmtree(root)
        n_steps += 1
    assert n_steps > 15  # every folder and table is one step


def test_a_part_in_both_places_stops_the_upgrade_and_nothing_is_deleted(old):
    (old / "lmri" / SCOPE / "networks").mkdir(parents=True)
    before = content(old)
    with pytest.raises(StudyError, match="both exist"):
        upgrade(old)
    assert before.keys() <= content(old).keys() | {
        name for name in before if name.startswith("lmri/decompositions")
    }  # earlier parts were moved
    (old / "lmri" / SCOPE / "networks").rmdir()
    assert upgrade(old) == [1]
    assert validate(open_study(old)).problems == []


def test_columns_of_users_and_edited_files_are_kept(old):
    participants = old / "participants.tsv"
    header, row = participants.read_text().splitlines()
    participants.write_text(f"{header}\tsize\n{row}\tsmall\n")
    readme = old / "README.md"
    readme.write_text(readme.read_text() + "\nMy notes.\n")
    edited = readme.read_bytes()
    upgrade(old)
    assert participants.read_text() == f"{header}\tsize\n{row}\tsmall\n"
    assert readme.read_bytes() == edited


def test_lines_of_the_log_that_cannot_be_read_are_kept(old):
    log = old / "lmri" / "log.jsonl"
    log.write_text(log.read_text() + '{"time": "2026')
    upgrade(old)
    assert log.read_text().splitlines()[-1] == '{"time": "2026'


def to_version_1(layout, texts):
    """Give a study of one model the folders and tables of version 1."""
    for corpus, table in texts.items():
        storage.write_table(layout.texts(corpus), table)
    shutil.rmtree(layout.folder / "texts", ignore_errors=True)
    model = json.loads(layout.model.read_text())
    for path in layout.folder.iterdir():
        if path.name not in ("model.json", storage.LOCK):
            path.replace(layout.derivatives_dir / path.name)
    shutil.rmtree(layout.folder)
    layout.study.write_text(json.dumps({"format_version": 1, "subject": model["subject"], "model": model["model"]}))


def test_an_interrupted_recording_is_continued_after_the_upgrade(tmp_path):
    texts, options = sentences(16), {"corpus": "news", "batch_size": 2}
    n_whole: list[int] = []
    expected = record(
        build("gpt2"), word_tokenizer(), texts, tmp_path / "whole", **options,
        progress=lambda done, total: n_whole.append(done),
    )  # fmt: skip
    root, n_seen = tmp_path / "study", []

    def stop(done, total):
        n_seen.append(done)
        if len(n_seen) == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        record(build("gpt2"), word_tokenizer(), texts, root, **options, progress=stop)
    layout = Layout(root, expected.scope)
    assert len(layout.unfinished_recordings()) == 1
    to_version_1(layout, {})
    upgrade(root)
    n_again: list[int] = []
    recording = record(
        build("gpt2"), word_tokenizer(), texts, root, **options, resume=True,
        progress=lambda done, total: n_again.append(done),
    )  # fmt: skip
    assert len(n_again) < len(n_whole)  # finished batches were not read again
    assert [Path(img).read_bytes() for img in recording.imgs] == [Path(img).read_bytes() for img in expected.imgs]
    pd.testing.assert_frame_equal(recording.texts, expected.texts)


def test_prompts_of_generated_texts_are_recovered(tmp_path):
    """Version 1 stored the hash of a prompt; the prompt is the beginning of the text with this hash."""
    root, prompts = tmp_path / "study", sentences(8, seed=2)
    recording = record(build("gpt2"), word_tokenizer(), prompts, root, corpus="made", generate=5)
    texts, layout = recording.texts, Layout(root, recording.scope)
    to_version_1(layout, {"made": texts})
    upgrade(root)
    study = open_study(root)
    pd.testing.assert_frame_equal(study.recording().texts, texts)
    assert storage.read_table(layout.texts("made"), SHARED)["text"].tolist() == prompts
    other = record(build("gpt2", seed=1), word_tokenizer(), None, root, subject="other")
    assert other[0].texts["prompt_sha256"].equals(texts["prompt_sha256"])


def test_the_command_upgrades_once_and_waits_for_the_lock(old):
    def run(*options):
        return CliRunner().invoke(app, ["upgrade", str(old), *options])

    with storage.write_lock(old):
        result = run("--wait", "0")
        assert (result.exit_code, "Another command is writing" in " ".join(result.output.split())) == (1, True)
        with lock_wait(0), pytest.raises(LockedError):
            upgrade(old)
    first, second = run(), run("--json")
    assert "from format version 1 to 2" in " ".join(first.output.split())
    assert json.loads(second.output)["upgraded_from"] is None
