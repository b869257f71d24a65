"""Files are written completely or not at all, and tables are read back unchanged."""

import gzip

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmri import storage
from lmri.exceptions import StudyError
from lmri.storage import files

NASTY = ["NA", "null", "None", "nan", "n/a", "", " ", "\t", "\n", "\r\n", '"', "''", "\\", "\\n", "1e3", "007",
         "🙂", "\x00", "\x85", "\u2028", "\ud800", "true", "#", "a,b", "-"]  # fmt: skip


@pytest.mark.parametrize("ending", ["tsv", "tsv.gz"])
def test_tables_survive_any_text(tmp_path, ending):
    table = pd.DataFrame({"token": pd.Series(NASTY, dtype=object), "value": np.arange(len(NASTY)) / 3})
    path = tmp_path / f"t.{ending}"
    storage.write_table(path, table)
    back = storage.read_table(path, ["token"])
    assert back["token"].tolist() == NASTY
    assert back["value"].tolist() == table["value"].tolist()


def test_other_readers_count_the_same_rows(tmp_path):
    path = tmp_path / "t.tsv"
    storage.write_table(path, pd.DataFrame({"token": pd.Series(NASTY, dtype=object), "value": range(len(NASTY))}))
    assert len(pd.read_csv(path, sep="\t")) == len(NASTY)
    assert len(path.read_text().splitlines()) == len(NASTY) + 1


@given(st.text())
def test_escaping_has_an_inverse_and_leaves_no_separator(text):
    field = storage.escape(text)
    assert storage.unescape(field) == text
    assert not set('\t\n\r"') & set(field)
    field.encode("utf-8")


@given(st.lists(st.floats(allow_nan=True, allow_infinity=False), min_size=1))
def test_numbers_read_back_to_the_last_bit(numbers):
    import tempfile
    from pathlib import Path

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "t.tsv"
        storage.write_table(path, pd.DataFrame({"x": np.array(numbers)}))
        assert np.array_equal(storage.read_table(path)["x"], numbers, equal_nan=True)


def test_only_tables_of_scores_are_read_under_current_names_of_columns(tmp_path):
    path = tmp_path / "t.tsv"
    for columns, expected in (
        (["p", "p_max", "control_family"], ["p", "p_fwe", "control_family"]),
        (["p", "p_fwe", "control_family"], ["p", "p_fwe", "control_family"]),
        (["p_max", "p_fwe", "control_family"], ["p_max", "p_fwe", "control_family"]),
        (["p", "p_max"], ["p", "p_max"]),  # a table of other software or of a user
    ):
        storage.write_table(path, pd.DataFrame([range(len(columns))], columns=columns))
        table = storage.read_table(path)
        assert list(table) == expected
        assert table.iloc[0].tolist() == list(range(len(columns)))


def test_missing_numbers_are_written_as_bids_wants(tmp_path):
    storage.write_table(tmp_path / "t.tsv", pd.DataFrame({"x": [1.5, np.nan]}))
    assert (tmp_path / "t.tsv").read_text() == "x\n1.5\nn/a\n"


def test_the_same_table_gives_the_same_bytes(tmp_path):
    table = pd.DataFrame({"x": np.arange(100.0)})
    for name in ("a.tsv.gz", "b.tsv.gz"):
        storage.write_table(tmp_path / name, table)
    first, second = ((tmp_path / name).read_bytes() for name in ("a.tsv.gz", "b.tsv.gz"))
    assert first == second
    assert gzip.decompress(first).startswith(b"x\n0.0\n")


def test_a_write_that_fails_leaves_what_was_there(tmp_path):
    path = tmp_path / "f.txt"
    storage.write_text(path, "before")

    def fail():
        with storage.atomic_path(path) as partial:
            partial.write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert path.read_text() == "before"
    assert [one.name for one in tmp_path.iterdir()] == ["f.txt"]


def test_a_folder_appears_only_when_its_body_ends(tmp_path):
    folder = tmp_path / "entry"
    with storage.atomic_path(folder) as partial:
        partial.mkdir()
        (partial / "a").write_text("a")
        assert not folder.exists()
    assert (folder / "a").read_text() == "a"


def test_broken_files_are_named_with_the_next_step(tmp_path):
    for content in ("[]", "1", "null", '"a"'):
        (tmp_path / "no_object.json").write_text(content)
        with pytest.raises(StudyError, match=r"no_object\.json contains .*, not a JSON object"):
            storage.read_json(tmp_path / "no_object.json")
    (tmp_path / "bad.json").write_text("{")
    with pytest.raises(StudyError, match=r"bad\.json is not complete JSON"):
        storage.read_json(tmp_path / "bad.json")
    with pytest.raises(StudyError, match=r"absent\.json is missing"):
        storage.read_json(tmp_path / "absent.json")
    with pytest.raises(StudyError, match=r"absent\.tsv is missing"):
        storage.read_table(tmp_path / "absent.tsv")
    (tmp_path / "bad.tsv").write_text("x\nabc\n")
    with pytest.raises(StudyError, match=r"bad\.tsv is not a complete table"):
        storage.read_table(tmp_path / "bad.tsv")
    storage.write_table(tmp_path / "cut.tsv.gz", pd.DataFrame({"x": np.random.default_rng(0).normal(size=2000)}))
    (tmp_path / "cut.tsv.gz").write_bytes((tmp_path / "cut.tsv.gz").read_bytes()[:-500])
    with pytest.raises(StudyError, match=r"cut\.tsv\.gz is not a complete table"):
        storage.read_table(tmp_path / "cut.tsv.gz")


def test_a_folder_that_cannot_be_written_to_is_said_to_be(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(StudyError, match=r"file cannot be written to .* Copy the study"),
        storage.locked(tmp_path / "file" / ".lock", "busy"),
    ):
        pass
    storage.check_writable(tmp_path)
    monkeypatch.setattr(files.os, "access", lambda path, mode: False)
    with pytest.raises(StudyError, match="read-only for this account"):
        storage.check_writable(tmp_path)
    storage.check_writable(tmp_path / "new")  # which is still to be made


def test_json_refuses_nan(tmp_path):
    with pytest.raises(ValueError, match="JSON"):
        storage.write_json(tmp_path / "x.json", {"x": float("nan")})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("bad", ["my corpus", "news_2024", "", "ä", "../x"])
def test_corpus_names_have_to_be_bids_labels(bad):
    with pytest.raises(ValueError, match="letters and digits"):
        storage.check_corpus(bad)


@pytest.mark.parametrize("bad", ["", "../x", ".hidden", "a/b", "a b"])
def test_entry_names_have_to_be_folders(bad):
    with pytest.raises(ValueError, match="must start with"):
        storage.check_name(bad)
