"""Cached reader of one model, piece by piece: unreadable parts are listed as problems, and the rest is shown."""

import io
import threading
from collections.abc import Callable, Hashable, Iterable
from dataclasses import replace
from pathlib import Path
from time import monotonic

import numpy as np
import pandas as pd

from lmri import storage
from lmri.exceptions import StudyError
from lmri.lesions.codecs import CODECS
from lmri.networks import NetworkSet
from lmri.networks.codec import DECOMPOSITIONS, DecompositionInputs, NetworksInputs, labelled, read_networks
from lmri.networks.time_courses import RunText, scaled
from lmri.report.viewer import top_tokens
from lmri.report.viewer.kept import Kept, stamp
from lmri.space import NeuronSpace
from lmri.storage.corpora import read_texts_table, tables_of
from lmri.storage.entries import Entry, File
from lmri.storage.recording import Recording, Run
from lmri.storage.store import Store
from lmri.storage.tolerant import Inventory, Read, StudyReader

FRESH = 1.0
"""Lifetime of the inventory in seconds: one click sends about six requests, and an inventory accesses every file."""


class CachedReader(StudyReader):
    """Reader of one model of a study that may change while it is viewed.

    Parameters
    ----------
    root : str or Path
        Folder of the study.
    fresh : float, default 1
        Seconds for which the inventory is cached. Contents are read again as soon as their files change.
    subject, session : str, optional
        Labels of the model and of its state; required if the study contains several.

    Raises
    ------
    StudyError
        If there is no study.
    """

    def __init__(
        self, root: str | Path, fresh: float = FRESH, subject: str | None = None, session: str | None = None
    ) -> None:
        super().__init__(Store(root, CODECS, subject, session))
        self.fresh = fresh
        self._looking, self._seen = threading.Lock(), (-np.inf, Inventory())
        self._root = self.layout.root.resolve()
        self._small, self._large, self._sets = Kept(5000), Kept(64), Kept(4)

    @property
    def options(self) -> list[str]:
        """Options that choose this model on the command line; none if the study contains no other model."""
        if self.layout.scopes() == [self.layout.scope]:
            return []
        session = self.layout.session
        return ["--subject", self.layout.subject, *(["--session", session] if session else [])]

    # -- inventory ----------------------------------------------------------------------------------------------------

    def contents(self, now: bool = False) -> Inventory:
        """Return the inventory, from the cache or, with `now`, updated."""
        with self._looking:  # concurrent requests wait for the same inventory
            if now or monotonic() - self._seen[0] >= self.fresh:
                inventory = self.look()
                self._seen = monotonic(), inventory
            return self._seen[1]

    def look(self) -> Inventory:
        """Take the inventory of the study; unfinished recordings are listed as problems."""
        inventory = super().look()
        for path in self.study.unfinished():
            inventory.problems.append(
                f"{path.name} is a recording in progress, or was interrupted. Continue it with lmri record --resume."
            )
        return inventory

    def state(self, inventory: Inventory) -> str:
        """Hash the recordings, entries and labels, with the state of their files."""
        files = [self.layout.recording(*key) for key in inventory.recordings]
        files += [entry.folder / "entry.json" for entries in inventory.entries.values() for entry in entries.values()]
        files.append(self.layout.network_labels)
        return storage.digest([[self.layout.relative(path), stamp(path)] for path in files])

    def inside(self, path: Path) -> Path:
        """Return `path` if it is in the study after resolving links, else raise `StudyError`."""
        if not path.resolve().is_relative_to(self._root):
            raise StudyError(
                f"{path} links to a file outside the study, which the viewer does not read. Replace the link with the "
                "file."
            )
        return path

    def remember(self, key: Hashable, files: Iterable[Path], read: Callable[[], Read]) -> Read:
        """Return a cached value, which is read again only if its files have changed."""
        return self._small.get(key, files, read)

    def read_recording(self, path: Path) -> Recording:
        """Open a recording without its texts."""
        index = storage.read_json(path)
        root = self.layout.root
        runs = tuple(
            Run(root / run["img"], root / run["events"], root / run["tokens"], int(run["n_volumes"]))
            for run in index["runs"]
        )
        return Recording(NeuronSpace.from_dict(index["space"]), index["corpus"], runs, pd.DataFrame(), index)

    # -- opening one thing --------------------------------------------------------------------------------------------

    def _file(self, entry: Entry) -> File:
        path_of = self.study.file_of(entry)
        return lambda suffix: self.inside(path_of(suffix))

    def networks(self, inventory: Inventory, entry: Entry) -> NetworkSet:
        """Open a set of networks with its current labels."""
        source = source_of(inventory, entry)

        def read() -> NetworkSet:
            info = {"method": source.parameters.get("method")}
            return read_networks(self._file(entry), inventory.spaces[entry.site], entry.name, info, frozenset())

        files = [entry.folder / "entry.json", source.folder / "entry.json"]
        networks = self._sets.get(("networks", entry.folder), files, read)
        if self.layout.network_labels.is_file():
            self.inside(self.layout.network_labels)
        return labelled(self.layout, networks, source)

    def courses(self, inventory: Inventory, entry: Entry) -> dict[top_tokens.Run, np.ndarray]:
        """Open the time courses of the decomposition of a set of networks, ``(n_volumes, n_networks)`` per run.

        They are z-scored over all runs together.
        """
        source = source_of(inventory, entry)
        runs = [
            top_tokens.Run(corpus, number)
            for corpus in DecompositionInputs.of(source).corpora
            for number in range(1, n_runs(inventory, entry.site, corpus) + 1)
        ]

        def read() -> dict[top_tokens.Run, np.ndarray]:
            file, tables = self._file(source), []
            for run in runs:
                path = file(f"task-{run.corpus}_run-{run.number:03d}_mixing.tsv")
                tables.append(read_numbers(path))
                n = inventory.recordings[entry.site, run.corpus].runs[run.number - 1].n_volumes
                if len(tables[-1]) != n:
                    raise StudyError(f"{path} has {len(tables[-1])} rows for {n} volumes. Decompose again.")
            borders = np.cumsum([len(table) for table in tables])
            return dict(zip(runs, np.split(scaled(tables), borders[:-1]), strict=True))

        return self._large.get(("courses", source.folder, *runs), [source.folder / "entry.json"], read)

    def events(self, recording: Recording, number: int) -> pd.DataFrame:
        """Open the events of one run, numbered from 1."""
        run = recording.runs[number - 1]

        def read() -> pd.DataFrame:
            events = replace(recording, runs=(run,)).events[0]
            if len(events) != run.n_volumes:
                raise StudyError(f"{run.events} has {len(events)} rows for {run.n_volumes} volumes. Record again.")
            return events

        return self._large.get(("events", run.events), [run.events], read)

    def texts(self, corpus: str) -> dict[str, str]:
        """Open the texts of a corpus by ``text_id``."""
        paths = [self.inside(path) for path in tables_of(self.layout, corpus)]

        def read() -> dict[str, str]:
            table = read_texts_table(self.layout, corpus)
            return dict(zip(table["text_id"], table["text"], strict=True))

        return self._large.get(("texts", corpus), paths, read)

    def around(self, inventory: Inventory, site: str) -> Callable[[top_tokens.Run, int], tuple[str, str, str]]:
        """Return a function that gives the context of a volume; empty strings if the recording cannot be read."""

        def look(run: top_tokens.Run, volume: int) -> tuple[str, str, str]:
            recording = inventory.recordings.get((site, run.corpus))
            if recording is None:
                return "", "", ""
            return RunText(self.events(recording, run.number), self.texts(run.corpus)).around(volume)

        return look

    def mean(self, recording: Recording) -> np.ndarray:
        """Compute the mean of every neuron over a recording, with caching."""
        files = [run.img for run in recording.runs]
        # A copy, because a recording caches its mean permanently, even if its files change.
        return self._large.get(("mean", *files), files, lambda: replace(recording).mean)

    def table(self, entry: Entry, suffix: str, text: tuple[str, ...]) -> pd.DataFrame:
        """Open a table of an entry."""
        path = self._file(entry)(suffix)
        return self._large.get(("table", path), [path], lambda: storage.read_table(path, text))


def read_numbers(path: Path) -> np.ndarray:
    """Read a numeric table ten times as fast as `storage.read_table`: ``(n_rows, n_columns)``.

    Raises
    ------
    StudyError
        If the file is missing or incomplete.
    """
    try:
        header, _, body = path.read_bytes().decode().partition("\n")
        if not body.endswith("\n"):  # the last number may be truncated
            raise ValueError("its last line is incomplete")
        table = np.loadtxt(io.StringIO(body.replace("n/a", "nan")), delimiter="\t", ndmin=2, comments=None)
        if table.shape[1] != header.count("\t") + 1:
            raise ValueError("its rows and its header differ in length")
    except (OSError, ValueError) as error:
        raise StudyError(f"{path} is not a complete table ({error}). Decompose again.") from error
    return np.asarray(table)


def n_runs(inventory: Inventory, site: str, corpus: str) -> int:
    """Count the runs of a corpus.

    Raises
    ------
    StudyError
        If the recording is missing or incomplete, so that the time courses of all runs cannot be concatenated.
    """
    recording = inventory.recordings.get((site, corpus))
    if recording is None:
        raise StudyError(f"The recording of {corpus!r} at {site} is incomplete, so there are no time courses.")
    return len(recording.runs)


def source_of(inventory: Inventory, entry: Entry) -> Entry:
    """Return the entry of the decomposition of a network set."""
    return inventory.entries[DECOMPOSITIONS][entry.site, NetworksInputs.of(entry).decomposition]
