"""The command `finetune`."""

from pathlib import Path
from typing import Annotated

import typer

from lmri.cli.console import check_new, quote, records
from lmri.cli.options import Device, Pickle, Printing, Quoting, Revision, Seed, Trust, command
from lmri.models.loading.options import LoadingOptions
from lmri.storage.splits import SHARES


@command
def finetune(
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="Hub name, local folder, or lmri-demo.", show_default=False)
    ],
    task: Annotated[
        str,
        typer.Option(
            help="Task: cola, mrpc, qqp, sst2, mnli, mnli-matched, mnli-mismatched, qnli, ag-news, or a YAML file.",
            show_default=False,
        ),
    ],
    out: Annotated[Path, typer.Option(help="New folder for the model.", show_default=False)],
    printing: Printing,
    data: Annotated[
        str | None,
        typer.Option(
            help="File, folder or Hugging Face dataset of the task.", show_default="the task's dataset on the hub"
        ),
    ] = None,
    config: Annotated[str | None, typer.Option(help="Configuration of a Hugging Face dataset.")] = None,
    dataset_split: Annotated[str | None, typer.Option(help="Split of a Hugging Face dataset.")] = None,
    quoting: Quoting = None,
    shares: Annotated[
        tuple[float, float, float],
        typer.Option(
            metavar="FIT SELECT TEST",
            help="Fractions of the clusters of similar items: the model is trained on fit and evaluated on test; "
            "select is not used.",
        ),
    ] = SHARES,
    limit: Annotated[
        int | None, typer.Option(help="Maximum number of training items, drawn at random.", show_default="all")
    ] = None,
    epochs: Annotated[float, typer.Option(help="Number of passes over the training items.")] = 3.0,
    max_steps: Annotated[
        int | None, typer.Option(help="Number of optimization steps (overrides --epochs).", show_default=False)
    ] = None,
    batch_size: Annotated[int, typer.Option(help="Number of items per step.")] = 16,
    learning_rate: Annotated[float, typer.Option(help="Initial learning rate.")] = 5e-5,
    max_tokens: Annotated[
        int | None,
        typer.Option(help="Truncate training items to this number of tokens.", show_default="the context length"),
    ] = None,
    device: Device = "cpu",
    revision: Revision = None,
    trust_remote_code: Trust = False,
    allow_pickle: Pickle = False,
    seed: Seed = 0,
) -> None:
    """Fine-tune a language model as a classifier, which can be lesioned with networks of the parent model."""
    output = printing.output
    check_new("--out", out)
    with output.progress(f"Training on {task}") as progress:
        from lmri.lesions.finetuning import Training
        from lmri.lesions.finetuning_task import TaskData, finetune_on_task

        training = Training(epochs, max_steps, batch_size, learning_rate, max_tokens=max_tokens, seed=seed)
        task_data = TaskData(task, data, config, dataset_split, shares, limit, seed, quoting)
        loading = LoadingOptions(
            device=device, revision=revision, trust_remote_code=trust_remote_code, allow_pickle=allow_pickle
        )
        classifier = finetune_on_task(model, task_data, out, training, loading, progress)
    columns = [
        "metric",
        "value",
        "majority_rate",
        "balanced_accuracy",
        "mean_margin",
        "predicted_counts",
        "n_items",
        "note",
    ]
    output.table(classifier.held_out[columns], f"{task}, {classifier.about['n_held_out']} held-out items (split test)")
    if classifier.held_out["collapsed"].any():
        output.problem(
            "The model predicts the same label for every item: it has learned nothing. Train longer (--epochs), or "
            "raise --learning-rate."
        )
    output.say(
        f"Model: {quote(out)}. Lesion it with networks of {classifier.about['parent']['id']}: "
        f"lmri lesion STUDY --model {quote(out)}"
    )
    output.result({"model": str(out), **classifier.about, "held_out": records(classifier.held_out)})
