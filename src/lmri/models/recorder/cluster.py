"""Recording on a Dask cluster: shards are tasks, which move to another worker if theirs is lost."""

import contextlib
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

from lmri import storage
from lmri.exceptions import StudyError
from lmri.models.recorder.merging import merge
from lmri.models.recorder.options import RecordingOptions
from lmri.models.recorder.shard_paths import n_shards_of
from lmri.storage.identifiers import make_scope
from lmri.storage.recording import Recording
from lmri.storage.store import open_store
from lmri.storage.subjects import assign_scope
from lmri.storage.texts import read_texts

_SHARDS_PER_WORKER = 4
"""Number of shards per worker: many small shards, so that workers finish together and a lost shard costs little."""

_RETRIES = 3
_TIMEOUT = "20s"

_MODELS: dict[str, Any] = {}
"""Model of a worker process, cached so that it is loaded once."""

_ONE_AT_A_TIME = threading.Lock()
"""Lock of the model: its hooks are called in every forward pass, including those of other threads."""


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
    """Record shards on the workers of a Dask cluster, and merge them.

    Workers need the same versions of lmri and its dependencies, and access to `out` under the same path. The recording
    is byte-identical to a recording by one process on a worker. If a worker is lost, its shard is continued on another
    worker, from the last finished batch.

    Parameters
    ----------
    scheduler : str
        Address of the scheduler, such as ``"tcp://10.0.0.1:8786"``.
    model : str or Path
        Model, in any form that `load_model` accepts; every worker process loads it once.
    texts : str, Path or iterable of str
        Texts, in any form that `read_texts` accepts; they are read in the calling process.
    out : str or Path
        Folder of the study.
    n_shards : int, optional
        Number of shards; by default four per worker, or the number with which this recording was begun.
    loading : mapping, optional
        Further options of `load_model`, such as ``dtype``, ``device`` and ``revision``.
    progress : callable, optional
        Function called with the number of shards done and the total number of shards.
    **options
        Options of `record`.

    Returns
    -------
    list of Recording
        One recording per site.

    Raises
    ------
    ImportError
        If the package distributed (Dask) is not installed.
    OSError
        If the scheduler cannot be reached.
    StudyError
        If there are no workers, or a shard failed repeatedly. Finished batches are kept; the same call continues from
        them.
    """
    if known := {"resume", "shard", "progress"} & set(options):
        raise ValueError(
            f"Options not available on a cluster: {', '.join(sorted(known))}. A cluster records all shards and always "
            "resumes; omit these options."
        )
    recording_options = RecordingOptions(**options)
    return record_shards_on_cluster(scheduler, model, texts, out, recording_options, loading, n_shards, progress)


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
    """Record on a cluster with the given options; resume and shard are ignored. See `record_on_cluster`."""
    distributed = _distributed()
    strings = read_texts(texts)
    name = str(Path(model).expanduser().resolve()) if Path(model).expanduser().is_dir() else str(model)
    with _client(distributed, scheduler) as client:
        if n_shards is None:
            n_shards = _begun(out, options) or _SHARDS_PER_WORKER * len(client.scheduler_info()["workers"])
        # Unlike scattered data, the result of a task is recomputed if the worker that holds it is lost.
        payload = client.submit(_identity, strings, key=f"lmri-texts-{storage.digest(strings)}", pure=False)
        folder = str(Path(out).resolve())
        tasks = [
            client.submit(
                _record_part, name, dict(loading or {}), payload, folder, options, (number, n_shards),
                pure=False, retries=_RETRIES,
            )
            for number in range(1, n_shards + 1)
        ]  # fmt: skip
        scope = _await(distributed, tasks, progress)
    study, corpus, sites = open_store(out, scope), options.corpus, options.sites
    if _shards_left(study.unfinished(), corpus, sites):
        merge(study, corpus=corpus, site=", ".join(_shards_left(study.unfinished(), corpus, sites)[0]))
    return [study.recording(corpus=corpus, site=site) for site in sites]


def _distributed() -> ModuleType:
    try:
        import distributed
    except ImportError:
        raise ImportError(
            "Recording on a cluster needs Dask's distributed, which is not installed. Install it here and on the "
            "workers: pip install 'lmri[distributed]'"
        ) from None
    return distributed


@contextlib.contextmanager
def _client(distributed: ModuleType, scheduler: str) -> Iterator[Any]:
    try:
        client = distributed.Client(scheduler, timeout=_TIMEOUT, set_as_default=False)
    except (OSError, ValueError, TimeoutError) as error:
        raise OSError(
            f"No Dask scheduler answers at {scheduler!r} ({error}). Start one with `dask scheduler`, and use its "
            "address, such as tcp://10.0.0.1:8786."
        ) from error
    with client:
        if not client.scheduler_info()["workers"]:
            raise StudyError(
                f"The Dask scheduler at {scheduler} has no workers. Start them: dask worker {scheduler} --nthreads 1"
            )
        yield client


def _begun(out: str | Path, options: RecordingOptions) -> int:
    """Return the number of shards with which this recording was begun; 0 if it was not begun."""
    # The label of the model is not known before a worker has loaded it.
    layout = storage.Layout(Path(out))
    chosen = make_scope(options.subject or "*", options.session) if options.subject else "sub-*"
    stem = layout.at("sub-any").unfinished_recording(options.corpus, options.sites).name
    begun = layout.derivatives_dir.glob(f"{chosen}/{layout.at('sub-any').unfinished.name}/{stem}_shards-*")
    numbers = {n_shards_of(path) for path in begun}
    return numbers.pop() if len(numbers) == 1 else 0


def _shards_left(folders: Sequence[Path], corpus: str, sites: Sequence[str]) -> list[list[str]]:
    """List the sites of sharded recordings that are not merged yet."""
    made_of = [storage.read_json(folder / "plan.json")["made_of"] for folder in folders if n_shards_of(folder)]
    return [entry["sites"] for entry in made_of if entry["corpus"] == corpus and set(entry["sites"]) <= set(sites)]


def _await(distributed: ModuleType, tasks: list[Any], progress: Callable[[int, int], None] | None) -> str:
    """Wait for all shards, even if some fail; return the scope of the model, or raise with the failed shards."""
    failed: dict[int, BaseException] = {}
    scopes: set[str] = set()
    numbers = {task.key: number for number, task in enumerate(tasks, start=1)}
    for n_done, task in enumerate(distributed.as_completed(tasks), start=1):
        if task.status == "error":
            failed[numbers[task.key]] = task.exception()
        elif task.status != "finished":
            failed[numbers[task.key]] = RuntimeError(f"task status: {task.status}.")
        else:
            scopes.add(task.result())
        if progress is not None:
            progress(n_done, len(tasks))
    if failed:
        first = min(failed)
        raise StudyError(
            f"{len(failed)} of {len(tasks)} shards failed ({', '.join(map(str, sorted(failed)))}); shard {first}: "
            f"{failed[first]} Finished batches were saved. Run the same command to continue."
        ) from failed[first]
    return scopes.pop()


def _identity(texts: list[str]) -> list[str]:
    return texts


def _record_part(
    model: str,
    loading: dict[str, Any],
    texts: list[str],
    out: str,
    options: RecordingOptions,
    shard: tuple[int, int],
) -> str:
    """Record a shard on a worker, and return the scope of the model."""
    from lmri.models import describe_model, load_model
    from lmri.models.recorder.run import record_with

    with _ONE_AT_A_TIME:
        key = storage.digest([model, loading])
        if key not in _MODELS:
            _MODELS.clear()  # keep only one model in memory
            _MODELS[key] = load_model(model, **loading)
        loaded, tokenizer = _MODELS[key]
        record_with(loaded, tokenizer, texts, out, replace(options, resume=True, shard=shard))
        return assign_scope(storage.Layout(Path(out)), describe_model(loaded), options.subject, options.session)
