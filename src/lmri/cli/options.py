"""Options of the command line: single options as annotated types, and groups of options as dataclasses.

A command takes a group as one parameter; `command` exposes the fields of the group as options of the command.
The module is long because it declares every option that several commands share.
"""

import contextlib
import functools
import inspect
import re
import shlex
from collections.abc import Callable
from copy import copy
from dataclasses import MISSING, Field, dataclass, fields, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, get_args, get_type_hints

import typer

from lmri.cli.console import Output, guarded
from lmri.lesions.baselines.registry import baselines_help
from lmri.lesions.controls.registry import controls_help
from lmri.lesions.tasks.registry import tasks_help
from lmri.lesions.tasks.requested import TaskOptions
from lmri.storage.files import WAIT, lock_wait

if TYPE_CHECKING:
    from lmri.study import Study

# ---------------------------------------------------------------------------------------------------------------------
# Single options and arguments
# ---------------------------------------------------------------------------------------------------------------------

PAPER = "Replication of Liu et al. (2025)"

StudyFolder = Annotated[Path, typer.Argument(metavar="STUDY", help="Folder of the study.", show_default=False)]
Wait = Annotated[
    float,
    typer.Option(help="Seconds to wait if another command is writing to the study.", rich_help_panel="Output", min=0),
]
Subject = Annotated[
    str | None,
    typer.Option(
        help="Label of the model in the study, for example gpt2. Required if the study contains several models. "
        "--subject group selects the results of group decompositions.",
        show_default=False,
        rich_help_panel="Model",
    ),
]
Session = Annotated[
    str | None,
    typer.Option(
        help="Label of the session, for example int8. Required if the model has several sessions.",
        show_default=False,
        rich_help_panel="Model",
    ),
]
DecompositionName = Annotated[
    str | None,
    typer.Argument(
        metavar="DECOMPOSITION",
        help="Name of the decomposition. Required if there are several.",
        show_default=False,
    ),
]
SiteOption = Annotated[
    str | None,
    typer.Option(
        help="Site of the neurons, for example mlp_out. Required if several sites were recorded.", show_default=False
    ),
]
NameOption = Annotated[
    str | None,
    typer.Option(help="Name under which the result is stored. By default, the name of the method.", show_default=False),
]
Folder = Annotated[
    Path | None,
    typer.Option(help="New folder to which all tables are also written, as TSV files.", show_default=False),
]
Seed = Annotated[int, typer.Option(help="Random seed.")]
Networks = Annotated[str, typer.Option(help="Name of the network set, for example ica-z3.", show_default=False)]
Controls = Annotated[
    int,
    typer.Option(
        help="Number of controls per network; 0 for none. With N controls, p is at least 1/(N+1).",
        rich_help_panel="Controls",
    ),
]
Families = Annotated[
    list[str] | None,
    typer.Option(
        "--controls",
        help=f"How controls are drawn. Can be repeated.\n\n{controls_help()}",
        show_default="layer",
        rich_help_panel="Controls",
    ),
]
Baseline = Annotated[
    str,
    typer.Option(
        help=f"Value that replaces the activity of lesioned neurons.\n\n{baselines_help()}",
        rich_help_panel="Intervention",
    ),
]
DryRun = Annotated[
    bool,
    typer.Option("--dry-run", help="Score only the intact model, print the estimated run time of the rest, and exit."),
]
StopAfter = Annotated[
    int,
    typer.Option(
        help="Stop drawing controls for a network when this many controls have done at least as much harm as the "
        "network (sequential Monte Carlo test, Besag & Clifford 1991). 0 draws all controls.",
        rich_help_panel="Controls",
    ),
]
Spare = Annotated[
    str | None,
    typer.Option(
        help="Tokens at which the activity is not changed. The only choice is sinks: the first token of every text.",
        show_default=False,
        rich_help_panel="Intervention",
    ),
]
Positions = Annotated[
    str | None,
    typer.Option(
        help="Tokens at which the activity is changed; by default, all.\n\n"
        "0,1: the first two tokens of each text (any positions, from 0)\n\n"
        "prompt, generated: the prompt, or the answer that the model generates\n\n"
        "last: the last token of the prompt, and each generated token",
        show_default=False,
        rich_help_panel="Intervention",
    ),
]
Seeds = Annotated[
    int,
    typer.Option(
        help="With --baseline resample:CORPUS, the number of random draws over which results are pooled.",
        rich_help_panel="Intervention",
    ),
]
PaperModel = Annotated[
    str | None,
    typer.Option(
        help="Also show the values that the paper reports for this model and the same task: gpt2, qwen2.5-3b or "
        "chatglm3-6b.",
        show_default=False,
        rich_help_panel=PAPER,
    ),
]
Split = Annotated[
    str,
    typer.Option(
        help="Part of the items of a named task: fit, select or test. Use test for a classifier that lmri finetune "
        "trained on fit. By default, all items are used.",
        show_default=False,
        rich_help_panel="Tasks",
    ),
]
OutFolder = Annotated[
    Path | None,
    typer.Option(help="New folder to which tables and figures are also written.", show_default=False),
]
ScoresName = Annotated[
    str | None,
    typer.Option(
        "--name",
        help="Name under which the scores are stored. By default, the command and the networks, for example "
        "lesion-ica-z3.",
        show_default=False,
    ),
]
Device = Annotated[str, typer.Option(help="Device on which the model runs: cpu or cuda.")]
Trust = Annotated[bool, typer.Option("--trust-remote-code", help="Run Python code that is distributed with the model.")]
Pickle = Annotated[
    bool, typer.Option("--allow-pickle", help="Load weights in pickle format, which can run arbitrary code.")
]
DeviceMap = Annotated[
    str | None,
    typer.Option(
        help="With auto, distribute the model over GPUs, memory and disk (needs accelerate). By default, one device is "
        "used.",
        show_default=False,
    ),
]
OffloadFolder = Annotated[
    Path | None, typer.Option(help="Folder for weights that --device-map auto puts on disk.", show_default=False)
]
Revision = Annotated[
    str | None, typer.Option(help="Commit, branch or tag of the model on the Hugging Face hub.", show_default=False)
]
Strict = Annotated[
    bool,
    typer.Option(
        "--strict",
        help="Stop if the weights differ from those of the recorded model. By default, a warning is printed.",
        rich_help_panel="Model",
    ),
]
Quoting = Annotated[
    str | None,
    typer.Option(
        help="How quotation marks in CSV and TSV files of texts are read: csv (they enclose fields) or none (they "
        "belong to the texts). By default csv for .csv files, and none for .tsv files.",
        show_default=False,
    ),
]

# ---------------------------------------------------------------------------------------------------------------------
# Groups
# ---------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class StudyScope:
    """Folder of a study, and the choice of a model if the study contains several."""

    study: StudyFolder
    subject: Subject = None
    session: Session = None

    def open(self) -> "Study":
        """Open the study for the chosen model."""
        from lmri.study import open_study

        return open_study(self.study, self.subject, self.session)

    def open_all(self) -> "list[Study]":
        """Open the study for the chosen model or, if none was chosen, for each of its models and the group."""
        from lmri.study import open_scopes

        chosen = self.subject is not None or self.session is not None
        return [self.open()] if chosen else open_scopes(self.study)

    @property
    def arguments(self) -> str:
        """Folder and chosen model, quoted for a shell."""
        subject = f" --subject {self.subject}" if self.subject else ""
        session = f" --session {self.session}" if self.session else ""
        return shlex.quote(str(self.study)) + subject + session

    def __str__(self) -> str:
        return str(self.study)


@dataclass(frozen=True)
class UpgradableStudy:
    """Folder of a study of any version, and options of writing to it."""

    study: StudyFolder
    wait: Wait = WAIT

    def context(self) -> contextlib.AbstractContextManager[None]:
        """Apply the options while the command runs."""
        return lock_wait(self.wait)


@dataclass(frozen=True)
class WritableStudy(StudyScope):
    """Folder of a study, and options of writing to it; every command that stores a result has them."""

    wait: Wait = WAIT

    def context(self) -> contextlib.AbstractContextManager[None]:
        """Apply the options while the command runs."""
        return lock_wait(self.wait)


@dataclass(frozen=True)
class Printing:
    """Options of the printed output; every command has them."""

    panel: ClassVar[str] = "Output"

    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print errors only.")] = False
    json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False

    @property
    def output(self) -> Output:
        """Output of the command."""
        return Output(self.quiet, self.json)


@dataclass(frozen=True)
class Loading:
    """Options of loading a model."""

    panel: ClassVar[str] = "Model"

    device: Device = "cpu"
    trust_remote_code: Trust = False
    allow_pickle: Pickle = False
    device_map: DeviceMap = None
    offload_folder: OffloadFolder = None


@dataclass(frozen=True)
class StudyModel:
    """Location of the model of a study, and options of loading it."""

    panel: ClassVar[str] = "Model"

    model: Annotated[
        str | None,
        typer.Option(
            help="Where the model is: a name on the Hugging Face hub, or a folder. By default, where it was when it "
            "was recorded.",
            show_default=False,
        ),
    ] = None
    device: Device = "cpu"
    trust_remote_code: Trust = False
    allow_pickle: Pickle = False
    device_map: DeviceMap = None
    offload_folder: OffloadFolder = None


@dataclass(frozen=True)
class Scoring:
    """Options of the tasks on which a model is evaluated."""

    panel: ClassVar[str] = "Tasks"

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
            help="How a named task is scored; by default, as the task defines.\n\n"
            "loglikelihood: by the likelihood of each answer\n\n"
            "loglikelihood/token, loglikelihood/character: the same, per unit of length\n\n"
            "generate: by generated text\n\n"
            "head: by the classifier head of a model from lmri finetune",
            show_default=False,
        ),
    ] = None
    text_column: Annotated[str, typer.Option(help="Name of the column of FILE that contains the texts.")] = "text"
    quoting: Quoting = None
    batch_size: Annotated[int, typer.Option(help="Number of texts per forward pass.")] = 8

    def options(self, split: str) -> TaskOptions:
        """Return the options of the library for these tasks and a split."""
        return TaskOptions(self.task, self.scoring, split, self.text_column, self.batch_size, self.quoting)


_PANELS = ("Tasks", "Controls", "Intervention", PAPER, "Model", "Output")
"""Panels in the order in which ``--help`` shows them, after the options without a panel."""


def command(function: Callable[..., None]) -> Callable[..., None]:
    """Turn a function into a command: groups become options, and errors become messages and exit codes."""
    return guarded(with_groups(function))


def with_groups(function: Callable[..., None]) -> Callable[..., None]:
    """Expose the fields of a function's option groups as options, and pass them to the function as groups.

    Parameters
    ----------
    function : callable
        Function to wrap; its parameters annotated with a dataclass are groups. A group with a ``panel`` is shown in
        this panel, after the options of the command itself.

    Returns
    -------
    callable
        Function with keyword arguments only, which include the fields of the groups.

    Raises
    ------
    TypeError
        If two options have the same name.
    """
    groups: dict[str, tuple[type, list[Field[Any]]]] = {}
    parameters: list[inspect.Parameter] = []
    for parameter in inspect.signature(function, eval_str=True).parameters.values():
        group = parameter.annotation
        if not (isinstance(group, type) and is_dataclass(group)):
            parameters.append(parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY))
            continue
        groups[parameter.name] = (group, list(fields(group)))
        hints, panel = get_type_hints(group, include_extras=True), getattr(group, "panel", None)
        parameters += [_option(field, hints[field.name], panel) for field in fields(group)]
    parameters.sort(key=_panel)
    names = [parameter.name for parameter in parameters]
    if repeated := {name for name in names if names.count(name) > 1}:
        raise TypeError(f"{function.__name__} has two options named {', '.join(sorted(repeated))}.")

    @functools.wraps(function)
    def run(**options: Any) -> None:
        built = {
            name: group(**{field.name: options.pop(field.name) for field in group_fields})
            for name, (group, group_fields) in groups.items()
        }
        with contextlib.ExitStack() as stack:
            for group in built.values():
                if (context := getattr(group, "context", None)) is not None:
                    stack.enter_context(context())
            function(**options, **built)

    run.__doc__ = _unwrapped(function)
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return run


def _panel(parameter: inspect.Parameter) -> int:
    """Return the rank of the panel of an option; options without a panel come first."""
    panel = get_args(parameter.annotation)[1].rich_help_panel
    return 0 if panel is None else 1 + _PANELS.index(panel)


def _unwrapped(function: Callable[..., None]) -> str:
    """Return the docstring of a command with one line per paragraph, as help fills lines itself; lists are kept."""
    paragraphs = (inspect.getdoc(function) or "").split("\n\n")
    return "\n\n".join(text if re.search(r"\n( |- )", text) else text.replace("\n", " ") for text in paragraphs)


def _option(field: Field[Any], hint: Any, panel: str | None) -> inspect.Parameter:
    """Return the option of a field of a group, shown in its own panel or in the panel of the group, if there is one."""
    kind, info = get_args(hint)
    info = copy(info)
    info.rich_help_panel = info.rich_help_panel or panel
    default = inspect.Parameter.empty if field.default is MISSING else field.default
    return inspect.Parameter(
        field.name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[kind, info]
    )
