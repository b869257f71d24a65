"""The command `phantom`, which needs no study: with ``--study`` it is `Study.phantom`."""

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import pandas as pd
import typer

from lmri.cli.console import Output, check_new, records
from lmri.cli.options import Printing, command

if TYPE_CHECKING:
    from lmri.decomposition.phantom.trying import Neurons
    from lmri.space import NeuronSpace


@command
def phantom(
    printing: Printing,
    data: Annotated[
        list[str] | None,
        typer.Option(
            help="Phantom or null: sharp, hard, short-runs, graded, unequal, gaussian-time-courses, massive, trend, "
            "minority-25; gaussian, t5, lognormal and, with --study, salmon. May be repeated.",
            show_default="all",
        ),
    ] = None,
    method: Annotated[
        list[str] | None,
        typer.Option(help="As in decompose; may be repeated.", show_default="ica"),
    ] = None,
    threshold: Annotated[
        list[str] | None,
        typer.Option(
            help="METHOD or METHOD:VALUE, as in threshold; may be repeated.",
            show_default="z:3, robust_z:3, top:0.01, auto, fdr_gaussian, fdr, mixture",
        ),
    ] = None,
    n_components: Annotated[
        int | None, typer.Option(help="Number of maps.", show_default="as many as planted; 20 on nulls")
    ] = None,
    seeds: Annotated[int, typer.Option(help="Phantoms of each kind, with the seeds 0, 1, ...")] = 1,
    study: Annotated[
        Path | None, typer.Option(help="Study to take the neurons from, and the recording for the salmon.")
    ] = None,
    site: Annotated[
        str | None, typer.Option(help="mlp_out or mlp_hidden of --study; needed if both were recorded.")
    ] = None,
    layers: Annotated[int | None, typer.Option(help="Layers of simulated neurons.", show_default="4")] = None,
    width: Annotated[int | None, typer.Option(help="Neurons a layer.", show_default="256")] = None,
    order: Annotated[bool, typer.Option("--order", help="Estimate the number of networks too; slow.")] = False,
    table: Annotated[Path | None, typer.Option(help="Markdown file to write the tables to.")] = None,
    save: Annotated[
        Path | None, typer.Option(help="Folder to write the recordings to, as images; nothing is measured then.")
    ] = None,
    n_jobs: Annotated[int, typer.Option(help="Processes.")] = 1,
) -> None:
    """Plant networks, or none, and see what methods and thresholds make of them.

    The default, 4 layers of 256 neurons and one seed, is for a first look. The phantoms are sized for 12 layers of 768:
    --layers 12 --width 768 --seeds 5. Networks of fewer neurons are harder to find.
    """
    from lmri.decomposition.phantom.trying import Trial, save_phantoms, try_phantoms

    output, trial = printing.output, Trial(data, method, threshold, n_components, seeds, order)
    for option, path in (("--table", table), ("--save", save)):
        check_new(option, path)
    if save is not None and table is not None:
        raise ValueError("--save writes recordings and measures nothing, so there is no --table. Give one of the two.")
    trial.names(has_recording=study is not None)  # fails now, before the study is opened
    neurons = _neurons(study, site, layers, width)
    if save is not None:
        with output.progress("Writing recordings") as progress:
            folders = save_phantoms(save, neurons, trial, progress)
        output.say(f"Written with the seed 0 to {save}: {', '.join(folder.name for folder in folders)}.")
        output.result({"space": neurons.space.describe(), "saved": [str(folder) for folder in folders]})
        return

    with output.progress("Trying methods on phantoms") as progress:
        found = try_phantoms(neurons, trial, n_jobs, progress)
    _show(output, found, neurons.space, seeds)
    if table is not None:
        _write(table, found, neurons.space, seeds)
        output.say(f"Written: {table}")
    output.result({"space": neurons.space.describe(), "n_seeds": seeds, "rows": records(found)})
    if (found["n_failed"] == found["n_seeds"]).all():
        raise typer.Exit(1)


def _neurons(study: Path | None, site: str | None, layers: int | None, width: int | None) -> "Neurons":
    """Simulate neurons, or open those of a study."""
    from lmri.decomposition.phantom.trying import Neurons
    from lmri.study import open_study

    if study is None:
        if site is not None:
            raise ValueError(f"--site {site} is of a study. Give it, --study STUDY, or leave --site out.")
        return Neurons.simulated(layers, width)
    if layers is not None or width is not None:
        raise ValueError("--study has layers and widths of its own. Leave --layers and --width out.")
    return Neurons.of_study(open_study(study), site)


def _show(output: Output, found: pd.DataFrame, space: "NeuronSpace", seeds: int) -> None:
    from lmri.decomposition.phantom.docs import failures, maps_table, nulls_table, thresholds_table

    output.say(f"{space.describe()}; {seeds} {'seed' if seeds == 1 else 'seeds'}.")
    for title, part in (
        ("Networks found (|r| >= 0.8)", maps_table(found)),
        ("What thresholds keep of planted networks", thresholds_table(found)),
        ("What is found where nothing is", nulls_table(found)),
    ):
        if len(part):
            output.table(part, title)
    for row in failures(found).itertuples():
        output.problem(f"{row.failed} of {row.method} with {row.threshold} on {row.data}: {row.why}")


def _write(path: Path, found: pd.DataFrame, space: "NeuronSpace", seeds: int) -> None:
    from lmri.decomposition.phantom import markdown
    from lmri.storage import versions, write_text

    command = shlex.join(["lmri", *sys.argv[1:]])
    made_with = ", ".join(f"{name} {version}" for name, version in versions().items() if name not in _UNUSED)
    write_text(
        path,
        f"# Phantoms and nulls\n\nWritten by `{command}`: {space.describe()}, {seeds} "
        f"{'seed' if seeds == 1 else 'seeds'}. Made with {made_with}.\n\n{markdown(found)}",
    )


_UNUSED = ("torch", "transformers")
