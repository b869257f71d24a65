"""Recording on a Dask cluster: the shards are tasks, which go to another worker when one is lost."""

import contextlib
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from lmri import storage
from lmri.exceptions import StudyError
from lmri.models.recorder.merging import merge
from lmri.models.recorder.options import RecordingOptions
from lmri.models.recorder.shard_paths import n_shards_of
from lmri.storage.recording import Recording
from lmri.storage.store import open_store
from lmri.storage.texts import read_texts

_SHARDS_PER_WORKER = 4
"""Small enough shards that workers end at about the same time, and a lost one costs little."""

_RETRIES = 3
_TIMEOUT = "20s"

_MODELS: dict[str, Any] = {}
"""The model of a worker process, so that it is loaded once."""

_ONE_AT_A_TIME = threading.Lock()
"""Hooks on a model see every forward pass in it, those of another thread too."""


def record_on_cluster(
    scheduler: str,
    model: str | Path,
    texts: str | Path | Iterable[str],
    out: str | Path,
    *,
    n_shards: int | None = None,
    loading: Mapping[str, Any] | None = None,
    progress: Callable[[int, int], None] | None = None,
    **options: Any,
) -> list[Recording]:
    """Record on the workers of a Dask cluster, as shards, and merge them.

    Workers need lmri installed in the same versions, and see `out` under the same path. What is recorded is, byte by
    byte, what one process would record on a worker. A shard whose worker is lost goes on where it was on another.

    Parameters
    ----------
    scheduler : str
        Address of the scheduler, such as ``"tcp://10.0.0.1:8786"``.
    model : str or Path
        As `load_model` takes it; every worker process loads it once.
    texts : str, Path or iterable of str
        As `read_texts` takes them, read here.
    out : str or Path
        Folder of the study.
    n_shards : int, optional
        By default four a worker, or as many as there are of this recording already.
    loading : mapping, optional
        What else `load_model` takes: ``dtype``, ``device``, ``revision``.
    progress : callable, optional
        Called with shards done and shards in all.
    **options
        As `record` takes them.

    Returns
    -------
    list of Recording
        One a site.

    Raises
    ------
    ImportError
        If Dask's distributed is not installed.
    OSError
        If no scheduler answers.
    StudyError
        If no worker is there, or shards failed on several of them; what is finished is kept, and the same call goes on
        from there.
    """
    if known := {"resume", "shard", "progress"} & set(options):
        raise ValueError(f"{', '.join(sorted(known))} was given; a cluster is handed all shards, and always goes on.")
    wanted = RecordingOptions(**options)
    return record_shards_on_cluster(scheduler, model, texts, out, wanted, loading, n_shards, progress)


def record_shards_on_cluster(
    scheduler: str,
    model: str | Path,
    texts: str | Path | Iterable[str],
    out: str | Path,
    options: RecordingOptions,
    loading: Mapping[str, Any] | None = None,
    n_shards: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> list[Recording]:
    """Record on a cluster with given options, of which resume and shard have no effect; see `record_on_cluster`."""
    distributed = _distributed()
    kept = read_texts(texts)
    name = str(Path(model).expanduser().resolve()) if Path(model).expanduser().is_dir() else str(model)
    with _client(distributed, scheduler) as client:
        if n_shards is None:
            n_shards = _begun(out, options) or _SHARDS_PER_WORKER * len(client.scheduler_info()["workers"])
        # The result of a task, unlike scattered data, is made again when the worker that holds it is lost.
        payload = client.submit(_same, kept, key=f"lmri-texts-{storage.digest(kept)}", pure=False)
        place = str(Path(out).resolve())
        tasks = [
            client.submit(
                _record_part, name, dict(loading or {}), payload, place, options, (number, n_shards),
                pure=False, retries=_RETRIES,
            )
            for number in range(1, n_shards + 1)
        ]  # fmt: skip
        _await(distributed, tasks, progress)
    study, corpus, sites = open_store(out), options.corpus, options.sites
    if _shards_left(study.unfinished(), corpus, sites):
        merge(study, corpus=corpus, site=", ".join(_shards_left(study.unfinished(), corpus, sites)[0]))
    return [study.recording(corpus=corpus, site=one) for one in sites]


def _distributed() -> Any:
    try:
        import distributed
    except ImportError:
        raise ImportError(
            "Recording on a cluster needs Dask's distributed, which is not installed. Install it here and on the "
            "workers: pip install 'lmri[distributed]'"
        ) from None
    return distributed


@contextlib.contextmanager
def _client(distributed: Any, scheduler: str) -> Iterator[Any]:
    try:
        client = distributed.Client(scheduler, timeout=_TIMEOUT, set_as_default=False)
    except (OSError, ValueError, TimeoutError) as error:
        raise OSError(
            f"No Dask scheduler answers at {scheduler!r} ({error}). Start one with `dask scheduler`, and give its "
            "address, such as tcp://10.0.0.1:8786."
        ) from error
    with client:
        if not client.scheduler_info()["workers"]:
            raise StudyError(
                f"The Dask scheduler at {scheduler} has no workers. Start some: dask worker {scheduler} --nthreads 1"
            )
        yield client


def _begun(out: str | Path, options: RecordingOptions) -> int:
    """Say in how many shards this recording was begun; 0 if it was not."""
    layout = storage.Layout(Path(out))
    stem = layout.unfinished_recording(options.corpus, options.sites).name
    numbers = [n_shards_of(path) for path in layout.unfinished.glob(f"{stem}_shards-*")]
    return numbers[0] if numbers else 0


def _shards_left(folders: Sequence[Path], corpus: str, sites: Sequence[str]) -> list[list[str]]:
    """List the sites of recordings in shards that wait to be merged."""
    made_of = [storage.read_json(folder / "plan.json")["made_of"] for folder in folders if n_shards_of(folder)]
    return [one["sites"] for one in made_of if one["corpus"] == corpus and set(one["sites"]) <= set(sites)]


def _await(distributed: Any, tasks: list[Any], progress: Callable[[int, int], None] | None) -> None:
    """Wait for all shards, also if some fail; then say which."""
    failed: dict[int, BaseException] = {}
    place = {task.key: number for number, task in enumerate(tasks, start=1)}
    for n_done, task in enumerate(distributed.as_completed(tasks), start=1):
        if task.status == "error":
            failed[place[task.key]] = task.exception()
        elif task.status != "finished":
            failed[place[task.key]] = RuntimeError(f"was {task.status}")
        if progress is not None:
            progress(n_done, len(tasks))
    if failed:
        first = min(failed)
        raise StudyError(
            f"{len(failed)} of {len(tasks)} shards failed ({', '.join(map(str, sorted(failed)))}); shard {first}: "
            f"{failed[first]} What is finished is kept: the same command goes on from there."
        ) from failed[first]


def _same(texts: list[str]) -> list[str]:
    return texts


def _record_part(
    model: str,
    loading: dict[str, Any],
    texts: list[str],
    out: str,
    options: RecordingOptions,
    shard: tuple[int, int],
) -> None:
    """Record a shard, on a worker."""
    from lmri.models import load_model
    from lmri.models.recorder.run import record_with

    with _ONE_AT_A_TIME:
        key = storage.digest([model, loading])
        if key not in _MODELS:
            _MODELS.clear()  # one in memory at a time
            _MODELS[key] = load_model(model, **loading)
        loaded, tokenizer = _MODELS[key]
        record_with(loaded, tokenizer, texts, out, replace(options, resume=True, shard=shard))
