"""References of free-text tasks in fields of tables: a text, a list, or JSON of a list."""

import json
from collections.abc import Iterable
from typing import Any

from lmri.storage.json_files import JSONValue, parse_json


def from_json(raw: Any, openings: str) -> JSONValue:
    """Parse a text that begins with one of the characters `openings`, if it is JSON; return other values unchanged."""
    if not isinstance(raw, str) or not raw.lstrip().startswith(tuple(openings)):
        return raw
    try:
        return parse_json(raw)
    except json.JSONDecodeError:
        return raw


def strings(references: Any, here: str) -> list[str] | None:
    """Return references as a list, None if all are empty.

    Raises
    ------
    TypeError
        If a reference is not a text.
    """
    listed = list(references) if isinstance(references, Iterable) and not isinstance(references, dict) else [references]
    for reference in listed:
        if not isinstance(reference, str):
            raise TypeError(f"{here} has the reference {reference!r} ({type(reference).__name__}); texts are needed.")
    return [reference for reference in listed if reference.strip()] or None
