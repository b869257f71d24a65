"""Reading a whole study in whatever state it is: parts that are damaged or out of date are left out, and named.

The report and the viewer read studies through the classes here, so that both call the same things damaged.
"""

import logging
import zlib
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from nibabel.filebasedimages import ImageFileError

from lmri.exceptions import AmbiguousChoiceError, StudyError
from lmri.space import NeuronSpace
from lmri.storage.bids import recording_digest
from lmri.storage.entries import NOUNS, Codec, Entry
from lmri.storage.freshness import check_fresh
from lmri.storage.layout import ENTRY_KINDS, Layout
from lmri.storage.recording import Recording, check_whole
from lmri.storage.store import Store

logger = logging.getLogger(__name__)

Read = TypeVar("Read")

DAMAGE = (OSError, EOFError, ValueError, LookupError, TypeError, AttributeError, zlib.error, ImageFileError)
"""Errors of reading a file that is missing, cut short or something else."""


def describe_damage(error: BaseException) -> str:
    """Return the message of an error; messages of errors that are not ours are preceded by the type."""
    return str(error) if isinstance(error, ValueError | OSError) else f"{type(error).__name__}: {error}"


@dataclass
class Inventory:
    """Contents of a study at one moment; large files are not opened for it.

    Parameters
    ----------
    recordings : dict
        Complete recordings by site and corpus.
    spaces : dict of str to NeuronSpace
        The neurons of every site that was recorded, also where no recording is complete.
    entries : dict
        Entries that are complete and up to date, by kind and then by site and name.
    problems : list of str
        Parts that could not be read, and why.
    refused : dict
        Why an entry is not among the others, by kind, site and name.
    """

    recordings: dict[tuple[str, str], Recording] = field(default_factory=dict)
    spaces: dict[str, NeuronSpace] = field(default_factory=dict)
    entries: dict[str, dict[tuple[str, str], Entry]] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    refused: dict[tuple[str, str, str], Exception] = field(default_factory=dict)

    @contextmanager
    def attempt(self, what: str, key: tuple[str, str, str] | None = None) -> Iterator[None]:
        """Name what the body cannot read, under `key` as well if there is one, and continue."""
        try:
            yield
        except DAMAGE as error:
            self.problems.append(f"{what}: {describe_damage(error)}")
            if key is not None:
                self.refused[key] = error

    def of_kind(self, kind: str) -> list[Entry]:
        """List the entries of one kind."""
        return list(self.entries[kind].values())

    def at_site(self, site: str) -> dict[str, Recording]:
        """Return the recordings of a site by corpus."""
        return {corpus: recording for (at, corpus), recording in self.recordings.items() if at == site}


class StudyReader:
    """Lists the contents of a study, and reads parts of it.

    Parameters
    ----------
    store : Store
        The study, with the codecs of all kinds of entries.
    """

    def __init__(self, store: Store) -> None:
        self.study = store

    @property
    def layout(self) -> Layout:
        """The layout of the study."""
        return self.study.layout

    # -- what a subclass may do otherwise -----------------------------------------------------------------------------

    def inside(self, path: Path) -> Path:
        """Return a path that may be read; a subclass may refuse it."""
        return path

    def remember(self, key: Hashable, files: Iterable[Path], read: Callable[[], Read]) -> Read:
        """Read something that is a function of `files`; a subclass may remember it."""
        return read()

    def read_recording(self, path: Path) -> Recording:
        """Open the recording of an index."""
        return self.study.load_recording(path)

    # -- contents -----------------------------------------------------------------------------------------------------

    def look(self) -> Inventory:
        """List the contents of the study."""
        found = Inventory()
        self._list_recordings(found)
        for kind in ENTRY_KINDS:
            found.entries[kind] = {}
            for folder in self.layout.entries(kind):
                label = NOUNS[kind].capitalize()
                with found.attempt(f"{label} {folder.name!r} at {folder.parent.name}"):
                    entry = self._entry(kind, folder)
                    with found.attempt(f"{label} {entry.name!r} at {entry.site}", (kind, entry.site, entry.name)):
                        self._check(found, entry)
                        found.entries[kind][entry.site, entry.name] = entry
        return found

    def _list_recordings(self, found: Inventory) -> None:
        for path in self.layout.recordings():
            if path.name.startswith("."):
                continue  # being written
            with found.attempt(f"Recording of {path.stem} at {path.parent.name}"):
                recording = self._recording(path)
                site, corpus = recording.space.site, recording.corpus
                if recording.space != found.spaces.setdefault(site, recording.space):
                    raise StudyError("it has other neurons than the recordings before it. Record it again.")
                for run in recording.runs:
                    for file in (run.img, run.events, run.tokens):
                        self.inside(file)
                check_whole(recording)
                found.recordings[site, corpus] = recording

    def _recording(self, path: Path) -> Recording:
        def read() -> Recording:
            recording = self.read_recording(self.inside(path))
            if self.layout.recording(recording.space.site, recording.corpus) != path:
                raise StudyError(f"{path} is of {recording.corpus!r} at {recording.space.site}. Put it back there.")
            return recording

        return self.remember(("recording", path), [path, self.layout.texts(path.stem)], read)

    def _entry(self, kind: str, folder: Path) -> Entry:
        file = folder / "entry.json"

        def read() -> Entry:
            self.inside(file)
            entry = Entry.read(kind, folder)
            if self.layout.entry(kind, entry.site, entry.name) != folder:
                raise StudyError(f"{file} is of {entry.name!r} at {entry.site}. Put it back there.")
            return entry

        return self.remember((kind, folder), [file], read)

    def _check(self, found: Inventory, entry: Entry) -> None:
        """Refuse an entry of which files are missing or cut short, or that is out of date."""
        there = {path.name for path in entry.folder.iterdir()}
        if missing := [name for name in entry.files if name not in there]:
            raise StudyError(f"{', '.join(missing)} is missing. Delete {entry.folder}, and make it again.")
        for name in filter(_would_look_whole, entry.files):
            files = [entry.folder / "entry.json", self.inside(entry.folder / name)]
            check = lambda name=name: entry.check_file(name)  # noqa: E731
            if damaged := self.remember(("damage", *files), files, check):
                raise StudyError(damaged)
        if entry.site not in found.spaces:
            raise AmbiguousChoiceError(
                f"there is no recording at {entry.site}, which says which voxel is which neuron."
            )
        check_fresh(self, entry)
        codec = self.codecs[entry.kind]
        for source in codec.references(entry) if codec.opens_sources else ():
            if (source.site, source.name) not in found.entries[source.kind]:
                raise StudyError(f"the {source.kind} {source.name!r} at {source.site}, which it needs, cannot be read.")

    # -- as a source of freshness -------------------------------------------------------------------------------------

    @property
    def codecs(self) -> Mapping[str, Codec[Any]]:
        """The codec of every kind of entry."""
        return self.study.codecs

    def find(self, kind: str, name: str, site: str) -> Entry:
        """Find one entry, whole or not."""
        folder = self.layout.entry(kind, site, name)
        if not folder.is_dir():
            raise AmbiguousChoiceError(f"{self.study.root} has no {kind} {name!r} at {site}.")
        return self._entry(kind, folder)

    def recording_digest(self, corpus: str, site: str) -> str:
        """Return the hash of what a recording is a function of; its images need not be whole."""
        path = self.layout.recording(site, corpus)
        if not path.is_file():
            raise AmbiguousChoiceError(f"{self.study.root} has no recording of {corpus!r} at {site}.")
        return recording_digest(self._recording(path))


class ReportReader(StudyReader):
    """A study that is read once, with a list of what could not be read.

    Parameters
    ----------
    store : Store
        The study, with the codecs of all kinds of entries.
    """

    def __init__(self, store: Store) -> None:
        super().__init__(store)
        self._refused: list[Exception] = []

    @cached_property
    def inventory(self) -> Inventory:
        """The contents of the study."""
        return self.look()

    @property
    def problems(self) -> list[str]:
        """Parts that could not be read, and why."""
        return self.inventory.problems

    @property
    def recordings(self) -> list[Recording]:
        """The complete recordings."""
        return list(self.inventory.recordings.values())

    @cached_property
    def entries(self) -> dict[str, list[Entry]]:
        """The entries of each kind that are complete and up to date."""
        return {kind: self.inventory.of_kind(kind) for kind in ENTRY_KINDS}

    @cached_property
    def unfinished(self) -> list[str]:
        """Names of recordings that are being made, or were interrupted."""
        return [path.name for path in self.study.unfinished()]

    def attempt(self, what: str, read: Callable[[], Read], may_refuse: bool = True) -> Read | None:
        """Read one thing; if it cannot be read, remember why, and return None.

        Parameters
        ----------
        what : str
            Begins the message about it.
        read : callable
            Reads it.
        may_refuse : bool, default=True
            Whether it is a result of the study: see `raise_if_stale`.
        """
        try:
            return read()
        except DAMAGE as error:
            if may_refuse and _is_refusal(error):
                self._refused.append(error)
            self.problems.append(f"{what}: {describe_damage(error)}")
            return None

    def raise_if_stale(self) -> None:
        """Refuse a study of which all files are whole, but something was made from what has been replaced since.

        Where files are missing or damaged, that is the reason, and what is left can be shown.

        Raises
        ------
        StudyError
            The first that was raised.
        """
        refused = [error for error in self.inventory.refused.values() if _is_refusal(error)]
        if (refused or self._refused) and self._is_whole():
            raise (refused or self._refused)[0]
        for problem in self.problems:
            logger.warning("Not in the report: %s", problem)

    def _is_whole(self) -> bool:
        if len(self.inventory.recordings) < len(self.layout.recordings()):
            return False
        for kind in ENTRY_KINDS:
            for folder in self.layout.entries(kind):
                try:
                    damaged = self._entry(kind, folder).check_files()
                except DAMAGE:
                    return False
                if damaged:
                    return False
        return True


def _is_refusal(error: Exception) -> bool:
    """Return whether an error says that a result must not be used, rather than that something is not there."""
    return isinstance(error, StudyError) and not isinstance(error, AmbiguousChoiceError)


def _would_look_whole(file: str) -> bool:
    """Return whether a table would look complete without its last rows; others have one row per map or volume."""
    return file.endswith((".tsv", ".tsv.gz")) and not file.endswith(("_mixing.tsv", "_metrics.tsv"))
