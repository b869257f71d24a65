"""Cache of generated continuations in the study: generation takes longer than all later steps.

An interrupted command continues from the cache, and another site can be recorded from the same continuations.
"""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel

from lmri import storage
from lmri.models import describe_model
from lmri.models.recorder.finalize import discard
from lmri.models.recorder.generating import Continuation, check_can_generate, continue_prompts, prompt_with_room
from lmri.models.recorder.journal import write_all
from lmri.models.recorder.options import Generation, RecordingOptions
from lmri.storage.adding import recording_to
from lmri.storage.corpora import check_same_corpus, hashes_of
from lmri.storage.store import Store

_FOREVER = -1.0
"""Timeout of the lock for shards, which wait for the shard that generates."""


class GenerationCache:
    """File of continuations, one per line, keyed by the tokens of the prompt.

    An incomplete last line, as a killed process leaves it, is ignored.

    Parameters
    ----------
    path : Path
        File of the cache; it need not exist yet.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        content = path.read_bytes() if path.is_file() else b""
        self._end = content.rfind(b"\n") + 1
        self._known: dict[str, list[int]] = {}
        for line in content[: self._end].splitlines():
            entry = json.loads(line)
            self._known[entry["of"]] = entry["new"]

    def get(self, prompt: str, ids: Sequence[int], n_new: int) -> list[int] | None:
        """Return the cached continuation of a prompt with these tokens, or None."""
        return self._known.get(_key(prompt, ids, n_new))

    def add(self, prompt: str, ids: Sequence[int], n_new: int, new: list[int]) -> None:
        """Store the continuation of a prompt with these tokens."""
        line = json.dumps({"of": _key(prompt, ids, n_new), "new": new}).encode() + b"\n"
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("r+b" if self.path.is_file() else "wb", buffering=0) as stream:
            stream.truncate(self._end)
            stream.seek(self._end)
            write_all(stream, line)
            os.fsync(stream.fileno())
        self._end += len(line)
        self._known[_key(prompt, ids, n_new)] = new

    def __len__(self) -> int:
        return len(self._known)


def _key(prompt: str, ids: Sequence[int], n_new: int) -> str:
    return storage.digest([prompt, list(ids), n_new])  # the random numbers depend on the text of the prompt


def generate_or_reuse(
    out: str | Path,
    model: PreTrainedModel,
    tokenizer: Any,
    prompts: list[str],
    how: Generation,
    options: RecordingOptions,
    max_tokens: int | None,
) -> tuple[Continuation, ...] | Store:
    """Generate continuations of prompts, unless they are recorded in the study; reuse cached continuations.

    The model is locked meanwhile: the other shards wait for the shard that generates, and then read its cache.

    Parameters
    ----------
    out : str or Path
        Folder of the study.
    model, tokenizer
        Causal language model and its tokenizer.
    prompts : list of str
        Prompts.
    how : Generation
        Options of the generation.
    options : RecordingOptions
        Options of the recording.
    max_tokens : int or None
        Largest number of tokens of prompt and continuation.

    Returns
    -------
    tuple of Continuation or Store
        Continuations; the store of the model if all sites are already recorded from these prompts with these options.

    Raises
    ------
    EntryExistsError
        If the corpus exists in the study with different options; raised before anything is generated.
    """
    check_can_generate(model)
    info = describe_model(model)
    with recording_to(out, info, options.labels, 0 if options.shard is None else _FOREVER) as study:
        with_room = [prompt for prompt in prompts if prompt_with_room(model, tokenizer, prompt, how, max_tokens)[1] > 0]
        check_same_corpus(study.layout, options.corpus, hashes_of(with_room), options.parameters)
        if _is_recorded(study, with_room, options):
            return study
        made_by = [info.fingerprint, info.dtype, how.temperature, how.seed]
        cache = GenerationCache(study.layout.drafts(options.corpus) / f"{storage.digest(made_by)}.jsonl")
        try:
            return continue_prompts(model, tokenizer, prompts, how, max_tokens, cache)
        except ValueError:
            if not any(cache.path.parent.glob("*")):  # otherwise a new study would remain, empty
                discard(cache.path.parent)
            raise
        except KeyboardInterrupt:
            raise KeyboardInterrupt(
                f"Interrupted. The continuations of {len(cache)} prompts were saved. Run the same command to continue."
            ) from None


def _is_recorded(study: Store, prompts: list[str], options: RecordingOptions) -> bool:
    recordings = [recording for recording in study.recordings() if recording.corpus == options.corpus]
    if not recordings:
        return False
    texts, hashes = recordings[0].texts, [storage.text_hash(prompt) for prompt in prompts]
    is_same = "prompt_sha256" in texts and texts["prompt_sha256"].tolist() == hashes
    known = texts["text"].tolist() if is_same else prompts
    entries = [
        study.check_new_recording(options.corpus, site, known, options.parameters, hashes) for site in options.sites
    ]
    return all(entry is not None for entry in entries)
