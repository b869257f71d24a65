"""The command that makes a classifier of a language model."""

from pathlib import Path
from typing import Annotated

import typer

from lmri.cli.console import Output, check_new, guarded, quote, records
from lmri.cli.describe import Json, Quiet
from lmri.cli.options import Pickle, Seed
from lmri.storage.splits import SHARES


@guarded
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
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    revision: Annotated[str | None, typer.Option(help="Commit, branch or tag on the hub.")] = None,
    trust_remote_code: Annotated[bool, typer.Option("--trust-remote-code", help="Run code of the model.")] = False,
    allow_pickle: Pickle = False,
    seed: Seed = 0,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Make a classifier of a language model; networks found in the parent can lesion it."""
    output = Output(quiet, json)
    check_new("--out", out)
    with output.progress("Reading the task"):
        from lmri.lesions import finetuning
        from lmri.lesions.tasks import Classification, load

        # Before the model is loaded, which takes longer.
        training = finetuning.Training(epochs, max_steps, batch_size, learning_rate, max_tokens=max_tokens, seed=seed)
        sides = []
        for split, most in (("fit", limit), ("test", None)):
            side = load(
                task, data, scoring="head", limit=most, split=split, shares=shares, seed=seed, config=config,
                dataset_split=dataset_split,
            )  # fmt: skip
            if not isinstance(side, Classification):
                raise ValueError(f"{task} has no labels to learn. Take a classification task.")
            sides.append(side)
    with output.progress(f"Loading {model}"):
        from lmri.models import load_model

        parent, tokenizer = load_model(
            model, device=device, revision=revision, trust_remote_code=trust_remote_code, allow_pickle=allow_pickle
        )
    with output.progress(f"Training on {len(sides[0].labels)} items") as progress:
        made = finetuning.finetune(parent, tokenizer, sides[0], sides[1], training, progress)
    about = {**made.about, "data": {"source": data, "shares": list(shares), "seed": seed}}
    finetuning.save(finetuning.FineTuned(made.model, made.tokenizer, made.held_out, made.items, about), out)
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
    output.result({"model": str(out), **about, "held_out": records(made.held_out)})
