"""Entries: named results that record what they were computed from, and are never overwritten."""

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

from lmri.exceptions import AmbiguousChoiceError, EntryExistsError, StudyError
from lmri.storage.files import read_json, whole, write_json, writing
from lmri.storage.layout import Layout, check_new_name
from lmri.storage.log import write_log
from lmri.storage.provenance import digest, file_hash, versions

if TYPE_CHECKING:
    from lmri.storage.store import Store

Stored = TypeVar("Stored")

File = Callable[[str], Path]
"""Turns the suffix of a file of an entry into its path."""

RECORDINGS = "recordings"
"""Kind of a reference to a recording, which is no entry."""

_PARTS = ("inputs", "parameters", "results", "versions", "files")


@dataclass(frozen=True)
class Reference:
    """A recording or an entry that an entry was computed from.

    Parameters
    ----------
    kind : str
        ``"recordings"``, or a kind of entry.
    name : str
        Name of the entry; of a recording, its corpus.
    site : str
        Site of the neurons.
    digest : str
        Digest that it had when the entry was computed.
    """

    kind: str
    name: str
    site: str
    digest: str


@dataclass(frozen=True)
class Entry:
    """A decomposition, network set, comparison, score table or experiment of a study.

    Parameters
    ----------
    kind : {"decompositions", "networks", "comparisons", "scores", "experiments"}
        Kind of the entry.
    site : str
        Site of the neurons.
    name : str
        Unique per kind and site.
    folder : Path
        Folder of its files.
    inputs, parameters, results : mapping
        What it was computed from, how, and what is known of it without opening its files.
    versions : mapping of str to str
        Versions of the packages that computed it.
    files : mapping of str to str
        Hash of each file by its name.
    """

    kind: str
    site: str
    name: str
    folder: Path
    inputs: Mapping[str, Any]
    parameters: Mapping[str, Any]
    results: Mapping[str, Any]
    versions: Mapping[str, str]
    files: Mapping[str, str]

    @classmethod
    def read(cls, kind: str, folder: Path) -> "Entry":
        """Read the entry that is stored in a folder.

        Raises
        ------
        StudyError
            If its description is missing, damaged or incomplete.
        """
        path = folder / "entry.json"
        content = read_json(path)
        if not isinstance(content, dict) or not all(isinstance(content.get(key), str) for key in ("site", "name")):
            raise StudyError(f"{path} does not name the entry and its site. Delete {folder}, and make it again.")
        for part in _PARTS:
            if not isinstance(content.get(part), dict):
                raise StudyError(f"{path} does not say what its {part} are. Delete {folder}, and make it again.")
        return cls(kind, content["site"], content["name"], folder, **{part: content[part] for part in _PARTS})

    @cached_property
    def digest(self) -> str:
        """Hash of inputs, parameters and the content of the files."""
        return digest([self.inputs, self.parameters, self.files])

    def check_files(self) -> list[str]:
        """List the files that are missing or not what was written."""
        return [found for name in self.files if (found := self.check_file(name))]

    def check_file(self, name: str) -> str:
        """Say what is wrong with one of the files; empty if nothing is."""
        path = self.folder / name
        if path.is_file() and file_hash(path) == self.files.get(name):
            return ""
        return f"{path} is missing or was changed. Delete {self.folder} and make it again."


class Codec(ABC, Generic[Stored]):
    """How one kind of result is stored as an entry. Each kind has one codec, next to the class that it stores."""

    kind: ClassVar[str]
    opens_sources: ClassVar[bool] = False
    """Whether reading an entry opens the entries that it was computed from, so that these have to be whole."""

    @abstractmethod
    def references(self, entry: Entry) -> list[Reference]:
        """List what an entry was computed from, whatever version of lmri wrote it."""

    @abstractmethod
    def read(self, store: "Store", entry: Entry) -> Stored:
        """Read an entry that is up to date."""


@dataclass(frozen=True)
class Entries:
    """The entries of a study.

    Parameters
    ----------
    layout : Layout
        Layout of the study.
    """

    layout: Layout

    def list(self, kind: str, site: str | None = None) -> Sequence[Entry]:
        """List the entries of one kind, of one site or of all."""
        found = [Entry.read(kind, folder) for folder in self.layout.entries(kind)]
        return [entry for entry in found if site is None or entry.site == site]

    def find(self, kind: str, name: str | None = None, site: str | None = None) -> Entry:
        """Find one entry.

        Raises
        ------
        AmbiguousChoiceError
            If several fit, or none; the message lists the options.
        """
        if name is not None and site is not None and (folder := self.layout.entry(kind, site, name)).is_dir():
            return Entry.read(kind, folder)  # whatever may be wrong with the others
        fitting = [one for one in self.list(kind, site) if name is None or one.name == name]
        if len(fitting) == 1:
            return fitting[0]
        options = [{"name": one.name, "site": one.site} for one in fitting or self.list(kind)]
        raise ambiguous(self.layout, kind, {"name": name, "site": site}, options, bool(fitting))

    def has(
        self,
        kind: str,
        site: str,
        name: str,
        inputs: Mapping[str, Any],
        parameters: Mapping[str, Any],
        hint: str = "choose another --name",
    ) -> bool:
        """Return whether exactly this entry is stored; `hint` is the next step if it is another one.

        Raises
        ------
        EntryExistsError
            If the name is taken by one that was made otherwise.
        """
        folder = self.layout.entry(kind, site, name)
        siblings = {path.name for path in folder.parent.iterdir()} if folder.parent.is_dir() else set()
        check_new_name(name, siblings, f"name among the {kind} at {site}")
        if name not in siblings:
            return False
        old = read_json(folder / "entry.json")
        new = json.loads(json.dumps({"inputs": dict(inputs), "parameters": dict(parameters)}))
        changed = [
            f"{key}: {old[part].get(key)!r} there, {new[part].get(key)!r} now"
            for part in ("inputs", "parameters")
            for key in sorted({*old[part], *new[part]})
            if old[part].get(key) != new[part].get(key)
        ]
        if not changed:
            return True
        raise EntryExistsError(
            f"{name!r} exists among the {kind} at {site} in {self.layout.root} and was made otherwise "
            f"({'; '.join(changed)}). Nothing is overwritten: {hint}, or delete {folder}."
        )

    def write(
        self,
        kind: str,
        site: str,
        name: str,
        inputs: Mapping[str, Any],
        parameters: Mapping[str, Any],
        results: Mapping[str, Any],
        write: Callable[[Path], None],
        hint: str = "choose another --name",
    ) -> Entry:
        """Write a new entry whole, or give the one that is there if it is the same.

        Parameters
        ----------
        kind, site, name : str
            Its place.
        inputs, parameters : mapping
            What it is a function of.
        results : mapping
            What is worth knowing without opening its files.
        write : callable
            Called with the folder to write its files to.
        hint : str
            What to do if the name is taken by another entry.
        """
        if self.has(kind, site, name, inputs, parameters, hint):
            return self.find(kind, name, site)
        with writing(self.layout.root):
            with whole(self.layout.entry(kind, site, name)) as folder:
                folder.mkdir(parents=True)
                write(folder)
                content = {
                    "kind": kind,
                    "name": name,
                    "site": site,
                    "inputs": dict(inputs),
                    "parameters": dict(parameters),
                    "results": dict(results),
                    "versions": versions(),
                    "files": {path.name: file_hash(path) for path in sorted(folder.iterdir())},
                }
                write_json(folder / "entry.json", content)
            write_log(self.layout, kind, name=name, site=site)
        return self.find(kind, name, site)


NOUNS = {
    RECORDINGS: "recording",
    "decompositions": "decomposition",
    "networks": "networks",
    "comparisons": "comparison",
    "scores": "scores",
    "experiments": "experiment",
}
"""What messages call one recording or entry of each kind."""


def stale(entry: Entry, reference: Reference) -> StudyError:
    """Return the error of an entry that is out of date."""
    noun = NOUNS[entry.kind]
    are, they = ("are", "they were") if noun.endswith("s") else ("is", "it was")
    return StudyError(
        f"{noun.capitalize()} {entry.name!r} at {entry.site} {are} out of date: the {NOUNS[reference.kind]} "
        f"{reference.name!r} at {reference.site} has been replaced since {they} computed. Delete {entry.folder}, and "
        "make it again."
    )


def ambiguous(
    layout: Layout, kind: str, asked: Mapping[str, Any], options: Sequence[Mapping[str, str]], several: bool
) -> AmbiguousChoiceError:
    """Say that a request fits several things or none, and list what there is."""
    wish = ", ".join(f"{key}={value!r}" for key, value in asked.items() if value is not None) or "nothing was chosen"
    if not options:
        return AmbiguousChoiceError(
            f"{layout.root} has no {kind} yet ({wish}). Make them first; `lmri --help` says how."
        )
    listed = "; ".join(", ".join(f"{key}={value!r}" for key, value in option.items()) for option in options)
    problem = "Several" if several else "None"
    differ = [key for key in ("site", "corpus") if len({option.get(key) for option in options}) > 1]
    how = f" On the command line: {' or '.join(f'--{key}' for key in differ)}." if differ else ""
    return AmbiguousChoiceError(f"{problem} of the {kind} in {layout.root} fit ({wish}). Choose from: {listed}.{how}")
