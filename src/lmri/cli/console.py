"""Console output: progress and messages on standard error, results on standard output, errors without tracebacks."""

import contextlib
import functools
import json
import logging
import os
import shlex
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NoReturn

import pandas as pd
import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskProgressColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from lmri.exceptions import LMRIError, LMRIWarning
from lmri.storage.notices import NAME as NOTICES
from lmri.storage.tables import FORMER_COLUMNS

EXPECTED = (LMRIError, ValueError, TypeError, OSError, IndexError)
"""Errors that their message explains; any other error is a bug in lmri."""


class Output:
    """Output of one command.

    Parameters
    ----------
    quiet : bool
        Whether to print only errors and, with `as_json`, the result.
    as_json : bool
        Whether to print the result as one JSON object.
    """

    def __init__(self, quiet: bool = False, as_json: bool = False) -> None:
        self.quiet, self.as_json = quiet, as_json
        self.out = Console(highlight=False, soft_wrap=not sys.stdout.isatty())
        if not self.out.is_terminal:
            self.out.width = 400  # a pipe has no width, and a table truncated at 80 columns would lose numbers
        self.err = Console(stderr=True, highlight=False, soft_wrap=not sys.stderr.isatty())

    @contextlib.contextmanager
    def progress(self, description: str) -> Iterator[Callable[[int, int], None]]:
        """Show a progress bar, or a spinner until progress is reported to the callable that is yielded.

        Stages that the library logs meanwhile (``logger.info`` of a logger below ``lmri``) replace the description.
        """
        columns = (
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(bar_width=28),
            TaskProgressColumn(),
            TimeElapsedColumn(),
        )
        bar = Progress(*columns, console=self.err, transient=True, disable=self.quiet or not self.err.is_terminal)
        with bar:
            task = bar.add_task(escape(description), total=None)
            with _stages(lambda stage: bar.update(task, description=escape(stage), completed=0, total=None)):
                yield lambda done, total: bar.update(task, completed=done, total=total)

    def say(self, text: str) -> None:
        """Print a line of the result, unless the output is quiet or JSON."""
        if not (self.quiet or self.as_json):
            self.out.print(escape(text))

    def problem(self, text: str) -> None:
        """Print a problem, also if quiet; on standard output, or on standard error if quiet. JSON output omits it."""
        if not self.as_json:
            (self.err if self.quiet else self.out).print(f"[bold red]Problem:[/] {escape(text)}")

    def table(self, table: pd.DataFrame, title: str = "") -> None:
        """Print a table, unless the output is quiet or JSON."""
        if self.quiet or self.as_json:
            return
        shown = Table(title=escape(title) or None, title_justify="left", title_style="bold", box=None, pad_edge=False)
        for column in table:
            numeric = pd.api.types.is_numeric_dtype(table[column])
            shown.add_column(escape(str(column)), justify="right" if numeric else "left", overflow="fold")
        for row in table.itertuples(index=False):
            shown.add_row(*(escape(_cell(value)) for value in row))
        self.out.print(shown)

    def result(self, content: dict[str, Any]) -> None:
        """Print the result as JSON, if JSON was requested."""
        if self.as_json:
            sys.stdout.write(json.dumps(content, indent=2, default=_plain) + "\n")


class _StageHandler(logging.Handler):
    """Handler that passes the messages of the library's loggers to a function."""

    def __init__(self, show: Callable[[str], None]) -> None:
        super().__init__(logging.INFO)
        self._show = show

    def emit(self, record: logging.LogRecord) -> None:
        if record.levelno == logging.INFO:
            self._show(record.getMessage())


class _NoticeHandler(logging.Handler):
    """Handler that prints each notice once."""

    def __init__(self, err: Console) -> None:
        super().__init__(logging.INFO)
        self._err, self._shown = err, set[str]()

    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage()
        if text not in self._shown:
            self._shown.add(text)
            self._err.print(escape(text))


@contextlib.contextmanager
def _notices(err: Console, quiet: bool) -> Iterator[None]:
    """Print what the library notes about the user's files, such as the number of texts, unless the output is quiet."""
    logger, handler = logging.getLogger(NOTICES), _NoticeHandler(err)
    level = logger.level
    if not quiet:
        logger.addHandler(handler)
        logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.setLevel(level)
        logger.removeHandler(handler)


@contextlib.contextmanager
def _stages(show: Callable[[str], None]) -> Iterator[None]:
    """Call `show` with each stage that the library logs while the body runs."""
    logger, handler = logging.getLogger("lmri"), _StageHandler(show)
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(min(logger.getEffectiveLevel(), logging.INFO))
    try:
        yield
    finally:
        logger.setLevel(level)
        logger.removeHandler(handler)


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return "–" if pd.isna(value) else f"{value:.4g}"
    return str(value)


def _plain(value: Any) -> str | int | float | bool:
    return value.item() if hasattr(value, "item") else str(value)


def quote(path: object) -> str:
    """Quote a path for a shell; of a study, with the chosen model."""
    return getattr(path, "arguments", None) or shlex.quote(str(path))


def records(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Convert a table to JSON rows, with null for missing values; former keys are printed as well."""
    table = table.assign(**{old: table[new] for old, new in FORMER_COLUMNS.items() if new in table})
    return [
        {key: None if isinstance(value, float) and pd.isna(value) else value for key, value in row.items()}
        for row in table.to_dict("records")
    ]


def guarded(command: Callable[..., None]) -> Callable[..., None]:
    """Wrap a command so that it ends with a message and an exit code instead of a traceback.

    The exit code is 1 after an error that the message explains, 2 after wrong usage, and 130 after an interruption.
    """

    @functools.wraps(command)
    def run(*args: Any, **kwargs: Any) -> None:
        quiet = bool(kwargs.get("quiet"))
        err = Console(stderr=True, highlight=False, soft_wrap=not sys.stderr.isatty())
        try:
            with _calm(err, quiet):
                command(*args, **kwargs)
        except EXPECTED as error:
            _fail(err, str(error) or type(error).__name__, 1)
        except KeyboardInterrupt:
            _fail(err, "Interrupted. No partial results were saved.", 130)
        except (typer.Exit, typer.Abort):
            raise
        except Exception as error:
            if os.environ.get("LMRI_DEBUG"):
                raise
            kind = type(error).__name__
            _fail(
                err,
                f"{kind}: {error}. This is a bug in lmri. Set LMRI_DEBUG=1 to see the traceback, and please report it.",
                1,
            )

    return run


def _fail(err: Console, message: str, code: int) -> NoReturn:
    err.print(f"[bold red]Error:[/] {escape(message)}")
    raise typer.Exit(code)


@contextlib.contextmanager
def _calm(err: Console, quiet: bool) -> Iterator[None]:
    """Print each warning of lmri once, on one line, and hide the warnings of other libraries."""
    shown: set[str] = set()

    def show(message: Warning | str, category: type[Warning], *args: Any, **kwargs: Any) -> None:
        text = str(message)
        if issubclass(category, LMRIWarning) and text not in shown and not quiet:
            shown.add(text)
            err.print(f"[bold yellow]Warning:[/] {escape(text)}")

    # Set before transformers is imported, which reads them on import.
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    for name in ("huggingface_hub", "httpx", "datasets"):
        logging.getLogger(name).setLevel(logging.ERROR)  # pages of retries would hide the error after them
    with warnings.catch_warnings(), _log_warnings(), _notices(err, quiet):
        warnings.simplefilter("always", LMRIWarning)
        warnings.showwarning = show
        yield


@contextlib.contextmanager
def _log_warnings() -> Iterator[None]:
    """Print the warnings of the library's log, which is silent in Python unless a level is set."""
    logger, handler = logging.getLogger("lmri"), logging.lastResort
    if handler is None or any(not isinstance(known, logging.NullHandler) for known in logger.handlers):
        yield
        return
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)


def check_new(option: str, path: Path | None) -> None:
    """Raise if a file or folder exists, so that it is not overwritten."""
    if path is not None and path.exists():
        raise ValueError(f"{path} exists. Nothing was overwritten. Choose another {option}.")


def check_new_figure(option: str, path: Path | None) -> None:
    """Raise if a file exists, or if its name does not end in .svg."""
    check_new(option, path)
    if path is not None and path.suffix.lower() != ".svg":
        raise ValueError(f"{option} is {path}; figures are written as SVG. Use a file name that ends in .svg.")


def format_p(p: float) -> str:
    """Format a p or q value with four decimals; values below 0.00005 are shown as < 0.0001, missing ones as –."""
    return "–" if p != p else "< 0.0001" if p < 0.00005 else f"{p:.4f}"


def format_convergence(convergence: Mapping[str, Any]) -> str:
    """Format the number of initializations of a fit that converged, if its solver reports convergence."""
    n_starts = convergence["n_starts"]
    return (
        f"{convergence['n_converged']} of {n_starts} initializations converged"
        if n_starts
        else "convergence was not reported"
    )


def pluralize(n: int, noun: str) -> str:
    """Format a number with its noun, in the plural unless it is 1.

    Examples
    --------
    >>> pluralize(1, "run"), pluralize(2000, "run")
    ('1 run', '2,000 runs')
    """
    return f"{n:,} {noun}{'' if n == 1 else 's'}"
