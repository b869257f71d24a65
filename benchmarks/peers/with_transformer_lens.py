"""Record with TransformerLens: cache the MLP outputs of all layers, one text at a time or batched, to disk."""

import json
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
import transformers
from transformer_lens.model_bridge import TransformerBridge


def main() -> None:
    folder, tokens, scratch = sys.argv[1:]
    rows = json.loads(Path(tokens).read_text(encoding="utf-8"))
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    tokenizer.pad_token = tokenizer.eos_token
    inner = transformers.GPT2LMHeadModel.from_pretrained(folder, attn_implementation="eager").eval()
    bridge = TransformerBridge.boot_transformers(folder, hf_model=inner, tokenizer=tokenizer, device="cpu")
    names = [f"blocks.{z}.mlp.hook_out" for z in range(inner.config.n_layer)]
    with torch.no_grad():
        _, cache = bridge.run_with_cache(torch.tensor([rows[0]]), names_filter=names)
    assert set(names) <= set(cache), sorted(cache)
    # What it saves is what the model does.
    seen: list[torch.Tensor] = []
    handle = inner.transformer.h[0].mlp.register_forward_hook(lambda m, a, out: seen.append(out))
    with torch.no_grad():
        _, cache = bridge.run_with_cache(torch.tensor([rows[0]]), names_filter=names)
    handle.remove()
    if seen:
        assert torch.allclose(seen[0], cache[names[0]])
    print("ready", flush=True)
    for _ in sys.stdin:
        with tempfile.TemporaryDirectory(dir=scratch) as out:
            start = time.perf_counter()
            with torch.no_grad():
                for number, row in enumerate(rows):
                    _, cache = bridge.run_with_cache(torch.tensor([row]), names_filter=names)
                    np.save(f"{out}/{number}.npy", torch.cat([cache[name] for name in names], dim=-1)[0].numpy())
            print(time.perf_counter() - start, flush=True)


if __name__ == "__main__":
    main()
