"""Atomic writes and locks.

A file or folder is complete as soon as it exists under its name: it is first written under a hidden name in the same
folder, and renamed when it is complete.
"""

import contextlib
import json
import os
import shutil
from collections.abc import Iterator
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import filelock
import nibabel as nib

from lmri.exceptions import StudyError

PARTIAL = ".partial-"
"""Prefix of the names of incomplete files and folders."""

LOCK = ".lmri-lock"
"""Name of the lock file of a study, held while a model is added or a result is moved into place, and of the lock file
of a model, held while it is recorded."""

WAIT = 600.0
"""Default time to wait for the lock of a study, in seconds."""

_wait: ContextVar[float] = ContextVar("lock_wait", default=WAIT)


@contextlib.contextmanager
def lock_wait(seconds: float) -> Iterator[None]:
    """Set the time to wait for the lock of a study while the body runs.

    Raises
    ------
    ValueError
        If the time is negative.
    """
    if not seconds >= 0:
        raise ValueError(f"wait is {seconds}; it must be 0 (do not wait) or a number of seconds.")
    token = _wait.set(seconds)
    try:
        yield
    finally:
        _wait.reset(token)


class LockedError(StudyError):
    """Raised when another command holds a lock for longer than the time to wait."""


@contextlib.contextmanager
def atomic_path(path: Path, ending: str = "") -> Iterator[Path]:
    """Yield a hidden path to write to, and rename it to `path` if the body ends without an error.

    Parameters
    ----------
    path : Path
        Final path of the file or folder; its parent folders are created.
    ending : str
        Ending of the hidden name, if several processes may write the same path.

    Yields
    ------
    Path
        Temporary path. It has the suffix of `path`, because writers choose the format by the suffix.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(PARTIAL + path.name + ending)
    remove(partial)
    try:
        yield partial
        partial.replace(path)
    except BaseException:
        remove(partial)
        raise


@contextlib.contextmanager
def write_lock(root: Path, wait: float | None = None) -> Iterator[None]:
    """Hold the lock of a study while the body adds a model or moves a result into place.

    The body should be short: other commands wait for it. The lock of a killed command is released.

    Parameters
    ----------
    root : Path
        Folder of the study; created if it does not exist.
    wait : float, optional
        Time to wait for a command that is writing, in seconds; by default the time of `lock_wait`, 10 minutes.

    Raises
    ------
    LockedError
        If another command is still writing to it after this time.
    """
    seconds = _wait.get() if wait is None else wait
    message = (
        f"Another command is writing to {root}, and did not finish within {seconds:g} seconds. Run this command again "
        "when it has ended, or wait longer (--wait)."
    )
    with locked(root / LOCK, message, seconds):
        yield


def unwritable(folder: Path, why: str) -> StudyError:
    """Return the error of a folder that cannot be written to."""
    return StudyError(
        f"{folder} cannot be written to ({why}). Copy the study to a folder of your own, or ask its owner; the report "
        "can be written elsewhere: lmri report STUDY --out report.html (with --subject, if there are several models)."
    )


def check_writable(root: Path) -> None:
    """Raise if a folder cannot be written to, before anything is computed for it."""
    if root.is_dir() and not os.access(root, os.W_OK | os.X_OK):
        raise unwritable(root, "it is read-only for this account")


@contextlib.contextmanager
def locked(path: Path, message: str, wait: float = 0) -> Iterator[None]:
    """Hold the lock at `path` while the body runs; raise `LockedError` with `message` if another process holds it."""
    lock = filelock.FileLock(path, timeout=wait)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except filelock.Timeout:
        raise LockedError(message) from None
    except OSError as error:
        raise unwritable(path.parent, error.strerror or str(error)) from error
    try:
        yield
    finally:
        lock.release()


def is_locked(root: Path) -> bool:
    """Return whether another process is writing to a study; False if this account cannot lock it."""
    if not (root / LOCK).exists():
        return False
    try:
        with locked(root / LOCK, ""):
            return False
    except StudyError:
        return os.access(root, os.W_OK | os.X_OK)


def remove(path: Path) -> None:
    """Delete a file or folder if it exists."""
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def remove_empty(folder: Path, above: Path) -> None:
    """Remove a folder and its parents below `above` as long as they are empty; a folder in use by others remains."""
    while folder != above and folder.is_relative_to(above):
        try:
            folder.rmdir()
        except OSError:  # not empty, or removed by another process
            return
        folder = folder.parent


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically, as UTF-8 with Unix line endings."""
    with atomic_path(path) as partial:
        partial.write_bytes(text.encode("utf-8"))


def write_json(path: Path, content: Any) -> None:
    """Write a JSON file atomically; NaN raises an error, because JSON cannot represent it."""
    write_text(path, json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON file that contains an object, as all JSON files of a study do.

    Raises
    ------
    StudyError
        If the file is missing, is not JSON or contains something else.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise StudyError(f"{path} is missing. Run `lmri validate` to list all missing files.") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise StudyError(f"{path} is not complete JSON ({error}). Delete it and create it again.") from error
    if not isinstance(content, dict):
        raise StudyError(f"{path} contains {str(content)[:40]!r}, not a JSON object. Delete it and create it again.")
    return content


def save_img(img: nib.Nifti1Image, path: Path) -> None:
    """Write an image atomically; the same image always results in the same bytes."""
    with atomic_path(path) as partial:
        nib.save(img, partial)
