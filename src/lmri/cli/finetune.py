"""The command `finetune`."""

from pathlib import Path
from typing import Annotated

import typer

from lmri.cli.console import check_new, quote, records
from lmri.cli.options import Device, Pickle, Printing, Revision, Seed, Trust, command
from lmri.models.loading_options import LoadingOptions
from lmri.storage.splits import SHARES


@command
def finetune(
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="Hub name, local folder, or lmri-demo.", show_default=False)
    ],
    task: Annotated[
        str,
        typer.Option(
            help="cola, mrpc, qqp, sst2, mnli, mnli-matched, mnli-mismatched, qnli, ag-news, or a YAML file.",
            show_default=False,
        ),
    ],
    out: Annotated[Path, typer.Option(help="New folder for the model.", show_default=False)],
    printing: Printing,
    data: Annotated[
        str | None,
        typer.Option(help="File, folder or Hugging Face dataset of the task.", show_default="the task's, from the hub"),
    ] = None,
    config: Annotated[str | None, typer.Option(help="Configuration of a Hugging Face dataset.")] = None,
    dataset_split: Annotated[str | None, typer.Option(help="Split of a Hugging Face dataset.")] = None,
    shares: Annotated[
        tuple[float, float, float],
        typer.Option(
            metavar="FIT SELECT TEST", help="Shares of the clusters: fit is learned, test is scored, select is left."
        ),
    ] = SHARES,
    limit: Annotated[int | None, typer.Option(help="Most items to learn, drawn at random.", show_default="all")] = None,
    epochs: Annotated[float, typer.Option(help="Times that all items are read.")] = 3.0,
    max_steps: Annotated[int | None, typer.Option(help="Steps, instead of --epochs.", show_default=False)] = None,
    batch_size: Annotated[int, typer.Option(help="Items a step.")] = 16,
    learning_rate: Annotated[float, typer.Option(help="At the start.")] = 5e-5,
    max_tokens: Annotated[
        int | None, typer.Option(help="Cut longer items in training.", show_default="the context")
    ] = None,
    device: Device = "cpu",
    revision: Revision = None,
    trust_remote_code: Trust = False,
    allow_pickle: Pickle = False,
    seed: Seed = 0,
) -> None:
    """Make a classifier of a language model; networks found in the parent can lesion it."""
    output = printing.output
    check_new("--out", out)
    with output.progress(f"Training on {task}") as progress:
        from lmri.lesions.finetuning import Training
        from lmri.lesions.finetuning_task import TaskData, finetune_on_task

        training = Training(epochs, max_steps, batch_size, learning_rate, max_tokens=max_tokens, seed=seed)
        learned = TaskData(task, data, config, dataset_split, shares, limit, seed)
        loading = LoadingOptions(
            device=device, revision=revision, trust_remote_code=trust_remote_code, allow_pickle=allow_pickle
        )
        made = finetune_on_task(model, learned, out, training, loading, progress)
    shown = [
        "metric",
        "value",
        "majority_rate",
        "balanced_accuracy",
        "mean_margin",
        "predicted_counts",
        "n_items",
        "note",
    ]
    output.table(made.held_out[shown], f"{task}, {made.about['n_held_out']} held-out items (split test)")
    if made.held_out["collapsed"].any():
        output.problem(
            "The model gives one label to everything: it has learned nothing. Train longer (--epochs), or raise "
            "--learning-rate."
        )
    output.say(f"Model: {quote(out)}. Networks of {made.about['parent']['id']} can lesion it: lmri lesion --model.")
    output.result({"model": str(out), **made.about, "held_out": records(made.held_out)})
