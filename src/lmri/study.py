"""The study: the one object through which users compute, store and open results."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from lmri import storage
from lmri.decomposition import stored as decompositions_on_disk
from lmri.decomposition.reproducibility import Reproducibility
from lmri.exceptions import StudyError
from lmri.lesions.scores import Scores
from lmri.lesions.scores import stored as scores_on_disk
from lmri.networks import NetworkSet, labels
from lmri.networks import stored as networks_on_disk
from lmri.networks.comparison import (
    AnyComparison,
    Consensus,
    CourseComparison,
    compare,
    compare_many,
    compare_time_courses,
)
from lmri.storage import bids as dataset
from lmri.storage import freshness as experiments
from lmri.storage.entries import Entry, stale
from lmri.storage.outcome import Outcome
from lmri.storage.recording import Recording
from lmri.storage.store import Store


class Study(Store):
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
        decompositions_on_disk.check_fitted_on(estimator, recordings)
        name, site = name or estimator.method_name, recordings[0].space.site
        null, found = getattr(estimator, "null_", None), reproducibility

        def write(folder: Path) -> None:
            decompositions_on_disk.write_decomposition(
                self._file(folder, site, name), estimator, recordings, name, found
            )

        repeats = (null.n_surrogates if null else 0, found.n_bootstraps if found else 0, found.n_splits if found else 0)
        identity = decompositions_on_disk.decomposition_identity(estimator, recordings, *repeats)
        about = {"null": {"n_values": null.n_values, "n_surrogates": null.n_surrogates}} if null else {}
        order = getattr(estimator, "order_", None)
        about |= {"order": {"recommended": order.recommended, "at_ceiling": order.at_ceiling}} if order else {}
        is_new = not self.entries.has("decompositions", site, name, *identity)
        entry = self.entries.write("decompositions", site, name, *identity, {**estimator.info_, **about}, write)
        if is_new:
            storage.write_log(self.layout, "fit", name=name, site=site, seconds=round(estimator.seconds_, 3))
        return entry

    def decomposition(self, name: str | None = None, site: str | None = None) -> NetworkSet:
        """Open the maps of a decomposition, not thresholded."""
        entry = self._decomposition_entry(name, site)
        file = self._file(entry.folder, entry.site, entry.name)
        fit_texts = self._fit_texts(entry.info["inputs"]["corpora"])
        info = {**entry.info["results"], **self._seconds(entry.name, entry.site)}
        maps = decompositions_on_disk.read_decomposition(file, self.space(entry.site), entry.name, info, fit_texts)
        return self._labelled(maps, entry)

    def reliability(self, name: str | None = None, site: str | None = None) -> pd.DataFrame | None:
        """Open a decomposition's agreement between samples of texts by their number; None if it was not computed."""
        entry = self._decomposition_entry(name, site)
        return decompositions_on_disk.read_reliability(self._file(entry.folder, entry.site, entry.name))

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
            (corpus, number, decompositions_on_disk.read_time_courses(file, corpus, number, run.n_volumes))
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
            networks_on_disk.write_networks(self._file(folder, site, name), networks, name)

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
        found = networks_on_disk.read_networks(file, self.space(entry.site), entry.name, info, fit_texts)
        return self._labelled(found, source)

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
            [table.set_axis(networks_on_disk.names(name, table.shape[1]), axis=1) for _, _, table in own]
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
            scores_on_disk.write_scores(self._file(folder, site, name), scores)

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
        return scores_on_disk.read_scores(file, entry.info["results"], entry.info["parameters"]["seed"])

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
        return labels.write(
            self.layout, entry, networks_on_disk.names(entry.name, len(known)), suggested, labels.SUGGESTED
        )

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
        labels.write(self.layout, entry, networks_on_disk.names(name, len(known)), {own: text}, labels.EDITED)
        return own

    def _labelled(self, networks: NetworkSet, decomposition: Entry) -> NetworkSet:
        found = labels.of(self.layout, decomposition)
        own = networks_on_disk.names(decomposition.name, len(networks))
        return replace(networks, metrics=labels.joined(networks.metrics, own, found)) if len(found) else networks

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
