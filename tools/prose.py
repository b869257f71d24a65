"""Count phrases and names that make text and code hard to read, and fail if a count increases.

``python tools/prose.py`` compares every module and page with ``tools/prose_counts.json`` and fails if a count is
higher. ``python tools/prose.py --update`` lowers the stored counts to the current counts, and never raises a count.
``python tools/prose.py FILE ...`` lists every finding in these files.

The patterns are typical of translated or unclear English: a docstring that begins with "Say" or "Give", a description
without a noun ("Of the split."), a rate without "per", a comparison without "relative to", and variables without a
meaning (``one``, ``found``). Edited files should reach zero.
"""

import argparse
import ast
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
STORED = Path(__file__).with_name("prose_counts.json")

THINGS = (
    "batch|cluster|column|component|condition|corpus|file|item|kind|layer|line|map|method|network|neuron|run|row|"
    "sentence|set|shard|site|start|step|task|text|token|unit|volume|voxel|word"
)
PHRASES = {
    "opens with Say, Give or Tell": re.compile(r"\A(Say|Give|Tell)\b"),
    "has no verb (Of ...)": re.compile(r"(?:\A|\n)[ \t]*Of (?!course)\w"),
    "rate without per": re.compile(rf"\b(?:an?|one) (?:{THINGS}) an? (?:{THINGS})\b|\bdraws? a (?:{THINGS})\b"),
    "stands, lies, beside": re.compile(
        r"\bbeside\b|\b(?:stands?|lies?|lay) (?:in|on|at|out|for|behind|there|where)\b", re.IGNORECASE
    ),
    "relative clause as a noun": re.compile(
        r"\bwhat (?:is|was|are|were|a|an|it|they|of|has|had|gives|comes|makes|there|people|another|an?other)\b"
        r"(?![^.]*\?)",  # questions are not counted
        re.IGNORECASE,
    ),
    "that of, those of which": re.compile(r"\b(?:is|are) (?:that|those) of\b|\bthose of which\b"),
    "whatever, wherever, who asks": re.compile(r"\b(?:whatever|wherever|whoever|who asks)\b", re.IGNORECASE),
    "so many": re.compile(r"\bso many\b|\bso-manieth\b"),
    "says nothing": re.compile(r"\bsays? (?:nothing|what|how|so)\b"),
}
NAMES = {"one", "found", "own", "place", "kept", "made", "beside", "told", "asked"}


def texts_of(path: Path) -> Iterator[tuple[int, str]]:
    """List the pieces of prose of a file with their lines: docstrings and messages, or paragraphs of a page."""
    content = path.read_text(encoding="utf-8")
    if path.suffix != ".py":
        prose = re.sub(r"^```.*?^```", lambda code: "\n" * code[0].count("\n"), content, flags=re.MULTILINE | re.DOTALL)
        for number, line in enumerate(prose.splitlines(), start=1):
            if not line.lstrip().startswith(("|", "```")):
                yield number, re.sub(r"`[^`]*`", "", line)
        return
    for node in ast.walk(ast.parse(content)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and " " in node.value:
            yield node.lineno, node.value


def findings(path: Path) -> Iterator[tuple[int, str, str]]:
    """List the findings of a file.

    Yields
    ------
    tuple
        Line, name of the pattern, and matching text.
    """
    for number, text in texts_of(path):
        for name, pattern in PHRASES.items():
            for match in pattern.finditer(text):
                yield number + text[: match.start()].count("\n"), name, match[0].strip()
    if path.suffix == ".py":
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store) and node.id in NAMES:
                yield node.lineno, "name that says nothing", node.id
            elif isinstance(node, ast.arg) and node.arg in NAMES:
                yield node.lineno, "name that says nothing", node.arg


def files() -> list[Path]:
    """List the modules of the package and the pages of the documentation; the demo texts are data."""
    pages = [path for path in (ROOT / "docs").rglob("*.md") if not {"_build", "generated", "gallery"} & {*path.parts}]
    package = ROOT / "src" / "lmri"
    modules = [path for path in package.rglob("*.py") if not path.is_relative_to(package / "demo" / "texts")]
    return sorted([*modules, ROOT / "README.md", *pages])


def count() -> dict[str, int]:
    """Count the findings of every file that has findings."""
    counts = {path.relative_to(ROOT).as_posix(): sum(1 for _ in findings(path)) for path in files()}
    return {name: number for name, number in counts.items() if number}


def risen(stored: dict[str, int], now: dict[str, int]) -> list[str]:
    """List the files whose count is higher than the stored one.

    Examples
    --------
    >>> risen({"a.py": 2}, {"a.py": 1, "b.py": 1})
    ['b.py']
    """
    return [name for name, number in now.items() if number > stored.get(name, 0)]


def main(arguments: list[str] | None = None) -> int:
    """Compare, update or list; return 1 if a count has increased."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("files", nargs="*", type=Path, help="list every finding in these files")
    parser.add_argument("--update", action="store_true", help="lower the stored counts to the current counts")
    options = parser.parse_args(arguments)
    for path in options.files:
        for line, name, text in sorted(findings(path)):
            print(f"{path}:{line}: {name}: {text}")
    if options.files:
        return 0
    now = count()
    stored: dict[str, int] = json.loads(STORED.read_text(encoding="utf-8")) if STORED.is_file() else now
    worse = risen(stored, now)
    for name in worse:
        allowed = stored.get(name, 0)
        print(f"{name}: {now[name]} findings, {allowed} are allowed. List them with: python tools/prose.py {name}")
    if options.update and not worse:
        STORED.write_text(json.dumps(now, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    return 1 if worse else 0


if __name__ == "__main__":
    sys.exit(main())
