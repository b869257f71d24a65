"""What a model has written, kept in the study: writing takes longer than all that follows.

An interrupted command goes on from there, and another site is recorded of the same words.
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
from lmri.models.recorder.generating import Written, check_can_write, room, write_all
from lmri.models.recorder.journal import write_all as write_bytes
from lmri.models.recorder.options import Generation, RecordingOptions
from lmri.storage.store import Store, writing_to

_FOREVER = -1.0
"""Shards wait for the one that generates."""


class Drafts:
    """A file of continuations, one line each, found by the tokens that they go on from.

    A line that was being written when the process ended is taken for none.

    Parameters
    ----------
    path : Path
        A file, which may not be there yet.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        content = path.read_bytes() if path.is_file() else b""
        self._end = content.rfind(b"\n") + 1
        self._known: dict[str, list[int]] = {}
        for line in content[: self._end].splitlines():
            one = json.loads(line)
            self._known[one["of"]] = one["new"]

    def get(self, prompt: str, ids: Sequence[int], n_new: int) -> list[int] | None:
        """Give what was written on from a prompt of these tokens, None if nothing was."""
        return self._known.get(_key(prompt, ids, n_new))

    def add(self, prompt: str, ids: Sequence[int], n_new: int, new: list[int]) -> None:
        """Keep what was written on from a prompt of these tokens."""
        line = json.dumps({"of": _key(prompt, ids, n_new), "new": new}).encode() + b"\n"
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("r+b" if self.path.is_file() else "wb", buffering=0) as stream:
            stream.truncate(self._end)
            stream.seek(self._end)
            write_bytes(stream, line)
            os.fsync(stream.fileno())
        self._end += len(line)
        self._known[_key(prompt, ids, n_new)] = new

    def __len__(self) -> int:
        return len(self._known)


def _key(prompt: str, ids: Sequence[int], n_new: int) -> str:
    return storage.digest([prompt, list(ids), n_new])  # draws are by the prompt's text


def written_in(
    out: str | Path,
    model: PreTrainedModel,
    tokenizer: Any,
    prompts: list[str],
    how: Generation,
    options: RecordingOptions,
    max_tokens: int | None,
) -> tuple[Written, ...] | None:
    """Let a model write on from prompts, unless a study has it recorded; what an earlier command wrote is used again.

    The study is held meanwhile: shards wait for the one that writes, and then read what it wrote.

    Returns
    -------
    tuple of Written or None
        None if all sites are recorded from these prompts in this way.

    Raises
    ------
    EntryExistsError
        If the corpus is in the study, made otherwise; before anything is written.
    """
    check_can_write(model)
    info = describe_model(model)
    with writing_to(out, info, 0 if options.shard is None else _FOREVER) as study:
        left = [prompt for prompt in prompts if room(model, tokenizer, prompt, how, max_tokens)[1] > 0]
        if _is_recorded(study, left, options):
            return None
        made_by = [info.fingerprint, info.dtype, how.temperature, how.seed]
        drafts = Drafts(study.layout.drafts(options.corpus) / f"{storage.digest(made_by)}.jsonl")
        try:
            return write_all(model, tokenizer, prompts, how, max_tokens, drafts)
        except ValueError:
            if not any(drafts.path.parent.glob("*")):  # or the study that was made for it would stay, empty
                discard(drafts.path.parent)
            raise
        except KeyboardInterrupt:
            raise KeyboardInterrupt(
                f"Interrupted. What was written on from {len(drafts)} prompts is kept: the same command goes on from "
                "there."
            ) from None


def _is_recorded(study: Store, prompts: list[str], options: RecordingOptions) -> bool:
    there = [one for one in study.recordings() if one.corpus == options.corpus]
    if not there:
        return False
    texts, hashes = there[0].texts, [storage.text_hash(prompt) for prompt in prompts]
    is_same = "prompt_sha256" in texts and texts["prompt_sha256"].tolist() == hashes
    known = texts["text"].tolist() if is_same else prompts
    found = [study.check_new_recording(options.corpus, site, known, options.parameters) for site in options.sites]
    return all(one is not None for one in found)
