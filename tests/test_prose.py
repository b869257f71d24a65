"""The tool that counts phrases and names that are hard to read finds them, and leaves plain English alone."""

import importlib.util
from pathlib import Path

import pytest

_SPEC = importlib.util.spec_from_file_location("prose", Path(__file__).parents[1] / "tools" / "prose.py")
prose = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(prose)


@pytest.mark.parametrize(
    ("text", "pattern"),
    [
        ("Say how many texts there are.", "opens with Say, Give or Tell"),
        ("Seed.\n\n    Of the split.", "has no verb (Of ...)"),
        ("A table with a row a volume.", "rate without per"),
        ("The effect beside 20 controls.", "stands, lies, beside"),
        ("Write what is recorded.", "relative clause as a noun"),
        ("Its mean is that of the corpus.", "that of, those of which"),
        ("It is read again, whatever it holds.", "whatever, wherever, who asks"),
        ("Keep every so-manieth token.", "so many"),
        ("This says nothing about the map.", "says nothing"),
    ],
)
def test_every_pattern_is_found_in_a_docstring(tmp_path, text, pattern):
    path = tmp_path / "module.py"
    path.write_text(f'"""{text}"""\n')
    assert pattern in {name for _, name, _ in prose.findings(path)}


def test_names_without_a_meaning_are_found_where_they_are_bound(tmp_path):
    path = tmp_path / "module.py"
    path.write_text("def f(own):\n    for one in own:\n        volumes = one\n    return volumes\n")
    assert sorted((line, text) for line, _, text in prose.findings(path)) == [(1, "own"), (2, "one")]


def test_plain_english_has_no_findings(tmp_path):
    path = tmp_path / "module.py"
    path.write_text(
        '"""Return the number of volumes per run.\n\nParameters\n----------\nseed : int\n    Seed of the split.\n"""\n'
    )
    assert list(prose.findings(path)) == []


def test_code_and_tables_of_a_page_are_left_out(tmp_path):
    path = tmp_path / "page.md"
    path.write_text("# Title\n\n```\nwhat is it\n```\n\n| what is it |\n\nA file named `what is it`.\n")
    assert list(prose.findings(path)) == []
    path.write_text("Read what is stored.\n")
    assert len(list(prose.findings(path))) == 1


def test_questions_are_no_relative_clauses(tmp_path):
    path = tmp_path / "page.md"
    path.write_text("What is the effect of a lesion? What is stored is not repeated.\n")
    assert [text for _, _, text in prose.findings(path)] == ["What is"]


def test_a_count_that_has_risen_fails_and_one_that_has_fallen_is_stored(tmp_path, monkeypatch, capsys):
    stored = tmp_path / "counts.json"
    stored.write_text('{"a.py": 2}')
    monkeypatch.setattr(prose, "STORED", stored)
    monkeypatch.setattr(prose, "count", lambda: {"a.py": 3})
    assert prose.main(["--update"]) == 1
    assert "a.py: 3 findings, 2 are allowed" in capsys.readouterr().out
    assert stored.read_text() == '{"a.py": 2}'
    monkeypatch.setattr(prose, "count", lambda: {"a.py": 1})
    assert prose.main([]) == 0
    assert prose.main(["--update"]) == 0
    assert stored.read_text() == '{\n "a.py": 1\n}\n'
