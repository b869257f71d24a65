"""Entries: named results that record their inputs and are never overwritten.

The module is long because it defines the address, the reference, the entry and its codec, which refer to each other.
"""

import json
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

from lmri.exceptions import AmbiguousChoiceError, EntryExistsError, StudyError
from lmri.storage.files import atomic_path, read_json, remove_empty, write_json
from lmri.storage.identifiers import check_new_name
from lmri.storage.layout import Layout
from lmri.storage.log import write_log
from lmri.storage.placing import move_command, placing
from lmri.storage.provenance import digest, file_hash, versions

if TYPE_CHECKING:
    from lmri.storage.store import Store

Stored = TypeVar("Stored")

File = Callable[[str], Path]
"""Function from the suffix of a file of an entry to its path."""

RECORDINGS = "recordings"
"""Kind of a reference to a recording rather than to an entry."""

Address = tuple[str, str, str]
"""Scope, name and site of a recording or an entry; scope and site are empty if the reference determines them."""


def parse_address(address: str) -> Address:
    """Parse the address of a recording or an entry: ``NAME``, ``NAME@SITE`` or ``SCOPE/NAME@SITE``.

    Examples
    --------
    >>> parse_address("ica"), parse_address("ica@mlp_out"), parse_address("sub-gpt2_ses-int8/ica@mlp_out")
    (('', 'ica', ''), ('', 'ica', 'mlp_out'), ('sub-gpt2_ses-int8', 'ica', 'mlp_out'))
    """
    scope, _, rest = address.rpartition("/")
    name, _, site = rest.partition("@")
    return scope, name, site


def as_name(address: str) -> str:
    """Return a name for a new entry from the address of another, such as ``"group-g-mlp_out"``.

    Examples
    --------
    >>> as_name("group/g@mlp_out"), as_name("ica")
    ('group-g-mlp_out', 'ica')
    """
    return address.replace("/", "-").replace("@", "-")


def make_address(scope: str, name: str, site: str) -> str:
    """Return the address of a recording or an entry in a scope; `parse_address` is the inverse."""
    return f"{scope}/{name}@{site}"


_PARTS = ("inputs", "parameters", "results", "versions", "files")


@dataclass(frozen=True)
class Reference:
    """A recording or an entry that an entry was computed from.

    Parameters
    ----------
    kind : str
        Kind of the reference: ``"recordings"``, or a kind of entry.
    name : str
        Name of the entry; of a recording, its corpus. In another scope, its address (see `parse_address`).
    site : str
        Site of the neurons.
    digest : str
        Digest of the recording or entry when the entry was computed.
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
        Name of the entry, unique per kind and site.
    folder : Path
        Folder of its files.
    inputs, parameters, results : mapping
        Inputs and parameters of the computation, and results that can be read without opening the files.
    versions : mapping of str to str
        Versions of the packages that computed it.
    files : mapping of str to str
        Hash of each file by its name.
    scope : str
        Scope of the entry: a subject, a session of a subject, or the group.
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
    scope: str = ""

    @classmethod
    def read(cls, kind: str, folder: Path, scope: str = "") -> "Entry":
        """Read the entry that is stored in a folder of a scope.

        Raises
        ------
        StudyError
            If its description is missing, damaged or incomplete.
        """
        path = folder / "entry.json"
        content = read_json(path)
        if not all(isinstance(content.get(key), str) for key in ("site", "name")):
            raise StudyError(
                f"{path} does not contain the name and site of the entry. Delete {folder} and compute it again."
            )
        for part in _PARTS:
            if not isinstance(content.get(part), dict):
                raise StudyError(f"{path} does not contain {part!r}. Delete {folder} and compute it again.")
        parts = {part: content[part] for part in _PARTS}
        return cls(kind, content["site"], content["name"], folder, **parts, scope=scope)

    @cached_property
    def digest(self) -> str:
        """Hash of inputs, parameters and the content of the files."""
        return digest([self.inputs, self.parameters, self.files])

    def check_files(self) -> list[str]:
        """List the problems of files that are missing or were changed since they were written."""
        return [problem for name in self.files if (problem := self.check_file(name))]

    def check_file(self, name: str) -> str:
        """Return the problem of one of the files; an empty string if it is complete and unchanged."""
        path = self.folder / name
        if path.is_file() and file_hash(path) == self.files.get(name):
            return ""
        return f"{path} is missing or was changed. Delete {self.folder} and compute it again."


class Codec(ABC, Generic[Stored]):
    """Storage of one kind of result as an entry. Each kind has one codec, next to the class that it stores."""

    kind: ClassVar[str]
    opens_sources: ClassVar[bool] = False
    """Whether reading an entry opens the entries that it was computed from, which must then be complete."""

    @abstractmethod
    def references(self, entry: Entry) -> list[Reference]:
        """List the recordings and entries that an entry was computed from; entries of all versions can be read."""

    @abstractmethod
    def read(self, store: "Store", entry: Entry) -> Stored:
        """Read an entry that is up to date."""

    def renamed(self, stored: Stored, address: str) -> Stored:
        """Return a result of another scope under its address, by which it can be found again."""
        return stored


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
        """List the entries of one kind, at one site or at all sites."""
        entries = [Entry.read(kind, folder, self.layout.scope) for folder in self.layout.entries(kind)]
        return [entry for entry in entries if site is None or entry.site == site]

    def find(self, kind: str, name: str | None = None, site: str | None = None) -> Entry:
        """Find one entry.

        Raises
        ------
        AmbiguousChoiceError
            If several fit, or none; the message lists the options.
        """
        if name is not None and site is not None and (folder := self.layout.entry(kind, site, name)).is_dir():
            return Entry.read(kind, folder, self.layout.scope)  # even if other entries are damaged
        fitting = [entry for entry in self.list(kind, site) if name is None or entry.name == name]
        if len(fitting) == 1:
            return fitting[0]
        options = [{"name": entry.name, "site": entry.site} for entry in fitting or self.list(kind)]
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
        """Return whether exactly this entry is stored; `hint` is the next step if a different entry has its name.

        Raises
        ------
        EntryExistsError
            If the name is taken by an entry with other inputs or parameters.
        """
        folder = self.layout.entry(kind, site, name)
        siblings = {path.name for path in folder.parent.iterdir()} if folder.parent.is_dir() else set()
        check_new_name(name, siblings, f"name among the {kind} at {site}")
        if name not in siblings:
            return self._take_kept(kind, site, name, inputs, parameters)
        changed = _changes(folder, inputs, parameters)
        if not changed:
            return True
        noun = NOUNS[kind]
        raise EntryExistsError(
            f"{noun.capitalize()} {name!r} ({site}) already exist{'' if noun.endswith('s') else 's'} with different "
            f"settings ({'; '.join(changed)}). Nothing was overwritten: {hint}, or delete {folder}."
        )

    def _take_kept(
        self, kind: str, site: str, name: str, inputs: Mapping[str, Any], parameters: Mapping[str, Any]
    ) -> bool:
        """Move a finished result into place that an earlier command could not move; return whether there was one."""
        for finished in self.layout.kept_entries(kind, site, name):
            if not _changes(finished, inputs, parameters):
                self._move_into_place(kind, site, name, finished)
                return True
        return False

    def _move_into_place(self, kind: str, site: str, name: str, finished: Path) -> None:
        """Move a finished entry into place under the lock of the study, and log it.

        Raises
        ------
        LockedError
            If the study is locked for longer than the time to wait; the finished entry is kept.
        EntryExistsError
            If an entry of this name was stored meanwhile; the finished entry is kept.
        """
        folder = self.layout.entry(kind, site, name)
        command = move_command(finished, folder)
        next_step = f"The same command moves it into place without computing it again; so does: {command}"
        with placing(self.layout.root, finished, next_step):
            if not finished.exists() and folder.exists():
                return  # the same command, run again meanwhile, has moved it
            folder.parent.mkdir(parents=True, exist_ok=True)
            if folder.exists():
                raise EntryExistsError(
                    f"{NOUNS[kind].capitalize()} {name!r} ({site}) was stored by another command meanwhile. The "
                    f"finished result was kept in {finished}: compare it with {folder}, and delete one of them."
                )
            finished.replace(folder)
            write_log(self.layout, kind, name=name, site=site)
        remove_empty(finished.parent, self.layout.folder)

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
        """Write a new entry atomically, or return the stored entry if it has the same inputs and parameters.

        Parameters
        ----------
        kind, site, name : str
            Kind, site and name of the entry.
        inputs, parameters : mapping
            Inputs and parameters that determine the result.
        results : mapping
            Results that can be read without opening the files.
        write : callable
            Function that writes the files to the folder that it is called with.
        hint : str
            Next step for the error message if the name is taken by another entry.
        """
        if self.has(kind, site, name, inputs, parameters, hint):
            return self.find(kind, name, site)
        finished = self.layout.new_kept_entry(kind, site, name)
        # Another process may be writing an entry of the same name.
        with atomic_path(finished, f"-{os.getpid()}") as folder:
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
        self._move_into_place(kind, site, name, finished)
        return self.find(kind, name, site)


_WORDING = {"description"}
"""Parameters that are worded by this version and determine no result."""


def _changes(folder: Path, inputs: Mapping[str, Any], parameters: Mapping[str, Any]) -> list[str]:
    """Describe the differences between the inputs and parameters of a stored entry and those of a request."""
    old = read_json(folder / "entry.json")
    new = json.loads(json.dumps({"inputs": dict(inputs), "parameters": dict(parameters)}))
    return [
        f"{key}: {old[part].get(key)!r} stored, {new[part].get(key)!r} requested"
        for part in ("inputs", "parameters")
        for key in sorted({*old[part], *new[part]} - _WORDING)
        if old[part].get(key) != new[part].get(key)
    ]


NOUNS = {
    RECORDINGS: "recording",
    "decompositions": "decomposition",
    "networks": "networks",
    "comparisons": "comparison",
    "scores": "scores",
    "experiments": "experiment",
}
"""Noun for a recording or an entry of each kind in messages."""


def stale(entry: Entry, reference: Reference) -> StudyError:
    """Return the error of an entry that is out of date."""
    noun = NOUNS[entry.kind]
    are, they, them = ("are", "they were", "them") if noun.endswith("s") else ("is", "it was", "it")
    have = "have" if NOUNS[reference.kind].endswith("s") else "has"
    return StudyError(
        f"{noun.capitalize()} {entry.name!r} ({entry.site}) {are} out of date: the {NOUNS[reference.kind]} "
        f"{reference.name!r} ({reference.site}) {have} changed since {they} computed. Delete {entry.folder} and "
        f"compute {them} again."
    )


def ambiguous(
    layout: Layout, kind: str, request: Mapping[str, Any], options: Sequence[Mapping[str, str]], several: bool
) -> AmbiguousChoiceError:
    """Return the error of a request that fits several recordings or entries or none, with the list of options."""
    chosen = _described(request)
    if not options:
        return AmbiguousChoiceError(
            f"{layout.root} contains no {kind} yet. Compute them first; `lmri --help` lists the commands."
        )
    listed = ", ".join(map(_choice, options))
    if several and not chosen:
        problem = f"{layout.root} contains several {kind}, and none was chosen."
    else:
        problem = f"There are {'several' if several else 'no'} {kind}{chosen} in {layout.root}."
    differ = [key for key in ("site", "corpus") if len({option.get(key) for option in options}) > 1]
    how = f" Use {' or '.join(f'--{key}' for key in differ)} ({', '.join(f'{key}=' for key in differ)} in Python)."
    return AmbiguousChoiceError(f"{problem} Choose from: {listed}.{how if differ else ''}")


def _described(request: Mapping[str, Any]) -> str:
    """Describe a choice: ``" named 'ica' at mlp_out"``; an empty string if nothing was chosen."""
    words = {"name": " named {!r}", "corpus": " of the corpus {!r}", "site": " at {}"}
    return "".join(words[key].format(value) for key, value in request.items() if value is not None)


def _choice(option: Mapping[str, str]) -> str:
    """Format an option: ``"ica (mlp_out)"``, or ``"mlp_out"`` if only the site can be chosen."""
    name = option.get("name") or option.get("corpus")
    return f"{name} ({option['site']})" if name else option["site"]
