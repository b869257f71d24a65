r"""User-defined tasks in a few lines of YAML.

A classification task predicts the label of a text::

    name: irony data: irony.csv                # in the folder of this file; or a folder, or a Hugging Face dataset
    prompt: "{text}\nIs this ironic, yes or no?\nAnswer:" label: kind                    # column of labels words:
    {ironic: " yes", serious: " no"} cluster: document              # column; by default all texts of the prompt
    positive: ironic               # optional: adds F1 to accuracy scoring: loglikelihood

Words in braces in the prompt are columns. Free text names ``references`` instead of ``label`` and ``words``, and a
``metric``: ``answer_f1``, ``exact_match`` or ``rouge_l``.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from lmri.lesions.tasks import squad, summarization
from lmri.lesions.tasks.classification import SCORINGS
from lmri.lesions.tasks.free_text import Measure
from lmri.lesions.tasks.items import Items, gather, read_source
from lmri.lesions.tasks.recipe import FreeRecipe, Recipe
from lmri.storage.text_files import TextFile

_COMMON = ("name", "data", "prompt", "cluster")
_LABELS = ("label", "words", "positive", "metrics", "scoring")
_REFERENCES = ("references", "metric", "max_new_tokens")
_MEASURES: dict[str, Measure] = {**squad.RECIPE.measures, **summarization.RECIPE.measures}
_FURTHER = ("f1", "matthews", "balanced_accuracy")


class _UniqueKeys(yaml.BaseLoader):
    """Loader that refuses a key that occurs twice in a mapping, of which YAML uses the last value."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=deep) for key, _ in node.value]
        for number, key in enumerate(keys):
            if key in keys[:number]:
                mark = node.value[number][0].start_mark
                raise yaml.MarkedYAMLError(problem=f"the key {key!r} occurs twice; remove one", problem_mark=mark)
        return super().construct_mapping(node, deep)


def read_yaml(path: Path) -> tuple[Recipe | FreeRecipe, str | Path | None]:
    """Read a task from a YAML file.

    Returns
    -------
    recipe : Recipe or FreeRecipe
        Recipe of the task.
    source : str, Path or None
        Location of the data.

    Raises
    ------
    ValueError
        If a key is missing or unknown, or its value is invalid.
    """
    try:
        # All scalars stay text: YAML would read the label `no` as a boolean, and the label `01` as a number.
        content = yaml.load(TextFile.read(path).text, Loader=_UniqueKeys)
    except yaml.YAMLError as error:
        raise ValueError(f"{path} cannot be read as YAML: {error}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} does not contain keys with values. Add them, such as `name: irony`.")
    is_free = "references" in content
    accepted = (*_COMMON, *(_REFERENCES if is_free else _LABELS))
    unknown = [key for key in content if key not in accepted]
    needed = ("prompt", "references", "metric") if is_free else ("prompt", "label", "words")
    missing = [key for key in needed if key not in content]
    if unknown or missing:
        problem = f"has the unknown key {unknown[0]!r}" if unknown else f"lacks the key {missing[0]!r}"
        raise ValueError(f"{path} {problem}; choose from {', '.join(accepted)}.")
    for key in accepted:
        if key in content and not isinstance(content[key], str) and key not in ("words", "metrics"):
            raise ValueError(f"{path} has {key}: {content[key]!r}; text is needed. Put it in quotes.")
    name = content.get("name") or path.stem
    if not _columns(content["prompt"]):
        raise ValueError(
            f"The prompt of {path} has no column in braces, so no text would be read. Add one, such as {{text}}."
        )
    return (_free_text if is_free else _recipe)(content, name, path), _data(content.get("data"), path)


def _data(named: str | None, path: Path) -> str | Path | None:
    if not named:
        return None
    candidate = path.parent / Path(named).expanduser()
    # A name with a suffix is a file, even if it is missing, so that the error names it.
    return candidate if candidate.exists() or Path(named).suffix or named.startswith((".", "/", "~")) else named


def _columns(prompt: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(re.findall(r"\{([A-Za-z_][A-Za-z0-9_]*)\}", prompt)))


def _recipe(content: Mapping[str, Any], name: str, path: Path) -> Recipe:
    words, metrics = content["words"], content.get("metrics", [])
    if not isinstance(words, dict) or not all(isinstance(entry, str) for entry in words.values()):
        raise ValueError(f"{path} has words: {words!r}; give words by label, such as {{pos: good, neg: bad}}.")
    metrics = [metrics] if isinstance(metrics, str) else metrics
    wrong = [entry for entry in metrics if entry not in _FURTHER]
    if not isinstance(metrics, list) or wrong:
        raise ValueError(f"{path} has metrics: {metrics!r}; choose from {', '.join(_FURTHER)}.")
    if "positive" in content and "f1" not in metrics:
        metrics = ["f1", *metrics]
    if "f1" in metrics and content.get("positive") not in words:
        raise ValueError(f"{path} requests F1, which needs positive: one of the labels {', '.join(map(repr, words))}.")
    scoring = content.get("scoring", "loglikelihood")
    if scoring not in SCORINGS:
        raise ValueError(f"{path} has scoring: {scoring!r}; choose from {', '.join(map(repr, SCORINGS))}.")
    return Recipe(
        name=name,
        columns={field: (field,) for field in _columns(content["prompt"])},
        labels={label: () for label in words},
        # Answers follow the prompt after a space, which YAML drops unless it is quoted.
        words={label: entry if entry[:1].isspace() else f" {entry}" for label, entry in words.items()},
        prompt=content["prompt"],
        label_columns=(content["label"],),
        cluster_column=content.get("cluster", ""),
        also=tuple(metrics),
        positive=content.get("positive", ""),
        scoring=scoring,
    )


def _free_text(content: Mapping[str, Any], name: str, path: Path) -> FreeRecipe:
    metric, most = content["metric"], content.get("max_new_tokens", "32")
    if metric not in _MEASURES:
        raise ValueError(f"{path} has metric: {metric!r}; choose from {', '.join(_MEASURES)}.")
    if not most.isdecimal() or int(most) < 1:
        raise ValueError(f"{path} has max_new_tokens: {most!r}; it must be at least 1.")
    fields = _columns(content["prompt"])

    def read(source: str | Path, config: str | None, split: str | None, quoting: str | None) -> Items:
        table, where = read_source(source, config, split, quoting)
        columns = {column: (column,) for column in fields}
        target_columns = (content["references"],)
        cluster = content.get("cluster", "")
        return gather(table, where, columns, summarization.read_references, target_columns, fields, (), cluster)

    return FreeRecipe(
        name=name,
        prompt=content["prompt"],
        measures={metric: _MEASURES[metric]},
        reader=read,
        max_new_tokens=int(most),
        check=summarization.check_installed if metric == "rouge_l" else None,
    )
