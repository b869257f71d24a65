"""
Localize neurons that prefer code to news
=========================================

A decomposition finds neurons that are active together. A localizer finds neurons whose activity differs between
user-defined conditions; in this example, between texts of code and texts of news. The units of the test are texts.
Tokens are not used as units, because neighbouring tokens are correlated.
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
# Contrast the two corpora
# ------------------------
# Every text contributes one mean map. The labels of the texts are permuted, and p is corrected with the maximum t over
# all neurons.
found = lmri.localize(recordings, "code - news", match_positions=True)
print(found)
everything = found.threshold()[0]
print(f"{everything.n_neurons} of {found.space.n_neurons} neurons differ, at a familywise error of 0.05")

# %%
# This number of neurons is too large for a functional network. A significant neuron is not necessarily selective. The
# following code therefore selects the 60 neurons with the largest positive t.
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
# Lesion the selected neurons
# ---------------------------
# The lesion is scored on texts that were not used for the contrast.
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
# Limitations
# -----------
# A contrast of two corpora is sensitive to all differences between them, including punctuation, line ends and length.
# Conditions within texts (``column="is_punctuation"``) and matched texts isolate the intended difference more closely.
# For details, see :doc:`../localizers`.
