"""Columns of the tables of scores: names, meanings and units.

A new column of the summary is an entry of `SUMMARY` and a value in `Scores.summary`. Its place in the table, the text
columns of stored files, the docstrings and the headings of the report follow from the entry.
"""

import re
import textwrap
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

_Documented = TypeVar("_Documented", bound=Callable[..., Any])

TEXT = "text"
"""Unit of text columns, whose values are never read from files as numbers."""


@dataclass(frozen=True)
class ScoreColumn:
    """Column of a table of scores.

    Parameters
    ----------
    name : str
        Name, as in files.
    meaning : str
        Definition.
    unit : str
        Unit of the values: ``"metric"`` for the unit of the metric, ``"text"``, or a phrase such as ``"number"``.
    heading : str, default=""
        Heading in the report; by default the name with spaces.
    """

    name: str
    meaning: str
    unit: str
    heading: str = ""


_CONDITION = ScoreColumn("condition", "Name of the condition; ``intact`` is the unchanged model.", TEXT)
_NETWORK = ScoreColumn("network", "Name of the network whose neurons are changed; empty for ``intact``.", TEXT)
_N_NEURONS = ScoreColumn("n_neurons", "Number of neurons of the network.", "number")
_TASK = ScoreColumn("task", "Name of the task.", TEXT)
_FAMILY = ScoreColumn(
    "control_family",
    "Family of the matched controls: the properties that they share with the network; empty without controls.",
    TEXT,
    "controls matched for",
)
_NOTE = ScoreColumn("note", "Caveats of the data and of the controls.", TEXT)
_MAJORITY_RATE = ScoreColumn(
    "majority_rate", "Accuracy of always predicting the most frequent label; missing if there are no labels.", "share"
)
_BALANCED_ACCURACY = ScoreColumn(
    "balanced_accuracy", "Mean recall over the labels; missing if there are no labels.", "share"
)
_MEAN_MARGIN = ScoreColumn(
    "mean_margin", "Mean margin of the true label over the items; missing if the scoring gives none.", "nats"
)
_COLLAPSED = ScoreColumn("collapsed", "Whether all predictions are the same label, although several occur.", "0 or 1")


def _table(*columns: ScoreColumn) -> dict[str, ScoreColumn]:
    return {column.name: column for column in columns}


ITEMS = _table(
    _CONDITION,
    _TASK,
    ScoreColumn("item", "Item, the unit that a task scores.", TEXT),
    ScoreColumn("cluster", "Unit that the bootstrap resamples, by default the text.", TEXT),
    ScoreColumn("n_tokens", "Number of tokens that are scored.", "number"),
    ScoreColumn(
        "value", "Score of the item; NaN if a generated answer could not be parsed or the model gave NaN.", "metric"
    ),
    ScoreColumn(
        "repeat",
        "Repetition, if a condition was scored several times, for example with several seeds of donor tokens; -1 if "
        "it was scored once.",
        "number",
    ),
    ScoreColumn("label", "True label, of a classification.", TEXT),
    ScoreColumn("predicted", "Predicted label, of a classification; empty if the answer could not be parsed.", TEXT),
    ScoreColumn("margin", "Advantage of the true label over the others, of a classification.", "nats"),
    ScoreColumn("answer", "Generated text.", TEXT),
)
"""Columns of the item rows; tasks with several metrics add one column for each."""

CONDITIONS = _table(
    _CONDITION,
    ScoreColumn("kind", "Kind: ``intact``, ``network``, ``union``, ``random`` or ``control``.", TEXT),
    _NETWORK,
    _N_NEURONS,
    ScoreColumn("control_of", "Condition that is controlled; empty unless the condition is a control.", TEXT),
    _FAMILY,
    ScoreColumn("draw", "Number of the draw of a control; -1 for other conditions.", "number"),
    _NOTE,
)
"""Columns of the table of conditions."""

SUMMARY = _table(
    _CONDITION,
    _NETWORK,
    _N_NEURONS,
    _TASK,
    ScoreColumn("scoring", "Scoring method, as in `TaskInfo`.", TEXT),
    ScoreColumn("metric", "Name of the metric.", TEXT),
    ScoreColumn("value", "Metric under this condition.", "metric"),
    ScoreColumn("diff", "Difference of `value` from the intact model.", "metric", "difference"),
    ScoreColumn(
        "ci_low",
        "Lower bound of the 95 % interval of `diff` over resampled clusters (texts); missing if there are fewer than "
        "five.",
        "metric",
        "95 % from",
    ),
    ScoreColumn("ci_high", "Upper bound of this interval.", "metric", "95 % to"),
    _FAMILY,
    ScoreColumn("control_mean", "Mean `diff` of the matched controls.", "metric", "controls, mean"),
    ScoreColumn("effect", "``diff - control_mean``.", "metric"),
    ScoreColumn(
        "effect_low",
        "Lower bound of the 95 % interval of `effect` over resampled clusters, with the controls held fixed: whether "
        "the effect relative to controls generalizes to other texts.",
        "metric",
        "effect from",
    ),
    ScoreColumn("effect_high", "Upper bound of this interval.", "metric", "effect to"),
    ScoreColumn(
        "p",
        "(1 + controls at least as harmful) / (1 + controls): whether this set of neurons is unusual among sets "
        "matched to it, for this model and these items. It is never below 1 / (1 + `n_controls`). If draws stopped "
        "early, it is the sequential p of Besag and Clifford, and `control_mean` is the mean of the draws made.",
        "probability",
    ),
    ScoreColumn(
        "p_fwe",
        "`p` adjusted for the family-wise error over all conditions of the same task, metric and family of controls "
        "(max-T): how often the largest effect among jointly drawn controls is at least as large. Missing if draws "
        "are not joint or stopped early.",
        "probability",
        "p, FWE-corrected",
    ),
    ScoreColumn(
        "q",
        "`p` adjusted for the false discovery rate over all conditions of the same task, metric and family of "
        "controls; missing if even the smallest possible p in all of them would not be significant at 0.05.",
        "probability",
    ),
    ScoreColumn("n_items", "Number of items of the task.", "number"),
    ScoreColumn("n_controls", "Number of controls that were scored.", "number"),
    ScoreColumn(
        "n_repeats",
        "Number of repetitions of the condition, for example with several seeds of donor tokens; `value` pools all "
        "repetitions.",
        "number",
    ),
    ScoreColumn(
        "sd_repeats", "Standard deviation of the value over repetitions; missing for one.", "metric", "sd of repeats"
    ),
    ScoreColumn(
        "unparseable",
        "Share of generated answers without a value. Without generation, a missing value means that the model gives "
        "NaN or infinity; then the mean and p are also missing.",
        "share",
    ),
    ScoreColumn("seed", "Seed of the controls and of the bootstrap.", "number"),
    _MAJORITY_RATE,
    _BALANCED_ACCURACY,
    _MEAN_MARGIN,
    ScoreColumn("predicted_counts", "Number of predictions of each label; empty if there are no labels.", TEXT),
    _COLLAPSED,
    ScoreColumn("split", "Split of the items: ``fit``, ``select`` or ``test``; empty if they were not split.", TEXT),
    _NOTE,
)
"""Columns of the summary, in their order."""

LABELS = _table(
    _CONDITION,
    _TASK,
    ScoreColumn("label", "Label.", TEXT),
    ScoreColumn("n_true", "Number of items with this label.", "number"),
    ScoreColumn("n_predicted", "Number of predictions of this label.", "number"),
    ScoreColumn("recall", "Share of the items with this label that are predicted correctly.", "share"),
    _MAJORITY_RATE,
    _BALANCED_ACCURACY,
    _MEAN_MARGIN,
    _COLLAPSED,
)
"""Columns of the table of labels of classification tasks, in their order."""


def _text_columns(table: Mapping[str, ScoreColumn]) -> tuple[str, ...]:
    return tuple(name for name, column in table.items() if column.unit == TEXT)


SUMMARY_COLUMNS = tuple(SUMMARY)
ITEM_TEXT, CONDITION_TEXT, SUMMARY_TEXT = map(_text_columns, (ITEMS, CONDITIONS, SUMMARY))


def with_columns(**tables: Mapping[str, ScoreColumn]) -> Callable[[_Documented], _Documented]:
    """Replace lines such as ``<items>`` in the docstring of a class or function with the columns of the table."""

    def document(documented: _Documented) -> _Documented:
        for name, table in tables.items():
            docstring = documented.__doc__ or ""
            if line := re.search(rf"^( *)<{name}>$", docstring, re.MULTILINE):  # no docstrings under python -OO
                entries = "\n".join(map(_entry, table.values()))
                documented.__doc__ = docstring.replace(line[0], textwrap.indent(entries, line[1]))
        return documented

    return document


def _entry(column: ScoreColumn) -> str:
    unit = "" if column.unit == TEXT else f" ({column.unit})"
    return f"``{column.name}``{unit}\n{textwrap.indent(textwrap.fill(column.meaning, 100), '    ')}"
