"""The store: the files of one study, its recordings and entries, and the locks that protect them."""

import contextlib
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from lmri import storage
from lmri.exceptions import EntryExistsError, StudyError
from lmri.space import ModelInfo, NeuronSpace
from lmri.storage import Layout
from lmri.storage import dataset_files as dataset
from lmri.storage.entries import Codec, Entries, Entry, File, Stored, ambiguous
from lmri.storage.freshness import check_fresh
from lmri.storage.recording import Recording, Run, check_whole

logger = logging.getLogger(__name__)

_LONG_ENOUGH = 40  # characters


class Store:
    """Files of one study: recordings, entries and their metadata.

    Parameters
    ----------
    root : str or Path
        Folder of the study.
    codecs : iterable of Codec
        Codecs of the kinds of entries that can be opened; see `lmri.lesions.codecs`. Recordings need no codec.

    Raises
    ------
    StudyError
        If the folder is not a study, or a newer version of lmri wrote it.
    """

    def __init__(self, root: str | Path, codecs: Iterable[Codec[Any]] = ()) -> None:
        self.layout = Layout(Path(root))
        if not self.layout.study.is_file():
            raise StudyError(f"{root} is not a study (it has no lmri/study.json). Create one with `lmri record`.")
        self._description: dict[str, Any] = storage.read_json(self.layout.study)
        version = self._description.get("format_version")
        if not isinstance(version, int) or version > storage.FORMAT_VERSION:
            raise StudyError(
                f"{root} has format version {version!r}; this version of lmri reads versions up to "
                f"{storage.FORMAT_VERSION}. Update lmri."
            )
        self.entries = Entries(self.layout)
        self.codecs: Mapping[str, Codec[Any]] = {codec.kind: codec for codec in codecs}
        self._read: dict[Path, tuple[list[tuple[int, int]], dict[str, Any], pd.DataFrame]] = {}

    @property
    def root(self) -> Path:
        """Folder of the study."""
        return self.layout.root

    @property
    def model(self) -> ModelInfo:
        """Recorded model."""
        return ModelInfo(**self._description["model"])

    @property
    def subject(self) -> str:
        """BIDS label of the model."""
        return str(self._description["subject"])

    @property
    def model_location(self) -> str | None:
        """Location from which the model was last loaded, according to the log."""
        locations = [line["model"] for line in storage.read_log(self.layout) if line.get("model")]
        return str(locations[-1]) if locations else None

    def recordings(self, site: str | None = None) -> list[Recording]:
        """List the recordings at one site or at all sites, in alphabetical order."""
        recordings = [self.load_recording(path) for path in self.layout.recordings()]
        return [recording for recording in recordings if site is None or recording.space.site == site]

    def recording(self, corpus: str | None = None, site: str | None = None) -> Recording:
        """Open one recording.

        Parameters
        ----------
        corpus, site : str, optional
            Corpus and site of the recording; required if there are several.

        Raises
        ------
        AmbiguousChoiceError
            If several fit, or none; the message lists the options.
        StudyError
            If a file of the recording is missing or truncated.
        """
        fitting = [recording for recording in self.recordings(site) if corpus is None or recording.corpus == corpus]
        if len(fitting) != 1:
            options = [
                {"corpus": recording.corpus, "site": recording.space.site} for recording in fitting or self.recordings()
            ]
            raise ambiguous(self.layout, "recordings", {"corpus": corpus, "site": site}, options, bool(fitting))
        check_whole(fitting[0])
        return fitting[0]

    @property
    def sites(self) -> list[str]:
        """Recorded sites."""
        return sorted({recording.space.site for recording in self.recordings()})

    def site(self, site: str | None = None) -> str:
        """Return `site` if it was recorded; without `site`, return the only recorded site."""
        if site in self.sites or (site is None and len(self.sites) == 1):
            return site or self.sites[0]
        options = [{"site": recorded} for recorded in self.sites]
        raise ambiguous(self.layout, "recordings", {"site": site}, options, site is None)

    def group(self, site: str | None = None, corpora: str | Sequence[str] | None = None) -> list[Recording]:
        """Open the recordings of one site: of one corpus, of some corpora, or of all."""
        site, corpora = self.site(site), [corpora] if isinstance(corpora, str) else corpora
        wanted = list(dict.fromkeys(corpora or [recording.corpus for recording in self.recordings(site)]))
        return [self.recording(corpus, site) for corpus in wanted]

    def space(self, site: str | None = None) -> NeuronSpace:
        """Return the neuron space of a site."""
        return self.recordings(self.site(site))[0].space

    def load_recording(self, path: Path) -> Recording:
        """Open the recording that belongs to an index file."""
        index, texts = self._read_recording(path)
        root = self.layout.root
        runs = tuple(
            Run(root / run["img"], root / run["events"], root / run["tokens"], run["n_volumes"])
            for run in index["runs"]
        )
        return Recording(NeuronSpace.from_dict(index["space"]), index["corpus"], runs, texts, index)

    def _read_recording(self, path: Path) -> tuple[dict[str, Any], pd.DataFrame]:
        """Read an index and its texts, which most methods need, and cache them until one of the files changes."""
        table = self.layout.texts(path.stem)
        stamps = [(file.stat().st_mtime_ns, file.stat().st_size) for file in (path, table) if file.is_file()]
        if path not in self._read or self._read[path][0] != stamps:
            index = storage.read_json(path)
            self._read[path] = (stamps, index, storage.read_table(table, dataset.TEXT_COLUMNS))
        _, index, texts = self._read[path]
        return index, texts

    def known_split(self) -> dict[str, str]:
        """Return the split, ``"fit"`` or ``"test"``, of the hash of each recorded text."""
        # From the recordings and not from split.tsv, which is for readers and may contain texts of an interrupted
        # recording.
        known: dict[str, str] = {}
        for recording in self.recordings():
            for column in ("sha256", "prompt_sha256"):
                if column in recording.texts:
                    known |= dict(recording.texts[[column, "split"]].to_numpy())
        return known

    def check_apart(self, texts: Sequence[str], what: str) -> None:
        """Raise if any of the texts was used for fitting in this study.

        Raises
        ------
        StudyError
            If a text was used for fitting, or contains one that was; the message contains their number.
        """
        fitted = {text for recording in self.recordings() for text in recording.fit_texts}
        # A prompt may contain a fitted text; short texts are excluded, because they occur in many texts by chance.
        long_texts = [text for text in fitted if len(text) >= _LONG_ENOUGH]
        overlapping = [text for text in texts if text in fitted or any(long_text in text for long_text in long_texts)]
        if overlapping:
            raise StudyError(
                f"{len(overlapping)} of the {len(texts)} texts of {what} were recorded for fitting in this study, or "
                f"contain such a text (first: {overlapping[0][:50]!r}). Scores on these texts would be biased "
                "(circular analysis). Exclude them, or use --task perplexity, which uses the held-out texts."
            )

    def orphans(self) -> list[Path]:
        """List images and tables of runs that belong to no index, such as those of an interrupted recording."""
        named = {
            path
            for recording in self.recordings()
            for run in recording.runs
            for path in (run.img, run.events, run.tokens)
        }
        named |= {storage.confounds_beside(path) for path in named}
        files = [
            path
            for path in self.layout.recorded_files(self.subject)
            if "_run-" in path.name and not path.name.endswith(storage.ROUTING)
        ]
        return [path for path in files if path.suffix in (".nii", ".tsv") and path not in named]

    def unfinished(self) -> list[Path]:
        """List the folders of recordings that are in progress or were interrupted."""
        return sorted(path for path in self.layout.unfinished.glob("*") if not path.name.startswith(storage.PARTIAL))

    def clear_remains(self, corpus: str, site: str) -> None:
        """Delete the files of an interrupted or damaged recording of this corpus and site."""
        storage.remove(self.layout.recording(site, corpus))
        others = any(recording.corpus == corpus for recording in self.recordings())
        for path in self.layout.recorded_files(self.subject, corpus):
            # Tables that are shared with recordings of other sites are kept, and so are routing tables, which have the
            # name of the router but belong to the experts.
            of_site = f"_space-{storage.bids_label(site)}_" in path.name
            if not others or (of_site and storage.ROUTING.removesuffix("tsv") not in path.name):
                storage.remove(path)

    def check_new_corpus(self, corpus: str) -> None:
        """Raise if a corpus name cannot be distinguished from an existing one on every file system.

        Raises
        ------
        ValueError
            If the name is reserved on Windows or too long.
        EntryExistsError
            If it differs from the name of another corpus only in case.
        """
        storage.check_new_name(corpus, self.layout.corpora(), "corpus", "--corpus")

    def check_new_recording(
        self, corpus: str, site: str, texts: Sequence[str], parameters: Mapping[str, Any]
    ) -> Recording | None:
        """Return the stored recording if it has the same texts and parameters, None if there is no such recording.

        Raises
        ------
        EntryExistsError
            If the corpus was recorded, at any site, from other texts or with other parameters.
        """
        self.check_new_corpus(corpus)
        digest = dataset.texts_digest(texts)
        existing = None
        for recording in self.recordings():
            if recording.corpus != corpus:
                continue
            old = recording.info
            names = [*parameters, *(name for name in old["parameters"] if name not in parameters)]
            changed = [name for name in names if old["parameters"].get(name) != parameters.get(name)]
            if old["texts_sha256"] != digest or changed:
                ways = [f"{name} = {old['parameters'].get(name)!r}, not {parameters.get(name)!r}" for name in changed]
                what = "from other texts" if old["texts_sha256"] != digest else f"with {'; '.join(ways)}"
                raise EntryExistsError(
                    f"{corpus!r} is already recorded in {self.root}, {what}. A corpus is one set of texts "
                    "recorded with one set of options: choose another name (--corpus) or another study (--out)."
                )
            if recording.space.site == site:
                existing = recording
        if existing is not None:
            try:
                check_whole(existing)
            except StudyError as error:
                logger.warning("%s It is recorded again.", error)
                return None
        return existing

    # -- entries ------------------------------------------------------------------------------------------------------

    def open(self, codec: Codec[Stored], name: str | None = None, site: str | None = None) -> Stored:
        """Open a result that is stored as an entry.

        Parameters
        ----------
        codec : Codec
            Codec of the kind of the entry.
        name, site : str, optional
            Name and site of the entry; required if there are several.

        Raises
        ------
        AmbiguousChoiceError
            If several entries fit, or none; the message lists the options.
        StudyError
            If its inputs have changed since it was computed, or one of its files is missing or damaged.
        """
        entry = self.entries.find(codec.kind, name, site)
        check_fresh(self, entry)
        return codec.read(self, entry)

    def find(self, kind: str, name: str | None = None, site: str | None = None) -> Entry:
        """Find one entry; see `Entries.find`."""
        return self.entries.find(kind, name, site)

    def compute_unless_stored(
        self,
        kind: str,
        site: str,
        name: str,
        identity: tuple[Mapping[str, Any], Mapping[str, Any]],
        compute: Callable[[], object],
    ) -> Entry:
        """Compute and store an entry, unless exactly this entry is stored.

        Parameters
        ----------
        kind, site, name : str
            Kind, site and name of the entry.
        identity : tuple of mapping
            Inputs and parameters of the entry.
        compute : callable
            Function that computes the result and stores it under this kind, site and name.

        Returns
        -------
        Entry
            The stored entry.

        Raises
        ------
        EntryExistsError
            If the name is taken by an entry with other inputs or parameters.
        """
        if not self.entries.has(kind, site, name, *identity):
            compute()
        return self.find(kind, name, site)

    def fresh(self, kind: str, name: str | None = None, site: str | None = None) -> Entry:
        """Find one entry that is up to date.

        Raises
        ------
        AmbiguousChoiceError
            If several entries fit, or none.
        StudyError
            If its inputs have changed since it was computed.
        """
        entry = self.entries.find(kind, name, site)
        check_fresh(self, entry)
        return entry

    def file(self, site: str, name: str, folder: Path) -> File:
        """Return the function that turns a suffix into the path of a file in the folder of an entry."""
        return partial(self.layout.in_entry, folder, self.subject, site, name)

    def file_of(self, entry: Entry) -> File:
        """Return the function that turns a suffix into the path of a file of an entry."""
        return self.file(entry.site, entry.name, entry.folder)

    def recording_digest(self, corpus: str, site: str) -> str:
        """Return the hash of the inputs of a recording; its images need not be complete.

        Raises
        ------
        AmbiguousChoiceError
            If the corpus was not recorded at the site.
        """
        path = self.layout.recording(site, corpus)
        if not path.is_file():
            options = [{"corpus": recording.corpus, "site": recording.space.site} for recording in self.recordings()]
            raise ambiguous(self.layout, "recordings", {"corpus": corpus, "site": site}, options, several=False)
        return dataset.recording_digest(self.load_recording(path))

    def seconds(self, name: str, site: str) -> dict[str, float]:
        """Return the wall time of a fit from the log, in seconds; no result depends on it."""
        lines = [line for line in storage.read_log(self.layout) if line["event"] == "fit"]
        times = [line["seconds"] for line in lines if (line["name"], line["site"]) == (name, site)]
        return {"seconds": times[-1]} if times else {}

    def fit_texts(self, corpora: Sequence[str]) -> frozenset[str]:
        """Return the hashes of the texts of these corpora on which networks are fitted."""
        texts = {recording.corpus: recording.texts for recording in self.recordings() if recording.corpus in corpora}
        return frozenset(sha for table in texts.values() for sha in table.loc[table["split"] == "fit", "sha256"])


@contextlib.contextmanager
def writing_to(root: str | Path, model: ModelInfo, wait: float = 0) -> Iterator[Store]:
    """Open the study of a model for recording, or create one in a new or empty folder, with a lock on the study.

    If the body fails in a study that was created by this call, the files that made it a study are removed, unless a
    recording in it can be continued. Files of the user are never removed, and an older study is never deleted.

    Parameters
    ----------
    root : str or Path
        Folder of the study.
    model : ModelInfo
        Model to record.
    wait : float, default=0
        Time to wait for another command that is writing, in seconds.

    Raises
    ------
    StudyError
        If the folder contains other files or the study of another model, or another command is writing to it.
    """
    layout = Layout(Path(root))
    if dataset.is_foreign(layout):
        raise StudyError(f"{root} is neither empty nor a study. Nothing was written: choose another folder (--out).")
    existed = [path for path in (layout.root, layout.root / storage.LOCK) if path.exists()]
    is_new = not layout.study.is_file()
    with storage.writing(layout.root, wait):
        study, created = _open_or_create(layout, model)
        try:
            yield study
        except BaseException:
            begun = study.unfinished() or layout.drafts("").is_dir()
            if is_new and not study.recordings() and not begun:
                dataset.undo(layout, created, existed)
            raise


def _open_or_create(layout: Layout, model: ModelInfo) -> tuple[Store, list[tuple[Path, str]]]:
    if layout.study.is_file():
        study = Store(layout.root)
        recorded = study.model
        if (recorded.fingerprint, recorded.dtype) == (model.fingerprint, model.dtype):
            return study, []
        if study.recordings() or study.unfinished():
            alternative = "" if study.recordings() else f", or delete the unfinished recording, {layout.unfinished}"
            raise StudyError(
                f"{layout.root} is a study of {recorded.id!r} (weights {recorded.fingerprint}, {recorded.dtype}), but "
                f"the model is {model.id!r} ({model.fingerprint}, {model.dtype}). One study is of one model: use "
                f"another folder (--out){alternative}."
            )
    created = dataset.create(layout, model)
    return Store(layout.root), created


def open_store(root: str | Path) -> Store:
    """Open the files of a study.

    Parameters
    ----------
    root : str or Path
        Folder of the study.

    Raises
    ------
    StudyError
        If the folder is not a study, or a newer version of lmri wrote it.
    """
    return Store(root)
