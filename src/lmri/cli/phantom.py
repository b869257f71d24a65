"""The command `phantom`; with ``--study`` it is `Study.phantom`."""

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
            help="Phantoms: sharp, hard, short-runs, graded, unequal, gaussian-time-courses, massive, trend, "
            "minority-25; nulls: gaussian, t5, lognormal and, with --study, salmon. May be repeated.",
            show_default="all",
        ),
    ] = None,
    method: Annotated[
        list[str] | None,
        typer.Option(help="Method, as in lmri decompose; may be repeated.", show_default="ica"),
    ] = None,
    threshold: Annotated[
        list[str] | None,
        typer.Option(
            help="METHOD or METHOD:VALUE, as in lmri threshold; may be repeated.",
            show_default="z:3, robust_z:3, top:0.01, auto, fdr_gaussian, fdr, mixture",
        ),
    ] = None,
    n_components: Annotated[
        int | None, typer.Option(help="Number of maps.", show_default="the number of simulated networks; 20 on nulls")
    ] = None,
    seeds: Annotated[int, typer.Option(help="Number of phantoms of each kind, with the seeds 0, 1, ...")] = 1,
    study: Annotated[
        Path | None,
        typer.Option(help="Study that provides the layout of the neurons, and the recording for the null salmon."),
    ] = None,
    site: Annotated[
        str | None, typer.Option(help="Site of the neurons of --study; required if several were recorded.")
    ] = None,
    layers: Annotated[int | None, typer.Option(help="Number of layers of simulated neurons.", show_default="4")] = None,
    width: Annotated[
        int | None, typer.Option(help="Number of simulated neurons per layer.", show_default="256")
    ] = None,
    order: Annotated[
        bool, typer.Option("--order", help="Also estimate the number of components (model order); slow.")
    ] = False,
    table: Annotated[Path | None, typer.Option(help="New Markdown file for the tables.")] = None,
    save: Annotated[
        Path | None,
        typer.Option(help="New folder for the recordings, as images; methods and thresholds are then not evaluated."),
    ] = None,
    n_jobs: Annotated[int, typer.Option(help="Number of processes.")] = 1,
) -> None:
    """Evaluate methods and thresholds on simulated recordings with known networks, or none.

    The default, 4 layers of 256 neurons and one seed, is a quick check. The phantoms are designed for 12 layers of 768
    neurons: --layers 12 --width 768 --seeds 5. Networks of fewer neurons are harder to detect.
    """
    from lmri.decomposition.phantom.trying import Trial, save_phantoms, try_phantoms

    output, trial = printing.output, Trial(data, method, threshold, n_components, seeds, order)
    for option, path in (("--table", table), ("--save", save)):
        check_new(option, path)
    if save is not None and table is not None:
        raise ValueError("--save only writes recordings, so it cannot be combined with --table. Use one of the two.")
    trial.names(has_recording=study is not None)  # raises before the study is opened
    neurons = _neurons(study, site, layers, width)
    if save is not None:
        with output.progress("Writing recordings") as progress:
            folders = save_phantoms(save, neurons, trial, progress)
        output.say(f"Recordings with seed 0 were written to {save}: {', '.join(folder.name for folder in folders)}.")
        output.result({"space": neurons.space.describe(), "saved": [str(folder) for folder in folders]})
        return

    with output.progress("Evaluating methods on phantoms") as progress:
        results = try_phantoms(neurons, trial, n_jobs, progress)
    _show(output, results, neurons.space, seeds)
    if table is not None:
        _write(table, results, neurons.space, seeds)
        output.say(f"Tables: {table}")
    output.result({"space": neurons.space.describe(), "n_seeds": seeds, "rows": records(results)})
    if (results["n_failed"] == results["n_seeds"]).all():
        raise typer.Exit(1)


def _neurons(study: Path | None, site: str | None, layers: int | None, width: int | None) -> "Neurons":
    """Return simulated neurons, or the neurons of a study."""
    from lmri.decomposition.phantom.trying import Neurons
    from lmri.study import open_study

    if study is None:
        if site is not None:
            raise ValueError(f"--site is {site}, but no study was given. Add --study STUDY, or omit --site.")
        return Neurons.simulated(layers, width)
    if layers is not None or width is not None:
        raise ValueError("--study determines the layers and widths. Omit --layers and --width, or omit --study.")
    return Neurons.of_study(open_study(study), site)


def _show(output: Output, results: pd.DataFrame, space: "NeuronSpace", seeds: int) -> None:
    from lmri.decomposition.phantom.docs import failures, maps_table, nulls_table, thresholds_table

    output.say(f"{space.describe()}; {seeds} {'seed' if seeds == 1 else 'seeds'}.")
    for title, part in (
        ("Networks recovered (|r| >= 0.8)", maps_table(results)),
        ("Simulated networks after thresholding", thresholds_table(results)),
        ("False positives on nulls", nulls_table(results)),
    ):
        if len(part):
            output.table(part, title)
    for row in failures(results).itertuples():
        output.problem(f"{row.failed} of {row.method} with {row.threshold} on {row.data}: {row.why}")


def _write(path: Path, results: pd.DataFrame, space: "NeuronSpace", seeds: int) -> None:
    from lmri.decomposition.phantom import markdown
    from lmri.storage import versions, write_text

    command = shlex.join(["lmri", *sys.argv[1:]])
    software = ", ".join(f"{name} {version}" for name, version in versions().items() if name not in _UNUSED)
    write_text(
        path,
        f"# Phantoms and nulls\n\nWritten by `{command}`: {space.describe()}, {seeds} "
        f"{'seed' if seeds == 1 else 'seeds'}. Made with {software}.\n\n{markdown(results)}",
    )


_UNUSED = ("torch", "transformers")
