"""Files of a recording before they are moved to their final location in the study.

A single process writes images. A shard writes rows: the concatenated volumes of its texts. In both cases the volumes of
a text are one range of bytes of one file. Files are never written through a memory map: a full disk then raises an
error, whereas a memory map would kill the process.
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
"""File, first byte and number of bytes of the volumes of a text."""

LARGE = 2**24
"""Total size in bytes from which files are not left in the page cache, where the next step would find them."""
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_CANNOT_RESERVE = {errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS, errno.EBADF}  # file systems that cannot reserve space


@dataclass
class Files:
    """Files of known size, with the location of every text in them.

    Parameters
    ----------
    heads : dict of Path to bytes
        Header of each file.
    sizes : dict of Path to int
        Size of each file, in bytes.
    places : list of dict of int to Place
        Location of each text, one dict per space.
    """

    heads: dict[Path, bytes] = field(default_factory=dict)
    sizes: dict[Path, int] = field(default_factory=dict)
    places: list[dict[int, Place]] = field(default_factory=list)
    _dirty: set[Path] = field(default_factory=set)
    _direct: DirectWriter = field(default_factory=DirectWriter)

    @cached_property
    def n_bytes(self) -> int:
        """Total size of all files, in bytes."""
        return sum(self.sizes.values())

    def create(self) -> set[Path]:
        """Create all files that are missing or do not match, with space reserved; return the created files."""
        created = {path for path in self.sizes if not self._is_valid(path)}
        for path, size in self.sizes.items():
            with path.open("w+b" if path in created else "r+b") as stream:
                if path in created:
                    stream.write(self.heads[path])
                    stream.truncate(size)
                _reserve(stream.fileno(), size)
        # Data of an earlier process may not have reached the disk; they are synchronized together with the new data.
        self._dirty.update(self.sizes)
        return created

    def _is_valid(self, path: Path) -> bool:
        if not path.is_file() or path.stat().st_size != self.sizes[path]:
            return False
        with path.open("rb") as stream:
            return stream.read(len(self.heads[path])) == self.heads[path]

    def add_written(self, path: Path) -> None:
        """Register a file written by other code, for `sync`."""
        self._dirty.add(path)

    def write(self, space: int, text: int, content: bytes | memoryview) -> None:
        """Write the volumes of a text."""
        path, first, size = self.places[space][text]
        if len(content) != size:
            raise ValueError(f"Text {text} has {len(content)} bytes, but {size} were planned.")
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
        """Return the checksum of the stored volumes of some texts; None if one cannot be read."""
        crc = 0
        try:
            for space in range(len(self.places)):
                for text in texts:
                    crc = checksum(self.read(space, text), crc)
        except OSError:
            return None
        return crc

    def sync(self, keep_in_memory: bool = True) -> None:
        """Synchronize all written data to the disk, and optionally drop them from the page cache.

        A long recording would evict everything else from the page cache, and new pages cost more than copying to them.
        """
        for path in self._dirty:
            with path.open("r+b") as stream:
                os.fsync(stream.fileno())
                if not keep_in_memory and hasattr(os, "posix_fadvise"):
                    os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        self._dirty.clear()


def _reserve(number: int, size: int) -> None:
    """Reserve space for an open file, so that a full disk raises an error now, not after hours."""
    if not size or not hasattr(os, "posix_fallocate"):
        return
    try:
        os.posix_fallocate(number, 0, size)
    except OSError as error:
        if error.errno not in _CANNOT_RESERVE:
            raise


def image_files(plan: Plan, folder: Path) -> Files:
    """Plan the images of all runs, under their temporary names in `folder`."""
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
    """Plan the rows of one shard: one file per site."""
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
    """Return the temporary path of an image."""
    return folder / f"run-{run:03d}_space-{storage.bids_label(site)}_bold.nii"


def table_paths(folder: Path, run: int) -> tuple[Path, Path]:
    """Return the temporary paths of the events and the tokens of a run."""
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
    """Return the bytes of volumes, ``(n, n_neurons)``, in the order of an image: [token, layer, neuron], C order."""
    rows = np.ascontiguousarray(rows, dtype=np.float32)
    if not space.is_padded:
        return rows.data.cast("B")
    padded = np.zeros((len(rows), space.inside.size), dtype=np.float32)
    padded[:, np.flatnonzero(space.inside)] = rows
    return padded.data.cast("B")


@contextlib.contextmanager
def explain_full_disk(folder: Path, n_bytes: int, saved: Callable[[], str]) -> Iterator[None]:
    """Replace the error of a full disk by one with the required space and the next step."""
    try:
        yield
    except OSError as error:
        if error.errno not in _FULL:
            raise
        existing = next(path for path in (folder, *folder.parents) if path.exists())
        free = shutil.disk_usage(existing).free
        full = OSError(
            f"The disk is full, or a quota is exceeded: the recording needs {n_bytes:,} bytes "
            f"({n_bytes / 1e9:.3g} GB) in {folder}, of which {occupied(folder):,} are reserved; "
            f"{free:,} are free ({error.strerror}). "
            f"{saved()} Free disk space, record fewer tokens or one site at a time, or use another folder (--out)."
        )
        full.errno = error.errno  # for callers; set afterwards, it does not change the message
        raise full from error


def occupied(folder: Path) -> int:
    """Sum the disk space occupied by the files below a folder, in bytes."""
    stats = [path.stat() for path in folder.rglob("*") if path.is_file()]
    return sum(min(stat.st_size, 512 * getattr(stat, "st_blocks", stat.st_size)) for stat in stats)
