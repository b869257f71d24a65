"""Outcomes of experiments as entries of a study."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lmri.exceptions import EntryExistsError, StudyError
from lmri.storage.entries import Codec, Entry, Reference
from lmri.storage.freshness import references_by_name, with_digests
from lmri.storage.outcome import Outcome
from lmri.storage.store import Store

EXPERIMENTS = "experiments"
"""Kind of the entries."""


class ExperimentsCodec(Codec[Outcome]):
    """Outcomes: text, tables and figures of experiments."""

    kind = EXPERIMENTS

    def references(self, entry: Entry) -> list[Reference]:
        """List every part of the study that the inputs name."""
        return references_by_name(entry.inputs, entry.site)

    def read(self, store: Store, entry: Entry) -> Outcome:
        """Read an outcome, after checking that none of its files has changed."""
        if damaged := entry.check_files():
            raise StudyError(damaged[0])
        return Outcome.read(store.file_of(entry))


EXPERIMENT_CODEC = ExperimentsCodec()


def save_experiment(
    store: Store, outcome: Outcome, name: str, site: str, inputs: Mapping[str, Any], parameters: Mapping[str, Any]
) -> Entry:
    """Store an outcome; see `lmri.Study.save_experiment`."""

    def write(folder: Path) -> None:
        outcome.save(store.file(site, name, folder))

    results = {"experiment": outcome.experiment, "title": outcome.title, "outcome_sha256": outcome.digest}
    all_inputs = with_digests(store, inputs, site, store.root)
    settings = {"experiment": outcome.experiment, **parameters}
    entry = store.entries.write(EXPERIMENTS, site, name, all_inputs, settings, results, write)
    if entry.results["outcome_sha256"] != outcome.digest:
        raise EntryExistsError(
            f"Experiment {name!r} ({site}) already exists with the same inputs and parameters, but its outcome is "
            f"different. Nothing was overwritten: choose another --name, or delete {entry.folder}."
        )
    return entry
