"""MRPC: paraphrase detection between two sentences of the news. Accuracy and, as in GLUE, F1 [1]_.

References
----------
.. [1] Dolan & Brockett (2005). Automatically constructing a corpus of sentential paraphrases. Proceedings of IWP.
"""

from lmri.lesions.tasks.named import NamedTask
from lmri.lesions.tasks.recipe import Recipe

RECIPE = Recipe(
    name="mrpc",
    columns={"sentence1": ("sentence1", "#1 String"), "sentence2": ("sentence2", "#2 String")},
    labels={"not_equivalent": ("0",), "equivalent": ("1",)},
    words={"not_equivalent": " no", "equivalent": " yes"},
    prompt="Sentence 1: {sentence1}\nSentence 2: {sentence2}\nDo both sentences mean the same, yes or no?\nAnswer:",
    label_columns=("label", "Quality"),
    linked=("sentence1", "sentence2"),
    also=("f1",),
    positive="equivalent",
    dataset=("nyu-mll/glue", "mrpc", "validation"),
    files=("dev.tsv", "dev.jsonl", "msr_paraphrase_test.txt"),
)

TASK = NamedTask(RECIPE, "paraphrase of sentences from news articles")
