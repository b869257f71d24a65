"""Train the small language model that ships with the package.

Run from the root of the repository::

    python tools/train_demo_model.py

The script generates the texts, trains a tokenizer and a model of the GPT-2 architecture, writes both to
``src/lmri/demo/model`` and prints the held-out perplexities for the model card. The model card itself is not changed.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import sys
import time
from collections import Counter
from dataclasses import dataclass
from hashlib import sha256
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from torch.nn import functional as F  # noqa: N812
from transformers import AutoModelForCausalLM, AutoTokenizer, GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "src"))

from lmri.demo.texts import KINDS, generate  # noqa: E402

END = "<|endoftext|>"
LENGTH = 256
TRAIN_SEED, HELD_OUT_SEED = 1, 2
# GPT-2's way of cutting text, except that every digit is a piece of its own.
PIECES = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"


def digest(text: str) -> bytes:
    """Compute the hash of a text, for comparing sets of texts."""
    return sha256(text.encode()).digest()


def make_texts(train: int, held_out: int) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
    """Generate unique texts of each kind; no held-out text occurs in the training texts."""
    seen: set[bytes] = set()
    sets: list[dict[str, list[str]]] = []
    for number, seed in ((train, TRAIN_SEED), (held_out, HELD_OUT_SEED)):
        texts: dict[str, list[str]] = {}
        for kind in KINDS:
            texts[kind] = []
            for text in generate(kind, number, seed):
                if digest(text) not in seen:
                    seen.add(digest(text))
                    texts[kind].append(text)
        sets.append(texts)
    return sets[0], sets[1]


def train_tokenizer(texts: list[str], size: int) -> PreTrainedTokenizerFast:
    """Train a byte-level BPE tokenizer that adds no special tokens to texts."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(PIECES), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=[END],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=END,
        eos_token=END,
        model_max_length=LENGTH,
        add_prefix_space=False,
        clean_up_tokenization_spaces=False,
    )


def encode(tokenizer: PreTrainedTokenizerFast, texts: list[str]) -> list[list[int]]:
    """Build one row per text: its tokens, followed by the end token."""
    rows = [[*row, tokenizer.eos_token_id] for row in tokenizer(texts)["input_ids"]]
    longest = max(map(len, rows))
    if longest > LENGTH:
        raise ValueError(f"a text has {longest} tokens, more than the {LENGTH} positions of the model")
    return rows


def pad(rows: list[list[int]], end: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Pad rows on the right; targets are the next tokens, or -100 if there is none."""
    width = max(map(len, rows))
    tokens = torch.full((len(rows), width), end)
    targets = torch.full((len(rows), width), -100)
    for i, row in enumerate(rows):
        tokens[i, : len(row)] = torch.tensor(row)
        targets[i, : len(row) - 1] = torch.tensor(row[1:])
    return tokens, targets


def batches(rows: list[list[int]], size: int, rng: random.Random) -> Iterator[list[list[int]]]:
    """Yield batches indefinitely; each epoch is shuffled, and rows of similar length are batched together."""
    pool = 32 * size
    while True:
        order = rng.sample(rows, len(rows))
        for start in range(0, len(order) - pool + 1, pool):
            part = sorted(order[start : start + pool], key=len)
            starts = list(range(0, pool, size))
            rng.shuffle(starts)
            for first in starts:
                yield part[first : first + size]


def train_model(
    model: GPT2LMHeadModel, rows: list[list[int]], steps: int, batch: int, rate: float, rng: random.Random
) -> None:
    """Train with AdamW, linear warm-up and cosine decay of the learning rate."""
    end = model.config.eos_token_id
    decayed = [p for p in model.parameters() if p.ndim > 1]
    others = [p for p in model.parameters() if p.ndim < 2]
    optimizer = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": 0.05}, {"params": others, "weight_decay": 0.0}], lr=rate, betas=(0.9, 0.98)
    )
    warmup = min(200, steps // 10 + 1)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer,
        lambda step: min((step + 1) / warmup, 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * min(1.0, step / steps)))),
    )
    model.train()
    source, start, mean = batches(rows, batch, rng), time.perf_counter(), 0.0
    for step in range(steps):
        tokens, targets = pad(next(source), end)
        loss = F.cross_entropy(model(tokens, use_cache=False).logits.flatten(0, 1), targets.flatten())
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        mean += (loss.item() - mean) * max(0.02, 1 / (step + 1))
        if step % 100 == 0 or step == steps - 1:
            print(f"step {step:5d}  loss {mean:.4f}  {time.perf_counter() - start:6.0f} s", flush=True)
    model.eval()


def perplexity(model: GPT2LMHeadModel, rows: list[list[int]]) -> float:
    """Compute the perplexity of a model over all tokens except the first of each text."""
    total, number = 0.0, 0
    with torch.inference_mode():
        for start in range(0, len(rows), 64):
            tokens, targets = pad(rows[start : start + 64], model.config.eos_token_id)
            logits = model(tokens).logits
            total += F.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="sum").item()
            number += int((targets != -100).sum())
    return math.exp(total / number)


@dataclass
class Counts:
    """Unigram and bigram statistics of the training texts, as references with a context of zero tokens or one token."""

    size: int
    single: Counter[int]
    pairs: Counter[tuple[int, int]]
    before: Counter[int]
    followers: Counter[int]

    @classmethod
    def of(cls, rows: list[list[int]], size: int) -> Counts:
        """Count the tokens and bigrams of rows."""
        single = Counter(token for row in rows for token in row)
        pairs = Counter(pair for row in rows for pair in pairwise(row))
        before: Counter[int] = Counter()
        for (first, _), number in pairs.items():
            before[first] += number
        return cls(size, single, pairs, before, Counter(first for first, _ in pairs))

    def unigram(self, token: int) -> float:
        """Compute the probability of a token, with one added to each count."""
        return (self.single[token] + 1) / (self.single.total() + self.size)

    def bigram(self, first: int, token: int) -> float:
        """Compute the probability of a token after another, with Witten-Bell interpolation of bigram and unigram."""
        kinds, number = self.followers[first], self.before[first]
        if not number:
            return self.unigram(token)
        return (self.pairs[first, token] + kinds * self.unigram(token)) / (number + kinds)

    def perplexities(self, rows: list[list[int]]) -> tuple[float, float]:
        """Compute the perplexities of the unigram and the bigram model over the tokens of `perplexity`."""
        pairs = [pair for row in rows for pair in pairwise(row)]
        once = math.fsum(math.log(self.unigram(token)) for _, token in pairs)
        twice = math.fsum(math.log(self.bigram(first, token)) for first, token in pairs)
        return math.exp(-once / len(pairs)), math.exp(-twice / len(pairs))


def shuffled(rows: list[list[int]], rng: random.Random) -> list[list[int]]:
    """Permute the tokens within each text; the end token stays last."""
    return [[*rng.sample(row[:-1], len(row) - 1), row[-1]] for row in rows]


def save(model: GPT2LMHeadModel, tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """Write model and tokenizer without values that depend on the machine or folder."""
    folder.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    (folder / "model.safetensors").chmod(0o644)
    path = folder / "tokenizer_config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    config["tokenizer_class"] = "PreTrainedTokenizerFast"
    path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def check(folder: Path, texts: list[str]) -> None:
    """Load the written model and tokenizer as lmri does, and check that texts are decoded without changes."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, use_safetensors=True, dtype="float32")
    for text in [*texts, "naïve 12 — 3.5\n\tx  y", " leading", ""]:
        coded = tokenizer(text, return_offsets_mapping=True)
        if tokenizer.decode(coded["input_ids"]) != text:
            raise ValueError(f"The tokenizer changes a text: {text!r}. Check its pre-tokenizer and decoder.")
        if text.isascii() and "".join(text[i:j] for i, j in coded["offset_mapping"]) != text:
            raise ValueError(f"the offsets do not fit: {text!r}")
        if END in tokenizer.convert_ids_to_tokens(coded["input_ids"]):
            raise ValueError("the tokenizer adds special tokens")
    if any(p.dtype != torch.float32 for p in model.parameters()):
        raise ValueError("the weights are not float32")


def main() -> None:
    """Train, write and evaluate the model."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=ROOT / "src" / "lmri" / "demo" / "model", help="folder to write")
    parser.add_argument("--steps", type=int, default=4000, help="optimizer steps")
    parser.add_argument("--texts", type=int, default=16500, help="training texts of each kind")
    parser.add_argument("--held-out", type=int, default=500, help="held-out texts of each kind")
    parser.add_argument("--batch", type=int, default=16, help="texts in a batch")
    parser.add_argument("--rate", type=float, default=2e-3, help="highest learning rate")
    parser.add_argument("--vocabulary", type=int, default=1280, help="number of tokens")
    parser.add_argument("--seed", type=int, default=0, help="seed of the weights and of the order of texts")
    parser.add_argument("--threads", type=int, default=2, help="threads of torch")
    args = parser.parse_args()

    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    rng = random.Random(args.seed)
    train, held_out = make_texts(args.texts, args.held_out)
    everything = [text for kind in KINDS for text in train[kind]]
    tokenizer = train_tokenizer([text for kind in KINDS for text in train[kind][:4000]], args.vocabulary)
    rows = encode(tokenizer, everything)
    held_rows = {kind: encode(tokenizer, held_out[kind]) for kind in KINDS}
    print(f"{len(rows)} training texts, {sum(map(len, rows))} tokens, vocabulary {len(tokenizer)}")

    config = GPT2Config(
        vocab_size=len(tokenizer),
        n_positions=LENGTH,
        n_layer=6,
        n_embd=128,
        n_head=4,
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    model = GPT2LMHeadModel(config)
    start = time.perf_counter()
    train_model(model, rows, args.steps, args.batch, args.rate, rng)
    print(f"trained {model.num_parameters()} parameters for {args.steps} steps in {time.perf_counter() - start:.0f} s")
    save(model, tokenizer, args.out)
    check(args.out, [held_out[kind][i] for kind in KINDS for i in range(100)])

    counts = Counts.of(rows, len(tokenizer))
    print("| Kind | Tokens per text (mean, min–max) | Model | Bigram | Unigram | Model, tokens shuffled |")
    print("|---|---|---|---|---|---|")
    for kind in KINDS:
        lengths = [len(row) - 1 for row in held_rows[kind]]
        unigram, bigram = counts.perplexities(held_rows[kind])
        ours, mixed = perplexity(model, held_rows[kind]), perplexity(model, shuffled(held_rows[kind], rng))
        print(
            f"| {kind} | {sum(lengths) / len(lengths):.0f}, {min(lengths)}–{max(lengths)} "
            f"| {ours:.2f} | {bigram:.1f} | {unigram:.1f} | {mixed:.0f} |"
        )
        if ours > 0.7 * bigram:
            raise ValueError(f"the model is hardly better than a bigram model on {kind}")
    for path in sorted(args.out.iterdir()):
        print(f"{path.name}: {path.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
