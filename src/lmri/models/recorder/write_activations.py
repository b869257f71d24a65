"""Filling the files of a recording: the model reads batch by batch, and what it gives is written to its place."""

import contextlib
import itertools
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from lmri import storage
from lmri.exceptions import LMRIWarning, NonFiniteError
from lmri.models import Encoding, evaluation_mode, input_device, right_pad
from lmri.models.capture import ActivationBuffers, capture
from lmri.models.recorder.files import (
    LARGE,
    Files,
    explaining_a_full_disk,
    image_files,
    row_files,
    table_paths,
    volume_bytes,
)
from lmri.models.recorder.finalize import discard
from lmri.models.recorder.journal import Journal, checksum
from lmri.models.recorder.plan import Plan
from lmri.models.recorder.reading import Reading
from lmri.models.recorder.time_axis import averaged
from lmri.space import NeuronSpace

Progress = Callable[[int, int], None]
"""Called with how much is done, and how much there is."""

_SYNC_EVERY = LARGE
"""Bytes after which the disk is waited for: what a loss of power can cost, beside what is checked by its checksum."""


def fill(
    reading: Reading,
    plan: Plan,
    shard: tuple[int, int] | None,
    folder: Path,
    journal: Journal,
    progress: Progress | None,
) -> None:
    """Write images or rows, and tables, of what the journal does not list; then say that they are whole.

    Parameters
    ----------
    reading : Reading
        Model and texts.
    plan : Plan
        Of all shards.
    shard : tuple of two ints or None
        Which part of it, as (number from 1, how many); all by default.
    folder : Path
        Where the files are made.
    journal : Journal
        Of this folder.
    progress : callable or None
        Called with tokens done and tokens in all.
    """
    files = image_files(plan, folder) if shard is None else row_files(plan, folder, shard)
    made = files.create()
    lost = {text for places in files.places for text, place in places.items() if place[0] in made}
    for batch in list(journal.done):
        if lost.intersection(plan.batches[batch]):
            journal.drop(batch)
    journal.verify(lambda batch: files.checksum(plan.batches[batch]))
    _read_batches(reading, plan, plan.own_batches(shard), files, journal, progress)
    text_ids = plan.texts["text_id"].tolist()
    for number in plan.own_runs(shard):
        tables = reading.tables(plan.corpus, plan.runs[number - 1], text_ids)
        for path, table in zip(table_paths(folder, number), tables, strict=True):
            storage.write_table(path, table)
            files.add_written(path)
    files.sync()
    journal.whole()


def _read_batches(
    reading: Reading, plan: Plan, numbers: list[int], files: Files, journal: Journal, progress: Progress | None
) -> None:
    """Read what is not done; while one batch is read the one before it is written, and memory holds the two."""
    sizes = {number: sum(plan.n_tokens[text] for text in plan.batches[number]) for number in numbers}
    n_all, n_done = sum(sizes.values()), sum(sizes[number] for number in numbers if number in journal.done)
    writer = _Writer(reading, plan, files, journal)
    waiting: Future[None] | None = None
    left = [number for number in numbers if number not in journal.done]
    longest = max((sum(plan.n_tokens[text] for text in plan.batches[number]) for number in left), default=0)
    # One is filled while the other is written.
    memory = itertools.cycle([ActivationBuffers(plan.read, longest) for _ in range(2)])
    # A body that fails leaves the pool only when what it is writing is written, and listed.
    with evaluation_mode(reading.model), ThreadPoolExecutor(1, "lmri-writer") as pool:
        for number in left:
            batch = _Batch.read(reading, plan, number, next(memory))
            if waiting is not None:
                waiting.result()
            waiting = pool.submit(writer.write, batch)
            n_done += sizes[number]
            if progress is not None:
                progress(n_done, n_all)
        if waiting is not None:
            waiting.result()


@dataclass(frozen=True)
class _Batch:
    """What was read of a few texts: their activity at the tokens that are in a volume, site by site."""

    number: int
    texts: list[int]
    encodings: list[Encoding]
    volumes: list[np.ndarray]
    buffers: ActivationBuffers

    @classmethod
    def read(cls, reading: Reading, plan: Plan, number: int, into: ActivationBuffers) -> "_Batch":
        """Let the model read a batch."""
        texts = plan.batches[number]
        encodings = [reading.encode(text) for text in texts]
        volumes = [reading.volumes(text, encoding) for text, encoding in zip(texts, encodings, strict=True)]
        ids, mask = right_pad([encoding.ids for encoding in encodings], input_device(reading.model))
        keep = torch.zeros(ids.shape, dtype=torch.bool)
        for row, own in enumerate(volumes):
            keep[row, : len(own)] = torch.from_numpy(own >= 0)
        return cls(number, texts, encodings, volumes, capture(reading.model, plan.read, ids, mask, keep, into))


@dataclass
class _Writer:
    """Writes batches to their places, and lists them in the journal."""

    reading: Reading
    plan: Plan
    files: Files
    journal: Journal
    n_unsynced: int = 0

    def write(self, batch: _Batch) -> None:
        """Write one batch, and then say so."""
        crc = 0
        for number, (space, values) in enumerate(zip(self.plan.read, batch.buffers.collect(), strict=True)):
            first = 0
            for text, encoding, volumes in zip(batch.texts, batch.encodings, batch.volumes, strict=True):
                kept = np.flatnonzero(volumes >= 0)
                rows = values[first : first + len(kept)]
                _check_finite(space, rows, encoding, kept, text)
                content = volume_bytes(space, averaged(rows, volumes[kept]))
                self.files.write(number, text, content)
                crc = checksum(content, crc)
                self.n_unsynced += len(content)
                first += len(kept)
        self.journal.add(batch.number, crc)
        if self.n_unsynced >= _SYNC_EVERY:
            self.files.sync(keep_in_memory=False)
            self.journal.synced()
            self.n_unsynced = 0


def _check_finite(space: NeuronSpace, rows: np.ndarray, encoding: Encoding, kept: np.ndarray, text: int) -> None:
    # A sum costs less, and is finite only if all is; where it is not, it may only be too large.
    with np.errstate(over="ignore", invalid="ignore"):
        if np.isfinite(rows.sum()) or np.isfinite(rows).all():
            return
    row, neuron = np.argwhere(~np.isfinite(rows))[0]
    raise NonFiniteError(
        f"The activation of layer {space.layer_of[neuron]}, neuron {space.neuron_of[neuron]} is {rows[row, neuron]} "
        f"at token {kept[row]} ({encoding.tokens[kept[row]]!r}) of text {text}. Nothing was recorded. "
        "Load the model in float32, or leave that text out."
    )


@contextlib.contextmanager
def keeping_what_is_done(folder: Path, journal: Journal, plan: Plan, shard: tuple[int, int] | None) -> Iterator[None]:
    """Keep the finished batches if the body fails, and say so; without any, or with values that are none, keep nothing.

    The folder of what could not be begun is deleted, so that a failure leaves a study as it was.
    """
    n_batches = len(plan.own_batches(shard))

    def what_is_kept() -> str:
        if not journal.done:
            return "Nothing was kept of this recording, and nothing earlier was touched."
        return (
            f"{len(journal.done)} of {n_batches} batches are finished and kept: the same command with --resume "
            "(resume=True) goes on from there."
        )

    try:
        with explaining_a_full_disk(folder, plan.n_bytes // (shard[1] if shard else 1), what_is_kept):
            yield
    except NonFiniteError:
        discard(folder)
        raise
    except BaseException as error:
        if not journal.done and not journal.is_whole:
            discard(folder)
        elif isinstance(error, KeyboardInterrupt):
            raise KeyboardInterrupt(f"Interrupted. {what_is_kept()}") from None
        elif not isinstance(error, OSError) or what_is_kept() not in str(error):
            warnings.warn(what_is_kept(), LMRIWarning, stacklevel=2)
        raise
