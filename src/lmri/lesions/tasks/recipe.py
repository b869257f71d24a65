"""Recipes: declarative descriptions of named tasks, one per module."""

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
    """A classification task: columns of its texts and labels, and the prompt for a language model.

    Parameters
    ----------
    name : str
        Name in tables.
    columns : mapping of str to tuple of str
        Accepted names of the column of each text.
    labels : mapping of str to tuple of str
        Alternative spellings of each label in files, in the order of the dataset's numbers.
    words : mapping of str to str
        Words that represent each label after the prompt.
    prompt : str
        Prompt with the fields in braces.
    label_columns : tuple of str
        Accepted names of the column of labels.
    cluster : tuple of str
        Fields that define a cluster; all fields by default.
    cluster_column : str
        Column of cluster names (overrides `cluster`).
    linked : tuple of str
        Fields, besides the cluster, that two splits may not share.
    also : tuple of str
        Further metrics, as in GLUE.
    positive : str
        Positive label of F1.
    dataset : tuple
        Name, configuration and split on the Hugging Face hub.
    files : tuple of str
        Accepted names of the file in a folder.
    header : tuple of str
        Columns of official files without a header line.
    short_rows : bool
        Whether rows of files may lack their last fields; they are then without a label, and left out.
    prepare : callable, optional
        Function from a table and its name to a table with the columns of `columns`, and to the caveats for the rows.
    scoring : str
        Default scoring method.
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
    short_rows: bool = False
    prepare: Callable[[pd.DataFrame, str], Prepared] | None = field(default=None, repr=False)
    scoring: str = "loglikelihood"

    def read(
        self, source: str | Path, config: str | None = None, split: str | None = None, quoting: str | None = None
    ) -> Items:
        """Read items from a file, a folder or a Hugging Face dataset; see `read_source`.

        Raises
        ------
        ValueError
            If a column is missing, or a label is unknown.
        """
        table, where = read_source(
            source, config, split, quoting, files=self.files, header=self.header, short_rows=self.short_rows
        )
        notes: tuple[str, ...] = ()
        if self.prepare is not None:
            # The name of a dataset's split may identify the kind, as in MNLI.
            table, notes = self.prepare(table, f"{where} {split or ''}".strip())
        known = {alias.casefold(): label for label, others in self.labels.items() for alias in (label, *others)}

        def label_of(raw: object, here: str) -> str | None:
            text = plain(raw)
            if text.casefold() in known:
                return known[text.casefold()]
            if text in UNLABELLED:
                return None
            accepted = ", ".join(" or ".join(map(repr, (label, *others))) for label, others in self.labels.items())
            raise ValueError(f"{here} has the label {text!r}; {self.name} accepts {accepted}. Correct the file.")

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
    """A task with free-text answers.

    Parameters
    ----------
    name : str
        Name in tables.
    prompt : str
        Prompt with the fields in braces.
    measures : mapping of str to callable
        Functions that compare answers with references; the first is the main metric.
    reader : callable
        Function that reads items from source, configuration, split and quoting.
    dataset : tuple
        Name, configuration and split on the Hugging Face hub.
    shortened : str
        Field that is truncated if a prompt exceeds the context.
    first_line : bool
        Whether only the first line of an answer counts.
    max_new_tokens : int
        Largest number of tokens of an answer.
    check : callable, optional
        Function that raises an error if a library is missing.
    """

    name: str
    prompt: str
    measures: "Mapping[str, Measure]"
    reader: Callable[[str | Path, str | None, str | None, str | None], Items] = field(repr=False)
    dataset: tuple[str, str | None, str] | None = None
    shortened: str = ""
    first_line: bool = True
    max_new_tokens: int = 32
    check: Callable[[], None] | None = field(default=None, repr=False)

    def read(
        self, source: str | Path, config: str | None = None, split: str | None = None, quoting: str | None = None
    ) -> Items:
        """Read items from a file, a folder or a Hugging Face dataset; see `read_source`."""
        if self.check is not None:
            self.check()  # before anything is generated
        return self.reader(source, config, split, quoting)
