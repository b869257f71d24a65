"""The command `check`."""

from pathlib import Path
from typing import Annotated

import typer

from lmri.cli.console import pluralize
from lmri.cli.options import Device, Pickle, Printing, Quoting, Revision, Trust, command
from lmri.models.loading.options import LoadingOptions
from lmri.space.sites import site_names


@command
def check(
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="Hub name, local folder, or lmri-demo.", show_default=False)
    ],
    printing: Printing,
    texts: Annotated[
        Path | None, typer.Option(help="File of texts, of which the first 8 are read.", show_default="a few sentences")
    ] = None,
    quoting: Quoting = None,
    site: Annotated[str, typer.Option(help=f"Site to check: {site_names()}.")] = "mlp_out",
    projection: Annotated[
        str | None,
        typer.Option(help="Path of the output projection within a block, if it is not detected automatically."),
    ] = None,
    dtype: Annotated[str, typer.Option(help="Precision of the model: float32, bfloat16 or float16.")] = "float32",
    device: Device = "cpu",
    revision: Revision = None,
    trust_remote_code: Trust = False,
    allow_pickle: Pickle = False,
    quantize: Annotated[
        str | None, typer.Option(help="Quantization: 8bit (torchao) or 4bit (bitsandbytes).", show_default="no")
    ] = None,
) -> None:
    """Check that a model is read, lesioned and restored correctly, and print a table for a bug report.

    The exit status is 1 if a check failed.
    """
    output = printing.output
    loading = LoadingOptions(
        dtype=dtype,
        device=device,
        revision=revision,
        trust_remote_code=trust_remote_code,
        allow_pickle=allow_pickle,
        quantize=quantize,
    )
    with output.progress(f"Checking {model}") as progress:
        from lmri.verification import check_model

        verification = check_model(
            *loading.load(model), texts, site=site, projection=projection, quoting=quoting, progress=progress
        )
    output.say(verification.to_markdown())
    n_failed = len(verification.failures)
    output.say(
        f"{pluralize(n_failed, 'check')} failed. Please report the table above, with the model and the command."
        if n_failed
        else "No check failed."
    )
    output.result(
        {
            "passed": verification.passed,
            "about": dict(verification.about),
            "checks": verification.table.to_dict("records"),
        }
    )
    if n_failed:
        raise typer.Exit(1)
