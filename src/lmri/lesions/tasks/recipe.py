"""Recipes: what a named task is, as data. Each of the modules of tasks holds one."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from lmri.lesions.tasks.items import UNLABELLED, Items, gather, plain, read_source

if TYPE_CHECKING:
    from lmri.lesions.tasks.free_text import Measure

Prepared = tuple[pd.DataFrame, tuple[str, ...]]


@dataclass(frozen=True)
class Recipe:
    """A classification task: where its texts and labels stand, and how a language model is asked.

    Parameters
    ----------
    name : str
        What tables call it.
    columns : mapping of str to tuple of str
        The names that files give to the column of each text.
    labels : mapping of str to tuple of str
        How files write each label besides its own name, in the order that the dataset numbers them.
    words : mapping of str to str
        What stands for each label behind the prompt.
    prompt : str
        With the fields in braces.
    label_columns : tuple of str
        The names that files give to the column of labels.
    cluster : tuple of str
        Fields that make a cluster; all of them, if none is named.
    cluster_column : str
        A column that names the clusters, instead.
    linked : tuple of str
        Fields that no two splits may share, beside the cluster.
    also : tuple of str
        Further metrics, as GLUE has them.
    positive : str
        The label that F1 is of.
    dataset : tuple
        Name, configuration and split on the Hugging Face hub.
    files : tuple of str
        Names of the file in a folder.
    header : tuple of str
        Columns of official files that have no line of names.
    quoted : bool
        Whether TSV files quote their fields.
    prepare : callable, optional
        Brings a table into the form that `columns` tells of, and says what rows should know; it takes the table and
        what it is called.
    scoring : str
        How it is scored unless asked otherwise.
    """

    name: str
    columns: Mapping[str, tuple[str, ...]]
    labels: Mapping[str, tuple[str, ...]]
    words: Mapping[str, str]
    prompt: str
    label_columns: tuple[str, ...] = ("label",)
    cluster: tuple[str, ...] = ()
    cluster_column: str = ""
    linked: tuple[str, ...] = ()
    also: tuple[str, ...] = ()
    positive: str = ""
    dataset: tuple[str, str | None, str] | None = None
    files: tuple[str, ...] = ()
    header: tuple[str, ...] = ()
    quoted: bool = False
    prepare: Callable[[pd.DataFrame, str], Prepared] | None = field(default=None, repr=False)
    scoring: str = "loglikelihood"

    def read(self, source: str | Path, config: str | None = None, split: str | None = None) -> Items:
        """Read items from a file, a folder or a Hugging Face dataset.

        Raises
        ------
        ValueError
            If a column is missing, or a label is none of the task's.
        """
        table, where = read_source(
            source, config, split, files=self.files, header=self.header, quoted=self.quoted
        )  # fmt: skip
        notes: tuple[str, ...] = ()
        if self.prepare is not None:
            # A split of a dataset says which kind it is, as in MNLI.
            table, notes = self.prepare(table, f"{where} {split or ''}".strip())
        known = {alias.casefold(): label for label, others in self.labels.items() for alias in (label, *others)}

        def label_of(raw: object) -> str | None:
            text = plain(raw)
            if text.casefold() in known:
                return known[text.casefold()]
            if text in UNLABELLED:
                return None
            accepted = ", ".join(" or ".join(map(repr, (label, *others))) for label, others in self.labels.items())
            raise ValueError(f"{where} has the label {text!r}; {self.name} has {accepted}.")

        items = gather(
            table,
            where,
            self.columns,
            label_of,
            self.label_columns,
            self.cluster or tuple(self.columns),
            self.linked,
            self.cluster_column,
        )
        return replace(items, notes=(*notes, *items.notes))


@dataclass(frozen=True)
class FreeRecipe:
    """A task that is answered by free text.

    Parameters
    ----------
    name : str
        What tables call it.
    prompt : str
        With the fields in braces.
    measures : mapping of str to callable
        How answers are compared with references; the first is the task's metric.
    reader : callable
        Reads items from a source; it takes source, configuration and split.
    dataset : tuple
        Name, configuration and split on the Hugging Face hub.
    shortened : str
        The field that is cut if a prompt is longer than the context.
    first_line : bool
        Whether an answer ends with its first line.
    max_new_tokens : int
        Most tokens of an answer.
    check : callable, optional
        Fails if a library is missing.
    """

    name: str
    prompt: str
    measures: "Mapping[str, Measure]"
    reader: Callable[[str | Path, str | None, str | None], Items] = field(repr=False)
    dataset: tuple[str, str | None, str] | None = None
    shortened: str = ""
    first_line: bool = True
    max_new_tokens: int = 32
    check: Callable[[], None] | None = field(default=None, repr=False)

    def read(self, source: str | Path, config: str | None = None, split: str | None = None) -> Items:
        """Read items from a file, a folder or a Hugging Face dataset."""
        if self.check is not None:
            self.check()  # before the model has written anything
        return self.reader(source, config, split)
