"""API of the viewer for results: stored scores, comparisons, and regions of interest."""

import json
import shlex
from typing import Any

import pandas as pd
from starlette.exceptions import HTTPException

from lmri import storage
from lmri.exceptions import StudyError
from lmri.lesions.scores import INTACT, SUMMARY_TEXT
from lmri.networks import rois as regions
from lmri.report.viewer.cached_reader import CachedReader
from lmri.report.viewer.query import Query, network_of, one_of, set_of
from lmri.storage.entries import Entry
from lmri.storage.freshness import scored_sets

# -- results ----------------------------------------------------------------------------------------------------------


def scores(reader: CachedReader, query: Query) -> list[dict[str, Any]]:
    """Return the stored scores of a network: one row per entry, task, metric and control family.

    Scores of other neurons of the same name, such as a region of interest, are excluded.
    """
    inventory = reader.contents()
    entry, network_set, number = network_of(reader, inventory, query)
    rows: list[dict[str, Any]] = []
    experiments = list(inventory.entries["experiments"].values())
    for (site, _), score_entry in inventory.entries["scores"].items():
        if site == entry.site and entry.name in scored_sets(score_entry, experiments):
            rows += _rows(score_entry, reader.table(score_entry, "scores.tsv", SUMMARY_TEXT), network_set.names[number])
    return rows


_SHOWN = (
    "condition", "split", "task", "metric", "value", "diff", "ci_low", "ci_high", "control_mean", "effect", "p", "q",
    "n_controls", "control_family",
)  # fmt: skip


def _rows(entry: Entry, table: pd.DataFrame, network: str) -> list[dict[str, Any]]:
    intact = {(row["task"], row["metric"]): row["value"] for _, row in table[table["condition"] == INTACT].iterrows()}
    about = {"name": entry.name, "intervention": entry.parameters.get("intervention", "")}
    lesioned = table[(table["network"] == network) & (table["condition"] != INTACT)]
    return [
        {
            **about,
            **{column: row.get(column) for column in _SHOWN},
            "intact": intact.get((row["task"], row["metric"])),
        }
        for row in lesioned.to_dict("records")
    ]


def is_of_maps(entry: Entry) -> bool:
    """Return whether a comparison is of the maps of two sets, rather than of several sets or of time courses."""
    inputs = entry.inputs
    return "first" in inputs and "second_site" not in inputs


def matches(reader: CachedReader, query: Query) -> dict[str, Any]:
    """Return the matched networks of two sets from a stored comparison."""
    inventory = reader.contents()
    first, second = set_of(inventory, query, "first"), set_of(inventory, query, "second")
    names = {first.name, second.name}
    for (site, _), entry in inventory.entries["comparisons"].items():
        inputs = entry.inputs
        if site != first.site or not is_of_maps(entry) or {inputs["first"], inputs["second"]} != names:
            continue
        sides = ("first", "second") if inputs["first"] == first.name else ("second", "first")
        table = reader.table(entry, "matches.tsv", ("first", "second"))
        pairs = [
            {
                "first": row[sides[0]],
                "second": row[sides[1]],
                "r": row["r"],
                "r_null_95": row["r_null_95"],
                "above_null": bool(row["above_null"]),
                "iou": row.get("iou"),
            }
            for row in table.to_dict("records")
        ]
        results = entry.results
        return {
            "source": entry.name,
            "mean_r": results["mean_abs_r"],
            "null_mean": results["null_mean"],
            "null_95": results["null_95"],
            "pairs": pairs,
        }
    command = ["lmri", "compare", str(reader.layout.root.resolve()), first.name, second.name, *reader.options]
    command += ["--site", first.site] if len(inventory.spaces) > 1 else []
    raise HTTPException(404, f"{first.name!r} and {second.name!r} were not compared. Run: {shlex.join(command)}")


# -- regions of interest ----------------------------------------------------------------------------------------------


def rois(reader: CachedReader, query: Query) -> list[dict[str, Any]]:
    """List the stored regions of interest of the model."""
    return [
        {"name": roi.name, "site": roi.site, "n_neurons": roi.n_neurons}
        for roi in regions.stored(reader.layout)
        if not roi.problem
    ]


def roi_img(reader: CachedReader, query: Query) -> bytes:
    """Return the stored image of a region of interest."""
    site, name = query.text("site"), query.text("name")
    for roi in regions.stored(reader.layout):
        if (roi.site, roi.name) == (site, name) and not roi.problem:
            return reader.inside(roi.path).read_bytes()
    raise HTTPException(404, f"There is no region of interest {name!r} at {site!r}.")


def save_roi(reader: CachedReader, body: bytes) -> dict[str, Any]:
    """Save neurons as a region of interest, and return the command that lesions it."""
    try:
        request = json.loads(body)
        site, name, neurons = request["site"], request["name"], request["neurons"]
        shown = [request[key] for key in ("root", "fingerprint", "geometry")]
        scope = request.get("scope", reader.layout.scope)
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        raise HTTPException(
            400,
            'The content is not {"site": ..., "name": ..., "neurons": [[layer, neuron], ...], "root": ..., '
            '"fingerprint": ..., "geometry": ...}, with the last three (and "scope", if it is there) from /api/study.',
        ) from None
    if not isinstance(site, str) or not isinstance(name, str) or not isinstance(neurons, list):
        raise HTTPException(400, "site and name must be text, and neurons a list of [layer, neuron].")
    inventory = reader.contents(now=True)
    space = inventory.spaces[one_of("site", site, inventory.spaces)]
    if scope != reader.layout.scope:
        raise HTTPException(
            409,
            f"The neurons were drawn on the model {scope!r}, and not on {reader.layout.scope!r}. Reload the page.",
        )
    # A page that was left open may show a different study from the one that is served now.
    root = reader.layout.root.resolve()
    if shown != [str(root), reader.study.model.fingerprint, storage.digest(space.to_dict())]:
        raise HTTPException(
            409,
            f"The neurons were drawn on a different study from {root}, or on a site that was recorded again since."
            " Reload the page.",
        )
    try:
        regions.check_label(storage.check_name(name))
        members = regions.members_of(space, neurons)
    except (ValueError, TypeError, IndexError) as error:
        raise HTTPException(400, str(error)) from error
    try:
        reader.inside(reader.layout.roi(site, name).parent)
        path = regions.save(reader.layout, space, name, members)
    except StudyError as error:  # the name is taken, or another region is being saved
        raise HTTPException(409, str(error)) from error
    command = ["lmri", "lesion", str(reader.layout.root.resolve()), *reader.options, "--roi", str(path.resolve())]
    return {
        "path": reader.layout.relative(path),
        "n_neurons": int(members.sum()),
        "command": shlex.join(command),
    }
