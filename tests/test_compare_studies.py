"""The tool that compares studies reports every kind of difference, and nothing for equal studies."""

import gzip
import importlib.util
import json
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

_SPEC = importlib.util.spec_from_file_location(
    "compare_studies", Path(__file__).parents[1] / "tools" / "compare_studies.py"
)
compare = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(compare)


@pytest.fixture
def pair(tmp_path):
    """Return a folder with one file of each kind, and a copy."""
    before = tmp_path / "before"
    (before / "lmri").mkdir(parents=True)
    (before / "lmri" / "entry.json").write_text(json.dumps({"inputs": {"a": [1, 2]}, "parameters": {}}))
    (before / "table.tsv").write_text("a\tb\n1\t2\n3\t4\n")
    (before / "rows.tsv.gz").write_bytes(gzip.compress(b"a\n1\n", mtime=0))
    (before / "figure.png").write_bytes(b"\x89PNG")
    (before / "lmri" / "log.jsonl").write_text("{}\n")
    nib.save(nib.Nifti1Image(np.arange(8, dtype=np.float32).reshape(2, 2, 2), np.eye(4)), before / "map.nii.gz")
    return before, shutil.copytree(before, tmp_path / "after")


def test_a_copy_does_not_differ(pair, capsys):
    (pair[1] / "lmri" / "log.jsonl").write_text("other times\n")
    assert compare.main([str(pair[0]), str(pair[1])]) == 0
    assert capsys.readouterr().out == ""


def _change(path):
    if path.name == "entry.json":
        path.write_text(json.dumps({"inputs": {"a": [1, 3]}, "results": {}}))
    elif path.name == "map.nii.gz":
        nib.save(nib.Nifti1Image(np.arange(1, 9, dtype=np.float32).reshape(2, 2, 2), np.eye(4)), path)
    elif path.name == "rows.tsv.gz":
        path.write_bytes(gzip.compress(b"a\n2\n", mtime=0))
    else:
        path.write_bytes(path.read_bytes() + b"x")


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("lmri/entry.json", ["/inputs/a/1 was '2' and is '3'", "/parameters is gone", "/results is new"]),
        ("table.tsv", ["3 lines before, 4 after"]),
        ("rows.tsv.gz", ["line 2 was '1' and is '2'"]),
        ("map.nii.gz", ["8 of 8 voxels differ, by 1 at most"]),
        ("figure.png", ["other bytes"]),
    ],
)
def test_every_difference_is_named_with_its_file(pair, name, says, capsys):
    _change(pair[1] / name)
    assert compare.main([str(pair[0]), str(pair[1])]) == 1
    assert capsys.readouterr().out.splitlines() == [f"{name}: {what}" for what in says]


def test_the_same_content_in_other_bytes_is_told_apart(pair):
    path = pair[1] / "lmri" / "entry.json"
    path.write_text(json.dumps(json.loads(path.read_text()), indent=2))
    assert list(compare.differences(*pair)) == ["lmri/entry.json: other bytes, the same content"]


def test_files_of_one_side_only_are_named(pair):
    (pair[1] / "new.tsv").write_text("a\n")
    (pair[1] / "table.tsv").unlink()
    assert list(compare.differences(*pair)) == [
        f"new.tsv: only in {pair[1]}",
        f"table.tsv: only in {pair[0]}",
    ]
