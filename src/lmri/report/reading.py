"""Reading a whole study, whatever state it is in: what is not whole is left out, and named."""

import logging
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import TypeVar

from nibabel.filebasedimages import ImageFileError

from lmri import storage
from lmri.exceptions import AmbiguousChoiceError, StudyError
from lmri.storage.entries import Entry
from lmri.storage.recording import Recording, check_whole
from lmri.storage.store import Store

logger = logging.getLogger(__name__)

Read = TypeVar("Read")

_DAMAGE = (OSError, EOFError, ValueError, LookupError, TypeError, zlib.error, ImageFileError)
"""What reading a file raises that is missing, cut short or something else."""


@dataclass
class Shelf:
    """A study, with a list of what could not be read.

    Parameters
    ----------
    study : Store
        What is read.
    """

    study: Store
    problems: list[str] = field(default_factory=list)
    _refused: list[StudyError] = field(default_factory=list)

    def attempt(self, what: str, read: Callable[[], Read], may_refuse: bool = True) -> Read | None:
        """Read one thing; if it cannot be, remember why, and give None.

        Parameters
        ----------
        what : str
            Begins the words about it.
        read : callable
            Reads it.
        may_refuse : bool, default=True
            Whether it is a result of the study: see `settle`.
        """
        try:
            return read()
        except _DAMAGE as error:
            if may_refuse and isinstance(error, StudyError) and not isinstance(error, AmbiguousChoiceError):
                self._refused.append(error)
            words = str(error) if isinstance(error, ValueError | OSError) else f"{type(error).__name__}: {error}"
            self.problems.append(f"{what}: {words}")
            return None

    def settle(self) -> None:
        """Refuse a study that is whole, but of which something was made from what has been replaced since.

        Where files are missing or damaged, that is the reason, and what is left can be shown.

        Raises
        ------
        StudyError
            The first that was raised.
        """
        if self._refused and self._is_whole():
            raise self._refused[0]
        for problem in self.problems:
            logger.warning("Not in the report: %s", problem)

    def _is_whole(self) -> bool:
        if len(self.recordings) < len(self.study.layout.recordings()):
            return False
        n_folders = sum(len(self.study.layout.entries(kind)) for kind in storage.ENTRY_KINDS)
        entries = [entry for kind in storage.ENTRY_KINDS for entry in self.entries[kind]]
        return len(entries) == n_folders and not any(entry.check_files() for entry in entries)

    @cached_property
    def recordings(self) -> list[Recording]:
        """The recordings that are whole."""
        found = self.attempt("Recordings", self.study.recordings) or []
        whole = [self.attempt(f"Recording of {one.corpus} at {one.space.site}", partial(_whole, one)) for one in found]
        return [one for one in whole if one is not None]

    @cached_property
    def entries(self) -> dict[str, list[Entry]]:
        """The entries of each kind that say what they are."""
        return {kind: self._entries(kind) for kind in storage.ENTRY_KINDS}

    def _entries(self, kind: str) -> list[Entry]:
        found = []
        for folder in self.study.layout.entries(kind):
            name, site = folder.name, folder.parent.name
            entry = self.attempt(f"{kind} {name!r} at {site}", partial(_complete, self.study, kind, name, site))
            if entry is not None:
                found.append(entry)
        return found

    @cached_property
    def unfinished(self) -> list[str]:
        """Names of recordings that are being made, or were interrupted."""
        return [path.name for path in self.study.unfinished()]

    def recordings_at(self, site: str) -> dict[str, Recording]:
        """Give the recordings of a site by corpus."""
        return {one.corpus: one for one in self.recordings if one.space.site == site}


def _whole(recording: Recording) -> Recording:
    check_whole(recording)
    return recording


def _complete(study: Store, kind: str, name: str, site: str) -> Entry:
    """Open an entry, and see that it says all that an entry says."""
    entry = study.entries.find(kind, name, site)
    for part in ("inputs", "parameters", "results", "versions", "files"):
        if not isinstance(entry.info.get(part), dict):
            raise StudyError(
                f"{entry.folder / 'entry.json'} does not say what its {part} are. Delete {entry.folder}, "
                "and make it again."
            )
    for file in filter(_may_be_short, entry.info["files"]):
        if damaged := entry.check_file(file):
            raise StudyError(damaged)
    return entry


def _may_be_short(file: str) -> bool:
    """Say whether a table would pass for whole without its last rows; others have a row a map, or a volume."""
    return file.endswith((".tsv", ".tsv.gz")) and not file.endswith(("_mixing.tsv", "_metrics.tsv"))
