"""Commands that change a model's activity and score what becomes of it."""

from pathlib import Path
from typing import Annotated

import typer

from lmri.cli.console import Output, check_new, guarded
from lmri.cli.describe import Json, Quiet
from lmri.cli.options import (
    Baseline,
    Controls,
    Device,
    DeviceMap,
    DryRun,
    Families,
    OffloadFolder,
    OutFolder,
    PaperModel,
    Pickle,
    Positions,
    ScoresName,
    Seed,
    Seeds,
    SiteOption,
    Spare,
    StopAfter,
    Strict,
    StudyFolder,
    Trust,
)

Tasks = Annotated[
    list[str] | None,
    typer.Option(
        "--task",
        help="perplexity (of the texts held out), perplexity:FILE, classification:FILE with the columns prompt and "
        "label, NAME:FILE such as sst2:dev.jsonl (cola, mrpc, qqp, mnli, qnli, ag-news, squad, summarization), or a "
        "YAML file; may be repeated.",
        show_default="perplexity",
    ),
]

Family = Annotated[
    str,
    typer.Option(
        "--controls",
        help="What controls have in common with a network, beside size: layer; energy, also what the lesion removes; "
        "index, the same neurons of each layer exchanged (mlp_out).",
    ),
]

Model = Annotated[
    str | None, typer.Option(help="Where the model is.", show_default="where it was when it was recorded")
]

Scoring = Annotated[
    str | None,
    typer.Option(
        help="Of named tasks: loglikelihood, loglikelihood/token, loglikelihood/character, generate, or head for a "
        "classifier, as lmri finetune makes it.",
        show_default="the task's own",
    ),
]

Split = Annotated[
    str,
    typer.Option(
        help="Of named tasks: fit, select or test, which share no text; a classifier is to be scored on test.",
        show_default="all items",
    ),
]

TextColumn = Annotated[str, typer.Option(help="Column of FILE that holds the texts.")]

BatchSize = Annotated[int, typer.Option(help="Texts read at once.")]


def _only(positions: str | None) -> dict[str, str | list[int]]:
    """Read what ``--positions`` says."""
    if positions is None:
        return {}
    parts = [part.strip() for part in positions.split(",")]
    if not all(part.isdecimal() for part in parts):
        return {"positions": positions}  # a word, which is checked where it is used
    return {"positions": [int(part) for part in parts]}


@guarded
def lesion(
    study: StudyFolder,
    networks: Annotated[
        str | None, typer.Option(help="Name of the network set; not needed with --paper or --roi.", show_default=False)
    ] = None,
    roi: Annotated[
        list[Path] | None,
        typer.Option(
            help="Image of the neurons to lesion instead, as lmri view saves it or any viewer draws it: all voxels "
            "that are not 0. May be repeated.",
            show_default=False,
        ),
    ] = None,
    task: Tasks = None,
    n_controls: Controls = 20,
    controls: Families = None,
    stop_after: StopAfter = 0,
    scoring: Scoring = None,
    split: Split = "",
    paper: Annotated[
        bool,
        typer.Option(
            "--paper",
            help="The paper's choices: temporal FastICA with the solver's signs, 10 maps, one-sided z > 3.6, made if "
            "they are not there; zeros; no controls but random 15 %.",
        ),
    ] = False,
    paper_model: PaperModel = None,
    dry_run: DryRun = False,
    baseline: Baseline = "zero",
    n_seeds: Seeds = 1,
    spare: Spare = None,
    positions: Positions = None,
    site: SiteOption = None,
    model: Model = None,
    text_column: TextColumn = "text",
    name: ScoresName = None,
    out: OutFolder = None,
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
    """Silence each network, and their union, or regions of interest, and score the model beside matched controls."""
    from lmri.cli.requests import Beside, Request, intervene

    output = Output(quiet, json)
    check_new("--out", out)
    if roi and (networks is not None or paper):
        raise ValueError("--roi goes with neither --networks nor --paper: its neurons are lesioned. Leave these out.")
    if paper:
        if baseline != "zero" or spare or positions or controls or stop_after:
            raise ValueError("--paper decides baseline, positions and controls. Leave these out, or leave out --paper.")
        if networks is None:
            from lmri.study import open_study

            with output.progress("Decomposing"):
                networks = open_study(study).decompose(paper=True, site=site, seed=seed).method
    if networks is None and not roi:
        raise ValueError("There is nothing to lesion. Give --networks, --roi, or --paper.")
    request = Request(
        "lesion",
        {"baseline": baseline} | ({"spare": spare} if spare else {}) | _only(positions),
        networks or "",
        task or [],
        0 if paper else n_controls,
        text_column,
        batch_size,
        seed,
        controls or ["layer"],
        scoring,
        split,
        n_seeds,
        stop_after,
        roi or (),
    )
    beside = Beside(out, paper_model, paper)
    loading = {"allow_pickle": allow_pickle, "device_map": device_map, "offload_folder": offload_folder}
    intervene(output, study, request, site, model, device, name, trust_remote_code, strict, dry_run, beside, loading)
