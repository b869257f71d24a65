"""Report page: the content of a study, formatted and rendered with the template."""

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup

from lmri import storage
from lmri.exceptions import StudyError
from lmri.networks import LOCALIZER
from lmri.report.environment import asset, encodable, environment
from lmri.report.methods import methods, site_words
from lmri.report.sections import networks, recorded, results
from lmri.report.sections.courses import token_data
from lmri.report.sections.stability import stability
from lmri.report.sections.summary import summary
from lmri.storage.entries import Entry
from lmri.storage.identifiers import GROUP
from lmri.storage.recording import volume_meaning
from lmri.storage.store import Store
from lmri.storage.tolerant import ReportReader

_GENERATOR = '<meta name="generator" content="lmri">'


def write_report(study: Store, path: Path) -> Path:
    """Write the report of a study as one self-contained file; all text in it is escaped.

    Missing or damaged parts, as in an incomplete study, are left out, and the page lists them.

    Parameters
    ----------
    study : Store
        Study to report.
    path : Path
        Path of the report; an existing report is replaced.

    Returns
    -------
    Path
        Path of the report.

    Raises
    ------
    StudyError
        If `path` exists and is not a report, or an entry of a complete study is out of date relative to its inputs.
    """
    if study.scope == GROUP:
        raise StudyError(
            "The group has no report of its own: its decompositions are listed in the overview of the study. Omit "
            "--subject, or choose one of its models."
        )
    if path.exists() and not is_report(path):
        raise StudyError(f"{path} exists and is not a report. Nothing was overwritten: choose another --out.")
    reader = ReportReader(study)
    content = _content(reader, path)
    reader.raise_if_stale()
    content["problems"] = reader.problems
    html = environment().get_template("report.html.j2").render(content)
    storage.write_text(path, encodable(html))
    return path


def _volume_is(reader: ReportReader) -> str:
    if not reader.recordings:
        return "a token"
    meaning = volume_meaning(reader.recordings) or "token, word or sentence, depending on the recording"
    return meaning if meaning.startswith("every") else f"a {meaning}"


def _content(reader: ReportReader, path: Path) -> dict[str, Any]:
    opened = networks.opened(reader)
    laid_out = networks.network_sets(opened)
    parts: dict[str, Sequence[Mapping[str, Any]]] = {
        "recordings": recorded.recordings(reader),
        "quality": recorded.quality(reader, path),
        "stability": stability(reader),
        "sets": [item for item in laid_out if item["method"] != LOCALIZER],
        "comparisons": results.comparisons(reader),
        "evaluations": results.evaluations(reader),
        "experiments": results.experiments(reader),
        "localizers": [item for item in laid_out if item["method"] == LOCALIZER],
    }
    tokens = token_data(reader.recordings) if laid_out else {}
    script = asset("report.js")
    return {
        **parts,
        "model": reader.study.model,
        "volume_is": _volume_is(reader),
        "summary": summary(reader, parts),
        "n_evaluations": len(parts["evaluations"]),
        "scores": [item for item in parts["evaluations"] if not item["is_written_up"]],
        "has_slices": any(item["slice"] == "slice" for item in parts["recordings"]),
        "sites": {item.space.site: site_words(item.space.site) for item in reader.recordings},
        "methods": methods(reader, parts["quality"]),
        "version": storage.versions()["lmri"],
        "version_groups": _by_versions([entry for kind in storage.ENTRY_KINDS for entry in reader.entries[kind]]),
        "has_tokens": tokens is not None,
        "data": embedded({"tokens": tokens or {}, "sets": {item["anchor"]: item["courses"] for item in laid_out}}),
        "style": asset("report.css"),
        "script": script,
        "script_hash": base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    }


def embedded(content: Any) -> Markup:
    r"""Return ASCII JSON that is safe to embed in a page: it cannot close a script or open a tag.

    Examples
    --------
    >>> print(embedded("</script>\u2028"))
    "\u003c/script\u003e\u2028"
    """
    text = json.dumps(content, separators=(",", ":"), allow_nan=False)
    for char in "<>&":
        text = text.replace(char, f"\\u{ord(char):04x}")
    return Markup(text)


def _by_versions(entries: Sequence[Entry]) -> list[tuple[list[tuple[str, str]], str]]:
    """Group entries by the software versions that computed them."""
    groups: dict[tuple[tuple[str, str], ...], list[str]] = {}
    for entry in entries:
        names = groups.setdefault(tuple(entry.versions.items()), [])
        name = f"{entry.name} at {entry.site}"
        if name not in names:
            names.append(name)
    return [(list(versions), ", ".join(names)) for versions, names in groups.items()]


def is_report(path: Path) -> bool:
    """Return whether a file is a report, which may be replaced."""
    if not path.is_file():
        return False
    with path.open("rb") as stream:
        return _GENERATOR.encode() in stream.read(1000)
