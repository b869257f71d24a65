"""Check that entries are up to date, by one rule for the study, the report and the viewer (decision 26)."""

from collections.abc import Iterable, Mapping
from typing import Any, Protocol

from lmri.exceptions import StudyError
from lmri.storage.entries import RECORDINGS, Codec, Entry, Reference, parse_address, stale

KINDS = {
    "corpora": RECORDINGS,
    "recordings": RECORDINGS,
    "decomposition": "decompositions",
    "decompositions": "decompositions",
    "networks": "networks",
    "comparison": "comparisons",
    "comparisons": "comparisons",
    "scores": "scores",
    "experiment": "experiments",
    "experiments": "experiments",
}
"""Inputs of an experiment that name parts of the study, and the kind of each."""

SHA = "_sha256"
"""Suffix of the input with the digest of the recording or entry that another input names."""


class Source(Protocol):
    """Interface for finding recordings and entries: a study, or a reader with a cache."""

    @property
    def codecs(self) -> Mapping[str, Codec[Any]]:
        """Codec of every kind of entry."""

    def find(self, kind: str, name: str, site: str) -> Entry:
        """Find one entry; `AmbiguousChoiceError` if there is none."""

    def recording_digest(self, corpus: str, site: str) -> str:
        """Return the hash of the inputs of a recording; `AmbiguousChoiceError` if there is no such recording."""

    def at(self, scope: str) -> "Source":
        """Return the source of another scope of the same study; an empty string is this scope."""


def check_fresh(source: Source, entry: Entry) -> None:
    """Raise if a recording or entry that an entry was computed from, directly or indirectly, has changed or is gone.

    Raises
    ------
    AmbiguousChoiceError
        If a recording or entry does not exist any more.
    StudyError
        If a recording or entry has changed; the message names it.
    """
    source = source.at(entry.scope)
    for reference in source.codecs[entry.kind].references(entry):
        if current_digest(source, reference.kind, reference.name, reference.site) != reference.digest:
            raise stale(entry, reference)


def current_digest(source: Source, kind: str, name: str, site: str) -> str:
    """Return the digest of a recording, or of an entry after checking that it is up to date itself."""
    scope, name, other_site = parse_address(name)
    source, site = source.at(scope), other_site or site
    if kind == RECORDINGS:
        return source.recording_digest(name, site)
    entry = source.find(kind, name, site)
    check_fresh(source, entry)
    return entry.digest


def references_by_name(inputs: Mapping[str, Any], site: str) -> list[Reference]:
    """List the references of inputs that name parts of the study, with the digests that are stored with them."""
    references = []
    for key, names in inputs.items():
        if key not in KINDS or key + SHA not in inputs:
            continue
        kind, known = KINDS[key], inputs[key + SHA]
        for address, sha in zip(names, known, strict=True) if isinstance(known, list) else [(names, known)]:
            scope, name, other_site = parse_address(address)
            references.append(Reference(kind, f"{scope}/{name}" if scope else name, other_site or site, sha))
    return references


def with_digests(source: Source, inputs: Mapping[str, Any], site: str, where: object) -> dict[str, Any]:
    """Add the digests of all recordings and entries that inputs name; other inputs are not changed.

    Parameters
    ----------
    source : Source
        Study, or a reader of it.
    inputs : mapping
        Inputs of an experiment; see `lmri.Study.experiment_inputs`.
    site : str
        Site of recordings and entries that are named without a site.
    where : object
        Description of the study, for messages.

    Raises
    ------
    StudyError
        If a digest is passed that differs from the current one, or if an entry is itself out of date.
    """
    completed: dict[str, Any] = {}
    for key, value in inputs.items():
        if key in KINDS and value is not None:
            completed[key] = value if isinstance(value, str) else list(value)
            completed[key + SHA] = _digests(source, KINDS[key], value, site)
        elif key.removesuffix(SHA) not in inputs or key.removesuffix(SHA) not in KINDS:
            completed[key] = value
    for key in set(completed) & set(inputs):
        if key.endswith(SHA) and inputs[key] != completed[key]:
            raise StudyError(
                f"The {key.removesuffix(SHA)} {inputs[key.removesuffix(SHA)]!r} in {where} changed after the "
                "experiment used them. Repeat the experiment with the current data."
            )
    return completed


def _digests(source: Source, kind: str, value: str | Iterable[str], site: str) -> str | list[str]:
    """Return the digest of one name, or the list of digests of a list of names."""
    if isinstance(value, str):
        return current_digest(source, kind, value, site)
    return [current_digest(source, kind, address, site) for address in value]


def scored_sets(scores: Entry, experiments: Iterable[Entry]) -> list[str]:
    """List the names of the network sets that scores belong to.

    Scores of an experiment, such as one with several doses, do not record the networks; the experiment does.

    Parameters
    ----------
    scores : Entry
        Entry of the scores.
    experiments : iterable of Entry
        Experiments of the same study.
    """
    if named := scores.inputs.get("networks"):
        return [str(named)]
    names: list[str] = []
    for experiment in experiments:
        if (experiment.site, experiment.inputs.get("scores")) == (scores.site, scores.name):
            networks = experiment.inputs.get("networks") or []
            names += [networks] if isinstance(networks, str) else networks
    return list(dict.fromkeys(names))
