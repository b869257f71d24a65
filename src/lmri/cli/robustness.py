"""The command that asks whether a result survives other choices."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from lmri.cli.console import Output, check_new, guarded, quote, records
from lmri.cli.describe import Json, Quiet
from lmri.cli.interventions import BatchSize, Model, Scoring, Split, Tasks, TextColumn
from lmri.cli.options import (
    Device,
    DeviceMap,
    Folder,
    Networks,
    OffloadFolder,
    Pickle,
    Seed,
    SiteOption,
    Strict,
    StudyFolder,
    Trust,
)

if TYPE_CHECKING:
    from lmri.lesions.experiments.robustness import Robustness
    from lmri.study import Study

FULL_VARY = "site,baseline,threshold,seed,method,sinks,controls"


@guarded
def robustness(
    study: StudyFolder,
    networks: Networks,
    network: Annotated[str, typer.Option(help="union, or one network by its name or number.")] = "union",
    task: Tasks = None,
    vary: Annotated[str, typer.Option(help="Kinds of choice to vary, one at a time.")] = FULL_VARY,
    baselines: Annotated[
        str | None,
        typer.Option(
            help="zero, CORPUS, or resample:CORPUS[:SEED].",
            show_default="the mean of every fitted corpus, and resampling from it",
        ),
    ] = None,
    thresholds: Annotated[str, typer.Option(help="As of lmri threshold --by.")] = "z:2.5,z:3,z:3.5,top:0.01",
    seeds: Annotated[str, typer.Option(help="Of other decompositions.")] = "1,2,3",
    methods: Annotated[str, typer.Option(help="Other decompositions.")] = "ica,canica,fastica-temporal",
    n_controls: Annotated[int, typer.Option(help="Matched controls of each variant; at least 19.")] = 39,
    controls: Annotated[
        str, typer.Option(help="Family of the base, layer or energy; the other one is the variant.")
    ] = "layer",
    scoring: Scoring = None,
    split: Split = "",
    site: SiteOption = None,
    model: Model = None,
    text_column: TextColumn = "text",
    name: Annotated[
        str | None, typer.Option(help="Name of the result.", show_default="robustness, the networks and the target")
    ] = None,
    out: Folder = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what would be run and how long it would take to score.")
    ] = False,
    batch_size: BatchSize = 8,
    device: Device = "cpu",
    trust_remote_code: Trust = False,
    allow_pickle: Pickle = False,
    device_map: DeviceMap = None,
    offload_folder: OffloadFolder = None,
    strict: Strict = False,
    seed: Seed = 0,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Ask whether what a lesion shows survives other choices: site, baseline, threshold, seed, method and so on."""
    from lmri.cli.requests import Request, build_tasks, load_model_of
    from lmri.lesions.experiments.specifications import Specifications
    from lmri.networks.thresholds import parse_threshold
    from lmri.study import open_study

    output = Output(quiet, json)
    check_new("--out", out)
    opened = open_study(study)
    request = Request(
        "lesion", {}, networks, task or [], n_controls, text_column, batch_size, seed, controls, scoring, split
    )  # fmt: skip
    varied: dict[str, Any] = {
        "vary": _listed(vary),
        "baselines": None if baselines is None else _listed(baselines),
        "thresholds": [(by or "", values) for by, values in map(parse_threshold, _listed(thresholds))],
        "seeds": _numbers(seeds),
        "methods": _listed(methods),
    }
    # Fails now on a bad choice, rather than when the model is loaded.
    base = Specifications(opened, networks, site, network, controls)
    choices = base.choices(**varied)
    tasks = build_tasks(opened, request)
    loading = {"allow_pickle": allow_pickle, "device_map": device_map, "offload_folder": offload_folder}
    with output.progress("Loading the model"):
        loaded, tokenizer = load_model_of(opened, model, device, trust_remote_code, loading)
    if dry_run:
        _say_cost(output, [one.name for one in choices], n_controls, loaded, tokenizer, tasks, seed)
        return
    found = _run(output, opened, base, varied, n_controls, loaded, tokenizer, tasks, seed, strict)
    label = name or f"robustness-{found.networks}-{network}"
    outcome = found.to_outcome()
    _say(output, found)
    shown = {"network": network, "n_controls": n_controls, "controls": controls, "seed": seed, "alpha": found.alpha}
    shown |= {"tasks": request.shown()["tasks"], "choices": [one.name for one in choices]}
    if hasattr(opened, "save_experiment"):
        inputs = {"networks": found.networks, "evaluations": [dict(one) for one in found.made_of]}
        opened.save_experiment(outcome, label, found.site, inputs, shown)
        output.say(f"Stored as {label!r} at {found.site}.")
    if out is not None:
        outcome.write(out)
        output.say(f"Tables and figure: {quote(out)}")
    output.result(
        {
            "name": label,
            "site": found.site,
            "target": found.target,
            "text": found.text,
            "survival": records(found.survival),
            "specifications": records(found.table),
        }
    )


def _run(
    output: Output,
    study: "Study",
    base: Any,
    varied: dict[str, Any],
    n_controls: int,
    model: Any,
    tokenizer: Any,
    tasks: list[Any],
    seed: int,
    strict: bool,
) -> "Robustness":
    from lmri.cli.requests import item_store
    from lmri.lesions.experiments.robustness import robustness as test

    with output.progress("Decomposing and scoring") as progress:
        return test(
            study, model, tokenizer, tasks, base.entry.name, base.network, base.entry.site, **varied,
            controls=base.controls, n_controls=n_controls, seed=seed, strict=strict, progress=progress,
            store=item_store(study),
        )  # fmt: skip


def _listed(text: str) -> list[str]:
    return [part for part in (one.strip() for one in text.split(",")) if part]


def _numbers(text: str) -> list[int]:
    wrong = [one for one in _listed(text) if not one.isdecimal()]
    if wrong:
        raise ValueError(f"--seeds holds {wrong[0]!r}; accepted are whole numbers, such as 1,2,3.")
    return [int(one) for one in _listed(text)]


def _say_cost(
    output: Output, choices: list[str], n_controls: int, model: Any, tokenizer: Any, tasks: list[Any], seed: int
) -> None:
    """Say what would be run, and about how long scoring would take; nothing is fitted."""
    from lmri.lesions.evaluation import estimate_cost

    with output.progress("Scoring the intact model"):
        cost = estimate_cost(model, tokenizer, tasks, {}, None, seed)
    n_evaluations = 1 + len(choices) * (1 + n_controls)
    total = float(cost["seconds"].sum()) * n_evaluations
    output.say(f"{len(choices)} specifications: {'; '.join(choices)}.")
    output.say(
        f"Scoring them with {n_controls} controls each takes at most about "
        f"{f'{total / 60:.0f} minutes' if total > 90 else f'{total:.0f} seconds'} here, beside the decompositions that "
        "are not there yet. Nothing was stored."
    )
    output.result({"choices": choices, "n_evaluations": n_evaluations, "total_seconds": total})


def _say(output: Output, found: "Robustness") -> None:
    for name, own in found.table.groupby("task", sort=False):
        table = own[["kind", "choice", "n_neurons", "r", "effect", "effect_low", "effect_high", "effect_sd", "p"]]
        shown = table.rename(
            columns={"n_neurons": "neurons", "effect_low": "from", "effect_high": "to", "effect_sd": "in sd"}
        ).round({"r": 2, "effect": 4, "from": 4, "to": 4, "in sd": 1, "p": 3})
        conclusion = [f"{row.status}: {row.reason}" if row.reason else str(row.status) for row in own.itertuples()]
        output.table(shown.assign(conclusion=conclusion), f"{name} ({own['metric'].iloc[0].replace('_', ' ')})")
    output.say(found.text)
