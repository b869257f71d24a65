"""
Which neurons prefer code?
==========================

A decomposition asks what works together. A localizer asks what differs between conditions that you name: here between
texts of code and of news. Texts are the units of the test, never tokens, which resemble their neighbours.
"""

# %%
# Record two corpora
# ------------------
import tempfile

import matplotlib.pyplot as plt
import numpy as np

import lmri
from lmri.demo.texts import generate

folder = tempfile.TemporaryDirectory(prefix="lmri-")
model, tokenizer = lmri.load_model("lmri-demo")
recordings = [
    lmri.record(model, tokenizer, generate(kind, 20, seed=7), folder.name, corpus=kind, site="mlp_hidden")
    for kind in ("code", "news")
]

# %%
# Contrast them
# -------------
# Every text gives one mean map. Labels of texts are permuted, and p is corrected by the largest t over all neurons.
found = lmri.localize(recordings, "code - news", match_positions=True)
print(found)
everything = found.threshold()[0]
print(f"{everything.n_neurons} of {found.space.n_neurons} neurons differ, at a familywise error of 0.05")

# %%
# So many are no functional network. Significant is not selective: take those that are most clearly higher in code.
chosen = found.threshold(tail="positive", most=60)[0]
print(found.table(tail="positive", most=60).head(5).round(3).to_string(index=False))

space, t = found.space, found.components_[0]
limit = np.abs(t[everything.members]).min()
figure, axes = plt.subplots(1, space.n_layers, figsize=(9, 3.1), sharey=True, layout="constrained")
for layer, axis in enumerate(axes):
    own = t[space.layer_of == layer]
    axis.axhspan(-limit, limit, color="#e4e7ea", lw=0)
    axis.plot(np.arange(len(own)), own, ".", ms=2, color="#7a7f87")
    members = np.flatnonzero(chosen.members[space.layer_of == layer])
    axis.plot(members, own[members], ".", ms=6, color="#cc3821")
    axis.set(xticks=[], xlabel=f"layer {layer}")
axes[0].set_ylabel("t, code − news")
figure.suptitle(
    "Every neuron; grey band: not significant; red: chosen", x=0.065, ha="left", fontsize=10, fontweight="bold"
)
plt.show()

# %%
# Does code need them?
# --------------------
# The contrast was made on other texts than those that are scored.
scores = lmri.evaluate(
    model,
    tokenizer,
    tasks=[lmri.tasks.Perplexity(one.test_texts, one.corpus) for one in recordings],
    conditions={"prefer code": lmri.lesion(chosen)},
    controls=lmri.MatchedControls(19),
)
summary = scores.summary()
shown = summary[summary["condition"] == "prefer code"]
print(shown[["task", "diff", "ci_low", "ci_high", "control_mean", "p"]].round(3).to_string(index=False))

# %%
# What this does not show
# -----------------------
# A contrast of two corpora finds whatever they differ in: punctuation, line ends, length. Conditions within texts
# (``column="is_punctuation"``) and matched texts come closer to what one means. More in :doc:`../localizers`.
