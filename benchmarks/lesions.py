"""Measure the cost of interventions relative to the intact model, and the time of a complete table of lesions.

    python benchmarks/lesions.py MODEL TEXTS          # all rows; about 30 minutes on 2 cores
    python benchmarks/lesions.py MODEL TEXTS forward  # lesioned relative to intact evaluation
    python benchmarks/lesions.py MODEL TEXTS deep     # networks in deep layers: lower blocks are skipped
    python benchmarks/lesions.py MODEL TEXTS table    # 20 networks and their union, 100 controls each

TEXTS is a folder of ``heldout_KIND.jsonl`` files with a column ``text``. Both sides of a ratio
score the same texts with the same number of threads, in alternation; medians of pairs are printed.
"""

import argparse
import statistics
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np
import torch

import lmri
from lmri.lesions.evaluation import ItemStore, evaluate
from lmri.lesions.evaluation.prefix import PrefixCache
from lmri.lesions.evaluation.run import first_layer


def seconds(function):
    """Return the seconds of one call."""
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def tasks_of(folder, n):
    """Build one perplexity task per kind from the last `n` texts of its file."""
    files = sorted(Path(folder).glob("heldout_*.jsonl"))
    return [lmri.lesions.tasks.Perplexity(lmri.read_texts(file)[-n:], file.stem.partition("_")[2]) for file in files]


def random_network(space, share, layers, seed=0):
    """Draw a random network from the given layers."""
    drawn = np.random.default_rng(seed).random(space.n_neurons) < share
    return lmri.Network.from_members(space, drawn & np.isin(space.layer_of, layers), f"random-{seed}")


def forward(model, tokenizer, tasks, repeats):
    """Print the time of a lesioned evaluation relative to the intact evaluation."""
    for site in ("mlp_hidden", "mlp_out"):
        space = lmri.find_sites(model, site)
        for share in (0.01, 0.25):
            lesion = lmri.lesion(random_network(space, share, range(space.n_layers)))

            def intact():
                for task in tasks:
                    task.score(model, tokenizer)

            def lesioned(lesion=lesion, intact=intact):
                with lesion.on(model):
                    intact()

            intact()
            pairs = [(seconds(intact), seconds(lesioned)) for _ in range(repeats)]
            ratio = statistics.median(after / before for before, after in pairs)
            intact_seconds = statistics.median(before for before, _ in pairs)
            print(
                f"lesion of {share:.0%} at {site}: intact {intact_seconds:.2f} s, lesioned {ratio:.3f} times that",
                flush=True,
            )


def deep(model, tokenizer, tasks, repeats):
    """Print the time of an evaluation that skips the blocks below the lesion."""
    space = lmri.find_sites(model, "mlp_hidden")
    for layer in range(1, space.n_layers):
        lesion = lmri.lesion(random_network(space, 0.05, range(layer, space.n_layers)))
        prefix = PrefixCache(model, [first_layer(lesion)])
        with prefix.keeping():
            for task in tasks:
                task.score(model, tokenizer)
        prefix.check()

        def whole(lesion=lesion):
            with lesion.on(model):
                return [task.score(model, tokenizer)["value"].to_numpy() for task in tasks]

        def short(prefix=prefix, layer=layer, whole=whole):
            with prefix.using(layer):
                return whole()

        same = all(map(np.array_equal, whole(), short()))
        ratio = statistics.median(seconds(short) / seconds(whole) for _ in range(repeats))
        print(f"lesion from layer {layer} on: {ratio:.2f} of the time, the same numbers: {same}", flush=True)


def table(model, tokenizer, tasks, folder, texts, stop_after):
    """Print the time of a complete table: 20 networks and their union, 100 controls matched by layer and size."""
    recordings = [
        lmri.record(model, tokenizer, lmri.read_texts(file)[:40], Path(folder) / "study", corpus=file.stem[8:],
                    site="mlp_hidden", test_fraction=0)
        for file in sorted(Path(texts).glob("heldout_*.jsonl"))
    ]  # fmt: skip
    space = recordings[0].space
    ica = lmri.NeuronICA(space, n_components=20, random_state=0).fit(
        [img for recording in recordings for img in recording.imgs]
    )
    networks = lmri.NetworkSet.from_estimator(ica).threshold("z", z=3.0)
    conditions = lmri.conditions_of(networks, lmri.lesion)
    start = time.perf_counter()
    scores = evaluate(
        model, tokenizer, tasks, conditions, lmri.MatchedControls(100), store=ItemStore(Path(folder) / str(stop_after)),
        stop_after=stop_after,
    )  # fmt: skip
    elapsed = time.perf_counter() - start
    n_lesions = int((scores.conditions["kind"] != "intact").sum())
    how = f"stopping after {stop_after} controls with at least the same effect" if stop_after else "all 100 controls"
    print(
        f"table of {len(conditions)} conditions on {len(tasks)} tasks, {how}: "
        f"{n_lesions} lesions, {elapsed / 60:.1f} minutes"
    )
    start = time.perf_counter()
    scores.summary()
    print(f"its summary: {time.perf_counter() - start:.1f} s", flush=True)


def main():
    """Run the selected rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("texts")
    parser.add_argument("rows", nargs="*", default=["forward", "deep", "table"])
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--n-texts", type=int, default=10, help="number of texts per kind that are scored")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    warnings.simplefilter("ignore", lmri.exceptions.LMRIWarning)
    model, tokenizer = lmri.load_model(options.model)
    tasks = tasks_of(options.texts, options.n_texts)
    if "forward" in options.rows:
        forward(model, tokenizer, tasks, options.repeats)
    if "deep" in options.rows:
        deep(model, tokenizer, tasks, options.repeats)
    if "table" in options.rows:
        with tempfile.TemporaryDirectory() as folder:
            for stop_after in (0, 10):
                table(model, tokenizer, tasks, Path(folder) / f"stop-{stop_after}", options.texts, stop_after)


if __name__ == "__main__":
    main()
