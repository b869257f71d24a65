"""What a request asks for, and finding it among what the study holds: by names that it lists, and by nothing else."""

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
    """What a request asks for.

    Parameters
    ----------
    given : mapping from str to str
        Parameters of the address.
    """

    def __init__(self, given: Mapping[str, str]) -> None:
        self._given = given

    def text(self, name: str) -> str:
        """Give a parameter that has to be there."""
        if name not in self._given:
            raise HTTPException(400, f"{name} is missing; the address has to say it: ...?{name}=...")
        return self._given[name]

    def has(self, name: str) -> bool:
        """Say whether a parameter is there."""
        return name in self._given

    def number(self, name: str, first: int, last: int) -> int:
        """Give a whole number from `first` to `last`."""
        text = self.text(name)
        value = int(text) if text.isascii() and text.isdecimal() and len(text) < 10 else -1
        if not first <= value <= last:
            raise HTTPException(400, f"{name} is {text!r}; accepted are whole numbers from {first} to {last}.")
        return value


Answer = Callable[[CachedReader, Query], Any]
"""From a query to plain data, or to the bytes of an image."""


def one_of(what: str, wanted: str, there: Any) -> str:
    """Return a name if it is there, else refuse the request and say what is."""
    if wanted not in there:
        names = [repr(one) for one in there]
        listed = ", ".join(names[:20]) + (f" and {len(names) - 20} more" if len(names) > 20 else "")
        raise HTTPException(404, f"There is no {what} {wanted!r}; there is {listed or 'none'}.")
    return wanted


def space_of(found: Inventory, query: Query) -> NeuronSpace:
    """Give the neurons of the site that is asked for."""
    return found.spaces[one_of("site", query.text("site"), found.spaces)]


def recording_of(found: Inventory, query: Query) -> Recording:
    """Give the recording that is asked for."""
    site = space_of(found, query).site
    corpora = [corpus for at, corpus in found.recordings if at == site]
    return found.recordings[site, one_of(f"recording at {site} of the corpus", query.text("corpus"), corpora)]


def run_of(recording: Recording, query: Query) -> int:
    """Give the number of the run that is asked for."""
    return query.number("run", 1, len(recording.runs))


def set_of(found: Inventory, query: Query, parameter: str = "set") -> Entry:
    """Give the entry of the set of networks that is asked for."""
    site, name = space_of(found, query).site, query.text(parameter)
    if error := found.refused.get(("networks", site, name)):
        raise HTTPException(404, describe_damage(error))
    sets = [one for at, one in found.entries["networks"] if at == site]
    return found.entries["networks"][site, one_of(f"network set at {site}", name, sets)]


def networks_of(reader: CachedReader, found: Inventory, query: Query) -> tuple[Entry, NetworkSet]:
    """Open the set of networks that is asked for."""
    entry = set_of(found, query)
    return entry, reader.networks(found, entry)


def network_of(reader: CachedReader, found: Inventory, query: Query) -> tuple[Entry, NetworkSet, int]:
    """Open the set, and give the number of the network that is asked for."""
    entry, networks = networks_of(reader, found, query)
    name = one_of(f"network in {entry.name}", query.text("network"), networks.names)
    return entry, networks, networks.names.index(name)
