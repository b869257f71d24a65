"""What commands do between their options and the library, each stage as one function."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from lmri.cli.console import Output, check_new_figure, quote, records
from lmri.comparison import (
    AnyComparison,
    Consensus,
    CourseComparison,
    check_standardization,
    compare,
    compare_many,
)
from lmri.controls import EnergyMatchedControls, MatchedControls, PermutedControls
from lmri.exceptions import EntryExistsError
from lmri.networks import Network, NetworkSet
from lmri.scores import Scores
from lmri.storage import text_hash
from lmri.study import Study, open_study
from lmri.study.results import decomposition_identity
from lmri.texts import read_texts
from lmri.thresholds import THRESHOLDS, SurrogateNull, needs_null, value_name

if TYPE_CHECKING:
    from lmri.controls import Controls
    from lmri.interventions import Donors, Intervention
    from lmri.recording import Recording
    from lmri.tasks import Task

Threshold = tuple[str | None, dict[str, float]]


def parse_threshold(text: str | None) -> Threshold:
    """Read ``METHOD`` or ``METHOD:VALUE``.

    Examples
    --------
    >>> parse_threshold("z:2.5")
    ('z', {'z': 2.5})
    """
    if text is None:
        return None, {}
    method, _, value = text.partition(":")
    if method not in THRESHOLDS:
        raise ValueError(f"The threshold is {method!r}; accepted are {', '.join(THRESHOLDS)}.")
    if not value:
        return method, {}
    name = value_name(method)
    if name is None:
        raise ValueError(f"The threshold {method!r} takes no value, but {value!r} was given. Leave it out.")
    try:
        values = {name: float(value)}
    except ValueError:
        raise ValueError(f"The threshold {text!r} has the value {value!r}, which is not a number.") from None
    # Fails now on a bad value, rather than after the fit.
    null = {"null": SurrogateNull.from_maps([np.zeros((1, 2))])} if needs_null(method) else {}
    THRESHOLDS[method](np.zeros((1, 2)), **null, **values)
    return method, values


@dataclass(frozen=True)
class Repeats:
    """How often a decomposition is repeated, to know what it is worth.

    Parameters
    ----------
    n_surrogates : int
        On surrogates, for the threshold.
    n_bootstraps, n_splits : int
        On other samples of the texts, for stability.
    """

    n_surrogates: int = 20
    n_bootstraps: int = 0
    n_splits: int = 0


def decompose_study(
    output: Output,
    study: Study,
    method: str,
    site: str | None,
    corpora: Sequence[str] | None,
    parameters: Mapping[str, Any],
    threshold: Threshold,
    name: str | None,
    repeats: Repeats,
    n_jobs: int = 1,
) -> tuple[NetworkSet, str]:
    """Fit a decomposition unless it is there, threshold it, store both, and give the networks and their name."""
    from lmri.decomposition import build
    from lmri.reproducibility import FEWEST_TEXTS, reproducibility, volume_texts

    recordings = study.group(site, corpora)
    space = recordings[0].space
    estimator = build(method, space, **parameters)
    label = name or estimator.method_name
    identity = decomposition_identity(
        estimator, recordings, repeats.n_surrogates, repeats.n_bootstraps, repeats.n_splits
    )
    if not study.entries.has("decompositions", space.site, label, *identity):
        if study.layout.entry("networks", space.site, label).is_dir():
            raise EntryExistsError(
                f"{label!r} exists among the networks at {space.site} in {study.root}, made of a decomposition that is "
                f"no longer there. Nothing is overwritten: choose another --name, or delete "
                f"{study.layout.entry('networks', space.site, label)} and what was made of it."
            )
        texts = volume_texts(recordings)
        n_texts = len({name for run in texts for name in run})
        if (repeats.n_bootstraps or repeats.n_splits) and n_texts < FEWEST_TEXTS:
            raise ValueError(
                f"There are {n_texts} texts, too few to ask what others would give (at least {FEWEST_TEXTS}). Record "
                "more, or leave out --n-bootstraps and --n-splits."
            )
        with output.progress(f"Decomposing by {method}"):
            estimator.fit([img for recording in recordings for img in recording.imgs])
        if repeats.n_surrogates:
            with output.progress(f"Repeating it on {repeats.n_surrogates} surrogates"):
                estimator.surrogate_null(repeats.n_surrogates, n_jobs)
        found = None
        if repeats.n_bootstraps or repeats.n_splits:
            with output.progress("Repeating it on other samples of the texts") as progress:
                found = reproducibility(
                    estimator,
                    texts,
                    repeats.n_bootstraps,
                    repeats.n_splits,
                    n_jobs=n_jobs,
                    progress=progress,
                )
        study.save_decomposition(estimator, recordings, label, found)
    networks = study.decomposition(label, space.site).threshold(threshold[0], **threshold[1])
    study.save_networks(networks, label)
    return study.networks(label, space.site), label


def say_empty(output: Output, folder: Path, decomposition: str, networks: NetworkSet) -> None:
    """Say what no neuron in any network means, and what can be done."""
    hint = site_hint(folder, networks.space.site)
    z = networks.info["threshold"]["method"] != "z"
    by, name = ("z:3", "z3") if z else ("top:0.01", "top1")
    other = (
        " The hidden units often show more: lmri record ... --site mlp_hidden."
        if networks.space.site == "mlp_out"
        else ""
    )
    output.say(
        "No network keeps a neuron: none stands out of its map beyond this threshold. That is a result, and says "
        "nothing against the maps as a whole: look at Iq, at lmri describe and at other methods. To choose neurons all "
        f"the same, by a descriptive threshold: lmri threshold {quote(folder)} {decomposition} --by {by} --name "
        f"{decomposition}-{name}{hint}.{other}"
    )


_STABILITY = {"Iq": "iq", "Iq texts": "iq_texts", "split-half r": "split_half_r"}


def brief(networks: NetworkSet) -> pd.DataFrame:
    """Choose the columns of a network table that fit on a screen."""
    table = networks.table
    return pd.DataFrame(
        {
            "network": table["network"],
            **({"label": table["label"]} if "label" in table else {}),
            "neurons": table["n_neurons"],
            "positive": table["n_positive"],
            "mean layer": table["mean_layer"].round(1),
            "variance %": (100 * table["variance"]).round(2),
            **{shown: table[key].round(2) for shown, key in _STABILITY.items() if key in table},
            "sign": ["" if known else "undetermined" for known in table["sign_determined"]],
        }
    )


def compare_stored(
    study: Study, names: Sequence[str], site: str | None, seed: int, mixed_standardization: bool
) -> AnyComparison:
    """Compare stored network sets by their maps, or two of two sites by their time courses.

    A name may say its site, as ``canica@mlp_out``.
    """
    sets: list[NetworkSet] = []
    for name in names:
        label, _, own = name.partition("@")
        # Without a word on it, all are at the site of the first.
        sets.append(study.networks(label, own or site or (sets[0].space.site if sets else None)))
    places = [(one.method, one.space.site) for one in sets]
    if repeated := sorted({"@".join(one) for one in places if places.count(one) > 1}):
        raise ValueError(f"{', '.join(repeated)} was named twice; a set always agrees with itself. Name others.")
    if len({at for _, at in places}) == 1:
        if len(sets) == 2:
            return compare(sets[0], sets[1], seed, not mixed_standardization)
        return compare_many(sets, seed, same_standardization=not mixed_standardization)
    if len(sets) > 2:
        raise ValueError(
            f"The sets are of several sites ({', '.join(map('@'.join, places))}): other neurons, which have no maps in "
            "common. Compare two of them at a time, by their time courses."
        )
    if not mixed_standardization:
        check_standardization(sets[0], sets[1])
    return study.compare_sites(places[0], places[1], seed)


def comparison_result(found: AnyComparison) -> dict[str, Any]:
    """Give a comparison as JSON."""
    if isinstance(found, Consensus):
        return {
            "n_found_by_all": found.n_found_by_all,
            "consensus": records(found.table),
            "pairs": records(found.pairs),
            "sets": records(found.overview),
        }
    return {
        "mean_abs_r": found.mean_r,
        "null_mean": found.null_mean,
        "null_95": found.null_95,
        "pairs": records(found.table),
    }


def say_comparison(output: Output, found: AnyComparison) -> None:
    """Show a comparison to people."""
    if isinstance(found, Consensus):
        _say_consensus(output, found)
        return
    above = int(found.table["above_null"].sum())
    what = "random orders and unmixings" if isinstance(found, CourseComparison) else "random rotations"
    output.say(
        f"Mean matched |r| of {found.first.method} and {found.second.method}: {found.mean_r:.3f}; "
        f"{what} give {found.null_mean:.3f} (95 %: {found.null_95:.3f}). "
        f"{above} of {len(found.table)} pairs exceed the null."
    )
    columns = {"r": found.table["r"].round(3), "null 95 %": found.table["r_null_95"].round(3)}
    if "iou" in found.table:
        columns |= {"IoU": found.table["iou"].round(2), "IoU null 95 %": found.table["iou_null_95"].round(2)}
        columns |= {"both": found.table["n_both"]}
    output.table(pd.DataFrame({"first": found.table["first"], "second": found.table["second"], **columns}))


def _say_consensus(output: Output, found: Consensus) -> None:
    n, table = len(found.sets), found.table
    output.say(f"{len(table)} networks were found by two or more of {n} sets, {found.n_found_by_all} of them by all.")
    shown = {
        "network": table["network"],
        "found by": table["found_by"],
        "mean |r|": table["mean_r"].round(3),
        "limit": table["r_limit"].round(3),
        "IoU": table["mean_iou"].round(2),
        "stability": table["iq"].round(2),
    }
    for name in found.names:  # the set is in the heading already
        shown[name] = [map_.rsplit("-", 1)[-1] for map_ in table[name]]
    output.table(pd.DataFrame(shown).dropna(axis="columns", how="all"))
    overview = found.overview.rename(columns={"n_networks": "networks", "n_found": "found again", "iq": "stability"})
    output.table(overview.dropna(axis="columns", how="all").round(2))
    output.table(found.pairs.round(3), "Every two sets: mean matched |r| beside its null")


def site_hint(folder: Path, site: str) -> str:
    """Give the option that the next command needs if more than one site was recorded."""
    return f" --site {site}" if len(open_study(folder).sites) > 1 else ""


def save_figure(path: Path, found: AnyComparison) -> None:
    """Draw a comparison into a new file."""
    from lmri.report.figures import comparison_figure
    from lmri.storage import write_text

    check_new_figure("--figure", path)
    write_text(path, comparison_figure(found))


def study_contents(study: Study) -> pd.DataFrame:
    """List recordings and entries."""
    rows = [
        {"kind": "recording", "name": one.corpus, "site": one.space.site, "made of": f"{one.n_volumes} volumes"}
        for one in study.recordings()
    ]
    for kind in ("decompositions", "networks", "comparisons", "scores"):
        for entry in study.entries.list(kind):
            inputs = [
                value for key, value in entry.info["inputs"].items() if key not in ("texts_sha256", "tasks", "model")
            ]
            made_of = ", ".join(", ".join(value) if isinstance(value, list) else str(value) for value in inputs)
            rows.append({"kind": kind, "name": entry.name, "site": entry.site, "made of": made_of})
    return pd.DataFrame(rows, columns=["kind", "name", "site", "made of"])


# -- lesion, preserve, amplify ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Request:
    """What is to be done to which networks, and what is to be scored.

    Parameters
    ----------
    kind : {"lesion", "preserve", "amplify"}
        The intervention.
    options : dict
        Of the intervention: ``baseline``, or ``gain`` and ``offset``.
    networks : str
        Name of the network set.
    tasks : list of str
        As on the command line.
    n_controls : int
        Draws a network.
    text_column : str
        Of task files.
    batch_size : int
        Texts read at once.
    seed : int
        Of controls and bootstrap.
    controls : {"layer", "energy", "index"}, default="layer"
        Family of controls.
    scoring : str, optional
        Of named tasks; their own by default.
    split : {"", "fit", "select", "test"}, default=""
        Of named tasks; all items by default.
    """

    kind: str
    options: dict[str, Any]
    networks: str
    tasks: list[str]
    n_controls: int
    text_column: str
    batch_size: int
    seed: int
    controls: str = "layer"
    scoring: str | None = None
    split: str = ""

    def shown(self) -> dict[str, Any]:
        """Give what people should read beside the scores."""
        tasks = self.tasks or ["perplexity"]  # named or by default, it is the same
        return {
            "intervention": self.kind,
            **self.options,
            "n_controls": self.n_controls,
            "controls": self.controls,
            "tasks": tasks,
        }


def intervene(
    output: Output,
    folder: Path,
    request: Request,
    site: str | None,
    model: str | None,
    device: str,
    name: str | None,
    trust_remote_code: bool = False,
    strict: bool = False,
    dry_run: bool = False,
) -> None:
    """Carry out a request, unless its scores are there, and show them; or only say what it would cost."""
    study = open_study(folder)
    networks = study.networks(request.networks, site)
    if request.n_controls < 0:
        raise ValueError(f"--n-controls is {request.n_controls}; it must be at least 0.")
    _check_options(study, request, networks)
    tasks = build_tasks(study, request)  # fails now on a bad task, rather than when the model is loaded
    _check_not_learned(model, tasks)
    label, at = name or f"{request.kind}-{request.networks}", networks.space.site
    with output.progress("Loading the model"):
        loaded, tokenizer = load_model_of(study, model, device, trust_remote_code)
    if dry_run:
        _say_cost(output, study, request, networks, loaded, tokenizer, tasks)
        return
    scores = score_networks(output, study, request, networks, label, loaded, tokenizer, strict)
    summary = scores.summary()
    units = ", ".join(sorted({task.metric.replace("_", " ") for task in scores.tasks}))
    better = "more is better" if scores.tasks[0].higher_is_better else "less is better"
    output.table(
        wide(summary),
        f"{label} at {at}: {units} ({better}) of the intact model, and the difference from it; p beside "
        f"{request.n_controls} controls",
    )
    if not networks.members.any():
        output.say(f"Every network of {request.networks} is empty: there was nothing to {request.kind}.")
    labels = scores.label_counts()
    if len(labels):
        output.table(labels.round(3), "Labels")
    if (scores.conditions["kind"] == "control").any():
        output.say(
            f"The smallest possible p is {scores.p_floor:.3g}; for one network alone to reach q ≤ 0.05, "
            f"--n-controls {scores.controls_needed} are needed. Write it all up: lmri report {folder}"
        )
    output.result(
        {"name": label, "site": at, "p_floor": scores.p_floor, "summary": records(summary), "labels": records(labels)}
    )


def score_networks(
    output: Output,
    study: Study,
    request: Request,
    networks: NetworkSet,
    label: str,
    model: Any,
    tokenizer: Any,
    strict: bool = False,
) -> Scores:
    """Evaluate a set of networks unless exactly that is stored, store it, and give it."""
    from lmri.evaluation import conditions_of, evaluate, identity

    at, tasks = networks.space.site, build_tasks(study, request)
    conditions = conditions_of(networks, intervention_maker(study, request, at), request.seed)
    controls = _controls(study, request, networks, model) if request.n_controls else None
    made_of = identity(model, tasks, conditions, controls, request.seed)
    inputs = study.scores_inputs(request.networks, at, made_of)
    if not study.entries.has("scores", at, label, inputs, {**request.shown(), "seed": request.seed}):
        with output.progress(f"Scoring {len(conditions)} conditions and their controls") as progress:
            scores = evaluate(model, tokenizer, tasks, conditions, controls, request.seed, strict, progress)
        study.save_scores(scores, label, at, request.networks, request.shown())
    return study.scores(label, at)


def _say_cost(
    output: Output,
    study: Study,
    request: Request,
    networks: NetworkSet,
    model: Any,
    tokenizer: Any,
    tasks: "list[Task]",
) -> None:
    """Estimate how long a request would take, and store nothing."""
    from lmri.evaluation import conditions_of, estimate_cost

    conditions = conditions_of(networks, intervention_maker(study, request, networks.space.site), request.seed)
    controls = _controls(study, request, networks, model) if request.n_controls else None
    with output.progress("Scoring the intact model"):
        cost = estimate_cost(model, tokenizer, tasks, conditions, controls, request.seed)
    total = float(cost["total_seconds"].sum())
    output.table(cost.round({"seconds": 2, "total_seconds": 0}))
    output.say(
        f"{len(conditions)} conditions with {request.n_controls} controls each take about "
        f"{f'{total / 60:.0f} minutes' if total > 90 else f'{total:.0f} seconds'} here. Nothing was stored."
    )
    output.result({"cost": records(cost), "total_seconds": total})


CONTROLS = ("layer", "energy", "index")


def _controls(study: Study, request: Request, networks: NetworkSet, model: Any) -> "Controls":
    """Make controls as the command line names them."""
    if request.controls == "layer":
        return MatchedControls(request.n_controls)
    if request.controls == "index":
        return PermutedControls(request.n_controls)
    from lmri.interventions import output_norms

    space = networks.space
    norms = output_norms(model, space) if space.site == "mlp_hidden" else None
    baseline, _, _ = str(request.options.get("baseline") or "zero").partition(":")
    removed = baseline if baseline in ("zero", "resample") else "mean"
    return EnergyMatchedControls.measured(study.group(space.site), removed, norms, request.n_controls)


def _check_not_learned(model: str | None, tasks: "list[Task]") -> None:
    """Refuse texts that a fine-tuned classifier has learned: its scores there say nothing."""
    from lmri.finetuning import learned_texts

    learned = learned_texts(model) if model else frozenset()
    for task in tasks:
        known = learned & {text_hash(text) for text in task.texts}
        if known:
            raise ValueError(
                f"{model} was tuned on {len(known)} of the {len(set(task.texts))} texts of {task.info.name!r}. Score "
                "others: --split test, or another file."
            )


def _check_options(study: Study, request: Request, networks: NetworkSet) -> None:
    """Fail on bad options before the model is loaded."""
    if request.controls not in CONTROLS:
        raise ValueError(f"--controls is {request.controls!r}; accepted are {', '.join(CONTROLS)}.")
    baseline = request.options.get("baseline")
    if baseline not in (None, "zero"):
        _baseline(study, baseline, networks.space.site)
    if request.kind == "amplify" and (request.options["gain"] is None) == (request.options["offset"] is None):
        raise ValueError("Give exactly one of --gain, such as 1.5, and --offset, such as 1.0.")


def intervention_maker(study: Study, request: Request, site: str) -> Any:
    """Give the function that turns a network into the requested intervention."""
    from lmri import interventions

    function = getattr(interventions, request.kind)
    options = dict(request.options)
    if options.get("baseline") not in (None, "zero"):
        options["baseline"] = _baseline(study, options["baseline"], site)

    def make(network: Network) -> "Intervention":
        return function(network, **options)

    return make


def _baseline(study: Study, text: str, site: str) -> "Recording | Donors":
    """Read what a silenced neuron gives: ``CORPUS`` for its mean, ``resample:CORPUS`` or ``resample:CORPUS:SEED``."""
    kind, _, rest = text.partition(":")
    if kind != "resample":
        return study.recording(text, site)
    from lmri.interventions import Donors

    corpus, _, seed = rest.partition(":")
    if not corpus or (seed and not seed.isdecimal()):
        raise ValueError(
            f"--baseline is {text!r}; accepted are zero, CORPUS, resample:CORPUS and resample:CORPUS:SEED."
        )
    return Donors.draw(study.recording(corpus, site), int(seed or 0))


def build_tasks(study: Study, request: Request) -> "list[Task]":
    """Make tasks as the command line names them, and refuse texts that were fitted."""
    from lmri.tasks import NAMES, Classification, Perplexity, load

    tasks: list[Task] = []
    for text in request.tasks or ["perplexity"]:
        kind, _, file = text.partition(":")
        name = f"{kind}-{Path(file).stem}"
        if kind == "perplexity" and not file:
            tasks.extend(held_out_tasks(study, request.batch_size))
        elif kind == "perplexity":
            texts = read_texts(file, column=request.text_column)
            study.check_apart(texts, file)
            tasks.append(Perplexity(texts, name, request.batch_size))
        elif kind == "classification" and file:
            task = Classification.from_file(Path(file), name)
            study.check_apart(task.texts, file)
            tasks.append(task)
        elif (file and kind.replace("_", "-") in NAMES) or kind.endswith((".yaml", ".yml")):
            named = load(
                kind, file or None, scoring=request.scoring, split=request.split, seed=0, batch_size=request.batch_size
            )
            study.check_apart(named.texts, file or kind)
            tasks.append(named)
        else:
            raise ValueError(
                f"The task is {text!r}; accepted are perplexity, perplexity:FILE, classification:FILE, NAME:FILE with "
                f"NAME among {', '.join(NAMES)}, and a YAML file."
            )
    return tasks


def held_out_tasks(study: Study, batch_size: int) -> "list[Task]":
    """Make a perplexity task of each corpus's held-out texts; a text in two corpora counts for the first."""
    from lmri.tasks import Perplexity

    seen: set[str] = set()
    tasks: list[Task] = []
    for corpus, texts in {one.corpus: one.test_texts for one in study.recordings()}.items():
        own = [text for text in texts if text_hash(text) not in seen]
        seen.update(text_hash(text) for text in own)
        if own:
            tasks.append(Perplexity(own, f"perplexity-{corpus}", batch_size))
    if not tasks:
        raise ValueError(f"{study.root} holds no texts out (test_fraction was 0). Name a file: --task perplexity:FILE.")
    return tasks


def load_model_of(study: Study, model: str | None, device: str, trust_remote_code: bool = False) -> tuple[Any, Any]:
    """Load the model of a study, from `model` or from where it was when it was recorded."""
    from lmri.models import load_model

    place = model or study.model_location or study.model.id
    try:
        return load_model(
            place,
            dtype=study.model.dtype,
            device=device,
            revision=study.model.revision if place == study.model.id else None,
            trust_remote_code=trust_remote_code,
        )
    except ValueError as error:
        raise ValueError(f"{error} If the model has moved, say where it is: --model.") from error


def wide(summary: pd.DataFrame) -> pd.DataFrame:
    """Arrange a summary for the screen: a row a condition, a column a task."""
    rows = []
    for condition, own in summary.groupby("condition", sort=False):
        row: dict[str, Any] = {"condition": condition, "neurons": int(own["n_neurons"].iloc[0])}
        for one in own.drop_duplicates("task").itertuples():  # a task's own metric comes first
            if condition == "intact":
                row[str(one.task)] = f"{one.value:.3f}"
            else:
                p = "" if pd.isna(one.p) else f"  p {one.p:.3f}"
                row[str(one.task)] = "0" if one.diff == 0 else f"{one.diff:+.3f}{p}"
        rows.append(row)
    return pd.DataFrame(rows)
