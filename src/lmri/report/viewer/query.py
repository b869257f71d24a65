"""Query parameters of a request, validated against the names that the study lists."""

from collections.abc import Callable, Mapping
from typing import Any

from starlette.exceptions import HTTPException

from lmri.networks import NetworkSet
from lmri.report.viewer.cached_reader import CachedReader
from lmri.space import NeuronSpace
from lmri.storage.entries import Entry
from lmri.storage.recording import Recording
from lmri.storage.tolerant import Inventory, describe_damage


class Query:
    """Parameters of a request.

    Parameters
    ----------
    given : mapping from str to str
        Query parameters of the address.
    """

    def __init__(self, given: Mapping[str, str]) -> None:
        self._given = given

    def text(self, name: str) -> str:
        """Return a required parameter."""
        if name not in self._given:
            raise HTTPException(400, f"{name} is missing. Add it to the address: ...?{name}=...")
        return self._given[name]

    def has(self, name: str) -> bool:
        """Return whether a parameter is present."""
        return name in self._given

    def number(self, name: str, first: int, last: int) -> int:
        """Return an integer parameter from `first` to `last`."""
        text = self.text(name)
        value = int(text) if text.isascii() and text.isdecimal() and len(text) < 10 else -1
        if not first <= value <= last:
            raise HTTPException(400, f"{name} is {text!r}; accepted values are whole numbers from {first} to {last}.")
        return value


Answer = Callable[[CachedReader, Query], Any]
"""Function that returns data, or the bytes of an image, for a query."""


def one_of(what: str, wanted: str, existing: Any) -> str:
    """Return a name if it exists, else raise an error that lists the existing names."""
    if wanted not in existing:
        names = [repr(name) for name in existing]
        listed = ", ".join(names[:20]) + (f" and {len(names) - 20} more" if len(names) > 20 else "")
        raise HTTPException(404, f"There is no {what} {wanted!r}. Accepted: {listed or 'none exist yet'}.")
    return wanted


def space_of(inventory: Inventory, query: Query) -> NeuronSpace:
    """Return the space of the requested site."""
    return inventory.spaces[one_of("site", query.text("site"), inventory.spaces)]


def recording_of(inventory: Inventory, query: Query) -> Recording:
    """Return the requested recording."""
    site = space_of(inventory, query).site
    corpora = [corpus for at, corpus in inventory.recordings if at == site]
    return inventory.recordings[site, one_of(f"recording at {site} of the corpus", query.text("corpus"), corpora)]


def run_of(recording: Recording, query: Query) -> int:
    """Return the number of the requested run."""
    return query.number("run", 1, len(recording.runs))


def set_of(inventory: Inventory, query: Query, parameter: str = "set") -> Entry:
    """Return the entry of the requested set of networks."""
    site, name = space_of(inventory, query).site, query.text(parameter)
    if error := inventory.refused.get(("networks", site, name)):
        raise HTTPException(404, describe_damage(error))
    sets = [set_name for at, set_name in inventory.entries["networks"] if at == site]
    return inventory.entries["networks"][site, one_of(f"network set at {site}", name, sets)]


def networks_of(reader: CachedReader, inventory: Inventory, query: Query) -> tuple[Entry, NetworkSet]:
    """Open the requested set of networks."""
    entry = set_of(inventory, query)
    return entry, reader.networks(inventory, entry)


def network_of(reader: CachedReader, inventory: Inventory, query: Query) -> tuple[Entry, NetworkSet, int]:
    """Open the requested set, and return it with the number of the requested network."""
    entry, networks = networks_of(reader, inventory, query)
    name = one_of(f"network in {entry.name}", query.text("network"), networks.names)
    return entry, networks, networks.names.index(name)
