"""Compare the speed of recording to disk with the bare base model and three alternatives, in tokens per second.

    python benchmarks/recording.py TEXTS TOKENIZER [--peer transformer_lens=PYTHON] [--peer nnsight=PYTHON]

TEXTS and TOKENIZER are folders. The model has the shape of GPT-2 small and random weights. Texts are truncated to 20
to 400 tokens. Peers run in separate interpreters (``python -m venv``, ``pip install transformer_lens``) on the same
tokens, and save activations as float32. All methods alternate, so that background load affects all of them; compare
ratios of medians.
"""

import argparse
import itertools
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
import transformers

import lmri
from lmri.models import bucket, encode, evaluation_mode, plan_batches, right_pad

HERE = Path(__file__).parent
SHORTEST, LONGEST = 20, 400


def make_model(folder: Path, tokenizer_folder: Path) -> None:
    """Save a model with the shape of GPT-2 small, and the given tokenizer."""
    torch.manual_seed(0)
    tokenizer = transformers.AutoTokenizer.from_pretrained(tokenizer_folder)
    model = transformers.GPT2LMHeadModel(transformers.GPT2Config())
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def make_texts(folder: Path, tokenizer, n: int) -> list[str]:
    """Truncate real texts to lengths that are uniform between `SHORTEST` and `LONGEST`."""
    lines = [line for path in sorted(folder.glob("*.jsonl")) for line in path.read_text().splitlines()]
    lengths = np.random.default_rng(0).integers(SHORTEST, LONGEST + 1, n)
    texts: dict[str, None] = {}
    for text in itertools.cycle(json.loads(line)["text"] for line in lines):
        if len(texts) == n:
            return list(texts)
        wanted = int(lengths[len(texts)])
        spans = tokenizer(text, return_offsets_mapping=True, verbose=False)["offset_mapping"]
        if len(spans) > wanted:
            texts[text[: spans[wanted - 1][1]]] = None
    raise ValueError(f"{folder} contains no texts. Add .jsonl files with a column 'text'.")


def bare(model, rows: list[list[int]], batch_size: int, as_lmri: bool = False) -> float:
    """Measure the seconds of the base model alone, optionally with the batches of a recording."""
    start = time.perf_counter()
    lengths = [len(row) for row in rows]
    batches = plan_batches(model, lengths, {"batch_size": 8}) if as_lmri else bucket(lengths, batch_size)
    with evaluation_mode(model):
        for batch in batches:
            ids, mask = right_pad([rows[text] for text in batch], torch.device("cpu"))
            model.base_model(input_ids=ids, attention_mask=mask, use_cache=False)
    return time.perf_counter() - start


def recorded(model, tokenizer, texts: list[str], scratch: Path) -> float:
    with tempfile.TemporaryDirectory(dir=scratch) as folder:
        start = time.perf_counter()
        lmri.record(model, tokenizer, texts, f"{folder}/study", test_fraction=0, n_dummy=0)
        return time.perf_counter() - start


def paper(model, rows: list[list[int]], scratch: Path) -> float:
    """Measure the method of the paper: one text at a time through the full language model, saved as arrays."""
    with tempfile.TemporaryDirectory(dir=scratch) as folder:
        start = time.perf_counter()
        seen: list[torch.Tensor] = []
        handles = [
            block.mlp.c_proj.register_forward_hook(lambda m, a, out: seen.append(out.detach().cpu()) and None)
            for block in model.transformer.h
        ]
        with torch.no_grad():
            for number, row in enumerate(rows):
                seen.clear()
                model(torch.tensor([row]))
                np.save(f"{folder}/{number}.npy", torch.cat(seen, dim=-1)[0].numpy())
        for handle in handles:
            handle.remove()
        return time.perf_counter() - start


class Peer:
    """Another library in a separate interpreter, which loads once and then runs on request."""

    def __init__(self, name: str, python: str, folder: Path, tokens: Path, scratch: Path) -> None:
        command = [python, str(HERE / "peers" / f"with_{name}.py"), str(folder), str(tokens), str(scratch)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        while not self.process.stdout.readline().startswith("ready"):
            if self.process.poll() is not None:
                raise RuntimeError(f"{name} failed to load.")

    def __call__(self) -> float:
        """Return the seconds of one run."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        print("go", file=self.process.stdin, flush=True)
        return float(self.process.stdout.readline())


def memory(folder: Path, texts_file: Path, n: int) -> float:
    """Measure the peak resident memory, in MB, of a process that records `n` texts, numbered and repeated if needed."""
    code = (
        "import json, sys, tempfile, lmri\n"
        "folder, file, n, scratch = sys.argv[1:]\n"
        "model, tokenizer = lmri.load_model(folder)\n"
        "texts = json.load(open(file))\n"
        "texts = [f'{i} {texts[i % len(texts)]}' for i in range(int(n))]\n"
        "with tempfile.TemporaryDirectory(dir=scratch) as out:\n"
        "    lmri.record(model, tokenizer, texts, f'{out}/study', test_fraction=0)\n"
        # Not ru_maxrss, which a process inherits from its parent.
        "print(next(int(line.split()[1]) / 1024 for line in open('/proc/self/status') if line.startswith('VmHWM')))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(folder), str(texts_file), str(n), str(texts_file.parent)],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return float(done.stdout.split()[-1])


def lesioned(model, rows: list[list[int]]) -> tuple[float, float]:
    """Measure the seconds of intact and lesioned passes over the same batches, in alternation."""
    space = lmri.find_sites(model, "mlp_hidden")
    members = np.random.default_rng(0).random(space.n_neurons) < 0.01
    intervention = lmri.lesion(lmri.Network.from_members(space, members))
    seconds: dict[str, list[float]] = {"intact": [], "lesioned": []}
    for _ in range(7):
        seconds["intact"].append(bare(model, rows, 8))
        with intervention.on(model):
            seconds["lesioned"].append(bare(model, rows, 8))
    return float(np.median(seconds["intact"])), float(np.median(seconds["lesioned"]))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("texts", type=Path)
    parser.add_argument("tokenizer", type=Path)
    parser.add_argument("--peer", action="append", default=[], help="name=python")
    parser.add_argument("--n-texts", type=int, default=200)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--only", choices=["speed", "memory", "lesion"], default=None)
    options = parser.parse_args()
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", torch.get_num_threads())))
    with tempfile.TemporaryDirectory() as scratch_name:
        scratch = Path(scratch_name)
        folder = scratch / "gpt2-small-shape"
        make_model(folder, options.tokenizer)
        model, tokenizer = lmri.load_model(folder)
        texts = make_texts(options.texts, tokenizer, options.n_texts)
        rows = [encode(model, tokenizer, text).ids for text in texts]
        n_tokens = sum(map(len, rows))
        (scratch / "tokens.json").write_text(json.dumps(rows))
        (scratch / "texts.json").write_text(json.dumps(texts))
        print(f"{len(rows)} texts, {n_tokens} tokens, {torch.get_num_threads()} threads")
        recorded(model, tokenizer, texts[:2], scratch)  # the time of imports is not part of recording
        if options.only in (None, "speed"):
            speed(model, tokenizer, texts, rows, scratch, folder, options)
        if options.only in (None, "lesion"):
            intact, changed = lesioned(model, rows[:40])
            print(f"a lesioned forward pass: {intact / changed:.3f} of the speed of the intact one (7 pairs)")
        if options.only in (None, "memory"):
            small, large = memory(folder, scratch / "texts.json", 40), memory(folder, scratch / "texts.json", 400)
            print(f"peak resident memory: 40 texts {small:.0f} MB, 400 texts {large:.0f} MB ({large / small:.3f})")


def speed(model, tokenizer, texts, rows, scratch, folder, options) -> None:
    n_tokens = sum(map(len, rows))
    ways = {
        "bare base model, batched": lambda: bare(model, rows, 8),
        "bare base model, one by one": lambda: bare(model, rows, 1),
        "bare, lmri's own batches": lambda: bare(model, rows, 8, as_lmri=True),
        "lmri": lambda: recorded(model, tokenizer, texts, scratch),
        "the paper's way": lambda: paper(model, rows, scratch),
    }
    for spec in options.peer:
        name, python = spec.split("=", 1)
        ways[name] = Peer(name, python, folder, scratch / "tokens.json", scratch)
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(options.repeats):
        for name, way in ways.items():
            seconds[name].append(way())
            print(f"  {number + 1}: {name:28} {n_tokens / seconds[name][-1]:7.0f} tokens/s", flush=True)
    medians = {name: float(np.median(values)) for name, values in seconds.items()}
    print(f"{'':28} tokens/s  lmri is")
    for name, median in medians.items():
        print(f"{name:28} {n_tokens / median:8.0f}  {median / medians['lmri']:.2f} x")
    print(f"memory of this process: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MB")


if __name__ == "__main__":
    main()
