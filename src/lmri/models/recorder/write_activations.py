"""Writing the activations of a recording: the model reads batch by batch, and activations are written to files."""

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
    explain_full_disk,
    image_files,
    row_files,
    table_paths,
    volume_bytes,
)
from lmri.models.recorder.finalize import discard
from lmri.models.recorder.journal import Journal, checksum
from lmri.models.recorder.plan import Plan
from lmri.models.recorder.reading import Reading
from lmri.models.recorder.time_axis import average_volumes
from lmri.space import NeuronSpace

Progress = Callable[[int, int], None]
"""Function called with the amount done and the total."""

_SYNC_EVERY = LARGE
"""Bytes between synchronizations: the most that a power failure can cost, apart from data verified by checksum."""


def write_batches(
    reading: Reading,
    plan: Plan,
    shard: tuple[int, int] | None,
    folder: Path,
    journal: Journal,
    progress: Progress | None,
) -> None:
    """Write the images or rows, and the tables, of all batches not in the journal; then mark the journal as complete.

    Parameters
    ----------
    reading : Reading
        Model and texts.
    plan : Plan
        Plan of the whole recording, all shards included.
    shard : tuple of two ints or None
        Shard as (number from 1, number of shards); None for the whole recording.
    folder : Path
        Folder of the files.
    journal : Journal
        Journal of this folder.
    progress : callable or None
        Function called with the number of tokens done and the total number of tokens.
    """
    files = image_files(plan, folder) if shard is None else row_files(plan, folder, shard)
    created = files.create()
    lost = {text for extents in files.places for text, extent in extents.items() if extent[0] in created}
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
    """Process the remaining batches, writing each one while the next is computed (double buffering)."""
    sizes = {number: sum(plan.n_tokens[text] for text in plan.batches[number]) for number in numbers}
    n_all, n_done = sum(sizes.values()), sum(sizes[number] for number in numbers if number in journal.done)
    writer = _Writer(reading, plan, files, journal)
    waiting: Future[None] | None = None
    left = [number for number in numbers if number not in journal.done]
    longest = max((sum(plan.n_tokens[text] for text in plan.batches[number]) for number in left), default=0)
    # One buffer is filled while the other is written.
    memory = itertools.cycle([ActivationBuffers(plan.read, longest) for _ in range(2)])
    # If the body fails, the pool waits until the current batch is written and listed in the journal.
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
    """Activity of a batch of texts at the tokens that belong to a volume, for every site."""

    number: int
    texts: list[int]
    encodings: list[Encoding]
    volumes: list[np.ndarray]
    buffers: ActivationBuffers

    @classmethod
    def read(cls, reading: Reading, plan: Plan, number: int, into: ActivationBuffers) -> "_Batch":
        """Run the model on a batch."""
        texts = plan.batches[number]
        encodings = [reading.encode(text) for text in texts]
        volumes = [reading.volumes(text, encoding) for text, encoding in zip(texts, encodings, strict=True)]
        ids, mask = right_pad([encoding.ids for encoding in encodings], input_device(reading.model))
        keep = torch.zeros(ids.shape, dtype=torch.bool)
        for row, numbers in enumerate(volumes):
            keep[row, : len(numbers)] = torch.from_numpy(numbers >= 0)
        return cls(number, texts, encodings, volumes, capture(reading.model, plan.read, ids, mask, keep, into))


@dataclass
class _Writer:
    """Writer of batches, which also lists them in the journal."""

    reading: Reading
    plan: Plan
    files: Files
    journal: Journal
    n_unsynced: int = 0

    def write(self, batch: _Batch) -> None:
        """Write one batch, then list it in the journal."""
        crc = 0
        for number, (space, values) in enumerate(zip(self.plan.read, batch.buffers.collect(), strict=True)):
            first = 0
            for text, encoding, volumes in zip(batch.texts, batch.encodings, batch.volumes, strict=True):
                tokens = np.flatnonzero(volumes >= 0)
                rows = values[first : first + len(tokens)]
                _check_finite(space, rows, encoding, tokens, text)
                content = volume_bytes(space, average_volumes(rows, volumes[tokens]))
                self.files.write(number, text, content)
                crc = checksum(content, crc)
                self.n_unsynced += len(content)
                first += len(tokens)
        self.journal.add(batch.number, crc)
        if self.n_unsynced >= _SYNC_EVERY:
            self.files.sync(keep_in_memory=False)
            self.journal.synced()
            self.n_unsynced = 0


def _check_finite(space: NeuronSpace, rows: np.ndarray, encoding: Encoding, tokens: np.ndarray, text: int) -> None:
    # The sum is cheaper, and finite only if all values are; if it is not finite, it may merely have overflowed.
    with np.errstate(over="ignore", invalid="ignore"):
        if np.isfinite(rows.sum()) or np.isfinite(rows).all():
            return
    row, neuron = np.argwhere(~np.isfinite(rows))[0]
    raise NonFiniteError(
        f"The activation of layer {space.layer_of[neuron]}, neuron {space.neuron_of[neuron]} is {rows[row, neuron]} "
        f"at token {tokens[row]} ({encoding.tokens[tokens[row]]!r}) of text {text}. Nothing was recorded. "
        "Load the model in float32, or exclude this text."
    )


@contextlib.contextmanager
def keep_finished_batches(folder: Path, journal: Journal, plan: Plan, shard: tuple[int, int] | None) -> Iterator[None]:
    """Keep the finished batches if the body fails, and report them.

    If no batch is finished, or a value is not finite, the folder is deleted, so that the failure leaves the study
    unchanged.
    """
    n_batches = len(plan.own_batches(shard))

    def saved_batches() -> str:
        if not journal.done:
            return "No partial results were saved, and existing files were not changed."
        return (
            f"{len(journal.done)} of {n_batches} batches are finished and were saved. "
            "Run the same command with --resume (resume=True) to continue."
        )

    try:
        with explain_full_disk(folder, plan.n_bytes // (shard[1] if shard else 1), saved_batches):
            yield
    except NonFiniteError:
        discard(folder)
        raise
    except BaseException as error:
        if not journal.done and not journal.is_whole:
            discard(folder)
        elif isinstance(error, KeyboardInterrupt):
            raise KeyboardInterrupt(f"Interrupted. {saved_batches()}") from None
        elif not isinstance(error, OSError) or saved_batches() not in str(error):
            warnings.warn(saved_batches(), LMRIWarning, stacklevel=2)
        raise
