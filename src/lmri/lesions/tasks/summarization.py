"""Summarization: ROUGE-L of a summary relative to reference summaries, with the library `rouge-score` [1]_.

References
----------
.. [1] Lin (2004). ROUGE: a package for automatic evaluation of summaries. Text Summarization Branches Out.
"""

import importlib
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lmri.lesions.tasks.items import Items, gather, is_missing, read_source
from lmri.lesions.tasks.named import NamedTask
from lmri.lesions.tasks.recipe import FreeRecipe
from lmri.lesions.tasks.references import from_json, strings

if TYPE_CHECKING:  # an optional dependency
    from rouge_score.rouge_scorer import RougeScorer


@lru_cache
def _scorer() -> "RougeScorer":
    try:
        rouge_scorer = importlib.import_module("rouge_score.rouge_scorer")
    except ImportError as error:
        raise ValueError(
            "Scoring of summaries needs the library rouge-score, which is not installed. Install it: pip install "
            "'lmri[tasks]'."
        ) from error
    return rouge_scorer.RougeScorer(["rougeL"], use_stemmer=True)


def check_installed() -> None:
    """Check, before anything is generated, that ROUGE can be computed.

    Raises
    ------
    ValueError
        If `rouge-score` is not installed.
    """
    _scorer()


def rouge_l(answer: str, references: Sequence[str]) -> float:
    """Compute the largest F-measure of the longest common subsequence of stemmed words with any reference."""
    return float(_scorer().score_multi(list(references), answer)["rougeL"].fmeasure)


def read(source: str | Path, config: str | None = None, split: str | None = None, quoting: str | None = None) -> Items:
    """Read documents and their summaries, one or a list per document."""
    table, where = read_source(source, config, split, quoting)
    return gather(
        table, where, {"text": ("text", "article", "document")}, read_references,
        ("summaries", "summary", "highlights"), cluster=("text",), linked=("text",),
    )  # fmt: skip


def read_references(raw: Any, here: str) -> list[str] | None:
    """Parse references in files: one text, several, or JSON of several; None if there is none."""
    raw = from_json(raw, "[")
    if is_missing(raw):
        return None
    return strings([raw] if isinstance(raw, str) else raw, here)


RECIPE = FreeRecipe(
    name="summarization",
    prompt="{text}\nSummary:",
    measures={"rouge_l": rouge_l},
    reader=read,
    dataset=("abisee/cnn_dailymail", "3.0.0", "test"),
    shortened="text",
    first_line=False,
    max_new_tokens=128,
    check=check_installed,
)

TASK = NamedTask(RECIPE, "summaries compared with references by ROUGE-L")
