"""The command that shows a study in the browser."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from lmri.cli.console import Output, guarded

StudyFolder = Annotated[Path, typer.Argument(metavar="STUDY", help="Folder of the study.", show_default=False)]


@guarded
def view(
    study: StudyFolder,
    port: Annotated[
        int | None,
        typer.Option(help="Port of the page; 0 for any that is free.", show_default="8765, or any that is free"),
    ] = None,
    no_browser: Annotated[bool, typer.Option("--no-browser", help="Open no browser; only print the address.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing but errors.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Look at a study in the browser: layers, networks, texts and time courses, lesions; until Ctrl-C.

    The page is served to this machine only, and shows nothing outside the study.
    """
    from lmri.report.viewer import serve

    output = Output(quiet, json)

    def ready(url: str) -> None:
        output.say(url)
        output.result({"url": url})
        sys.stdout.flush()  # whoever reads it from a pipe waits for it

    serve(study, port, ready, browser=not no_browser)
