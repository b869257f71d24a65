"""The command that compares network sets."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lmri.cli.console import Output, check_new_figure, records
from lmri.cli.options import Printing, Seed, SiteOption, StudyFolder, command

if TYPE_CHECKING:
    from lmri.networks.comparison import AnyComparison, Consensus


@command
def compare(
    study: StudyFolder,
    first: Annotated[str, typer.Argument(help="Name of a network set, or NAME@SITE.", show_default=False)],
    second: Annotated[str, typer.Argument(help="Name of another.", show_default=False)],
    printing: Printing,
    more: Annotated[list[str] | None, typer.Argument(help="Names of more.", show_default=False)] = None,
    site: SiteOption = None,
    name: Annotated[str | None, typer.Option(help="Name of the comparison.", show_default="FIRST--SECOND")] = None,
    figure: Annotated[Path | None, typer.Option(help="SVG file to draw it in; the report has it too.")] = None,
    mixed_standardization: Annotated[
        bool, typer.Option("--mixed-standardization", help="Compare sets that standardize differently.")
    ] = False,
    seed: Seed = 0,
) -> None:
    """Match the maps of two or more methods, beside what chance would give; of two sites, their time courses."""
    from lmri.study import open_study

    output, opened = printing.output, open_study(study)
    with output.progress(f"Comparing {', '.join([first, second, *(more or [])][:-1])} with {(more or [second])[-1]}"):
        found = opened.compare(first, second, more, site, name, mixed_standardization, seed)
        if figure is not None:
            _save_figure(figure, found)
    _say(output, found)
    output.result(_result(found))


def _result(found: "AnyComparison") -> dict[str, Any]:
    """Return a comparison as JSON."""
    from lmri.networks.comparison import Consensus

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


def _say(output: Output, found: "AnyComparison") -> None:
    """Print a comparison."""
    import pandas as pd

    from lmri.networks.comparison import Consensus, CourseComparison

    if isinstance(found, Consensus):
        _say_consensus(output, found)
        return
    above = int(found.table["above_null"].sum())
    what = "random orders and unmixings" if isinstance(found, CourseComparison) else "arbitrary unmixings"
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


def _say_consensus(output: Output, found: "Consensus") -> None:
    """Print a comparison of several sets."""
    import pandas as pd

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


def _save_figure(path: Path, found: "AnyComparison") -> None:
    """Draw a comparison into a new file."""
    from lmri.report.figures import comparison_figure
    from lmri.storage import write_text

    check_new_figure("--figure", path)
    write_text(path, comparison_figure(found))
