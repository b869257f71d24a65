"""QQP: paraphrase detection between two questions of Quora. Accuracy and, as in GLUE, F1."""

from lmri.lesions.tasks.named import NamedTask
from lmri.lesions.tasks.recipe import Recipe

RECIPE = Recipe(
    name="qqp",
    columns={"question1": ("question1",), "question2": ("question2",)},
    labels={"not_duplicate": ("0",), "duplicate": ("1",)},
    words={"not_duplicate": " no", "duplicate": " yes"},
    prompt="Question 1: {question1}\nQuestion 2: {question2}\nDo both questions ask the same, yes or no?\nAnswer:",
    label_columns=("label", "is_duplicate"),
    # A question occurs in several pairs.
    linked=("question1", "question2"),
    also=("f1",),
    positive="duplicate",
    dataset=("nyu-mll/glue", "qqp", "validation"),
    files=("dev.tsv", "dev.jsonl"),
    # Rows of GLUE's files are broken by line ends within questions.
    short_rows=True,
)

TASK = NamedTask(RECIPE, "paraphrase of questions from Quora")
