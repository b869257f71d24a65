"""Fine-tuning on a task given by name or file: split the data, load the parent, train and store the child."""

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lmri.lesions.finetuning import FineTuned, Training, finetune, save
from lmri.lesions.tasks import Classification, load
from lmri.models.loading.options import LoadingOptions
from lmri.storage.splits import SHARES

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class TaskData:
    """Data of a classification task and their split.

    Parameters
    ----------
    task : str
        Name of a task, or a YAML file.
    data : str, optional
        File, folder or Hugging Face dataset; by default the task's own, from the hub.
    config, dataset_split : str, optional
        Configuration and split of a Hugging Face dataset.
    shares : tuple of float
        Shares of the clusters: fit is used for training, test is scored, select is unused.
    limit : int, optional
        Largest number of training items, drawn at random.
    seed : int, default=0
        Seed of the split and of the draw.
    quoting : {"csv", "none"}, optional
        Whether quotation marks in CSV and TSV files enclose fields; see `lmri.read_texts`.
    """

    task: str
    data: str | None = None
    config: str | None = None
    dataset_split: str | None = None
    shares: tuple[float, float, float] = SHARES
    limit: int | None = None
    seed: int = 0
    quoting: str | None = None

    def load(self, split: str) -> Classification:
        """Load one side of the split, ``"fit"`` or ``"test"``.

        Raises
        ------
        ValueError
            If the task has no labels.
        """
        side: Any = load(
            self.task,
            self.data,
            scoring="head",
            limit=self.limit if split == "fit" else None,
            split=split,
            shares=self.shares,
            seed=self.seed,
            config=self.config,
            dataset_split=self.dataset_split,
            quoting=self.quoting,
        )
        if not isinstance(side, Classification):
            raise ValueError(f"{self.task} has no labels to learn. Choose a classification task.")
        return side


def finetune_on_task(
    model: str | Path,
    data: TaskData,
    out: str | Path,
    training: Training | None = None,
    loading: LoadingOptions | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> FineTuned:
    """Fine-tune a language model on a classification task, and store the child.

    Parameters
    ----------
    model : str or Path
        Location of the parent.
    data : TaskData
        Task, data and split.
    out : str or Path
        New folder for the child.
    training : Training, optional
        Training settings.
    loading : LoadingOptions, optional
        Loading options of the parent.
    progress : callable, optional
        Called with the number of finished steps and the total.

    Returns
    -------
    FineTuned
        Child model with its scores, as stored.
    """
    logger.info("Reading the task")
    fit, test = data.load("fit"), data.load("test")  # before the model is loaded, which takes longer
    logger.info("Loading %s", model)
    parent, tokenizer = (loading or LoadingOptions()).load(model)
    logger.info("Training on %d items", len(fit.labels))
    fine_tuned = finetune(parent, tokenizer, fit, test, training, progress)
    origin = {"source": data.data, "shares": list(data.shares), "seed": data.seed}
    fine_tuned = replace(fine_tuned, about={**fine_tuned.about, "data": origin})
    save(fine_tuned, out)
    return fine_tuned
