"""The study itself: finding what is in it, and putting results into it."""

import contextlib
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from lmri import storage
from lmri.comparison import (
    AnyComparison,
    Consensus,
    CourseComparison,
    compare,
    compare_many,
    compare_time_courses,
)
from lmri.exceptions import EntryExistsError, StudyError
from lmri.networks import NetworkSet
from lmri.outcome import Outcome
from lmri.recording import Recording, Run, check_whole
from lmri.reproducibility import Reproducibility
from lmri.scores import Scores
from lmri.space import ModelInfo, NeuronSpace
from lmri.storage import Layout
from lmri.study import dataset, experiments, labels, results
from lmri.study.entries import Entries, Entry, ambiguous, stale

logger = logging.getLogger(__name__)

_LONG_ENOUGH = 40  # characters


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
        self._read: dict[Path, tuple[list[tuple[int, int]], dict[str, Any], pd.DataFrame]] = {}

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
        index, texts = self._read_recording(path)
        root = self.layout.root
        runs = tuple(
            Run(root / run["img"], root / run["events"], root / run["tokens"], run["n_volumes"])
            for run in index["runs"]
        )
        return Recording(NeuronSpace.from_dict(index["space"]), index["corpus"], runs, texts, index)

    def _read_recording(self, path: Path) -> tuple[dict[str, Any], pd.DataFrame]:
        """Read an index and its texts, once as long as neither file changes: every question asks for them."""
        table = self.layout.texts(path.stem)
        stamps = [(one.stat().st_mtime_ns, one.stat().st_size) for one in (path, table) if one.is_file()]
        if path not in self._read or self._read[path][0] != stamps:
            index = storage.read_json(path)
            self._read[path] = (stamps, index, storage.read_table(table, dataset.TEXT_COLUMNS))
        _, index, texts = self._read[path]
        return index, texts

    def known_split(self) -> dict[str, str]:
        """Give the side, ``"fit"`` or ``"test"``, of every text hash that the study has seen."""
        # From what was recorded: split.tsv is there to be read, and an interrupted recording may have added to it.
        known: dict[str, str] = {}
        for one in self.recordings():
            for column in ("sha256", "prompt_sha256"):
                if column in one.texts:
                    known |= dict(one.texts[[column, "split"]].to_numpy())
        return known

    def check_apart(self, texts: Sequence[str], what: str) -> None:
        """Refuse texts of which some are fitted in this study.

        Raises
        ------
        StudyError
            Naming how many.
        """
        fitted = {text for recording in self.recordings() for text in recording.fit_texts}
        # A prompt may hold a fitted text without being one; short texts would be found in anything.
        long = [text for text in fitted if len(text) >= _LONG_ENOUGH]
        found = [text for text in texts if text in fitted or any(one in text for one in long)]
        if found:
            raise StudyError(
                f"{len(found)} of the {len(texts)} texts of {what} were recorded for fitting in this study, or hold "
                f"one that was (first: {found[0][:50]!r}). Scores on them would flatter the networks: leave them out, "
                "or use --task perplexity, which takes the texts held out."
            )

    def orphans(self) -> list[Path]:
        """List images and tables of runs that no index names, as an interrupted recording leaves them."""
        named = {path for one in self.recordings() for run in one.runs for path in (run.img, run.events, run.tokens)}
        named |= {storage.confounds_beside(path) for path in named}
        found = [
            path
            for path in self.layout.recorded_files(self.subject)
            if "_run-" in path.name and not path.name.endswith(storage.ROUTING)
        ]
        return [path for path in found if path.suffix in (".nii", ".tsv") and path not in named]

    def unfinished(self) -> list[Path]:
        """List the folders of recordings that are being made, or were interrupted."""
        return sorted(path for path in self.layout.unfinished.glob("*") if not path.name.startswith(storage.PARTIAL))

    def clear_remains(self, corpus: str, site: str) -> None:
        """Delete what an interrupted or damaged recording of this corpus and site has left."""
        storage.remove(self.layout.recording(site, corpus))
        others = any(recording.corpus == corpus for recording in self.recordings())
        for path in self.layout.recorded_files(self.subject, corpus):
            # The tables of another site's recording are the same ones, and stay; and so do routing tables, which bear
            # the name of the router and belong to the experts.
            of_site = f"_space-{storage.bids_label(site)}_" in path.name
            if not others or (of_site and storage.ROUTING.removesuffix("tsv") not in path.name):
                storage.remove(path)

    def check_new_corpus(self, corpus: str) -> None:
        """Refuse a corpus name that could not be told from another one on every file system.

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
        """Return the same recording if it is there, None if it is new.

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
                    f"{corpus!r} is already recorded in {self.root}, {what}. A corpus is one set of texts, read "
                    "one way: give the new one another name (--corpus), or use another study (--out)."
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

    # -- results ------------------------------------------------------------------------------------------------------

    def _file(self, folder: Path, site: str, name: str) -> results.File:
        return partial(self.layout.in_entry, folder, self.subject, site, name)

    def save_decomposition(
        self,
        estimator: Any,
        recordings: Sequence[Recording],
        name: str | None = None,
        reproducibility: Reproducibility | None = None,
    ) -> Entry:
        """Store a fitted decomposition of this study's recordings, with its time courses, metrics and surrogates.

        Parameters
        ----------
        estimator : NeuronICA, CanICA, FastICA or DictLearning
            Fitted on the images of `recordings`, in this order. Surrogates are stored if they were made.
        recordings : sequence of Recording
            Of one site.
        name : str, optional
            By default the method.
        reproducibility : Reproducibility, optional
            What other samples of the texts give.
        """
        results.check_fitted_on(estimator, recordings)
        name, site = name or estimator.method_name, recordings[0].space.site
        null, found = getattr(estimator, "null_", None), reproducibility

        def write(folder: Path) -> None:
            results.write_decomposition(self._file(folder, site, name), estimator, recordings, name, found)

        repeats = (null.n_surrogates if null else 0, found.n_bootstraps if found else 0, found.n_splits if found else 0)
        identity = results.decomposition_identity(estimator, recordings, *repeats)
        about = {"null": {"n_values": null.n_values, "n_surrogates": null.n_surrogates}} if null else {}
        order = getattr(estimator, "order_", None)
        about |= {"order": {"recommended": order.recommended, "at_ceiling": order.at_ceiling}} if order else {}
        is_new = not self.entries.has("decompositions", site, name, *identity)
        entry = self.entries.write("decompositions", site, name, *identity, {**estimator.info_, **about}, write)
        if is_new:
            storage.log(self.layout, "fit", name=name, site=site, seconds=round(estimator.seconds_, 3))
        return entry

    def _seconds(self, name: str, site: str) -> dict[str, float]:
        """Wall time of a fit, as the log has it: no result depends on it."""
        lines = [line for line in storage.read_log(self.layout) if line["event"] == "fit"]
        times = [line["seconds"] for line in lines if (line["name"], line["site"]) == (name, site)]
        return {"seconds": times[-1]} if times else {}

    def decomposition(self, name: str | None = None, site: str | None = None) -> NetworkSet:
        """Open the maps of a decomposition, not thresholded."""
        entry = self._decomposition_entry(name, site)
        file = self._file(entry.folder, entry.site, entry.name)
        fit_texts = self._fit_texts(entry.info["inputs"]["corpora"])
        info = {**entry.info["results"], **self._seconds(entry.name, entry.site)}
        maps = results.read_decomposition(file, self.space(entry.site), entry.name, info, fit_texts)
        return self._labelled(maps, entry)

    def reliability(self, name: str | None = None, site: str | None = None) -> pd.DataFrame | None:
        """Open a decomposition's agreement between samples of texts by their number; None if it was not computed."""
        entry = self._decomposition_entry(name, site)
        return results.read_reliability(self._file(entry.folder, entry.site, entry.name))

    def _decomposition_entry(self, name: str | None, site: str | None) -> Entry:
        entry = self.entries.find("decompositions", name, site)
        now = [dataset.recording_digest(one) for one in self.group(entry.site, entry.info["inputs"]["corpora"])]
        if now != entry.info["inputs"]["recordings_sha256"]:
            raise stale(entry, "recordings")
        return entry

    def time_courses(self, name: str | None = None, site: str | None = None) -> list[tuple[str, int, pd.DataFrame]]:
        """Open the time courses of a decomposition: corpus, run and a table ``(n_volumes, n_networks)`` of each run."""
        entry = self._decomposition_entry(name, site)
        file = self._file(entry.folder, entry.site, entry.name)
        return [
            (corpus, number, results.read_time_courses(file, corpus, number, run.n_volumes))
            for corpus in entry.info["inputs"]["corpora"]
            for number, run in enumerate(self.recording(corpus, entry.site).runs, start=1)
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

        # Labels may be edited, and no result may depend on them.
        if "label" in networks.metrics:
            networks = replace(networks, metrics=networks.metrics.drop(columns="label"))

        def write(folder: Path) -> None:
            results.write_networks(self._file(folder, site, name), networks, name)

        source = self._decomposition_entry(decomposition, site)
        maps = self.decomposition(decomposition, site).weights
        if maps.shape != networks.weights.shape or not np.allclose(maps, networks.weights, rtol=1e-4, atol=1e-6):
            raise ValueError(
                f"These networks are not the maps of the decomposition {decomposition!r} at {site}. Save the "
                "decomposition that they come from under another name first, and name that one."
            )
        inputs = {"decomposition": decomposition, "decomposition_sha256": source.digest}
        counts = {"n_networks": len(networks), "n_empty": int((sizes == 0).sum())}
        hint = f"make a second set of the same maps (lmri threshold STUDY {decomposition} --by ... --name OTHER)"
        threshold = dict(networks.info["threshold"])
        return self.entries.write("networks", site, name, inputs, threshold, counts, write, hint)

    def networks(self, name: str | None = None, site: str | None = None) -> NetworkSet:
        """Open a set of thresholded networks."""
        entry = self.entries.find("networks", name, site)
        source = self._decomposition_entry(entry.info["inputs"]["decomposition"], entry.site)
        if source.digest != entry.info["inputs"]["decomposition_sha256"]:
            raise stale(entry, f"decomposition {source.name!r}")
        file = self._file(entry.folder, entry.site, entry.name)
        info = {
            **source.info["results"],
            **self._seconds(source.name, source.site),
            "threshold": entry.info["parameters"],
        }
        fit_texts = self._fit_texts(source.info["inputs"]["corpora"])
        found = results.read_networks(file, self.space(entry.site), entry.name, info, fit_texts)
        return self._labelled(found, source)

    def _fit_texts(self, corpora: Sequence[str]) -> frozenset[str]:
        texts = {one.corpus: one.texts for one in self.recordings() if one.corpus in corpora}
        return frozenset(sha for table in texts.values() for sha in table.loc[table["split"] == "fit", "sha256"])

    def _networks_digest(self, name: str, site: str) -> str:
        return self.entries.find("networks", name, site).digest

    def compare_sites(self, first: tuple[str, str], second: tuple[str, str], seed: int = 0) -> CourseComparison:
        """Compare the time courses of two stored network sets, of two sites or of one.

        Parameters
        ----------
        first, second : tuple of str
            Name and site of a network set; both were fitted on the same corpora.
        seed : int, default=0
            Of the nulls.

        Raises
        ------
        StudyError
            If they were fitted on other corpora.
        """
        for one in (first, second):
            self.networks(*one)  # refuses what is stale
        sources = [self.entries.find("networks", *one).info["inputs"]["decomposition"] for one in (first, second)]
        sites = (first[1], second[1])
        corpora = [
            self._decomposition_entry(source, site).info["inputs"]["corpora"]
            for source, site in zip(sources, sites, strict=True)
        ]
        if corpora[0] != corpora[1]:
            raise StudyError(
                f"{first[0]!r} at {first[1]} was fitted on {', '.join(corpora[0])}, and {second[0]!r} at "
                f"{second[1]} on {', '.join(corpora[1])}. Time courses can be compared of the same texts only: "
                "decompose both sites with the same --corpus, in the same order."
            )
        courses = [self.time_courses(source, site) for source, site in zip(sources, sites, strict=True)]
        events = {corpus: self.recording(corpus, first[1]).events for corpus in corpora[0]}
        texts = [list(events[corpus][run - 1]["text_id"]) for corpus, run, _ in courses[0]]
        # The networks may have another name than the decomposition whose time courses these are.
        runs = [
            [table.set_axis(results.names(name, table.shape[1]), axis=1) for _, _, table in own]
            for (name, _), own in zip((first, second), courses, strict=True)
        ]
        return compare_time_courses(runs[0], runs[1], texts, seed, ("@".join(first), "@".join(second)))

    def save_comparison(self, comparison: AnyComparison, seed: int, name: str | None = None) -> Entry:
        """Store how stored network sets match.

        Parameters
        ----------
        comparison : Comparison, CourseComparison or Consensus
            Of network sets of this study, under their names there; time courses as `compare_sites` gives them.
        seed : int
            It was made with.
        name : str, optional
            By default all names.
        """
        site: str
        tables = {"matches.tsv": comparison.table}
        found: dict[str, Any]
        if isinstance(comparison, Consensus):
            names, site = list(comparison.names), comparison.sets[0].space.site
            inputs: dict[str, Any] = {
                "sets": names,
                "sets_sha256": [self._networks_digest(one, site) for one in names],
            }
            tables = {"consensus.tsv": comparison.table, "pairs.tsv": comparison.pairs}
            counts = comparison.table["found_by"].value_counts()
            found = {"n_networks": len(comparison.table), "n_found_by": {str(k): int(v) for k, v in counts.items()}}
        else:
            if isinstance(comparison, CourseComparison):
                (first, site), (second, other) = (
                    one.method.split("@") for one in (comparison.first, comparison.second)
                )
                names = [first, f"{second}-{storage.bids_label(other)}"]
            else:
                first, second = names = [comparison.first.method, comparison.second.method]
                site = other = comparison.first.space.site
            inputs = {
                "first": first,
                "second": second,
                "first_sha256": self._networks_digest(first, site),
                "second_sha256": self._networks_digest(second, other),
            }
            if isinstance(comparison, CourseComparison):
                inputs["second_site"] = other
            found = {
                "mean_abs_r": comparison.mean_r,
                "null_mean": comparison.null_mean,
                "null_95": comparison.null_95,
            }
        name = name or "--".join(names)

        def write(folder: Path) -> None:
            for suffix, table in tables.items():
                storage.write_table(self._file(folder, site, name)(suffix), table)

        return self.entries.write("comparisons", site, name, inputs, {"seed": seed}, found, write)

    def comparison(self, name: str | None = None, site: str | None = None) -> AnyComparison:
        """Open a comparison; it is made again from the networks, with the stored seed."""
        entry = self.entries.find("comparisons", name, site)
        inputs, seed = entry.info["inputs"], entry.info["parameters"]["seed"]
        if "sets" in inputs:
            made_of = [(one, entry.site, sha) for one, sha in zip(inputs["sets"], inputs["sets_sha256"], strict=True)]
        else:
            sites = {"first": entry.site, "second": inputs.get("second_site", entry.site)}
            made_of = [(inputs[side], sites[side], inputs[f"{side}_sha256"]) for side in sites]
        for one, at, sha in made_of:
            if self._networks_digest(one, at) != sha:
                raise stale(entry, f"networks {one!r}")
        if "second_site" in inputs:
            return self.compare_sites(made_of[0][:2], made_of[1][:2], seed)
        # Whether they may be compared was decided when the entry was made.
        sets = [self.networks(one, at) for one, at, _ in made_of]
        if "sets" in inputs:
            return compare_many(sets, seed, inputs["sets"], same_standardization=False)
        return compare(sets[0], sets[1], seed, same_standardization=False)

    def corpora_of(self, networks: str, site: str) -> list[str] | None:
        """Name the corpora that stored networks were found in; None if that is not known."""
        made_of = self.entries.find("networks", networks, site).info["inputs"]
        if "decomposition" not in made_of:
            return None
        corpora = self.entries.find("decompositions", made_of["decomposition"], site).info["inputs"].get("corpora")
        return None if corpora is None else list(corpora)

    def scores_inputs(self, networks: str | None, site: str, made_of: Mapping[str, Any]) -> dict[str, Any]:
        """Say what an evaluation is a function of: stored networks, if any, and what its `Scores` were made of."""
        if networks is None:
            return dict(made_of)
        return {"networks": networks, "networks_sha256": self._networks_digest(networks, site), **made_of}

    def save_scores(
        self,
        scores: Scores,
        name: str,
        site: str,
        networks: str | None = None,
        parameters: Mapping[str, Any] | None = None,
    ) -> Entry:
        """Store an evaluation: its items, its conditions and the summary made of them.

        Parameters
        ----------
        scores : Scores
            As `lmri.evaluate` gives them; what they were made of counts as input.
        name : str
            Of the entry.
        site : str
            Of the neurons.
        networks : str, optional
            The stored set of networks that was evaluated.
        parameters : mapping, optional
            What people should read of it, such as ``{"intervention": "lesion"}``.
        """

        def write(folder: Path) -> None:
            results.write_scores(self._file(folder, site, name), scores)

        found = {
            "tasks": [asdict(task) for task in scores.tasks],
            "model": asdict(scores.model) if scores.model else None,
            "p_floor": scores.p_floor,
            "design": asdict(scores.design),
        }
        inputs = self.scores_inputs(networks, site, scores.made_of)
        shown = {**(parameters or {}), "seed": scores.seed}
        return self.entries.write("scores", site, name, inputs, shown, found, write)

    def scores(self, name: str | None = None, site: str | None = None) -> Scores:
        """Open an evaluation."""
        entry = self.entries.find("scores", name, site)
        inputs = entry.info["inputs"]
        if "networks" in inputs and self._networks_digest(inputs["networks"], entry.site) != inputs["networks_sha256"]:
            raise stale(entry, f"networks {inputs['networks']!r}")
        file = self._file(entry.folder, entry.site, entry.name)
        return results.read_scores(file, entry.info["results"], entry.info["parameters"]["seed"])

    def experiment_inputs(self, inputs: Mapping[str, Any], site: str) -> dict[str, Any]:
        """Say what an experiment is a function of: things of this study, with their digests, and whatever else.

        Parameters
        ----------
        inputs : mapping
            ``corpora``, ``decomposition``, ``networks``, ``comparison``, ``scores`` and ``experiment``, or the plural
            of these, name things of the study, one or a list of them, at `site` or, as ``"ica@mlp_out"``, at another.
            Their digests are put beside them. Anything else that JSON can hold stays as it is, such as hashes of tasks.
        site : str
            Of the neurons.

        Raises
        ------
        StudyError
            If a digest is given and is not the one of what is there, or something named is stale itself.
        """
        return experiments.with_digests(self, inputs, site)

    def save_experiment(
        self,
        outcome: Outcome,
        name: str,
        site: str,
        inputs: Mapping[str, Any],
        parameters: Mapping[str, Any] | None = None,
    ) -> Entry:
        """Store what an experiment gave: its words, tables and figures.

        Parameters
        ----------
        outcome : Outcome
            Written as `Outcome.write` does.
        name : str
            Of the entry.
        site : str
            Of the neurons.
        inputs : mapping
            What it was made of; see `experiment_inputs`. If one of these is replaced, the outcome is refused as stale.
        parameters : mapping, optional
            How it was made.

        Raises
        ------
        EntryExistsError
            If the name is taken by an experiment that was made otherwise, or came to something else.
        """
        return experiments.save(self, outcome, name, site, inputs, parameters or {})

    def experiment(self, name: str | None = None, site: str | None = None) -> Outcome:
        """Open what an experiment gave.

        Raises
        ------
        StudyError
            If something that it was made of, however long ago, was replaced since, or a file of it was changed.
        """
        return experiments.read(self, name, site)

    # -- labels -------------------------------------------------------------------------------------------------------

    def labels(self, decomposition: str | None = None, site: str | None = None) -> pd.DataFrame:
        """Open the labels of a decomposition's networks: ``network, label, source`` (suggested or edited)."""
        return labels.of(self.layout, self._decomposition_entry(decomposition, site))

    def suggest_labels(
        self, suggested: Mapping[str, str], decomposition: str | None = None, site: str | None = None
    ) -> list[str]:
        """Store suggested labels of a decomposition's networks; those that were edited stay.

        Parameters
        ----------
        suggested : mapping from str to str
            By network, as `lmri.annotation.annotate` gives them.
        decomposition, site : str, optional
            Needed as far as there is a choice.

        Returns
        -------
        list of str
            Networks whose edited label was kept.
        """
        entry = self._decomposition_entry(decomposition, site)
        known = self.decomposition(entry.name, entry.site)
        return labels.write(self.layout, entry, results.names(entry.name, len(known)), suggested, labels.SUGGESTED)

    def label(self, network: str, text: str, site: str | None = None) -> str:
        """Call a network something, whatever was suggested; no result changes.

        Parameters
        ----------
        network : str
            Its name, such as ``"ica-03"``: of a decomposition, or of networks thresholded from one. They share it.
        text : str
            At least a word.
        site : str, optional
            Needed as far as there is a choice.

        Returns
        -------
        str
            Its name in the decomposition.

        Raises
        ------
        ValueError
            If there is no such network, or two of that name.
        """
        name, at, own = labels.resolve(self.entries, network, site)
        entry, known = self._decomposition_entry(name, at), self.decomposition(name, at)
        labels.write(self.layout, entry, results.names(name, len(known)), {own: text}, labels.EDITED)
        return own

    def _labelled(self, networks: NetworkSet, decomposition: Entry) -> NetworkSet:
        found = labels.of(self.layout, decomposition)
        own = results.names(decomposition.name, len(networks))
        return replace(networks, metrics=labels.joined(networks.metrics, own, found)) if len(found) else networks

    # -- report -------------------------------------------------------------------------------------------------------

    def report(self, out: str | Path | None = None) -> Path:
        """Write the report: one HTML file with everything that is in the study.

        Parameters
        ----------
        out : str or Path, optional
            By default ``report.html`` in the study.
        """
        from lmri.report import write_report  # drawing takes a second to load, and most of a study does without

        return write_report(self, Path(out) if out else self.layout.report)

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


@contextlib.contextmanager
def writing_to(root: str | Path, model: ModelInfo, wait: float = 0) -> Iterator[Study]:
    """Open the study of this model for recording, or make one in a new or empty folder, while no other command writes.

    If the body fails in a study that was made here, the files that made it a study are removed again, unless a
    recording in it can be continued. Files of the user are never removed, and an older study is never cleared.

    Parameters
    ----------
    root : str or Path
        The folder.
    model : ModelInfo
        What is to be recorded.
    wait : float, default=0
        Seconds to wait for another command that is writing.

    Raises
    ------
    StudyError
        If the folder holds something else, or the study of another model, or another command is writing to it.
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


def _open_or_create(layout: Layout, model: ModelInfo) -> tuple[Study, list[tuple[Path, str]]]:
    if layout.study.is_file():
        study = Study(layout.root)
        there = study.model
        if (there.fingerprint, there.dtype) == (model.fingerprint, model.dtype):
            return study, []
        if study.recordings() or study.unfinished():
            begun = "" if study.recordings() else f", or delete the recording that was begun, {layout.unfinished}"
            raise StudyError(
                f"{layout.root} is a study of {there.id!r} (weights {there.fingerprint}, {there.dtype}); this is "
                f"{model.id!r} ({model.fingerprint}, {model.dtype}). One study is of one model: use another "
                f"folder (--out){begun}."
            )
    created = dataset.create(layout, model)
    return Study(layout.root), created
