"""
Finding and lesioning the networks of a small trained model
===========================================================

A GPT-2 of 4.3 million parameters, trained on five kinds of text, reads 40 held-out texts of each kind. Networks are
found at both sites with four methods, and the methods are compared. Each network of CanICA is lesioned and compared
with 20 matched controls, on texts in which no network was found.

The script needs a folder with the model and its texts, and takes about 25 minutes on one core::

    LMRI_TEST_DATA=/path/to/data python examples/plot_01_find_and_lesion_networks.py walk

"""

# %%
# Requirements
# ------------
import json
import os
import sys
import warnings
from pathlib import Path

import pandas as pd

import lmri
from lmri.decomposition import METHODS, build, decomposition_identity
from lmri.evaluation import identity
from lmri.exceptions import LMRIWarning
from lmri.tasks import Perplexity

KINDS = ("code", "math", "news", "stories", "wiki")
K = 20
N_CONTROLS = 20
LESIONED = ("canica",)

if not os.environ.get("LMRI_TEST_DATA"):
    sys.exit("Set LMRI_TEST_DATA to the folder that holds models/mini-gpt2.")
folder = Path(os.environ["LMRI_TEST_DATA"]) / "models" / "mini-gpt2"
out = Path(sys.argv[1] if len(sys.argv) > 1 else "walk")
warnings.simplefilter("ignore", LMRIWarning)  # convergence is printed below instead
pd.set_option("display.width", 200, "display.max_columns", 20)

# %%
# Record
# ------
# Both sites are recorded, with one corpus per kind of text. A quarter of the texts is held out.
model, tokenizer = lmri.load_model(folder)
for site in ("mlp_hidden", "mlp_out"):
    for kind in KINDS:
        lines = (folder / f"heldout_{kind}.jsonl").read_text(encoding="utf-8").split("\n")
        texts = [json.loads(line)["text"] for line in lines if line][:40]
        print(lmri.record(model, tokenizer, texts, out, corpus=kind, site=site))
study = lmri.open_study(out)

# %%
# Decompose
# ---------
# Four methods use the same standardization. The number of non-empty networks and their numbers of neurons are reported
# for each method; empty networks are a valid result.
rows = []
for site in study.sites:
    recordings = study.group(site)
    imgs = [img for recording in recordings for img in recording.imgs]
    for method in METHODS:
        estimator = build(method, recordings[0].space, n_components=K, random_state=0)
        if not study.entries.has("decompositions", site, method, *decomposition_identity(estimator, recordings)):
            study.save_decomposition(estimator.fit(imgs), recordings)
        maps = study.decomposition(method, site)
        networks = maps.threshold()
        study.save_networks(networks, method)
        sizes = networks.members.sum(axis=1)
        fdr = maps.threshold("fdr_gaussian", alpha=0.05).members.sum(axis=1)
        convergence = networks.origin.convergence
        rows.append(
            {
                "site": site,
                "method": method,
                "converged": f"{convergence['n_converged']}/{convergence['n_starts']}",
                "variance %": round(100 * networks.origin.variance_explained_together, 1),
                "threshold": networks.origin.threshold["method"],
                "neurons, median (range)": f"{int(pd.Series(sizes).median())} ({sizes.min()}-{sizes.max()})",
                "empty": int((sizes == 0).sum()),
                "fdr_gaussian: median": int(pd.Series(fdr).median()),
                "empty there": int((fdr == 0).sum()),
                "sign undetermined": int((networks.metrics["sign_determined"] == 0).sum()),
            }
        )
print(pd.DataFrame(rows).to_string(index=False))

# %%
# Compare
# -------
# The maps of every pair of methods are matched one to one and compared with the null of random unmixings.
rows = []
for site in study.sites:
    for number, first in enumerate(METHODS):
        for second in list(METHODS)[number + 1 :]:
            found = lmri.compare(study.networks(first, site), study.networks(second, site))
            study.save_comparison(found, seed=0)
            rows.append(
                {
                    "site": site,
                    "first": first,
                    "second": second,
                    "mean |r|": round(found.mean_r, 3),
                    "null mean": round(found.null_mean, 3),
                    "null 95 %": round(found.null_95, 3),
                    "pairs above null": f"{int(found.table['above_null'].sum())}/{len(found.table)}",
                    "mean IoU": round(float(found.table["iou"].mean()), 2),
                }
            )
print(pd.DataFrame(rows).to_string(index=False))

# %%
# Lesion
# ------
# Each network, the union and the paper's random 15 % are lesioned and evaluated on held-out texts of each kind. The
# smallest possible p is 1/21. With 20 controls no single network can be significant among 20 networks, so the table
# counts the networks that reach the smallest p.
tasks = [Perplexity(recording.test_texts, recording.corpus) for recording in study.group("mlp_out")]
rows = []
for site in study.sites:
    for method in LESIONED:
        name = f"lesion-{method}"
        conditions = lmri.conditions_of(study.networks(method, site), lmri.lesion)
        controls = lmri.MatchedControls(N_CONTROLS)
        inputs = study.scores_inputs(method, site, identity(model, tasks, conditions, controls, seed=0))
        shown = {"intervention": "lesion", "n_controls": N_CONTROLS}
        if not study.entries.has("scores", site, name, inputs, {**shown, "seed": 0}):
            scores = lmri.evaluate(model, tokenizer, tasks, conditions, controls, seed=0)
            study.save_scores(scores, name, site, method, shown)
        scores = study.scores(name, site)
        summary = scores.summary()
        union = f"{method}-union"
        for task in [task.info.name for task in tasks]:
            own = summary[summary["task"] == task].set_index("condition")
            single = own[own["p"].notna() & (own.index != union)]
            best = single["effect"].idxmax() if len(single) else union
            rows.append(
                {
                    "site": site,
                    "method": method,
                    "texts": task,
                    "intact": round(own.loc["intact", "value"], 3),
                    "at the floor of p": f"{int((single['p'] <= scores.p_floor + 1e-9).sum())}/{len(single)}",
                    "largest effect": f"{best.rsplit('-', 1)[1]}: {own.loc[best, 'diff']:+.3f}",
                    "its controls": f"{own.loc[best, 'control_mean']:+.3f}",
                    "union": f"{own.loc[union, 'diff']:+.3f}",
                    "union's controls": f"{own.loc[union, 'control_mean']:+.3f}",
                    "p of union": round(own.loc[union, "p"], 3),
                    "random 15 %": f"{own.loc['random-15%', 'diff']:+.3f}",
                }
            )
print(pd.DataFrame(rows).to_string(index=False))

# %%
# Report
# ------
print(f"Report: {study.report()}")

# %%
# Limitations
# -----------
# This is one training of one small model, and its thresholds are descriptive. Controls are matched in layer and size,
# but not in activity, so a network of highly active neurons exceeds them even if it has no specific function.
