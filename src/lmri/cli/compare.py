"""The command `compare`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lmri.cli.console import Output, check_new_figure, records
from lmri.cli.options import Printing, Seed, SiteOption, WritableStudy, command

if TYPE_CHECKING:
    from lmri.networks.comparison import AnyComparison, Consensus


@command
def compare(
    study: WritableStudy,
    first: Annotated[
        str, typer.Argument(metavar="FIRST", help="Name of a network set, or NAME@SITE.", show_default=False)
    ],
    second: Annotated[str, typer.Argument(metavar="SECOND", help="Name of a second network set.", show_default=False)],
    printing: Printing,
    more: Annotated[
        list[str] | None, typer.Argument(metavar="MORE", help="Names of further network sets.", show_default=False)
    ] = None,
    site: SiteOption = None,
    name: Annotated[str | None, typer.Option(help="Name of the comparison.", show_default="FIRST--SECOND")] = None,
    figure: Annotated[
        Path | None, typer.Option(help="New SVG file for the figure, which is also in the report.")
    ] = None,
    mixed_standardization: Annotated[
        bool, typer.Option("--mixed-standardization", help="Allow sets whose standardization differs.")
    ] = False,
    seed: Seed = 0,
) -> None:
    """Match the maps of two or more network sets, or the time courses of two sites, and compare with chance."""
    output, opened = printing.output, study.open()
    with output.progress(f"Comparing {', '.join([first, second, *(more or [])][:-1])} with {(more or [second])[-1]}"):
        comparison = opened.compare(first, second, more, site, name, mixed_standardization, seed)
        if figure is not None:
            _save_figure(figure, comparison)
    _say(output, comparison)
    output.result(_result(comparison))


def _result(comparison: "AnyComparison") -> dict[str, Any]:
    """Return the JSON content of a comparison."""
    from lmri.networks.comparison import Consensus

    if isinstance(comparison, Consensus):
        return {
            "n_found_by_all": comparison.n_found_by_all,
            "consensus": records(comparison.table),
            "pairs": records(comparison.pairs),
            "sets": records(comparison.overview),
        }
    return {
        "mean_abs_r": comparison.mean_r,
        "null_mean": comparison.null_mean,
        "null_95": comparison.null_95,
        "pairs": records(comparison.table),
    }


def _say(output: Output, comparison: "AnyComparison") -> None:
    """Print a comparison."""
    import pandas as pd

    from lmri.networks.comparison import Consensus, CourseComparison

    if isinstance(comparison, Consensus):
        _say_consensus(output, comparison)
        return
    above = int(comparison.table["above_null"].sum())
    null = "random orders and unmixings" if isinstance(comparison, CourseComparison) else "arbitrary unmixings"
    output.say(
        f"Mean matched |r| of {comparison.first.method} and {comparison.second.method}: {comparison.mean_r:.3f} "
        f"(null of {null}: mean {comparison.null_mean:.3f}, 95th percentile {comparison.null_95:.3f}). "
        f"{above} of {len(comparison.table)} pairs exceed the null."
    )
    columns = {"r": comparison.table["r"].round(3), "null 95 %": comparison.table["r_null_95"].round(3)}
    if "iou" in comparison.table:
        columns |= {"IoU": comparison.table["iou"].round(2), "IoU null 95 %": comparison.table["iou_null_95"].round(2)}
        columns |= {"both": comparison.table["n_both"]}
    output.table(pd.DataFrame({"first": comparison.table["first"], "second": comparison.table["second"], **columns}))


def _say_consensus(output: Output, comparison: "Consensus") -> None:
    """Print a comparison of several sets."""
    import pandas as pd

    n, table = len(comparison.sets), comparison.table
    output.say(
        f"{len(table)} networks were found by two or more of {n} sets, {comparison.n_found_by_all} of them by all."
    )
    shown = {
        "network": table["network"],
        "found by": table["found_by"],
        "mean |r|": table["mean_r"].round(3),
        "limit": table["r_limit"].round(3),
        "IoU": table["mean_iou"].round(2),
        "stability": table["iq"].round(2),
    }
    for name in comparison.names:  # the heading already names the set
        shown[name] = [map_.rsplit("-", 1)[-1] for map_ in table[name]]
    output.table(pd.DataFrame(shown).dropna(axis="columns", how="all"))
    overview = comparison.overview.rename(
        columns={"n_networks": "networks", "n_found": "found again", "iq": "stability"}
    )
    output.table(overview.dropna(axis="columns", how="all").round(2))
    output.table(comparison.pairs.round(3), "Pairs of sets: mean matched |r| and its null")


def _save_figure(path: Path, comparison: "AnyComparison") -> None:
    """Write the figure of a comparison to a new file."""
    from lmri.report.figures import comparison_figure
    from lmri.storage import write_text

    check_new_figure("--figure", path)
    write_text(path, comparison_figure(comparison))
