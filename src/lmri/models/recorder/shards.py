"""Shards: parts of one recording, which independent processes record in parallel."""

from pathlib import Path

from lmri import storage
from lmri.exceptions import StudyError
from lmri.models import describe_model
from lmri.models.recorder.journal import interruption, journal_of
from lmri.models.recorder.plan import Plan
from lmri.models.recorder.planning import Request, make_plan
from lmri.models.recorder.shard_paths import lock_path, n_shards_of, part_path
from lmri.models.recorder.write_activations import Progress, keep_finished_batches, write_batches
from lmri.storage.adding import adding
from lmri.storage.store import Store


def record_shard(request: Request, out: str | Path, shard: tuple[int, int], progress: Progress | None) -> None:
    """Record one shard into its part of the hidden folder; the study is locked only during planning."""
    _ = request.reading.lengths  # computed before the lock is taken, because it takes long
    with adding(out, describe_model(request.reading.model), request.options.labels) as study:
        recorded = request.recorded(study)
        spaces = tuple(space for space in request.spaces if space.site not in recorded)
        if not spaces:
            return
        plan = make_plan(request, study, spaces)
        folder = study.layout.unfinished_recording(plan.corpus, plan.sites, shard[1])
        _check_no_other_number(study, folder, shard[1])
        if folder.is_dir():
            plan.check_same(folder, f"delete {folder} to start over")
        else:
            plan.save(folder)
    _record_part(request, folder, shard, progress)


def _record_part(request: Request, folder: Path, shard: tuple[int, int], progress: Progress | None) -> None:
    plan = Plan.load(folder)
    part = part_path(folder, shard[0])
    with storage.locked(
        lock_path(folder, shard[0]),
        f"Shard {shard[0]}/{shard[1]} of {plan.corpus!r} is being recorded by another process. Wait until it ends.",
    ):
        journal = journal_of(part, plan.digest, shard)
        if journal.is_whole:
            return
        if journal.done and not request.options.resume:
            raise StudyError(interruption(f"Shard {shard[0]}/{shard[1]} of {plan.corpus!r}", len(journal.done), part))
        part.mkdir(exist_ok=True)
        with keep_finished_batches(part, journal, plan, shard):
            write_batches(request.reading, plan, shard, part, journal, progress)


def _check_no_other_number(study: Store, folder: Path, n_shards: int) -> None:
    stem = folder.name.removesuffix(f"-{n_shards}")
    for other in study.unfinished():
        if other != folder and n_shards_of(other) and other.name.startswith(f"{stem}-"):
            raise StudyError(
                f"This recording was begun in {n_shards_of(other)} shards, not {n_shards}. Continue with --shard "
                f"I/{n_shards_of(other)}, or delete {other}."
            )
