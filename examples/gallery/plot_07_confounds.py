"""
Measure confounds and regress them out
======================================

Every token has a position, a frequency and a surprisal. These confounds can be unrelated to the hypothesis. A network
that follows a confound is not an error, but it may not be the network of interest. This example measures the confounds
and regresses them out.
"""

# %%
# Record activations and compute confounds
# ----------------------------------------
# The model reads the recorded tokens a second time, to compute surprisal and entropy.
import tempfile

import matplotlib.pyplot as plt
import numpy as np

import lmri
from lmri.confounds import select, write
from lmri.demo.texts import generate
from lmri.surprisal import predictions

folder = tempfile.TemporaryDirectory(prefix="lmri-")
model, tokenizer = lmri.load_model("lmri-demo")
recording = lmri.record(model, tokenizer, generate("news", 24, seed=7), folder.name, corpus="news", site="mlp_hidden")
write(lmri.open_study(folder.name).layout, recording, predictions(model, recording))
columns = ["position", "log_frequency", "token_length", "surprisal"]
confounds = select(recording, columns)
print(confounds[0].head(4).round(2).to_string(index=False))

# %%
# Decompose with and without confound regression
# ----------------------------------------------
plain = lmri.NeuronICA(recording.space, n_components=6).fit(recording.imgs)
clean = lmri.NeuronICA(recording.space, n_components=6).fit(recording.imgs, confounds=confounds)

# %%
# The following function correlates the time course of each network with each confound.


def follows(ica):
    """Correlate time courses with confounds within each run, and average over runs: (n_networks, n_confounds)."""
    each = [
        np.corrcoef(course.T, table.to_numpy().T)[: course.shape[1], course.shape[1] :]
        for course, table in zip(ica.time_courses_, confounds, strict=True)
    ]
    return np.mean(each, axis=0)


before, after = follows(plain), follows(clean)
figure, axes = plt.subplots(1, 2, figsize=(9, 3.3), sharey=True, layout="constrained")
for axis, values, title in ((axes[0], before, "As recorded"), (axes[1], after, "After taking them out")):
    image = axis.imshow(values, cmap="RdBu_r", vmin=-1, vmax=1, aspect="auto")
    axis.set_xticks(range(len(columns)), [name.replace("_", " ") for name in columns])
    axis.set_yticks(range(len(values)))
    axis.set_title(title)
    for (row, column), r in np.ndenumerate(values):
        text = f"{r:+.2f}".replace("-", "−") if abs(r) >= 0.005 else "0"
        axis.text(column, row, text, ha="center", va="center", fontsize=8)
    for spine in axis.spines.values():
        spine.set_visible(False)
    axis.tick_params(length=0)
axes[0].set_ylabel("network")
figure.colorbar(image, ax=axes, label="r with the time course")
plt.show()

# %%
# After confound regression, the time courses have no linear relation with the confounds within runs.
#
# Compare the networks before and after confound regression
# ---------------------------------------------------------
compared = lmri.compare(lmri.NetworkSet.from_estimator(plain), lmri.NetworkSet.from_estimator(clean))
print(compared.table[["first", "second", "r", "r_null_95"]].round(2).to_string(index=False))

# %%
# Limitations
# -----------
# This example does not show that the remaining networks are unrelated to the confounds. The regression is linear. A
# network that follows the logarithm of the position does not disappear when position is regressed out. Nor does the
# example show that the removed variance is an artefact: a network may respond to surprisal. For details, see
# :doc:`../confounds`.
