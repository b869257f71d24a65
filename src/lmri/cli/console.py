"""What people see: progress and messages on standard error, results on standard output, errors without tracebacks."""

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

EXPECTED = (LMRIError, ValueError, TypeError, OSError, IndexError)
"""Errors that a message explains; anything else is a fault of ours."""


class Output:
    """One command's way to speak.

    Parameters
    ----------
    quiet : bool
        Show nothing but errors and, with `as_json`, the result.
    as_json : bool
        Print the result as one JSON object.
    """

    def __init__(self, quiet: bool = False, as_json: bool = False) -> None:
        self.quiet, self.as_json = quiet, as_json
        self.out = Console(highlight=False, soft_wrap=not sys.stdout.isatty())
        if not self.out.is_terminal:
            self.out.width = 400  # a pipe has no width, and a table cut at 80 columns would lose numbers
        self.err = Console(stderr=True, highlight=False, soft_wrap=not sys.stderr.isatty())

    @contextlib.contextmanager
    def progress(self, description: str) -> Iterator[Callable[[int, int], None]]:
        """Show a bar, or a spinner as long as nothing is reported to the callable that is given.

        A stage that the library logs meanwhile (``logger.info`` of a logger below ``lmri``) becomes the description.
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
        """Print a line of result for people."""
        if not (self.quiet or self.as_json):
            self.out.print(escape(text))

    def problem(self, text: str) -> None:
        """Print what is wrong, also when quiet; among the results, unless these are JSON."""
        if not self.as_json:
            (self.err if self.quiet else self.out).print(f"[bold red]Problem:[/] {escape(text)}")

    def table(self, table: pd.DataFrame, title: str = "") -> None:
        """Print a table for people."""
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
        """Print the result as JSON, if that was asked for."""
        if self.as_json:
            sys.stdout.write(json.dumps(content, indent=2, default=_plain) + "\n")


class _StageHandler(logging.Handler):
    """Hands the messages of the library's loggers to a function."""

    def __init__(self, show: Callable[[str], None]) -> None:
        super().__init__(logging.INFO)
        self._show = show

    def emit(self, record: logging.LogRecord) -> None:
        if record.levelno == logging.INFO:
            self._show(record.getMessage())


@contextlib.contextmanager
def _stages(show: Callable[[str], None]) -> Iterator[None]:
    """Call `show` with every stage that the library logs while the body runs."""
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


def _plain(value: Any) -> Any:
    return value.item() if hasattr(value, "item") else str(value)


def quote(path: object) -> str:
    """Write a path as a shell takes it."""
    return shlex.quote(str(path))


def records(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Turn a table into JSON rows, with null where there is no value."""
    return [
        {key: None if isinstance(value, float) and pd.isna(value) else value for key, value in row.items()}
        for row in table.to_dict("records")
    ]


def guarded(command: Callable[..., None]) -> Callable[..., None]:
    """Let a command end with a message and an exit code instead of a traceback.

    1 is an error that the message explains, 2 wrong usage, 130 an interruption.
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
            _fail(err, "Interrupted. Nothing half made was kept.", 130)
        except (typer.Exit, typer.Abort):
            raise
        except Exception as error:
            if os.environ.get("LMRI_DEBUG"):
                raise
            kind = type(error).__name__
            _fail(err, f"{kind}: {error}. This is a fault of lmri; LMRI_DEBUG=1 shows where it happens.", 1)

    return run


def _fail(err: Console, message: str, code: int) -> NoReturn:
    err.print(f"[bold red]Error:[/] {escape(message)}")
    raise typer.Exit(code)


@contextlib.contextmanager
def _calm(err: Console, quiet: bool) -> Iterator[None]:
    """Show our own warnings as one line each, once, and keep other libraries' to themselves."""
    shown: set[str] = set()

    def show(message: Warning | str, category: type[Warning], *args: Any, **kwargs: Any) -> None:
        text = str(message)
        if issubclass(category, LMRIWarning) and text not in shown and not quiet:
            shown.add(text)
            err.print(f"[bold yellow]Warning:[/] {escape(text)}")

    # Set before transformers is imported: it reads them then.
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    for name in ("huggingface_hub", "httpx", "datasets"):
        logging.getLogger(name).setLevel(logging.ERROR)  # a page of retries says less than the error after it
    with warnings.catch_warnings(), _log_warnings():
        warnings.simplefilter("always", LMRIWarning)
        warnings.showwarning = show
        yield


@contextlib.contextmanager
def _log_warnings() -> Iterator[None]:
    """Print warnings of the library's log, which is silent in Python unless a level is set."""
    logger, handler = logging.getLogger("lmri"), logging.lastResort
    if handler is None or any(not isinstance(one, logging.NullHandler) for one in logger.handlers):
        yield
        return
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)


def check_new(option: str, path: Path | None) -> None:
    """Refuse a file or folder that exists, so that nothing is overwritten."""
    if path is not None and path.exists():
        raise ValueError(f"{path} exists. Nothing was overwritten: choose another {option}.")


def check_new_figure(option: str, path: Path | None) -> None:
    """Refuse a file that exists, or whose name promises another format than SVG."""
    check_new(option, path)
    if path is not None and path.suffix.lower() != ".svg":
        raise ValueError(f"{option} is {path}; figures are SVG. Give it a name that ends in .svg.")


def told_p(p: float) -> str:
    """Write a p or a q: one that is no 0 never looks like one."""
    return "–" if p != p else "< 0.0001" if p < 0.00005 else f"{p:.4f}"


def told_starts(convergence: Mapping[str, Any]) -> str:
    """Say how many starts of a fit converged, if its solver says so."""
    n_starts = convergence["n_starts"]
    return f"{convergence['n_converged']} of {n_starts} starts converged" if n_starts else "convergence is not told"


def counted(n: int, noun: str) -> str:
    """Count things in words: 1 run, 2 runs."""
    return f"{n:,} {noun}{'' if n == 1 else 's'}"
