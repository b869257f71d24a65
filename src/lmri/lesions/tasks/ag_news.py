"""AG News: topic of a news item (world, sports, business or science) [1]_.

Files number the labels from 0 (Hugging Face) or from 1 (the official CSV, whose column is "Class Index", or unnamed).

References
----------
.. [1] Zhang, Zhao & LeCun (2015). Character-level convolutional networks for text classification. NeurIPS.
"""

import pandas as pd

from lmri.lesions.tasks.items import find_column, is_missing
from lmri.lesions.tasks.named import NamedTask
from lmri.lesions.tasks.recipe import Recipe
from lmri.storage.user_tables import place

NAMES = ("World", "Sports", "Business", "Sci/Tech")


def _prepare(table: pd.DataFrame, where: str) -> tuple[pd.DataFrame, tuple[str, ...]]:
    known = {str(column).strip().casefold(): str(column) for column in table}
    new_columns = {}
    if "class index" in known:
        written = [str(index).strip() for index in table[known["class index"]]]
        wrong = sorted(set(written) - {"1", "2", "3", "4"})
        if wrong:
            first = place(table, next(number for number, index in enumerate(written) if index in wrong))
            raise ValueError(
                f"{where}, {first} has the class indices {wrong}; the classes are 1 to 4 ({', '.join(NAMES)}). Correct "
                "the file."
            )
        new_columns["label"] = [NAMES[int(index) - 1] for index in written]
    texts = list(table[find_column(table, ("text", "description"), where)])
    if "title" in known:
        titles = table[find_column(table, ("title",), where)]
        texts = [
            text if is_missing(title) or is_missing(text) else f"{title} {text}"
            for title, text in zip(titles, texts, strict=True)
        ]
    return table.assign(text=pd.Series(texts, index=table.index, dtype=object), **new_columns), ()


RECIPE = Recipe(
    name="ag-news",
    columns={"text": ("text",)},
    labels={name: (str(number),) for number, name in enumerate(NAMES)},
    words={"World": " world", "Sports": " sports", "Business": " business", "Sci/Tech": " science"},
    prompt="News: {text}\nIs this about the world, sports, business or science?\nAnswer:",
    label_columns=("label_name", "label"),
    dataset=("fancyzhx/ag_news", None, "test"),
    files=("test.csv", "test.jsonl"),
    header=("Class Index", "Title", "Description"),
    prepare=_prepare,
)

TASK = NamedTask(RECIPE, "topic of news articles")
