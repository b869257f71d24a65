"""Plan of a recording, computed from all texts before the first forward pass.

The plan fixes runs and batches, so that interrupted and sharded recordings read the same batches as an uninterrupted
recording; equal batches give bit-identical results. This module holds data only and loads no model.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from lmri import storage
from lmri.exceptions import StudyError
from lmri.space import NeuronSpace
from lmri.storage.corpora import TEXT_COLUMNS

_WORDS = {
    "texts": "other texts",
    "tokens": "other tokens of the same texts (another tokenizer or tokenizer settings)",
    "split": "another train/test split (other recordings have been added to the study since)",
    "neurons": "other neurons",
    "batches": "other batches",
}


@dataclass(frozen=True)
class Plan:
    """Texts, runs, batches and neurons of a recording.

    Parameters
    ----------
    corpus : str
        Name of the texts.
    spaces : tuple of NeuronSpace
        Spaces of the sites, which are recorded in the same passes.
    texts : DataFrame
        Table with one row per text, as in the study.
    batches : list of list of int
        Texts of each batch.
    parameters : mapping
        Parameters as stored in the index of the recording.
    made_of : mapping
        Everything that determines the bytes of the recording, by name.
    location : str
        Location from which the model was loaded; the data do not depend on it.
    caveats : mapping from str to list of str
        Operations between the neurons of each site and the residual stream, other than a sum.
    routers : tuple of NeuronSpace
        Routers, which are read in the same passes and stored as tables.
    prompts : mapping from str to str
        Prompts by hash, if the model continued them.
    device_check : str, default=""
        Result of the comparison of the device with the CPU; empty for a model on the CPU.
    """

    corpus: str
    spaces: tuple[NeuronSpace, ...]
    texts: pd.DataFrame
    batches: list[list[int]]
    parameters: Mapping[str, Any]
    made_of: Mapping[str, Any]
    location: str
    caveats: Mapping[str, list[str]] = field(default_factory=dict)
    routers: tuple[NeuronSpace, ...] = ()
    prompts: Mapping[str, str] = field(default_factory=dict)
    device_check: str = ""

    @cached_property
    def runs(self) -> list[list[int]]:
        """Texts of every run, in order; held-out texts and texts without volumes belong to no run."""
        runs: list[list[int]] = [[] for _ in range(int(self.texts["run"].max()))]
        for text, number in enumerate(self.texts["run"]):
            if not np.isnan(number):
                runs[int(number) - 1].append(text)
        return runs

    @cached_property
    def n_volumes(self) -> list[int]:
        """Number of volumes of every text."""
        return [int(count) for count in self.texts["n_volumes"]]

    @cached_property
    def n_tokens(self) -> list[int]:
        """Number of tokens of every text."""
        return [int(count) for count in self.texts["n_tokens"]]

    @property
    def read(self) -> tuple[NeuronSpace, ...]:
        """All spaces that are read, routers included."""
        return (*self.spaces, *self.routers)

    @property
    def sites(self) -> list[str]:
        """Names of the sites."""
        return [space.site for space in self.spaces]

    @property
    def digest(self) -> str:
        """Hash of everything that determines the bytes of the recording."""
        return storage.digest(self.made_of)

    @property
    def n_bytes(self) -> int:
        """Size of all volumes, in bytes."""
        n_volumes = sum(self.n_volumes[text] for run in self.runs for text in run)
        return sum(4 * space.inside.size * n_volumes for space in self.read)

    def own_batches(self, shard: tuple[int, int] | None) -> list[int]:
        """List the batches of a shard, given as (number from 1, number of shards); all batches for None."""
        number, n_shards = shard or (1, 1)
        return list(range(number - 1, len(self.batches), n_shards))

    def own_runs(self, shard: tuple[int, int] | None) -> list[int]:
        """List the runs, counted from 1, whose tables a shard writes."""
        number, n_shards = shard or (1, 1)
        return list(range(number, len(self.runs) + 1, n_shards))

    def save(self, folder: Path) -> None:
        """Write the plan to a new folder, atomically."""
        with storage.atomic_path(folder) as partial:
            partial.mkdir(parents=True)
            storage.write_table(partial / "texts.tsv", self.texts)
            if self.prompts:
                prompts = {"sha256": list(self.prompts), "text": list(self.prompts.values())}
                storage.write_table(partial / "prompts.tsv", pd.DataFrame(prompts))
            content = {
                "corpus": self.corpus,
                "spaces": [space.to_dict() for space in self.spaces],
                "batches": self.batches,
                "parameters": dict(self.parameters),
                "made_of": dict(self.made_of),
                "location": self.location,
                "caveats": dict(self.caveats),
                "beside": [space.to_dict() for space in self.routers],
                **({"device_check": self.device_check} if self.device_check else {}),
            }
            storage.write_json(partial / "plan.json", content)

    @classmethod
    def load(cls, folder: Path) -> "Plan":
        """Read a plan written by `save`."""
        content = storage.read_json(folder / "plan.json")
        spaces = tuple(NeuronSpace.from_dict(space) for space in content["spaces"])
        texts = storage.read_table(folder / "texts.tsv", TEXT_COLUMNS)
        rest = {name: content[name] for name in ("batches", "parameters", "made_of", "location", "caveats")}
        routers = tuple(NeuronSpace.from_dict(space) for space in content.get("beside", []))
        prompts: dict[str, str] = {}
        if (folder / "prompts.tsv").is_file():
            table = storage.read_table(folder / "prompts.tsv", TEXT_COLUMNS)
            prompts = dict(zip(table["sha256"], table["text"], strict=True))
        rest |= {"routers": routers, "prompts": prompts, "device_check": content.get("device_check", "")}
        return cls(content["corpus"], spaces, texts, **rest)

    def check_same(self, folder: Path, next_step: str) -> None:
        """Raise `StudyError` if an unfinished recording has another plan.

        Raises
        ------
        StudyError
            If the plans differ; the message lists the differences.
        """
        begun = storage.read_json(folder / "plan.json")["made_of"]
        if changes := differences(begun, dict(self.made_of)):
            raise StudyError(
                f"The recording of {self.corpus!r} begun in {folder} has another plan: {'; '.join(changes)}. "
                f"Continue with the same texts, options, model and versions, or {next_step}."
            )


def differences(begun: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Describe the differences between two plans in words."""
    changes: list[str] = []
    for name in dict.fromkeys([*begun, *now]):
        old, new = begun.get(name), now.get(name)
        if old == new:
            continue
        if isinstance(old, dict) and isinstance(new, dict):
            changes += differences(old, new)
        elif name in _WORDS:
            changes.append(_WORDS[name])
        else:
            changes.append(f"{name} was {old!r} and is {new!r}")
    # Other texts imply other tokens, splits and batches; the cause is enough.
    return changes[: 1 + changes.index(_WORDS["texts"])] if _WORDS["texts"] in changes else changes


def text_shares(texts: Sequence[int], n_volumes: Sequence[int], n_bytes: int) -> list[tuple[int, int, int]]:
    """Compute the byte range of each text: (text, first byte, size), with `n_bytes` per volume."""
    shares, first = [], 0
    for text in texts:
        size = n_bytes * n_volumes[text]
        shares.append((text, first, size))
        first += size
    return shares
