"""The command that tries methods and thresholds where the truth is known."""

import shlex
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import pandas as pd
import typer

from lmri.cli.console import Output, check_new, guarded, records

if TYPE_CHECKING:
    from lmri.space import Img, NeuronSpace

SMALL = (4, 256)
"""Layers and width unless others are asked for: small enough for a first look in a minute or two."""


@guarded
def phantom(
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
    layers: Annotated[int | None, typer.Option(help="Layers of simulated neurons.", show_default=str(SMALL[0]))] = None,
    width: Annotated[int | None, typer.Option(help="Neurons a layer.", show_default=str(SMALL[1]))] = None,
    order: Annotated[bool, typer.Option("--order", help="Estimate the number of networks too; slow.")] = False,
    table: Annotated[Path | None, typer.Option(help="Markdown file to write the tables to.")] = None,
    save: Annotated[
        Path | None, typer.Option(help="Folder to write the recordings to, as images; nothing is measured then.")
    ] = None,
    n_jobs: Annotated[int, typer.Option(help="Processes.")] = 1,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing but errors.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Plant networks, or none, and see what methods and thresholds make of them.

    The default, 4 layers of 256 neurons and one seed, is for a first look. The phantoms are sized for 12 layers of 768:
    --layers 12 --width 768 --seeds 5. Networks of fewer neurons are harder to find.
    """
    from lmri.decomposition import METHODS
    from lmri.decomposition.phantom import NULLS, PHANTOMS, THRESHOLDS, make
    from lmri.decomposition.phantom import table as try_all

    output = Output(quiet, json)
    everything = [*PHANTOMS, *NULLS]
    names = _chosen("--data", data or [name for name in everything if study or name != "salmon"], everything)
    if "salmon" in names and study is None:
        raise ValueError("--data salmon shifts a real recording. Give the study that has one: --study STUDY.")
    methods = _chosen("--method", method or list(METHODS)[:1], list(METHODS))
    thresholds = _chosen_thresholds(threshold or list(THRESHOLDS))
    if seeds < 1:
        raise ValueError(f"--seeds is {seeds}; it must be at least 1.")
    for option, path in (("--table", table), ("--save", save)):
        check_new(option, path)
    if save is not None and table is not None:
        raise ValueError("--save writes recordings and measures nothing, so there is no --table. Give one of the two.")
    space, imgs = _neurons(study, site, layers, width)
    if save is not None:
        _save(output, save, names, space, imgs)
        return

    makers = {name: partial(make, name, space, imgs=imgs) for name in names}
    with output.progress("Trying methods on phantoms") as progress:
        found = try_all(makers, methods, thresholds, range(seeds), n_components, order, n_jobs, progress)
    _show(output, found, space, seeds)
    if table is not None:
        _write(table, found, space, seeds)
        output.say(f"Written: {table}")
    output.result({"space": space.describe(), "n_seeds": seeds, "rows": records(found)})
    if (found["n_failed"] == found["n_seeds"]).all():
        raise typer.Exit(1)


def _chosen(option: str, names: list[str], accepted: Sequence[str]) -> list[str]:
    for name in names:
        if name not in accepted:
            raise ValueError(f"{option} is {name!r}; accepted are {', '.join(accepted)}.")
    return list(dict.fromkeys(names))


def _chosen_thresholds(texts: list[str]) -> list[str]:
    """Fail now on a name or value that no method could take; what only some can is a row of the result."""
    from lmri.decomposition.phantom import THRESHOLDS
    from lmri.networks.thresholds import parse_threshold

    for text in texts:
        if text not in THRESHOLDS:
            parse_threshold(text)
    return list(dict.fromkeys(texts))


def _neurons(
    study: Path | None, site: str | None, layers: int | None, width: int | None
) -> tuple["NeuronSpace", "list[Img]"]:
    """Give the neurons to plant in, and the images of the study if there is one."""
    from lmri.space import NeuronSpace
    from lmri.study import open_study

    if study is None:
        if site is not None:
            raise ValueError(f"--site {site} is of a study. Give it, --study STUDY, or leave --site out.")
        n_layers, n_neurons = layers if layers is not None else SMALL[0], width if width is not None else SMALL[1]
        return NeuronSpace.build([n_neurons] * n_layers), []
    if layers is not None or width is not None:
        raise ValueError("--study has layers and widths of its own. Leave --layers and --width out.")
    recordings = open_study(study).group(site)
    return recordings[0].space, [img for recording in recordings for img in recording.imgs]


def _save(output: Output, folder: Path, names: list[str], space: "NeuronSpace", imgs: "list[Img]") -> None:
    from lmri.decomposition.phantom import make

    with output.progress("Writing recordings") as progress:
        for done, name in enumerate(names, start=1):
            make(name, space, imgs=imgs).save(folder / name)
            progress(done, len(names))
    output.say(f"Written with the seed 0 to {folder}: {', '.join(names)}.")
    output.result({"space": space.describe(), "saved": [str(folder / name) for name in names]})


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
