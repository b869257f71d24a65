"""Types of the keywords of `lmri.record` and `lmri.Study.record`, for type checkers."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TypedDict


class RecordingKeywords(TypedDict, total=False):
    """Keywords of a recording that do not determine the type of the result; see `lmri.record`."""

    corpus: str
    batch_size: int
    batch_tokens: int | None
    run_tokens: int
    texts_per_run: int | None
    n_dummy: int
    test_fraction: float
    seed: int
    max_tokens: int | None
    projection: str | None
    experts: Iterable[int] | None
    per: str
    every: int
    generate: int | None
    temperature: float
    resume: bool
    subject: str | None
    session: str | None
    device_check: bool
    progress: Callable[[int, int], None] | None


class StudyRecordingKeywords(RecordingKeywords, total=False):
    """Further keywords of `lmri.Study.record`: the source of the texts, and how the model is loaded."""

    text_column: str
    quoting: str | None
    config: str | None
    split: str | None
    limit: int | None
    shuffle: bool
    dtype: str
    device: str
    revision: str | None
    trust_remote_code: bool
    allow_pickle: bool
    device_map: str | None
    offload_folder: str | Path | None
    quantize: str | None
    scheduler: str | None
