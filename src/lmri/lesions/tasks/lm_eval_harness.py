"""The lm-evaluation-harness: import, loading of tasks, and a wrapper of the live model."""

import contextlib
import copy
import importlib
import io
import logging
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from transformers import PreTrainedModel

if TYPE_CHECKING:  # an optional dependency
    from lm_eval.models.huggingface import HFLM


def import_harness(module: str) -> ModuleType:
    """Import a module of the harness, or raise an error with installation instructions."""
    try:
        return importlib.import_module(f"lm_eval.{module}")
    except ImportError as error:
        raise ImportError(
            f"LMEval needs the lm-evaluation-harness, but {error.name!r} is not installed. Install the harness and "
            "accelerate: pip install 'lmri[lm-eval]'."
        ) from error


def load_tasks(names: list[str], include: str | Path | None) -> dict[str, Any]:
    """Load tasks of the harness by name, or from the files in a folder."""
    manager = import_harness("tasks").TaskManager
    folder = None if include is None else str(include)
    if folder is not None and not Path(folder).is_dir():
        raise ValueError(f"include is {folder!r}, which is not a folder. Give the folder of your task files.")
    # Indexing all tasks of the harness takes seconds, so they are indexed only if needed.
    local_manager = manager(include_path=folder, include_defaults=False)
    local = all(name in local_manager.all_tasks or Path(name).is_file() for name in names)
    try:
        loaded = (local_manager if local else manager(include_path=folder)).load(names)["tasks"]
    except KeyError as error:
        raise ValueError(
            f"{error.args[0]}. Give names of tasks of the harness (lm-eval ls tasks), or set include= to the folder of "
            "your task files."
        ) from error
    except (OSError, ValueError, TypeError, RuntimeError, ImportError) as error:
        raise ValueError(f"The harness cannot load {names}: {error} Check the task files and their data.") from error
    if not loaded:
        raise ValueError(f"There is no task in {names}. Give at least one name, such as 'arc_easy'.")
    return dict(loaded)


def prepare(task: Any, limit: int | None, num_fewshot: int | None, seed: int) -> None:
    """Build all requests once, as in the harness' evaluation."""
    if num_fewshot is not None:
        task.set_config(key="num_fewshot", value=num_fewshot)
    elif task.get_config("num_fewshot") is None:
        task.set_config(key="num_fewshot", value=0)
    task.set_fewshot_seed(seed=seed)
    task.build_all_requests(limit=limit, rank=0, world_size=1)


def wrap(model: PreTrainedModel, tokenizer: Any, batch_size: int) -> "HFLM":
    """Wrap the live model for the harness, protecting model and tokenizer from changes."""
    if tokenizer.bos_token_id is None and tokenizer.eos_token_id is None:
        raise ValueError(
            "LMEval needs a tokenizer with a token for the start or the end of a text; this one has neither. Set one "
            "in the vocabulary of the model: tokenizer.eos_token = ..."
        )
    tokenizer_copy = copy.deepcopy(tokenizer)  # the harness sets a pad token if there is none
    # The harness ties weights, which would change a model with untied weights.
    model.tie_weights = lambda *args, **options: None
    try:
        return import_harness("models.huggingface").HFLM(
            pretrained=model, tokenizer=tokenizer_copy, batch_size=batch_size
        )
    finally:
        del model.tie_weights


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Suppress progress bars and log messages of the harness, as a library should not print."""
    log = logging.getLogger("lm_eval")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        with contextlib.redirect_stderr(io.StringIO()):
            yield
    finally:
        log.setLevel(level)
