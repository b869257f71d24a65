"""Merging the shards of a recording, without a model and without torch."""

import contextlib
import shutil
from collections.abc import Callable
from pathlib import Path

from lmri import storage
from lmri.exceptions import StudyError
from lmri.models.recorder.files import Files, explain_full_disk, image_files, row_files, table_paths
from lmri.models.recorder.finalize import check_split, commit, discard
from lmri.models.recorder.journal import Journal, checksum, journal_of, read_header
from lmri.models.recorder.plan import Plan
from lmri.models.recorder.shard_paths import lock_path, n_shards_of, part_path, whole_path
from lmri.storage.corpora import hashes_of
from lmri.storage.entries import ambiguous
from lmri.storage.recording import Recording
from lmri.storage.store import Store


def merge(
    study: str | Path | Store,
    *,
    corpus: str | None = None,
    site: str | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> list[Recording]:
    """Merge the shards of a recording; the result is byte-identical to a recording by one process.

    Parameters
    ----------
    study : str, Path or Store
        Study passed to ``record(..., shard=...)``; of several models, opened for the model that was recorded.
    corpus, site : str, optional
        Corpus and site of the recording; required if the study holds shards of several recordings.
    progress : callable, optional
        Function called with the number of batches done and the total number of batches.

    Returns
    -------
    list of Recording
        One recording per site.

    Raises
    ------
    AmbiguousChoiceError
        If the shards of several recordings match, or of none.
    StudyError
        If a shard is missing, unfinished, damaged or of another plan; the message contains the command that repeats it.
    OSError
        If the disk is full: it must hold the shards and the images at the same time.
    """
    opened = study if isinstance(study, Store) else Store(study)
    message = f"Another command is recording {opened.scope} in {opened.root}. Wait until it has ended."
    with storage.locked(opened.layout.folder / storage.LOCK, message):
        folder = _choose(opened, corpus, site)
        plan = Plan.load(folder)
        texts, hashes = plan.texts["text"].tolist(), hashes_of(plan.texts)
        entries = [opened.check_new_recording(plan.corpus, name, texts, plan.parameters, hashes) for name in plan.sites]
        if all(entries):
            discard(folder)
        else:
            _merge(opened, plan, folder, progress)
        return [opened.recording(corpus=plan.corpus, site=name) for name in plan.sites]


def _merge(study: Store, plan: Plan, folder: Path, progress: Callable[[int, int], None] | None) -> None:
    whole = whole_path(folder)
    journal = journal_of(whole, plan.digest, None)
    advice = "All shards are kept: run lmri merge again after freeing disk space."
    with explain_full_disk(folder, 2 * plan.n_bytes, lambda: advice):
        if not journal.is_whole:
            check_split(study, plan, folder)
            _assemble(study, plan, folder, progress)
        commit(study, plan, whole, folder)


def _choose(study: Store, corpus: str | None, site: str | None) -> Path:
    """Return the hidden folder of the shards."""
    candidates = []
    for folder in study.unfinished():
        if n_shards_of(folder):
            begun = storage.read_json(folder / "plan.json")["made_of"]
            candidates.append((folder, {"corpus": begun["corpus"], "site": ", ".join(begun["sites"])}))
    fitting = [
        (folder, name)
        for folder, name in candidates
        if corpus in (None, name["corpus"]) and (site is None or site in (name["site"], *name["site"].split(", ")))
    ]
    if len(fitting) != 1:
        options = [name for _, name in fitting or candidates]
        raise ambiguous(study.layout, "shards", {"corpus": corpus, "site": site}, options, bool(fitting))
    return fitting[0][0]


def _assemble(study: Store, plan: Plan, folder: Path, progress: Callable[[int, int], None] | None) -> None:
    """Copy the rows of all shards into images, and verify the checksum of every batch."""
    n_shards, whole = n_shards_of(folder), whole_path(folder)
    with contextlib.ExitStack() as stack:
        for number in range(1, n_shards + 1):
            message = f"Shard {number}/{n_shards} of {plan.corpus!r} is still being recorded. Wait until it ends."
            stack.enter_context(storage.locked(lock_path(folder, number), message))
        journals = _check_parts(study, plan, folder, n_shards)
        for site in plan.sites:
            study.clear_remains(plan.corpus, site)
        storage.remove(whole)
        whole.mkdir()
        images = image_files(plan, whole)
        images.create()
        n_done = 0
        for number, journal in enumerate(journals, start=1):
            part, shard = part_path(folder, number), (number, n_shards)
            rows = row_files(plan, part, shard)
            for batch in plan.own_batches(shard):
                _copy(plan.batches[batch], rows, images, journal.done[batch], part, _again(study, plan, shard))
                n_done += 1
                if progress is not None:
                    progress(n_done, len(plan.batches))
            for run in plan.own_runs(shard):
                for source, target in zip(table_paths(part, run), table_paths(whole, run), strict=True):
                    shutil.copyfile(source, target)
                    images.add_written(target)
        images.sync()
        journal_of(whole, plan.digest, None).whole()


def _copy(texts: list[int], rows: Files, images: Files, crc: int, part: Path, again: str) -> None:
    total = 0
    for space in range(len(rows.places)):
        for text in texts:
            content = rows.read(space, text)
            total = checksum(content, total)
            if len(content) == rows.places[space][text][2]:
                images.write(space, text, content)
    if total != crc:
        raise StudyError(f"{part} is damaged: its data do not match their checksum. Delete it, then run: {again}")


def _check_parts(study: Store, plan: Plan, folder: Path, n_shards: int) -> list[Journal]:
    """Open the journals of all shards; raise one `StudyError` that lists all missing shards, with commands."""
    journals, problems = [], []
    for number in range(1, n_shards + 1):
        part, shard = part_path(folder, number), (number, n_shards)
        header = read_header(part / "journal.jsonl")
        if header is not None and header.get("plan") != plan.digest:
            problems.append(f"{part} belongs to another plan: delete it, then run: {_again(study, plan, shard)}")
            continue
        journal = journal_of(part, plan.digest, shard)
        n_batches = len(plan.own_batches(shard))
        tables = [path for run in plan.own_runs(shard) for path in table_paths(part, run)]
        rows = list(row_files(plan, part, shard).sizes)
        if not journal.is_whole:
            state = f"has {len(journal.done)} of {n_batches} batches" if journal.done else "is missing"
            problems.append(f"shard {number}/{n_shards} {state}: {_again(study, plan, shard)}")
        elif gone := [path for path in (*tables, *rows) if not path.is_file()]:
            problems.append(f"{gone[0]} is missing: delete {part}, then run: {_again(study, plan, shard)}")
        journals.append(journal)
    if problems:
        listed = "\n".join(f"  {problem}" for problem in problems)
        raise StudyError(
            f"{len(problems)} of {n_shards} shards of {plan.corpus!r} are incomplete. Run the commands below, with the "
            f"texts and options of the other shards:\n{listed}\nThen run lmri merge again. Nothing was changed."
        )
    return journals


def _again(study: Store, plan: Plan, shard: tuple[int, int]) -> str:
    """Return the command that records a shard, as far as it is known to the study."""
    sites = " ".join(f"--site {site}" for site in plan.sites)
    labels = f"--subject {study.subject} " if len(study.layout.scopes()) > 1 else ""
    labels += f"--session {study.session} " if study.session else ""
    return (
        f"lmri record {plan.location or 'MODEL'} TEXTS --out {study.root} {labels}--corpus {plan.corpus} {sites} "
        f"--shard {shard[0]}/{shard[1]} --resume"
    )
