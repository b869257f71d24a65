"""Recording every layer to disk, against the bare base model on the same batches: tokens per second."""

import tempfile
import time

import numpy as np
import torch

import lmri
from lmri.demo.texts import KINDS, generate
from lmri.models import bucket, encode, evaluation_mode, right_pad

N_TEXTS, REPEATS = 50, 5


def bare(model, encodings: list, batch_size: int = 8) -> float:
    start = time.perf_counter()
    with evaluation_mode(model):
        for batch in bucket([len(one.ids) for one in encodings], batch_size):
            ids, mask = right_pad([encodings[text].ids for text in batch], torch.device("cpu"))
            model.base_model(input_ids=ids, attention_mask=mask)
    return time.perf_counter() - start


def recorded(model, tokenizer, texts: list[str], site: str) -> float:
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        lmri.record(model, tokenizer, texts, f"{folder}/study", site=site, test_fraction=0)
        return time.perf_counter() - start


def main() -> None:
    model, tokenizer = lmri.load_model("lmri-demo")
    texts = [text for kind in KINDS for text in generate(kind, N_TEXTS, 1)]
    encodings = [encode(model, tokenizer, text) for text in texts]
    n_tokens = sum(len(one.ids) for one in encodings)
    seconds: dict[str, list[float]] = {"bare": [], "mlp_out": [], "mlp_hidden": []}
    for _ in range(REPEATS):
        seconds["bare"].append(bare(model, encodings))
        for site in ("mlp_out", "mlp_hidden"):
            seconds[site].append(recorded(model, tokenizer, texts, site))
    base = np.median(seconds["bare"])
    for name, own in seconds.items():
        print(f"{name:10} {n_tokens / np.median(own):8.0f} tokens/s, {base / np.median(own):.2f} of the bare model")
    print(
        "Recording includes tokenizing, the self-test, tables and all files; the model is small, so these weigh much."
    )


if __name__ == "__main__":
    main()
