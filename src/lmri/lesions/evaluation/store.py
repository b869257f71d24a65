"""Stored item rows: what was scored once is never scored again, also after a crash.

A file holds the rows of one model on one task: a line for every intervention, by the hash of what it does. Lines are
appended as they come, so a process that is killed loses the evaluation it was in, and nothing else.
"""

import json
import logging
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedModel

from lmri.lesions.tasks import Task
from lmri.models import fingerprint
from lmri.storage import digest, versions

logger = logging.getLogger(__name__)

Rows = list[dict[str, Any]]

NOTHING = "intact"
"""The intervention that is none."""

TOLERANCE = 1e-5
"""By how much the intact model's values may differ from stored ones: more than rounding with other threads does."""


class ItemStore:
    """Item rows by model, task and intervention.

    Parameters
    ----------
    folder : Path, optional
        Where files lie; without it, rows are kept in memory only.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder
        self._known: dict[str, dict[str, dict[str, Any]]] = {}
        self._given: dict[str, str] = {}

    def _added_notes(self, key: str, task: Task) -> list[str]:
        """List the notes that scoring has added to those which the task was given."""
        given = self._given.get(key, "").split("; ")
        return [note for note in task.info.note.split("; ") if note and note not in given]

    def key(self, model: PreTrainedModel, tokenizer: Any, task: Task) -> str:
        """Hash everything, beside an intervention, that the rows of a task are a function of."""
        made_with = versions()
        key = digest(
            [
                fingerprint(model, head=True),
                str(model.dtype),
                str(model.device),
                type(model).__name__,
                _tokenizer_digest(tokenizer),
                task.info.name,
                task.digest(),
                {name: made_with[name] for name in ("lmri", "torch", "transformers") if name in made_with},
            ]
        )
        self._given.setdefault(key, task.info.note)
        return key

    def find(self, key: str, intervention: str, task: Task) -> Rows | None:
        """Give the rows of an intervention, and the task the notes that scoring it made; None if unknown."""
        line = self._lines(key).get(intervention)
        if line is None:
            return None
        notes = [note for note in line["note"].split("; ") if note and note not in task.info.note.split("; ")]
        task.info = replace(task.info, note="; ".join(filter(None, [task.info.note, *notes])))
        return [dict(row) for row in line["rows"]]

    def keep(self, key: str, intervention: str, task: Task, rows: Rows) -> None:
        """Keep the rows of an intervention, on disk if there is a folder."""
        line = {
            "of": intervention,
            "note": "; ".join(self._added_notes(key, task)),
            "rows": [_plain(row) for row in rows],
        }
        self._lines(key)[intervention] = line
        path = self._path(key)
        if path is not None:
            _append(path, line)

    def forget(self, key: str) -> None:
        """Begin anew with a model and task; older rows are put aside, since they may have taken hours."""
        self._known[key] = {}
        path = self._path(key)
        if path is not None and path.exists():
            number = 1 + sum(1 for _ in path.parent.glob(f"{key}.old-*"))
            path.rename(path.with_name(f"{key}.old-{number}"))

    def check(self, key: str, task: Task, live: Rows) -> Rows:
        """Give the stored rows of the intact model if it still gives them, and put all stored ones aside otherwise."""
        stored = self.find(key, NOTHING, task)
        if stored is None:
            self.keep(key, NOTHING, task, live)
            return live
        if _same(stored, live):
            return stored  # to the last digit what the other stored rows are compared with
        logger.warning("The model scores %r otherwise than stored; old rows are put aside.", task.info.name)
        self.forget(key)
        self.keep(key, NOTHING, task, live)
        return live

    def _path(self, key: str) -> Path | None:
        return None if self.folder is None else self.folder / f"{key}.jsonl"

    def _lines(self, key: str) -> dict[str, dict[str, Any]]:
        if key not in self._known:
            path = self._path(key)
            self._known[key] = _read(path) if path is not None and path.exists() else {}
        return self._known[key]


def _read(path: Path) -> dict[str, dict[str, Any]]:
    lines: dict[str, dict[str, Any]] = {}
    for raw in path.read_bytes().split(b"\n"):
        try:
            line = json.loads(raw)
            lines[str(line["of"])] = {"note": str(line["note"]), "rows": list(line["rows"])}
        except (ValueError, KeyError, TypeError):
            if raw:
                # It was being written when its process was killed, or another process writes it now.
                logger.info("%s holds a line that was not finished; it is passed over.", path)
    return lines


def _append(path: Path, line: dict[str, Any]) -> None:
    """Write a line at once, so that lines of two processes do not mix, behind one that may have been torn."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+b", buffering=0) as file:
        end = file.seek(0, os.SEEK_END)
        torn = False
        if end:
            file.seek(end - 1)
            torn = file.read(1) != b"\n"
        file.write(b"\n" * torn + json.dumps(line, ensure_ascii=True).encode() + b"\n")
        os.fsync(file.fileno())


def _tokenizer_digest(tokenizer: Any) -> str:
    fast = getattr(tokenizer, "backend_tokenizer", None)
    content: Any = sorted(tokenizer.get_vocab().items())
    if fast is not None:
        # How the last text was cut and padded is no part of what the tokenizer is.
        content = {**json.loads(fast.to_str()), "truncation": None, "padding": None}
    return digest([type(tokenizer).__name__, content, getattr(tokenizer, "model_max_length", None)])


def _plain(row: Mapping[str, Any]) -> dict[str, Any]:
    """Turn numpy scalars into Python's, of which JSON keeps every digit."""
    items = (
        (name, value.item() if isinstance(value, np.generic | torch.Tensor) else value) for name, value in row.items()
    )
    return dict(items)


def _same(stored: Rows, live: Rows) -> bool:
    if len(stored) != len(live):
        return False
    for old, new in zip(stored, live, strict=True):
        if old.keys() != new.keys():
            return False
        for name, value in new.items():
            if isinstance(value, float | np.floating):
                if not np.isclose(old[name], value, rtol=TOLERANCE, atol=TOLERANCE, equal_nan=True):
                    return False
            elif old[name] != value:
                return False
    return True
