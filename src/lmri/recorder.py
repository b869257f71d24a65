"""Recording: a model reads texts, and what its neurons do becomes images on disk."""

import contextlib
import logging
import os
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pandas as pd
import torch
from transformers import PreTrainedModel

from lmri import storage
from lmri.exceptions import DataWarning, NonFiniteError, SiteError
from lmri.models import (
    Encoding,
    alterations,
    bucket,
    describe_model,
    encode,
    evaluation_mode,
    input_device,
    location,
    read,
    reader,
    right_pad,
)
from lmri.recording import Recording, Run, pack
from lmri.sites import attach, by_text, find_sites, projections
from lmri.space import NeuronSpace
from lmri.study import Study, writing_to
from lmri.study.dataset import write_recording_index, write_recording_tables
from lmri.texts import read_texts, split_texts

logger = logging.getLogger(__name__)

Progress = Callable[[int, int], None]
"""Called with how much is done, and how much there is."""

_MOST_VOLUMES = 32_767  # the longest axis of a NIfTI-1 image


def record(
    model: PreTrainedModel,
    tokenizer: Any,
    texts: str | Path | Iterable[str],
    out: str | Path,
    *,
    corpus: str = "texts",
    site: str = "mlp_out",
    batch_size: int = 8,
    run_tokens: int = 1024,
    texts_per_run: int | None = None,
    n_dummy: int = 1,
    test_fraction: float = 0.25,
    seed: int = 0,
    max_tokens: int | None = None,
    projection: str | None = None,
    progress: Progress | None = None,
) -> Recording:
    """Record what the neurons of a model do while it reads texts.

    Each text is read on its own. Its tokens become volumes, one a token, in runs of whole texts. Texts held out for
    tests are not recorded; they are kept in the study, to be scored.

    Parameters
    ----------
    model : PreTrainedModel
        As `load_model` gives it.
    tokenizer : PreTrainedTokenizer
        Its tokenizer.
    texts : str, Path or iterable of str
        As `read_texts` takes them.
    out : str or Path
        Folder of the study; made if it is not there.
    corpus : str, default="texts"
        Name of these texts: letters and digits, as it becomes BIDS' ``task-``.
    site : {"mlp_out", "mlp_hidden"}, default="mlp_out"
        Output or input of each MLP's final projection.
    batch_size : int, default=8
        Texts read at once.
    run_tokens : int, default=1024
        Volumes a run is to have, about.
    texts_per_run : int, optional
        Count texts instead: 1 for individual analyses.
    n_dummy : int, default=1
        Tokens at the start of each text that are kept out of the images, like the dummy scans of fMRI. The first token
        is an attention sink, whose massive activations would dominate every component. Special tokens are kept out too.
    test_fraction : float, default=0.25
        Share of the texts to hold out.
    seed : int, default=0
        Of the split.
    max_tokens : int, optional
        Cut texts at fewer tokens than the model's context.
    projection : str, optional
        Path of the final projection within a block, if it is not found by itself.
    progress : callable, optional
        Called with tokens done and tokens in all.

    Returns
    -------
    Recording
        The same as ``open_study(out).recording(corpus=corpus, site=site)``.

    Raises
    ------
    ValueError
        If there are no texts, or none gives a volume.
    SiteError
        If the neurons are not found.
    StudyError
        If the study is of another model, or has a recording of this name made otherwise.
    NonFiniteError
        If a neuron is NaN or infinite.
    """
    storage.check_corpus(corpus)
    if n_dummy < 0:
        raise ValueError(f"n_dummy is {n_dummy}; it must be at least 0.")
    if batch_size < 1:
        raise ValueError(f"batch_size is {batch_size}; it must be at least 1.")
    if max_tokens is not None and max_tokens < 1:
        raise ValueError(f"max_tokens is {max_tokens}; it must be at least 1.")
    if alterations(model):
        raise ValueError(
            f"The model is under an intervention ({'; '.join(alterations(model))}); its recording would pass for that "
            "of the intact model. Record outside of the with block."
        )
    kept = read_texts(texts)
    space = find_sites(model, site, projection)
    parameters = {
        "run_tokens": run_tokens if texts_per_run is None else None,
        "texts_per_run": texts_per_run,
        "n_dummy": n_dummy,
        "test_fraction": test_fraction,
        "seed": seed,
        "max_tokens": max_tokens,
        "batch_size": batch_size,
        "projection": projection,
    }
    with writing_to(out, describe_model(model)) as study:
        existing = study.check_new_recording(corpus, site, kept, parameters)
        if existing is not None:
            logger.info("%s is already recorded at %s", corpus, site)
            return existing
        for other in study.recordings(site):
            # With another projection=, images of one shape would hold other neurons.
            other.space.check_same(space, f"Corpus {corpus!r}")
        reading = _Reading(model, tokenizer, kept, max_tokens, n_dummy)
        recording = _record(reading, study, space, corpus, parameters, progress)
        write_recording_index(study.layout, recording, parameters)
        storage.log(study.layout, "record", corpus=corpus, site=site, model=location(model))
        return study.recording(corpus=corpus, site=site)


@dataclass(frozen=True)
class _Reading:
    """What is read, and how. Texts are tokenized again wherever their tokens are needed, and never held all at once."""

    model: PreTrainedModel
    tokenizer: Any
    texts: list[str]
    max_tokens: int | None
    n_dummy: int

    def encode(self, text: int) -> Encoding:
        return encode(self.model, self.tokenizer, self.texts[text], self.max_tokens)

    def dummies(self, encoding: Encoding) -> np.ndarray:
        """Say which tokens are kept out of the images."""
        special = np.array(encoding.special, dtype=bool)
        return special | (np.arange(len(special)) < self.n_dummy)


def _record(
    reading: _Reading,
    study: Study,
    space: NeuronSpace,
    corpus: str,
    parameters: dict[str, Any],
    progress: Progress | None,
) -> Recording:
    """Split, pack, read, and write everything but the index."""
    sides = split_texts(reading.texts, parameters["test_fraction"], parameters["seed"], study.known_split())
    table = _text_table(reading, corpus, sides)
    _warn_of_cut_and_short(table, reading.n_dummy)
    volumes = np.where(table["split"] == "fit", table["n_volumes"], 0).tolist()
    if not sum(volumes):
        raise ValueError(
            f"None of the {sides.count('fit')} texts to fit has a token beyond its first {reading.n_dummy}. "
            "Give longer texts."
        )
    run_tokens = 1 if parameters["run_tokens"] is None else parameters["run_tokens"]
    packed = pack(volumes, run_tokens, parameters["texts_per_run"])
    longest = max(sum(volumes[text] for text in run) for run in packed)
    if longest > _MOST_VOLUMES:
        raise ValueError(
            f"A run would have {longest} volumes; a NIfTI-1 image holds at most {_MOST_VOLUMES}. "
            "Set run_tokens or max_tokens lower."
        )
    for number, run in enumerate(packed, start=1):
        table.loc[run, "run"] = number

    layout, subject = study.layout, study.subject
    study.clear_remains(corpus, space.site)
    runs = tuple(
        Run(
            layout.bold(subject, corpus, number, space.site),
            layout.events(subject, corpus, number),
            layout.tokens(subject, corpus, number),
            sum(volumes[text] for text in run),
        )
        for number, run in enumerate(packed, start=1)
    )
    with contextlib.ExitStack() as stack:
        # Every image is written under a hidden name; they are renamed together, at the end.
        paths = [stack.enter_context(storage.whole(run.img)) for run in runs]
        places = _create_images(space, paths, packed, volumes)
        _read(reading, space, places, table["n_tokens"].tolist(), parameters["batch_size"], progress)
        tables = (_tables(reading, corpus, run, table["text_id"].tolist()) for run in packed)
        write_recording_tables(layout, subject, space, corpus, table, tables, reading.n_dummy)
    return Recording(space, corpus, runs, table, {"parameters": parameters})


def _text_table(reading: _Reading, corpus: str, sides: list[str]) -> pd.DataFrame:
    counts = []
    for text in range(len(reading.texts)):
        encoding = reading.encode(text)
        counts.append((len(encoding.ids), int((~reading.dummies(encoding)).sum()), encoding.n_cut))
    n_tokens, n_volumes, n_cut = zip(*counts, strict=True)
    return pd.DataFrame(
        {
            "text_id": [f"{corpus}-{number:05d}" for number in range(len(reading.texts))],
            "sha256": [storage.text_hash(text) for text in reading.texts],
            "split": sides,
            "run": np.full(len(reading.texts), np.nan),
            "n_tokens": n_tokens,
            "n_volumes": n_volumes,
            "n_cut": n_cut,
            "text": reading.texts,
        }
    )


def _warn_of_cut_and_short(table: pd.DataFrame, n_dummy: int) -> None:
    cut = table[table["n_cut"] > 0]
    if len(cut):
        warnings.warn(
            f"{len(cut)} of {len(table)} texts are longer than the model's context or max_tokens and were cut, by "
            f"up to {cut['n_cut'].max()} tokens (first: {cut['text_id'].iloc[0]}). The number is in the sidecars.",
            DataWarning,
            stacklevel=4,
        )
    short = table[table["n_volumes"] == 0]
    if len(short):
        warnings.warn(
            f"{len(short)} of {len(table)} texts have no token beyond the first {n_dummy} and give no volume "
            f"(first: {short['text_id'].iloc[0]}, {short['text'].iloc[0][:40]!r}).",
            DataWarning,
            stacklevel=4,
        )


Places = dict[int, tuple[Path, int, int]]
"""For every text to record: the file of its run, its first volume there, and the volumes of that run."""


def _create_images(space: NeuronSpace, paths: Sequence[Path], runs: list[list[int]], volumes: list[int]) -> Places:
    """Write headers, and reserve room for every volume."""
    places: Places = {}
    for path, run in zip(paths, runs, strict=True):
        n_volumes = sum(volumes[text] for text in run)
        shape = (*space.shape, n_volumes)
        empty = np.broadcast_to(np.float32(0), shape)
        header = space.stamp(nib.Nifti1Image(empty, space.affine)).header
        header.set_data_dtype(np.float32)
        header.set_slope_inter(1, 0)
        with path.open("wb") as stream:
            header.write_to(stream)
            size = header.get_data_offset() + 4 * int(np.prod(shape))
            stream.truncate(size)
            if hasattr(os, "posix_fallocate"):
                # A full disk is an error now, instead of a crash when the memory map is written.
                os.posix_fallocate(stream.fileno(), 0, size)
        first = 0
        for text in run:
            places[text] = (path, first, n_volumes)
            first += volumes[text]
    return places


def _read(
    reading: _Reading,
    space: NeuronSpace,
    places: Places,
    lengths: list[int],
    batch_size: int,
    progress: Progress | None,
) -> None:
    """Let the model read, batch by batch, and write each text's volumes to its place: memory holds one batch."""
    model, part = reading.model, reader(reading.model)
    texts = list(places)
    plan = bucket([lengths[text] for text in texts], batch_size)
    n_all, n_done = sum(lengths[text] for text in texts), 0
    with evaluation_mode(model):
        for places_in_batch in plan:
            batch = [texts[place] for place in places_in_batch]
            encodings = [reading.encode(text) for text in batch]
            ids, mask = right_pad([encoding.ids for encoding in encodings], input_device(model))
            keep = torch.zeros(ids.shape, dtype=torch.bool)
            for row, encoding in enumerate(encodings):
                keep[row, : len(encoding.ids)] = torch.from_numpy(~reading.dummies(encoding))
            values = _capture(model, part, space, ids, mask, keep)
            first = 0
            for row, (text, encoding) in enumerate(zip(batch, encodings, strict=True)):
                count = int(keep[row].sum())
                rows = values[first : first + count]
                _check_finite(space, rows, encoding, np.flatnonzero(keep[row].numpy()), text)
                _write(space, places[text], rows)
                first += count
                n_done += len(encoding.ids)
            if progress is not None:
                progress(n_done, n_all)


def _capture(
    model: PreTrainedModel,
    part: torch.nn.Module,
    space: NeuronSpace,
    ids: torch.Tensor,
    mask: torch.Tensor,
    keep: torch.Tensor,
) -> np.ndarray:
    """Run one forward pass and keep ``(n_kept, n_neurons)``, float32, of the tokens in `keep`."""
    values = torch.empty((int(keep.sum()), space.n_neurons), dtype=torch.float32)
    calls = [0] * space.n_layers

    def copier(z: int) -> Callable[[torch.Tensor], None]:
        columns = slice(int(space.offsets[z]), int(space.offsets[z + 1]))

        def copy(activation: torch.Tensor) -> None:
            calls[z] += 1
            rows = by_text(activation, *ids.shape)[keep.to(activation.device)]
            # A copy, not a view: Falcon overwrites this tensor in place a moment later.
            values[:, columns].copy_(rows)

        return copy

    with contextlib.ExitStack() as stack:
        for z, module in enumerate(projections(model, space)):
            stack.callback(attach(module, space.site, copier(z)).remove)
        read(part, ids, mask)
    for layer, count in zip(space.layers, calls, strict=True):
        if count != 1:
            raise SiteError(f"{layer.module!r} was called {count} times in a forward pass; once was expected.")
    return values.numpy()


def _check_finite(space: NeuronSpace, rows: np.ndarray, encoding: Encoding, kept: np.ndarray, text: int) -> None:
    if np.isfinite(rows).all():
        return
    row, neuron = np.argwhere(~np.isfinite(rows))[0]
    raise NonFiniteError(
        f"The activation of layer {space.layer_of[neuron]}, neuron {space.neuron_of[neuron]} is {rows[row, neuron]} "
        f"at token {kept[row]} ({encoding.tokens[kept[row]]!r}) of text {text}. Nothing was recorded. "
        "Load the model in float32, or leave that text out."
    )


def _write(space: NeuronSpace, place: tuple[Path, int, int], rows: np.ndarray) -> None:
    path, first, n_volumes = place
    with path.open("rb") as stream:
        offset = nib.Nifti1Header.from_fileobj(stream).get_data_offset()
    # [token, layer, neuron] in C order is the data block of the image as it stands.
    image = np.memmap(path, np.float32, "r+", offset, (n_volumes, int(np.prod(space.shape))))
    if space.is_padded:
        image[first : first + len(rows), np.flatnonzero(space.inside)] = rows
    else:
        image[first : first + len(rows)] = rows
    image.flush()


def _tables(reading: _Reading, corpus: str, run: list[int], text_ids: list[str]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Make the events (a row a volume) and the tokens (a row a token) of one run."""
    parts = []
    for text in run:
        encoding = reading.encode(text)
        parts.append(
            pd.DataFrame(
                {
                    "text_id": text_ids[text],
                    "token": encoding.tokens,
                    "token_id": encoding.ids,
                    "position": np.arange(len(encoding.ids)),
                    "start": [start for start, _ in encoding.spans],
                    "end": [end for _, end in encoding.spans],
                    "dummy": reading.dummies(encoding).astype(int),
                }
            )
        )
    tokens = pd.concat(parts, ignore_index=True)
    kept = tokens["dummy"] == 0
    tokens["volume"] = np.where(kept, kept.cumsum() - 1, np.nan)
    events = tokens[kept].drop(columns=["dummy", "volume"]).reset_index(drop=True)
    events.insert(0, "onset", np.arange(len(events), dtype=float))
    events.insert(1, "duration", 1.0)
    events.insert(2, "trial_type", corpus)
    return events, tokens
