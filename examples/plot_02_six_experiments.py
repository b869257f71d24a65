"""
The paper's six experiments on a small model
============================================

The experiments are templates, lesions, preservation, amplification, dissociation and robustness, each with matched
controls, on a GPT-2 of 4.3 million parameters that was trained on code, mathematics, news, stories and wiki. The
evaluation measures how well the model under each intervention predicts texts of each kind in which no network was
found.

The script needs a folder with the model and one with its texts (``heldout_code.jsonl`` and so on), and takes about 20
minutes per site on one core::

    python examples/plot_02_six_experiments.py MODEL TEXTS study-hidden --site mlp_hidden
    python examples/plot_02_six_experiments.py MODEL TEXTS study-out --site mlp_out

If the script is stopped, the same command resumes it. Its results for one such model are in docs/experiments.md. Every
line that it prints after a ``$`` is a command that can be copied; the lines below it are the output of the command.

"""

# %%
# Requirements
# ------------
import argparse
import json
import re
import shlex
import sys
import time
from pathlib import Path

import lmri
from lmri.cli.app import app
from lmri.controls import EnergyMatchedControls
from lmri.evaluation import ItemStore
from lmri.experiments import amplification_outcome, dose_conditions
from lmri.experiments.amplification import ALONG, GAIN, OFFSET, Dose
from lmri.interventions import output_norms
from lmri.outcome import to_markdown
from lmri.tasks import Perplexity

KINDS = ("code", "math", "news", "stories", "wiki")

parser = argparse.ArgumentParser()
parser.add_argument("model", help="folder of the model")
parser.add_argument("texts", type=Path, help="folder that holds heldout_KIND.jsonl")
parser.add_argument("out", type=Path, help="folder of the study")
parser.add_argument("--site", choices=["mlp_out", "mlp_hidden"], default="mlp_hidden")
parser.add_argument("--n-texts", type=int, default=60, help="number of texts of each kind; a third is held out")
parser.add_argument("--n-words", type=int, default=24, help="number of words of each held-out text that are scored")
parser.add_argument("--n-controls", type=int, default=39, help="layer-matched controls for every lesion")
parser.add_argument("--n-other-controls", type=int, default=19, help="energy-matched and all other controls")
options = parser.parse_args()
out, site, started = options.out, options.site, time.perf_counter()
at = ("--site", site)
many, few = str(options.n_controls), str(options.n_other_controls)


def run(command: str, *words: object) -> None:
    """Run ``lmri command words`` as on the command line."""
    line = [command, *map(str, words)]
    print(f"\n[{(time.perf_counter() - started) / 60:.1f} min]\n$ {shlex.join(['lmri', *line])}", flush=True)
    if code := app(line, standalone_mode=False):
        sys.exit(code)


def stored(name: str, kind: str = "experiments") -> bool:
    """Check whether an entry is stored already, so that it need not be computed again."""
    return any(entry.name == name and entry.site == site for entry in lmri.open_study(out).entries.list(kind))


# %%
# Record
# ------
# Both sites are recorded, so that the robustness analysis can use the other site. Only the beginnings of texts are
# scored, because there are more than a thousand evaluations and each must be short.
texts = out.parent / f"{out.name}-texts"
texts.mkdir(parents=True, exist_ok=True)
for kind in KINDS:
    source = texts / f"{kind}-recorded.jsonl"
    lines = (options.texts / f"heldout_{kind}.jsonl").read_text(encoding="utf-8").split("\n")
    source.write_text("".join(f"{line}\n" for line in lines if line.strip()), encoding="utf-8")
    for one in ("mlp_out", "mlp_hidden"):
        run(
            "record", options.model, source, "--out", out, "--corpus", kind, "--site", one,
            "--limit", options.n_texts, "--test-fraction", 1 / 3, "--max-tokens", 128,
        )  # fmt: skip
study = lmri.open_study(out)
tasks: list[str] = []
scored: dict[str, list[str]] = {}
for kind in KINDS:
    held_out = study.recording(kind, site).test_texts
    scored[kind] = [re.match(rf"\s*(?:\S+\s*){{1,{options.n_words}}}", text)[0].rstrip() for text in held_out]
    file = texts / f"{kind}.jsonl"
    file.write_text("".join(json.dumps({"text": text}) + "\n" for text in scored[kind]), encoding="utf-8")
    tasks += ["--task", f"perplexity:{file}"]

# %%
# Decompose
# ---------
# The experiments use ten networks; five and twenty are for preservation. |z| > 3 is descriptive: it selects neurons and
# controls no error rate. The result of a calibrated threshold is stored as well. If |z| > 3 leaves most networks empty,
# as it may at the MLP's output, the experiments use the strongest 1 % of the neurons of each map.
for k in (5, 10, 20):
    run(
        "decompose", out, *at, "--n-components", k, "--name", f"ica{k}", "--threshold", "z:3",
        "--n-surrogates", 20 if k == 10 else 0,
    )  # fmt: skip
run("threshold", out, "ica10", *at, "--by", "fdr:0.05", "--name", "ica10-fdr")
mostly_empty = sum(network.n_neurons == 0 for network in study.networks("ica10", site)) > 5
names = {k: f"ica{k}-top1" if mostly_empty else f"ica{k}" for k in (5, 10, 20)}
for k, name in names.items():
    if mostly_empty:
        run("threshold", out, f"ica{k}", *at, "--by", "top:0.01", "--name", name)
ten = names[10]

# %%
# Templates (Tables 1 to 3)
# -------------------------
if not stored("templates"):
    run("templates", out, *at, "--name", "templates")

# %%
# Lesion (Tables 4 to 7) and test for dissociations
# -------------------------------------------------
# The controls are as many random neurons of the same layers.
run("lesion", out, *at, "--networks", ten, *tasks, "--n-controls", many, "--name", "lesion")
run("dissociate", out, "lesion", *at, "--name", "dissociate")

# %%
# Preserve (Tables 8 to 10)
# -------------------------
sets = [word for name in names.values() for word in ("--networks", name)]
shares = [word for share in (0.15, 0.3, 0.6) for word in ("--share", share)]
run(
    "preserve", out, *at, *sets, *shares, "--decomposition", "ica20", *tasks, "--n-controls", few,
    "--name", "preserve",
)  # fmt: skip

# %%
# Lesion with other ablation values
# ---------------------------------
# The neurons of the union are set to their mean in other texts, or to their value at a random token of these texts (ten
# seeds). The robustness analysis includes controls for these lesions.
model, tokenizer = lmri.load_model(options.model)
whole = [Perplexity(scored[kind], f"perplexity-{kind}") for kind in KINDS]
if not stored("baselines", "scores"):
    wiki, union = study.recording("wiki", site), study.networks(ten, site).union()
    others = {
        "zero": lmri.lesion(union),
        "mean of wiki": lmri.lesion(union, wiki),
        "a random token of wiki": [lmri.lesion(union, lmri.ResampleSource.draw(wiki, seed)) for seed in range(10)],
    }
    scores = lmri.evaluate(model, tokenizer, whole, others, store=ItemStore(study.layout.items))
    study.save_scores(scores, "baselines", site, ten, {"intervention": "lesion"})
    shown = scores.summary()[["condition", "task", "diff", "ci_low", "ci_high", "sd_repeats"]]
    print(f"\n{to_markdown(shown.round(4))}")

# %%
# The paper's settings
# --------------------
if not stored("templates-paper"):
    run("templates", out, *at, "--paper", "--paper-model", "gpt2", "--name", "templates-paper")
run("lesion", out, *at, "--paper", "--paper-model", "gpt2", *tasks, "--name", "lesion-paper")

# %%
# The paper's only control is neurons drawn from all layers, and its maps favour the most active neurons. The same union
# is therefore also compared with controls of the same layers, and with controls that also remove as much activity.
if not stored("paper-union", "scores"):
    union = study.networks("paper-parity", site).union()
    norms = output_norms(model, union.space) if site == "mlp_hidden" else None
    families = [
        lmri.MatchedControls(options.n_other_controls),
        EnergyMatchedControls.measured(study.group(site), "zero", norms, options.n_other_controls),
    ]
    scores = lmri.evaluate(
        model, tokenizer, whole, {union.name: lmri.lesion(union)}, families, store=ItemStore(study.layout.items)
    )
    study.save_scores(scores, "paper-union", site, "paper-parity", {"intervention": "lesion"})
    shown = scores.summary()[["condition", "task", "diff", "control_family", "control_mean", "effect", "p", "note"]]
    print(f"\n{to_markdown(shown.round(4))}")

# %%
# Localize and lesion
# -------------------
prose = "code - 1/3*news - 1/3*stories - 1/3*wiki"
run(
    "localize", out, *at, "--contrast", prose, "--most", 50, "--match-positions", "--overlap", ten,
    "--name", "code-prose",
)  # fmt: skip
run("lesion", out, *at, "--networks", "code-prose", *tasks, "--n-controls", few, "--name", "lesion-code-prose")

# %%
# Amplify
# -------
# The three largest networks are amplified by a gain, by a constant as in the paper, and by this constant along the
# signs of the weights. The best dose is selected on one half of the held-out texts and reported on the other.
if not stored("amplify"):
    largest = sorted(study.networks(ten, site), key=lambda network: -network.n_neurons)[:3]
    doses = [
        Dose(network, *dose)
        for network in largest
        for dose in ((GAIN, 1.5), (OFFSET, 0.5), (ALONG, 0.5))
        if network.n_neurons
    ]
    halves = [
        Perplexity(scored[kind][start::2], f"{kind}-{split}", split=split)
        for start, split in enumerate(("select", "test"))
        for kind in KINDS
    ]
    controls = lmri.MatchedControls(options.n_other_controls)
    conditions = dose_conditions(doses)
    print(f"\n[{(time.perf_counter() - started) / 60:.1f} min]\nAmplifying {[one.name for one in largest]}", flush=True)
    scores = lmri.evaluate(
        model, tokenizer, halves, conditions, controls, store=ItemStore(study.layout.items)
    )  # scores from before an interruption are reused
    study.save_scores(scores, "amplify", site, None, {"intervention": "amplify"})
    outcome = amplification_outcome(scores, doses)
    study.save_experiment(outcome, "amplify", site, {"networks": [ten], "scores": "amplify"}, {})
    print(to_markdown(outcome.layouts["best"]), outcome.text)

# %%
# Robustness of the lesion of the union
# -------------------------------------
if not stored("robustness"):
    run(
        "robustness", out, *at, "--networks", ten, *tasks, "--n-controls", few, "--baselines", "wiki,resample:wiki",
        "--thresholds", "z:2.5", "--seeds", "1", "--methods", "fastica-temporal", "--name", "robustness",
    )  # fmt: skip

# %%
# Lesion with energy-matched controls
# -----------------------------------
# The controls are neurons of the same layers whose lesion also removes as much of the activity.
run(
    "lesion", out, *at, "--networks", ten, *tasks, "--controls", "energy", "--n-controls", few,
    "--name", "lesion-energy",
)  # fmt: skip

# %%
# Lesion of the networks at |z| > 3, if most of them are empty
# ------------------------------------------------------------
if mostly_empty:
    run("lesion", out, *at, "--networks", "ica10", *tasks, "--n-controls", few, "--name", "lesion-z3")

# %%
# Report
# ------
run("report", out)

# %%
# Limitations
# -----------
# This is one training of one small model, evaluated on the beginnings of twenty texts of each kind. Another model, or
# other texts, may give different results. Networks were selected by a descriptive threshold, so only effects that
# exceed their controls are informative.
