"""The command `demo`."""

from pathlib import Path
from typing import Annotated

import typer

from lmri.cli.options import Printing, command


@command
def demo(
    printing: Printing,
    out: Annotated[Path, typer.Option(help="Folder of the study to make.")] = Path("lmri-demo"),
) -> None:
    """Run the whole walk on a small model that comes with the package; no network needed."""
    from lmri.cli.walk import walk

    walk(out, printing.output)
