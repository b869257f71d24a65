"""Shared studies are built once, a test cannot change them for others, and no broken one is shared."""

import os
import time

import pytest

import sharing


@pytest.fixture(autouse=True)
def shared(tmp_path, monkeypatch):
    monkeypatch.setattr(sharing, "SHARED", tmp_path / "shared")
    return tmp_path / "shared"


def test_a_study_is_built_once_and_copied(tmp_path):
    built = []

    def build(folder):
        built.append(folder)
        folder.mkdir()
        (folder / "file").write_text("content")

    first = sharing.copy_of("a", build, tmp_path / "first")
    (first / "file").write_text("changed by a test")
    assert (sharing.copy_of("a", build, tmp_path / "second") / "file").read_text() == "content"
    assert len(built) == 1
    sharing.copy_of("b", build, tmp_path / "third")
    assert len(built) == 2


def test_a_build_that_fails_is_repeated(tmp_path):
    def fail(folder):
        folder.mkdir()
        (folder / "half").touch()
        raise RuntimeError("half way")

    with pytest.raises(RuntimeError, match="half way"):
        sharing.copy_of("a", fail, tmp_path / "first")
    copied = sharing.copy_of("a", lambda folder: folder.mkdir(), tmp_path / "second")
    assert list(copied.iterdir()) == []


def test_studies_of_other_versions_are_kept_for_a_day(tmp_path, shared, monkeypatch):
    def touch(folder):
        folder.mkdir()

    for version, age in (("recent", 0.5), ("old", 1.5)):
        monkeypatch.setattr(sharing, "version", lambda version=version: version)
        sharing.copy_of("a", touch, tmp_path / version)
        os.utime(shared / version, (time.time() - age * sharing.KEPT,) * 2)
    monkeypatch.setattr(sharing, "version", lambda: "now")
    sharing.copy_of("a", touch, tmp_path / "now")
    assert sorted(path.name for path in shared.iterdir() if path.is_dir()) == ["now", "recent"]


def test_the_version_depends_on_every_file_of_the_package(tmp_path, monkeypatch):
    package = tmp_path / "lmri"
    package.mkdir()
    (package / "__init__.py").write_text("one")
    monkeypatch.setattr(sharing.lmri, "__file__", str(package / "__init__.py"))
    sharing.version.cache_clear()
    before = sharing.version()
    (package / "__init__.py").write_text("two")
    sharing.version.cache_clear()
    assert sharing.version() != before
    sharing.version.cache_clear()
