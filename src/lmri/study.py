"""The study: the one object through which users compute, store and open results."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from lmri import storage
from lmri.decomposition.reproducibility import Reproducibility
from lmri.decomposition.stored import DECOMPOSITION_CODEC, reliability, save_decomposition
from lmri.lesions.codecs import CODECS
from lmri.lesions.controls.registry import ControlOptions
from lmri.lesions.scores import Scores
from lmri.lesions.scores.stored import SCORES_CODEC, save_scores
from lmri.lesions.tasks.requested import TaskOptions
from lmri.models.study_model import ModelSource
from lmri.networks import NetworkSet, labels
from lmri.networks.comparison import AnyComparison, CourseComparison
from lmri.networks.comparison.stored import COMPARISON_CODEC, compare_sites, compare_stored, save_comparison
from lmri.networks.stored import DECOMPOSITIONS, NETWORKS_CODEC, save_networks, time_courses
from lmri.space.html import html_table
from lmri.storage.contents import contents
from lmri.storage.entries import Entry
from lmri.storage.experiments import EXPERIMENT_CODEC, save_experiment
from lmri.storage.freshness import with_digests
from lmri.storage.outcome import Outcome
from lmri.storage.recording import Recording
from lmri.storage.store import Store

if TYPE_CHECKING:
    from lmri.decomposition.description import ConnectivityResult
    from lmri.decomposition.individuals.pipeline import DualRegressionResult
    from lmri.decomposition.order import OrderEstimate
    from lmri.decomposition.quality import Quality
    from lmri.lesions.evaluation import ItemStore
    from lmri.lesions.plans import StoredScores
    from lmri.models.confound_tables import ConfoundTables
    from lmri.models.study_model import AnyModel
    from lmri.networks.annotation import Annotation
    from lmri.report.export import Accepted
    from lmri.report.validation import Findings

Progress = Callable[[int, int], None]
"""Called with the number of finished parts, and their total."""


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

    def order(
        self,
        site: str | None = None,
        corpus: str | Sequence[str] | None = None,
        scope: str = "group",
        n_surrogates: int = 20,
        seed: int = 0,
        progress: Progress | None = None,
    ) -> "OrderEstimate":
        """Estimate the number of components by parallel analysis; nothing is stored.

        Parameters
        ----------
        site : str, optional
            Site of the neurons; needed if several were recorded.
        corpus : str or sequence of str, optional
            Corpora; by default all at the site.
        scope : {"group", "run"}, default="group"
            Scope of the recommendation: all runs together, or the median over runs.
        n_surrogates : int, default=20
            Number of circularly shifted surrogates, at least 19.
        seed : int, default=0
            Random seed of the surrogates.
        progress : callable, optional
            Called with the number of runs that were read, and their total.

        Returns
        -------
        OrderEstimate
            Recommended number, and eigenvalues and limits per run.

        Raises
        ------
        AmbiguousChoiceError
            If the site is needed, or a corpus was not recorded.
        ValueError
            If the scope is unknown, or there are too few surrogates.
        """
        from lmri.decomposition.pipeline import order

        return order(self, site, corpus, scope, n_surrogates, seed, progress)

    def decompose(
        self,
        method: str = "ica",
        n_components: int | str | None = None,
        *,
        site: str | None = None,
        corpus: str | Sequence[str] | None = None,
        standardize: str = "zscore",
        scope: str = "run",
        confounds: Sequence[str] | None = None,
        alpha: float | None = None,
        solver: str | None = None,
        n_init: int | None = None,
        threshold: str | None = None,
        n_surrogates: int | None = None,
        n_bootstraps: int = 0,
        n_splits: int = 0,
        paper: bool = False,
        name: str | None = None,
        n_jobs: int = 1,
        device: str = "cpu",
        seed: int = 0,
        progress: Progress | None = None,
    ) -> NetworkSet:
        """Decompose recordings unless the same decomposition is stored, threshold its maps, and store the networks.

        Parameters
        ----------
        method : str, default="ica"
            Name of the method; see `lmri.decomposition.METHODS`.
        n_components : int or "auto", optional
            Number of maps; by default 20, with `paper` 10. ``"auto"`` is a parallel analysis, for ICA.
        site : str, optional
            Site of the neurons; needed if several were recorded.
        corpus : str or sequence of str, optional
            Corpora to fit; by default all at the site.
        standardize : {"zscore", "center", "none"}, default="zscore"
            Standardization of each neuron's time series.
        scope : {"run", "study"}, default="run"
            Scope of the mean and standard deviation.
        confounds : sequence of str, optional
            Names of stored confounds to regress out of each run.
        alpha : float, optional
            Sparsity of dictionary learning; by default 10.
        solver : {"fastica", "picard"}, optional
            Solver of ICA; by default ``"fastica"``.
        n_init : int, optional
            Number of starts of ICA and CanICA; by default 10.
        threshold : str, optional
            Threshold and its value, such as ``"fdr:0.05"`` or ``"z:3"``; by default the method's own. See
            `lmri.thresholds.THRESHOLDS`.
        n_surrogates : int, optional
            Number of surrogates; by default 20 if the threshold needs them, else 0.
        n_bootstraps : int, default=0
            Number of bootstraps of the texts, for the stability of each map.
        n_splits : int, default=0
            Number of random halves of the texts, for split-half reproducibility.
        paper : bool, default=False
            Whether the paper's choices are used: temporal FastICA with the solver's signs, neurons centred over the
            study, and one-sided z > 3.6 (or ``threshold="z_positive:1.96"``).
        name : str, optional
            Name of the decomposition and of its networks; by default the method.
        n_jobs : int, default=1
            Number of processes or threads.
        device : {"cpu", "cuda"}, default="cpu"
            Device of ICA.
        seed : int, default=0
            Random seed.
        progress : callable, optional
            Called with the number of finished repetitions on samples of the texts, and their total.

        Returns
        -------
        NetworkSet
            The stored networks; `decomposition` opens all maps.

        Raises
        ------
        EntryExistsError
            If the name is taken by another decomposition.
        ValueError
            If the method does not have an option, or choices exclude each other.
        """
        from lmri.decomposition.pipeline import decompose
        from lmri.decomposition.settings import DecompositionSettings, Repeats

        options = {"alpha": alpha, "solver": solver, "n_init": n_init, "device": device}
        repeats = Repeats(n_surrogates, n_bootstraps, n_splits)
        settings = DecompositionSettings(
            method, n_components, standardize, scope, confounds or (), options, threshold, repeats, paper, n_jobs, seed
        )
        return decompose(self, settings, site, corpus, name, progress)

    def threshold(self, decomposition: str, by: str, name: str, site: str | None = None) -> NetworkSet:
        """Threshold the maps of a stored decomposition, and store the networks.

        Parameters
        ----------
        decomposition : str
            Name of the decomposition.
        by : str
            Threshold and its value, such as ``"z:2.5"``; see `lmri.thresholds.THRESHOLDS`.
        name : str
            Name of the networks.
        site : str, optional
            Site of the neurons; needed if there are several.

        Returns
        -------
        NetworkSet
            The stored networks; they may be empty.

        Raises
        ------
        EntryExistsError
            If the name is taken by other networks.
        ValueError
            If the threshold is unknown, or needs surrogates that are not stored.
        """
        from lmri.decomposition.pipeline import threshold

        return threshold(self, decomposition, by, name, site)

    def compare(
        self,
        first: str,
        second: str,
        more: Sequence[str] | None = None,
        site: str | None = None,
        name: str | None = None,
        mixed_standardization: bool = False,
        seed: int = 0,
    ) -> AnyComparison:
        """Match stored network sets by their maps, or two sets of two sites by their time courses, and store the match.

        Parameters
        ----------
        first, second : str
            Names of network sets. A name may contain its site, as ``"canica@mlp_out"``.
        more : sequence of str, optional
            Names of more sets at the same site.
        site : str, optional
            Site of names without one; by default the site of the first.
        name : str, optional
            Name of the comparison; by default all names, as in ``"ica--canica"``.
        mixed_standardization : bool, default=False
            Whether sets that standardize differently may be compared.
        seed : int, default=0
            Random seed of the nulls.

        Returns
        -------
        Comparison, CourseComparison or Consensus
            Comparison of two sets by maps, of two sites by time courses, or of more than two sets.

        Raises
        ------
        EntryExistsError
            If the name is taken by another comparison.
        ValueError
            If a set is named twice, or more than two sets of several sites are named.
        """
        found = compare_stored(self, [first, second, *(more or [])], site, seed, mixed_standardization)
        save_comparison(self, found, seed, name)
        return found

    def describe(
        self,
        decomposition: str | None = None,
        site: str | None = None,
        n_permutations: int = 1000,
        save: bool = False,
        seed: int = 0,
    ) -> "Annotation":
        """Annotate the networks of a decomposition from their time courses, and suggest labels.

        Parameters
        ----------
        decomposition : str, optional
            Name of the decomposition; needed if there are several.
        site : str, optional
            Site of the neurons; needed if there are several.
        n_permutations : int, default=1000
            Smallest number of permutations of whole texts.
        save : bool, default=False
            Whether the suggested labels are stored; edited labels stay.
        seed : int, default=0
            Random seed of the permutations.

        Returns
        -------
        Annotation
            Tokens, kinds of text and confounds of each network, and suggested labels.

        Raises
        ------
        AmbiguousChoiceError
            If several decompositions fit, or none.
        """
        from lmri.decomposition.description import describe

        return describe(self, decomposition, site, n_permutations, save, seed)

    def connectivity(
        self,
        decomposition: str | None = None,
        site: str | None = None,
        kind: str = "correlation",
        min_volumes: int = 20,
    ) -> "ConnectivityResult":
        """Correlate the time courses of networks, with tests over texts, and compute their spectra.

        Parameters
        ----------
        decomposition : str, optional
            Name of the decomposition; needed if there are several.
        site : str, optional
            Site of the neurons; needed if there are several.
        kind : {"correlation", "partial"}, default="correlation"
            Kind of connectivity; partial correlations are given all other networks.
        min_volumes : int, default=20
            Smallest number of volumes of a text; shorter texts are left out.

        Returns
        -------
        ConnectivityResult
            Connectivity, spectra, and their peaks in cycles per volume.

        Raises
        ------
        AmbiguousChoiceError
            If several decompositions fit, or none.
        ValueError
            If the kind is unknown.
        """
        from lmri.decomposition.description import connectivity

        return connectivity(self, decomposition, site, kind, min_volumes)

    def dual_regression(
        self,
        networks: str,
        corpus: str | None = None,
        contrast: tuple[str, str] | None = None,
        site: str | None = None,
        n_permutations: int = 1000,
        seed: int = 0,
    ) -> "DualRegressionResult":
        """Estimate the individual maps of each text, and test the difference between two corpora; nothing is stored.

        Parameters
        ----------
        networks : str
            Name of the network set.
        corpus : str, optional
            Corpus of the texts; needed if there are several and no contrast.
        contrast : tuple of (str, str), optional
            Two corpora whose texts are compared, instead of `corpus`.
        site : str, optional
            Site of the neurons; needed if there are several.
        n_permutations : int, default=1000
            Number of permutations of texts between the two corpora.
        seed : int, default=0
            Random seed of the permutations.

        Returns
        -------
        DualRegressionResult
            Individual maps, amplitudes, and with a contrast the test of each neuron.

        Raises
        ------
        AmbiguousChoiceError
            If several network sets or corpora fit, or none.
        ValueError
            If `corpus` and `contrast` are both used, or a corpus is compared with itself.
        """
        from lmri.decomposition.individuals.pipeline import regress_texts

        return regress_texts(self, networks, corpus, contrast, site, n_permutations, seed)

    def localize(
        self,
        contrast: str,
        column: str = "trial_type",
        site: str | None = None,
        corpus: str | Sequence[str] | None = None,
        level: str = "auto",
        unit: str = "run",
        test: str = "max_t",
        alpha: float = 0.05,
        tail: str = "two",
        most: int | None = None,
        n_permutations: int = 1000,
        standardize: str = "none",
        match_positions: bool = False,
        confounds: Sequence[str] | None = None,
        name: str | None = None,
        seed: int = 0,
    ) -> NetworkSet:
        """Find the neurons that differ between conditions, and store them as a network set of one.

        Parameters
        ----------
        contrast : str
            Contrast of conditions, such as ``"code - prose"`` or ``"code - 1/2*news - 1/2*wiki"``.
        column : str, default="trial_type"
            Column of the events with the conditions; ``"trial_type"`` is the corpus.
        site : str, optional
            Site of the neurons; needed if several were recorded.
        corpus : str or sequence of str, optional
            Corpora; by default those of the contrast, or all at the site.
        level : {"auto", "between", "within"}, default="auto"
            Comparison between texts or within texts.
        unit : {"run", "text"}, default="run"
            Unit of an effect map within texts.
        test : {"max_t", "parametric"}, default="max_t"
            Permutation test, corrected over neurons, or nilearn's second level with FDR.
        alpha : float, default=0.05
            Familywise error or false discovery rate.
        tail : {"two", "positive", "negative"}, default="two"
            Sign of the neurons that are kept.
        most : int, optional
            Largest number of neurons that are kept, those of the largest t; by default all.
        n_permutations : int, default=1000
            Number of permutations of whole texts, or of the signs of runs.
        standardize : {"none", "zscore"}, default="none"
            Unit of the effects: activation, or standard deviations over all runs.
        match_positions : bool, default=False
            Whether only positions that all conditions reach are compared.
        confounds : sequence of str, optional
            Names of stored confounds, as nuisance regressors within texts.
        name : str, optional
            Name of the result; by default the contrast, as in ``"code-prose"``.
        seed : int, default=0
            Random seed of the permutations.

        Returns
        -------
        NetworkSet
            The stored network; it may be empty. `lmri.localizer.overlap_table` compares it with other sets.

        Raises
        ------
        EntryExistsError
            If the name is taken by another result.
        ValueError
            If the contrast, a condition or an option is unknown.
        """
        from lmri.decomposition.localizer.pipeline import LocalizerSettings, localize_corpora

        settings = LocalizerSettings(
            contrast, column, level, unit, test, alpha, tail, most, n_permutations, standardize, match_positions,
            confounds or (), seed,
        )  # fmt: skip
        return localize_corpora(self, settings, site, corpus, name=name).networks

    # -- commands on lesions ------------------------------------------------------------------------------------------

    def item_store(self) -> "ItemStore":
        """Open the item rows of all evaluations, so that none is scored twice."""
        from lmri.lesions.evaluation import ItemStore

        return ItemStore(self.layout.items)

    def lesion(
        self,
        networks: str | None = None,
        roi: Sequence[str | Path] | None = None,
        *,
        task: Sequence[str] | None = None,
        n_controls: int = 20,
        controls: str | Sequence[str] | None = None,
        stop_after: int = 0,
        scoring: str | None = None,
        split: str = "",
        paper: bool = False,
        paper_model: str | None = None,
        baseline: str = "zero",
        n_seeds: int = 1,
        spare: str | None = None,
        positions: str | Sequence[int] | None = None,
        site: str | None = None,
        model: "AnyModel" = None,
        text_column: str = "text",
        name: str | None = None,
        batch_size: int = 8,
        device: str = "cpu",
        trust_remote_code: bool = False,
        allow_pickle: bool = False,
        device_map: str | None = None,
        offload_folder: str | Path | None = None,
        strict: bool = False,
        seed: int = 0,
        progress: Callable[[int, int], None] | None = None,
    ) -> Scores:
        """Lesion each network of a set and their union, or regions of interest, and score the model.

        The write-up is stored as an experiment under the same name; open it with `experiment`.

        Parameters
        ----------
        networks : str, optional
            Name of the network set; not needed with `roi` or `paper`.
        roi : sequence of str or Path, optional
            Images of regions of interest, which are lesioned instead.
        task : sequence of str, optional
            Tasks: ``"perplexity"`` (of the held-out texts, the default), ``"perplexity:FILE"``,
            ``"classification:FILE"``, ``"NAME:FILE"`` with a name in ``lmri.tasks.TASKS``, or a YAML file.
        n_controls : int, default=20
            Number of matched controls per network; 0 for none.
        controls : str or sequence of str, optional
            Families of controls, names in ``lmri.controls.CONTROLS``; ``"layer"`` by default.
        stop_after : int, default=0
            Number of controls at least as bad as a network after which no more are drawn for it; 0 to draw all.
        scoring : str, optional
            Scoring of named tasks, one of ``lmri.tasks.SCORINGS``; by default the scoring of each task.
        split : {"", "fit", "select", "test"}, default=""
            Split of named tasks; all items by default.
        paper : bool, default=False
            Whether to take the paper's choices: its decomposition, unless `networks` are named, zeros, and no controls
            but random neurons.
        paper_model : str, optional
            Model of the paper whose values are shown alongside: ``"gpt2"``, ``"qwen2.5-3b"`` or ``"chatglm3-6b"``.
        baseline : str, default="zero"
            Value of silenced neurons: ``"zero"``, ``"CORPUS"`` for the mean over a corpus, or
            ``"resample:CORPUS[:SEED]"`` for the value at a random token of it.
        n_seeds : int, default=1
            Number of resampling seeds to pool.
        spare : str, optional
            ``"sinks"`` to exclude the first token of every text.
        positions : str or sequence of int, optional
            Tokens to change: ``"prompt"``, ``"generated"`` or ``"last"``, or positions in the text; all by default.
        site : str, optional
            Site of the neurons; needed if there are several.
        model : str, Path or tuple of a model and its tokenizer, optional
            Location of the model, or the loaded model with its tokenizer; by default the location from which the study
            was recorded.
        text_column : str, default="text"
            Column of the texts in FILE.
        name : str, optional
            Name of the entries; by default the command and the networks.
        batch_size : int, default=8
            Number of texts per forward pass.
        device : str, default="cpu"
            Device of the model: ``"cpu"`` or ``"cuda"``.
        trust_remote_code : bool, default=False
            Whether to run code that comes with the model.
        allow_pickle : bool, default=False
            Whether to read pickled weights, which can run any code.
        device_map : str, optional
            ``"auto"`` to spread the model over GPUs, memory and disk; by default one device.
        offload_folder : str or Path, optional
            Folder for weights that are offloaded to disk.
        strict : bool, default=False
            Whether to refuse other weights than the recorded ones.
        seed : int, default=0
            Seed of controls and bootstrap.
        progress : callable, optional
            Called with the number of finished evaluations and of all.

        Returns
        -------
        Scores
            The stored scores.

        Raises
        ------
        ValueError
            If an option is not accepted.
        AmbiguousChoiceError
            If several network sets fit, or none.
        EntryExistsError
            If the name is taken by an evaluation with other inputs or parameters.
        """
        from lmri.lesions.experiments.lesion_plan import plan_lesion
        from lmri.lesions.requests import Silencing, lesion_request

        source = ModelSource(model, device, trust_remote_code, allow_pickle, device_map, offload_folder)
        silencing = Silencing(baseline, n_seeds, spare, positions)
        tasks = TaskOptions(task, scoring, split, text_column, batch_size)
        matched = ControlOptions(controls, n_controls, stop_after)
        request = lesion_request(networks, roi or (), silencing, tasks, matched, seed, paper)
        plan = plan_lesion(
            self, request, lambda: self.decompose(paper=True, site=site, seed=seed).method, site, name, source.location,
            paper_model=paper_model, paper=paper,
        )  # fmt: skip
        return plan.run(source, strict, progress).scores

    def preserve(
        self,
        networks: str | Sequence[str] | None = None,
        share: Sequence[float] | None = None,
        decomposition: str | None = None,
        *,
        task: Sequence[str] | None = None,
        n_controls: int = 20,
        controls: str | Sequence[str] | None = None,
        scoring: str | None = None,
        split: str = "",
        baseline: str = "zero",
        site: str | None = None,
        model: "AnyModel" = None,
        text_column: str = "text",
        name: str | None = None,
        batch_size: int = 8,
        device: str = "cpu",
        trust_remote_code: bool = False,
        allow_pickle: bool = False,
        device_map: str | None = None,
        offload_folder: str | Path | None = None,
        strict: bool = False,
        seed: int = 0,
        progress: Callable[[int, int], None] | None = None,
    ) -> Scores | Outcome:
        """Silence all neurons except those of networks, or of a share of all neurons, and score the model.

        Parameters
        ----------
        networks : str or sequence of str, optional
            Name of a network set, each network of which is preserved; of several sets, the union of each.
        share : sequence of float, optional
            Shares of all neurons to preserve, those with the largest absolute z over the maps of `decomposition`.
        decomposition : str, optional
            Name of the decomposition of `share`; needed if there are several.
        task : sequence of str, optional
            Tasks: ``"perplexity"`` (of the held-out texts, the default), ``"perplexity:FILE"``,
            ``"classification:FILE"``, ``"NAME:FILE"`` with a name in ``lmri.tasks.TASKS``, or a YAML file.
        n_controls : int, default=20
            Number of matched controls per network; 0 for none.
        controls : str or sequence of str, optional
            Families of controls, names in ``lmri.controls.CONTROLS``; ``"layer"`` by default.
        scoring : str, optional
            Scoring of named tasks, one of ``lmri.tasks.SCORINGS``; by default the scoring of each task.
        split : {"", "fit", "select", "test"}, default=""
            Split of named tasks; all items by default.
        baseline : str, default="zero"
            Value of silenced neurons: ``"zero"``, ``"CORPUS"`` for the mean over a corpus, or
            ``"resample:CORPUS[:SEED]"`` for the value at a random token of it.
        site : str, optional
            Site of the neurons; needed if there are several.
        model : str, Path or tuple of a model and its tokenizer, optional
            Location of the model, or the loaded model with its tokenizer; by default the location from which the study
            was recorded.
        text_column : str, default="text"
            Column of the texts in FILE.
        name : str, optional
            Name of the entries; by default the command and the networks.
        batch_size : int, default=8
            Number of texts per forward pass.
        device : str, default="cpu"
            Device of the model: ``"cpu"`` or ``"cuda"``.
        trust_remote_code : bool, default=False
            Whether to run code that comes with the model.
        allow_pickle : bool, default=False
            Whether to read pickled weights, which can run any code.
        device_map : str, optional
            ``"auto"`` to spread the model over GPUs, memory and disk; by default one device.
        offload_folder : str or Path, optional
            Folder for weights that are offloaded to disk.
        strict : bool, default=False
            Whether to refuse other weights than the recorded ones.
        seed : int, default=0
            Seed of controls and bootstrap.
        progress : callable, optional
            Called with the number of finished evaluations and of all.

        Returns
        -------
        Scores or Outcome
            Of one network set without `share`, the stored scores; of a comparison of sizes, the stored outcome, whose
            scores are stored under the same name.

        Raises
        ------
        ValueError
            If an option is not accepted.
        AmbiguousChoiceError
            If several network sets fit, or none.
        EntryExistsError
            If the name is taken by an evaluation with other inputs or parameters.
        """
        from lmri.lesions.experiments.grids import Sizes, plan_preservation
        from lmri.lesions.requests import Request

        source = ModelSource(model, device, trust_remote_code, allow_pickle, device_map, offload_folder)
        sizes = Sizes([networks] if isinstance(networks, str) else networks or (), share or (), decomposition)
        tasks = TaskOptions(task, scoring, split, text_column, batch_size)
        matched = ControlOptions(controls, n_controls)
        request = Request("preserve", {"baseline": baseline}, sizes.first, tasks, matched, seed)
        plan = plan_preservation(self, request, sizes, site, name, source.location)
        return self._result(plan.run(source, strict, progress))

    def amplify(
        self,
        networks: str,
        gain: Sequence[float] | None = None,
        offset: Sequence[float] | None = None,
        along_sign: bool = False,
        *,
        task: Sequence[str] | None = None,
        n_controls: int = 20,
        controls: str | Sequence[str] | None = None,
        scoring: str | None = None,
        split: Sequence[str] | None = None,
        site: str | None = None,
        model: "AnyModel" = None,
        text_column: str = "text",
        name: str | None = None,
        batch_size: int = 8,
        device: str = "cpu",
        trust_remote_code: bool = False,
        allow_pickle: bool = False,
        device_map: str | None = None,
        offload_folder: str | Path | None = None,
        strict: bool = False,
        seed: int = 0,
        progress: Callable[[int, int], None] | None = None,
    ) -> Scores | Outcome:
        """Amplify each network by one dose or several, and score the model.

        Parameters
        ----------
        networks : str
            Name of the network set.
        gain : sequence of float, optional
            Factors on the activity of a network's neurons.
        offset : sequence of float, optional
            Constants added to their activity, in activation units.
        along_sign : bool, default=False
            Whether to add offsets where a weight is positive and subtract them where it is negative.
        task : sequence of str, optional
            Tasks: ``"perplexity"`` (of the held-out texts, the default), ``"perplexity:FILE"``,
            ``"classification:FILE"``, ``"NAME:FILE"`` with a name in ``lmri.tasks.TASKS``, or a YAML file.
        n_controls : int, default=20
            Number of matched controls per network; 0 for none.
        controls : str or sequence of str, optional
            Families of controls, names in ``lmri.controls.CONTROLS``; ``"layer"`` by default.
        scoring : str, optional
            Scoring of named tasks, one of ``lmri.tasks.SCORINGS``; by default the scoring of each task.
        split : sequence of str, optional
            Splits to score: one for a single dose, by default all items; for several doses ``"select"``, on which the
            best dose is chosen, and ``"test"``, on which it is reported.
        site : str, optional
            Site of the neurons; needed if there are several.
        model : str, Path or tuple of a model and its tokenizer, optional
            Location of the model, or the loaded model with its tokenizer; by default the location from which the study
            was recorded.
        text_column : str, default="text"
            Column of the texts in FILE.
        name : str, optional
            Name of the entries; by default the command and the networks.
        batch_size : int, default=8
            Number of texts per forward pass.
        device : str, default="cpu"
            Device of the model: ``"cpu"`` or ``"cuda"``.
        trust_remote_code : bool, default=False
            Whether to run code that comes with the model.
        allow_pickle : bool, default=False
            Whether to read pickled weights, which can run any code.
        device_map : str, optional
            ``"auto"`` to spread the model over GPUs, memory and disk; by default one device.
        offload_folder : str or Path, optional
            Folder for weights that are offloaded to disk.
        strict : bool, default=False
            Whether to refuse other weights than the recorded ones.
        seed : int, default=0
            Seed of controls and bootstrap.
        progress : callable, optional
            Called with the number of finished evaluations and of all.

        Returns
        -------
        Scores or Outcome
            Of a single dose, the stored scores; of several doses, the stored outcome, whose scores are stored under the
            same name.

        Raises
        ------
        ValueError
            If an option is not accepted.
        AmbiguousChoiceError
            If several network sets fit, or none.
        EntryExistsError
            If the name is taken by an evaluation with other inputs or parameters.
        """
        from lmri.lesions.experiments.grids import Doses, plan_amplification
        from lmri.lesions.requests import Request

        source = ModelSource(model, device, trust_remote_code, allow_pickle, device_map, offload_folder)
        doses = Doses(gain or (), offset or (), along_sign, split or ())
        tasks = TaskOptions(task, scoring, doses.single_split, text_column, batch_size)
        matched = ControlOptions(controls, n_controls)
        request = Request("amplify", doses.options(), networks, tasks, matched, seed)
        plan = plan_amplification(self, request, doses, site, name, source.location)
        return self._result(plan.run(source, strict, progress))

    def _result(self, found: "StoredScores") -> Scores | Outcome:
        return found.scores if found.outcome is None else self.experiment(found.name, found.site)

    def robustness(
        self,
        networks: str,
        network: str = "union",
        *,
        task: Sequence[str] | None = None,
        vary: Sequence[str] = ("site", "baseline", "threshold", "seed", "method", "sinks", "controls"),
        baselines: Sequence[str] | None = None,
        thresholds: Sequence[str] = ("z:2.5", "z:3", "z:3.5", "top:0.01"),
        seeds: Sequence[int] = (1, 2, 3),
        methods: Sequence[str] = ("ica", "canica", "fastica-temporal"),
        n_controls: int = 39,
        controls: str = "layer",
        scoring: str | None = None,
        split: str = "",
        site: str | None = None,
        model: "AnyModel" = None,
        text_column: str = "text",
        name: str | None = None,
        batch_size: int = 8,
        device: str = "cpu",
        trust_remote_code: bool = False,
        allow_pickle: bool = False,
        device_map: str | None = None,
        offload_folder: str | Path | None = None,
        strict: bool = False,
        seed: int = 0,
        progress: Callable[[int, int], None] | None = None,
    ) -> Outcome:
        """Test whether the effect of a lesion is robust to other choices, varied one at a time.

        Parameters
        ----------
        networks : str
            Name of the network set.
        network : str, default="union"
            Lesioned network: ``"union"``, or one network by its name or number.
        task : sequence of str, optional
            Tasks: ``"perplexity"`` (of the held-out texts, the default), ``"perplexity:FILE"``,
            ``"classification:FILE"``, ``"NAME:FILE"`` with a name in ``lmri.tasks.TASKS``, or a YAML file.
        vary : sequence of str
            Kinds of choice to vary; all by default.
        baselines : sequence of str, optional
            Baselines; by default the mean of every fitted corpus, and resampling from it.
        thresholds : sequence of str
            Thresholds, each as ``METHOD`` or ``METHOD:VALUE``.
        seeds : sequence of int
            Seeds of other decompositions.
        methods : sequence of str
            Methods of other decompositions.
        n_controls : int, default=39
            Number of matched controls per variant; at least 19.
        controls : {"layer", "energy"}, default="layer"
            Family of the base; the other one is the variant.
        scoring : str, optional
            Scoring of named tasks, one of ``lmri.tasks.SCORINGS``; by default the scoring of each task.
        split : {"", "fit", "select", "test"}, default=""
            Split of named tasks; all items by default.
        site : str, optional
            Site of the neurons; needed if there are several.
        model : str, Path or tuple of a model and its tokenizer, optional
            Location of the model, or the loaded model with its tokenizer; by default the location from which the study
            was recorded.
        text_column : str, default="text"
            Column of the texts in FILE.
        name : str, optional
            Name of the entries; by default the command and the networks.
        batch_size : int, default=8
            Number of texts per forward pass.
        device : str, default="cpu"
            Device of the model: ``"cpu"`` or ``"cuda"``.
        trust_remote_code : bool, default=False
            Whether to run code that comes with the model.
        allow_pickle : bool, default=False
            Whether to read pickled weights, which can run any code.
        device_map : str, optional
            ``"auto"`` to spread the model over GPUs, memory and disk; by default one device.
        offload_folder : str or Path, optional
            Folder for weights that are offloaded to disk.
        strict : bool, default=False
            Whether to refuse other weights than the recorded ones.
        seed : int, default=0
            Seed of controls and bootstrap.
        progress : callable, optional
            Called with the number of finished evaluations and of all.

        Returns
        -------
        Outcome
            The stored outcome.

        Raises
        ------
        ValueError
            If an option is not accepted.
        AmbiguousChoiceError
            If several network sets fit, or none.
        EntryExistsError
            If the name is taken by an evaluation with other inputs or parameters.
        """
        from lmri.lesions.experiments.robustness_plan import RobustnessOptions, RobustnessPlan, Variations

        variations = Variations(vary, baselines, thresholds, seeds, methods)
        tasks = TaskOptions(task, scoring, split, text_column, batch_size)
        options = RobustnessOptions(networks, network, variations, tasks, n_controls, controls, seed)
        source = ModelSource(model, device, trust_remote_code, allow_pickle, device_map, offload_folder)
        found = RobustnessPlan.of(self, options, site, name).run(source, strict, progress)
        return self.experiment(found.name, found.site)

    def dissociate(
        self,
        scores: str | None = None,
        *,
        site: str | None = None,
        network: Sequence[str] | None = None,
        task: Sequence[str] | None = None,
        name: str | None = None,
    ) -> Outcome:
        """Test stored lesions for double dissociations.

        Parameters
        ----------
        scores : str, optional
            Name of the evaluation; needed if there are several.
        site : str, optional
            Site of the neurons.
        network, task : sequence of str, optional
            Networks and tasks to test; all by default.
        name : str, optional
            Name of the entry; by default the evaluation with the chosen networks and tasks.

        Returns
        -------
        Outcome
            The stored outcome.

        Raises
        ------
        AmbiguousChoiceError
            If several evaluations fit, or none.
        EntryExistsError
            If the name is taken by an experiment with other inputs or parameters.
        """
        from lmri.lesions.experiments.stored import store_dissociations

        found = store_dissociations(self, scores, site, network, task, name)
        return self.experiment(found.name, found.site)

    def templates(
        self,
        *,
        site: str | None = None,
        corpus: Sequence[str] | None = None,
        method: str = "fastica-temporal",
        n_components: int = 10,
        threshold: str = "z:3",
        n_group: int | None = None,
        n_individual: int | None = None,
        min_volumes: int = 30,
        iou: float = 0.2,
        paper: bool = False,
        paper_model: str | None = None,
        name: str | None = None,
        seed: int = 0,
        progress: Callable[[int, int], None] | None = None,
    ) -> Outcome:
        """Make group templates of each corpus, and count them in single other texts of every corpus.

        Parameters
        ----------
        site : str, optional
            Site of the neurons; needed if there are several.
        corpus : sequence of str, optional
            Corpora; all at the site by default.
        method : str, default="fastica-temporal"
            Method of decomposition.
        n_components : int, default=10
            Number of maps per decomposition.
        threshold : str, default="z:3"
            Threshold, as ``METHOD`` or ``METHOD:VALUE``.
        n_group : int, optional
            Number of texts per corpus that make its templates; half of them by default.
        n_individual : int, optional
            Number of other texts per corpus that are decomposed one by one; the other half by default.
        min_volumes : int, default=30
            Smallest number of volumes of a text.
        iou : float, default=0.2
            Intersection over union above which two networks count as the same.
        paper : bool, default=False
            Whether to take the paper's method, number of maps and threshold.
        paper_model : str, optional
            Model of the paper whose counts are shown alongside: ``"gpt2"``, ``"qwen2.5-3b"`` or ``"chatglm3-6b"``.
        name : str, optional
            Name of the entry; by default the corpora.
        seed : int, default=0
            Seed of the decompositions and of the draw of texts.
        progress : callable, optional
            Called with the number of finished decompositions and of all.

        Returns
        -------
        Outcome
            The stored outcome.

        Raises
        ------
        ValueError
            If an option is not accepted.
        EntryExistsError
            If the name is taken by an experiment with other inputs or parameters.
        """
        from lmri.lesions.experiments.stored import TemplateOptions, store_templates

        options = TemplateOptions(
            method, n_components, threshold, n_group, n_individual, min_volumes, iou, paper, paper_model, seed
        )
        found = store_templates(self, options, site, corpus, name, progress)
        return self.experiment(found.name, found.site)

    # -- commands on recordings and files -----------------------------------------------------------------------------

    def record(
        self,
        model: str | Path | tuple[Any, Any],
        texts: str | Path | Iterable[str],
        *,
        corpus: str = "texts",
        site: str | Sequence[str] | None = None,
        text_column: str = "text",
        config: str | None = None,
        split: str | None = None,
        limit: int | None = None,
        shuffle: bool = False,
        test_fraction: float = 0.25,
        run_tokens: int = 1024,
        texts_per_run: int | None = None,
        n_dummy: int = 1,
        max_tokens: int | None = None,
        batch_size: int = 8,
        batch_tokens: int | None = None,
        projection: str | None = None,
        experts: Iterable[int] | None = None,
        per: str = "token",
        every: int = 1,
        generate: int | None = None,
        temperature: float = 0.0,
        dtype: str = "float32",
        device: str = "cpu",
        revision: str | None = None,
        trust_remote_code: bool = False,
        allow_pickle: bool = False,
        device_map: str | None = None,
        offload_folder: str | Path | None = None,
        quantize: str | None = None,
        resume: bool = False,
        shard: tuple[int, int] | None = None,
        scheduler: str | None = None,
        seed: int = 0,
        progress: Progress | None = None,
    ) -> Any:
        """Record a model's activations into this study while it reads texts; see `lmri.record`.

        Parameters
        ----------
        model : str, Path or tuple
            Location of the model; or the model and its tokenizer, which need no options of loading.
        texts : str, Path or iterable of str
            Texts, or their source; see `lmri.read_texts`.
        corpus : str, default="texts"
            Name of these texts: letters and digits.
        site : str or sequence of str, optional
            Sites to record in the same passes; by default ``"mlp_out"``.
        text_column : str, default="text"
            Column of a table that holds the texts.
        config, split : str, optional
            Configuration and split of a Hugging Face dataset.
        limit : int, optional
            Largest number of texts.
        shuffle : bool, default=False
            Whether to shuffle the texts before `limit`.
        test_fraction : float, default=0.25
            Share of the texts to hold out.
        run_tokens : int, default=1024
            Approximate number of volumes per run.
        texts_per_run : int, optional
            Number of texts per run, instead of `run_tokens`.
        n_dummy : int, default=1
            Number of initial tokens of each text to exclude from the images.
        max_tokens : int, optional
            Number of tokens at which texts are cut.
        batch_size : int, default=8
            Largest number of texts per forward pass.
        batch_tokens : int, optional
            Largest number of tokens per forward pass; by default 1,024 on a CPU, 16,384 elsewhere.
        projection : str, optional
            Path of the final projection within a block, if it is not detected automatically.
        experts : iterable of int, optional
            Experts of a mixture at ``"mlp_hidden"``; all by default.
        per : {"token", "word", "sentence"}, default="token"
            Unit of a volume.
        every : int, default=1
            Step between recorded tokens.
        generate : int, optional
            Largest number of tokens to generate after each text, which is then a prompt.
        temperature : float, default=0.0
            Sampling temperature for `generate`; 0 is greedy.
        dtype, device, revision, quantize : str, optional
            Precision, device, version on the hub and quantization of the model; see `lmri.load_model`.
        trust_remote_code, allow_pickle : bool, default=False
            Whether to run code of the model, and to read pickled weights.
        device_map : str, optional
            Distribution of the model over devices, such as ``"auto"``.
        offload_folder : str or Path, optional
            Folder for weights offloaded to disk.
        resume : bool, default=False
            Whether to continue an interrupted recording.
        shard : tuple of two ints, optional
            Part to record and number of parts, such as ``(3, 16)``; `merge` combines the parts.
        scheduler : str, optional
            Address of a Dask scheduler whose workers record.
        seed : int, default=0
            Seed of the split, of the shuffle and of the samples.
        progress : callable, optional
            Called with tokens done and tokens in all.

        Returns
        -------
        Recording, list of Recording or None
            Stored recording; a list, one per site, if `site` is a sequence; None for a shard.

        Raises
        ------
        StudyError
            If this is the study of another model.
        EntryExistsError
            If the corpus is recorded from other texts or with other options.
        """
        from lmri.models.loading_options import LoadingOptions
        from lmri.models.recorder.options import RecordingOptions
        from lmri.models.recorder.pipeline import TextSource, record_texts

        options = RecordingOptions(
            corpus=corpus,
            site="mlp_out" if site is None else site,
            run_tokens=run_tokens,
            texts_per_run=texts_per_run,
            n_dummy=n_dummy,
            test_fraction=test_fraction,
            seed=seed,
            max_tokens=max_tokens,
            batch_size=batch_size,
            projection=projection,
            experts=experts,
            per=per,
            every=every,
            generate=generate,
            batch_tokens=batch_tokens,
            temperature=temperature,
            resume=resume,
            shard=shard,
        )
        source = TextSource(texts, text_column, config, split, limit, shuffle, seed)
        loading = LoadingOptions(
            dtype, device, revision, trust_remote_code, allow_pickle, device_map, offload_folder, quantize
        )
        return record_texts(self.root, model, source, options, loading, scheduler, progress)

    def merge(
        self, *, corpus: str | None = None, site: str | None = None, progress: Progress | None = None
    ) -> list[Recording]:
        """Combine the shards of a recording; see `lmri.merge`.

        Parameters
        ----------
        corpus, site : str, optional
            Corpus and site; needed if shards of several recordings wait.
        progress : callable, optional
            Called with batches done and batches in all.

        Returns
        -------
        list of Recording
            Stored recordings, one per site.

        Raises
        ------
        AmbiguousChoiceError
            If shards of several recordings fit, or of none.
        StudyError
            If a shard is missing, unfinished or damaged.
        """
        from lmri.models.recorder.merging import merge

        return merge(self, corpus=corpus, site=site, progress=progress)

    def qc(
        self,
        *,
        corpus: str | None = None,
        site: str | None = None,
        out: str | Path | None = None,
        progress: Progress | None = None,
    ) -> "list[Quality]":
        """Compute quality metrics of recordings, and store tables and a page of each.

        Parameters
        ----------
        corpus, site : str, optional
            Corpus and site; all by default.
        out : str or Path, optional
            File of the page, for one recording; by default ``qc.html`` in the study.
        progress : callable, optional
            Called with runs done and runs in all, per recording.

        Returns
        -------
        list of Quality
            Stored metrics, one per recording.

        Raises
        ------
        AmbiguousChoiceError
            If there is no such recording.
        StudyError
            If the page would replace another file.
        """
        from lmri.report.quality.page import check_quality  # drawing takes a second to load

        return check_quality(self, corpus, site, out, progress)

    def confounds(
        self,
        *,
        corpus: str | Sequence[str] | None = None,
        site: str | None = None,
        model: str | Path | None = None,
        no_model: bool = False,
        batch_size: int | None = None,
        device: str = "cpu",
        trust_remote_code: bool = False,
        allow_pickle: bool = False,
        device_map: str | None = None,
        offload_folder: str | Path | None = None,
        progress: Progress | None = None,
    ) -> "list[ConfoundTables]":
        """Compute and store confounds: a table per run with position, frequency, surprisal, global signal and so on.

        Parameters
        ----------
        corpus : str or sequence of str, optional
            Names of corpora; all by default.
        site : str, optional
            Site; all by default.
        model : str or Path, optional
            Location of the model; by default where it was when it was recorded.
        no_model : bool, default=False
            Whether to leave surprisal and entropy out, for which the model is loaded.
        batch_size : int, optional
            Texts per forward pass; by default as recorded.
        device : str, default="cpu"
            Device of the model.
        trust_remote_code, allow_pickle : bool, default=False
            Whether to run code of the model, and to read pickled weights.
        device_map : str, optional
            Distribution of the model over devices, such as ``"auto"``.
        offload_folder : str or Path, optional
            Folder for weights offloaded to disk.
        progress : callable, optional
            Called with tokens read and tokens in all, per corpus.

        Returns
        -------
        list of ConfoundTables
            Stored tables, one item per recording.

        Raises
        ------
        StudyError
            If there is no recording, or other weights made the stored predictions.
        ValueError
            If there is no such corpus, or the model cannot be loaded.
        """
        from lmri.models.confound_tables import Predicting, make_confounds
        from lmri.models.loading_options import LoadingOptions

        loading = LoadingOptions(
            device=device,
            trust_remote_code=trust_remote_code,
            allow_pickle=allow_pickle,
            device_map=device_map,
            offload_folder=offload_folder,
        )
        return make_confounds(self, corpus, site, Predicting(model, no_model, batch_size, loading), progress)

    def export(
        self, name: str | None = None, *, to: str = "melodic", site: str | None = None, out: str | Path | None = None
    ) -> Path:
        """Write networks for another program: FSLeyes, Connectome Workbench, or one image row per layer.

        Parameters
        ----------
        name : str, optional
            Network set or decomposition; needed if there are several.
        to : {"melodic", "workbench", "strip"}, default="melodic"
            Format.
        site : str, optional
            Site; needed if there are several.
        out : str or Path, optional
            New folder; by default one in the study.

        Returns
        -------
        Path
            The folder.

        Raises
        ------
        EntryExistsError
            If the folder holds something else.
        """
        from lmri.report.export import export

        return export(self, name, to, site, out)

    def accept(
        self,
        networks: str,
        labels: str | Path,
        name: str,
        *,
        site: str | None = None,
        reject_unknown: bool = False,
    ) -> "Accepted":
        """Store the networks of a set that a person accepted in FSLeyes, as a set that can be lesioned.

        Parameters
        ----------
        networks : str
            Name of a network set.
        labels : str or Path
            File of labels, as FSLeyes, Melview and FIX save it.
        name : str
            Name of the new set.
        site : str, optional
            Site; needed if there are several.
        reject_unknown : bool, default=False
            Whether to reject components without a decision, too.

        Returns
        -------
        Accepted
            The stored networks, and the names of rejected, undecided and labelled ones.

        Raises
        ------
        ValueError
            If the file cannot be read as labels of these networks.
        StudyError
            If the labels belong to other maps.
        """
        from lmri.report.export import accept

        return accept(self, networks, labels, name, site, reject_unknown)

    def info(self) -> pd.DataFrame:
        """List recordings and entries: ``kind, name, site, made of``, one row each."""
        return contents(self)

    def validate(self) -> "Findings":
        """Check every file of the study, also with the BIDS validator if it is installed.

        Returns
        -------
        Findings
            Problems, and notes on files that could not be checked.
        """
        from lmri.report.validation import validate

        return validate(self)

    def view(
        self,
        *,
        port: int | None = None,
        no_browser: bool = False,
        ready: Callable[[str], None] | None = None,
    ) -> None:
        """Serve the study to the browser of this machine, until it is interrupted.

        Parameters
        ----------
        port : int, optional
            Port; 0 for any that is free. By default 8765, or any that is free.
        no_browser : bool, default=False
            Whether to open no browser.
        ready : callable, optional
            Called with the address once the server listens.
        """
        from lmri.report.viewer import serve

        serve(self.root, port, ready, browser=not no_browser)

    def phantom(
        self,
        *,
        data: Sequence[str] | None = None,
        method: Sequence[str] | None = None,
        threshold: Sequence[str] | None = None,
        n_components: int | None = None,
        seeds: int = 1,
        site: str | None = None,
        order: bool = False,
        n_jobs: int = 1,
        progress: Progress | None = None,
    ) -> pd.DataFrame:
        """Evaluate methods and thresholds on simulated recordings of this study's neurons; nothing is stored.

        Parameters
        ----------
        data : sequence of str, optional
            Phantoms and nulls; all by default.
        method : sequence of str, optional
            Methods of decomposition; ``"ica"`` by default.
        threshold : sequence of str, optional
            ``METHOD`` or ``METHOD:VALUE``; by default `lmri.phantom.THRESHOLDS`.
        n_components : int, optional
            Number of maps; by default as many as were planted, 20 on nulls.
        seeds : int, default=1
            Phantoms of each kind, with the seeds 0, 1, ...
        site : str, optional
            Site; needed if there are several.
        order : bool, default=False
            Whether to estimate the number of networks, too.
        n_jobs : int, default=1
            Number of processes.
        progress : callable, optional
            Called with phantoms done and phantoms in all.

        Returns
        -------
        DataFrame
            One row per phantom, method and threshold; see `lmri.phantom.table`.
        """
        from lmri.decomposition.phantom.trying import Neurons, Trial, try_phantoms

        trial = Trial(data, method, threshold, n_components, seeds, order)
        return try_phantoms(Neurons.of_study(self, site), trial, n_jobs, progress)

    def report(self, out: str | Path | None = None) -> Path:
        """Write the report: one HTML file with everything that is in the study.

        Parameters
        ----------
        out : str or Path, optional
            By default ``report.html`` in the study.
        """
        from lmri.report import write_report  # drawing takes a second to load, and most of a study does without

        return write_report(self, Path(out) if out else self.layout.report)

    def _repr_html_(self) -> str:
        return html_table(f"Study {self.root} of {self.model.id}", self.info())

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
