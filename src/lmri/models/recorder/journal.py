"""The journal of a recording: which batches are done, so that none is read twice.

A line is added when a batch's data have been handed to the system. That is enough for a process that is killed. A
machine that loses its power may keep the line and lose the data; so every line has a checksum of the batch, and those
behind the last line that says *synced* are believed only if the data agree with it.
"""

import contextlib
import json
import os
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from lmri import storage
from lmri.exceptions import StudyError


class Journal:
    """Lines of JSON: a header, batches as they are done, *synced* and *whole*.

    Parameters
    ----------
    path : Path
        The file; made when the first line is added.
    header : dict
        What it is a journal of.

    Raises
    ------
    StudyError
        If the file is there and is the journal of something else.
    """

    def __init__(self, path: Path, header: dict[str, Any]) -> None:
        self.path, self.header = path, header
        self.done: dict[int, int] = {}
        self.is_whole = False
        self._unsure: list[int] = []
        self._n_unsynced = 0
        self._end = 0
        if path.is_file():
            self._read()

    def _read(self) -> None:
        lines = self.path.read_bytes().split(b"\n")
        for number, line in enumerate(lines[:-1]):  # what follows the last line end is torn
            try:
                content = json.loads(line)
            except ValueError:
                break  # a hole that a loss of power left; what lies behind it is not believed
            if number == 0 and content != self.header:
                raise StudyError(
                    f"{self.path} is the journal of another recording ({content}, not {self.header}). "
                    f"Delete {self.path.parent} and record it again."
                )
            self._take(content)
            self._end += len(line) + 1

    def _take(self, content: dict[str, Any]) -> None:
        if "batch" in content:
            self.done[content["batch"]] = content["crc"]
            self._unsure.append(content["batch"])
        elif "lost" in content:
            self.done.pop(content["lost"], None)
        elif "synced" in content:
            self._unsure.clear()
        elif "whole" in content:
            self.is_whole = True

    def verify(self, checksum: Callable[[int], int | None]) -> None:
        """Drop batches whose data may not have reached the disk and do not agree with their checksum."""
        for batch in self._unsure:
            if batch in self.done and checksum(batch) != self.done[batch]:
                self.drop(batch)

    def drop(self, batch: int) -> None:
        """Take a batch for not done."""
        self._add({"lost": batch})

    def add(self, batch: int, crc: int) -> None:
        """Say that the data of a batch are written."""
        self._add({"batch": batch, "crc": crc})

    def synced(self) -> None:
        """Say that all data so far are on the disk: the caller has seen to it."""
        self._add({"synced": True}, sync=True)

    def whole(self) -> None:
        """Say that everything is written, and on the disk."""
        self._add({"whole": True}, sync=True)

    def _add(self, content: dict[str, Any], sync: bool = False) -> None:
        is_new = self._end == 0
        lines = b"".join(
            json.dumps(line, sort_keys=True).encode() + b"\n" for line in ([self.header] if is_new else []) + [content]
        )
        with self.path.open("wb" if is_new else "r+b", buffering=0) as stream:
            stream.truncate(self._end)
            stream.seek(self._end)
            write_all(stream, lines)
            if sync:
                os.fsync(stream.fileno())
        self._end += len(lines)
        self._take(content)


def checksum(content: bytes | memoryview, before: int = 0) -> int:
    """Give the checksum of some bytes behind others: the CRC of the sums of every 4 KiB, read as 64-bit integers.

    A block that did not reach the disk, or a byte that has changed, changes the sum of its block; as a CRC of sums it
    costs a tenth of a CRC of everything, on a processor that is to read a model.
    """
    words = np.frombuffer(content, dtype=np.uint64, count=len(content) // 8)
    n_whole = len(words) // 512 * 512
    sums = words[:n_whole].reshape(-1, 512).sum(axis=1, dtype=np.uint64)
    rest = memoryview(content).cast("B")[8 * n_whole :]
    return zlib.crc32(rest, zlib.crc32(sums.tobytes(), before))


def write_all(stream: Any, content: Any) -> None:
    """Write all of `content` to a raw stream, which may take a part at a time."""
    left = memoryview(content).cast("B")
    while len(left):
        left = left[stream.write(left) :]


def read_header(path: Path) -> dict[str, Any] | None:
    """Give the header of a journal, None if there is no whole line."""
    if not path.is_file():
        return None
    first, end, _ = path.read_bytes().partition(b"\n")
    return json.loads(first) if end else None


def n_finished(folder: Path) -> int:
    """Count the batches that the journal of a folder lists, of whichever plan they are."""
    path, n = folder / "journal.jsonl", 0
    for line in path.read_bytes().splitlines() if path.is_file() else ():
        with contextlib.suppress(ValueError):  # a line that was cut short
            content = json.loads(line)
            n += isinstance(content, dict) and "batch" in content
    return n


def journal_of(folder: Path, digest: str, shard: tuple[int, int] | None) -> Journal:
    """Open the journal of a recording or of a shard of it."""
    header = {"plan": digest, "shard": list(shard) if shard else None, "format": storage.FORMAT_VERSION}
    return Journal(folder / "journal.jsonl", header)
