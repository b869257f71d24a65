"""The commands `report`, `info`, `validate` and `upgrade`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lmri.cli.console import records
from lmri.cli.options import Printing, StudyScope, UpgradableStudy, command
from lmri.storage.identifiers import GROUP

if TYPE_CHECKING:
    from lmri.study import Study


@command
def report(
    study: StudyScope,
    printing: Printing,
    out: Annotated[
        Path | None, typer.Option(help="HTML file to write.", show_default="report.html in the study")
    ] = None,
) -> None:
    """Write a report of all results of a study to one HTML file.

    If the study contains several models, one file per model is written, and report.html is an overview.
    """
    from lmri.report import write_reports

    output, opened = printing.output, study.open_all()
    if out is not None and len(opened) > 1:
        raise ValueError(
            f"--out is a single file, but the study contains {', '.join(scope.scope for scope in opened)}. Choose a "
            "model with --subject, or omit --out."
        )
    with output.progress("Writing the report"):
        paths = [opened[0].report(out)] if len(opened) == 1 else write_reports(opened)
    output.say(f"Report: {paths[0]}")
    output.result({"report": str(paths[0])} | ({"reports": [str(path) for path in paths[1:]]} if paths[1:] else {}))


@command
def info(study: StudyScope, printing: Printing) -> None:
    """List the models, recordings and results of a study."""
    output, opened = printing.output, study.open_all()
    results = []
    for scope in opened:
        contents = scope.info()
        output.say(describe(scope))
        output.table(contents.rename(columns={"made of": "details"}))
        model = None if scope.scope == GROUP else scope.model.id
        results.append({"scope": scope.scope, "model": model, "contents": records(contents)})
    single = {key: results[0][key] for key in ("model", "contents")}
    output.result(single if len(results) == 1 else {"models": results})


def describe(study: "Study") -> str:
    """Describe the model of a study in one line."""
    if study.scope == GROUP:
        return "Results of several models together (--subject group)"
    model, several = study.model, len(study.layout.scopes()) > 1 or study.session
    about = f"{model.id} ({model.model_type}, weights {model.fingerprint}"
    return f"{study.scope}: {about}, {model.dtype})" if several else f"Study of {about})"


@command
def validate(study: StudyScope, printing: Printing) -> None:
    """Check every file of a study, also with the BIDS validator if it is installed."""
    from lmri.report.validation import validate

    output = printing.output
    with output.progress("Checking"):
        findings = validate(*study.open_all())
    for problem in findings.problems:
        output.problem(problem)
    for note in findings.notes:
        output.say(note)
    if not findings.problems:
        output.say(f"No problems found in {study}.")
    output.result({"problems": findings.problems, "notes": findings.notes})
    if findings.problems:
        raise typer.Exit(1)


@command
def upgrade(study: UpgradableStudy, printing: Printing) -> None:
    """Upgrade a study of an older version of lmri in place; images are not copied or changed."""
    from lmri.storage.upgrade import upgrade

    output = printing.output
    with output.progress("Upgrading"):
        versions = upgrade(study.study)
    if versions:
        output.say(f"Upgraded {study.study} from format version {versions[0]} to {versions[-1] + 1}.")
    else:
        output.say(f"{study.study} is up to date; nothing was changed.")
    output.result({"study": str(study.study), "upgraded_from": versions[0] if versions else None})
