"""
Networks of a language model in classifiers fine-tuned from it
==============================================================

A small model is fine-tuned to classify news by topic or film reviews by sentiment. Networks are found in the parent
model, which was not trained on the task, and are lesioned in the child: one at a time as in the paper's Table 4, and
all together as in Table 5. For Table 8, all other neurons are silenced. Each result is compared with matched controls,
and with the paper's values for GPT-2.

The script needs a folder with the model and one with the data, and takes about a quarter of an hour per task on an idle
core::

    python examples/plot_03_fine_tuned.py MODEL DATA OUT --task ag-news
    python examples/plot_03_fine_tuned.py MODEL DATA OUT --task sst2

DATA contains ``ag_news/test.jsonl`` and ``glue_sst2/dev.jsonl``. If the script is stopped, the same command resumes it.

"""

# %%
# Requirements
# ------------
import argparse
import shutil
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import matplotlib as mpl
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from scipy.stats import binomtest

import lmri
from lmri import finetuning
from lmri.decomposition import build, decomposition_identity
from lmri.drawing import NEGATIVE, NEUTRAL, POSITIVE, STYLE, drawing
from lmri.evaluation import ItemStore, conditions_of, identity
from lmri.exceptions import LMRIWarning
from lmri.experiments import (
    lesion_outcome,
    paper,
    preservation_conditions,
    preservation_grid,
    preservation_outcome,
)
from lmri.experiments.curves import preservation_figure
from lmri.networks import NetworkSet
from lmri.outcome import Outcome
from lmri.scores import Scores
from lmri.storage import text_hash
from lmri.tasks import load

FILES = {"ag-news": "ag_news/test.jsonl", "sst2": "glue_sst2/dev.jsonl"}
N_RECORDED = {"ag-news": 300, "sst2": 700}  # about equally many tokens from short and long texts
SHARES = (0.75, 0.0, 0.25)  # fit, select (unused), test; the test split is that of `lmri lesion --split test`
PAPER = "gpt2"

parser = argparse.ArgumentParser()
parser.add_argument("model", help="folder of the parent")
parser.add_argument("data", type=Path, help="folder of the tasks' data")
parser.add_argument("out", type=Path, help="folder for children, studies and tables")
parser.add_argument("--task", choices=list(FILES), required=True)
parser.add_argument(
    "--plan",
    nargs="+",
    default=["mlp_hidden:ica", "mlp_out:paper", "mlp_hidden:paper", "mlp_out:ica"],
    help="site:networks, in this order; networks are ica or paper",
)
parser.add_argument("--found-in", choices=["parent", "child"], default="parent", help="model that is recorded")
parser.add_argument("--n-train", type=int, default=1500, help="maximum number of items for fine-tuning")
parser.add_argument("--n-test", type=int, default=200, help="maximum number of items that are scored under lesions")
parser.add_argument("--n-recorded", type=int, help="maximum number of texts that are recorded")
parser.add_argument("--n-controls", type=int, default=19, help="controls for every network and preserved set")
parser.add_argument("--n-union-controls", type=int, default=39, help="controls for the union")
parser.add_argument("--stop-after", type=int, default=3, help="as for lmri lesion, for single networks")
parser.add_argument("--epochs", type=float, default=3.0)
parser.add_argument("--learning-rate", type=float, default=2e-4)
parser.add_argument("--kept", type=int, nargs="+", default=[10, 64, 128], help="numbers of components for preservation")
options = parser.parse_args()
n_recorded = options.n_recorded or N_RECORDED[options.task]

warnings.simplefilter("ignore", LMRIWarning)  # notes and tables contain the same information
pd.set_option("display.width", 220, "display.max_columns", 30, "display.max_colwidth", 60)
folder = options.out / options.task
results = folder if options.found_in == "parent" else folder / "found-in-child"
source = options.data / FILES[options.task]
started = time.perf_counter()


def say(text: Any) -> None:
    """Print text with the minutes since the start."""
    print(f"[{(time.perf_counter() - started) / 60:5.1f} min]\n{text}", flush=True)


def task_of(split: str, most: int | None) -> Any:
    """Load the task for one split."""
    return load(options.task, source, scoring="head", split=split, shares=SHARES, limit=most, seed=0, batch_size=32)


# %%
# Fine-tune the child
# -------------------
# Three quarters of the items are used for fine-tuning and the last quarter for evaluation. They share no text.
parent, tokenizer = lmri.load_model(options.model)
fit, test = task_of("fit", options.n_train), task_of("test", options.n_test)
place = folder / "child"
if not place.exists():
    training = finetuning.Training(epochs=options.epochs, learning_rate=options.learning_rate)
    finetuning.save(finetuning.finetune(parent, tokenizer, fit, task_of("test", None), training), place)
child, child_tokenizer = lmri.load_model(place)
of_child = pd.read_csv(place / "held_out.tsv", sep="\t")
shown = ["metric", "value", "majority_rate", "balanced_accuracy", "mean_margin", "predicted_counts", "n_items"]
n_right, n_items = round(of_child["value"][0] * of_child["n_items"][0]), int(of_child["n_items"][0])
low, high = binomtest(n_right, n_items).proportion_ci(method="wilson")
say(
    f"{options.task}: {len(fit.labels)} items learned, {n_right} of {n_items} others right: {n_right / n_items:.3f} "
    f"[{low:.3f}, {high:.3f}]\n{of_child[shown].to_string(index=False)}"
)

# %%
# Find networks in the parent
# ---------------------------
# The parent (with ``--found-in child``, the child) reads texts that the child is fine-tuned on, so none of them is
# scored. Networks are found by NeuronICA at |z| > 3, or with the paper's settings: temporal FastICA and one-sided
# z > 3.6.
recorded = parent if options.found_in == "parent" else child
sites = list(dict.fromkeys(one.partition(":")[0] for one in options.plan))
for site in sites:
    lmri.record(
        recorded, tokenizer, list(dict.fromkeys(fit.texts))[:n_recorded], results / "study",
        corpus="learned", site=site, test_fraction=0.0,
    )  # fmt: skip
study = lmri.open_study(results / "study")
study.check_apart(test.texts, options.task)  # no network was found in a text that is scored
if finetuning.learned_texts(place) & {text_hash(text) for text in test.texts}:
    sys.exit("The child has learned texts that are to be scored. Choose another folder as OUT.")


def networks_of(site: str, kind: str, n_components: int) -> NetworkSet:
    """Find networks, or load them if they are stored."""
    name = f"{kind}-{n_components}"
    if kind == "paper":
        return study.decompose(paper=True, n_components=n_components, site=site, name=name)
    recordings = study.group(site)
    estimator = build("ica", recordings[0].space, n_components=n_components, random_state=0)
    if not study.entries.has("decompositions", site, name, *decomposition_identity(estimator, recordings)):
        estimator.fit([img for recording in recordings for img in recording.imgs])
        study.save_decomposition(estimator, recordings, name)
    study.save_networks(study.decomposition(name, site).threshold("z", z=3.0), name)
    return study.networks(name, site)


def can_be_told_apart(site: str, kind: str) -> list[int]:
    """Return the numbers of components whose square is below the number of samples; with more, ICA overlearns."""
    recording = study.recording("learned", site)
    n_samples = recording.n_volumes if kind == "paper" else recording.space.n_neurons
    return [n for n in options.kept if n**2 < n_samples]


# %%
# Score and report
# ----------------
def scored(site: str, name: str, conditions: dict[str, Any], n_controls: int, stop_after: int = 0) -> Scores:
    """Score the child, or load the same scores if they are stored."""
    controls = lmri.MatchedControls(n_controls)
    inputs = study.scores_inputs(None, site, identity(child, [test], conditions, controls, 0, stop_after))
    about = {"n_controls": n_controls, "stop_after": stop_after}
    if not study.entries.has("scores", site, name, inputs, {**about, "seed": 0}):
        store = ItemStore(study.layout.items)
        scores = lmri.evaluate(
            child, child_tokenizer, [test], conditions, controls, store=store, stop_after=stop_after
        )  # fmt: skip
        study.save_scores(scores, name, site, None, about)
    return study.scores(name, site)


READ = [
    "condition", "n_neurons", "value", "diff", "ci_low", "ci_high", "control_mean", "effect", "effect_low",
    "effect_high", "p", "q", "n_controls", "balanced_accuracy", "mean_margin", "predicted_counts", "collapsed",
]  # fmt: skip


def tell(outcome: Outcome, scores: Scores, site: str, name: str) -> None:
    """Store an outcome, write its files, and print its text."""
    study.save_experiment(outcome, name, site, {"scores": name}, {})
    files = results / f"{site}-{name}"
    shutil.rmtree(files, ignore_errors=True)  # files of the same outcome; the line above refuses a different one
    outcome.write(files)
    layouts = "\n".join(f"{stem}\n{layout.to_string(index=False)}" for stem, layout in outcome.layouts.items())
    say(f"{outcome.title}, {site}: {files}\n{outcome.text}\n{layouts}")
    # Accuracy must be interpreted with the answers: a child that gives one answer to all items is sometimes correct.
    table = scores.summary()
    table[READ].to_csv(files / "read.tsv", sep="\t", index=False)
    say(table[READ].round(3).to_string(index=False))


# %%
# Lesion and preserve
# -------------------
# Table 4 lesions single networks with few controls, and stops drawing controls for networks that clearly have no
# effect. Table 5 lesions the union of ten networks and the paper's random 15 % with more controls. Table 8 preserves
# only the networks of increasing numbers of components.
for site, _, kind in (one.partition(":") for one in options.plan):
    networks = networks_of(site, kind, 10)
    sizes = networks.members.sum(axis=1)
    union = networks.union()
    say(
        f"{site}, {kind}: {networks.origin.convergence}\nneurons {sizes.tolist()}, together {union.n_neurons}, "
        f"by layer {union.layer_profile().tolist()}"
    )
    if "iq" in networks.metrics:
        say(f"stability (Iq): {networks.metrics['iq'].round(2).tolist()}")
    every = conditions_of(networks, lmri.lesion)
    one_by_one = {name: every[name] for name in networks.names}
    together = {name: made for name, made in every.items() if name not in one_by_one}
    title = f"networks of {kind} in the child of {options.task}"
    scores = scored(site, f"table4-{kind}", one_by_one, options.n_controls, options.stop_after)
    tell(lesion_outcome(scores, title, PAPER), scores, site, f"table4-{kind}")
    scores = scored(site, f"table5-{kind}", together, options.n_union_controls)
    tell(lesion_outcome(scores, title, PAPER), scores, site, f"table5-{kind}")
    grid = preservation_grid([networks_of(site, kind, n) for n in can_be_told_apart(site, kind)])
    scores = scored(site, f"table8-{kind}", preservation_conditions(grid), options.n_controls)
    tell(preservation_outcome(scores, grid), scores, site, f"table8-{kind}")


# %%
# Plot all lesions
# ----------------
def draw_lesions(axis: Any, site: str, kind: str) -> None:
    """Plot the accuracy under each lesion with its controls: single networks from worst to best, then the others."""
    rows: list[tuple[str, pd.Series, Any]] = []
    for name in (f"table4-{kind}", f"table5-{kind}"):
        scores = study.scores(name, site)
        info, summary = scores.tasks[0], scores.summary().set_index("condition")
        intact = summary.loc["intact"]
        controls = scores.control_diffs(info)
        lesioned = summary.drop(index="intact")
        lesioned = lesioned.sort_values("diff", kind="stable") if name.startswith("table4") else lesioned
        rows += [(str(own), row, intact["value"] + controls.get(own, [])) for own, row in lesioned.iterrows()]
    for height, (_, row, beside) in enumerate(rows):
        axis.plot(beside, [height] * len(beside), "|", color=NEUTRAL, ms=7, alpha=0.55)
        axis.plot(intact["value"] + row[["ci_low", "ci_high"]], [height] * 2, color=POSITIVE, lw=1.4)
        axis.plot(row["value"], height, "o", color=POSITIVE, ms=4)
    label(axis, [short(name, row["n_neurons"]) for name, row, _ in rows], f"{site},\n{KINDS[kind]}")
    axis.axvline(intact["value"], color="black", lw=0.9, ls="--", zorder=0)
    axis.axvline(intact["majority_rate"], color="black", lw=0.9, ls=":", zorder=0)


KINDS = {"ica": "NeuronICA", "paper": "paper's choices"}


def short(name: str, n_neurons: int) -> str:
    """Format the label of a lesion from its number and its size."""
    last = name.rsplit("-", 1)[-1]
    return f"{'all ten' if last == 'union' else 'random' if '%' in last else last} ({n_neurons})"


def label(axis: Any, names: list[str], title: str) -> None:
    """Label the rows of a panel, and separate single networks from the others."""
    axis.set_yticks(range(len(names)), names, fontsize=7.5)
    axis.set_ylim(len(names) - 0.5, -0.5)
    axis.set_title(title, fontsize=9)
    axis.set_xlabel("accuracy", fontsize=8)
    axis.tick_params(axis="x", labelsize=8)
    axis.tick_params(axis="y", length=0)
    axis.grid(axis="x", lw=0.3)
    axis.axhline(len(names) - 2.5, color=NEUTRAL, lw=0.6)


def draw_paper(axis: Any) -> None:
    """Plot the paper's values for GPT-2 on the same task (single networks for AG News only, no controls)."""
    intact, without_random, without_all = paper.LESIONS[PAPER][options.task]
    single = sorted(paper.AG_NEWS_NETWORKS, key=lambda one: one[1]) if options.task == "ag-news" else []
    numbers = [paper.AG_NEWS_NETWORKS.index(one) + 1 for one in single]
    names = [f"{number} ({n})" for number, (n, _) in zip(numbers, single, strict=True)]
    values = [*(value for _, value in single), without_all, without_random]
    n_missing = len(paper.AG_NEWS_NETWORKS) - len(single)  # aligns the last two rows with ours
    axis.plot(values, range(n_missing, n_missing + len(values)), "o", color=NEGATIVE, ms=4)
    label(axis, [*[""] * n_missing, *names, "all ten", "random"], "the paper's\nGPT-2")
    axis.axvline(intact, color="black", lw=0.9, ls="--", zorder=0)


with mpl.rc_context(STYLE):
    figure = Figure(figsize=(2.2 + 2.2 * len(options.plan), 3.6), layout="constrained")
    figure.get_layout_engine().set(w_pad=0.12)  # otherwise the row labels at the left are cut off
    axes = figure.subplots(1, len(options.plan) + 1, sharex=True)
    for axis, (site, _, kind) in zip(axes[:-1], (one.partition(":") for one in options.plan), strict=True):
        draw_lesions(axis, site, kind)
    draw_paper(axes[-1])
    marks = [
        Line2D([], [], color=POSITIVE, marker="o", ms=4, lw=1.4, label="lesioned, 95 % over texts"),
        Line2D([], [], color=NEUTRAL, marker="|", ms=7, lw=0, label="its controls"),
        Line2D([], [], color=NEGATIVE, marker="o", ms=4, lw=0, label="the paper"),
        Line2D([], [], color="black", lw=0.9, ls="--", label="intact"),
        Line2D([], [], color="black", lw=0.9, ls=":", label="most frequent label"),
    ]
    figure.legend(handles=marks, loc="outside lower left", frameon=False, fontsize=7.5, ncols=len(marks))
    lesions = drawing(figure)

# The preservation figure has one panel per task; here, each panel shows a site and a method of finding networks.
kept: dict[str, list[pd.DataFrame]] = {"preservation": [], "controls": []}
for site, _, kind in (one.partition(":") for one in options.plan):
    tables = study.experiment(f"table8-{kind}", site).tables
    for stem, parts in kept.items():
        parts.append(tables[stem].assign(task=f"{site}, {KINDS[kind]}"))
preserved = preservation_figure(pd.concat(kept["preservation"]), pd.concat(kept["controls"]))
for name, drawn in {"lesions": lesions, "kept": preserved}.items():
    (results / f"{name}.svg").write_text(drawn.svg, encoding="utf-8")
    (results / f"{name}.png").write_bytes(drawn.png)

# %%
# Limitations
# -----------
# One parent is one subject, and one fine-tuning is one child. Networks at |z| > 3, and those of the paper, are
# descriptive. Only the comparison with controls shows whether an effect is specific to these neurons.
say("Done.")
