"""Texts of a study: tables that all models share, and tables of what one model read.

A corpus is the same texts, the same seed and the same share of held-out texts for every model of a study, so that
models can be compared text by text. Where a model continued the texts, the shared texts are the prompts.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from lmri.exceptions import EntryExistsError, StudyError
from lmri.storage.files import read_json
from lmri.storage.layout import Layout
from lmri.storage.provenance import text_hash
from lmri.storage.tables import read_table, write_table

TEXT_COLUMNS = ("text_id", "sha256", "split", "text", "prompt_sha256")
"""Columns of tables of texts that are read as text."""

SPLIT_COLUMNS = ("corpus", "text_id", "sha256", "split")

SHARED = ["text_id", "sha256", "split", "text"]
"""Columns of a table that all models share."""

READ = ["text_id", "run", "n_tokens", "n_volumes", "n_cut"]
"""Columns of a table of what one model read."""

GENERATED = ["sha256", "text"]
"""Further columns of what one model read if it continued the texts: prompt and continuation together."""


def tables_of(layout: Layout, corpus: str) -> list[Path]:
    """Return the tables that contain the texts of a corpus as one model read them."""
    return [layout.texts(corpus), layout.read_texts(corpus)]


def read_texts_table(layout: Layout, corpus: str) -> pd.DataFrame:
    """Read the texts of a corpus as one model read them.

    Parameters
    ----------
    layout : Layout
        Layout of the study, with the scope of the model.
    corpus : str
        Name of the corpus.

    Returns
    -------
    DataFrame
        One row per text: ``text_id, sha256, split, run, n_tokens, n_volumes, n_cut, text`` and, if the model continued
        the texts, ``prompt_sha256``.

    Raises
    ------
    StudyError
        If a table is missing, or the tables list different texts.
    """
    shared = read_table(layout.texts(corpus), TEXT_COLUMNS)
    read = read_table(layout.read_texts(corpus), TEXT_COLUMNS)
    if shared["text_id"].tolist() != read["text_id"].tolist():
        raise StudyError(
            f"{layout.texts(corpus)} and {layout.read_texts(corpus)} list different texts. Restore the files, or "
            f"record {corpus!r} again."
        )
    generated = "text" in read
    columns: dict[str, Any] = {
        "text_id": shared["text_id"],
        "sha256": (read if generated else shared)["sha256"],
        "split": shared["split"],
        **{name: read[name] for name in READ[1:]},
        "text": (read if generated else shared)["text"],
    }
    return pd.DataFrame(columns | ({"prompt_sha256": shared["sha256"]} if generated else {}))


def write_texts_table(
    layout: Layout, corpus: str, texts: pd.DataFrame, prompts: Mapping[str, str], replace: bool = False
) -> None:
    """Write the texts of a corpus: the shared table, unless it is stored, and the table of the model.

    Parameters
    ----------
    layout : Layout
        Layout of the study, with the scope of the model.
    corpus : str
        Name of the corpus.
    texts : DataFrame
        Texts as from `read_texts_table`.
    prompts : mapping from str to str
        Prompts by hash, if the model continued the texts.
    replace : bool, default=False
        Whether to replace the shared table, if it has an older format.

    Raises
    ------
    EntryExistsError
        If the corpus has other texts, or another split, in the shared table.
    """
    generated = "prompt_sha256" in texts
    shared = texts[SHARED]
    if generated:
        shared = pd.DataFrame(
            {
                "text_id": texts["text_id"],
                "sha256": texts["prompt_sha256"],
                "split": texts["split"],
                "text": [prompts.get(sha, "") for sha in texts["prompt_sha256"]],
            }
        )
    path = layout.texts(corpus)
    read = texts[READ + (GENERATED if generated else [])]
    # Numbers of runs are integers, although held-out texts have none.
    write_table(layout.read_texts(corpus), read.assign(run=read["run"].astype("Int64")))
    if not replace and path.is_file() and not _lists_same(path, shared):
        if any(corpus_is_recorded(layout.at(scope), corpus) for scope in layout.scopes() if scope != layout.scope):
            raise EntryExistsError(
                f"{path} lists other texts of {corpus!r}, or another split into fitted and held-out texts, than this "
                "recording. Choose another name for the corpus (--corpus)."
            )
        replace = True  # it belongs to a recording that was discarded
    if replace or not path.is_file():
        write_table(path, shared)
    extend_split(layout, corpus, shared)


def _lists_same(path: Path, shared: pd.DataFrame) -> bool:
    """Return whether a stored table lists the same texts with the same split."""
    keys = ["text_id", "sha256", "split"]
    return bool(read_table(path, TEXT_COLUMNS)[keys].to_numpy().tolist() == shared[keys].to_numpy().tolist())


def corpus_is_recorded(layout: Layout, corpus: str) -> bool:
    """Return whether the model of a scope has a complete recording of a corpus."""
    return any(path.stem == corpus for path in layout.recordings())


def extend_split(layout: Layout, corpus: str, shared: pd.DataFrame) -> None:
    """Write the split of the texts of a corpus into the table of the splits of all corpora."""
    split = shared[["text_id", "sha256", "split"]].assign(corpus=corpus)[list(SPLIT_COLUMNS)]
    if layout.split.is_file():
        others = read_table(layout.split, SPLIT_COLUMNS)
        split = pd.concat([others[others["corpus"] != corpus], split])
    write_table(layout.split, split.sort_values(["corpus", "text_id"]))


# -- the same corpus in several models --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Begun:
    """A corpus that a model has recorded, or is recording.

    Parameters
    ----------
    scope : str
        Scope of the model.
    corpus : str
        Name of the corpus.
    hashes : tuple of str
        Hashes of the texts, or of the prompts, in order.
    parameters : mapping
        Parameters of the recording.
    splits : mapping from str to str
        Split, ``"fit"`` or ``"test"``, by the hash of a text: of the texts and of the prompts.
    """

    scope: str
    corpus: str
    hashes: tuple[str, ...]
    parameters: Mapping[str, Any]
    splits: Mapping[str, str]


def recorded_corpora(layout: Layout) -> list[Begun]:
    """List the corpora that the model of a scope has recorded, one per corpus."""
    indices = {path.stem: path for path in layout.recordings()}
    return [
        _begun(layout.scope, corpus, read_texts_table(layout, corpus), read_json(path)["parameters"])
        for corpus, path in indices.items()
    ]


def begun_corpora(layout: Layout) -> list[Begun]:
    """List the corpora of recordings of a scope that are in progress or were interrupted."""
    begun = []
    for folder in layout.unfinished_recordings():
        if (folder / "plan.json").is_file() and (folder / "texts.tsv").is_file():
            plan = read_json(folder / "plan.json")
            texts = read_table(folder / "texts.tsv", TEXT_COLUMNS)
            begun.append(_begun(layout.scope, plan["corpus"], texts, plan["parameters"]))
    return begun


def _begun(scope: str, corpus: str, texts: pd.DataFrame, parameters: Mapping[str, Any]) -> Begun:
    splits: dict[str, str] = {}
    for column in ("sha256", "prompt_sha256"):
        if column in texts:
            splits |= dict(texts[[column, "split"]].to_numpy())
    hashes = texts["prompt_sha256" if "prompt_sha256" in texts else "sha256"]
    return Begun(scope, corpus, tuple(hashes), parameters, splits)


def known_split(layout: Layout) -> dict[str, str]:
    """Return the split of the hash of every text that any model of the study has recorded.

    Recordings in progress of other models count, too, so that models that are recorded at once agree.
    """
    # From the recordings and not from split.tsv, which is for readers.
    known: dict[str, str] = {}
    for scope in layout.scopes():
        other = layout.at(scope)
        for begun in [*(begun_corpora(other) if scope != layout.scope else ()), *recorded_corpora(other)]:
            known |= begun.splits
    return known


SHARED_PARAMETERS = ("seed", "test_fraction")
"""Parameters of a recording that are the same for a corpus in all models."""


def check_same_corpus(layout: Layout, corpus: str, hashes: Sequence[str], parameters: Mapping[str, Any]) -> None:
    """Raise if another model of the study has recorded other texts, or another split, under this name.

    Parameters
    ----------
    layout : Layout
        Layout of the study, with the scope of the model to record.
    corpus : str
        Name of the corpus.
    hashes : sequence of str
        Hashes of the texts, or of the prompts, in order.
    parameters : mapping
        Parameters of the recording.

    Raises
    ------
    EntryExistsError
        If texts, seed or share of held-out texts differ; the message lists the differences.
    """
    for scope in layout.scopes():
        if scope == layout.scope:
            continue
        other = layout.at(scope)
        for begun in [*recorded_corpora(other), *begun_corpora(other)]:
            if begun.corpus != corpus:
                continue
            changed = [
                f"{name} = {begun.parameters.get(name)!r}, not {parameters.get(name)!r}"
                for name in SHARED_PARAMETERS
                if begun.parameters.get(name) != parameters.get(name)
            ]
            if begun.hashes != tuple(hashes):
                changed.insert(0, _difference(begun.hashes, hashes))
            if changed:
                raise EntryExistsError(
                    f"The corpus {corpus!r} was already recorded by {scope} in {layout.root}, with "
                    f"{'; '.join(changed)}. All models of a study read the same texts of a corpus, with the same seed "
                    "and share of held-out texts. Choose another name (--corpus), or record the stored texts: lmri "
                    "record MODEL --out STUDY."
                )


def _difference(begun: Sequence[str], now: Sequence[str]) -> str:
    if sorted(begun) == sorted(now):
        return "the same texts in another order"
    return f"other texts ({len(begun):,} there, {len(now):,} here, {len(set(begun) & set(now)):,} in common)"


def fitted_texts(layout: Layout) -> frozenset[str]:
    """Return all texts that any model of the study has recorded for fitting."""
    texts: set[str] = set()
    for scope in layout.scopes():
        other = layout.at(scope)
        for corpus in dict.fromkeys(path.stem for path in other.recordings()):
            table = read_texts_table(other, corpus)
            texts.update(table.loc[table["split"] == "fit", "text"])
    return frozenset(texts)


def stored_texts(layout: Layout, corpus: str) -> list[str]:
    """Return the texts of a corpus (or the prompts, if models continued them) in the order in which they were given.

    Raises
    ------
    StudyError
        If a prompt is not stored, as in studies of an older format.
    """
    table = read_table(layout.texts(corpus), TEXT_COLUMNS)
    texts = [str(text) for text in table["text"]]
    missing = int(np.sum([not text for text in texts]))
    if missing:
        raise StudyError(
            f"{missing} of the {len(texts)} prompts of {corpus!r} are not stored in {layout.root}, because an older "
            "version recorded them. Pass the prompts: lmri record MODEL PROMPTS --corpus ..."
        )
    return texts


def hashes_of(texts: pd.DataFrame | Iterable[str]) -> list[str]:
    """Return the hashes of texts, or of their prompts, in order."""
    if isinstance(texts, pd.DataFrame):
        return list(texts["prompt_sha256" if "prompt_sha256" in texts else "sha256"])
    return [text_hash(text) for text in texts]
