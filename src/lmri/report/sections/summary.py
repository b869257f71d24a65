"""Summary section: recordings and results in short sentences and a few numbers."""

from collections.abc import Mapping, Sequence
from typing import Any

from lmri.report.environment import number, plural
from lmri.report.wording import INTERVENTIONS
from lmri.storage.recording import volume_unit
from lmri.storage.tolerant import ReportReader

Section = Sequence[Mapping[str, Any]]

MOST_SENTENCES = 12
"""Maximum number of sentences per section; the remaining entries are only counted."""


def summary(reader: ReportReader, parts: Mapping[str, Section]) -> dict[str, Any]:
    """Summarize the report.

    Parameters
    ----------
    reader : ReportReader
        The study.
    parts : mapping of str to sequence of mapping
        Content of the sections: ``recordings, quality, sets, localizers, comparisons, evaluations, experiments``.

    Returns
    -------
    dict
        ``tiles`` (number and caption), ``found`` (anchor, name and sentence of each result), ``missing`` (sentences on
        analyses that were not run).
    """
    results = [
        *_of(parts["quality"], _quality, "quality"),
        *_of(parts["sets"], _networks, "sets of networks"),
        *_of(parts["comparisons"], _comparison, "comparisons"),
        *_of(parts["evaluations"], _evaluation, "evaluations"),
        *_of(parts["experiments"], lambda experiment: f"{experiment['title']}.", "experiments"),
        *_of(parts["localizers"], _networks, "localizers"),
    ]
    return {"tiles": _tiles(reader, parts), "found": results, "missing": _missing(reader, parts)}


def _of(section: Section, sentence: Any, what: str) -> list[tuple[str, str, str]]:
    """List anchor, name and sentence of each entry; entries beyond the maximum are only counted."""
    sentences = [(entry.get("anchor", "quality"), entry.get("name", ""), sentence(entry)) for entry in section]
    sentences = [entry for entry in sentences if entry[2]]
    if len(sentences) > MOST_SENTENCES:
        rest = f"{len(sentences) - MOST_SENTENCES:,} more {what} below."
        sentences = [*sentences[:MOST_SENTENCES], ("", "", rest)]
    return sentences


def _tiles(reader: ReportReader, parts: Mapping[str, Section]) -> list[tuple[str, str]]:
    """List the headline numbers with their captions."""
    recordings, sets = parts["recordings"], parts["sets"]
    corpora = {recording["corpus"]: recording for recording in recordings}
    sites = {recording["site"]: recording for recording in recordings}
    tiles = [
        (number(sum(recording["n_fit"] for recording in corpora.values())), "texts in the images"),
        (number(sum(recording["n_volumes"] for recording in corpora.values())), _volumes(reader)),
    ]
    tiles += [(number(recording["n_neurons"]), f"neurons at {site}") for site, recording in list(sites.items())[:3]]
    if sets:
        n, n_empty = (sum(networks[key] for networks in sets) for key in ("n_networks", "n_empty"))
        tiles.append((f"{n - n_empty:,} of {n:,}", "networks non-empty"))
    tested = sum(evaluation["n_tested"] for evaluation in parts["evaluations"])
    if tested:
        able = [
            evaluation for evaluation in parts["evaluations"] if evaluation["n_tested"] and not evaluation["too_few"]
        ]
        n_able = sum(evaluation["n_tested"] for evaluation in able)
        if n_able:
            n_reached = sum(evaluation["n_q"] for evaluation in able)
            tiles.append((f"{n_reached:,} of {n_able:,}", "tests with q ≤ 0.05"))
        if n_able < tested:
            tiles.append((f"{tested - n_able:,}", "tests with too few controls for a single q ≤ 0.05"))
    return tiles


def _volumes(reader: ReportReader) -> str:
    units = volume_unit(reader.recordings)[1]
    return "volumes" if units == "volumes" else f"volumes ({units})"


def _quality(recording: Mapping[str, Any]) -> str:
    if not recording["tables"]:
        return ""
    looks = [row["topic"] for row in recording["findings"] if row["status"] == "look"]
    flags = f"inspect {', '.join(looks)}" if looks else "no flags"
    return f"Quality control, {recording['corpus']} ({recording['site']}): {flags}."


def _networks(networks: Mapping[str, Any]) -> str:
    n, filled = networks["n_networks"], networks["n_networks"] - networks["n_empty"]
    start = f"{networks['name']} at {networks['site']}: "
    limit = _limit(networks)
    if networks["method"] == "localizer":
        size = f"{networks['median_size']:,.0f} neurons" if filled else "no neuron"
        return f"{start}contrast {networks['parameters']['contrast']}, {size} {limit}."
    share = networks["results"].get("variance_explained_together")
    explained = "" if share is None else f" explain{'s' if n == 1 else ''} {100 * share:.1f} % of the variance"
    median = f" (median {networks['median_size']:,.0f} neurons)" if filled else ""
    iq = "" if networks["iq"] is None or number(networks["iq"]) == "–" else f"; median Iq {networks['iq']:.2f}"
    return (
        f"{start}{plural(n, 'map')}{explained}; {filled} of {plural(n, 'network')} non-empty{median} {limit}{iq}"
        f"{_failed_initializations(networks)}."
    )


def _failed_initializations(networks: Mapping[str, Any]) -> str:
    """Return how many initializations converged if some did not, else an empty string."""
    convergence = networks["results"].get("convergence") or {}
    n, n_starts = convergence.get("n_converged", 0), convergence.get("n_starts", 0)
    return f"; {n} of {plural(n_starts, 'initialization')} converged" if n < n_starts else ""


def _limit(networks: Mapping[str, Any]) -> str:
    """Describe the threshold of a set of networks."""
    statistic = {"z": "|z|", "z_positive": "z", "robust_z": "robust |z|"}.get(networks["threshold"])
    if statistic and networks["cutoff"] is not None:
        return f"at {statistic} > {networks['cutoff']:g}"
    at, limit = networks["limit"]
    return f"{'thresholded by' if at == 'by' else at} {limit}"


def _comparison(comparison: Mapping[str, Any]) -> str:
    if comparison["kind"] == "consensus":
        return (
            f"{', '.join(comparison['names'])} at {comparison['site']}: {plural(comparison['n_networks'], 'network')} "
            f"found by two or more, {comparison['n_found_by_all']} by all."
        )
    at = f" at {comparison['site']}" if comparison["kind"] == "maps" else ""
    return (
        f"{comparison['first']} and {comparison['second']}{at}: "
        f"{comparison['n_above']} of {len(comparison['rows'])} matched pairs exceed their null; "
        f"mean |r| = {number(comparison['mean_r'], 2)} (null, 95th percentile: {number(comparison['null_95'], 2)})."
    )


def _evaluation(evaluation: Mapping[str, Any]) -> str:
    action = INTERVENTIONS.get(evaluation["intervention"], evaluation["intervention"])
    start = f"{evaluation['name']} at {evaluation['site']}: {action} of {evaluation['networks']}, "
    conditions = plural(evaluation["n_conditions"], "condition")
    if not evaluation["n_tested"]:
        return f"{start}{conditions}, without matched controls."
    if evaluation["floor_too_high"]:
        return (
            f"{start}{conditions}; with {plural(evaluation['n_controls'], 'control')} no test can be significant "
            f"(the smallest possible p is {number(evaluation['p_floor'])})."
        )
    reached = f"{evaluation['n_q']} of {evaluation['n_tested']} tests reached q ≤ 0.05"
    if evaluation["too_few"]:
        return (
            f"{start}{conditions}; {reached}. With this number of controls a single test cannot; at least "
            f"{number(evaluation['controls_needed'])} are needed."
        )
    return f"{start}{conditions}; {reached} relative to matched controls."


def _missing(reader: ReportReader, parts: Mapping[str, Section]) -> list[str]:
    """List the analyses that were not run, each with the command that runs it."""
    sentences = []
    if reader.unfinished:
        names = ", ".join(reader.unfinished)
        sentences.append(f"Unfinished recordings are not included in this report: {names}.")
    steps = {
        "recordings": "There are no recordings: lmri record MODEL TEXTS --out STUDY.",
        "sets": "There are no networks: lmri decompose STUDY.",
        "comparisons": "Methods were not compared: lmri compare STUDY FIRST SECOND.",
        "evaluations": "No network was lesioned, so the function of the networks is unknown: lmri lesion STUDY.",
    }
    return sentences + [words for part, words in steps.items() if not parts[part]]
