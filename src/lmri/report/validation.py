"""Validation: check that the files of a study are present, complete and consistent."""

import json
import os
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
from lmri.storage.entries import Entry
from lmri.storage.identifiers import GROUP
from lmri.storage.placing import move_command
from lmri.storage.recording import Recording, check_whole
from lmri.storage.store import Store


@dataclass
class Findings:
    """Problems and notes of a validation.

    Parameters
    ----------
    problems : list of str
        Errors; empty if the study is valid.
    notes : list of str
        Checks that could not be made, and other remarks.
    """

    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def attempt(self, check: Callable[[], object]) -> None:
        """Run a check, and record its error as a problem."""
        try:
            check()
        except (ValueError, OSError, KeyError) as error:
            self.problems.append(str(error))


def validate(*studies: Store) -> Findings:
    """Check a study: one of its models, or several.

    Recordings are read completely: geometry, finite values, rows of both tables. Entries are opened, and regions
    of interest are read. Then the BIDS validator runs on the whole study, if it is installed.

    Parameters
    ----------
    *studies : Store
        One or several models of a study, and its group.
    """
    findings = Findings()
    for study in studies:
        _check_scope(study, findings)
    _check_bids(studies[0].root, findings)
    findings.problems[:] = dict.fromkeys(findings.problems)
    findings.notes[:] = dict.fromkeys(findings.notes)
    return findings


def _check_scope(study: Store, findings: Findings) -> None:
    """Check the recordings, entries and regions of interest of one model, or the entries of the group."""
    recordings: list[Recording] = []
    findings.attempt(lambda: recordings.extend(study.recordings()))
    for recording in recordings:
        findings.attempt(lambda recording=recording: _check_recording(study, recording, findings))  # type: ignore[misc]
    for codec in study.codecs.values():
        try:
            entries = study.entries.list(codec.kind)
        except ValueError as error:
            findings.problems.append(str(error))
            continue
        for entry in entries:
            findings.problems.extend(entry.check_files())
            findings.attempt(partial(study.open, codec, entry.name, entry.site))
    if storage.is_locked(study.root) or storage.is_locked(study.layout.folder):
        findings.notes.append(
            "Another command is writing to this study. Its unfinished files were not checked. Validate again when it "
            "has finished."
        )
    else:
        findings.attempt(lambda: _check_remains(study, findings))
    _check_rois(study, recordings, findings)


def _check_remains(study: Store, findings: Findings) -> None:
    """Check for files of interrupted commands; never advise deleting files that `--resume` can use."""
    for path in study.kept_results():
        entry = Entry.read(path.parent.parent.name, path)
        command = move_command(path, study.layout.entry(entry.kind, entry.site, entry.name))
        findings.notes.append(
            f"{path} is a finished result that was not moved into place, because the study was locked. The command "
            f"that computed it moves it, or: {command}"
        )
    for kind, again in (("qc", "lmri qc"), ("export", "lmri export")):
        for path in sorted(study.layout.unfinished.glob(f"{kind}/*/[!.]*")):
            findings.notes.append(
                f"{path} is a finished result that was not moved into place, because the study was locked. Run {again} "
                "again, which replaces it."
            )
    if study.scope == GROUP:
        return
    unfinished = {path.name.split("_")[0] for path in study.unfinished()}
    for path in study.orphans():
        corpus = path.name.split("_task-")[1].split("_")[0]
        if corpus not in unfinished:
            findings.problems.append(
                f"{path} does not belong to any recording. Record {corpus!r} again, or delete the file."
            )
    for path in study.unfinished():
        corpus = path.name.split("_")[0]
        how = "lmri merge" if "_shards-" in path.name else "lmri record --resume"
        findings.notes.append(
            f"The recording of {corpus!r} is not finished. Continue it with {how}. Keep its files, including the files "
            f"of {corpus!r} in {study.layout.func}. To discard the recording, delete {path}."
        )
    for path in study.root.rglob(f"{PARTIAL}*"):
        if path.is_relative_to(study.layout.unfinished) and _is_being_written(path):
            continue
        findings.problems.append(f"{path} is left over from an interrupted command and is not used. Delete it.")


def _is_being_written(path: Path) -> bool:
    """Return whether the process that writes a hidden entry, whose name ends in its number, is running."""
    number = path.name.rpartition("-")[2]
    if not number.isdecimal():
        return False
    try:
        os.kill(int(number), 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):  # of another account, or not a process number
        return True
    return True


def _check_recording(study: Store, recording: Recording, findings: Findings) -> None:
    check_whole(recording)
    space = recording.space
    mask = study.layout.mask(recording.corpus, space.site)
    if not np.array_equal(np.asarray(space.check_img(mask).dataobj) != 0, np.asarray(space.mask_img.dataobj) != 0):
        findings.problems.append(f"{mask} does not mark the voxels that hold neurons. Record again.")
    for number, run in enumerate(recording.runs):
        values = space.from_img(run.img)
        events, tokens = recording.events[number], recording.tokens[number]
        n_indexed = tokens["volume"].nunique()
        if not len(values) == run.n_volumes == len(events) == n_indexed:
            findings.problems.append(
                f"{run.img} has {len(values)} volumes, but its index lists {run.n_volumes}, its events {len(events)} "
                f"and its tokens {n_indexed}. Record again."
            )


def _check_rois(study: Store, recordings: list[Recording], findings: Findings) -> None:
    spaces = {storage.bids_label(recording.space.site): recording.space for recording in recordings}
    for roi in rois.stored(study.layout):
        folder = roi.path.parent.name
        if roi.problem and storage.sidecar(roi.path).exists():  # images without a sidecar were added manually
            findings.problems.append(roi.problem)
        elif folder in spaces:
            findings.attempt(lambda roi=roi, space=spaces[folder]: rois.read_rois(roi.path, space))  # type: ignore[misc]
        else:
            findings.notes.append(f"{roi.path} was not checked: there is no recording at {folder}.")


def _check_bids(root: Path, findings: Findings) -> None:
    installed = Path(sys.executable).with_name("bids-validator-deno")
    program = str(installed) if installed.is_file() else shutil.which("bids-validator-deno")
    if program is None:
        findings.notes.append("BIDS was not checked: the validator is not installed (pip install 'lmri[bids]').")
        return
    validation = subprocess.run([program, str(root), "--format", "json"], capture_output=True, text=True, check=False)
    try:
        issues = json.loads(validation.stdout)["issues"]["issues"]
    except (json.JSONDecodeError, KeyError, TypeError):
        findings.notes.append(f"BIDS was not checked: the validator failed ({validation.stderr.strip()[:200]}).")
        return
    for issue in issues:
        if issue.get("severity") == "error":
            findings.problems.append(
                f"BIDS: {issue.get('code')} at {issue.get('location')}. {issue.get('issueMessage', '')}"
            )
    findings.notes.append("Checked by the BIDS validator.")
