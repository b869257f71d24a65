"""Texts are read unchanged, and are split reproducibly."""

import json

import pandas as pd
import pytest

from lmri.exceptions import DataWarning
from lmri.storage import text_hash
from lmri.storage.texts import first_line, read_texts, split_texts

TEXTS = ["one", "NA", "null", "2004", "tab\there", 'quote " here', "two\nlines", "ünï 🙂"]


@pytest.mark.parametrize("ending", ["csv", "tsv", "jsonl", "json", "parquet"])
def test_every_table_format_gives_the_same_texts(tmp_path, ending):
    table = pd.DataFrame({"text": TEXTS, "other": range(len(TEXTS))})
    path = tmp_path / f"t.{ending}"
    if ending in ("csv", "tsv"):
        table.to_csv(path, sep="," if ending == "csv" else "\t", index=False)
    elif ending == "parquet":
        table.to_parquet(path)
    else:
        table.to_json(path, orient="records", lines=ending == "jsonl")
    # pandas encloses texts with tabs and line ends in quotation marks, which a TSV file does not do on its own.
    assert read_texts(path, quoting="csv" if ending == "tsv" else None) == TEXTS


def test_only_the_first_line_of_third_party_errors_is_shown():
    assert first_line(ValueError("No data.\n" + "/a/path\n" * 1000)) == "No data"
    assert first_line(KeyError()) == "KeyError"
    assert len(first_line(ValueError("x" * 5000))) < 310


def test_text_files_have_one_text_per_line(tmp_path):
    (tmp_path / "t.txt").write_bytes("\ufeffone\r\n\r\n  \ntwo\u2028still two\n".encode())
    assert read_texts(tmp_path / "t.txt") == ["one", "two\u2028still two"]


def test_local_folders_are_loaded_as_datasets(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "corpus"
    folder.mkdir()
    (folder / "train.jsonl").write_text("\n".join(json.dumps({"body": text}) for text in TEXTS))
    assert read_texts(str(folder), column="body") == TEXTS
    with pytest.raises(ValueError, match="no column 'text'; it has 'body'"):
        read_texts(str(folder))


def test_unknown_columns_files_and_formats_are_named(tmp_path):
    pd.DataFrame({"body": ["x"]}).to_csv(tmp_path / "t.csv", index=False)
    with pytest.raises(ValueError, match="no column 'text'; it has 'body'"):
        read_texts(tmp_path / "t.csv")
    with pytest.raises(FileNotFoundError, match=r"absent\.csv"):
        read_texts(tmp_path / "absent.csv")
    (tmp_path / "t.xlsx").write_bytes(b"PK")
    with pytest.raises(ValueError, match=r"'\.xlsx'"):
        read_texts(tmp_path / "t.xlsx")
    (tmp_path / "t.jsonl").write_text("{not json")
    with pytest.raises(ValueError, match="cannot be read as JSONL"):
        read_texts(tmp_path / "t.jsonl")


def test_rows_with_more_fields_than_names_are_refused(tmp_path):
    # pandas would take the first field of each for the name of the row, and the rest for the text.
    (tmp_path / "t.csv").write_text("text\nthe cat, the dog\na bird, a fish\n")
    with pytest.raises(ValueError, match=r"line 2 has 2 fields, more than its first line has names \(1\)\. Enclose"):
        read_texts(tmp_path / "t.csv")
    (tmp_path / "t.csv").write_text('text\n"the cat, the dog"\n"a bird, a fish"\n')
    assert read_texts(tmp_path / "t.csv") == ["the cat, the dog", "a bird, a fish"]


HURTING = [
    "a 👩\u200d👩\u200d👧 b",
    "cafe\u0301 Z" + "\u0335" * 40,
    "שלום \u202eabc\u202c",
    "a\x01b\x1b[31m\x1c\x85",
    "inside \ufeff it",
    "<|endoftext|> [SEP]",
    "x" * 100_000,
    "\U0010ffff",
]


@pytest.mark.parametrize("ending", ["txt", "csv", "tsv", "jsonl", "json", "parquet"])
def test_difficult_texts_are_read_unchanged(tmp_path, ending):
    path, texts = tmp_path / f"t.{ending}", [*HURTING]
    if ending != "txt":
        texts += ["a\r\nb", "\ufeffbegins with a mark", "tab\tand, comma"]
    if ending in ("json", "jsonl", "parquet"):
        texts += ["zero\x00byte"]
    table = pd.DataFrame({"text": texts})
    if ending == "txt":
        path.write_bytes(("\ufeff" + "\r\n".join(texts) + "\r\n").encode())
    elif ending in ("csv", "tsv"):
        content = table.to_csv(sep="," if ending == "csv" else "\t", index=False, lineterminator="\r\n")
        path.write_bytes(b"\xef\xbb\xbf" + content.encode())
    elif ending == "parquet":
        table.to_parquet(path)
    else:
        path.write_bytes(b"\xef\xbb\xbf" + table.to_json(orient="records", lines=ending == "jsonl").encode())
    assert read_texts(path, quoting="csv" if ending == "tsv" else None) == texts


@pytest.mark.parametrize("ending", ["txt", "csv", "tsv"])
def test_zero_bytes_in_a_text_file_are_refused_and_never_cut(tmp_path, ending):
    path = tmp_path / f"t.{ending}"
    path.write_bytes(b"text\nbefore\x00behind\n")
    with pytest.raises(ValueError, match="line 2 contains a zero byte: the file is UTF-16 without a byte-order mark"):
        read_texts(path)


def test_half_a_surrogate_pair_in_json_is_named(tmp_path):
    (tmp_path / "t.jsonl").write_text('{"text": "fine"}\n{"text": "a\\ud83d"}\n')
    with pytest.raises(ValueError, match=r"t\.jsonl, line 2, .*half a surrogate pair.*'\\ud83d' at 1"):
        read_texts(tmp_path / "t.jsonl")
    (tmp_path / "t.jsonl").write_text('{"text": "a\\ud83d\\ude42"}\n')  # a whole one is an emoji
    assert read_texts(tmp_path / "t.jsonl") == ["a🙂"]


def test_a_million_empty_lines_are_left_out(tmp_path):
    (tmp_path / "t.txt").write_bytes(b"\n" * 500_000 + b"one\r\n" + b" \r\n" * 500_000)
    assert read_texts(tmp_path / "t.txt") == ["one"]


def test_limit_and_shuffle():
    texts = [str(number) for number in range(50)]
    assert read_texts(texts, limit=3) == ["0", "1", "2"]
    shuffled = read_texts(texts, shuffle=True, seed=1)
    assert shuffled != texts
    assert sorted(shuffled) == sorted(texts)
    assert read_texts(texts, shuffle=True, seed=1) == shuffled
    with pytest.raises(ValueError, match="limit is 0"):
        read_texts(texts, limit=0)


def test_empty_and_repeated_texts_are_left_out_in_sight():
    with pytest.warns(DataWarning, match="1 of 3 texts of the list are repeated"):
        assert read_texts(["a", " ", "b", "a"]) == ["a", "b"]
    with pytest.raises(ValueError, match="contains no texts"):
        read_texts(["", "\n"])
    with pytest.raises(TypeError, match="Text 1 of the list is None"):
        read_texts(["a", None])
    with pytest.raises(ValueError, match="Text 1 of the list contains half a surrogate pair"):
        read_texts(["a", "b\ud800"])


def test_the_split_depends_on_texts_and_seed_alone():
    texts = [f"text {number}" for number in range(40)]
    sides = dict(zip(texts, split_texts(texts, 0.25, 0, {}), strict=True))
    assert list(sides.values()).count("test") == 10
    assert dict(zip(texts[::-1], split_texts(texts[::-1], 0.25, 0, {}), strict=True)) == sides
    assert dict(zip(texts, split_texts(texts, 0.25, 1, {}), strict=True)) != sides


def test_a_text_seen_before_keeps_its_side():
    texts = [f"text {number}" for number in range(40)]
    known = {text_hash(text): "fit" if number < 5 else "test" for number, text in enumerate(texts[:9])}
    sides = split_texts(texts, 0.25, 0, known)
    assert sides[:9] == ["fit"] * 5 + ["test"] * 4
    assert sides.count("test") == 10


@pytest.mark.parametrize(("n", "fraction", "n_test"), [(4, 0.25, 1), (1, 0.9, 0), (3, 0.99, 2), (8, 0.0, 0)])
def test_at_least_one_text_is_left_to_fit(n, fraction, n_test):
    assert split_texts([str(number) for number in range(n)], fraction, 0, {}).count("test") == n_test


def test_fractions_out_of_range_are_refused():
    for fraction in (-0.1, 1.0):
        with pytest.raises(ValueError, match="test_fraction"):
            split_texts(["a"], fraction, 0, {})
