"""Tasks requested on the command line, such as ``sst2:dev.jsonl``, and their construction."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lmri.lesions.tasks.registry import TASKS
from lmri.storage import text_hash
from lmri.storage.texts import read_texts

if TYPE_CHECKING:
    from lmri.lesions.tasks.base import Task
    from lmri.storage.store import Store


@dataclass(frozen=True)
class TaskOptions:
    """Choice of the tasks of an evaluation.

    Parameters
    ----------
    tasks : sequence of str, optional
        ``"perplexity"`` (of the held-out texts, the default), ``"perplexity:FILE"``, ``"classification:FILE"``,
        ``"NAME:FILE"`` with a name in `TASKS`, or a YAML file.
    scoring : str, optional
        Scoring of named tasks, one of ``lmri.tasks.SCORINGS``; by default the scoring of each task.
    split : {"", "fit", "select", "test"}, default=""
        Split of named tasks; all items by default.
    text_column : str, default="text"
        Column of the texts in FILE.
    batch_size : int, default=8
        Number of texts per forward pass.
    quoting : {"csv", "none"}, optional
        Whether quotation marks in CSV and TSV files enclose fields; see `lmri.read_texts`.
    """

    tasks: Sequence[str] | None = None
    scoring: str | None = None
    split: str = ""
    text_column: str = "text"
    batch_size: int = 8
    quoting: str | None = None

    @property
    def requested(self) -> list[str]:
        """Tasks as requested; perplexity if none was."""
        return list(self.tasks or ["perplexity"])

    @property
    def labels(self) -> list[str]:
        """Tasks as requested, without the folders of files, so that results do not depend on them."""
        return [_without_folder(task) for task in self.requested]

    def build(self, store: "Store") -> "list[Task]":
        """Build the tasks.

        Parameters
        ----------
        store : Store
            Study whose fitted texts may not be scored.

        Raises
        ------
        ValueError
            If a task is unknown, or its data are unsuitable.
        StudyError
            If texts of a task were used for fitting in the study.
        """
        return [task for text in self.requested for task in self._build(store, text)]

    def _build(self, store: "Store", text: str) -> "list[Task]":
        from lmri.lesions.tasks import Classification, Perplexity, load

        kind, _, file = text.partition(":")
        name = f"{kind}-{Path(file).stem}"
        if kind == "perplexity" and not file:
            return held_out_tasks(store, self.batch_size)
        if kind == "perplexity":
            texts = read_texts(file, column=self.text_column, quoting=self.quoting)
            store.check_apart(texts, file)
            return [Perplexity(texts, name, self.batch_size)]
        if kind == "classification" and file:
            task = Classification.from_file(Path(file), name, self.quoting)
            store.check_apart(task.texts, file)
            return [task]
        if (file and kind.replace("_", "-") in TASKS) or kind.endswith((".yaml", ".yml")):
            named = load(
                kind, file or None, scoring=self.scoring, split=self.split, seed=0, batch_size=self.batch_size,
                quoting=self.quoting,
            )  # fmt: skip
            store.check_apart(named.texts, file or kind)
            return [named]
        raise ValueError(
            f"There is no task {text!r}; choose from perplexity, perplexity:FILE, classification:FILE, NAME:FILE with "
            f"NAME among {', '.join(TASKS)}, or a YAML file."
        )


def held_out_tasks(store: "Store", batch_size: int) -> "list[Task]":
    """Build one perplexity task per corpus with held-out texts; a text in two corpora counts for the first."""
    from lmri.lesions.tasks import Perplexity

    seen: set[str] = set()
    tasks: list[Task] = []
    for corpus, texts in {recording.corpus: recording.test_texts for recording in store.recordings()}.items():
        unseen = [text for text in texts if text_hash(text) not in seen]
        seen.update(text_hash(text) for text in unseen)
        if unseen:
            tasks.append(Perplexity(unseen, f"perplexity-{corpus}", batch_size))
    if not tasks:
        raise ValueError(
            f"{store.root} has no held-out texts (test_fraction was 0). Name a file: --task perplexity:FILE."
        )
    return tasks


def _without_folder(task: str) -> str:
    kind, colon, file = task.partition(":")
    return f"{kind}{colon}{Path(file).name}" if file else task
