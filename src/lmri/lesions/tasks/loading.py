"""Loading of named tasks, and of user-defined YAML tasks, from files, folders or Hugging Face datasets."""

from pathlib import Path
from typing import Unpack

from lmri.lesions.tasks.base import Task, remark
from lmri.lesions.tasks.classification import SCORINGS, Classification
from lmri.lesions.tasks.free_text import FreeText
from lmri.lesions.tasks.items import Items
from lmri.lesions.tasks.options import TaskDataKeywords, TaskDataOptions
from lmri.lesions.tasks.perplexity import Perplexity
from lmri.lesions.tasks.recipe import FreeRecipe, Recipe
from lmri.lesions.tasks.registry import TASKS
from lmri.lesions.tasks.table import read_yaml
from lmri.storage import text_hash
from lmri.storage.texts import read_texts

NAMES = (*TASKS, "perplexity")
"""Names of tasks accepted by `load`."""


def load(name: str | Path, source: str | Path | None = None, **options: Unpack[TaskDataKeywords]) -> Task:
    """Load a task with its data.

    Parameters
    ----------
    name : str or Path
        Name in `NAMES`, or a YAML file that describes a task (see `lmri.tasks.table`).
    source : str or Path, optional
        File (JSONL, JSON, CSV, TSV, Parquet; columns as in GLUE's files or the Hugging Face datasets), folder that
        contains one, or name of a Hugging Face dataset. By default the task's dataset on the Hugging Face hub; for a
        YAML task, the data that it names.
    scoring : str, optional
        Scoring method in ``lmri.tasks.SCORINGS``; the default is ``"loglikelihood"``, or ``"generate"`` for free text.
    limit : int, optional
        Number of items to draw at random from the split; a warning and a note if there are fewer.
    split : str, optional
        Split to load, ``"fit"``, ``"select"`` or ``"test"``, as assigned by `lmri.splits.split_clusters`.
    shares : sequence of 3 floats
        Shares of the splits.
    seed : int, default=0
        Seed of the splits and of the draw.
    known : mapping of str to str, optional
        Split by text hash, for texts that are already assigned.
    prompt : str, optional
        Prompt that replaces the default, with the names of the texts in braces.
    words : mapping of str to str, optional
        Words of the labels that replace the defaults.
    max_new_tokens : int, optional
        Largest number of tokens of a generated answer; the default is 16 for labels, 32 for answers and 128 for
        summaries.
    batch_size : int, default=8
        Number of items per forward pass.
    config, dataset_split : str, optional
        Configuration and split of a Hugging Face dataset.
    column : str, default="text"
        Column of the texts of a perplexity task.
    quoting : {"csv", "none"}, optional
        Whether quotation marks in CSV and TSV files enclose fields (``"csv"``) or belong to the texts (``"none"``); by
        default they enclose fields in ``.csv`` files only.

    Returns
    -------
    Task
        Task for `lmri.evaluate`.

    Raises
    ------
    ValueError
        If the task is unknown, a column is missing, or no items are left to score.

    Examples
    --------
    >>> "sst2" in NAMES
    True
    """
    chosen = TaskDataOptions(**options)
    recipe, default_source = _find(name)
    _check(name, recipe, chosen)
    source = default_source if source is None else source
    location = _locate(str(name), source, recipe.dataset if recipe else None, chosen.config, chosen.dataset_split)
    items = (
        _texts(*location, chosen.column, chosen.quoting) if recipe is None else recipe.read(*location, chosen.quoting)
    )
    if chosen.split:
        items = items.of_split(str(name), chosen.split, chosen.shares, chosen.seed, chosen.known)
    items = items.sample(chosen.limit, chosen.seed)
    task = _build(recipe, items, chosen)
    for note in items.notes:
        task.info = remark(task.info, note)
    return task


def _build(recipe: Recipe | FreeRecipe | None, items: Items, chosen: TaskDataOptions) -> Task:
    """Build the task of a recipe, a perplexity if there is none, from its items."""
    batch_size, split, limit = chosen.batch_size, chosen.split, chosen.max_new_tokens
    if recipe is None:
        return Perplexity(items.targets, batch_size=batch_size, split=split)
    prompt = chosen.prompt or recipe.prompt
    if isinstance(recipe, Recipe):
        words = chosen.words or recipe.words
        return Classification(
            items.fields, items.targets, {label: words.get(label, "") for label in recipe.labels}, prompt,
            items.clusters, recipe.name, batch_size, split=split,
            scoring=chosen.scoring or recipe.scoring, also=recipe.also, positive=recipe.positive,
            aliases=recipe.labels, max_new_tokens=16 if limit is None else limit,
        )  # fmt: skip
    return FreeText(
        items.fields, items.targets, prompt, recipe.measures, items.clusters, recipe.shortened, recipe.first_line,
        recipe.max_new_tokens if limit is None else limit, recipe.name, batch_size, split=split,
    )  # fmt: skip


def _find(name: str | Path) -> tuple[Recipe | FreeRecipe | None, str | Path | None]:
    """Find the recipe, None for perplexity, and its default source of data."""
    if str(name) == "perplexity":
        return None, None
    known = str(name).replace("_", "-")  # spelling of datasets and of the harness
    if known in TASKS:
        return TASKS[known].recipe, None
    if Path(name).suffix.lower() in (".yaml", ".yml"):
        return read_yaml(Path(name))
    raise ValueError(
        f"There is no task {str(name)!r}; choose from {', '.join([*TASKS, 'perplexity'])}, and YAML files."
    )


def _check(name: str | Path, recipe: Recipe | FreeRecipe | None, chosen: TaskDataOptions) -> None:
    """Raise an error for an option that the task would ignore."""
    scorings: tuple[str, ...]
    accepted: tuple[str, ...]
    if recipe is None:
        scorings, accepted = ("loglikelihood",), ()
    elif isinstance(recipe, Recipe):
        scorings, accepted = SCORINGS, ("prompt", "words", "max_new_tokens")
    else:
        scorings, accepted = ("generate",), ("prompt", "max_new_tokens")
    for option in ("prompt", "words", "max_new_tokens"):
        value = getattr(chosen, option)
        if value is not None and option not in accepted:
            raise ValueError(f"{option} is {value!r}, but {name} does not accept it. Omit it.")
    if chosen.scoring is not None and chosen.scoring not in scorings:
        raise ValueError(f"scoring is {chosen.scoring!r}; for {name}, choose from {', '.join(map(repr, scorings))}.")


def _texts(source: str | Path, config: str | None, split: str | None, column: str, quoting: str | None) -> Items:
    texts = read_texts(source, column=column, config=config, split=split, quoting=quoting)
    return Items(
        [{"text": text} for text in texts], texts, [text_hash(text) for text in texts], [[text] for text in texts]
    )


def _locate(
    name: str,
    source: str | Path | None,
    hub: tuple[str, str | None, str] | None,
    config: str | None,
    split: str | None,
) -> tuple[str | Path, str | None, str | None]:
    """Return the location of a task's data: the given source or, by default, its dataset on the hub."""
    if source is None and hub is None:
        raise ValueError(f"{name} has no default data. Give a file, a folder or a Hugging Face dataset as source.")
    if hub is not None and (source is None or str(source) == hub[0]):
        return hub[0], config or hub[1], split or hub[2]
    return str(source), config, split
