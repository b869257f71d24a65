"""SST-2: sentiment of a film review, positive or negative [1]_.

References
----------
.. [1] Socher et al. (2013). Recursive deep models for semantic compositionality over a sentiment treebank. EMNLP.
"""

from lmri.lesions.tasks.named import NamedTask
from lmri.lesions.tasks.recipe import Recipe

RECIPE = Recipe(
    name="sst2",
    columns={"sentence": ("sentence", "text")},
    labels={"negative": ("0",), "positive": ("1",)},
    words={"negative": " negative", "positive": " positive"},
    prompt="Review: {sentence}\nIs this review positive or negative?\nAnswer:",
    dataset=("nyu-mll/glue", "sst2", "validation"),
    files=("dev.tsv", "dev.jsonl"),
)

TASK = NamedTask(RECIPE, "sentiment of film reviews")
