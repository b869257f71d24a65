"""The commands."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lmri.cli.confounds import confounds
from lmri.cli.console import Output, counted, guarded, quote, records, told_starts
from lmri.cli.describe import connectivity, describe, label
from lmri.cli.experiments import dissociate, templates
from lmri.cli.export import accept, export
from lmri.cli.finetune import finetune
from lmri.cli.individuals import dual_regression, order
from lmri.cli.interventions import amplify, lesion, preserve
from lmri.cli.localize import localize
from lmri.cli.options import DeviceMap, NameOption, OffloadFolder, Pickle, Seed, SiteOption, StudyFolder
from lmri.cli.phantom import phantom
from lmri.cli.quality import qc
from lmri.cli.robustness import robustness
from lmri.cli.sharding import merge, parse_experts, parse_shard, record_here, record_there, say_recordings, say_shard
from lmri.cli.view import view

if TYPE_CHECKING:
    from lmri.networks import NetworkSet

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

_THRESHOLD_HELP = (
    "METHOD or METHOD:VALUE: fdr:0.05, fdr_set:0.05, z:3.0, z_positive:1.96, robust_z:3.0, mixture:0.5, top:0.01, "
    "support, auto:1.0 or fdr_gaussian:0.05. Only fdr and fdr_set are calibrated."
)


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


@app.command()
@guarded
def decompose(
    study: StudyFolder,
    method: Annotated[
        str, typer.Option(help="ica, ica-temporal, canica, dictlearning, fastica-temporal or fastica-spatial.")
    ] = "ica",
    n_components: Annotated[
        str | None,
        typer.Option(help="Number of maps, or auto, which ica and ica-temporal take.", show_default="20"),
    ] = None,
    site: SiteOption = None,
    corpus: Annotated[
        list[str] | None, typer.Option(help="Corpus to fit; may be repeated.", show_default="all at the site")
    ] = None,
    standardize: Annotated[str, typer.Option(help="zscore, center or none: each neuron's time series.")] = "zscore",
    scope: Annotated[str, typer.Option(help="run or study: where mean and sd are taken.")] = "run",
    confounds: Annotated[
        list[str] | None,
        typer.Option(help="Confound to regress out of every run, of those that lmri confounds makes; may be repeated."),
    ] = None,
    alpha: Annotated[float | None, typer.Option(help="Sparsity of dictlearning.", show_default="10")] = None,
    solver: Annotated[str | None, typer.Option(help="fastica or picard, for ica.", show_default="fastica")] = None,
    n_init: Annotated[int | None, typer.Option(help="Starts, for ica and canica.", show_default="10")] = None,
    threshold: Annotated[
        str | None, typer.Option(help=_THRESHOLD_HELP, show_default="fdr:0.05; support for dictlearning")
    ] = None,
    n_surrogates: Annotated[
        int | None,
        typer.Option(
            help="Surrogates that fdr is calibrated on; 0 for none. Of canica and fastica-spatial they take as long as "
            "so many fits.",
            show_default="20 for fdr and fdr_set, 0 for others",
        ),
    ] = None,
    n_bootstraps: Annotated[int, typer.Option(help="Bootstraps of the texts, for the stability of each map.")] = 0,
    n_splits: Annotated[
        int, typer.Option(help="Random halves of the texts, for split-half reproducibility and the reliability curve.")
    ] = 0,
    paper: Annotated[
        bool,
        typer.Option(
            "--paper",
            help="The paper's choices: temporal FastICA with the solver's signs, neurons centred over the study, "
            "one-sided z > 3.6 (or --threshold z_positive:1.96), and --n-components, 10 by default.",
        ),
    ] = False,
    name: NameOption = None,
    n_jobs: Annotated[int, typer.Option(help="Processes or threads, where the method has a use for them.")] = 1,
    device: Annotated[str, typer.Option(help="cpu or cuda, for ica.")] = "cpu",
    seed: Seed = 0,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Find maps in what was recorded, and threshold them into networks."""
    from lmri.cli.stages import Repeats, decompose_as_paper, decompose_study, parse_threshold
    from lmri.networks.thresholds import needs_null
    from lmri.study import open_study

    output = Output(quiet, json)
    is_ica = method in ("ica", "ica-temporal")
    parameters: dict[str, Any] = {
        "n_components": _number_of_maps(n_components or ("10" if paper else "20"), is_ica and not paper),
        "standardize": standardize,
        "scope": scope,
        "random_state": seed,
    }
    for option, value, takes in (
        ("alpha", alpha, method == "dictlearning"),
        ("solver", solver, is_ica),
        ("n-init", n_init, is_ica or method == "canica"),
        ("device", device if device != "cpu" else None, is_ica),
    ):
        if value is None:
            continue
        if not takes:
            raise ValueError(f"--{option} is not of {method}. Leave it out, or choose another --method.")
        parameters[option.replace("-", "_")] = value
    if not method.startswith("fastica"):
        parameters["n_jobs"] = n_jobs
    opened = open_study(study)
    chosen = parse_threshold(threshold)
    if paper:
        repeated = n_surrogates or n_bootstraps or n_splits
        if method != "ica" or (standardize, scope) != ("zscore", "run") or repeated or confounds:
            raise ValueError(
                "--paper decides method, standardization, confounds (none) and repeats. Leave these out, or leave out "
                "--paper."
            )
        if chosen[0] not in (None, "z_positive"):
            raise ValueError(f"--threshold is {threshold!r}; with --paper it is z_positive:3.6 or z_positive:1.96.")
        networks, label = decompose_as_paper(
            opened,
            site,
            chosen[1].get("z", 3.6),
            corpora=corpus,
            n_components=int(parameters["n_components"]),
            seed=seed,
            name=name or "paper-parity",
            output=output,
        )
        _say_networks(output, study, networks, label)
        return
    by = chosen[0] or ("support" if method == "dictlearning" else "fdr")
    surrogates = (20 if needs_null(by) else 0) if n_surrogates is None else n_surrogates
    _check_repeats(by, surrogates)
    repeats = Repeats(surrogates, n_bootstraps, n_splits)
    networks, label = decompose_study(
        output, opened, method, site, corpus, parameters, chosen, name, repeats, n_jobs, confounds or ()
    )
    _say_networks(output, study, networks, label)


def _say_networks(output: Output, study: Path, networks: "NetworkSet", label: str) -> None:
    """Say what a decomposition gave, and what may come next."""
    from lmri.cli.stages import brief, say_empty, site_hint

    info = networks.info
    output.say(
        f"{label}, {networks.space.site}: {counted(len(networks), 'map')} of {counted(info['n_volumes'], 'volume')} "
        f"({counted(info['n_runs'], 'run')}); "
        f"{told_starts(info['convergence'])}. "
        f"Threshold: {info['threshold']['description']}."
    )
    output.table(brief(networks))
    hint = site_hint(study, networks.space.site)
    if networks.members.any():
        output.say(f"Next: lmri lesion {quote(study)} --networks {label} --task perplexity --n-controls 20{hint}")
    else:
        say_empty(output, study, label, networks)
    output.result({"name": label, "site": networks.space.site, "info": info, "networks": records(networks.table)})


def _number_of_maps(text: str, can_be_auto: bool) -> int | str:
    if text == "auto" and can_be_auto:
        return text
    try:
        return int(text)
    except ValueError:
        accepted = "an integer or auto" if can_be_auto else "an integer; auto is of ica and ica-temporal"
        raise ValueError(f"--n-components is {text!r}; accepted is {accepted}.") from None


def _check_repeats(threshold: str, n_surrogates: int) -> None:
    """Fail before the fit if the threshold could not be applied after it."""
    from lmri.networks.thresholds import needs_null

    if n_surrogates < 0:
        raise ValueError(f"--n-surrogates is {n_surrogates}; it must be at least 0.")
    if needs_null(threshold) and n_surrogates < 20:
        raise ValueError(
            f"--n-surrogates is {n_surrogates}, but {threshold} needs at least 20. Choose another threshold, such as "
            "--threshold z:3, to do without."
        )


@app.command()
@guarded
def threshold(
    study: StudyFolder,
    decomposition: Annotated[str, typer.Argument(help="Name of a decomposition.", show_default=False)],
    by: Annotated[str, typer.Option("--by", help=_THRESHOLD_HELP, show_default=False)],
    name: Annotated[str, typer.Option(help="Name of the networks to make.", show_default=False)],
    site: SiteOption = None,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Threshold the maps of a stored decomposition once more, another way."""
    from lmri.cli.stages import brief, parse_threshold, say_empty
    from lmri.study import open_study

    output, opened = Output(quiet, json), open_study(study)
    method, values = parse_threshold(by)
    networks = opened.decomposition(decomposition, site).threshold(method, **values)
    opened.save_networks(networks, decomposition, name)
    networks = opened.networks(name, networks.space.site)
    output.say(f"{name} at {networks.space.site}: {networks.info['threshold']['description']}.")
    output.table(brief(networks))
    if not networks.members.any():
        say_empty(output, study, decomposition, networks)
    output.result({"name": name, "site": networks.space.site, "networks": records(networks.table)})


@app.command()
@guarded
def compare(
    study: StudyFolder,
    first: Annotated[str, typer.Argument(help="Name of a network set, or NAME@SITE.", show_default=False)],
    second: Annotated[str, typer.Argument(help="Name of another.", show_default=False)],
    more: Annotated[list[str] | None, typer.Argument(help="Names of more.", show_default=False)] = None,
    site: SiteOption = None,
    name: Annotated[str | None, typer.Option(help="Name of the comparison.", show_default="FIRST--SECOND")] = None,
    figure: Annotated[Path | None, typer.Option(help="SVG file to draw it in; the report has it too.")] = None,
    mixed_standardization: Annotated[
        bool, typer.Option("--mixed-standardization", help="Compare sets that standardize differently.")
    ] = False,
    seed: Seed = 0,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Match the maps of two or more methods, beside what chance would give; of two sites, their time courses."""
    from lmri.cli.stages import compare_stored, comparison_result, save_figure, say_comparison
    from lmri.study import open_study

    output, opened = Output(quiet, json), open_study(study)
    names = [first, second, *(more or [])]
    with output.progress(f"Comparing {', '.join(names[:-1])} with {names[-1]}"):
        found = compare_stored(opened, names, site, seed, mixed_standardization)
        opened.save_comparison(found, seed, name)
        if figure is not None:
            save_figure(figure, found)
    say_comparison(output, found)
    output.result(comparison_result(found))


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
    from lmri.cli.stages import study_contents
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
