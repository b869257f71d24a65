"""Finished results: they wait in a hidden folder of the model, and are moved into place under the lock of the study."""

import contextlib
import shlex
from collections.abc import Iterator
from pathlib import Path

from lmri.storage.files import LockedError, write_lock


def move_command(source: Path, target: Path) -> str:
    """Return the command that moves a finished result into place."""
    return f"mv {shlex.quote(str(source))} {shlex.quote(str(target))}"


@contextlib.contextmanager
def placing(root: Path, finished: Path, next_step: str) -> Iterator[None]:
    """Hold the lock of a study while the body moves a finished result into place.

    Parameters
    ----------
    root : Path
        Folder of the study.
    finished : Path
        Folder of the finished result, which is kept if the lock is not free.
    next_step : str
        How to move a kept result into place, for the message.

    Raises
    ------
    LockedError
        If the study is locked for longer than the time to wait.
    """
    try:
        with write_lock(root):
            yield
    except LockedError as error:
        raise LockedError(f"{error} The finished result was kept in {finished}. {next_step}") from None
