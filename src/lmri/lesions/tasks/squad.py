"""SQuAD v1.1: question answering with words of a paragraph; F1 and exact match with the official normalization [1]_.

References
----------
.. [1] Rajpurkar et al. (2016). SQuAD: 100,000+ questions for machine comprehension of text. EMNLP.
"""

import re
import string
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from lmri.lesions.tasks.items import Items, gather, is_missing, read_source
from lmri.lesions.tasks.named import NamedTask
from lmri.lesions.tasks.recipe import FreeRecipe
from lmri.lesions.tasks.references import from_json, strings
from lmri.storage.json_files import read_json
from lmri.storage.text_files import TextFile
from lmri.storage.user_tables import report

FILES = ("dev-v1.1.json", "dev.json")

_PUNCTUATION = str.maketrans("", "", string.punctuation)


def normalize(text: str) -> str:
    """Normalize an answer for comparison.

    Examples
    --------
    >>> normalize("The  Panthers' defense!")
    'panthers defense'
    """
    plain = text.lower().translate(_PUNCTUATION)
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", plain).split())


def exact_match(answer: str, references: Sequence[str]) -> float:
    """Return 1 if the normalized answer equals a normalized reference, else 0."""
    return float(any(normalize(answer) == normalize(reference) for reference in references))


def answer_f1(answer: str, references: Sequence[str]) -> float:
    """Compute the largest F1 of shared words between an answer and any reference."""
    return max(_overlap(normalize(answer).split(), normalize(reference).split()) for reference in references)


def _overlap(answer: list[str], reference: list[str]) -> float:
    shared = (Counter(answer) & Counter(reference)).total()
    # 2 PR / (P + R) with P = shared / n_answer and R = shared / n_reference.
    return 2 * shared / (len(answer) + len(reference)) if shared else 0.0


def read(source: str | Path, config: str | None = None, split: str | None = None, quoting: str | None = None) -> Items:
    """Read questions from the official JSON, or from a table with context, question and answers."""
    path = Path(source).expanduser()
    if path.is_dir():
        path = next((path / name for name in FILES if (path / name).is_file()), path)
    if path.is_file() and path.suffix == ".json" and (table := _flat(path)) is not None:
        where = str(path)
    else:
        table, where = read_source(source, config, split, quoting, files=FILES)
    return gather(
        table, where, {"context": ("context",), "question": ("question",)}, _references, ("answers", "answer"),
        cluster=("context",), linked=("context",),
    )  # fmt: skip


def _flat(path: Path) -> pd.DataFrame | None:
    file = TextFile.read(path)
    content = read_json(file)
    if not isinstance(content, dict) or "data" not in content:
        return None
    try:
        rows = [
            {"context": paragraph["context"], "question": entry["question"], "answers": entry["answers"]}
            for article in content["data"]
            for paragraph in article["paragraphs"]
            for entry in paragraph["qas"]
        ]
    except (KeyError, TypeError) as error:
        raise ValueError(f"{path} is not in the layout of SQuAD v1.1: {error!r} is missing.") from error
    report(file, len(rows))
    return pd.DataFrame(rows, index=pd.RangeIndex(1, len(rows) + 1, name="question"))


def _references(raw: Any, here: str) -> list[str] | None:
    """Parse answers in files: texts, ``{"text": […]}``, a list of ``{"text": …}``, or JSON of any of these."""
    raw = from_json(raw, "[{")
    if isinstance(raw, dict):
        raw = raw.get("text", [])
    # Questions without an answer come from SQuAD v2, which has a different metric.
    if is_missing(raw):
        return None
    listed = [raw] if isinstance(raw, str) else raw
    if isinstance(listed, Iterable):
        listed = [answer.get("text") if isinstance(answer, dict) else answer for answer in listed]
    return strings(listed, here)


RECIPE = FreeRecipe(
    name="squad",
    prompt="{context}\nQuestion: {question}\nAnswer:",
    measures={"answer_f1": answer_f1, "exact_match": exact_match},
    reader=read,
    dataset=("rajpurkar/squad", None, "validation"),
    shortened="context",
)

TASK = NamedTask(RECIPE, "answers that are spans of a paragraph")
