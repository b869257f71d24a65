"""The summary: what was recorded and what was found, in plain sentences and a few numbers."""

from collections.abc import Mapping, Sequence
from typing import Any

from lmri.report.environment import number, plural
from lmri.report.wording import INTERVENTIONS
from lmri.storage.recording import volume_unit
from lmri.storage.tolerant import ReportReader

Section = Sequence[Mapping[str, Any]]

MOST_SENTENCES = 12
"""More sets, comparisons or evaluations than this are counted, and told where they stand."""


def summary(reader: ReportReader, parts: Mapping[str, Section]) -> dict[str, Any]:
    """Sum up the report.

    Parameters
    ----------
    reader : ReportReader
        The study.
    parts : mapping of str to sequence of mapping
        What the sections show: ``recordings, quality, sets, localizers, comparisons, evaluations, experiments``.

    Returns
    -------
    dict
        ``tiles`` (a number and what it is), ``found`` (sentences, with the anchor of what they sum up), ``missing``
        (what was not done).
    """
    found = [
        *_of(parts["quality"], _quality, "quality"),
        *_of(parts["sets"], _networks, "sets of networks"),
        *_of(parts["comparisons"], _comparison, "comparisons"),
        *_of(parts["evaluations"], _evaluation, "evaluations"),
        *_of(parts["experiments"], lambda one: f"{one['title']}.", "experiments"),
        *_of(parts["localizers"], _networks, "localizers"),
    ]
    return {"tiles": _tiles(reader, parts), "found": found, "missing": _missing(reader, parts)}


def _of(section: Section, sentence: Any, what: str) -> list[tuple[str, str, str]]:
    """Make a sentence of each, and one of all that are too many: anchor, name and words."""
    found = [(one.get("anchor", "quality"), one.get("name", ""), sentence(one)) for one in section]
    found = [one for one in found if one[2]]
    if len(found) > MOST_SENTENCES:
        rest = f"{len(found) - MOST_SENTENCES:,} more {what} stand below."
        found = [*found[:MOST_SENTENCES], ("", "", rest)]
    return found


def _tiles(reader: ReportReader, parts: Mapping[str, Section]) -> list[tuple[str, str]]:
    """Give the numbers of the heading."""
    recordings, sets = parts["recordings"], parts["sets"]
    corpora = {one["corpus"]: one for one in recordings}
    sites = {one["site"]: one for one in recordings}
    tiles = [
        (number(sum(one["n_fit"] for one in corpora.values())), "texts in the images"),
        (number(sum(one["n_volumes"] for one in corpora.values())), _volumes(reader)),
    ]
    tiles += [(number(one["n_neurons"]), f"neurons at {site}") for site, one in list(sites.items())[:3]]
    if sets:
        n, n_empty = (sum(one[key] for one in sets) for key in ("n_networks", "n_empty"))
        tiles.append((f"{n - n_empty:,} of {n:,}", "networks are not empty"))
    tested = sum(one["n_tested"] for one in parts["evaluations"])
    if tested:
        able = [one for one in parts["evaluations"] if one["n_tested"] and not one["too_few"]]
        n_able = sum(one["n_tested"] for one in able)
        if n_able:
            tiles.append((f"{sum(one['n_q'] for one in able):,} of {n_able:,}", "tests have q ≤ 0.05"))
        if n_able < tested:
            tiles.append((f"{tested - n_able:,}", "tests have too few controls for a q ≤ 0.05 of one alone"))
    return tiles


def _volumes(reader: ReportReader) -> str:
    units = volume_unit(reader.recordings)[1]
    return "volumes" if units == "volumes" else f"volumes ({units})"


def _quality(one: Mapping[str, Any]) -> str:
    if not one["tables"]:
        return ""
    looks = [row["topic"] for row in one["findings"] if row["status"] == "look"]
    asks = f"look at {', '.join(looks)}" if looks else "nothing asks you to look"
    return f"Quality of {one['corpus']} at {one['site']}: {asks}."


def _networks(one: Mapping[str, Any]) -> str:
    n, filled = one["n_networks"], one["n_networks"] - one["n_empty"]
    start = f"{one['name']} at {one['site']}: "
    limit = _limit(one)
    if one["method"] == "localizer":
        size = f"{one['median_size']:,.0f} neurons" if filled else "no neuron"
        return f"{start}{size} of the contrast {one['parameters']['contrast']} {limit}."
    share = one["results"].get("variance_explained_together")
    explained = "" if share is None else f" explain{'s' if n == 1 else ''} {100 * share:.1f} % of the variance"
    found = "none has neurons" if not filled else f"{filled} {'has' if filled == 1 else 'have'} neurons"
    median = f", {one['median_size']:,.0f} in the median" if filled else ""
    iq = "" if one["iq"] is None or number(one["iq"]) == "–" else f"; median Iq {one['iq']:.2f}"
    return f"{start}{plural(n, 'map')}{explained}; {found} {limit}{median}{iq}."


def _limit(one: Mapping[str, Any]) -> str:
    """Say beyond or at which threshold neurons were found."""
    at, limit = one["limit"]
    side = " on either side" if one["threshold"] in ("z", "robust_z") else ""
    return f"{'beyond' if at == 'by' else at} {limit}{side}"


def _comparison(one: Mapping[str, Any]) -> str:
    if one["kind"] == "consensus":
        return (
            f"{', '.join(one['names'])} at {one['site']}: {plural(one['n_networks'], 'network')} found by two or more, "
            f"{one['n_found_by_all']} by all."
        )
    at = f" at {one['site']}" if one["kind"] == "maps" else ""
    return (
        f"{one['first']} and {one['second']}{at}: {one['n_above']} of {len(one['rows'])} matched pairs exceed their "
        f"null; mean |r| {number(one['mean_r'], 2)}, null {number(one['null_95'], 2)} at most in 95 %."
    )


def _evaluation(one: Mapping[str, Any]) -> str:
    what = INTERVENTIONS.get(one["intervention"], one["intervention"])
    start = f"{one['name']} at {one['site']}: {what} of {one['networks']}, "
    conditions = plural(one["n_conditions"], "condition")
    if not one["n_tested"]:
        return f"{start}{conditions}, without matched controls."
    if one["floor_too_high"]:
        return (
            f"{start}{conditions}; with {plural(one['n_controls'], 'control')} nothing can be significant "
            f"(the smallest possible p is {number(one['p_floor'])})."
        )
    if one["too_few"]:
        return (
            f"{start}{conditions}; {one['n_q']} of {one['n_tested']} tests have q ≤ 0.05, which with so few controls "
            f"no single one could have (that takes {number(one['controls_needed'])})."
        )
    return f"{start}{conditions}; {one['n_q']} of {one['n_tested']} tests beside matched controls have q ≤ 0.05."


def _missing(reader: ReportReader, parts: Mapping[str, Section]) -> list[str]:
    """Say what a reader could miss, and how it is made."""
    found = []
    if reader.unfinished:
        names = ", ".join(reader.unfinished)
        found.append(f"A recording was begun and is not finished ({names}): it is in no part of this report.")
    steps = {
        "recordings": "Nothing is recorded: lmri record MODEL TEXTS --out STUDY.",
        "sets": "There are no networks: lmri decompose STUDY.",
        "comparisons": "No methods were compared: lmri compare STUDY FIRST SECOND.",
        "evaluations": "Nothing was lesioned, so nothing is known of what networks do: lmri lesion STUDY.",
    }
    return found + [words for part, words in steps.items() if not parts[part]]
