"""The one rule by which an entry is out of date, for the study, the report and the viewer (decision 26)."""

from collections.abc import Iterable, Mapping
from typing import Any, Protocol

from lmri.exceptions import StudyError
from lmri.storage.entries import RECORDINGS, Codec, Entry, Reference, stale

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
"""Suffix of the input that holds the digest of what another input names."""


class Source(Protocol):
    """Finds recordings and entries: a study, or a reader that remembers what it has read."""

    @property
    def codecs(self) -> Mapping[str, Codec[Any]]:
        """The codec of every kind of entry."""

    def find(self, kind: str, name: str, site: str) -> Entry:
        """Find one entry; `AmbiguousChoiceError` if there is none."""

    def recording_digest(self, corpus: str, site: str) -> str:
        """Return the hash of what a recording is a function of; `AmbiguousChoiceError` if there is none."""


def check_fresh(source: Source, entry: Entry) -> None:
    """Refuse an entry if anything that it was computed from, directly or not, has changed since or is gone.

    Raises
    ------
    AmbiguousChoiceError
        If something is gone.
    StudyError
        If something has changed, naming it.
    """
    for reference in source.codecs[entry.kind].references(entry):
        if current_digest(source, reference.kind, reference.name, reference.site) != reference.digest:
            raise stale(entry, reference)


def current_digest(source: Source, kind: str, name: str, site: str) -> str:
    """Return the digest of a recording or of an entry that is up to date itself."""
    if kind == RECORDINGS:
        return source.recording_digest(name, site)
    entry = source.find(kind, name, site)
    check_fresh(source, entry)
    return entry.digest


def references_by_name(inputs: Mapping[str, Any], site: str) -> list[Reference]:
    """List the references of inputs that name parts of the study, with the digests that stand next to them."""
    found = []
    for key, names in inputs.items():
        if key not in KINDS or key + SHA not in inputs:
            continue
        kind, known = KINDS[key], inputs[key + SHA]
        for one, sha in zip(names, known, strict=True) if isinstance(known, list) else [(names, known)]:
            name, _, at = one.partition("@")
            found.append(Reference(kind, name, at or site, sha))
    return found


def with_digests(source: Source, inputs: Mapping[str, Any], site: str, where: object) -> dict[str, Any]:
    """Add the digest of everything that inputs name; inputs that name no part of the study stay as they are.

    Parameters
    ----------
    source : Source
        The study.
    inputs : mapping
        See `lmri.Study.experiment_inputs`.
    site : str
        Site of what is named without one.
    where : object
        The study, for messages.

    Raises
    ------
    StudyError
        If something is named with another digest than it has now, or is itself out of date.
    """
    found: dict[str, Any] = {}
    for key, value in inputs.items():
        if key in KINDS and value is not None:
            found[key] = value if isinstance(value, str) else list(value)
            found[key + SHA] = _digests(source, KINDS[key], value, site)
        elif key.removesuffix(SHA) not in inputs or key.removesuffix(SHA) not in KINDS:
            found[key] = value
    for key in set(found) & set(inputs):
        if key.endswith(SHA) and inputs[key] != found[key]:
            raise StudyError(
                f"The {key.removesuffix(SHA)} {inputs[key.removesuffix(SHA)]!r} in {where} are not the ones that "
                "the experiment was made of. Do it again with what is there now."
            )
    return found


def _digests(source: Source, kind: str, value: Any, site: str) -> Any:
    """Return the digest of one name, or a list of digests of a list of names."""
    if isinstance(value, str):
        name, _, at = value.partition("@")
        return current_digest(source, kind, name, at or site)
    return [_digests(source, kind, one, site) for one in value]


def scored_sets(scores: Entry, experiments: Iterable[Entry]) -> list[str]:
    """Name the network sets that scores are of; scores of an experiment, such as of several doses, do not say it.

    Parameters
    ----------
    scores : Entry
        The scores.
    experiments : iterable of Entry
        Experiments of the same study.
    """
    if named := scores.inputs.get("networks"):
        return [str(named)]
    found: list[str] = []
    for one in experiments:
        if (one.site, one.inputs.get("scores")) == (scores.site, scores.name):
            networks = one.inputs.get("networks") or []
            found += [networks] if isinstance(networks, str) else networks
    return list(dict.fromkeys(found))
