"""Planning a recording: split, runs and batches of all texts, computed before the first forward pass."""

import logging
import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd
from transformers import PreTrainedModel

from lmri import storage
from lmri.exceptions import DataWarning, SiteError
from lmri.models import describe_model, input_device, location, plan_batches, warn_of_unknown_share
from lmri.models.device_check import NOT_DONE, check_device, devices_of
from lmri.models.recorder.options import RecordingOptions
from lmri.models.recorder.plan import Plan
from lmri.models.recorder.reading import Reading
from lmri.models.sites import find_sites
from lmri.models.sites.caveats import caveats
from lmri.space import NeuronSpace
from lmri.space.layers import stack_of
from lmri.space.sites import DECODER, ROUTER
from lmri.storage.corpora import hashes_of
from lmri.storage.dataset_files import texts_digest
from lmri.storage.recording import pack
from lmri.storage.store import Store
from lmri.storage.texts import split_texts

logger = logging.getLogger(__name__)

_MOST_VOLUMES = 32_767  # the longest axis of a NIfTI-1 image


@dataclass(frozen=True)
class Request:
    """Request for a recording: texts, options and neurons.

    Parameters
    ----------
    reading : Reading
        Model and texts.
    options : RecordingOptions
        Options of the recording.
    spaces : tuple of NeuronSpace
        Spaces of the requested sites.
    """

    reading: Reading
    options: RecordingOptions
    spaces: tuple[NeuronSpace, ...]

    @property
    def corpus(self) -> str:
        """Name of the texts."""
        return self.options.corpus

    @property
    def parameters(self) -> dict[str, Any]:
        """Parameters as stored in the index of a recording."""
        return self.options.parameters

    def recorded(self, study: Store) -> list[str]:
        """List the sites that are already recorded with the same options; other options raise an error."""
        return [
            space.site
            for space in self.spaces
            if study.check_new_recording(
                self.corpus, space.site, self.reading.texts, self.parameters, hashes_of(self.sources)
            )
            is not None
        ]

    @property
    def sources(self) -> list[str]:
        """Texts that all models of a study share: the prompts, if the model continued them."""
        return [continuation.prompt for continuation in self.reading.written] or list(self.reading.texts)


def make_plan(request: Request, study: Store, spaces: Sequence[NeuronSpace]) -> Plan:
    """Split and pack the texts, and plan the batches."""
    reading, options = request.reading, request.options
    for space in spaces:
        for other in study.recordings(space.site):
            # With another projection, images of the same shape would hold other neurons.
            other.space.check_same(space, f"Corpus {request.corpus!r}")
    # All continuations of one prompt are on the same side of the split.
    sides = split_texts(request.sources, options.test_fraction, options.seed, study.known_split())
    if options.test_fraction > 0 and "test" not in sides:
        warnings.warn(
            f"None of the {len(sides)} texts of {request.corpus!r} is held out: there are too few texts for "
            f"test_fraction={options.test_fraction:g}, or they were used for fitting before. Lesions cannot be "
            "evaluated on these texts. Record more texts.",
            DataWarning,
            stacklevel=_CALLER - 1,
        )
    table = _text_table(reading, request.corpus, sides)
    _warn_of_texts(table, reading)
    lengths = reading.lengths
    warn_of_unknown_share(reading.tokenizer, sum(lengths.n_tokens), lengths.n_unknown, request.corpus)
    volumes = np.where(table["split"] == "fit", table["n_volumes"], 0).tolist()
    if not sum(volumes):
        raise ValueError(
            f"None of the {sides.count('fit')} training texts has a token beyond the first {reading.n_dummy}. "
            "Use longer texts, or a smaller n_dummy."
        )
    packed = pack(volumes, options.run_tokens if options.texts_per_run is None else 1, options.texts_per_run)
    longest = max(sum(volumes[text] for text in run) for run in packed)
    if longest > _MOST_VOLUMES:
        raise ValueError(
            f"A run would have {longest} volumes; a NIfTI-1 image holds at most {_MOST_VOLUMES}. "
            "Reduce run_tokens or max_tokens."
        )
    for number, run in enumerate(packed, start=1):
        table.loc[run, "run"] = number
    texts = [text for run in packed for text in run]
    n_tokens = [lengths.n_tokens[text] for text in texts]
    planned = plan_batches(reading.model, n_tokens, request.parameters)
    batches = [[texts[index] for index in batch] for batch in planned]
    made_of = _made_of(request, spaces, sides, batches)
    remarks = {space.site: _caveats(reading.model, space) for space in spaces}
    where = location(reading.model)
    routers = _unrequested_routers(reading.model, tuple(spaces))
    prompts = {storage.text_hash(continuation.prompt): continuation.prompt for continuation in reading.written}
    return Plan(
        request.corpus,
        tuple(spaces),
        table,
        batches,
        request.parameters,
        made_of,
        where,
        remarks,
        routers,
        prompts,
        _device_check(reading, options.device_check),
    )


def _device_check(reading: Reading, is_wanted: bool) -> str:
    """Compare the device with the CPU on the tokens of the first text; return the result for the sidecars."""
    if not devices_of(reading.model) - {"cpu", "meta"}:
        return ""
    if not is_wanted:
        return f"{NOT_DONE}: device_check=False (--no-device-check)"
    return check_device(reading.model, reading.encode(0).ids)


def _unrequested_routers(model: PreTrainedModel, spaces: tuple[NeuronSpace, ...]) -> tuple[NeuronSpace, ...]:
    """Find the routers of the mixtures whose experts are recorded, unless the routers are requested themselves.

    Routers that cannot be read, because the mixture does not expose their output, are skipped.
    """
    names = {
        DECODER * (stack_of(space.site) == "decoder") + ROUTER
        for space in spaces
        if any(layer.expert is not None for layer in space.layers)
    }
    routers = []
    for name in sorted(names - {space.site for space in spaces}):
        try:
            routers.append(find_sites(model, name))
        except SiteError:
            continue
    return tuple(routers)


def _caveats(model: PreTrainedModel, space: NeuronSpace) -> list[str]:
    """Return and log the operations between the neurons and the residual stream, for the sidecars."""
    sentences = [] if space.site == ROUTER else caveats(model, space)
    for sentence in sentences:
        logger.info("%s: %s", space.site, sentence)
    return sentences


def _made_of(
    request: Request, spaces: Sequence[NeuronSpace], sides: list[str], batches: list[list[int]]
) -> dict[str, Any]:
    """Collect everything that determines the bytes of a recording, readable enough for an error message."""
    model = request.reading.model
    info = describe_model(model)
    return {
        "texts": texts_digest(request.reading.texts),
        "corpus": request.corpus,
        "sites": [space.site for space in spaces],
        "model": {"weights" if name == "fingerprint" else name: value for name, value in asdict(info).items()},
        "device": input_device(model).type,
        "attention": str(getattr(model.config, "_attn_implementation", None)),
        "parameters": dict(request.parameters),
        "versions": storage.versions(),
        "neurons": [space.geometry for space in spaces],
        "tokens": request.reading.lengths.digest,
        "split": storage.digest(sides),
        "batches": storage.digest(batches),
    }


def _text_table(reading: Reading, corpus: str, sides: list[str]) -> pd.DataFrame:
    lengths = reading.lengths
    return pd.DataFrame(
        {
            "text_id": [f"{corpus}-{number:05d}" for number in range(len(reading.texts))],
            "sha256": [storage.text_hash(text) for text in reading.texts],
            "split": sides,
            "run": np.full(len(reading.texts), np.nan),
            "n_tokens": lengths.n_tokens,
            "n_volumes": lengths.n_volumes,
            "n_cut": lengths.n_cut,
            "n_repeated": lengths.n_repeated,
            "text": reading.texts,
        }
        | (
            {"prompt_sha256": [storage.text_hash(continuation.prompt) for continuation in reading.written]}
            if reading.written
            else {}
        )
    )


_CALLER = 6
"""Stack level of the caller of `record`: the warning, the plan, a process or shard, and two frames of `record`."""


def _warn_of_texts(table: pd.DataFrame, reading: Reading) -> None:
    """Warn of texts that are truncated, contain special tokens at their ends, or have no volumes."""
    cut = table[table["n_cut"] > 0]
    if len(cut):
        warnings.warn(
            f"{len(cut)} of {len(table)} texts are longer than the model's context or max_tokens and were truncated by "
            f"up to {cut['n_cut'].max()} tokens (first: {cut['text_id'].iloc[0]}). The sidecars contain this number.",
            DataWarning,
            stacklevel=_CALLER,
        )
    begun = table[table["n_repeated"] > 0]
    if len(begun):
        warnings.warn(
            f"{len(begun)} of {len(table)} texts already begin or end with special tokens that the tokenizer adds to "
            f"every text (first: {begun['text_id'].iloc[0]}, {begun['text'].iloc[0][:40]!r}). The tokens were not "
            "added again. The sidecars contain this number.",
            DataWarning,
            stacklevel=_CALLER,
        )
    short = table[table["n_volumes"] == 0]
    if len(short):
        warnings.warn(
            f"{len(short)} of {len(table)} texts have no token beyond the first {reading.n_dummy} and have no volumes "
            f"(first: {short['text_id'].iloc[0]}, {short['text'].iloc[0][:40]!r}).",
            DataWarning,
            stacklevel=_CALLER,
        )
