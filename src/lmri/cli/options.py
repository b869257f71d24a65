"""Options of the command line, declared once: single options as annotated types, and groups of options as classes.

A command takes a group as one parameter; `command` shows the fields of the group as options of the command.
"""

import functools
import inspect
from collections.abc import Callable
from dataclasses import MISSING, Field, dataclass, fields, is_dataclass
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import typer

from lmri.cli.console import Output, guarded
from lmri.lesions.baselines.registry import baselines_help
from lmri.lesions.controls.registry import controls_help
from lmri.lesions.tasks.registry import tasks_help
from lmri.lesions.tasks.requested import TaskOptions

# ---------------------------------------------------------------------------------------------------------------------
# Single options and arguments
# ---------------------------------------------------------------------------------------------------------------------

StudyFolder = Annotated[Path, typer.Argument(metavar="STUDY", help="Folder of the study.", show_default=False)]
DecompositionName = Annotated[
    str | None, typer.Argument(metavar="[DECOMPOSITION]", help="Name; needed if there are several.", show_default=False)
]
SiteOption = Annotated[
    str | None, typer.Option(help="mlp_out or mlp_hidden; needed if both were recorded.", show_default=False)
]
NameOption = Annotated[str | None, typer.Option(help="Name of what is made.", show_default="the method")]
Folder = Annotated[
    Path | None, typer.Option(help="New folder to write all tables to, as TSV.", show_default="only shown")
]
Seed = Annotated[int, typer.Option(help="Seed of everything random.")]
Networks = Annotated[str, typer.Option(help="Name of the network set.", show_default=False)]
Controls = Annotated[int, typer.Option(help="Matched controls for each network; 0 for none.")]
Families = Annotated[
    list[str] | None,
    typer.Option(
        "--controls",
        help=f"What controls have in common with a network, beside size: {controls_help()}. May be repeated.",
        show_default="layer",
    ),
]
Baseline = Annotated[str, typer.Option(help=f"What a silenced neuron gives: {baselines_help()}.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only say how long it would take: the intact model is scored.")]
StopAfter = Annotated[
    int,
    typer.Option(
        help="Draw no more controls for a network once so many were at least as bad; p is Besag and Clifford's. "
        "0 draws all."
    ),
]
Spare = Annotated[
    str | None, typer.Option(help="sinks: leave the first token of every text alone.", show_default="none")
]
Positions = Annotated[
    str | None,
    typer.Option(
        help="Change these tokens only: prompt, generated or last, where answers are generated, or places such as 0,1.",
        show_default="all",
    ),
]
Seeds = Annotated[int, typer.Option(help="With --baseline resample:CORPUS, seeds of donors that are put together.")]
PaperModel = Annotated[
    str | None,
    typer.Option(
        help="Put the paper's numbers beside, where task and metric are the same: gpt2, qwen2.5-3b or chatglm3-6b.",
        show_default="none",
    ),
]
Split = Annotated[
    str,
    typer.Option(
        help="Of named tasks: fit, select or test, which share no text; a classifier is to be scored on test.",
        show_default="all items",
    ),
]
OutFolder = Annotated[
    Path | None, typer.Option(help="New folder to write tables and figures to.", show_default="only in the study")
]
ScoresName = Annotated[
    str | None,
    typer.Option(
        "--name", help="Name of the scores.", show_default="the command and the networks, as in lesion-canica"
    ),
]
Device = Annotated[str, typer.Option(help="cpu or cuda.")]
Trust = Annotated[bool, typer.Option("--trust-remote-code", help="Run code of the model.")]
Pickle = Annotated[bool, typer.Option("--allow-pickle", help="Read pickled weights, which can run any code.")]
DeviceMap = Annotated[
    str | None,
    typer.Option(help="auto: spread the model over GPUs, memory and disk, by accelerate.", show_default="one device"),
]
OffloadFolder = Annotated[Path | None, typer.Option(help="For weights that are put on a disk.", show_default=False)]
Revision = Annotated[str | None, typer.Option(help="Commit, branch or tag on the hub.")]
Strict = Annotated[bool, typer.Option("--strict", help="Refuse other weights than those recorded.")]

# ---------------------------------------------------------------------------------------------------------------------
# Groups
# ---------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Printing:
    """How a command prints; every command has it."""

    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing but errors.")] = False
    json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False

    @property
    def output(self) -> Output:
        """What the command prints to."""
        return Output(self.quiet, self.json)


@dataclass(frozen=True)
class Loading:
    """How a model is loaded."""

    device: Device = "cpu"
    trust_remote_code: Trust = False
    allow_pickle: Pickle = False
    device_map: DeviceMap = None
    offload_folder: OffloadFolder = None


@dataclass(frozen=True)
class StudyModel(Loading):
    """Where the model of a study is, and how it is loaded."""

    model: Annotated[
        str | None, typer.Option(help="Where the model is.", show_default="where it was when it was recorded")
    ] = None


@dataclass(frozen=True)
class Scoring:
    """What a model is scored on."""

    task: Annotated[
        list[str] | None,
        typer.Option(
            "--task",
            help=tasks_help(),
            show_default="perplexity",
        ),
    ] = None
    scoring: Annotated[
        str | None,
        typer.Option(
            help="Of named tasks: loglikelihood, loglikelihood/token, loglikelihood/character, generate, or head for a "
            "classifier, as lmri finetune makes it.",
            show_default="the task's own",
        ),
    ] = None
    text_column: Annotated[str, typer.Option(help="Column of FILE that holds the texts.")] = "text"
    batch_size: Annotated[int, typer.Option(help="Texts read at once.")] = 8

    def options(self, split: str) -> TaskOptions:
        """Return the tasks as the library takes them."""
        return TaskOptions(self.task, self.scoring, split, self.text_column, self.batch_size)


def command(function: Callable[..., None]) -> Callable[..., None]:
    """Make a function a command: groups become options, and errors become messages and exit codes."""
    return guarded(with_groups(function))


def with_groups(function: Callable[..., None]) -> Callable[..., None]:
    """Show the fields of all groups that a function takes as options, and pass them to it as groups.

    Parameters
    ----------
    function : callable
        Parameters that are annotated by a dataclass are groups.

    Returns
    -------
    callable
        Takes keyword arguments only, among them the fields of the groups.

    Raises
    ------
    TypeError
        If two options have the same name.
    """
    groups: dict[str, tuple[type, list[Field[Any]]]] = {}
    parameters: list[inspect.Parameter] = []
    for parameter in inspect.signature(function, eval_str=True).parameters.values():
        if not (isinstance(parameter.annotation, type) and is_dataclass(parameter.annotation)):
            parameters.append(parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY))
            continue
        hints = get_type_hints(parameter.annotation, include_extras=True)
        groups[parameter.name] = (parameter.annotation, list(fields(parameter.annotation)))
        for field in fields(parameter.annotation):
            default = inspect.Parameter.empty if field.default is MISSING else field.default
            parameters.append(
                inspect.Parameter(
                    field.name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=hints[field.name]
                )
            )
    names = [parameter.name for parameter in parameters]
    if repeated := {name for name in names if names.count(name) > 1}:
        raise TypeError(f"{function.__name__} has two options of the name {', '.join(sorted(repeated))}.")

    @functools.wraps(function)
    def run(**options: Any) -> None:
        built = {name: kind(**{one.name: options.pop(one.name) for one in own}) for name, (kind, own) in groups.items()}
        function(**options, **built)

    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return run
