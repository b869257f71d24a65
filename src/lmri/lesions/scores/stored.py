"""Scores on disk: the writer, and the reader that gives back what was written."""

from collections.abc import Mapping
from typing import Any

from lmri import storage
from lmri.lesions.scores.scores import CONDITION_TEXT, ITEM_TEXT, Design, Scores, TaskInfo
from lmri.space import ModelInfo
from lmri.storage.entries import File


def write_scores(file: File, scores: Scores) -> None:
    """Write items, conditions, the summary made of them, and label counts if there are labels."""
    storage.write_table(file("items.tsv.gz"), scores.items)
    storage.write_table(file("conditions.tsv"), scores.conditions)
    storage.write_table(file("scores.tsv"), scores.summary())
    if len(labels := scores.label_counts()):
        storage.write_table(file("labels.tsv"), labels)


def read_scores(file: File, info: Mapping[str, Any], seed: int) -> Scores:
    """Read items and conditions; the summary is made of them again."""
    model = ModelInfo(**info["model"]) if info["model"] else None
    items = storage.read_table(file("items.tsv.gz"), ITEM_TEXT)
    conditions = storage.read_table(file("conditions.tsv"), CONDITION_TEXT)
    design = Design(**info.get("design", {}))
    return Scores(items, conditions, [TaskInfo(**task) for task in info["tasks"]], seed, model, design=design)
