"""Writing to files with direct I/O, bypassing the page cache.

Activations of long texts fill the page cache, although they are not read again soon. While all cores compute the model,
allocating, filling and evicting pages takes time from the forward passes. Complete blocks of a large write are
therefore written with O_DIRECT, if the operating system and the file system support it; the remainder, and all writes
elsewhere, are ordinary writes. The bytes in the file are the same.
"""

import errno
import mmap
import os
from pathlib import Path

from lmri.models.recorder.journal import write_all

_BLOCK = max(4096, mmap.PAGESIZE)
"""Alignment in bytes, at least that of current disks; a multiple of a page, so that no page is written both ways."""
_AT_ONCE = 2**22
"""Bytes per write call, small enough for the caches of the processor."""
_WORTH_IT = 2**20
"""Size in bytes below which an ordinary write is cheaper."""
_REFUSED = {errno.EINVAL, errno.EOPNOTSUPP, errno.ENOSYS}


class DirectWriter:
    """Writer of byte ranges to existing files; not thread-safe."""

    def __init__(self) -> None:
        self._can = hasattr(os, "O_DIRECT") and hasattr(os, "pwrite")
        self._memory: mmap.mmap | None = None

    def write(self, path: Path, first: int, content: bytes | memoryview) -> None:
        """Write `content` to a file, starting at byte `first`.

        Raises
        ------
        OSError
            If the disk is full or the file does not exist, as for ordinary writes.
        """
        content = memoryview(content).cast("B")
        start, end = -(-first // _BLOCK) * _BLOCK, (first + len(content)) // _BLOCK * _BLOCK
        reached = start
        if self._can and end - start >= _WORTH_IT:
            reached = self._write_blocks(path, start, content[start - first : end - first])
        with path.open("r+b", buffering=0) as stream:
            if reached > start:
                stream.seek(first)
                write_all(stream, content[: start - first])
            else:
                reached = first
            stream.seek(reached)
            write_all(stream, content[reached - first :])

    def _write_blocks(self, path: Path, start: int, blocks: memoryview) -> int:
        """Write complete blocks; return the offset up to which this succeeded."""
        if self._memory is None:
            # Aligned to a page, as direct I/O requires, and shared with processes that are forked meanwhile.
            self._memory = mmap.mmap(-1, _AT_ONCE)
        number, done = -1, 0
        try:
            number = os.open(path, os.O_WRONLY | os.O_DIRECT)
            while done < len(blocks):
                n = min(_AT_ONCE, len(blocks) - done)
                self._memory[:n] = blocks[done : done + n]
                with memoryview(self._memory) as memory:
                    written = os.pwrite(number, memory[:n], start + done)
                done += written // _BLOCK * _BLOCK
                if written % _BLOCK or not written:
                    break
        except OSError as error:
            if error.errno not in _REFUSED:
                raise
            self._can = False
        finally:
            if number >= 0:
                os.close(number)
        return start + done
