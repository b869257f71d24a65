"""QNLI: whether a sentence of Wikipedia answers a question; derived from SQuAD [1]_.

References
----------
.. [1] Wang et al. (2019). GLUE: a multi-task benchmark and analysis platform for natural language understanding. ICLR.
"""

from lmri.lesions.tasks.named import NamedTask
from lmri.lesions.tasks.recipe import Recipe

RECIPE = Recipe(
    name="qnli",
    columns={"question": ("question",), "sentence": ("sentence",)},
    labels={"entailment": ("0",), "not_entailment": ("1",)},
    words={"entailment": " yes", "not_entailment": " no"},
    prompt="Question: {question}\nSentence: {sentence}\nDoes the sentence answer the question, yes or no?\nAnswer:",
    cluster=("sentence",),
    linked=("question",),
    dataset=("nyu-mll/glue", "qnli", "validation"),
    files=("dev.tsv", "dev.jsonl"),
)

TASK = NamedTask(RECIPE, "whether a sentence answers a question")
