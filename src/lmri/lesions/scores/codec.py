"""Storage of scores as entries of a study."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from lmri import storage
from lmri.lesions.scores.columns import CONDITION_TEXT, ITEM_TEXT
from lmri.lesions.scores.design import Design, TaskInfo
from lmri.lesions.scores.scores import Scores
from lmri.networks.codec import NETWORKS
from lmri.space import ModelInfo
from lmri.storage.entries import Codec, Entry, File, Reference
from lmri.storage.store import Store

SCORES = "scores"
"""Kind of the entries."""


def write_scores(file: File, scores: Scores) -> None:
    """Write items, conditions, their summary and, if there are labels, label counts."""
    storage.write_table(file("items.tsv.gz"), scores.items)
    storage.write_table(file("conditions.tsv"), scores.conditions)
    storage.write_table(file("scores.tsv"), scores.summary())
    if len(labels := scores.label_counts()):
        storage.write_table(file("labels.tsv"), labels)


def read_scores(file: File, info: Mapping[str, Any], seed: int) -> Scores:
    """Read items and conditions; the summary is recomputed."""
    model = ModelInfo(**info["model"]) if info["model"] else None
    items = storage.read_table(file("items.tsv.gz"), ITEM_TEXT)
    conditions = storage.read_table(file("conditions.tsv"), CONDITION_TEXT)
    design = Design(**info.get("design", {}))
    return Scores(items, conditions, [TaskInfo(**task) for task in info["tasks"]], seed, model, design=design)


class ScoresCodec(Codec[Scores]):
    """Evaluations: items and conditions; the summary is computed from them."""

    kind = SCORES

    def references(self, entry: Entry) -> list[Reference]:
        """List the network set, if a stored one was evaluated."""
        if "networks" not in entry.inputs:
            return []
        return [Reference(NETWORKS, str(entry.inputs["networks"]), entry.site, str(entry.inputs["networks_sha256"]))]

    def read(self, store: Store, entry: Entry) -> Scores:
        """Read items and conditions."""
        return read_scores(store.file_of(entry), entry.results, entry.parameters["seed"])


SCORES_CODEC = ScoresCodec()


def scores_inputs(store: Store, networks: str | None, site: str, made_of: Mapping[str, Any]) -> dict[str, Any]:
    """Return the inputs of an evaluation: stored networks, if any, and what its `Scores` were computed from."""
    if networks is None:
        return dict(made_of)
    return {"networks": networks, "networks_sha256": store.find(NETWORKS, networks, site).digest, **made_of}


def save_scores(
    store: Store,
    scores: Scores,
    name: str,
    site: str,
    networks: str | None = None,
    parameters: Mapping[str, Any] | None = None,
) -> Entry:
    """Store an evaluation; see `lmri.Study.save_scores`."""

    def write(folder: Path) -> None:
        write_scores(store.file(site, name, folder), scores)

    results = {
        "tasks": [asdict(task) for task in scores.tasks],
        "model": asdict(scores.model) if scores.model else None,
        "p_floor": scores.p_floor,
        "design": asdict(scores.design),
    }
    inputs = scores_inputs(store, networks, site, scores.made_of)
    shown = {**(parameters or {}), "seed": scores.seed}
    return store.entries.write(SCORES, site, name, inputs, shown, results, write)
