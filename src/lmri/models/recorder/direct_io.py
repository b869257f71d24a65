"""Writing into files past the system's memory.

What a model does while it reads long texts fills the page cache faster than anyone looks at it, and with every core at
work on the model, each page that the system has to find, fill and drop again is time taken from the reading. So the
whole blocks of a large write go straight to the disk, where the system and its file system can do that; the rest, and
everything elsewhere, is written plainly. The bytes in the file are the same.
"""

import errno
import mmap
import os
from pathlib import Path

from lmri.models.recorder.journal import write_all

_BLOCK = max(4096, mmap.PAGESIZE)
"""Alignment, in bytes, that no disk in use exceeds; also a page, so that no page is written both ways."""
_AT_ONCE = 2**22
"""Bytes handed over at once: few enough to stay in the processor's caches."""
_WORTH_IT = 2**20
"""Bytes below which a plain write costs less."""
_REFUSED = {errno.EINVAL, errno.EOPNOTSUPP, errno.ENOSYS}


class DirectWriter:
    """Writes ranges of bytes to files that are there; not to be shared by threads."""

    def __init__(self) -> None:
        self._can = hasattr(os, "O_DIRECT") and hasattr(os, "pwrite")
        self._memory: mmap.mmap | None = None

    def write(self, path: Path, first: int, content: bytes | memoryview) -> None:
        """Write `content` to a file, from byte `first` on.

        Raises
        ------
        OSError
            As of plain writes: a full disk, a file that is missing.
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
        """Write whole blocks; gives the place up to which it could."""
        if self._memory is None:
            # Begins with a page, as the disk wants it, and is shared with a process that is forked meanwhile.
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
