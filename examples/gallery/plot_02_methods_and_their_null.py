"""
Compare decomposition methods with a null distribution
======================================================

NeuronICA, nilearn's CanICA and scikit-learn's FastICA decompose the same recording. Their maps are matched one to one.
A high correlation is not sufficient evidence of agreement: all methods work in nearly the same low-dimensional
subspace, and any two bases of one subspace resemble each other. Every match is therefore compared with the matches of
arbitrary unmixings of the same data.
"""

# %%
# Record and decompose
# --------------------
# The recording contains the hidden units of the MLPs for two kinds of text. Each method estimates eight maps. Spatial
# ICA maximizes the independence of the maps; temporal ICA maximizes the independence of the time courses.
import tempfile

import matplotlib.pyplot as plt
import numpy as np

import lmri
from lmri.demo.texts import generate

folder = tempfile.TemporaryDirectory(prefix="lmri-")
model, tokenizer = lmri.load_model("lmri-demo")
recordings = [
    lmri.record(model, tokenizer, generate(kind, 12, seed=7), folder.name, corpus=kind, site="mlp_hidden")
    for kind in ("code", "news")
]
space = recordings[0].space
imgs = [img for recording in recordings for img in recording.imgs]
methods = {
    "NeuronICA": lmri.NeuronICA(space, n_components=8),
    "CanICA": lmri.CanICA(space, n_components=8),
    "NeuronICA, temporal": lmri.NeuronICA(space, n_components=8, kind="temporal"),
    "FastICA, temporal": lmri.FastICA(space, n_components=8),
}
maps = {name: lmri.NetworkSet.from_estimator(method.fit(imgs)) for name, method in methods.items()}
for name, own in maps.items():
    start = own.origin.convergence
    print(f"{name}: {start['n_converged']} of {start['n_starts']} initializations converged")

# %%
# Match the maps
# --------------
# `lmri.compare` matches the maps of two sets one to one. It repeats the matching with 200 arbitrary unmixings of each
# set.
pairs = [
    ("NeuronICA", "CanICA"),
    ("NeuronICA, temporal", "FastICA, temporal"),
    ("NeuronICA", "FastICA, temporal"),
]
found = {pair: lmri.compare(maps[pair[0]], maps[pair[1]]) for pair in pairs}
for (first, second), one in found.items():
    above = int(one.table["above_null"].sum())
    print(
        f"{first} and {second}: mean |r| {one.mean_r:.2f}; arbitrary unmixings {one.null_mean:.2f} "
        f"(95 %: {one.null_95:.2f}); {above} of {len(one.table)} pairs beyond"
    )

figure, axes = plt.subplots(1, 3, figsize=(9, 3.3), sharey=True, layout="constrained")
for axis, ((first, second), one) in zip(axes, found.items(), strict=True):
    table = one.table
    rank = np.arange(1, len(table) + 1)
    axis.stairs(table["r_null_95"], np.append(rank - 0.5, rank[-1] + 0.5), fill=True, color="#e4e7ea")
    axis.plot(rank, table["r"].abs(), "o-", color="#cc3821", lw=0.8, mfc="white")
    beyond = table["above_null"] == 1
    axis.plot(rank[beyond], table["r"].abs()[beyond], "o", color="#cc3821")
    axis.set(title=f"{first}\nand {second}", xlabel="matched pair, best first", ylim=(0, 1.03), xticks=rank)
axes[0].set_ylabel("|r| over neurons")
axes[0].text(1, 0.06, "95 % of arbitrary unmixings", color="#5a636d", fontsize=8)
plt.show()

# %%
# Programs for the same kind of ICA agree: both spatial methods agree, and both temporal methods agree. The maps of
# spatial and temporal ICA are no more similar than arbitrary bases of the same subspace. Neither method is wrong; they
# answer different questions.

# %%
# Match maps with their random rotation
# -------------------------------------
# One example of an arbitrary unmixing is a random rotation of the maps of NeuronICA. The rotated maps no longer
# represent networks, but they still "agree" with the original maps.
rng = np.random.default_rng(0)
turn = np.linalg.qr(rng.normal(size=(8, 8)))[0]
turned = lmri.NetworkSet(space, turn @ maps["NeuronICA"].weights, method="turned")
nothing = lmri.compare(maps["NeuronICA"], turned)
print(f"Turned at random: mean |r| {nothing.mean_r:.2f} (95 % of such turns: {nothing.null_95:.2f})")

# %%
# Limitations
# -----------
# Agreement between methods does not show that the model uses these networks. The methods analyse the same recording,
# and may share an error. A lesion tests whether the model uses a network (:doc:`plot_05_lesion_with_controls`).
