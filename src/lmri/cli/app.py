"""The commands."""

from pathlib import Path
from typing import Annotated

import typer

from lmri.cli.compare import compare
from lmri.cli.confounds import confounds
from lmri.cli.console import Output, guarded, records
from lmri.cli.decompose import decompose, threshold
from lmri.cli.describe import connectivity, describe, label
from lmri.cli.experiments import dissociate, templates
from lmri.cli.export import accept, export
from lmri.cli.finetune import finetune
from lmri.cli.grids import amplify, preserve
from lmri.cli.individuals import dual_regression, order
from lmri.cli.interventions import lesion
from lmri.cli.localize import localize
from lmri.cli.options import DeviceMap, OffloadFolder, Pickle, Seed, StudyFolder
from lmri.cli.phantom import phantom
from lmri.cli.quality import qc
from lmri.cli.robustness import robustness
from lmri.cli.sharding import merge, parse_experts, parse_shard, record_here, record_there, say_recordings, say_shard
from lmri.cli.view import view

app = typer.Typer(
    name="lmri",
    help="Neuroimaging for language models: record activations as NIfTI, find functional networks, lesion them.",
    no_args_is_help=True,
    add_completion=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing but errors.")]

Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]


def main() -> None:
    """Run the command line."""
    app()


@app.callback(invoke_without_command=True)
def _version(
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> None:
    if version:
        import lmri

        typer.echo(f"lmri {lmri.__version__}")
        raise typer.Exit


@app.command()
@guarded
def demo(
    out: Annotated[Path, typer.Option(help="Folder of the study to make.")] = Path("lmri-demo"),
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Run the whole walk on a small model that comes with the package; no network needed."""
    from lmri.cli.demo import walk

    walk(out, Output(quiet, json))


@app.command()
@guarded
def record(
    model: Annotated[str, typer.Argument(help="Hub name, local folder, or lmri-demo.", show_default=False)],
    texts: Annotated[
        str,
        typer.Argument(
            help="Text file (a text a line), CSV, TSV, JSONL, Parquet, or a Hugging Face dataset.", show_default=False
        ),
    ],
    out: Annotated[Path, typer.Option(help="Folder of the study; made if needed.", show_default=False)],
    corpus: Annotated[str, typer.Option(help="Name of these texts: letters and digits.")] = "texts",
    site: Annotated[
        list[str] | None,
        typer.Option(
            help="mlp_out, mlp_hidden, attn_out, attn_heads or router, also after decoder_; repeat it to record "
            "several in the same passes.",
            show_default="mlp_out",
        ),
    ] = None,
    text_column: Annotated[str, typer.Option(help="Column that holds the texts.")] = "text",
    config: Annotated[str | None, typer.Option(help="Configuration of a Hugging Face dataset.")] = None,
    split: Annotated[str | None, typer.Option(help="Split of a Hugging Face dataset.", show_default="train")] = None,
    limit: Annotated[int | None, typer.Option(help="Most texts to take.")] = None,
    shuffle: Annotated[bool, typer.Option("--shuffle", help="Shuffle the texts before --limit.")] = False,
    test_fraction: Annotated[float, typer.Option(help="Share of the texts to hold out for tests.")] = 0.25,
    run_tokens: Annotated[int, typer.Option(help="Volumes a run is to have, about.")] = 1024,
    texts_per_run: Annotated[int | None, typer.Option(help="Texts a run, instead of --run-tokens.")] = None,
    n_dummy: Annotated[int, typer.Option(help="First tokens of each text to keep out of the images.")] = 1,
    max_tokens: Annotated[int | None, typer.Option(help="Cut texts at this many tokens.")] = None,
    batch_size: Annotated[int, typer.Option(help="Texts read at once, at most.")] = 8,
    batch_tokens: Annotated[
        int | None,
        typer.Option(help="Tokens read at once, at most.", show_default="1,024 on a CPU, 16,384 elsewhere"),
    ] = None,
    projection: Annotated[str | None, typer.Option(help="Final projection in a block, if it is not found.")] = None,
    experts: Annotated[
        str | None, typer.Option(help="Experts of a mixture at mlp_hidden, such as 0,4-6.", show_default="all")
    ] = None,
    per: Annotated[str, typer.Option(help="What a volume is: token, or the mean over a word or sentence.")] = "token",
    every: Annotated[int, typer.Option(help="Keep every so-manieth token alone.")] = 1,
    generate: Annotated[
        int | None,
        typer.Option(help="Take texts as prompts; record them and what the model writes on.", show_default="no"),
    ] = None,
    temperature: Annotated[float, typer.Option(help="Of --generate; 0 takes the likeliest token.")] = 0.0,
    dtype: Annotated[str, typer.Option(help="float32, bfloat16 or float16.")] = "float32",
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    revision: Annotated[str | None, typer.Option(help="Commit, branch or tag on the hub.")] = None,
    trust_remote_code: Annotated[bool, typer.Option("--trust-remote-code", help="Run code of the model.")] = False,
    allow_pickle: Pickle = False,
    device_map: DeviceMap = None,
    offload_folder: OffloadFolder = None,
    quantize: Annotated[
        str | None, typer.Option(help="8bit (by torchao) or 4bit (by bitsandbytes).", show_default="no")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with a recording that was interrupted; begin if there is none.")
    ] = False,
    shard: Annotated[
        str | None,
        typer.Option(
            help="Record a part alone, such as 3/16, for jobs side by side; then lmri merge.", show_default="all"
        ),
    ] = None,
    scheduler: Annotated[
        str | None,
        typer.Option(help="Record on the workers of a Dask cluster: tcp://ADDRESS.", show_default="this process"),
    ] = None,
    seed: Seed = 0,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Let a model read texts, and store what its neurons do as 4D images."""
    from lmri.storage.texts import read_texts

    output, part = Output(quiet, json), parse_shard(shard)
    if part and scheduler:
        raise ValueError("--shard and --scheduler were both given; a cluster is handed all shards. Leave one out.")
    read = read_texts(
        texts, column=text_column, limit=limit, shuffle=shuffle, seed=seed, config=config, split=split
    )  # before the model is loaded, which takes longer
    loading = {
        "dtype": dtype,
        "device": device,
        "revision": revision,
        "trust_remote_code": trust_remote_code,
        "allow_pickle": allow_pickle,
        "device_map": device_map,
        "offload_folder": offload_folder,
        "quantize": quantize,
    }
    options = {
        "corpus": corpus,
        "site": site or ["mlp_out"],
        "batch_size": batch_size,
        "batch_tokens": batch_tokens,
        "run_tokens": run_tokens,
        "texts_per_run": texts_per_run,
        "n_dummy": n_dummy,
        "test_fraction": test_fraction,
        "seed": seed,
        "max_tokens": max_tokens,
        "projection": projection,
        "experts": parse_experts(experts),
        "per": per,
        "every": every,
        "generate": generate,
        "temperature": temperature,
    }
    if scheduler is not None:
        recordings = record_there(output, scheduler, model, loading, read, out, options)
    else:
        recordings = record_here(output, model, loading, read, out, {**options, "resume": resume, "shard": part})
    if part is not None:
        say_shard(output, out, part, corpus)
    else:
        say_recordings(output, out, recordings)


app.command()(merge)

app.command()(qc)

app.command()(confounds)

app.command()(order)


app.command()(decompose)

app.command()(threshold)

app.command()(compare)

app.command()(describe)

app.command()(label)

app.command()(connectivity)

app.command()(dual_regression)

app.command()(export)

app.command()(accept)

app.command()(lesion)

app.command()(preserve)

app.command()(amplify)

app.command()(finetune)

app.command()(localize)

app.command()(templates)

app.command()(dissociate)

app.command()(robustness)

app.command()(view)


@app.command()
@guarded
def report(
    study: StudyFolder,
    out: Annotated[Path | None, typer.Option(help="File to write.", show_default="report.html in the study")] = None,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Write everything in the study to one HTML file."""
    from lmri.study import open_study

    output = Output(quiet, json)
    with output.progress("Writing the report"):
        path = open_study(study).report(out)
    output.say(f"Report: {path}")
    output.result({"report": str(path)})


@app.command()
@guarded
def info(study: StudyFolder, quiet: Quiet = False, json: Json = False) -> None:
    """List what is in a study."""
    from lmri.cli.networks import study_contents
    from lmri.study import open_study

    output, opened = Output(quiet, json), open_study(study)
    contents = study_contents(opened)
    output.say(f"Study of {opened.model.id} ({opened.model.model_type}, weights {opened.model.fingerprint})")
    output.table(contents)
    output.result({"model": opened.model.id, "contents": records(contents)})


@app.command()
@guarded
def validate(study: StudyFolder, quiet: Quiet = False, json: Json = False) -> None:
    """Check every file of a study, also by the BIDS validator if it is installed."""
    from lmri.report.validation import validate as validate_study
    from lmri.study import open_study

    output = Output(quiet, json)
    with output.progress("Checking"):
        found = validate_study(open_study(study))
    for problem in found.problems:
        output.problem(problem)
    for note in found.notes:
        output.say(note)
    if not found.problems:
        output.say(f"No problem found in {study}.")
    output.result({"problems": found.problems, "notes": found.notes})
    if found.problems:
        raise typer.Exit(1)


app.command()(phantom)
