"""Record with nnsight: trace each text, and save the MLP outputs of all layers to disk."""

import json
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
import transformers
from nnsight import NNsight


def main() -> None:
    folder, tokens, scratch = sys.argv[1:]
    rows = json.loads(Path(tokens).read_text(encoding="utf-8"))
    inner = transformers.GPT2LMHeadModel.from_pretrained(folder).eval()
    model = NNsight(inner)  # the whole language model, as its LanguageModel runs it

    def read(row: list[int]) -> np.ndarray:
        with torch.no_grad(), model.trace(torch.tensor([row])):
            saved = list().save()
            for block in model.transformer.h:
                saved.append(block.mlp.output)
        return torch.cat(saved, dim=-1)[0].numpy()

    assert read(rows[0]).shape == (len(rows[0]), 768 * 12)
    print("ready", flush=True)
    for _ in sys.stdin:
        with tempfile.TemporaryDirectory(dir=scratch) as out:
            start = time.perf_counter()
            for number, row in enumerate(rows):
                np.save(f"{out}/{number}.npy", read(row))
            print(time.perf_counter() - start, flush=True)


if __name__ == "__main__":
    main()
