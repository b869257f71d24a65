"""The study: the one object through which users compute, store and open results."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from lmri import storage
from lmri.decomposition.reproducibility import Reproducibility
from lmri.decomposition.stored import DECOMPOSITION_CODEC, reliability, save_decomposition
from lmri.lesions.codecs import CODECS
from lmri.lesions.scores import Scores
from lmri.lesions.scores.stored import SCORES_CODEC, save_scores
from lmri.networks import NetworkSet, labels
from lmri.networks.comparison import AnyComparison, CourseComparison
from lmri.networks.comparison.stored import COMPARISON_CODEC, compare_sites, save_comparison
from lmri.networks.stored import DECOMPOSITIONS, NETWORKS_CODEC, save_networks, time_courses
from lmri.storage.entries import Entry
from lmri.storage.experiments import EXPERIMENT_CODEC, save_experiment
from lmri.storage.freshness import with_digests
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

    def __init__(self, root: str | Path) -> None:
        super().__init__(root, CODECS)

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
        return save_decomposition(self, estimator, recordings, name, reproducibility)

    def decomposition(self, name: str | None = None, site: str | None = None) -> NetworkSet:
        """Open the maps of a decomposition, not thresholded."""
        return self.open(DECOMPOSITION_CODEC, name, site)

    def reliability(self, name: str | None = None, site: str | None = None) -> pd.DataFrame | None:
        """Open a decomposition's agreement between samples of texts by their number; None if it was not computed."""
        return reliability(self, name, site)

    def time_courses(self, name: str | None = None, site: str | None = None) -> list[tuple[str, int, pd.DataFrame]]:
        """Open the time courses of a decomposition: corpus, run and a table ``(n_volumes, n_networks)`` of each run."""
        return time_courses(self, name, site)

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
        return save_networks(self, networks, decomposition, name)

    def networks(self, name: str | None = None, site: str | None = None) -> NetworkSet:
        """Open a set of thresholded networks."""
        return self.open(NETWORKS_CODEC, name, site)

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
        return compare_sites(self, first, second, seed)

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
        return save_comparison(self, comparison, seed, name)

    def comparison(self, name: str | None = None, site: str | None = None) -> AnyComparison:
        """Open a comparison; it is made again from the networks, with the stored seed."""
        return self.open(COMPARISON_CODEC, name, site)

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
        return save_scores(self, scores, name, site, networks, parameters)

    def scores(self, name: str | None = None, site: str | None = None) -> Scores:
        """Open an evaluation."""
        return self.open(SCORES_CODEC, name, site)

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
        return with_digests(self, inputs, site, self.root)

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
        return save_experiment(self, outcome, name, site, inputs, parameters or {})

    def experiment(self, name: str | None = None, site: str | None = None) -> Outcome:
        """Open what an experiment gave.

        Raises
        ------
        StudyError
            If something that it was made of, however long ago, was replaced since, or a file of it was changed.
        """
        return self.open(EXPERIMENT_CODEC, name, site)

    def labels(self, decomposition: str | None = None, site: str | None = None) -> pd.DataFrame:
        """Open the labels of a decomposition's networks: ``network, label, source`` (suggested or edited)."""
        return labels.of(self.layout, self.fresh(DECOMPOSITIONS, decomposition, site))

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
        return labels.suggest(self, suggested, decomposition, site)

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
        return labels.edit(self, network, text, site)

    # -- commands on decompositions and networks ----------------------------------------------------------------------

    # -- commands on lesions ------------------------------------------------------------------------------------------

    # -- commands on recordings and files -----------------------------------------------------------------------------

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
