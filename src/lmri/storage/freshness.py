"""Experiments in a study: outcomes, what they were made of, and whether that is still there."""

from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lmri.exceptions import EntryExistsError, StudyError
from lmri.storage.bids import recording_digest
from lmri.storage.entries import Entry, stale
from lmri.storage.outcome import Outcome

if TYPE_CHECKING:
    from lmri.storage.store import Store

KINDS = {
    "corpora": "recordings",
    "recordings": "recordings",
    "decomposition": "decompositions",
    "decompositions": "decompositions",
    "networks": "networks",
    "comparison": "comparisons",
    "comparisons": "comparisons",
    "scores": "scores",
    "experiment": "experiments",
    "experiments": "experiments",
}
"""Inputs that name things of the study, and what these are."""

SHA = "_sha256"


def scored_sets(scores: Entry, experiments: Iterable[Entry]) -> list[str]:
    """Name the sets of networks that scores are of; those of an experiment, such as of several doses, do not say it.

    Parameters
    ----------
    scores : Entry
        The scores.
    experiments : iterable of Entry
        Of their study.
    """
    if named := scores.info["inputs"].get("networks"):
        return [str(named)]
    found: list[str] = []
    for one in experiments:
        inputs = one.info["inputs"]
        if (one.site, inputs.get("scores")) == (scores.site, scores.name):
            networks = inputs.get("networks") or []
            found += [networks] if isinstance(networks, str) else networks
    return list(dict.fromkeys(found))


def with_digests(study: "Store", inputs: Mapping[str, Any], site: str) -> dict[str, Any]:
    """Put the digest of what an input names beside it; inputs that name nothing of the study stay as they are.

    Raises
    ------
    StudyError
        If something is named with another digest than it has now, or was itself made of what is no longer there.
    """
    found: dict[str, Any] = {}
    for key, value in inputs.items():
        if key in KINDS and value is not None:
            found[key] = value if isinstance(value, str) else list(value)
            found[key + SHA] = digests(study, key, value, site)
        elif key.removesuffix(SHA) not in inputs or key.removesuffix(SHA) not in KINDS:
            found[key] = value
    for key in set(found) & set(inputs):
        if key.endswith(SHA) and inputs[key] != found[key]:
            raise StudyError(
                f"The {key.removesuffix(SHA)} {inputs[key.removesuffix(SHA)]!r} in {study.root} are not the ones that "
                "the experiment was made of. Do it again with what is there now."
            )
    return found


def digests(study: "Store", key: str, value: Any, site: str) -> Any:
    """Hash what an input names, in the same shape: one digest of a name, a list of a list."""
    if isinstance(value, str):
        name, _, at = value.partition("@")
        return _fresh_digest(study, KINDS[key], name, at or site)
    return [digests(study, key, one, site) for one in value]


def _fresh_digest(study: "Store", kind: str, name: str, site: str) -> str:
    if kind == "recordings":
        return recording_digest(study.recording(name, site))
    entry = study.entries.find(kind, name, site)
    check_fresh(study, entry)
    return entry.digest


def check_fresh(study: "Store", entry: Entry) -> None:
    """Refuse an entry if something that it was made of, however long ago, was replaced since.

    Raises
    ------
    StudyError
        Naming what.
    """
    inputs = entry.info["inputs"]
    if entry.kind == "decompositions":
        named = [("recordings", inputs["corpora"], inputs["recordings_sha256"])]
    elif entry.kind == "comparisons":
        named = _compared(inputs, entry.site)
    else:
        named = [(KINDS[key], inputs[key], inputs[key + SHA]) for key in inputs if key in KINDS and key + SHA in inputs]
    for kind, names, known in named:
        several = zip(names, known, strict=True) if isinstance(known, list) else [(names, known)]
        for one, sha in several:
            name, _, at = one.partition("@")
            if _fresh_digest(study, kind, name, at or entry.site) != sha:
                raise stale(entry, f"{kind} {name!r}")


def _compared(inputs: Mapping[str, Any], site: str) -> list[tuple[str, Any, Any]]:
    if "sets" in inputs:
        return [("networks", inputs["sets"], inputs["sets_sha256"])]
    other = f"{inputs['second']}@{inputs.get('second_site', site)}"
    return [("networks", [inputs["first"], other], [inputs["first_sha256"], inputs["second_sha256"]])]


def save(
    study: "Store", outcome: Outcome, name: str, site: str, inputs: Mapping[str, Any], parameters: Mapping[str, Any]
) -> Entry:
    """Store an outcome; see `Study.save_experiment`."""

    def write(folder: Path) -> None:
        outcome.save(partial(study.layout.in_entry, folder, study.subject, site, name))

    found = {"experiment": outcome.experiment, "title": outcome.title, "outcome_sha256": outcome.digest}
    made_of = with_digests(study, inputs, site)
    given = {"experiment": outcome.experiment, **parameters}
    entry = study.entries.write("experiments", site, name, made_of, given, found, write)
    if entry.info["results"]["outcome_sha256"] != outcome.digest:
        raise EntryExistsError(
            f"{name!r} exists among the experiments at {site} in {study.root}, was made of the same things in the same "
            f"way, and says something else. Nothing is overwritten: choose another --name, or delete {entry.folder}."
        )
    return entry


def read(study: "Store", name: str | None, site: str | None) -> Outcome:
    """Open an outcome; see `Study.experiment`."""
    entry = study.entries.find("experiments", name, site)
    check_fresh(study, entry)
    if damaged := entry.check_files():
        raise StudyError(damaged[0])
    return Outcome.read(partial(study.layout.in_entry, entry.folder, study.subject, entry.site, entry.name))
