"""Commands that change a model's activity and score what becomes of it."""

from pathlib import Path
from typing import Annotated

import typer

from lmri.cli.console import Output, check_new, guarded
from lmri.cli.describe import Json, Quiet, Seed, SiteOption, StudyFolder

Networks = Annotated[str, typer.Option(help="Name of the network set.", show_default=False)]
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
Controls = Annotated[int, typer.Option(help="Matched controls for each network; 0 for none.")]
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
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only say how long it would take: the intact model is scored.")]
TextColumn = Annotated[str, typer.Option(help="Column of FILE that holds the texts.")]
Baseline = Annotated[
    str,
    typer.Option(
        help="What a silenced neuron gives: zero; CORPUS, its mean there; resample:CORPUS[:SEED], its value at a "
        "random token there."
    ),
]
Families = Annotated[
    list[str] | None,
    typer.Option(
        "--controls",
        help="What controls have in common with a network, beside size: layer; energy, also what the lesion removes; "
        "index, the same neurons of each layer exchanged (mlp_out); shared, as layer, but common to networks of like "
        "size, which is faster. May be repeated.",
        show_default="layer",
    ),
]
StopAfter = Annotated[
    int,
    typer.Option(
        help="Draw no more controls for a network once so many were at least as bad; p is Besag and Clifford's. "
        "0 draws all."
    ),
]
Spare = Annotated[
    str | None, typer.Option(help="sinks: leave the first token of every text alone.", show_default="none")
]
Positions = Annotated[
    str | None,
    typer.Option(
        help="Change these tokens only: prompt, generated or last, where answers are generated, or places such as 0,1.",
        show_default="all",
    ),
]
Seeds = Annotated[int, typer.Option(help="With --baseline resample:CORPUS, seeds of donors that are put together.")]
PaperModel = Annotated[
    str | None,
    typer.Option(
        help="Put the paper's numbers beside, where task and metric are the same: gpt2, qwen2.5-3b or chatglm3-6b.",
        show_default="none",
    ),
]
OutFolder = Annotated[
    Path | None, typer.Option(help="New folder to write tables and figures to.", show_default="only in the study")
]
ScoresName = Annotated[
    str | None,
    typer.Option(
        "--name", help="Name of the scores.", show_default="the command and the networks, as in lesion-canica"
    ),
]
BatchSize = Annotated[int, typer.Option(help="Texts read at once.")]
Device = Annotated[str, typer.Option(help="cpu or cuda.")]
Trust = Annotated[bool, typer.Option("--trust-remote-code", help="Run code of the model.")]
Pickle = Annotated[bool, typer.Option("--allow-pickle", help="Read pickled weights, which can run any code.")]
DeviceMap = Annotated[
    str | None,
    typer.Option(help="auto: spread the model over GPUs, memory and disk, by accelerate.", show_default="one device"),
]
OffloadFolder = Annotated[Path | None, typer.Option(help="For weights that are put on a disk.", show_default=False)]
Strict = Annotated[bool, typer.Option("--strict", help="Refuse other weights than those recorded.")]


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
            from lmri.cli.stages import decompose_as_paper
            from lmri.study import open_study

            _, networks = decompose_as_paper(open_study(study), site, seed=seed, output=output)
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
