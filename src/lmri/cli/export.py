"""The commands `export` and `accept`."""

from pathlib import Path
from typing import Annotated

import typer

from lmri.cli.console import quote, records
from lmri.cli.options import Printing, SiteOption, StudyFolder, command

_NEXT = {
    "melodic": "Open it: fsleyes {folder}/melodic_IC.nii.gz. Save labels in its Classification panel, then: "
    "lmri accept {study} {name} {folder}/labels.txt --name accepted{hint}",
    "workbench": "Open it: wb_view {folder}/*.nii",
    "strip": "Open any of its images; x is the neuron, y the layer.",
}


@command
def export(
    study: StudyFolder,
    printing: Printing,
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="[NAME]", help="Network set or decomposition; needed if there are several.", show_default=False
        ),
    ] = None,
    to: Annotated[
        str, typer.Option(help="melodic (an .ica folder for FSLeyes), workbench (CIFTI) or strip (a row a layer).")
    ] = "melodic",
    site: SiteOption = None,
    out: Annotated[
        Path | None, typer.Option(help="New folder to write.", show_default="lmri/export in the study")
    ] = None,
) -> None:
    """Write networks as another program takes them: FSLeyes, Connectome Workbench, or a strip of layers."""
    from lmri.cli.networks import site_hint
    from lmri.report.export.writing import opened as find
    from lmri.study import open_study

    output, opened = printing.output, open_study(study)
    with output.progress("Writing"):
        folder = opened.export(name, to=to, site=site, out=out)
    entry = find(opened, name, site).entry
    output.say(f"{entry.name} at {entry.site}: {folder}")
    hint = site_hint(study, entry.site)
    output.say(_NEXT[to].format(folder=quote(folder), study=quote(study), name=entry.name, hint=hint))
    output.result({"folder": str(folder), "name": entry.name, "site": entry.site, "format": to})


@command
def accept(
    study: StudyFolder,
    printing: Printing,
    networks: Annotated[str, typer.Argument(help="Name of a network set.", show_default=False)],
    labels: Annotated[
        Path, typer.Argument(help="File of labels, as FSLeyes, Melview and FIX save it.", show_default=False)
    ],
    name: Annotated[str, typer.Option(help="Name of the networks to make.", show_default=False)],
    site: SiteOption = None,
    reject_unknown: Annotated[
        bool, typer.Option("--reject-unknown", help="Reject components that nobody decided on, too.")
    ] = False,
) -> None:
    """Keep the networks that a person accepted in FSLeyes, as a set that can be lesioned."""
    from lmri.cli.networks import brief, site_hint
    from lmri.study import open_study

    output = printing.output
    found = open_study(study).accept(networks, labels, name, site=site, reject_unknown=reject_unknown)
    at = found.networks.space.site
    output.say(
        f"{name} at {at}: rejected {', '.join(found.rejected)}; they keep their number, and are empty."
        if found.rejected
        else f"{name} at {at}: none was rejected."
    )
    if found.unknown and not reject_unknown:
        output.say(f"Nobody decided on {', '.join(found.unknown)}; they were kept (--reject-unknown rejects them).")
    output.table(brief(found.networks))
    output.say(f"Next: lmri lesion {quote(study)} --networks {name} --n-controls 20{site_hint(study, at)}")
    output.result(
        {
            "name": name,
            "site": at,
            "rejected": found.rejected,
            "unknown": found.unknown,
            "labelled": found.labelled,
            "networks": records(found.networks.table),
        }
    )
