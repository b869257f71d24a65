"""Commands that change a model's activity and score what becomes of it."""

from typing import Annotated

import typer

from lmri.cli.console import Output, guarded
from lmri.cli.describe import Json, Quiet, Seed, SiteOption, StudyFolder

Networks = Annotated[str, typer.Option(help="Name of the network set.", show_default=False)]
Tasks = Annotated[
    list[str] | None,
    typer.Option(
        "--task",
        help="perplexity (of the texts held out), perplexity:FILE, classification:FILE with the columns prompt and "
        "label, or NAME:FILE, such as sst2:dev.jsonl; may be repeated.",
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
ScoresName = Annotated[
    str | None,
    typer.Option(
        "--name", help="Name of the scores.", show_default="the command and the networks, as in lesion-canica"
    ),
]
BatchSize = Annotated[int, typer.Option(help="Texts read at once.")]
Device = Annotated[str, typer.Option(help="cpu or cuda.")]
Trust = Annotated[bool, typer.Option("--trust-remote-code", help="Run code of the model.")]
Strict = Annotated[bool, typer.Option("--strict", help="Refuse other weights than those recorded.")]


@guarded
def lesion(
    study: StudyFolder,
    networks: Networks,
    task: Tasks = None,
    n_controls: Controls = 20,
    controls: Family = "layer",
    scoring: Scoring = None,
    split: Split = "",
    dry_run: DryRun = False,
    baseline: Baseline = "zero",
    site: SiteOption = None,
    model: Model = None,
    text_column: TextColumn = "text",
    name: ScoresName = None,
    batch_size: BatchSize = 8,
    device: Device = "cpu",
    trust_remote_code: Trust = False,
    strict: Strict = False,
    seed: Seed = 0,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Silence each network, and their union, and score the model beside matched controls."""
    from lmri.cli.requests import Request, intervene

    request = Request(
        "lesion",
        {"baseline": baseline},
        networks,
        task or [],
        n_controls,
        text_column,
        batch_size,
        seed,
        controls,
        scoring,
        split,
    )
    intervene(Output(quiet, json), study, request, site, model, device, name, trust_remote_code, strict, dry_run)


@guarded
def preserve(
    study: StudyFolder,
    networks: Networks,
    task: Tasks = None,
    n_controls: Controls = 20,
    controls: Family = "layer",
    scoring: Scoring = None,
    split: Split = "",
    dry_run: DryRun = False,
    baseline: Baseline = "zero",
    site: SiteOption = None,
    model: Model = None,
    text_column: TextColumn = "text",
    name: ScoresName = None,
    batch_size: BatchSize = 8,
    device: Device = "cpu",
    trust_remote_code: Trust = False,
    strict: Strict = False,
    seed: Seed = 0,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Silence all neurons but those of a network, and score the model beside matched controls."""
    from lmri.cli.requests import Request, intervene

    request = Request(
        "preserve",
        {"baseline": baseline},
        networks,
        task or [],
        n_controls,
        text_column,
        batch_size,
        seed,
        controls,
        scoring,
        split,
    )
    intervene(Output(quiet, json), study, request, site, model, device, name, trust_remote_code, strict, dry_run)


@guarded
def amplify(
    study: StudyFolder,
    networks: Networks,
    gain: Annotated[float | None, typer.Option(help="Factor on the activity of a network's neurons.")] = None,
    offset: Annotated[float | None, typer.Option(help="Constant added to it, instead of --gain.")] = None,
    along_sign: Annotated[
        bool, typer.Option("--along-sign", help="Add --offset where a weight is positive, subtract it where negative.")
    ] = False,
    task: Tasks = None,
    n_controls: Controls = 20,
    controls: Family = "layer",
    scoring: Scoring = None,
    split: Split = "",
    dry_run: DryRun = False,
    site: SiteOption = None,
    model: Model = None,
    text_column: TextColumn = "text",
    name: ScoresName = None,
    batch_size: BatchSize = 8,
    device: Device = "cpu",
    trust_remote_code: Trust = False,
    strict: Strict = False,
    seed: Seed = 0,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Amplify each network, and score the model beside matched controls."""
    from lmri.cli.requests import Request, intervene

    options = {"gain": gain, "offset": offset} | ({"along_sign": True} if along_sign else {})
    request = Request(
        "amplify", options, networks, task or [], n_controls, text_column, batch_size, seed, controls, scoring, split
    )
    intervene(Output(quiet, json), study, request, site, model, device, name, trust_remote_code, strict, dry_run)
