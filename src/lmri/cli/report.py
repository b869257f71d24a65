"""The commands `report`, `info` and `validate`."""

from pathlib import Path
from typing import Annotated

import typer

from lmri.cli.console import records
from lmri.cli.options import Printing, StudyFolder, command


@command
def report(
    study: StudyFolder,
    printing: Printing,
    out: Annotated[
        Path | None, typer.Option(help="HTML file to write.", show_default="report.html in the study")
    ] = None,
) -> None:
    """Write a report of all results of a study to one HTML file."""
    from lmri.study import open_study

    output = printing.output
    with output.progress("Writing the report"):
        path = open_study(study).report(out)
    output.say(f"Report: {path}")
    output.result({"report": str(path)})


@command
def info(study: StudyFolder, printing: Printing) -> None:
    """List the recordings and results of a study."""
    from lmri.study import open_study

    output, opened = printing.output, open_study(study)
    contents = opened.info()
    output.say(f"Study of {opened.model.id} ({opened.model.model_type}, weights {opened.model.fingerprint})")
    output.table(contents)
    output.result({"model": opened.model.id, "contents": records(contents)})


@command
def validate(study: StudyFolder, printing: Printing) -> None:
    """Check every file of a study, also with the BIDS validator if it is installed."""
    from lmri.study import open_study

    output = printing.output
    with output.progress("Checking"):
        findings = open_study(study).validate()
    for problem in findings.problems:
        output.problem(problem)
    for note in findings.notes:
        output.say(note)
    if not findings.problems:
        output.say(f"No problems found in {study}.")
    output.result({"problems": findings.problems, "notes": findings.notes})
    if findings.problems:
        raise typer.Exit(1)
