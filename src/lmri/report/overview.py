"""Overview of a study of several models: one row per model, with a link to its report, and the results of the group."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lmri import storage
from lmri.exceptions import StudyError
from lmri.networks.codec import DECOMPOSITIONS, NETWORKS, DecompositionInputs
from lmri.report.environment import asset, encodable, environment
from lmri.report.page import is_report, write_report
from lmri.storage.entries import Entry, parse_address
from lmri.storage.identifiers import GROUP
from lmri.storage.store import Store
from lmri.storage.subjects import COLUMNS
from lmri.storage.tolerant import ReportReader


def write_reports(studies: Sequence[Store]) -> list[Path]:
    """Write the report of each model of a study, and an overview that links them.

    Parameters
    ----------
    studies : sequence of Store
        All models of a study and, if there is one, its group.

    Returns
    -------
    list of Path
        The overview, ``report.html``, and the reports ``report-SCOPE.html`` of the models.

    Raises
    ------
    StudyError
        If a file exists and is not a report, or an entry of a complete model is out of date.
    """
    overview = studies[0].layout.report
    if overview.exists() and not is_report(overview):
        raise StudyError(f"{overview} exists and is not a report. Nothing was overwritten: move it.")
    of_models = [study for study in studies if study.scope != GROUP]
    paths = [write_report(study, study.layout.scope_report) for study in of_models]
    content = {
        "models": [_model(study, path) for study, path in zip(of_models, paths, strict=True)],
        "added": _added_columns(of_models[0]),
        "corpora": _corpora(of_models),
        "group": [_group(study) for study in studies if study.scope == GROUP],
        "version": storage.versions()["lmri"],
        "style": asset("report.css"),
    }
    html = environment().get_template("overview.html.j2").render(content)
    storage.write_text(overview, encodable(html))
    return [overview, *paths]


def _model(study: Store, path: Path) -> dict[str, Any]:
    """Return the row of a model."""
    reader = ReportReader(study)
    spaces = reader.inventory.spaces
    return {
        "scope": study.scope,
        "href": path.name,
        "model": study.model,
        "sites": [space.describe() for _, space in sorted(spaces.items())],
        "n_volumes": sum(recording.n_volumes for recording in reader.recordings),
        "counts": {kind: len(entries) for kind, entries in reader.entries.items()},
        "problems": len(reader.problems),
    }


def _added_columns(study: Store) -> dict[str, Any]:
    """Return the columns that users added to the table of participants, by scope."""
    table = study.subjects
    names = [name for name in table.columns if name not in ("scope", "subject", "session")]
    added = [name for name in names if name not in COLUMNS]
    return {"names": added, "rows": {row["scope"]: [row[name] for name in added] for row in table.to_dict("records")}}


def _corpora(studies: Sequence[Store]) -> dict[str, Any]:
    """Return the numbers of volumes of each corpus at each site, by model."""
    cells: dict[tuple[str, str], dict[str, int]] = {}
    for study in studies:
        for recording in ReportReader(study).recordings:
            cells.setdefault((recording.corpus, recording.space.site), {})[study.scope] = recording.n_volumes
    scopes = [study.scope for study in studies]
    rows = [(corpus, site, [row.get(scope) for scope in scopes]) for (corpus, site), row in sorted(cells.items())]
    return {"scopes": scopes, "rows": rows}


def _group(study: Store) -> dict[str, Any]:
    """Return the decompositions of the group, with their models and networks."""
    reader = ReportReader(study)
    networks = reader.entries[NETWORKS]
    return {
        "decompositions": [_decomposition(entry, networks) for entry in reader.entries[DECOMPOSITIONS]],
        "problems": reader.problems,
    }


def _decomposition(entry: Entry, networks: Sequence[Entry]) -> dict[str, Any]:
    addresses = [parse_address(address) for address in DecompositionInputs.of(entry).corpora]
    thresholded = [
        item for item in networks if item.site == entry.site and item.inputs.get("decomposition") == entry.name
    ]
    return {
        "name": entry.name,
        "site": entry.site,
        "method": entry.parameters.get("method", ""),
        "models": list(dict.fromkeys(scope for scope, _, _ in addresses)),
        "corpora": list(dict.fromkeys(corpus for _, corpus, _ in addresses)),
        "n_volumes": entry.results.get("n_volumes"),
        "convergence": entry.results.get("convergence", {}),
        "networks": [
            (item.name, item.parameters.get("description", ""), item.results["n_networks"], item.results["n_empty"])
            for item in thresholded
        ],
    }
