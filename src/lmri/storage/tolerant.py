"""Reading of studies with damaged or outdated parts, which are skipped and listed.

The report and the viewer read studies through these classes, so that both treat the same parts as damaged.
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
from lmri.storage.corpora import tables_of
from lmri.storage.dataset_files import recording_digest
from lmri.storage.entries import NOUNS, Codec, Entry, parse_address
from lmri.storage.freshness import Source, check_fresh
from lmri.storage.identifiers import GROUP
from lmri.storage.layout import ENTRY_KINDS, Layout
from lmri.storage.recording import Recording, check_whole
from lmri.storage.store import Store

logger = logging.getLogger(__name__)

Read = TypeVar("Read")

DAMAGE = (OSError, EOFError, ValueError, LookupError, TypeError, AttributeError, zlib.error, ImageFileError)
"""Errors of reading a file that is missing, truncated or of another format."""


def describe_damage(error: BaseException) -> str:
    """Return the message of an error, preceded by its type unless it is a `ValueError` or an `OSError`."""
    return str(error) if isinstance(error, ValueError | OSError) else f"{type(error).__name__}: {error}"


@dataclass
class Inventory:
    """Contents of a study at one point in time, listed without opening large files.

    Parameters
    ----------
    recordings : dict
        Complete recordings by site and corpus.
    spaces : dict of str to NeuronSpace
        Neuron space of each recorded site, even if none of its recordings is complete.
    entries : dict
        Entries that are complete and up to date, by kind and then by site and name.
    problems : list of str
        Parts that could not be read, with the reasons.
    refused : dict
        Errors of the entries that were not listed, by kind, site and name.
    """

    recordings: dict[tuple[str, str], Recording] = field(default_factory=dict)
    spaces: dict[str, NeuronSpace] = field(default_factory=dict)
    entries: dict[str, dict[tuple[str, str], Entry]] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    refused: dict[tuple[str, str, str], Exception] = field(default_factory=dict)

    @contextmanager
    def attempt(self, what: str, key: tuple[str, str, str] | None = None) -> Iterator[None]:
        """Record an error of the body as a problem, and under `key` if there is one, and continue."""
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
        return {
            corpus: recording for (recorded_site, corpus), recording in self.recordings.items() if recorded_site == site
        }


class StudyReader:
    """Reader that lists the contents of a study and reads parts of it.

    Parameters
    ----------
    store : Store
        Study, with the codecs of all kinds of entries.
    """

    def __init__(self, store: Store) -> None:
        self.study = store

    @property
    def layout(self) -> Layout:
        """Layout of the study."""
        return self.study.layout

    # -- methods that a subclass may override -------------------------------------------------------------------------

    def inside(self, path: Path) -> Path:
        """Return a path that may be read; a subclass may raise an error."""
        return path

    def remember(self, key: Hashable, files: Iterable[Path], read: Callable[[], Read]) -> Read:
        """Read a result that depends only on `files`; a subclass may cache it."""
        return read()

    def read_recording(self, path: Path) -> Recording:
        """Open the recording that belongs to an index file."""
        return self.study.load_recording(path)

    # -- contents -----------------------------------------------------------------------------------------------------

    def look(self) -> Inventory:
        """List the contents of the study."""
        inventory = Inventory()
        self._list_recordings(inventory)
        for kind in ENTRY_KINDS:
            inventory.entries[kind] = {}
            for folder in self.layout.entries(kind):
                label = NOUNS[kind].capitalize()
                with inventory.attempt(f"{label} {folder.name!r} at {folder.parent.name}"):
                    entry = self._entry(kind, folder)
                    with inventory.attempt(f"{label} {entry.name!r} at {entry.site}", (kind, entry.site, entry.name)):
                        self._check(inventory, entry)
                        inventory.entries[kind][entry.site, entry.name] = entry
        return inventory

    def _list_recordings(self, inventory: Inventory) -> None:
        for path in self.layout.recordings():
            if path.name.startswith("."):
                continue  # being written
            with inventory.attempt(f"Recording of {path.stem} at {path.parent.name}"):
                recording = self._recording(path)
                site, corpus = recording.space.site, recording.corpus
                if recording.space != inventory.spaces.setdefault(site, recording.space):
                    raise StudyError("its neurons differ from those of the other recordings. Record it again.")
                for run in recording.runs:
                    for file in (run.img, run.events, run.tokens):
                        self.inside(file)
                check_whole(recording)
                inventory.recordings[site, corpus] = recording

    def _recording(self, path: Path) -> Recording:
        def read() -> Recording:
            recording = self.read_recording(self.inside(path))
            if self.layout.recording(recording.space.site, recording.corpus) != path:
                raise StudyError(
                    f"{path} belongs to {recording.corpus!r} at {recording.space.site}. Move it back to its folder."
                )
            return recording

        return self.remember(("recording", path), [path, *tables_of(self.layout, path.stem)], read)

    def _entry(self, kind: str, folder: Path) -> Entry:
        file = folder / "entry.json"

        def read() -> Entry:
            self.inside(file)
            entry = Entry.read(kind, folder, self.layout.scope)
            if self.layout.entry(kind, entry.site, entry.name) != folder:
                raise StudyError(f"{file} belongs to {entry.name!r} at {entry.site}. Move it back to its folder.")
            return entry

        return self.remember((kind, folder), [file], read)

    def _check(self, inventory: Inventory, entry: Entry) -> None:
        """Raise if files of an entry are missing or truncated, or if the entry is out of date."""
        existing = {path.name for path in entry.folder.iterdir()}
        if missing := [name for name in entry.files if name not in existing]:
            raise StudyError(f"{', '.join(missing)} is missing. Delete {entry.folder} and compute it again.")
        for name in filter(_would_look_whole, entry.files):
            files = [entry.folder / "entry.json", self.inside(entry.folder / name)]
            check = lambda name=name: entry.check_file(name)  # noqa: E731
            if damaged := self.remember(("damage", *files), files, check):
                raise StudyError(damaged)
        if entry.site not in inventory.spaces and self.layout.scope != GROUP:
            raise AmbiguousChoiceError(
                f"there is no recording at {entry.site}, which is needed to assign voxels to neurons."
            )
        check_fresh(self, entry)
        codec = self.codecs[entry.kind]
        for source in codec.references(entry) if codec.opens_sources else ():
            scope, name, _ = parse_address(source.name)
            if not scope and (source.site, name) not in inventory.entries[source.kind]:
                raise StudyError(f"its input, the {source.kind} {source.name!r} at {source.site}, cannot be read.")

    # -- as a source of freshness -------------------------------------------------------------------------------------

    @property
    def codecs(self) -> Mapping[str, Codec[Any]]:
        """Codec of every kind of entry."""
        return self.study.codecs

    def at(self, scope: str) -> Source:
        """Return the source of another scope of the study, which is read without this reader's cache."""
        return self if scope in ("", self.layout.scope) else self.study.at(scope)

    def find(self, kind: str, name: str, site: str) -> Entry:
        """Find one entry, complete or not."""
        folder = self.layout.entry(kind, site, name)
        if not folder.is_dir():
            raise AmbiguousChoiceError(f"{self.study.root} has no {kind} {name!r} at {site}.")
        return self._entry(kind, folder)

    def recording_digest(self, corpus: str, site: str) -> str:
        """Return the hash of the inputs of a recording; its images need not be complete."""
        path = self.layout.recording(site, corpus)
        if not path.is_file():
            raise AmbiguousChoiceError(f"{self.study.root} has no recording of {corpus!r} at {site}.")
        return recording_digest(self._recording(path))


class ReportReader(StudyReader):
    """Reader that reads a study once and lists the parts that could not be read.

    Parameters
    ----------
    store : Store
        Study, with the codecs of all kinds of entries.
    """

    def __init__(self, store: Store) -> None:
        super().__init__(store)
        self._refused: list[Exception] = []

    @cached_property
    def inventory(self) -> Inventory:
        """Contents of the study."""
        return self.look()

    @property
    def problems(self) -> list[str]:
        """Parts that could not be read, with the reasons."""
        return self.inventory.problems

    @property
    def recordings(self) -> list[Recording]:
        """Complete recordings."""
        return list(self.inventory.recordings.values())

    @cached_property
    def entries(self) -> dict[str, list[Entry]]:
        """Entries of each kind that are complete and up to date."""
        return {kind: self.inventory.of_kind(kind) for kind in ENTRY_KINDS}

    @cached_property
    def unfinished(self) -> list[str]:
        """Names of recordings that are in progress or were interrupted."""
        return [path.name for path in self.study.unfinished()]

    def attempt(self, what: str, read: Callable[[], Read], may_refuse: bool = True) -> Read | None:
        """Read one part of the study; if it cannot be read, record the reason and return None.

        Parameters
        ----------
        what : str
            Name of the part, for the message.
        read : callable
            Function that reads the part.
        may_refuse : bool, default=True
            Whether the part is a result of the study; see `raise_if_stale`.
        """
        try:
            return read()
        except DAMAGE as error:
            if may_refuse and _is_refusal(error):
                self._refused.append(error)
            self.problems.append(f"{what}: {describe_damage(error)}")
            return None

    def raise_if_stale(self) -> None:
        """Raise if all files of the study are complete but a result is out of date.

        If files are missing or damaged, results may be out of date for this reason, and the rest can be shown.

        Raises
        ------
        StudyError
            If a result is out of date; the first error is raised.
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
    """Return whether an error means that a result must not be used, rather than that a file or entry is missing."""
    return isinstance(error, StudyError) and not isinstance(error, AmbiguousChoiceError)


def _would_look_whole(file: str) -> bool:
    """Return whether truncation of a table would go unnoticed; other tables have one row per map or volume."""
    return file.endswith((".tsv", ".tsv.gz")) and not file.endswith(("_mixing.tsv", "_metrics.tsv"))
