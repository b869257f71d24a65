"""The store: the files of one model of a study, its recordings and entries."""

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, cast

from lmri import storage
from lmri.space import NeuronSpace
from lmri.storage import corpora as corpus_tables
from lmri.storage import dataset_files as dataset
from lmri.storage.entries import (
    RECORDINGS,
    Codec,
    Entries,
    Entry,
    File,
    Reference,
    Stored,
    ambiguous,
    make_address,
    parse_address,
)
from lmri.storage.freshness import check_fresh
from lmri.storage.identifiers import GROUP
from lmri.storage.recording import Recording
from lmri.storage.recordings import RecordedModel, group_space


class Store(RecordedModel):
    """Files of one model in a study, or of the group: recordings, entries and their metadata.

    Parameters
    ----------
    root : str or Path
        Folder of the study.
    codecs : iterable of Codec
        Codecs of the kinds of entries that can be opened; see `lmri.lesions.codecs`. Recordings need no codec.
    subject, session : str, optional
        Labels of the model and of its state; required if the study contains several. The subject ``"group"`` contains
        the results of several models.

    Raises
    ------
    StudyError
        If the folder is not a study, or another version of lmri wrote it.
    AmbiguousChoiceError
        If the study contains several models and none was chosen; the message lists the choices.
    """

    def __init__(
        self,
        root: str | Path,
        codecs: Iterable[Codec[Any]] = (),
        subject: str | None = None,
        session: str | None = None,
    ) -> None:
        super().__init__(root, subject, session)
        self.entries = Entries(self.layout)
        self.codecs: Mapping[str, Codec[Any]] = {codec.kind: codec for codec in codecs}

    def at(self, scope: str) -> "Store":
        """Return the store of another scope of the same study; an empty string is this scope."""
        return cast("Store", super().at(scope))

    def _open(self, subject: str, session: str | None) -> "Store":
        return Store(self.root, self.codecs.values(), subject, session)

    def kept_results(self) -> list[Path]:
        """List the folders of finished results that could not be moved into place, because the study was locked."""
        return sorted(path for kind in storage.ENTRY_KINDS for path in self.layout.unfinished.glob(f"{kind}/*/[!.]*"))

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
        entry = self.find(codec.kind, name, site)
        check_fresh(self, entry)
        if entry.scope == self.scope:
            return codec.read(self, entry)
        address = make_address(entry.scope, entry.name, entry.site)
        return codec.renamed(codec.read(self.at(entry.scope), entry), address)

    def find(self, kind: str, name: str | None = None, site: str | None = None) -> Entry:
        """Find one entry; see `Entries.find`.

        The name may be an address in another scope, such as ``"group/g@mlp_out"``.
        """
        if name is not None:
            scope, name, own_site = parse_address(name)
            return self.at(scope).entries.find(kind, name, own_site or site)
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
        entry = self.find(kind, name, site)
        check_fresh(self, entry)
        return entry

    def file(self, site: str, name: str, folder: Path) -> File:
        """Return the function that turns a suffix into the path of a file in the folder of an entry."""
        return partial(self.layout.in_entry, folder, site, name)

    def file_of(self, entry: Entry) -> File:
        """Return the function that turns a suffix into the path of a file of an entry."""
        return self.at(entry.scope).file(entry.site, entry.name, entry.folder)

    def recording_digest(self, corpus: str, site: str) -> str:
        """Return the hash of the inputs of a recording; its images need not be complete.

        Parameters
        ----------
        corpus : str
            Corpus, or the address of a recording of another model, such as ``"sub-gpt2/news@mlp_out"``.
        site : str
            Site, unless the address contains it.

        Raises
        ------
        AmbiguousChoiceError
            If the corpus was not recorded at the site.
        """
        scope, corpus, own_site = parse_address(corpus)
        store, site = self.at(scope), own_site or site
        path = store.layout.recording(site, corpus)
        if not path.is_file():
            options = [{"corpus": recording.corpus, "site": recording.space.site} for recording in store.recordings()]
            raise ambiguous(store.layout, RECORDINGS, {"corpus": corpus, "site": site}, options, several=False)
        return dataset.recording_digest(store.load_recording(path))

    def recordings_of(self, entry: Entry) -> list[Recording]:
        """Open the recordings from which an entry was computed, directly or through other entries, in order.

        Raises
        ------
        AmbiguousChoiceError
            If a recording does not exist any more.
        StudyError
            If a file of a recording is missing or truncated.
        """
        store, references = self.at(entry.scope), self.codecs[entry.kind].references(entry)
        if named := [reference for reference in references if reference.kind == RECORDINGS]:
            addresses = [(parse_address(reference.name), reference.site) for reference in named]
            return [store.at(scope).recording(name, own_site or site) for (scope, name, own_site), site in addresses]
        sources = [store.find(reference.kind, reference.name, reference.site) for reference in references]
        return [recording for source in sources for recording in store.recordings_of(source)]

    def space_of(self, entry: Entry) -> NeuronSpace:
        """Return the neuron space of an entry; in the group, of the first model from which it was computed."""
        store = self.at(entry.scope)
        if entry.scope != GROUP:
            return store.space(entry.site)
        reference = self._first_recording(entry)
        scope, corpus, site = parse_address(reference.name)
        path = store.at(scope).layout.recording(site or reference.site, corpus)
        return group_space([store.at(scope).load_recording(path)])

    def _first_recording(self, entry: Entry) -> Reference:
        """Return the first recording from which an entry was computed, directly or through other entries."""
        reference = self.codecs[entry.kind].references(entry)[0]
        if reference.kind == RECORDINGS:
            return reference
        return self._first_recording(self.at(entry.scope).find(reference.kind, reference.name, reference.site))

    def seconds(self, name: str, site: str) -> dict[str, float]:
        """Return the wall time of a fit from the log, in seconds; no result depends on it."""
        lines = [line for line in storage.read_log(self.layout) if line["event"] == "fit"]
        key = (self.scope, name, site)
        times = [line["seconds"] for line in lines if (line.get("scope"), line["name"], line["site"]) == key]
        return {"seconds": times[-1]} if times else {}

    def fit_texts(self, entry: Entry) -> frozenset[str]:
        """Return the hashes of the texts on which the networks of an entry were fitted."""
        texts: set[str] = set()
        for reference in self.codecs[entry.kind].references(entry):
            if reference.kind == RECORDINGS:
                scope, corpus, _ = parse_address(reference.name)
                table = corpus_tables.read_texts_table(self.at(scope or entry.scope).layout, corpus)
                texts.update(table.loc[table["split"] == "fit", "sha256"])
        return frozenset(texts)


def open_store(root: str | Path, subject: str | None = None, session: str | None = None) -> Store:
    """Open the files of a study.

    Parameters
    ----------
    root : str or Path
        Folder of the study.
    subject, session : str, optional
        Labels of the model and of its state; required if the study contains several.

    Raises
    ------
    StudyError
        If the folder is not a study, or another version of lmri wrote it.
    AmbiguousChoiceError
        If the study contains several models and none was chosen.
    """
    return Store(root, (), subject, session)
