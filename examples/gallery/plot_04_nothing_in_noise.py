"""
False positives of thresholds in null data
==========================================

This example creates a recording without co-activation: every neuron of a real recording is shifted circularly in time,
each by its own random amount. Each neuron keeps its values and its autocorrelation, so its time series is as
heavy-tailed as before. Every network that a method finds in this recording is a false positive. In fMRI, a dead salmon
was scanned for the same reason; the figures therefore call this recording the salmon.
"""

# %%
# Create a recording and its null data
# ------------------------------------
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
# Decompose both recordings
# -------------------------
# Each decomposition uses three initializations. The calibrated threshold, ``fdr``, repeats the complete decomposition
# on 20 further surrogates of this kind. It keeps only neurons whose weights rarely occur in the surrogates.
warnings.simplefilter("ignore", LMRIWarning)  # ICA is not expected to converge on noise
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
# Only the calibrated threshold keeps no neuron in the null data. It may keep no neuron in the real recording either.
# In this case, no single neuron exceeds what is expected by chance. This result does not invalidate the map as a
# whole.
#
# Limitations
# -----------
# This example does not show that networks selected by ``|z| > 3`` are false. This threshold describes a map. Lesions
# with matched controls test whether the neurons matter to the model. Other initializations, texts and methods test
# whether the map is stable. A single null recording does not estimate an error rate either; :doc:`../nulls` reports
# error rates for many null recordings.
