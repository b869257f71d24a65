"""Store of item rows: no evaluation is run twice, even after a crash.

A file contains the rows of one model on one task: one line per intervention, identified by its hash. Lines are appended
as they are computed, so a killed process loses only the evaluation in progress.
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
"""Key of the intact model."""

TOLERANCE = 1e-5
"""Tolerance between live and stored values of the intact model, larger than rounding with other numbers of threads."""


class ItemStore:
    """Item rows by model, task and intervention.

    Parameters
    ----------
    folder : Path, optional
        Folder of the files; without it, rows are stored only in memory.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder
        self._known: dict[str, dict[str, dict[str, Any]]] = {}
        self._given: dict[str, str] = {}

    def _added_notes(self, key: str, task: Task) -> list[str]:
        """List the notes that scoring added to the task's original notes."""
        given = self._given.get(key, "").split("; ")
        return [note for note in task.info.note.split("; ") if note and note not in given]

    def key(self, model: PreTrainedModel, tokenizer: Any, task: Task) -> str:
        """Return the hash of everything, except the intervention, that determines the rows of a task."""
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
        """Return the stored rows of an intervention and restore the notes of the task; None if unknown."""
        line = self._lines(key).get(intervention)
        if line is None:
            return None
        notes = [note for note in line["note"].split("; ") if note and note not in task.info.note.split("; ")]
        task.info = replace(task.info, note="; ".join(filter(None, [task.info.note, *notes])))
        return [dict(row) for row in line["rows"]]

    def keep(self, key: str, intervention: str, task: Task, rows: Rows) -> None:
        """Store the rows of an intervention, on disk if there is a folder."""
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
        """Start over with a model and task; older rows are moved aside, since they may have taken hours."""
        self._known[key] = {}
        path = self._path(key)
        if path is not None and path.exists():
            number = 1 + sum(1 for _ in path.parent.glob(f"{key}.old-*"))
            path.rename(path.with_name(f"{key}.old-{number}"))

    def check(self, key: str, task: Task, live: Rows) -> Rows:
        """Return the stored rows of the intact model if it reproduces them; otherwise move all stored rows aside."""
        stored = self.find(key, NOTHING, task)
        if stored is None:
            self.keep(key, NOTHING, task, live)
            return live
        if _same(stored, live):
            return stored  # bit-identical to the reference of the other stored rows
        logger.warning(
            "The scores of the intact model on %r differ from the stored ones. The stored rows were moved aside.",
            task.info.name,
        )
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
                # Its process was killed while writing, or another process is writing it now.
                logger.info("%s contains an incomplete line, which is skipped.", path)
    return lines


def _append(path: Path, line: dict[str, Any]) -> None:
    """Append a line in one write, so that lines of two processes do not mix, after a possibly incomplete line."""
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
        # Truncation and padding of the last text are not properties of the tokenizer.
        content = {**json.loads(fast.to_str()), "truncation": None, "padding": None}
    return digest([type(tokenizer).__name__, content, getattr(tokenizer, "model_max_length", None)])


def _plain(row: Mapping[str, Any]) -> dict[str, Any]:
    """Convert numpy scalars to Python scalars, which JSON stores exactly."""
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
