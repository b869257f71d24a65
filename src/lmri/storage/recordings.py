"""The recordings of one model of a study: opening them, and the checks before a new one."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from lmri import storage
from lmri.exceptions import AmbiguousChoiceError, EntryExistsError, SpaceMismatchError, StudyError
from lmri.space import ModelInfo, NeuronSpace
from lmri.storage import Layout
from lmri.storage import corpora as corpus_tables
from lmri.storage import dataset_files as dataset
from lmri.storage.entries import ambiguous, parse_address
from lmri.storage.identifiers import GROUP, split_scope
from lmri.storage.recording import Recording, Run, check_whole
from lmri.storage.subjects import choose_scope, read_model, subjects_table

logger = logging.getLogger(__name__)

_LONG_ENOUGH = 40  # characters


class RecordedModel:
    """Files of one model in a study: its description and its recordings.

    Parameters
    ----------
    root : str or Path
        Folder of the study.
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

    def __init__(self, root: str | Path, subject: str | None = None, session: str | None = None) -> None:
        check_version(Layout(Path(root)))
        layout = Layout(Path(root))
        self.layout = layout.at(choose_scope(layout, subject, session))
        self._read: dict[Path, tuple[list[tuple[int, int]], dict[str, Any], pd.DataFrame]] = {}
        self._others: dict[str, RecordedModel] = {}

    @property
    def root(self) -> Path:
        """Folder of the study."""
        return self.layout.root

    @property
    def scope(self) -> str:
        """Scope of this object: a subject, a session of a subject, or the group."""
        return self.layout.scope

    @property
    def subject(self) -> str:
        """BIDS label of the model; an empty string for the group."""
        return self.layout.subject

    @property
    def session(self) -> str | None:
        """BIDS label of the state of the model; None if it has no sessions."""
        return self.layout.session

    @property
    def subjects(self) -> pd.DataFrame:
        """Table of all models of the study: ``scope, subject, session, id, revision, fingerprint, ...``.

        Columns that users added to ``participants.tsv`` are included.
        """
        return subjects_table(self.layout)

    def at(self, scope: str) -> "RecordedModel":
        """Return the files of another scope of the same study; an empty string is this scope."""
        if scope in ("", self.scope):
            return self
        if scope not in self._others:
            if scope != GROUP and scope not in self.layout.scopes():
                choices = ", ".join([*self.layout.scopes(), GROUP])
                raise AmbiguousChoiceError(f"{self.root} has no scope {scope!r}. Choose from: {choices}.")
            subject, session = split_scope(scope)
            self._others[scope] = self._open(subject or GROUP, session)
        return self._others[scope]

    def _open(self, subject: str, session: str | None) -> "RecordedModel":
        """Open another scope of the same study."""
        return RecordedModel(self.root, subject, session)

    @property
    def model(self) -> ModelInfo:
        """Recorded model."""
        return read_model(self.layout)

    @property
    def model_location(self) -> str | None:
        """Location from which the model was last loaded, according to the log."""
        lines = [line for line in storage.read_log(self.layout) if line.get("scope") == self.scope]
        locations = [line["model"] for line in lines if line.get("model")]
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
            Corpus and site of the recording; required if there are several. The corpus may be an address in another
            scope, such as ``"sub-gpt2/news@mlp_out"``.

        Raises
        ------
        AmbiguousChoiceError
            If several fit, or none; the message lists the options.
        StudyError
            If a file of the recording is missing or truncated.
        """
        scope, name, own_site = parse_address(corpus or "")
        if scope:
            return self.at(scope).recording(name, own_site or site)
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
        """Open the recordings of one site: of one corpus, of some corpora, or of all.

        Corpora may be addresses in other scopes, such as ``"sub-gpt2/news@mlp_out"``.
        """
        corpora = [corpora] if isinstance(corpora, str) else corpora
        if corpora and all(parse_address(corpus)[0] for corpus in corpora):
            return [self.recording(corpus, site) for corpus in corpora]
        site = self.site(site)
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
        files = [path, *corpus_tables.tables_of(self.layout, path.stem)]
        stamps = [(file.stat().st_mtime_ns, file.stat().st_size) for file in files if file.is_file()]
        if path not in self._read or self._read[path][0] != stamps:
            index = storage.read_json(path)
            self._read[path] = (stamps, index, corpus_tables.read_texts_table(self.layout, path.stem))
        _, index, texts = self._read[path]
        return index, texts

    def known_split(self) -> dict[str, str]:
        """Return the split, ``"fit"`` or ``"test"``, of the hash of each text that any model has recorded."""
        return corpus_tables.known_split(self.layout)

    def check_apart(self, texts: Sequence[str], what: str) -> None:
        """Raise if any of the texts was used for fitting by any model of this study.

        Raises
        ------
        StudyError
            If a text was used for fitting, or contains one that was; the message contains their number.
        """
        fitted = corpus_tables.fitted_texts(self.layout)
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
            for path in self.layout.recorded_files()
            if "_run-" in path.name and not path.name.endswith(storage.ROUTING)
        ]
        return [path for path in files if path.suffix in (".nii", ".tsv") and path not in named]

    def unfinished(self) -> list[Path]:
        """List the folders of recordings that are in progress or were interrupted."""
        return self.layout.unfinished_recordings()

    def clear_remains(self, corpus: str, site: str) -> None:
        """Delete the files of an interrupted or damaged recording of this corpus and site."""
        storage.remove(self.layout.recording(site, corpus))
        others = any(recording.corpus == corpus for recording in self.recordings())
        for path in self.layout.recorded_files(corpus):
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
        self,
        corpus: str,
        site: str,
        texts: Sequence[str],
        parameters: Mapping[str, Any],
        hashes: Sequence[str] | None = None,
    ) -> Recording | None:
        """Return the stored recording if it has the same texts and parameters, None if there is no such recording.

        Parameters
        ----------
        corpus, site : str
            Corpus and site to record.
        texts : sequence of str
            Texts, as the model reads them.
        parameters : mapping
            Parameters of the recording.
        hashes : sequence of str, optional
            Hashes of the texts that all models share, if they are not `texts`, such as prompts.

        Raises
        ------
        EntryExistsError
            If this model has recorded the corpus, at any site, from other texts or with other parameters; or if another
            model has recorded it from other texts, or with another seed or share of held-out texts.
        """
        self.check_new_corpus(corpus)
        corpus_tables.check_same_corpus(self.layout, corpus, hashes or corpus_tables.hashes_of(texts), parameters)
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


def group_space(recordings: Sequence[Recording]) -> NeuronSpace:
    """Return the neuron space of several models: the layers of the first, without its identity.

    Raises
    ------
    SpaceMismatchError
        If the models differ in site, number of layers or widths. Module paths may differ.
    """
    first = recordings[0]
    for other in recordings[1:]:
        if (other.space.site, other.space.widths) != (first.space.site, first.space.widths):
            raise SpaceMismatchError(
                f"{other.scope} has {other.space.describe()}, but {first.scope} has {first.space.describe()}. A group "
                "decomposition needs the same site, number of layers and widths in all models."
            )
    return NeuronSpace(first.space.layers, first.space.site)


def check_version(layout: Layout) -> None:
    """Raise `StudyError` if a folder is not a study in the format of this version of lmri."""
    root = layout.root
    if not layout.study.is_file():
        problem = "is not a study (it has no lmri/study.json)" if root.exists() else "does not exist"
        raise StudyError(f"{root} {problem}. Check the path, or create a study with `lmri record`.")
    version = storage.read_json(layout.study).get("format_version")
    if isinstance(version, int) and 1 <= version < storage.FORMAT_VERSION:
        raise StudyError(
            f"{root} has format version {version}; this version of lmri reads version {storage.FORMAT_VERSION}. "
            f"Upgrade the study in place, without copying its images: lmri upgrade {root}"
        )
    if version != storage.FORMAT_VERSION:
        raise StudyError(
            f"{root} has format version {version!r}; this version of lmri reads version {storage.FORMAT_VERSION}. "
            "Update lmri."
        )
