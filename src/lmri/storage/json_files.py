"""JSON and JSON Lines of users, in which no key may occur twice in an object."""

import json
import re
from typing import Any, TypeAlias

from lmri.storage.text_files import TextFile

JSONValue: TypeAlias = Any
"""Value of any type in JSON: an object, a list, a text, a number, a boolean or None."""

_SPACE = " \t\r\n"


class DuplicateKeyError(ValueError):
    """Raised when a key occurs twice in an object."""


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise DuplicateKeyError(f"begins an object with two keys {twice!r}. Rename or remove one of them.")
    return content


_DECODER = json.JSONDecoder(object_pairs_hook=_unique)


def parse_json(text: str) -> JSONValue:
    """Parse JSON.

    Raises
    ------
    DuplicateKeyError
        If a key occurs twice in an object, of which the standard library silently uses the last value.
    json.JSONDecodeError
        If the text is not JSON.

    Examples
    --------
    >>> parse_json('{"a": 1, "b": {"a": 2}}')
    {'a': 1, 'b': {'a': 2}}
    """
    return _DECODER.decode(text)


def read_json(file: TextFile, text: str | None = None, line: int = 1) -> JSONValue:
    """Parse a JSON file, or a part of it, and name the line of a problem.

    Parameters
    ----------
    file : TextFile
        File.
    text : str, optional
        Part to parse; the whole file by default.
    line : int, default=1
        Number of the line on which the part begins.

    Raises
    ------
    ValueError
        If the text is not JSON, or a key occurs twice in an object.
    """
    text = file.text if text is None else text
    try:
        return parse_json(text)
    except DuplicateKeyError:
        start, problem = _innermost_duplicate(text)
    except json.JSONDecodeError as error:
        start, problem = error.pos, f"is not JSON: {error.msg} (character {error.colno}). Correct it."
    except RecursionError:
        start, problem = 0, "begins a value that is nested too deeply. Flatten it."
    raise file.refusal(line + text.count(file.line_end, 0, start), problem)


def _innermost_duplicate(text: str) -> tuple[int, str]:
    """Locate an object with a duplicate key; the decoder does not report the positions of keys."""
    for brace in reversed([match.start() for match in re.finditer(r"\{", text)]):
        try:
            _DECODER.raw_decode(text, brace)
        except DuplicateKeyError as error:
            return brace, str(error)
        except json.JSONDecodeError:
            continue  # a brace within a string
    raise AssertionError("no object has a duplicate key")


def read_json_lines(file: TextFile) -> list[tuple[int, dict[str, Any]]]:
    """Read one object per line, with the number of its line; blank lines are skipped.

    Raises
    ------
    ValueError
        If a line is not an object.
    """
    numbered = [(number, line) for number, line in enumerate(file.lines(), start=1) if line.strip(_SPACE)]
    return [(number, as_object(file, number, read_json(file, line, number))) for number, line in numbered]


def as_object(file: TextFile, line: int, value: Any) -> dict[str, Any]:
    """Return `value` if it is a JSON object, else raise `ValueError`."""
    if not isinstance(value, dict):
        raise file.refusal(line, f'is {json.dumps(value)[:80]}; needed is an object such as {{"text": "..."}}.')
    return value
