"""Validation: every file of a study is there, whole, and agrees with the others."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np

from lmri import storage
from lmri.networks import rois
from lmri.storage import PARTIAL
from lmri.storage.recording import Recording, check_whole
from lmri.storage.store import Store


@dataclass
class Findings:
    """What a validation found.

    Parameters
    ----------
    problems : list of str
        What is wrong; empty if nothing is.
    notes : list of str
        What could not be checked.
    """

    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def attempt(self, check: Callable[[], object]) -> None:
        """Run a check; what it raises is a problem."""
        try:
            check()
        except (ValueError, OSError, KeyError) as error:
            self.problems.append(str(error))


def validate(study: Store) -> Findings:
    """Check a study.

    Recordings are read to their end: geometry, finiteness, rows of both tables. Entries are opened, and regions
    of interest read. Then the BIDS validator runs, if it is installed.
    """
    found = Findings()
    recordings: list[Recording] = []
    found.attempt(lambda: recordings.extend(study.recordings()))
    for recording in recordings:
        found.attempt(lambda recording=recording: _check_recording(study, recording, found))  # type: ignore[misc]
    for codec in study.codecs.values():
        try:
            entries = study.entries.list(codec.kind)
        except ValueError as error:
            found.problems.append(str(error))
            continue
        for entry in entries:
            found.problems.extend(entry.check_files())
            found.attempt(partial(study.open, codec, entry.name, entry.site))
    if storage.is_locked(study.root):
        found.notes.append(
            "Another command is writing to this study. Its unfinished files were not checked: validate again when it "
            "has ended."
        )
    else:
        found.attempt(lambda: _check_remains(study, found))
    _check_rois(study, recordings, found)
    _check_bids(study.root, found)
    found.problems[:] = dict.fromkeys(found.problems)
    return found


def _check_remains(study: Store, found: Findings) -> None:
    """Check for files of interrupted commands; nothing is advised that would lose what `--resume` can use."""
    begun = {path.name.split("_")[0] for path in study.unfinished()}
    for path in study.orphans():
        corpus = path.name.split("_task-")[1].split("_")[0]
        if corpus not in begun:
            found.problems.append(f"{path} belongs to no recording. Record {corpus!r} again, or delete the file.")
    for path in study.unfinished():
        corpus = path.name.split("_")[0]
        how = "lmri merge" if "_shards-" in path.name else "lmri record --resume"
        found.notes.append(
            f"The recording of {corpus!r} is not finished. Continue it with {how}. Keep its files, also those of "
            f"{corpus!r} in {study.layout.func(study.subject)}; only to discard the recording, delete {path}."
        )
    for path in study.root.rglob(f"{PARTIAL}*"):
        found.problems.append(f"{path} is left over from an interrupted command and is not used. Delete it.")


def _check_recording(study: Store, recording: Recording, found: Findings) -> None:
    check_whole(recording)
    space = recording.space
    mask = study.layout.mask(study.subject, recording.corpus, space.site)
    if not np.array_equal(np.asarray(space.check_img(mask).dataobj) != 0, np.asarray(space.mask_img.dataobj) != 0):
        found.problems.append(f"{mask} does not mark the voxels that hold neurons. Record again.")
    for number, run in enumerate(recording.runs):
        values = space.from_img(run.img)
        events, tokens = recording.events[number], recording.tokens[number]
        n_kept = tokens["volume"].nunique()
        if not len(values) == run.n_volumes == len(events) == n_kept:
            found.problems.append(
                f"{run.img} has {len(values)} volumes, its index says {run.n_volumes}, its events {len(events)} "
                f"and its tokens {n_kept}. Record again."
            )


def _check_rois(study: Store, recordings: list[Recording], found: Findings) -> None:
    spaces = {storage.bids_label(recording.space.site): recording.space for recording in recordings}
    for roi in rois.stored(study.layout):
        folder = roi.path.parent.name
        if roi.problem and storage.sidecar(roi.path).exists():  # without one, a person has put the image there
            found.problems.append(roi.problem)
        elif folder in spaces:
            found.attempt(lambda roi=roi, space=spaces[folder]: rois.read_roi(roi.path, space))  # type: ignore[misc]
        else:
            found.notes.append(f"{roi.path} was not checked: nothing is recorded at {folder}.")


def _check_bids(root: Path, found: Findings) -> None:
    beside = Path(sys.executable).with_name("bids-validator-deno")
    program = str(beside) if beside.is_file() else shutil.which("bids-validator-deno")
    if program is None:
        found.notes.append("BIDS was not checked: the validator is not installed (pip install 'lmri[bids]').")
        return
    done = subprocess.run([program, str(root), "--format", "json"], capture_output=True, text=True, check=False)
    try:
        issues = json.loads(done.stdout)["issues"]["issues"]
    except (json.JSONDecodeError, KeyError, TypeError):
        found.notes.append(f"BIDS was not checked: the validator failed ({done.stderr.strip()[:200]}).")
        return
    for issue in issues:
        if issue.get("severity") == "error":
            found.problems.append(
                f"BIDS: {issue.get('code')} at {issue.get('location')}. {issue.get('issueMessage', '')}"
            )
    found.notes.append("Checked by the BIDS validator.")
