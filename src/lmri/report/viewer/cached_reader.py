"""What a study holds, read piece by piece: what cannot be read is named, and keeps nothing else from being shown."""

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
from lmri.networks.stored import DECOMPOSITIONS, DecompositionInputs, NetworksInputs, labelled, read_networks
from lmri.networks.time_courses import RunText, scaled
from lmri.report.viewer import words
from lmri.report.viewer.kept import Kept, stamp
from lmri.space import NeuronSpace
from lmri.storage.bids import TEXT_COLUMNS
from lmri.storage.entries import Entry, File
from lmri.storage.recording import Recording, Run
from lmri.storage.store import Store
from lmri.storage.tolerant import Inventory, Read, StudyReader

FRESH = 1.0
"""Seconds: one click asks for half a dozen things, and to look what there is touches every file of the study."""


class CachedReader(StudyReader):
    """A study that is looked at while it may change.

    Parameters
    ----------
    root : str or Path
        Folder of the study.
    fresh : float, default 1
        Seconds for which the list of contents is remembered. Inventory are read anew as soon as their files change.

    Raises
    ------
    StudyError
        If there is no study.
    """

    def __init__(self, root: str | Path, fresh: float = FRESH) -> None:
        super().__init__(Store(root, CODECS))
        self.fresh = fresh
        self._looking, self._seen = threading.Lock(), (-np.inf, Inventory())
        self._root = self.layout.root.resolve()
        self._small, self._large, self._sets = Kept(5000), Kept(64), Kept(4)

    # -- what there is ------------------------------------------------------------------------------------------------

    def contents(self, now: bool = False) -> Inventory:
        """Return the list of contents or, with `now`, look at this moment."""
        with self._looking:  # who asks meanwhile waits for the same look
            if now or monotonic() - self._seen[0] >= self.fresh:
                found = self.look()
                self._seen = monotonic(), found
            return self._seen[1]

    def look(self) -> Inventory:
        """List the contents of the study, and unfinished recordings among the problems."""
        found = super().look()
        for path in self.study.unfinished():
            found.problems.append(
                f"{path.name} is a recording that is being made, or was interrupted: lmri record --resume goes on."
            )
        return found

    def state(self, found: Inventory) -> str:
        """Hash which recordings, entries and labels there are, and when each was written."""
        files = [self.layout.recording(*key) for key in found.recordings]
        files += [entry.folder / "entry.json" for entries in found.entries.values() for entry in entries.values()]
        files.append(self.layout.network_labels)
        return storage.digest([[self.layout.relative(path), stamp(path)] for path in files])

    def inside(self, path: Path) -> Path:
        """Return `path` if it lies in the study, where links lead to as well, else raise `StudyError`."""
        if not path.resolve().is_relative_to(self._root):
            raise StudyError(
                f"{path} leads out of the study, and the viewer reads nothing there. Put the file itself in its place."
            )
        return path

    def remember(self, key: Hashable, files: Iterable[Path], read: Callable[[], Read]) -> Read:
        """Read something anew only when its files have changed."""
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
        made = self.study.file_of(entry)
        return lambda suffix: self.inside(made(suffix))

    def networks(self, found: Inventory, entry: Entry) -> NetworkSet:
        """Open a set of networks, with their labels as they are now."""
        source = source_of(found, entry)

        def read() -> NetworkSet:
            info = {"method": source.parameters.get("method")}
            return read_networks(self._file(entry), found.spaces[entry.site], entry.name, info, frozenset())

        files = [entry.folder / "entry.json", source.folder / "entry.json"]
        networks = self._sets.get(("networks", entry.folder), files, read)
        if self.layout.network_labels.is_file():
            self.inside(self.layout.network_labels)
        return labelled(self.layout, networks, source)

    def courses(self, found: Inventory, entry: Entry) -> dict[words.Run, np.ndarray]:
        """Open the time courses of the decomposition that a set of networks comes from: z, ``(n_volumes, n_networks)``.

        They are z-scored over all runs together.
        """
        source = source_of(found, entry)
        runs = [
            words.Run(corpus, number)
            for corpus in DecompositionInputs.of(source).corpora
            for number in range(1, n_runs(found, entry.site, corpus) + 1)
        ]

        def read() -> dict[words.Run, np.ndarray]:
            file, tables = self._file(source), []
            for run in runs:
                path = file(f"task-{run.corpus}_run-{run.number:03d}_mixing.tsv")
                tables.append(read_numbers(path))
                n = found.recordings[entry.site, run.corpus].runs[run.number - 1].n_volumes
                if len(tables[-1]) != n:
                    raise StudyError(f"{path} has {len(tables[-1])} rows for {n} volumes. Decompose again.")
            borders = np.cumsum([len(table) for table in tables])
            return dict(zip(runs, np.split(scaled(tables), borders[:-1]), strict=True))

        return self._large.get(("courses", source.folder, *runs), [source.folder / "entry.json"], read)

    def events(self, recording: Recording, number: int) -> pd.DataFrame:
        """Open the events of one run, counted from 1."""
        run = recording.runs[number - 1]

        def read() -> pd.DataFrame:
            events = replace(recording, runs=(run,)).events[0]
            if len(events) != run.n_volumes:
                raise StudyError(f"{run.events} has {len(events)} rows for {run.n_volumes} volumes. Record again.")
            return events

        return self._large.get(("events", run.events), [run.events], read)

    def texts(self, corpus: str) -> dict[str, str]:
        """Open the texts of a corpus by ``text_id``."""
        path = self.inside(self.layout.texts(corpus))

        def read() -> dict[str, str]:
            table = storage.read_table(path, TEXT_COLUMNS)
            return dict(zip(table["text_id"], table["text"], strict=True))

        return self._large.get(("texts", corpus), [path], read)

    def around(self, found: Inventory, site: str) -> Callable[[words.Run, int], tuple[str, str, str]]:
        """Give the function that finds a volume in its text; all of it empty where the recording cannot be read."""

        def look(run: words.Run, volume: int) -> tuple[str, str, str]:
            recording = found.recordings.get((site, run.corpus))
            if recording is None:
                return "", "", ""
            return RunText(self.events(recording, run.number), self.texts(run.corpus)).around(volume)

        return look

    def mean(self, recording: Recording) -> np.ndarray:
        """Compute the mean of every neuron over a recording, once."""
        files = [run.img for run in recording.runs]
        # A copy, because a recording remembers its mean for good, whatever becomes of its files.
        return self._large.get(("mean", *files), files, lambda: replace(recording).mean)

    def table(self, entry: Entry, suffix: str, text: tuple[str, ...]) -> pd.DataFrame:
        """Open a table of an entry."""
        path = self._file(entry)(suffix)
        return self._large.get(("table", path), [path], lambda: storage.read_table(path, text))


def read_numbers(path: Path) -> np.ndarray:
    """Read a table of nothing but numbers, as `storage.read_table` does, ten times as fast: ``(n_rows, n_columns)``.

    Raises
    ------
    StudyError
        If the file is missing, or not whole.
    """
    try:
        header, _, body = path.read_bytes().decode().partition("\n")
        if not body.endswith("\n"):  # a number in the last line may have been cut
            raise ValueError("its last line does not end")
        table = np.loadtxt(io.StringIO(body.replace("n/a", "nan")), delimiter="\t", ndmin=2, comments=None)
        if table.shape[1] != header.count("\t") + 1:
            raise ValueError("its rows have another length than its header")
    except (OSError, ValueError) as error:
        raise StudyError(f"{path} is not a whole table ({error}). Decompose again.") from error
    return np.asarray(table)


def n_runs(found: Inventory, site: str, corpus: str) -> int:
    """Count the runs of a corpus.

    Raises
    ------
    StudyError
        If it is not there whole, so that time courses of all runs cannot be put together.
    """
    recording = found.recordings.get((site, corpus))
    if recording is None:
        raise StudyError(f"The recording of {corpus!r} at {site} is not whole, so there are no time courses.")
    return len(recording.runs)


def source_of(found: Inventory, entry: Entry) -> Entry:
    """Return the decomposition that a network set comes from."""
    return found.entries[DECOMPOSITIONS][entry.site, NetworksInputs.of(entry).decomposition]
