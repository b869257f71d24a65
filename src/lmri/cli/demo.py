"""The command `demo`."""

from pathlib import Path
from typing import Annotated

import typer

from lmri.cli.options import Printing, command


@command
def demo(
    printing: Printing,
    out: Annotated[Path, typer.Option(help="Folder of the new study.")] = Path("lmri-demo"),
) -> None:
    """Run the whole workflow on a small model that comes with the package (no internet connection needed)."""
    from lmri.cli.walk import walk

    walk(out, printing.output)
