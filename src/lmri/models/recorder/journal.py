"""Journal of a recording: a list of finished batches, so that no batch is read twice.

A line is added when the data of a batch have been passed to the operating system, which suffices if the process is
killed. After a power failure the line may exist without the data. Every line therefore contains a checksum of the
batch, and batches after the last line *synced* count as finished only if their data match it.
"""

import contextlib
import json
import os
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from lmri.exceptions import StudyError


class Journal:
    """Journal file in JSON lines: a header, finished batches, *synced* and *whole*.

    Parameters
    ----------
    path : Path
        Path of the file, which is created with the first line.
    header : dict
        Identification of the recording: digest of the plan, shard and format.

    Raises
    ------
    StudyError
        If the file exists and is the journal of another recording.
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
        for number, line in enumerate(lines[:-1]):  # text after the last line break is an incomplete line
            try:
                content = json.loads(line)
            except ValueError:
                break  # a gap caused by a power failure; later lines are ignored
            if number == 0 and content != self.header:
                raise StudyError(
                    f"{self.path} is the journal of another recording ({content}, not {self.header}). "
                    f"Delete {self.path.parent}, then record again."
                )
            self._apply(content)
            self._end += len(line) + 1

    def _apply(self, content: dict[str, Any]) -> None:
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
        """Drop unsynchronized batches whose data do not match their checksum."""
        for batch in self._unsure:
            if batch in self.done and checksum(batch) != self.done[batch]:
                self.drop(batch)

    def drop(self, batch: int) -> None:
        """Mark a batch as not finished."""
        self._add({"lost": batch})

    def add(self, batch: int, crc: int) -> None:
        """Mark a batch as written, with the checksum of its data."""
        self._add({"batch": batch, "crc": crc})

    def synced(self) -> None:
        """Mark all data so far as synchronized to the disk, which the caller has ensured."""
        self._add({"synced": True}, sync=True)

    def whole(self) -> None:
        """Mark the recording as complete and synchronized to the disk."""
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
        self._apply(content)


def checksum(content: bytes | memoryview, before: int = 0) -> int:
    """Return the running checksum of bytes: the CRC of the sums of blocks of 4 KiB, as 64-bit integers.

    A block that did not reach the disk, or a changed byte, changes the sum of its block. A CRC of these sums costs a
    tenth of a CRC of all bytes, on a processor that is busy with the model.
    """
    words = np.frombuffer(content, dtype=np.uint64, count=len(content) // 8)
    n_whole = len(words) // 512 * 512
    sums = words[:n_whole].reshape(-1, 512).sum(axis=1, dtype=np.uint64)
    rest = memoryview(content).cast("B")[8 * n_whole :]
    return zlib.crc32(rest, zlib.crc32(sums.tobytes(), before))


def write_all(stream: Any, content: Any) -> None:
    """Write all of `content` to a raw stream, which may accept only part of it per call."""
    left = memoryview(content).cast("B")
    while len(left):
        left = left[stream.write(left) :]


def read_header(path: Path) -> dict[str, Any] | None:
    """Return the header of a journal, or None if it has no complete line."""
    if not path.is_file():
        return None
    first, end, _ = path.read_bytes().partition(b"\n")
    return json.loads(first) if end else None


def n_finished(folder: Path) -> int:
    """Count the batches listed in the journal of a folder, for any plan."""
    path, n = folder / "journal.jsonl", 0
    for line in path.read_bytes().splitlines() if path.is_file() else ():
        with contextlib.suppress(ValueError):  # an incomplete line
            content = json.loads(line)
            n += isinstance(content, dict) and "batch" in content
    return n


def interruption(what: str, n: int, folder: Path) -> str:
    """Format the error message for an interrupted recording with `n` finished batches in `folder`."""
    return (
        f"{what} was interrupted; {n} finished batch{' was' if n == 1 else 'es were'} saved. "
        f"Continue with --resume (resume=True), or delete {folder} to start over."
    )


_FORMAT = 1
"""Version of the journal; an interrupted recording with another version begins again."""


def journal_of(folder: Path, digest: str, shard: tuple[int, int] | None) -> Journal:
    """Open the journal of a recording or of one shard."""
    header = {"plan": digest, "shard": list(shard) if shard else None, "format": _FORMAT}
    return Journal(folder / "journal.jsonl", header)
