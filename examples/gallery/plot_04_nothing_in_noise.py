"""
What do thresholds keep where nothing is?
=========================================

A recording in which no neurons act together any more: every neuron of a real one is shifted in time on its own. Each
keeps its values and its rhythm, so it is as spiky as before. Whatever a method finds here is false. In fMRI a dead
salmon was scanned for the same reason.
"""

# %%
# A recording, and its salmon
# ---------------------------
import tempfile
import warnings

import matplotlib.pyplot as plt
import numpy as np

import lmri
from lmri.demo.texts import generate
from lmri.exceptions import LMRIWarning
from lmri.phantom import salmon

folder = tempfile.TemporaryDirectory(prefix="lmri-")
model, tokenizer = lmri.load_model("lmri-demo")
recordings = [
    lmri.record(model, tokenizer, generate(kind, 12, seed=7), folder.name, corpus=kind, site="mlp_hidden")
    for kind in ("code", "mathematics", "news")
]
space = recordings[0].space
imgs = [img for recording in recordings for img in recording.imgs]
nothing = salmon(imgs, space)
print(nothing)

# %%
# The same decomposition of both
# ------------------------------
# Three starts each. The calibrated threshold, ``fdr``, runs the whole decomposition again on 20 more such surrogates,
# and keeps what they hardly ever reach.
warnings.simplefilter("ignore", LMRIWarning)  # that ICA does not converge on noise is what it should do
sets = {
    label: lmri.NetworkSet.from_estimator(lmri.NeuronICA(space, 6, n_init=3).fit(data))
    for label, data in (("recording", imgs), ("salmon", nothing.imgs))
}
thresholds = {"fdr": {"alpha": 0.05}, "fdr_gaussian": {"alpha": 0.05}, "z": {"z": 3.0}, "auto": {"ratio": 1.0}}
sizes = {
    (label, name): own.threshold(name, **values).members.sum(axis=1)
    for label, own in sets.items()
    for name, values in thresholds.items()
}
for name in thresholds:
    print(f"{name:>12}: recording {sizes['recording', name]}, salmon {sizes['salmon', name]}")

# %%
figure, axes = plt.subplots(1, 2, figsize=(9, 2.9), sharex=True, sharey=True, layout="constrained")
labels = {"fdr": "fdr, by surrogates", "fdr_gaussian": "fdr, as if Gaussian", "z": "|z| > 3", "auto": "nilearn's auto"}
for axis, label in zip(axes, sets, strict=True):
    for row, name in enumerate(thresholds):
        own = sizes[label, name]
        offsets = row + np.linspace(-0.18, 0.18, len(own))
        axis.plot(own, offsets, "o", color="#2166ac" if name == "fdr" else "#cc3821", ms=6, alpha=0.7, clip_on=False)
    axis.set_xscale("symlog", linthresh=1)
    axis.set(title=f"In the {label}", xlabel="neurons kept by each map", xlim=(-0.1, 3000), ylim=(3.5, -0.5))
    axis.set_xticks([0, 1, 10, 100, 1000], ["0", "1", "10", "100", "1,000"])
    axis.grid(axis="x", lw=0.3)
axes[0].set_yticks(range(len(thresholds)), [labels[name] for name in thresholds])
plt.show()

# %%
# Only the calibrated threshold is silent about the salmon. It may well be silent about the recording, too: then no
# single neuron stands out of a map more than chance lets neurons stand out. That is no verdict on the map as a whole.
#
# What this does not show
# -----------------------
# That networks chosen by ``|z| > 3`` are false. The threshold describes a map; whether the neurons matter is asked by
# lesions beside matched controls, and whether the map is stable by other starts, texts and methods. One salmon is no
# error rate either: many more were counted in :doc:`../nulls`.
