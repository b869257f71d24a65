"""Training of a classifier by the trainer of transformers: settings, seed and progress."""

import contextlib
import math
import random
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import transformers
from torch.utils.data import Dataset
from transformers import PreTrainedModel

from lmri.lesions.tasks import Classification
from lmri.lesions.tasks.head import head_inputs, pad_inputs, pads_told_apart
from lmri.models import context_length


@dataclass(frozen=True)
class Training:
    """Training settings of a child.

    Parameters
    ----------
    epochs : float, default=3
        Number of passes over all training items.
    max_steps : int, optional
        Number of training steps (overrides `epochs`).
    batch_size : int, default=16
        Number of items per training step.
    learning_rate : float, default=5e-5
        Initial learning rate, with linear decay to 0. Small models tolerate larger values.
    weight_decay : float, default=0.01
        Weight decay of AdamW.
    max_tokens : int, optional
        Largest number of tokens of a training item; longer items are truncated. By default the context length.
    seed : int, default=0
        Seed of the head's initial weights, the order of items and dropout.
    """

    epochs: float = 3.0
    max_steps: int | None = None
    batch_size: int = 16
    learning_rate: float = 5e-5
    weight_decay: float = 0.01
    max_tokens: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("epochs", "learning_rate"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0):
                raise ValueError(f"{name} is {value}; it must be finite and above 0.")
        for name in ("max_steps", "batch_size", "max_tokens"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} is {value}; it must be at least 1.")


@contextlib.contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed all random generators within the ``with`` block, and restore the caller's states, which Trainer changes."""
    states = random.getstate(), np.random.get_state()  # noqa: NPY002
    with torch.random.fork_rng():
        transformers.set_seed(seed)
        try:
            yield
        finally:
            random.setstate(states[0])
            np.random.set_state(states[1])  # noqa: NPY002


class _Rows(Dataset[dict[str, Any]]):
    """Tokenized items with their labels."""

    def __init__(self, rows: Sequence[dict[str, Any]]) -> None:
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, number: int) -> dict[str, Any]:
        return self.rows[number]


def train_classifier(
    child: PreTrainedModel,
    tokenizer: Any,
    task: Classification,
    training: Training,
    progress: Callable[[int, int], None] | None,
) -> int:
    """Train a classifier in place with the trainer of transformers, and return the number of training steps."""
    limits = [limit for limit in (context_length(child, tokenizer), training.max_tokens) if limit]
    numbers = {label: number for number, label in enumerate(task.verbalizer)}
    inputs = [head_inputs(tokenizer, item, min(limits) if limits else None)[0] for item in task.items]
    rows = [{**row, "labels": numbers[label]} for row, label in zip(inputs, task.labels, strict=True)]
    device = next(child.parameters()).device

    def collate(batch: Sequence[dict[str, Any]]) -> dict[str, torch.Tensor]:
        padded = pad_inputs(batch, pad_id, torch.device("cpu"))
        return padded | {"labels": torch.tensor([row["labels"] for row in batch])}

    with tempfile.TemporaryDirectory() as folder, pads_told_apart(child, inputs) as pad_id:
        trainer = transformers.Trainer(
            model=child,
            args=transformers.TrainingArguments(
                output_dir=folder,
                num_train_epochs=training.epochs,
                max_steps=training.max_steps or -1,
                per_device_train_batch_size=training.batch_size,
                learning_rate=training.learning_rate,
                weight_decay=training.weight_decay,
                seed=training.seed,
                data_seed=training.seed,
                use_cpu=device.type == "cpu",
                report_to="none",
                save_strategy="no",
                eval_strategy="no",
                logging_strategy="no",
                disable_tqdm=True,
                remove_unused_columns=False,
                dataloader_pin_memory=False,
            ),
            train_dataset=_Rows(rows),
            data_collator=collate,
            callbacks=[_Progress(progress)] if progress is not None else [],
        )
        trainer.remove_callback(transformers.PrinterCallback)
        trainer.train()
    return int(trainer.state.global_step)


class _Progress(transformers.TrainerCallback):
    """Report the progress of training."""

    def __init__(self, progress: Callable[[int, int], None]) -> None:
        self.progress = progress

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Report the finished steps."""
        self.progress(state.global_step, state.max_steps)
