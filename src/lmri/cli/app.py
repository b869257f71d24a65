"""Application of the command line: registration of all commands."""

from typing import Annotated

import typer

from lmri.cli.check import check
from lmri.cli.compare import compare
from lmri.cli.confounds import confounds
from lmri.cli.decompose import decompose, threshold
from lmri.cli.demo import demo
from lmri.cli.describe import connectivity, describe, label
from lmri.cli.experiments import dissociate, templates
from lmri.cli.export import accept, export
from lmri.cli.finetune import finetune
from lmri.cli.individuals import dual_regression, order
from lmri.cli.interventions import amplify, lesion, preserve
from lmri.cli.localize import localize
from lmri.cli.phantom import phantom
from lmri.cli.quality import qc
from lmri.cli.record import merge, record
from lmri.cli.report import info, report, upgrade, validate
from lmri.cli.robustness import robustness
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


COMMANDS = {
    "Start": (demo,),
    "Record and check": (record, merge, check, qc, confounds),
    "Find networks": (order, decompose, threshold, localize, templates),
    "Interpret networks": (compare, describe, label, connectivity, dual_regression, export, accept),
    "Lesion networks": (lesion, preserve, amplify, dissociate, robustness, finetune),
    "View and manage studies": (view, report, info, validate, upgrade),
    "Simulate": (phantom,),
}
"""Commands by the heading under which ``lmri --help`` lists them."""

for heading, commands in COMMANDS.items():
    for command in commands:
        app.command(rich_help_panel=heading)(command)
