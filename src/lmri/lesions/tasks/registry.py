"""The registry of named tasks: a new task is one file of this package and one line here."""

from lmri.lesions.tasks import ag_news, cola, mnli, mrpc, qnli, qqp, squad, sst2, summarization
from lmri.lesions.tasks.named import NamedTask

TASKS: dict[str, NamedTask] = {
    task.name: task
    for task in (
        cola.TASK,
        mrpc.TASK,
        qqp.TASK,
        sst2.TASK,
        mnli.TASK,
        mnli.MATCHED_TASK,
        mnli.MISMATCHED_TASK,
        qnli.TASK,
        ag_news.TASK,
        squad.TASK,
        summarization.TASK,
    )
}
"""Named tasks by their name on the command line."""

_EXAMPLE = "sst2"


def tasks_help() -> str:
    """List the forms of ``--task`` for ``--help``."""
    others = [task.name for task in TASKS.values() if not task.is_variant and task.name != _EXAMPLE]
    return (
        "Task on which the model is scored. Can be repeated.\n\n"
        "perplexity: the held-out texts of the study\n\n"
        "perplexity:FILE: other texts\n\n"
        f"NAME:FILE: a named task and its items, such as {_EXAMPLE}:dev.jsonl; other names: {', '.join(others)}\n\n"
        "classification:FILE: a table with the columns prompt and label\n\n"
        "FILE.yaml: a task of your own"
    )
