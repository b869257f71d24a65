"""The command `view`."""

import sys
from typing import Annotated

import typer

from lmri.cli.options import Printing, StudyScope, command


@command
def view(
    study: StudyScope,
    printing: Printing,
    port: Annotated[
        int | None,
        typer.Option(help="Port of the page; 0 for any free port.", show_default="8765, or any free port"),
    ] = None,
    no_browser: Annotated[
        bool, typer.Option("--no-browser", help="Print the address without opening a browser.")
    ] = False,
) -> None:
    """Open a study in the browser: layers, networks, texts, time courses and lesions. Stop the server with Ctrl-C.

    A study of several models has a menu of models; --subject and --session choose the model that is shown first.
    The page is served to this machine only, and shows nothing outside the study.
    """
    output = printing.output

    def ready(url: str) -> None:
        output.say(url)
        output.result({"url": url})
        sys.stdout.flush()  # a program that reads the address from a pipe waits for it

    study.open_all()[0].view(port=port, no_browser=no_browser, ready=ready)
