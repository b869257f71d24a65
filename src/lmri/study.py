"""The study: the one object through which users compute, store and open results."""

from collections.abc import Callable, Mapping, Sequence
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
from lmri.networks.comparison.stored import COMPARISON_CODEC, compare_sites, save_comparison
from lmri.networks.stored import DECOMPOSITIONS, NETWORKS_CODEC, save_networks, time_courses
from lmri.storage.entries import Entry
from lmri.storage.experiments import EXPERIMENT_CODEC, save_experiment
from lmri.storage.freshness import with_digests
from lmri.storage.outcome import Outcome
from lmri.storage.recording import Recording
from lmri.storage.store import Store

if TYPE_CHECKING:
    from lmri.lesions.evaluation import ItemStore
    from lmri.lesions.plans import StoredScores
    from lmri.models.study_model import AnyModel


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
        from lmri.lesions.experiments.parity import store_paper_networks
        from lmri.lesions.plans import plan_lesion
        from lmri.lesions.requests import Silencing, lesion_request

        source = ModelSource(model, device, trust_remote_code, allow_pickle, device_map, offload_folder)
        silencing = Silencing(baseline, n_seeds, spare, positions)
        tasks = TaskOptions(task, scoring, split, text_column, batch_size)
        matched = ControlOptions(controls, n_controls, stop_after)
        request = lesion_request(networks, roi or (), silencing, tasks, matched, seed, paper)
        plan = plan_lesion(
            self, request, lambda: store_paper_networks(self, site, seed), site, name, source.location,
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
