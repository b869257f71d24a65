"""The study: the object with which users compute, store and open results.

The module is long because `Study` has one method for every command, with the options of the command as parameters and a
complete docstring. The methods contain no logic: each calls the function of the package that owns the result.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack, overload

import pandas as pd

from lmri import storage
from lmri.decomposition.codec import DECOMPOSITION_CODEC, reliability, save_decomposition
from lmri.decomposition.reproducibility import Reproducibility
from lmri.lesions.codecs import CODECS
from lmri.lesions.controls.registry import ControlOptions
from lmri.lesions.scores import Scores
from lmri.lesions.scores.codec import SCORES_CODEC, save_scores
from lmri.lesions.tasks.requested import TaskOptions
from lmri.models.recorder.keywords import StudyRecordingKeywords
from lmri.models.study_model import ModelSource
from lmri.networks import NetworkSet, labels
from lmri.networks.codec import DECOMPOSITIONS, NETWORKS_CODEC, save_networks, time_courses
from lmri.networks.comparison import AnyComparison, CourseComparison
from lmri.networks.comparison.codec import COMPARISON_CODEC, compare_sites, compare_stored, save_comparison
from lmri.space.html import html_table
from lmri.storage.contents import contents
from lmri.storage.entries import Entry
from lmri.storage.experiments import EXPERIMENT_CODEC, save_experiment
from lmri.storage.freshness import with_digests
from lmri.storage.identifiers import GROUP, split_scope
from lmri.storage.outcome import Outcome
from lmri.storage.recording import Recording
from lmri.storage.recordings import check_version
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
"""Function that is called with the number of finished parts and their total."""


class Study(Store):
    """One model of a study: its recordings and results on disk, and methods to compute them.

    Parameters
    ----------
    root : str or Path
        Folder of the study.
    subject, session : str, optional
        Labels of the model and of its state; required if the study contains several. The subject ``"group"`` contains
        results of several models together.

    Raises
    ------
    StudyError
        If the folder is not a study, or another version of lmri wrote it.
    AmbiguousChoiceError
        If the study contains several models and none was chosen; the message lists the choices.
    """

    def __init__(self, root: str | Path, subject: str | None = None, session: str | None = None) -> None:
        super().__init__(root, CODECS, subject, session)

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
            Estimator that was fitted on the images of `recordings`, in this order. Its surrogates are stored if they
            were computed.
        recordings : sequence of Recording
            Recordings of one site.
        name : str, optional
            Name of the decomposition; by default the method.
        reproducibility : Reproducibility, optional
            Agreement of the maps with those from other samples of the texts.
        """
        return save_decomposition(self, estimator, recordings, name, reproducibility)

    def decomposition(self, name: str | None = None, site: str | None = None) -> NetworkSet:
        """Open the unthresholded maps of a decomposition."""
        return self.open(DECOMPOSITION_CODEC, name, site)

    def reliability(self, name: str | None = None, site: str | None = None) -> pd.DataFrame | None:
        """Open the reliability curve of a decomposition: agreement by number of texts; None if it was not computed."""
        return reliability(self, name, site)

    def time_courses(self, name: str | None = None, site: str | None = None) -> list[tuple[str, int, pd.DataFrame]]:
        """Open the time courses of a decomposition: corpus, run and table ``(n_volumes, n_networks)`` for each run."""
        return time_courses(self, name, site)

    def save_networks(self, networks: NetworkSet, decomposition: str, name: str | None = None) -> Entry:
        """Store thresholded networks: members, weights, z maps for viewers, and tables.

        Parameters
        ----------
        networks : NetworkSet
            Thresholded networks.
        decomposition : str
            Name of the decomposition of the networks.
        name : str, optional
            Name of the networks; by default the name of the decomposition.
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
            Name and site of each network set; both must have been fitted on the same corpora.
        seed : int, default=0
            Seed of the nulls.

        Raises
        ------
        StudyError
            If they were fitted on different corpora.
        """
        return compare_sites(self, first, second, seed)

    def save_comparison(self, comparison: AnyComparison, seed: int, name: str | None = None) -> Entry:
        """Store the comparison of stored network sets.

        Parameters
        ----------
        comparison : Comparison, CourseComparison or Consensus
            Comparison of network sets of this study under their stored names; of time courses, from `compare_sites`.
        seed : int
            Seed with which the comparison was computed.
        name : str, optional
            Name of the comparison; by default all names of the sets.
        """
        return save_comparison(self, comparison, seed, name)

    def comparison(self, name: str | None = None, site: str | None = None) -> AnyComparison:
        """Open a comparison, which is recomputed from the networks with the stored seed."""
        return self.open(COMPARISON_CODEC, name, site)

    def save_scores(
        self,
        scores: Scores,
        name: str,
        site: str,
        networks: str | None = None,
        parameters: Mapping[str, Any] | None = None,
    ) -> Entry:
        """Store an evaluation: its items, its conditions and their summary.

        Parameters
        ----------
        scores : Scores
            Scores returned by `lmri.evaluate`; their inputs become inputs of the entry.
        name : str
            Name of the entry.
        site : str
            Site of the neurons.
        networks : str, optional
            Name of the stored network set that was evaluated.
        parameters : mapping, optional
            Parameters that describe the evaluation for readers, such as ``{"intervention": "lesion"}``.
        """
        return save_scores(self, scores, name, site, networks, parameters)

    def scores(self, name: str | None = None, site: str | None = None) -> Scores:
        """Open an evaluation."""
        return self.open(SCORES_CODEC, name, site)

    def experiment_inputs(self, inputs: Mapping[str, Any], site: str) -> dict[str, Any]:
        """Return the inputs of an experiment, with the digests of all recordings and entries that they name.

        Parameters
        ----------
        inputs : mapping
            Inputs. ``corpora``, ``decomposition``, ``networks``, ``comparison``, ``scores`` and ``experiment``, or
            their plurals, contain the name of one or a list of recordings or entries at `site` or, as
            ``"ica@mlp_out"``, at another site. Their digests are added. Other inputs, such as hashes of tasks, can be
            any JSON content and are not changed.
        site : str
            Site of the neurons.

        Raises
        ------
        StudyError
            If a digest in `inputs` differs from the current one, or a named entry is itself out of date.
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
        """Store the outcome of an experiment: its text, tables and figures.

        Parameters
        ----------
        outcome : Outcome
            Outcome to store, in the format of `Outcome.write`.
        name : str
            Name of the entry.
        site : str
            Site of the neurons.
        inputs : mapping
            Inputs of the experiment; see `experiment_inputs`. If one of them changes, the outcome is out of date, and
            opening it raises an error.
        parameters : mapping, optional
            Parameters of the experiment.

        Raises
        ------
        EntryExistsError
            If the name is taken by an experiment with other inputs or parameters, or with another outcome.
        """
        return save_experiment(self, outcome, name, site, inputs, parameters or {})

    def experiment(self, name: str | None = None, site: str | None = None) -> Outcome:
        """Open the outcome of an experiment.

        Raises
        ------
        StudyError
            If one of its direct or indirect inputs has changed since, or one of its files was changed.
        """
        return self.open(EXPERIMENT_CODEC, name, site)

    def labels(self, decomposition: str | None = None, site: str | None = None) -> pd.DataFrame:
        """Open the labels of a decomposition's networks: ``network, label, source`` (suggested or edited)."""
        return labels.of(self.layout, self.fresh(DECOMPOSITIONS, decomposition, site))

    def suggest_labels(
        self, suggested: Mapping[str, str], decomposition: str | None = None, site: str | None = None
    ) -> list[str]:
        """Store suggested labels of a decomposition's networks, without replacing edited labels.

        Parameters
        ----------
        suggested : mapping from str to str
            Labels by network, from `lmri.annotation.annotate`.
        decomposition, site : str, optional
            Name and site of the decomposition; required if there are several.

        Returns
        -------
        list of str
            Names of the networks whose edited labels were not replaced.
        """
        return labels.suggest(self, suggested, decomposition, site)

    def label(self, network: str, text: str, site: str | None = None) -> str:
        """Set the display label of a network, which replaces a suggested label and does not affect results.

        Parameters
        ----------
        network : str
            Name of the network, such as ``"ica-03"``, in a decomposition or in a network set thresholded from it, which
            share the label.
        text : str
            Label of at least one word.
        site : str, optional
            Site of the network; required if there are several.

        Returns
        -------
        str
            Name of the network in the decomposition.

        Raises
        ------
        ValueError
            If there is no such network, or there are two of that name.
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
            Site of the neurons; required if several were recorded.
        corpus : str or sequence of str, optional
            Corpora; by default all at the site.
        scope : {"group", "run"}, default="group"
            Scope of the recommendation: all runs together, or the median over runs.
        n_surrogates : int, default=20
            Number of circularly shifted surrogates, at least 19.
        seed : int, default=0
            Random seed of the surrogates.
        progress : callable, optional
            Function that is called with the number of runs read and their total.

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
        subjects: Sequence[str] | None = None,
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
            Number of maps; by default 20, with `paper` 10. ``"auto"`` estimates it by parallel analysis, for ICA.
        site : str, optional
            Site of the neurons; required if several were recorded.
        corpus : str or sequence of str, optional
            Corpora to fit; by default all at the site.
        standardize : {"zscore", "center", "none"}, default="zscore"
            Standardization of each neuron's time series.
        scope : {"run", "study"}, default="run"
            Scope of the mean and standard deviation.
        confounds : sequence of str, optional
            Names of stored confounds to regress out of each run.
        alpha : float, optional
            Sparsity penalty of dictionary learning; by default 10.
        solver : {"fastica", "picard"}, optional
            Solver of ICA; by default ``"fastica"``.
        n_init : int, optional
            Number of random initializations of ICA and CanICA; by default 10.
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
            Whether to use the paper's settings: temporal FastICA with the solver's signs, neurons centred over the
            study, and one-sided z > 3.6 (or ``threshold="z_positive:1.96"``).
        name : str, optional
            Name of the decomposition and of its networks; by default the method.
        subjects : sequence of str, optional
            Models to decompose together, of the same site, number of layers and widths; the result is stored in the
            group, and the dual regression of each model in the model as ``NAME-dr``. By default the model of this
            study alone.
        n_jobs : int, default=1
            Number of processes or threads.
        device : {"cpu", "cuda"}, default="cpu"
            Device of ICA.
        seed : int, default=0
            Random seed.
        progress : callable, optional
            Function that is called with the number of finished repetitions on samples of the texts and their total.

        Returns
        -------
        NetworkSet
            Stored networks; `decomposition` opens all maps.

        Raises
        ------
        EntryExistsError
            If the name is taken by another decomposition.
        ValueError
            If the method does not have an option, or options exclude each other.
        """
        from lmri.decomposition.pipeline import decompose
        from lmri.decomposition.settings import DecompositionSettings, Repeats

        options = {"alpha": alpha, "solver": solver, "n_init": n_init, "device": device}
        repeats = Repeats(n_surrogates, n_bootstraps, n_splits)
        settings = DecompositionSettings(
            method, n_components, standardize, scope, confounds or (), options, threshold, repeats, paper, n_jobs, seed
        )
        if subjects is not None:
            from lmri.decomposition.group import decompose_group

            return decompose_group(self, subjects, settings, site, corpus, name, progress)
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
            Site of the neurons; required if there are several.

        Returns
        -------
        NetworkSet
            Stored networks, which may be empty.

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
            Names of network sets. A name may contain its site, as in ``"canica@mlp_out"``.
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
        comparison = compare_stored(self, [first, second, *(more or [])], site, seed, mixed_standardization)
        save_comparison(self, comparison, seed, name)
        return comparison

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
            Name of the decomposition; required if there are several.
        site : str, optional
            Site of the neurons; required if there are several.
        n_permutations : int, default=1000
            Smallest number of permutations of whole texts.
        save : bool, default=False
            Whether to store the suggested labels; edited labels are not replaced.
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
            Name of the decomposition; required if there are several.
        site : str, optional
            Site of the neurons; required if there are several.
        kind : {"correlation", "partial"}, default="correlation"
            Kind of connectivity; partial correlations control for all other networks.
        min_volumes : int, default=20
            Minimum number of volumes per text; shorter texts are excluded.

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
            Corpus of the texts; required if there are several and no contrast.
        contrast : tuple of (str, str), optional
            Two corpora whose texts are compared, instead of `corpus`.
        site : str, optional
            Site of the neurons; required if there are several.
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
        """Find the neurons that differ between conditions, and store them as a set with one network.

        Parameters
        ----------
        contrast : str
            Contrast of conditions, such as ``"code - prose"`` or ``"code - 1/2*news - 1/2*wiki"``.
        column : str, default="trial_type"
            Column of the events with the conditions; ``"trial_type"`` is the corpus.
        site : str, optional
            Site of the neurons; required if several were recorded.
        corpus : str or sequence of str, optional
            Corpora; by default the corpora of the contrast, or all at the site.
        level : {"auto", "between", "within"}, default="auto"
            Comparison between texts or within texts.
        unit : {"run", "text"}, default="run"
            Unit of an effect map, for comparisons within texts.
        test : {"max_t", "parametric"}, default="max_t"
            Permutation test, corrected over neurons, or nilearn's second level with FDR.
        alpha : float, default=0.05
            Familywise error or false discovery rate.
        tail : {"two", "positive", "negative"}, default="two"
            Sign of the neurons to keep.
        most : int, optional
            Maximum number of neurons to keep, those with the largest t; by default all.
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
            Stored network, which may be empty. `lmri.localizer.overlap_table` compares it with other sets.

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
        """Open the cache of the item rows of all evaluations, so that no item is scored twice."""
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
        quoting: str | None = None,
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
            Whether to use the paper's settings: its decomposition, unless `networks` is passed, baseline zero, and
            random neurons as the only controls.
        paper_model : str, optional
            Model of the paper whose values are shown alongside: ``"gpt2"``, ``"qwen2.5-3b"`` or ``"chatglm3-6b"``.
        baseline : str, default="zero"
            Value assigned to lesioned neurons: ``"zero"``, ``"CORPUS"`` for the neuron's mean over a corpus, or
            ``"resample:CORPUS[:SEED]"`` for its value at a random token of the corpus.
        n_seeds : int, default=1
            Number of resampling seeds to pool.
        spare : str, optional
            Tokens to exclude from the intervention: ``"sinks"`` for the first token of every text.
        positions : str or sequence of int, optional
            Tokens to change: ``"prompt"``, ``"generated"`` or ``"last"``, or positions in the text; all by default.
        site : str, optional
            Site of the neurons; required if there are several.
        model : str, Path or tuple of a model and its tokenizer, optional
            Location of the model, or the loaded model with its tokenizer; by default the location from which the study
            was recorded.
        text_column : str, default="text"
            Column of the texts in FILE.
        quoting : {"csv", "none"}, optional
            Whether quotation marks in CSV and TSV files enclose fields; see `lmri.read_texts`.
        name : str, optional
            Name of the entries; by default the command and the networks.
        batch_size : int, default=8
            Number of texts per forward pass.
        device : str, default="cpu"
            Device of the model: ``"cpu"`` or ``"cuda"``.
        trust_remote_code : bool, default=False
            Whether to run code that comes with the model.
        allow_pickle : bool, default=False
            Whether to read pickled weights, which can run arbitrary code.
        device_map : str, optional
            Device map: ``"auto"`` to distribute the model over GPUs, memory and disk; by default one device.
        offload_folder : str or Path, optional
            Folder for weights offloaded to disk.
        strict : bool, default=False
            Whether to raise an error if the weights of the model differ from the recorded ones.
        seed : int, default=0
            Seed of controls and bootstrap.
        progress : callable, optional
            Function that is called with the number of finished evaluations and their total.

        Returns
        -------
        Scores
            Stored scores.

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
        tasks = TaskOptions(task, scoring, split, text_column, batch_size, quoting)
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
        quoting: str | None = None,
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
        """Lesion all neurons except the members of networks, or a share of all neurons, and score the model.

        Parameters
        ----------
        networks : str or sequence of str, optional
            Name of a network set, whose networks are preserved one at a time; of several sets, the union of each.
        share : sequence of float, optional
            Shares of all neurons to preserve, those with the largest absolute z over the maps of `decomposition`.
        decomposition : str, optional
            Name of the decomposition of `share`; required if there are several.
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
            Value assigned to lesioned neurons: ``"zero"``, ``"CORPUS"`` for the neuron's mean over a corpus, or
            ``"resample:CORPUS[:SEED]"`` for its value at a random token of the corpus.
        site : str, optional
            Site of the neurons; required if there are several.
        model : str, Path or tuple of a model and its tokenizer, optional
            Location of the model, or the loaded model with its tokenizer; by default the location from which the study
            was recorded.
        text_column : str, default="text"
            Column of the texts in FILE.
        quoting : {"csv", "none"}, optional
            Whether quotation marks in CSV and TSV files enclose fields; see `lmri.read_texts`.
        name : str, optional
            Name of the entries; by default the command and the networks.
        batch_size : int, default=8
            Number of texts per forward pass.
        device : str, default="cpu"
            Device of the model: ``"cpu"`` or ``"cuda"``.
        trust_remote_code : bool, default=False
            Whether to run code that comes with the model.
        allow_pickle : bool, default=False
            Whether to read pickled weights, which can run arbitrary code.
        device_map : str, optional
            Device map: ``"auto"`` to distribute the model over GPUs, memory and disk; by default one device.
        offload_folder : str or Path, optional
            Folder for weights offloaded to disk.
        strict : bool, default=False
            Whether to raise an error if the weights of the model differ from the recorded ones.
        seed : int, default=0
            Seed of controls and bootstrap.
        progress : callable, optional
            Function that is called with the number of finished evaluations and their total.

        Returns
        -------
        Scores or Outcome
            Stored scores for one network set without `share`; for a comparison of sizes, the stored outcome, whose
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
        tasks = TaskOptions(task, scoring, split, text_column, batch_size, quoting)
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
        quoting: str | None = None,
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
            Site of the neurons; required if there are several.
        model : str, Path or tuple of a model and its tokenizer, optional
            Location of the model, or the loaded model with its tokenizer; by default the location from which the study
            was recorded.
        text_column : str, default="text"
            Column of the texts in FILE.
        quoting : {"csv", "none"}, optional
            Whether quotation marks in CSV and TSV files enclose fields; see `lmri.read_texts`.
        name : str, optional
            Name of the entries; by default the command and the networks.
        batch_size : int, default=8
            Number of texts per forward pass.
        device : str, default="cpu"
            Device of the model: ``"cpu"`` or ``"cuda"``.
        trust_remote_code : bool, default=False
            Whether to run code that comes with the model.
        allow_pickle : bool, default=False
            Whether to read pickled weights, which can run arbitrary code.
        device_map : str, optional
            Device map: ``"auto"`` to distribute the model over GPUs, memory and disk; by default one device.
        offload_folder : str or Path, optional
            Folder for weights offloaded to disk.
        strict : bool, default=False
            Whether to raise an error if the weights of the model differ from the recorded ones.
        seed : int, default=0
            Seed of controls and bootstrap.
        progress : callable, optional
            Function that is called with the number of finished evaluations and their total.

        Returns
        -------
        Scores or Outcome
            Stored scores for a single dose; for several doses, the stored outcome, whose scores are stored under the
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
        tasks = TaskOptions(task, scoring, doses.single_split, text_column, batch_size, quoting)
        matched = ControlOptions(controls, n_controls)
        request = Request("amplify", doses.options(), networks, tasks, matched, seed)
        plan = plan_amplification(self, request, doses, site, name, source.location)
        return self._result(plan.run(source, strict, progress))

    def _result(self, stored: "StoredScores") -> Scores | Outcome:
        return stored.scores if stored.outcome is None else self.experiment(stored.name, stored.site)

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
        quoting: str | None = None,
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
        """Test whether the effect of a lesion is robust to analysis choices, varied one at a time.

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
            Analysis choices to vary; all by default.
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
            Family of the controls of the base specification; the other family is a variant.
        scoring : str, optional
            Scoring of named tasks, one of ``lmri.tasks.SCORINGS``; by default the scoring of each task.
        split : {"", "fit", "select", "test"}, default=""
            Split of named tasks; all items by default.
        site : str, optional
            Site of the neurons; required if there are several.
        model : str, Path or tuple of a model and its tokenizer, optional
            Location of the model, or the loaded model with its tokenizer; by default the location from which the study
            was recorded.
        text_column : str, default="text"
            Column of the texts in FILE.
        quoting : {"csv", "none"}, optional
            Whether quotation marks in CSV and TSV files enclose fields; see `lmri.read_texts`.
        name : str, optional
            Name of the entries; by default the command and the networks.
        batch_size : int, default=8
            Number of texts per forward pass.
        device : str, default="cpu"
            Device of the model: ``"cpu"`` or ``"cuda"``.
        trust_remote_code : bool, default=False
            Whether to run code that comes with the model.
        allow_pickle : bool, default=False
            Whether to read pickled weights, which can run arbitrary code.
        device_map : str, optional
            Device map: ``"auto"`` to distribute the model over GPUs, memory and disk; by default one device.
        offload_folder : str or Path, optional
            Folder for weights offloaded to disk.
        strict : bool, default=False
            Whether to raise an error if the weights of the model differ from the recorded ones.
        seed : int, default=0
            Seed of controls and bootstrap.
        progress : callable, optional
            Function that is called with the number of finished evaluations and their total.

        Returns
        -------
        Outcome
            Stored outcome.

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
        tasks = TaskOptions(task, scoring, split, text_column, batch_size, quoting)
        options = RobustnessOptions(networks, network, variations, tasks, n_controls, controls, seed)
        source = ModelSource(model, device, trust_remote_code, allow_pickle, device_map, offload_folder)
        stored = RobustnessPlan.of(self, options, site, name).run(source, strict, progress)
        return self.experiment(stored.name, stored.site)

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
            Name of the evaluation; required if there are several.
        site : str, optional
            Site of the neurons.
        network, task : sequence of str, optional
            Networks and tasks to test; all by default.
        name : str, optional
            Name of the entry; by default the evaluation with the chosen networks and tasks.

        Returns
        -------
        Outcome
            Stored outcome.

        Raises
        ------
        AmbiguousChoiceError
            If several evaluations fit, or none.
        EntryExistsError
            If the name is taken by an experiment with other inputs or parameters.
        """
        from lmri.lesions.experiments.stored import store_dissociations

        stored = store_dissociations(self, scores, site, network, task, name)
        return self.experiment(stored.name, stored.site)

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
        """Compute group templates of each corpus, and count their replications in single other texts of every corpus.

        Parameters
        ----------
        site : str, optional
            Site of the neurons; required if there are several.
        corpus : sequence of str, optional
            Corpora; all at the site by default.
        method : str, default="fastica-temporal"
            Method of decomposition.
        n_components : int, default=10
            Number of maps per decomposition.
        threshold : str, default="z:3"
            Threshold, as ``METHOD`` or ``METHOD:VALUE``.
        n_group : int, optional
            Number of texts per corpus for its templates; half of them by default.
        n_individual : int, optional
            Number of other texts per corpus, decomposed one by one; the other half by default.
        min_volumes : int, default=30
            Minimum number of volumes per text.
        iou : float, default=0.2
            Intersection over union above which two networks count as the same.
        paper : bool, default=False
            Whether to use the paper's method, number of maps and threshold.
        paper_model : str, optional
            Model of the paper whose counts are shown alongside: ``"gpt2"``, ``"qwen2.5-3b"`` or ``"chatglm3-6b"``.
        name : str, optional
            Name of the entry; by default the corpora.
        seed : int, default=0
            Seed of the decompositions and of the draw of texts.
        progress : callable, optional
            Function that is called with the number of finished decompositions and their total.

        Returns
        -------
        Outcome
            Stored outcome.

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
        stored = store_templates(self, options, site, corpus, name, progress)
        return self.experiment(stored.name, stored.site)

    # -- commands on recordings and files -----------------------------------------------------------------------------

    @overload
    def record(
        self,
        model: str | Path | tuple[Any, Any],
        texts: str | Path | Iterable[str],
        *,
        site: str | None = ...,
        shard: None = ...,
        **options: Unpack[StudyRecordingKeywords],
    ) -> Recording: ...
    @overload
    def record(
        self,
        model: str | Path | tuple[Any, Any],
        texts: str | Path | Iterable[str] | None = ...,
        *,
        site: list[str] | tuple[str, ...],
        shard: None = ...,
        **options: Unpack[StudyRecordingKeywords],
    ) -> list[Recording]: ...
    @overload
    def record(
        self,
        model: str | Path | tuple[Any, Any],
        texts: None = ...,
        *,
        site: str | None = ...,
        shard: None = ...,
        **options: Unpack[StudyRecordingKeywords],
    ) -> list[Recording]: ...
    @overload
    def record(
        self,
        model: str | Path | tuple[Any, Any],
        texts: str | Path | Iterable[str] | None = ...,
        *,
        shard: tuple[int, int],
        site: str | Sequence[str] | None = ...,
        **options: Unpack[StudyRecordingKeywords],
    ) -> None: ...
    def record(
        self,
        model: str | Path | tuple[Any, Any],
        texts: str | Path | Iterable[str] | None = None,
        *,
        corpus: str = "texts",
        site: str | Sequence[str] | None = None,
        text_column: str = "text",
        quoting: str | None = None,
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
        subject: str | None = None,
        session: str | None = None,
        device_check: bool = True,
        seed: int = 0,
        progress: Progress | None = None,
    ) -> Recording | list[Recording] | None:
        """Record a model's activations into this study while it reads texts; see `lmri.record`.

        Parameters
        ----------
        model : str, Path or tuple
            Location of the model; or the loaded model and its tokenizer, to which the loading options do not apply.
        texts : str, Path or iterable of str, optional
            Texts, or their source; see `lmri.read_texts`. By default every corpus of the study is recorded, as another
            model has recorded it: with the stored texts and parameters.
        corpus : str, default="texts"
            Name of these texts: letters and digits.
        site : str or sequence of str, optional
            Sites to record in the same passes; by default ``"mlp_out"``.
        text_column : str, default="text"
            Column of a table with the texts.
        quoting : {"csv", "none"}, optional
            Whether quotation marks in CSV and TSV files enclose fields; see `lmri.read_texts`.
        config, split : str, optional
            Configuration and split of a Hugging Face dataset.
        limit : int, optional
            Maximum number of texts.
        shuffle : bool, default=False
            Whether to shuffle the texts before `limit`.
        test_fraction : float, default=0.25
            Fraction of the texts to hold out for testing.
        run_tokens : int, default=1024
            Approximate number of volumes per run.
        texts_per_run : int, optional
            Number of texts per run, instead of `run_tokens`.
        n_dummy : int, default=1
            Number of initial tokens of each text to exclude from the images.
        max_tokens : int, optional
            Number of tokens to which texts are truncated.
        batch_size : int, default=8
            Maximum number of texts per forward pass.
        batch_tokens : int, optional
            Maximum number of tokens per forward pass; by default 1,024 on a CPU, 16,384 elsewhere.
        projection : str, optional
            Path of the final projection within a block, if it is not detected automatically.
        experts : iterable of int, optional
            Experts of a mixture at ``"mlp_hidden"``; all by default.
        per : {"token", "word", "sentence"}, default="token"
            Unit of a volume.
        every : int, default=1
            Step between recorded tokens: only every N-th token is recorded.
        generate : int, optional
            Maximum number of tokens to generate after each text, which is then a prompt.
        temperature : float, default=0.0
            Sampling temperature for `generate`; 0 is greedy decoding, larger values sample with `seed`.
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
            Shard to record and number of shards, such as ``(3, 16)``; `merge` combines the shards.
        scheduler : str, optional
            Address of a Dask scheduler whose workers record.
        subject, session : str, optional
            Labels of the model and of its state in the study; by default the last part of the model's name, and no
            session.
        device_check : bool, default=True
            Whether to compare the first 32 tokens with the CPU if the model is on another device.
        seed : int, default=0
            Seed of the split, of the shuffle and of the samples.
        progress : callable, optional
            Function that is called with the number of recorded tokens and their total.

        Returns
        -------
        Recording, list of Recording or None
            Stored recording; a list with one recording per site if `site` is a sequence; None for a shard.

        Raises
        ------
        StudyError
            If the study belongs to another model.
        EntryExistsError
            If the corpus was already recorded from other texts or with other options.
        """
        from lmri.models.loading.options import LoadingOptions
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
            subject=subject,
            session=session,
            device_check=device_check,
        )
        source = TextSource(texts, text_column, config, split, limit, shuffle, seed, quoting)
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
            Corpus and site; required if shards of several recordings are stored.
        progress : callable, optional
            Function that is called with the number of merged batches and their total.

        Returns
        -------
        list of Recording
            Stored recordings, one per site.

        Raises
        ------
        AmbiguousChoiceError
            If shards of several recordings or of no recording fit.
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
        """Compute quality metrics of recordings, and store tables and an HTML page for each.

        Parameters
        ----------
        corpus, site : str, optional
            Corpus and site; all by default.
        out : str or Path, optional
            File of the page, for one recording; by default ``qc.html`` in the study.
        progress : callable, optional
            Function that is called with the number of checked runs and their total, per recording.

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
        from lmri.report.quality.page import check_quality  # plotting takes a second to import

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
        """Compute and store confounds: one table per run with position, frequency, surprisal, global signal and others.

        Parameters
        ----------
        corpus : str or sequence of str, optional
            Names of corpora; all by default.
        site : str, optional
            Site; all by default.
        model : str or Path, optional
            Location of the model; by default its location when it was recorded.
        no_model : bool, default=False
            Whether to omit surprisal and entropy, which require the model.
        batch_size : int, optional
            Number of texts per forward pass; by default as recorded.
        device : str, default="cpu"
            Device of the model.
        trust_remote_code, allow_pickle : bool, default=False
            Whether to run code of the model, and to read pickled weights.
        device_map : str, optional
            Distribution of the model over devices, such as ``"auto"``.
        offload_folder : str or Path, optional
            Folder for weights offloaded to disk.
        progress : callable, optional
            Function that is called with the number of tokens read and their total, per corpus.

        Returns
        -------
        list of ConfoundTables
            Stored tables, one item per recording.

        Raises
        ------
        StudyError
            If there is no recording, or the stored predictions were computed with other weights.
        ValueError
            If there is no such corpus, or the model cannot be loaded.
        """
        from lmri.models.confound_tables import Predicting, make_confounds
        from lmri.models.loading.options import LoadingOptions

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
        """Export networks for another program: FSLeyes, Connectome Workbench, or 2D images with one row per layer.

        Parameters
        ----------
        name : str, optional
            Network set or decomposition; required if there are several.
        to : {"melodic", "workbench", "strip"}, default="melodic"
            Export format.
        site : str, optional
            Site; required if there are several.
        out : str or Path, optional
            New folder; by default one in the study.

        Returns
        -------
        Path
            Folder of the exported files.

        Raises
        ------
        EntryExistsError
            If the folder contains other files.
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
        """Store the networks of a set that were accepted in FSLeyes, as a set that can be lesioned.

        Parameters
        ----------
        networks : str
            Name of a network set.
        labels : str or Path
            File of labels, as saved by FSLeyes, Melview or FIX.
        name : str
            Name of the new set.
        site : str, optional
            Site; required if there are several.
        reject_unknown : bool, default=False
            Whether to also reject components without a decision.

        Returns
        -------
        Accepted
            Stored networks, and the names of rejected, undecided and labelled networks.

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
        """List recordings and entries in a table with one row each: ``kind, name, site, made of``."""
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

        The page starts with this model, and has a menu of the other models of the study. The group is not shown,
        because it has no recordings.

        Parameters
        ----------
        port : int, optional
            Port of the page; 0 for any free port. By default 8765, or any free port.
        no_browser : bool, default=False
            Whether to serve the page without opening a browser.
        ready : callable, optional
            Function that is called with the address once the server listens.

        Raises
        ------
        StudyError
            If this is the group.
        """
        from lmri.report.viewer import serve

        subject = self.subject or GROUP
        serve(self.root, port, ready, browser=not no_browser, subject=subject, session=self.session)

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
            Number of maps; by default the number of simulated networks, 20 on nulls.
        seeds : int, default=1
            Number of phantoms of each kind, with the seeds 0, 1, ...
        site : str, optional
            Site; required if there are several.
        order : bool, default=False
            Whether to also estimate the number of components.
        n_jobs : int, default=1
            Number of processes.
        progress : callable, optional
            Function that is called with the number of evaluated phantoms and their total.

        Returns
        -------
        DataFrame
            Results, one row per phantom, method and threshold; see `lmri.phantom.table`.
        """
        from lmri.decomposition.phantom.trying import Neurons, Trial, try_phantoms

        trial = Trial(data, method, threshold, n_components, seeds, order)
        return try_phantoms(Neurons.of_study(self, site), trial, n_jobs, progress)

    def report(self, out: str | Path | None = None) -> Path:
        """Write the report of all results of the study to one HTML file.

        Parameters
        ----------
        out : str or Path, optional
            Path of the file; by default ``report.html`` in the study or, if the study contains several models,
            ``report-SCOPE.html``. `lmri.report.write_reports` writes the reports of all models, and an overview.
        """
        from lmri.report import write_report  # plotting takes a second to import, and is rarely needed

        several = len(self.layout.scopes()) > 1
        return write_report(self, Path(out) if out else self.layout.scope_report if several else self.layout.report)

    @property
    def _of(self) -> str:
        return "several models" if self.scope == GROUP else self.model.id

    def _repr_html_(self) -> str:
        return html_table(f"Study {self.root} of {self._of}", self.info())

    def __repr__(self) -> str:
        kinds = ", ".join(f"{len(self.entries.list(kind))} {kind}" for kind in storage.ENTRY_KINDS)
        return f"<Study {str(self.root)!r} of {self._of}: {len(self.recordings())} recordings, {kinds}>"


def open_scopes(root: str | Path) -> list[Study]:
    """Open a study for each of its models, and for the group if there are results of several models.

    Parameters
    ----------
    root : str or Path
        Folder of the study.

    Returns
    -------
    list of Study
        One object per scope, in alphabetical order, the group last; at least one.

    Raises
    ------
    StudyError
        If the folder is not a study, or another version of lmri wrote it.
    AmbiguousChoiceError
        If it contains no model yet.
    """
    layout = storage.Layout(Path(root))
    check_version(layout)
    if not (scopes := layout.scopes()):
        return [Study(root)]  # raises
    if any(layout.at(GROUP).entries(kind) for kind in storage.ENTRY_KINDS):
        scopes.append(GROUP)
    return [Study(root, *labels) for labels in ((scope,) if scope == GROUP else split_scope(scope) for scope in scopes)]


def open_study(root: str | Path, subject: str | None = None, session: str | None = None) -> Study:
    """Open a study for one of its models.

    Parameters
    ----------
    root : str or Path
        Folder of the study.
    subject, session : str, optional
        Labels of the model and of its state; required if the study contains several. The subject ``"group"`` contains
        results of several models together. `Study.subjects` lists the models.

    Raises
    ------
    StudyError
        If the folder is not a study, or another version of lmri wrote it.
    AmbiguousChoiceError
        If the study contains several models and none was chosen; the message lists the choices.
    """
    return Study(root, subject, session)
