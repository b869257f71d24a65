"""Finalizing a recording: a complete recording is moved into the study, in steps that can be repeated after a crash."""

from pathlib import Path

from lmri import storage
from lmri.exceptions import StudyError
from lmri.models.recorder.files import image_path, table_paths
from lmri.models.recorder.plan import Plan
from lmri.models.recorder.routing import write_routing
from lmri.space import NeuronSpace
from lmri.storage.corpora import write_texts_table
from lmri.storage.dataset_files import write_event_sidecars, write_recording_index, write_recording_site
from lmri.storage.recording import Recording, Run
from lmri.storage.store import Store


def commit(study: Store, plan: Plan, whole: Path, folder: Path) -> None:
    """Move a complete recording into the study; the index is written last, then the hidden folder is deleted.

    Parameters
    ----------
    study : Store
        Scope of the model, whose lock the caller holds. The study is locked here.
    plan : Plan
        Plan of the recording.
    whole : Path
        Folder of its images and tables. A missing file has already been moved into the study, by a command that was
        killed afterwards.
    folder : Path
        Hidden folder of the recording.
    """
    with storage.write_lock(study.root):
        check_split(study, plan, folder)
        _move_into_place(study, plan, whole)
    discard(folder)


def check_split(study: Store, plan: Plan, folder: Path) -> None:
    """Raise `StudyError` if a later recording assigned some of the texts to the other part of the split."""
    known = study.known_split()
    keys = plan.texts["prompt_sha256" if "prompt_sha256" in plan.texts else "sha256"]
    moved = [
        text_id
        for text_id, key, split in zip(plan.texts["text_id"], keys, plan.texts["split"], strict=True)
        if known.get(key, split) != split
    ]
    if moved:
        raise StudyError(
            f"{len(moved)} texts of {plan.corpus!r} (first: {moved[0]}) are on the other side of the train/test split "
            f"in a recording that was made after this one was begun. Delete {folder}, then record again."
        )


def _move_into_place(study: Store, plan: Plan, whole: Path) -> None:
    """Move images and tables into the study, and write the other files of the recording; the index is the last."""
    layout, corpus = study.layout, plan.corpus
    layout.func.mkdir(parents=True, exist_ok=True)
    if plan.routers:
        storage.ignore_in_bids(layout, storage.ROUTING_IGNORED)
    for number in range(1, len(plan.runs) + 1):
        events, tokens = table_paths(whole, number)
        _move(events, layout.events(corpus, number))
        _move(tokens, layout.tokens(corpus, number))
        for site in plan.sites:
            _move(image_path(whole, site, number), layout.bold(corpus, number, site))
        for space in plan.routers:
            _write_routing(space, image_path(whole, space.site, number), layout.routing(corpus, number, space.site))
    write_texts_table(layout, corpus, plan.texts, plan.prompts)
    write_event_sidecars(layout, corpus, len(plan.runs))
    for space in plan.spaces:
        caveats = plan.caveats.get(space.site, [])
        write_recording_site(layout, space, corpus, plan.texts, plan.parameters, caveats, plan.device_check)
    for space in plan.spaces:
        recording = Recording(space, corpus, _runs(study, plan, space.site), plan.texts, {})
        write_recording_index(layout, recording, plan.parameters, plan.made_of["versions"])
        storage.write_log(layout, "record", corpus=corpus, site=space.site, model=plan.location)


def _write_routing(space: NeuronSpace, hidden: Path, path: Path) -> None:
    if hidden.is_file():
        write_routing(space, hidden, path)
    elif not path.is_file():
        raise StudyError(f"{hidden} is missing. Delete {hidden.parent}, then record again.")


def discard(folder: Path) -> None:
    """Delete the hidden folder of a recording, and its parent folder if that is empty."""
    if folder.is_dir():
        # Renamed first: a partially deleted folder must not be mistaken for a recording that can be continued.
        doomed = folder.with_name(storage.PARTIAL + folder.name)
        storage.remove(doomed)
        folder.replace(doomed)
        storage.remove(doomed)
    if folder.parent.is_dir() and not any(folder.parent.iterdir()):
        folder.parent.rmdir()


def _move(hidden: Path, path: Path) -> None:
    if hidden.is_file():
        hidden.replace(path)
    elif not path.is_file():
        raise StudyError(f"{hidden} is missing. Delete {hidden.parent}, then record again.")


def _runs(study: Store, plan: Plan, site: str) -> tuple[Run, ...]:
    layout, corpus = study.layout, plan.corpus
    return tuple(
        Run(
            layout.bold(corpus, number, site),
            layout.events(corpus, number),
            layout.tokens(corpus, number),
            sum(plan.n_volumes[text] for text in run),
        )
        for number, run in enumerate(plan.runs, start=1)
    )
