"""The command `qc`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lmri.cli.console import Output, records
from lmri.cli.options import Printing, WritableStudy, command

if TYPE_CHECKING:
    from lmri.decomposition.quality import Quality


@command
def qc(
    study: WritableStudy,
    printing: Printing,
    corpus: Annotated[str | None, typer.Option(help="Corpus to check.", show_default="all")] = None,
    site: Annotated[str | None, typer.Option(help="Site to check.", show_default="all")] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="HTML file for the page.", show_default="lmri/SCOPE/qc/SITE/CORPUS/qc.html in the study"),
    ] = None,
) -> None:
    """Check the quality of recordings: dead neurons, massive activations, attention sinks, outlier texts, carpets."""
    output, opened = printing.output, study.open()
    with output.progress("Checking recordings") as progress:
        qualities = opened.qc(corpus=corpus, site=site, out=out, progress=progress)
    results = []
    for quality in qualities:
        folder = opened.layout.quality(quality.info["site"], quality.info["corpus"])
        results.append(_show(output, quality, folder, out or folder / "qc.html"))
    output.result({"study": str(study), "recordings": results})


def _show(output: Output, quality: "Quality", folder: Path, page: Path) -> dict[str, Any]:
    """Print the findings for one recording, and return their JSON content."""
    corpus, site = quality.info["corpus"], quality.info["site"]
    output.table(quality.findings[["topic", "status", "finding"]], f"{corpus} at {site}")
    for row in quality.findings[quality.findings["status"] == "look"].itertuples():
        output.say(f"{row.topic}: {row.advice}")
    output.say(f"Page: {page}\nTables: {folder}")
    return {
        "corpus": corpus,
        "site": site,
        "folder": str(folder),
        "page": str(page),
        "findings": records(quality.findings),
        "n_dead": int(quality.neurons["dead"].sum()),
        "n_massive": int(quality.neurons["massive"].sum()),
        "n_extreme": int(quality.neurons["extreme"].sum()),
        "n_spikes": int(quality.volumes["spike"].sum()),
        "outliers": quality.texts.loc[quality.texts["outlier"] == 1, "text_id"].tolist(),
        "sink_positions": quality.positions.loc[quality.positions["sink"] == 1, "position"].tolist(),
        "sink_tokens": quality.tokens.loc[quality.tokens["sink"] == 1, "token"].tolist(),
    }
