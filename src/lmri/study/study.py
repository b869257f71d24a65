"""The study itself: finding what is in it, and putting results into it."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from lmri import storage
from lmri.comparison import Comparison, compare
from lmri.exceptions import EntryExistsError, StudyError
from lmri.networks import NetworkSet
from lmri.recording import Recording, Run, check_whole
from lmri.report import Contents, is_report, write_report
from lmri.scores import Scores
from lmri.space import ModelInfo, NeuronSpace
from lmri.storage import Layout
from lmri.study import dataset, results
from lmri.study.entries import Entries, Entry, ambiguous


class Study:
    """An open study.

    Parameters
    ----------
    root : str or Path
        The folder.

    Raises
    ------
    StudyError
        If there is no study, or a newer version wrote it.
    """

    def __init__(self, root: str | Path) -> None:
        self.layout = Layout(Path(root))
        if not self.layout.study.is_file():
            raise StudyError(f"{root} is not a study (it has no lmri/study.json). Make one with `lmri record`.")
        self.info = storage.read_json(self.layout.study)
        version = self.info.get("format_version")
        if not isinstance(version, int) or version > storage.FORMAT_VERSION:
            raise StudyError(
                f"{root} has format version {version!r}; this lmri reads up to {storage.FORMAT_VERSION}. Update lmri."
            )
        self.entries = Entries(self.layout)

    @property
    def root(self) -> Path:
        """The folder."""
        return self.layout.root

    @property
    def model(self) -> ModelInfo:
        """The model that was recorded."""
        return ModelInfo(**self.info["model"])

    @property
    def subject(self) -> str:
        """BIDS label of the model."""
        return str(self.info["subject"])

    @property
    def model_location(self) -> str | None:
        """Where the model was last loaded from, as the log says."""
        places = [line["model"] for line in storage.read_log(self.layout) if line.get("model")]
        return str(places[-1]) if places else None

    # -- recordings ---------------------------------------------------------------------------------------------------

    def recordings(self, site: str | None = None) -> list[Recording]:
        """List all recordings, of one site or of all, in alphabetic order."""
        found = [self._load_recording(path) for path in self.layout.recordings()]
        return [recording for recording in found if site is None or recording.space.site == site]

    def recording(self, corpus: str | None = None, site: str | None = None) -> Recording:
        """Open one recording.

        Parameters
        ----------
        corpus, site : str, optional
            Needed as far as there is a choice.

        Raises
        ------
        AmbiguousChoiceError
            If several fit, or none; the message lists the options.
        StudyError
            If a file of it is missing or cut short.
        """
        fitting = [one for one in self.recordings(site) if corpus is None or one.corpus == corpus]
        if len(fitting) != 1:
            options = [{"corpus": one.corpus, "site": one.space.site} for one in fitting or self.recordings()]
            raise ambiguous(self.layout, "recordings", {"corpus": corpus, "site": site}, options, bool(fitting))
        check_whole(fitting[0])
        return fitting[0]

    @property
    def sites(self) -> list[str]:
        """Sites that were recorded."""
        return sorted({recording.space.site for recording in self.recordings()})

    def site(self, site: str | None = None) -> str:
        """Return `site` if it was recorded, or the only one there is."""
        if site in self.sites or (site is None and len(self.sites) == 1):
            return site or self.sites[0]
        options = [{"site": one} for one in self.sites]
        raise ambiguous(self.layout, "recordings", {"site": site}, options, site is None)

    def group(self, site: str | None = None, corpora: Sequence[str] | None = None) -> list[Recording]:
        """Open the recordings of one site: those of some corpora, or all."""
        site = self.site(site)
        wanted = list(dict.fromkeys(corpora or [recording.corpus for recording in self.recordings(site)]))
        return [self.recording(corpus, site) for corpus in wanted]

    def space(self, site: str | None = None) -> NeuronSpace:
        """Give the neurons of a site."""
        return self.recordings(self.site(site))[0].space

    def _load_recording(self, path: Path) -> Recording:
        index = storage.read_json(path)
        root = self.layout.root
        runs = tuple(
            Run(root / run["img"], root / run["events"], root / run["tokens"], run["n_volumes"])
            for run in index["runs"]
        )
        texts = storage.read_table(self.layout.texts(index["corpus"]), dataset.TEXT_COLUMNS)
        return Recording(NeuronSpace.from_dict(index["space"]), index["corpus"], runs, texts, index)

    def _split(self) -> pd.DataFrame:
        if not self.layout.split.is_file():
            return pd.DataFrame(columns=list(dataset.SPLIT_COLUMNS))
        return storage.read_table(self.layout.split, dataset.SPLIT_COLUMNS)

    def known_split(self) -> dict[str, str]:
        """Give the side, ``"fit"`` or ``"test"``, of every text hash that the study has seen."""
        table = self._split()
        return dict(zip(table["sha256"], table["split"], strict=True))

    def check_apart(self, texts: Sequence[str], what: str) -> None:
        """Refuse texts of which some are fitted in this study.

        Raises
        ------
        StudyError
            Naming how many.
        """
        known = self.known_split()
        fitted = [text for text in texts if known.get(storage.text_hash(text)) == "fit"]
        if fitted:
            raise StudyError(
                f"{len(fitted)} of the {len(texts)} texts of {what} were recorded for fitting in this study (first: "
                f"{fitted[0][:50]!r}). Scores on them would flatter the networks: leave them out, or use "
                "--task perplexity, which takes the texts held out."
            )

    def check_new_recording(
        self, corpus: str, site: str, texts: Sequence[str], parameters: Mapping[str, Any]
    ) -> Recording | None:
        """Return the same recording if it is there, None if it is new.

        Raises
        ------
        EntryExistsError
            If the corpus was recorded, at any site, from other texts or with other parameters.
        """
        digest = dataset.texts_digest(texts)
        existing = None
        for recording in self.recordings():
            if recording.corpus != corpus:
                continue
            old = recording.info
            changed = [name for name, value in parameters.items() if old["parameters"].get(name) != value]
            if old["texts_sha256"] != digest or changed:
                what = "other texts" if old["texts_sha256"] != digest else f"another {', '.join(changed)}"
                raise EntryExistsError(
                    f"{corpus!r} is already recorded in {self.root}, from {what}. A corpus is one set of texts, read "
                    "one way: give the new one another name (--corpus), or use another study (--out)."
                )
            if recording.space.site == site:
                existing = recording
        return existing

    # -- results ------------------------------------------------------------------------------------------------------

    def _file(self, folder: Path, site: str, name: str) -> results.File:
        return partial(self.layout.in_entry, folder, self.subject, site, name)

    def save_decomposition(self, estimator: Any, recordings: Sequence[Recording], name: str | None = None) -> Entry:
        """Store a fitted decomposition of this study's recordings, with its time courses and metrics.

        Parameters
        ----------
        estimator : CanICA, FastICA or DictLearning
            Fitted on the images of `recordings`, in this order.
        recordings : sequence of Recording
            Of one site.
        name : str, optional
            By default the method.
        """
        name, site = name or estimator.method_name, recordings[0].space.site

        def write(folder: Path) -> None:
            results.write_decomposition(self._file(folder, site, name), estimator, recordings, name)

        identity = results.decomposition_identity(estimator, recordings)
        return self.entries.write("decompositions", site, name, *identity, estimator.info_, write)

    def decomposition(self, name: str | None = None, site: str | None = None) -> NetworkSet:
        """Open the maps of a decomposition, not thresholded."""
        entry = self.entries.find("decompositions", name, site)
        file = self._file(entry.folder, entry.site, entry.name)
        fit_texts = self._fit_texts(entry.info["inputs"]["corpora"])
        return results.read_decomposition(file, self.space(entry.site), entry.name, entry.info["results"], fit_texts)

    def time_courses(self, name: str | None = None, site: str | None = None) -> list[tuple[str, int, pd.DataFrame]]:
        """Open the time courses of a decomposition: corpus, run and a table ``(n_volumes, n_networks)`` of each run."""
        entry = self.entries.find("decompositions", name, site)
        file = self._file(entry.folder, entry.site, entry.name)
        return [
            (corpus, run, results.read_time_courses(file, corpus, run))
            for corpus in entry.info["inputs"]["corpora"]
            for run in range(1, len(self.recording(corpus, entry.site).runs) + 1)
        ]

    def save_networks(self, networks: NetworkSet, decomposition: str, name: str | None = None) -> Entry:
        """Store thresholded networks: members, weights, z maps for viewers, and tables.

        Parameters
        ----------
        networks : NetworkSet
            Thresholded.
        decomposition : str
            Name of the decomposition they come from.
        name : str, optional
            By default that of the decomposition.
        """
        name, site = name or decomposition, networks.space.site
        sizes = networks.members.sum(axis=1)  # raises if they are not thresholded

        def write(folder: Path) -> None:
            results.write_networks(self._file(folder, site, name), networks, name)

        inputs, threshold = {"decomposition": decomposition}, dict(networks.info["threshold"])
        counts = {"n_networks": len(networks), "n_empty": int((sizes == 0).sum())}
        return self.entries.write("networks", site, name, inputs, threshold, counts, write)

    def networks(self, name: str | None = None, site: str | None = None) -> NetworkSet:
        """Open a set of thresholded networks."""
        entry = self.entries.find("networks", name, site)
        source = self.entries.find("decompositions", entry.info["inputs"]["decomposition"], entry.site)
        file = self._file(entry.folder, entry.site, entry.name)
        info = {**source.info["results"], "threshold": entry.info["parameters"]}
        fit_texts = self._fit_texts(source.info["inputs"]["corpora"])
        return results.read_networks(file, self.space(entry.site), entry.name, info, fit_texts)

    def _fit_texts(self, corpora: Sequence[str]) -> frozenset[str]:
        split = self._split()
        return frozenset(split.loc[split["corpus"].isin(corpora) & (split["split"] == "fit"), "sha256"])

    def save_comparison(self, comparison: Comparison, seed: int) -> Entry:
        """Store how two stored network sets match."""
        first, second = comparison.first.method, comparison.second.method
        name, site = f"{first}--{second}", comparison.first.space.site

        def write(folder: Path) -> None:
            results.write_comparison(self._file(folder, site, name), comparison)

        found = {
            "mean_abs_r": comparison.mean_r,
            "null_mean": comparison.null_mean,
            "null_95": comparison.null_95,
        }
        inputs = {"first": first, "second": second}
        return self.entries.write("comparisons", site, name, inputs, {"seed": seed}, found, write)

    def comparison(self, name: str | None = None, site: str | None = None) -> Comparison:
        """Open a comparison; it is made again from the networks, with the stored seed."""
        entry = self.entries.find("comparisons", name, site)
        first, second = (self.networks(entry.info["inputs"][side], entry.site) for side in ("first", "second"))
        return compare(first, second, entry.info["parameters"]["seed"])

    def save_scores(
        self, scores: Scores, name: str, site: str, inputs: Mapping[str, Any], parameters: Mapping[str, Any]
    ) -> Entry:
        """Store an evaluation: its items, its conditions and the summary made of them.

        Parameters
        ----------
        scores : Scores
            As `lmri.evaluate` gives them; the weights they were made with count as an input.
        name, site : str
            The place of the entry.
        inputs : mapping
            What was scored, such as ``{"networks": "canica"}``.
        parameters : mapping
            How, such as ``{"intervention": "lesion", "n_controls": 20}``.
        """

        def write(folder: Path) -> None:
            results.write_scores(self._file(folder, site, name), scores)

        found = {
            "tasks": [asdict(task) for task in scores.tasks],
            "model": asdict(scores.model) if scores.model else None,
            "p_floor": scores.p_floor,
        }
        made_of = {**inputs, "model": scores.model.fingerprint if scores.model else None}
        return self.entries.write("scores", site, name, made_of, {**parameters, "seed": scores.seed}, found, write)

    def scores(self, name: str | None = None, site: str | None = None) -> Scores:
        """Open an evaluation."""
        entry = self.entries.find("scores", name, site)
        file = self._file(entry.folder, entry.site, entry.name)
        return results.read_scores(file, entry.info["results"], entry.info["parameters"]["seed"])

    # -- report -------------------------------------------------------------------------------------------------------

    def report(self, out: str | Path | None = None) -> Path:
        """Write the report: one HTML file with everything that is in the study.

        Parameters
        ----------
        out : str or Path, optional
            By default ``report.html`` in the study.
        """
        path = Path(out) if out else self.layout.report
        if path.exists() and not is_report(path):
            raise StudyError(f"{path} exists and is not a report. Nothing was overwritten: choose another --out.")
        found = {kind: self.entries.list(kind) for kind in storage.ENTRY_KINDS}
        write_report(
            path,
            Contents(
                model=self.model,
                recordings=self.recordings(),
                networks=[(one.info, self.networks(one.name, one.site)) for one in found["networks"]],
                time_courses={
                    (one.site, one.name): self.time_courses(one.name, one.site) for one in found["decompositions"]
                },
                comparisons=[(one.info, self.comparison(one.name, one.site)) for one in found["comparisons"]],
                scores=[(one.info, self.scores(one.name, one.site)) for one in found["scores"]],
                versions=storage.versions(),
            ),
        )
        return path

    def __repr__(self) -> str:
        kinds = ", ".join(f"{len(self.entries.list(kind))} {kind}" for kind in storage.ENTRY_KINDS)
        return f"<Study {str(self.root)!r} of {self.model.id}: {len(self.recordings())} recordings, {kinds}>"


def open_study(root: str | Path) -> Study:
    """Open a study.

    Parameters
    ----------
    root : str or Path
        Its folder.

    Raises
    ------
    StudyError
        If there is no study, or a newer version wrote it.
    """
    return Study(root)


def open_or_create(root: str | Path, model: ModelInfo) -> Study:
    """Open the study of this model, or make one in a new or empty folder.

    Raises
    ------
    StudyError
        If the folder holds something else, or the study of another model.
    """
    layout = Layout(Path(root))
    if layout.study.is_file():
        study = Study(root)
        if study.model.fingerprint != model.fingerprint or study.model.dtype != model.dtype:
            raise StudyError(
                f"{root} is a study of {study.model.id!r} (weights {study.model.fingerprint}, {study.model.dtype}); "
                f"this is {model.id!r} ({model.fingerprint}, {model.dtype}). One study is of one model: "
                "use another folder (--out)."
            )
        return study
    if layout.root.exists() and (not layout.root.is_dir() or any(layout.root.iterdir())):
        raise StudyError(f"{root} is neither empty nor a study. Nothing was written: choose another folder (--out).")
    dataset.create(layout, model)
    return Study(root)
