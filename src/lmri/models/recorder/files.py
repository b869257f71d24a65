"""The files that a recording is written to, before they are put into their places in the study.

One process writes images. A shard writes rows: the volumes of its texts, one behind the other. Either way the volumes
of a text are one range of bytes of one file, written where they belong, and never through a memory map: a full disk is
an error then, where a map would end the process.
"""

import contextlib
import errno
import io
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import nibabel as nib
import numpy as np

from lmri import storage
from lmri.models.recorder.direct_io import DirectWriter
from lmri.models.recorder.journal import checksum, write_all
from lmri.models.recorder.plan import Plan, text_shares
from lmri.space import NeuronSpace

Place = tuple[Path, int, int]
"""File, first byte and number of bytes of a text's volumes."""

LARGE = 2**24
"""Bytes of all files from which on they are not left in the system's memory, where the next step would find them."""
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_CANNOT_RESERVE = {errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS, errno.EBADF}  # file systems that know no such thing


@dataclass
class Files:
    """Files of known size, and where in them every text goes.

    Parameters
    ----------
    heads : dict of Path to bytes
        What each file begins with.
    sizes : dict of Path to int
        Bytes of each file.
    places : list of dict of int to Place
        For every space: the place of each text.
    """

    heads: dict[Path, bytes] = field(default_factory=dict)
    sizes: dict[Path, int] = field(default_factory=dict)
    places: list[dict[int, Place]] = field(default_factory=list)
    _dirty: set[Path] = field(default_factory=set)
    _direct: DirectWriter = field(default_factory=DirectWriter)

    @cached_property
    def n_bytes(self) -> int:
        """Bytes of all files."""
        return sum(self.sizes.values())

    def create(self) -> set[Path]:
        """Make the files that are not there as they should be, with room reserved; give those that were made."""
        made = {path for path in self.sizes if not self._is_there(path)}
        for path, size in self.sizes.items():
            with path.open("w+b" if path in made else "r+b") as stream:
                if path in made:
                    stream.write(self.heads[path])
                    stream.truncate(size)
                _reserve(stream.fileno(), size)
        # What an earlier process wrote may not have reached the disk, and is vouched for together with the rest.
        self._dirty.update(self.sizes)
        return made

    def _is_there(self, path: Path) -> bool:
        if not path.is_file() or path.stat().st_size != self.sizes[path]:
            return False
        with path.open("rb") as stream:
            return stream.read(len(self.heads[path])) == self.heads[path]

    def add_written(self, path: Path) -> None:
        """Remember a file that others have written, for `sync`."""
        self._dirty.add(path)

    def write(self, space: int, text: int, content: bytes | memoryview) -> None:
        """Write the volumes of a text."""
        path, first, size = self.places[space][text]
        if len(content) != size:
            raise ValueError(f"Text {text} gave {len(content)} bytes where {size} were planned.")
        if self.n_bytes >= LARGE:
            self._direct.write(path, first, content)
        else:
            with path.open("r+b", buffering=0) as stream:
                stream.seek(first)
                write_all(stream, content)
        self._dirty.add(path)

    def read(self, space: int, text: int) -> bytes:
        """Read the volumes of a text."""
        path, first, size = self.places[space][text]
        with path.open("rb") as stream:
            stream.seek(first)
            return stream.read(size)

    def checksum(self, texts: list[int]) -> int | None:
        """Give the checksum of the volumes of some texts as they are in the files; None if one cannot be read."""
        crc = 0
        try:
            for space in range(len(self.places)):
                for text in texts:
                    crc = checksum(self.read(space, text), crc)
        except OSError:
            return None
        return crc

    def sync(self, keep_in_memory: bool = True) -> None:
        """See to it that all that was written is on the disk, and need not be in the system's memory as well.

        A long recording would push everything else out of it, and new pages cost more than the copying into them.
        """
        for path in self._dirty:
            with path.open("r+b") as stream:
                os.fsync(stream.fileno())
                if not keep_in_memory and hasattr(os, "posix_fadvise"):
                    os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        self._dirty.clear()


def _reserve(number: int, size: int) -> None:
    """Reserve room in an open file, so that a full disk is an error now, instead of after hours."""
    if not size or not hasattr(os, "posix_fallocate"):
        return
    try:
        os.posix_fallocate(number, 0, size)
    except OSError as error:
        if error.errno not in _CANNOT_RESERVE:
            raise


def image_files(plan: Plan, folder: Path) -> Files:
    """Lay out the images of all runs, under their hidden names in `folder`."""
    files = Files()
    for space in plan.read:
        places: dict[int, Place] = {}
        volume = 4 * space.inside.size
        for number, run in enumerate(plan.runs, start=1):
            path = image_path(folder, space.site, number)
            head = _image_head(space, sum(plan.n_volumes[text] for text in run))
            for text, first, size in text_shares(run, plan.n_volumes, volume):
                places[text] = (path, len(head) + first, size)
            files.heads[path] = head
            files.sizes[path] = len(head) + sum(plan.n_volumes[text] for text in run) * volume
        files.places.append(places)
    return files


def row_files(plan: Plan, folder: Path, shard: tuple[int, int]) -> Files:
    """Lay out the rows of one shard: a file a site."""
    files = Files()
    texts = [text for batch in plan.own_batches(shard) for text in plan.batches[batch]]
    for space in plan.read:
        path = folder / f"space-{storage.bids_label(space.site)}_rows.bin"
        shares = text_shares(texts, plan.n_volumes, 4 * space.inside.size)
        files.places.append({text: (path, first, size) for text, first, size in shares})
        files.heads[path] = b""
        files.sizes[path] = sum(size for _, _, size in shares)
    return files


def image_path(folder: Path, site: str, run: int) -> Path:
    """Give the hidden place of an image."""
    return folder / f"run-{run:03d}_space-{storage.bids_label(site)}_bold.nii"


def table_paths(folder: Path, run: int) -> tuple[Path, Path]:
    """Give the hidden places of the events and the tokens of a run."""
    return folder / f"run-{run:03d}_events.tsv", folder / f"run-{run:03d}_tokens.tsv"


def _image_head(space: NeuronSpace, n_volumes: int) -> bytes:
    empty = np.broadcast_to(np.float32(0), (*space.shape, n_volumes))
    header = space.stamp(nib.Nifti1Image(empty, space.affine)).header
    header.set_data_dtype(np.float32)
    header.set_slope_inter(1, 0)
    with io.BytesIO() as stream:
        header.write_to(stream)
        return stream.getvalue().ljust(header.get_data_offset(), b"\0")


def volume_bytes(space: NeuronSpace, rows: np.ndarray) -> memoryview:
    """Give the bytes of volumes, ``(n, n_neurons)``, as they stand in an image: [token, layer, neuron] in C order."""
    rows = np.ascontiguousarray(rows, dtype=np.float32)
    if not space.is_padded:
        return rows.data.cast("B")
    padded = np.zeros((len(rows), space.inside.size), dtype=np.float32)
    padded[:, np.flatnonzero(space.inside)] = rows
    return padded.data.cast("B")


@contextlib.contextmanager
def explaining_a_full_disk(folder: Path, n_bytes: int, what_is_kept: Callable[[], str]) -> Iterator[None]:
    """Let a full disk be an error that says how much room is needed, and what to do."""
    try:
        yield
    except OSError as error:
        if error.errno not in _FULL:
            raise
        there = next(path for path in (folder, *folder.parents) if path.exists())
        free = shutil.disk_usage(there).free
        full = OSError(
            f"The disk is full, or a quota of it: the recording needs {n_bytes:,} bytes ({n_bytes / 1e9:.3g} GB) in "
            f"{folder}, of which {occupied(folder):,} are reserved; {free:,} are free ({error.strerror}). "
            f"{what_is_kept()} Make room, record fewer tokens or one site at a time, or use another folder (--out)."
        )
        full.errno = error.errno  # for callers; set alone, it leaves the message as it is
        raise full from error


def occupied(folder: Path) -> int:
    """Sum the bytes of the files below a folder, as far as they occupy the disk."""
    found = [path.stat() for path in folder.rglob("*") if path.is_file()]
    return sum(min(one.st_size, 512 * getattr(one, "st_blocks", one.st_size)) for one in found)
