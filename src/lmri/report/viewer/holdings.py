"""What a study holds, read piece by piece: what cannot be read is named, and keeps nothing else from being shown."""

import io
import threading
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from time import monotonic
from typing import Any, TypeVar

import numpy as np
import pandas as pd
from nibabel.filebasedimages import ImageFileError

from lmri import storage
from lmri.exceptions import StudyError
from lmri.networks import NetworkSet
from lmri.networks import labels as label_table
from lmri.networks import stored as results
from lmri.networks.time_courses import RunText, scaled
from lmri.report.viewer import words
from lmri.report.viewer.kept import Kept, stamp
from lmri.space import NeuronSpace
from lmri.storage.bids import TEXT_COLUMNS, recording_digest
from lmri.storage.entries import Entry, stale
from lmri.storage.recording import Recording, Run, check_whole
from lmri.storage.store import open_store

Read = TypeVar("Read")

DAMAGE = (OSError, EOFError, ValueError, LookupError, TypeError, AttributeError, zlib.error, ImageFileError)
"""What reading raises where a file is missing, cut short or something else."""

FRESH = 1.0
"""Seconds: one click asks for half a dozen things, and to look what there is touches every file of the study."""

KINDS = ("decompositions", "networks", "comparisons", "scores", "experiments")


@dataclass
class Contents:
    """What is in a study at one moment; large files are not opened for it.

    Parameters
    ----------
    recordings : dict
        By site and corpus, without their texts; those that are whole.
    spaces : dict
        The neurons of every site that was recorded, also where no recording is whole.
    entries : dict
        By kind, then by site and name; those that belong to what they were made of.
    problems : list of str
        What could not be read.
    digests : dict
        Hashes of what recordings are a function of, by site and corpus; also of those that are not whole.
    refused : dict
        Why an entry is not among the others, by kind, site and name.
    """

    recordings: dict[tuple[str, str], Recording] = field(default_factory=dict)
    spaces: dict[str, NeuronSpace] = field(default_factory=dict)
    entries: dict[str, dict[tuple[str, str], Entry]] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    digests: dict[tuple[str, str], str] = field(default_factory=dict)
    refused: dict[tuple[str, str, str], str] = field(default_factory=dict)

    @contextmanager
    def attempt(self, what: str, key: tuple[str, str, str] | None = None) -> Iterator[None]:
        """Name what the body cannot read, under `key` as well if there is one, and go on."""
        try:
            yield
        except DAMAGE as error:
            said = str(error) if isinstance(error, ValueError | OSError) else f"{type(error).__name__}: {error}"
            self.problems.append(f"{what}: {said}")
            if key is not None:
                self.refused[key] = said


class Holdings:
    """A study that is looked at while it may change.

    Parameters
    ----------
    root : str or Path
        Its folder.
    fresh : float, default 1
        How many seconds it is remembered what there is. What is read of it is read anew as soon as its files change.

    Raises
    ------
    StudyError
        If there is no study.
    """

    def __init__(self, root: str | Path, fresh: float = FRESH) -> None:
        self.fresh = fresh
        self._looking, self._seen = threading.Lock(), (-np.inf, Contents())
        self.study = open_store(root)
        self.layout = self.study.layout
        self._root = self.layout.root.resolve()
        self._small, self._large, self._sets = Kept(5000), Kept(64), Kept(4)

    # -- what there is ------------------------------------------------------------------------------------------------

    def contents(self, now: bool = False) -> Contents:
        """Look what there is, or with `now`, what there is at this moment."""
        with self._looking:  # who asks meanwhile waits for the same look
            if now or monotonic() - self._seen[0] >= self.fresh:
                found = self._look()
                self._seen = monotonic(), found
            return self._seen[1]

    def state(self, found: Contents) -> str:
        """Hash which recordings, entries and labels there are, and when each was written."""
        files = [self.layout.recording(*key) for key in found.recordings]
        files += [entry.folder / "entry.json" for entries in found.entries.values() for entry in entries.values()]
        files.append(self.layout.network_labels)
        return storage.digest([[self.layout.relative(path), stamp(path)] for path in files])

    def _look(self) -> Contents:
        found = Contents()
        self._list_recordings(found)
        for kind in KINDS:
            found.entries[kind] = {}
            for folder in self.layout.entries(kind):
                with found.attempt(f"{kind} {folder.name!r} at {folder.parent.name}"):
                    entry = self._entry(kind, folder)
                    with found.attempt(f"{kind} {entry.name!r} at {entry.site}", (kind, entry.site, entry.name)):
                        self._check(found, entry)
                        found.entries[kind][entry.site, entry.name] = entry
        for path in self.study.unfinished():
            found.problems.append(
                f"{path.name} is a recording that is being made, or was interrupted: lmri record --resume goes on."
            )
        return found

    def inside(self, path: Path) -> Path:
        """Return `path` if it lies in the study, where links lead to as well, else raise `StudyError`."""
        if not path.resolve().is_relative_to(self._root):
            raise StudyError(
                f"{path} leads out of the study, and the viewer reads nothing there. Put the file itself in its place."
            )
        return path

    def _list_recordings(self, found: Contents) -> None:
        for path in self.layout.recordings():
            if path.name.startswith("."):
                continue  # being written
            with found.attempt(f"Recording of {path.stem} at {path.parent.name}"):
                recording, digest = self._recording(path)
                site, corpus = recording.space.site, recording.corpus
                if recording.space != found.spaces.setdefault(site, recording.space):
                    raise StudyError("it has other neurons than the recordings before it. Record it again.")
                found.digests[site, corpus] = digest
                for run in recording.runs:
                    for file in (run.img, run.events, run.tokens):
                        self.inside(file)
                check_whole(recording)
                found.recordings[site, corpus] = recording

    def _recording(self, path: Path) -> tuple[Recording, str]:
        """Open a recording without its texts, and hash what it is a function of."""

        def read() -> tuple[Recording, str]:
            index = storage.read_json(self.inside(path))
            root = self.layout.root
            runs = tuple(
                Run(root / run["img"], root / run["events"], root / run["tokens"], int(run["n_volumes"]))
                for run in index["runs"]
            )
            recording = Recording(NeuronSpace.from_dict(index["space"]), index["corpus"], runs, pd.DataFrame(), index)
            if self.layout.recording(recording.space.site, recording.corpus) != path:
                raise StudyError(f"{path} is of {recording.corpus!r} at {recording.space.site}. Put it back there.")
            return recording, recording_digest(recording)

        return self._small.get(("recording", path), [path], read)

    def _entry(self, kind: str, folder: Path) -> Entry:
        file = folder / "entry.json"

        def read() -> Entry:
            info = storage.read_json(self.inside(file))
            for part in ("inputs", "parameters", "results", "files"):
                if not isinstance(info.get(part), dict):
                    raise StudyError(f"{file} does not say what its {part} are. Delete {folder}, and make it again.")
            entry = Entry(kind, info["site"], info["name"], folder, info)
            if self.layout.entry(kind, entry.site, entry.name) != folder:
                raise StudyError(f"{file} is of {entry.name!r} at {entry.site}. Put it back there.")
            return entry

        return self._small.get((kind, folder), [file], read)

    def _damage(self, entry: Entry, name: str) -> str:
        files = [entry.folder / "entry.json", self.inside(entry.folder / name)]
        return self._small.get(("damage", *files), files, lambda: entry.check_file(name))

    def _digest(self, entry: Entry) -> str:
        return self._small.get(("digest", entry.folder), [entry.folder / "entry.json"], lambda: entry.digest)

    def _check(self, found: Contents, entry: Entry) -> None:
        """Refuse an entry of which files are missing, or that was made of what has been replaced since."""
        there = {path.name for path in entry.folder.iterdir()}
        missing = [name for name in entry.info["files"] if name not in there]
        if missing:
            raise StudyError(f"{', '.join(missing)} is missing. Delete {entry.folder}, and make it again.")
        if entry.kind in ("scores", "comparisons"):  # whose tables would look whole without their last rows
            for name in entry.info["files"]:
                if name.endswith(".tsv") and (damaged := self._damage(entry, name)):
                    raise StudyError(damaged)
        if entry.site not in found.spaces:
            raise StudyError(f"there is no recording at {entry.site}, which says which voxel is which neuron.")
        inputs = entry.info["inputs"]
        if entry.kind == "decompositions":
            now = [found.digests.get((entry.site, corpus)) for corpus in inputs["corpora"]]
            if now != inputs["recordings_sha256"]:
                raise stale(entry, "recordings")
            return
        for kind, name, site, known in _made_of(entry):
            source = found.entries[kind].get((site, name))
            if source is None or self._digest(source) != known:
                raise stale(entry, f"{kind} {name!r}")

    # -- opening one thing --------------------------------------------------------------------------------------------

    def _file(self, entry: Entry) -> results.File:
        made = partial(self.layout.in_entry, entry.folder, self.study.subject, entry.site, entry.name)
        return lambda suffix: self.inside(made(suffix))

    def networks(self, found: Contents, entry: Entry) -> NetworkSet:
        """Open a set of networks, with their labels as they are now."""
        source = source_of(found, entry)

        def read() -> NetworkSet:
            info = {"method": source.info["parameters"].get("method")}
            return results.read_networks(self._file(entry), found.spaces[entry.site], entry.name, info, frozenset())

        files = [entry.folder / "entry.json", source.folder / "entry.json"]
        networks = self._sets.get(("networks", entry.folder), files, read)
        if self.layout.network_labels.is_file():
            self.inside(self.layout.network_labels)
        own = results.names(source.name, len(networks))
        metrics = label_table.joined(networks.metrics, own, label_table.of(self.layout, source))
        return replace(networks, metrics=metrics)

    def courses(self, found: Contents, entry: Entry) -> dict[words.Run, np.ndarray]:
        """Open the time courses of the decomposition that a set of networks comes from: z, ``(n_volumes, n_networks)``.

        They are z-scored over all runs together.
        """
        source = source_of(found, entry)
        runs = [
            words.Run(corpus, number)
            for corpus in source.info["inputs"]["corpora"]
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

    def around(self, found: Contents, site: str) -> Callable[[words.Run, int], tuple[str, str, str]]:
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


def n_runs(found: Contents, site: str, corpus: str) -> int:
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


def source_of(found: Contents, entry: Entry) -> Entry:
    """Give the decomposition that a set of networks comes from."""
    return found.entries["decompositions"][entry.site, entry.info["inputs"]["decomposition"]]


def _made_of(entry: Entry) -> list[tuple[str, str, str, str]]:
    """List kind, name, site and digest of what an entry was made of."""
    inputs: Mapping[str, Any] = entry.info["inputs"]
    if entry.kind == "networks":
        return [("decompositions", inputs["decomposition"], entry.site, inputs["decomposition_sha256"])]
    if entry.kind == "scores":
        return [("networks", inputs["networks"], entry.site, inputs["networks_sha256"])] if "networks" in inputs else []
    if entry.kind == "experiments":
        found = [("networks", name, sha) for name, sha in _each(inputs, "networks")]
        found += [("scores", name, sha) for name, sha in _each(inputs, "scores")]
        return [(kind, name.partition("@")[0], name.partition("@")[2] or entry.site, sha) for kind, name, sha in found]
    if "sets" in inputs:
        return [
            ("networks", name, entry.site, sha) for name, sha in zip(inputs["sets"], inputs["sets_sha256"], strict=True)
        ]
    other = inputs.get("second_site", entry.site)
    return [
        ("networks", inputs["first"], entry.site, inputs["first_sha256"]),
        ("networks", inputs["second"], other, inputs["second_sha256"]),
    ]


def _each(inputs: Mapping[str, Any], key: str) -> list[tuple[str, str]]:
    """List the names of an input with their digests, be it one or several."""
    names, known = inputs.get(key, []), inputs.get(f"{key}_sha256", [])
    return [(names, known)] if isinstance(names, str) else list(zip(names, known, strict=True))
