"""MNLI: entailment, contradiction or neither between premise and hypothesis; matched and mismatched genres [1]_.

References
----------
.. [1] Williams, Nangia & Bowman (2018). A broad-coverage challenge corpus for sentence understanding through inference.
   NAACL.
"""

from dataclasses import replace
from functools import partial
from pathlib import Path

import pandas as pd

from lmri.lesions.tasks.named import NamedTask
from lmri.lesions.tasks.recipe import Recipe

_MATCHED = ("fiction", "government", "slate", "telephone", "travel")
_MISMATCHED = ("facetoface", "letters", "nineeleven", "oup", "verbatim")


def _kinds(table: pd.DataFrame, where: str) -> list[str] | None:
    """Determine which rows are matched, by a column or by the file name; None if neither tells."""
    for column in ("split", "genre"):
        if column in table:
            written = [str(value).casefold() for value in table[column]]
            kinds = [
                "mismatched" if "mismatched" in value or value in _MISMATCHED
                else "matched" if "matched" in value or value in _MATCHED
                else ""
                for value in written
            ]  # fmt: skip
            if all(kinds):
                return kinds
    name = Path(where).name.casefold()  # folders may be called anything
    return ["mismatched" if "mismatched" in name else "matched"] * len(table) if "matched" in name else None


def _prepare(wanted: str, table: pd.DataFrame, where: str) -> tuple[pd.DataFrame, tuple[str, ...]]:
    kinds = _kinds(table, where)
    if not wanted:
        both = kinds is not None and len(set(kinds)) == 2
        return table, ("matched and mismatched together",) if both else ()
    if kinds is None:
        raise ValueError(
            f"{where} does not identify the {wanted} rows, neither by a column 'split' or 'genre' nor by its name. Use "
            "the task 'mnli' for all rows."
        )
    matching = table[[kind == wanted for kind in kinds]]
    if matching.empty:
        raise ValueError(f"{where} contains no {wanted} rows. Use the task 'mnli' for all rows, or another file.")
    return matching, ()


RECIPE = Recipe(
    name="mnli",
    columns={"premise": ("premise", "sentence1"), "hypothesis": ("hypothesis", "sentence2")},
    labels={"entailment": ("0",), "neutral": ("1",), "contradiction": ("2",)},
    words={"entailment": " true", "neutral": " unclear", "contradiction": " false"},
    prompt="Premise: {premise}\nHypothesis: {hypothesis}\n"
    "Given the premise, is the hypothesis true, false or unclear?\nAnswer:",
    label_columns=("gold_label", "label"),
    cluster=("premise",),
    dataset=("nyu-mll/glue", "mnli", "validation_matched"),
    files=("dev_matched.tsv", "dev.jsonl"),
    prepare=partial(_prepare, ""),
)
MATCHED = replace(RECIPE, name="mnli-matched", prepare=partial(_prepare, "matched"))
MISMATCHED = replace(
    RECIPE,
    name="mnli-mismatched",
    dataset=("nyu-mll/glue", "mnli", "validation_mismatched"),
    files=("dev_mismatched.tsv", "dev.jsonl"),
    prepare=partial(_prepare, "mismatched"),
)

TASK = NamedTask(RECIPE, "entailment between sentences")
MATCHED_TASK = NamedTask(MATCHED, "entailment, genres of the training set", is_variant=True)
MISMATCHED_TASK = NamedTask(MISMATCHED, "entailment, other genres", is_variant=True)
