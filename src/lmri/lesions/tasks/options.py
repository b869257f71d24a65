"""Options of the loading and scoring of tasks, with their defaults."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypedDict

from lmri.storage.splits import SHARES


class TaskDataKeywords(TypedDict, total=False):
    """Keywords of `lmri.tasks.load`; see there."""

    scoring: str | None
    limit: int | None
    split: str
    shares: Sequence[float]
    seed: int
    known: Mapping[str, str] | None
    prompt: str | None
    words: Mapping[str, str] | None
    max_new_tokens: int | None
    batch_size: int
    config: str | None
    dataset_split: str | None
    column: str
    quoting: str | None


@dataclass(frozen=True)
class TaskDataOptions:
    """Options of `lmri.tasks.load`, under the same names; see there."""

    scoring: str | None = None
    limit: int | None = None
    split: str = ""
    shares: Sequence[float] = SHARES
    seed: int = 0
    known: Mapping[str, str] | None = None
    prompt: str | None = None
    words: Mapping[str, str] | None = None
    max_new_tokens: int | None = None
    batch_size: int = 8
    config: str | None = None
    dataset_split: str | None = None
    column: str = "text"
    quoting: str | None = None


class ClassificationKeywords(TypedDict, total=False):
    """Keywords of `lmri.tasks.Classification`; see there."""

    scoring: str
    also: Iterable[str]
    positive: str
    max_new_tokens: int
    aliases: Mapping[str, Sequence[str]] | None
    split: str
    note: str


@dataclass(frozen=True)
class ClassificationOptions:
    """Options of `lmri.tasks.Classification`, under the same names; see there."""

    scoring: str = "loglikelihood"
    also: Iterable[str] = ()
    positive: str = ""
    max_new_tokens: int = 16
    aliases: Mapping[str, Sequence[str]] | None = None
    split: str = ""
    note: str = ""
