"""The commands `export` and `accept`."""

from pathlib import Path
from typing import Annotated

import typer

from lmri.cli.console import quote, records
from lmri.cli.options import Printing, SiteOption, WritableStudy, command

_NEXT = {
    "melodic": "Open it: fsleyes {folder}/melodic_IC.nii.gz. Save labels from its Classification panel, then run: "
    "lmri accept {study} {name} {folder}/labels.txt --name accepted{hint}",
    "workbench": "Open it: wb_view {folder}/*.nii",
    "strip": "Open any of its images; x is the neuron and y is the layer.",
}


@command
def export(
    study: WritableStudy,
    printing: Printing,
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="NAME", help="Network set or decomposition; required if there are several.", show_default=False
        ),
    ] = None,
    to: Annotated[
        str,
        typer.Option(
            help="Format: melodic (an .ica folder for FSLeyes), workbench (CIFTI) or strip (one row per layer)."
        ),
    ] = "melodic",
    site: SiteOption = None,
    out: Annotated[
        Path | None, typer.Option(help="New folder to write.", show_default="lmri/SCOPE/export in the study")
    ] = None,
) -> None:
    """Export networks for other programs: FSLeyes, Connectome Workbench, or 2D images with one row per layer."""
    from lmri.cli.networks import site_hint
    from lmri.report.export.writing import opened as find

    output, opened = printing.output, study.open()
    with output.progress("Writing"):
        folder = opened.export(name, to=to, site=site, out=out)
    entry = find(opened, name, site).entry
    output.say(f"{entry.name} at {entry.site}: {folder}")
    hint = site_hint(study, entry.site)
    output.say(_NEXT[to].format(folder=quote(folder), study=quote(study), name=entry.name, hint=hint))
    output.result({"folder": str(folder), "name": entry.name, "site": entry.site, "format": to})


@command
def accept(
    study: WritableStudy,
    printing: Printing,
    networks: Annotated[str, typer.Argument(metavar="NETWORKS", help="Name of a network set.", show_default=False)],
    labels: Annotated[
        Path,
        typer.Argument(
            metavar="LABELS", help="File of labels, as saved by FSLeyes, Melview or FIX.", show_default=False
        ),
    ],
    name: Annotated[str, typer.Option(help="Name of the new networks.", show_default=False)],
    site: SiteOption = None,
    reject_unknown: Annotated[
        bool, typer.Option("--reject-unknown", help="Also reject components labelled as unknown or not labelled.")
    ] = False,
) -> None:
    """Store the networks that were accepted in FSLeyes as a set that can be lesioned."""
    from lmri.cli.networks import site_hint, summary_columns

    output = printing.output
    accepted = study.open().accept(networks, labels, name, site=site, reject_unknown=reject_unknown)
    stored_site = accepted.networks.space.site
    output.say(
        f"{name} at {stored_site}: rejected {', '.join(accepted.rejected)}, which keep their numbers and are now empty."
        if accepted.rejected
        else f"{name} at {stored_site}: no network was rejected."
    )
    if accepted.unknown and not reject_unknown:
        output.say(
            f"No decision on {', '.join(accepted.unknown)}: they were kept. To reject them, add --reject-unknown."
        )
    output.table(summary_columns(accepted.networks))
    output.say(f"Next: lmri lesion {quote(study)} --networks {name} --n-controls 20{site_hint(study, stored_site)}")
    output.result(
        {
            "name": name,
            "site": stored_site,
            "rejected": accepted.rejected,
            "unknown": accepted.unknown,
            "labelled": accepted.labelled,
            "networks": records(accepted.networks.table),
        }
    )
