"""Entries: results with a name, which say what they were made of, and are never overwritten."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lmri import storage
from lmri.exceptions import AmbiguousChoiceError, EntryExistsError
from lmri.storage import Layout


@dataclass(frozen=True)
class Entry:
    """A decomposition, network set, comparison or score table of a study.

    Parameters
    ----------
    kind : {"decompositions", "networks", "comparisons", "scores"}
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
        found = []
        for folder in self.layout.entries(kind):
            info = storage.read_json(folder / "entry.json")
            if site is None or info["site"] == site:
                found.append(Entry(kind, info["site"], info["name"], folder, info))
        return found

    def find(self, kind: str, name: str | None = None, site: str | None = None) -> Entry:
        """Find one entry.

        Raises
        ------
        AmbiguousChoiceError
            If several fit, or none; the message lists the options.
        """
        fitting = [one for one in self.list(kind, site) if name is None or one.name == name]
        if len(fitting) == 1:
            return fitting[0]
        options = [{"name": one.name, "site": one.site} for one in fitting or self.list(kind)]
        raise ambiguous(self.layout, kind, {"name": name, "site": site}, options, bool(fitting))

    def has(self, kind: str, site: str, name: str, inputs: Mapping[str, Any], parameters: Mapping[str, Any]) -> bool:
        """Say whether exactly this entry is there.

        Raises
        ------
        EntryExistsError
            If the name is taken by one that was made otherwise.
        """
        folder = self.layout.entry(kind, site, name)
        if not folder.is_dir():
            return False
        old = storage.read_json(folder / "entry.json")
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
            f"({'; '.join(changed)}). Nothing is overwritten: choose another --name, or delete {folder}."
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
        """
        if not self.has(kind, site, name, inputs, parameters):
            with storage.whole(self.layout.entry(kind, site, name)) as folder:
                folder.mkdir(parents=True)
                write(folder)
                content = {
                    "kind": kind,
                    "name": name,
                    "site": site,
                    "inputs": dict(inputs),
                    "parameters": dict(parameters),
                    "results": dict(results),
                    "versions": storage.versions(),
                }
                storage.write_json(folder / "entry.json", content)
            storage.log(self.layout, kind, name=name, site=site)
        return self.find(kind, name, site)


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
    return AmbiguousChoiceError(f"{problem} of the {kind} in {layout.root} fit ({wish}). Choose from: {listed}.")
