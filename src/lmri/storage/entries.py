"""Entries: results with a name, which say what they were made of, and are never overwritten."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lmri.exceptions import AmbiguousChoiceError, EntryExistsError, StudyError
from lmri.storage.files import read_json, whole, write_json, writing
from lmri.storage.layout import Layout, check_new_name
from lmri.storage.log import write_log
from lmri.storage.provenance import digest, file_hash, versions

File = Callable[[str], Path]


@dataclass(frozen=True)
class Entry:
    """A decomposition, network set, comparison, score table or experiment of a study.

    Parameters
    ----------
    kind : {"decompositions", "networks", "comparisons", "scores", "experiments"}
        What it is.
    site : str
        Of the neurons.
    name : str
        Unique among its kind and site.
    folder : Path
        Where its files lie.
    info : dict
        ``inputs``, ``parameters``, ``results`` and ``versions``.
    """

    kind: str
    site: str
    name: str
    folder: Path
    info: dict[str, Any]

    @property
    def digest(self) -> str:
        """Hash of what it is: inputs, parameters and the content of its files."""
        return digest([self.info["inputs"], self.info["parameters"], self.info["files"]])

    def check_files(self) -> list[str]:
        """List the files that are missing or not what was written."""
        return [found for name in self.info["files"] if (found := self.check_file(name))]

    def check_file(self, name: str) -> str:
        """Say what is wrong with one of the files; empty if nothing is."""
        path = self.folder / name
        if path.is_file() and file_hash(path) == self.info["files"].get(name):
            return ""
        return f"{path} is missing or was changed. Delete {self.folder} and make it again."


@dataclass(frozen=True)
class Entries:
    """The entries of a study.

    Parameters
    ----------
    layout : Layout
        Of the study.
    """

    layout: Layout

    def list(self, kind: str, site: str | None = None) -> Sequence[Entry]:
        """List the entries of one kind, of one site or of all."""
        found = [self._open(kind, folder) for folder in self.layout.entries(kind)]
        return [entry for entry in found if site is None or entry.site == site]

    def _open(self, kind: str, folder: Path) -> Entry:
        info = read_json(folder / "entry.json")
        return Entry(kind, info["site"], info["name"], folder, info)

    def find(self, kind: str, name: str | None = None, site: str | None = None) -> Entry:
        """Find one entry.

        Raises
        ------
        AmbiguousChoiceError
            If several fit, or none; the message lists the options.
        """
        if name is not None and site is not None and (folder := self.layout.entry(kind, site, name)).is_dir():
            return self._open(kind, folder)  # whatever may be wrong with the others
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
        """Say whether exactly this entry is there; `hint` is the next step if it is another one.

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


def stale(entry: Entry, parent: str) -> StudyError:
    """Say that an entry does not belong to what is there now."""
    return StudyError(
        f"{entry.kind} {entry.name!r} at {entry.site} were made from another version of the {parent}, which has been "
        f"replaced since. Delete {entry.folder}, and make it again."
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
