"""CoLA: grammatical acceptability of a sentence. Accuracy and, as in GLUE, Matthews' correlation [1]_.

References
----------
.. [1] Warstadt, Singh & Bowman (2019). Neural network acceptability judgments. Transactions of the ACL, 7, 625-641.
"""

from lmri.lesions.tasks.named import NamedTask
from lmri.lesions.tasks.recipe import Recipe

RECIPE = Recipe(
    name="cola",
    columns={"sentence": ("sentence",)},
    labels={"unacceptable": ("0",), "acceptable": ("1",)},
    words={"unacceptable": " unacceptable", "acceptable": " acceptable"},
    prompt="Sentence: {sentence}\nIs this sentence grammatically acceptable or unacceptable?\nAnswer:",
    also=("matthews",),
    dataset=("nyu-mll/glue", "cola", "validation"),
    files=("dev.tsv", "dev.jsonl"),
    header=("source", "label", "mark", "sentence"),
)

TASK = NamedTask(RECIPE, "acceptability of English sentences")
