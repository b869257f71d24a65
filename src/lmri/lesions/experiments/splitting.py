"""Tasks in splits: the best dose is chosen on one split and reported on the other."""

import warnings
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from lmri.exceptions import DataWarning
from lmri.lesions.tasks.requested import TaskOptions
from lmri.storage import text_hash
from lmri.storage.splits import SPLITS, split_clusters
from lmri.storage.store import Store

if TYPE_CHECKING:
    from lmri.lesions.tasks.base import Task


def split_tasks(store: Store, options: TaskOptions, splits: Sequence[str]) -> "list[Task]":
    """Build the requested tasks once per split, each named after its split.

    Named tasks have splits; texts of perplexity tasks and classification files are all held out already, and are halved
    into *select* and *test* by a hash.

    Parameters
    ----------
    store : Store
        Study whose fitted texts may not be scored.
    options : TaskOptions
        Tasks; their split is replaced.
    splits : sequence of str
        Splits, without repetition.

    Raises
    ------
    ValueError
        If a split is unknown or repeated, or a task cannot be split.
    """
    if len(set(splits)) < len(splits) or not set(splits) <= set(SPLITS):
        raise ValueError(f"--split is {', '.join(splits)}; choose from {', '.join(SPLITS)}; do not repeat one.")
    return [_of_split(task, split) for split in splits for task in replace(options, split=split).build(store)]


def _of_split(task: "Task", split: str) -> "Task":
    from lmri.lesions.tasks import Classification, Perplexity

    name, note = f"{task.info.name}-{split}", task.info.note
    if task.info.split == split:
        task.info = replace(task.info, name=name)
        return task
    if split == "fit":
        raise ValueError(
            f"--split is fit, but all items of {task.info.name!r} are held out, so it has only select and test. Give "
            "one of these, or both."
        )
    if isinstance(task, Perplexity):
        assigned = _halved([text_hash(text) for text in task.texts], task.texts, task.info.name)
        texts = [text for text, assigned_split in zip(task.texts, assigned, strict=True) if assigned_split == split]
        return Perplexity(texts, name, task.batch_size, split=split, note=note)
    if isinstance(task, Classification):
        assigned = _halved(task.clusters, [list(item.values()) for item in task.items], task.info.name)
        places = [index for index, assigned_split in enumerate(assigned) if assigned_split == split]
        return Classification(
            [task.items[index] for index in places],
            [task.labels[index] for index in places],
            task.verbalizer,
            task.prompt,
            [task.clusters[index] for index in places],
            name,
            task.batch_size,
            scoring=task.info.scoring,
            also=task.info.also,
            positive=task.info.positive,
            max_new_tokens=task.max_new_tokens,
            aliases=task.aliases,
            split=split,
        )
    raise ValueError(f"{task.info.name!r} has no splits. Score it with one dose.")


def _halved(clusters: Sequence[str], texts: Sequence[Any], name: str) -> list[str]:
    """Assign items to select and test by a hash, with the first seed that gives each at least a third."""
    fewest = max(1, len(set(clusters)) // 3)
    for seed in range(100):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DataWarning)  # about an empty half, for which the next seed is tried
            assigned = split_clusters(clusters, texts, (0.0, 0.5, 0.5), seed)
        sides = dict(zip(clusters, assigned, strict=True)).values()
        if min(list(sides).count(side) for side in ("select", "test")) >= fewest:
            return assigned
    raise ValueError(
        f"The {len(set(clusters))} texts of {name!r} could not be halved into select and test. Give a task with more "
        "texts, or a single dose, which needs no choice."
    )
