"""
Does a network matter more than as many other neurons?
======================================================

Silence a network's neurons while the model reads texts that no network was found in, and see what is lost. Silence
any neurons, and something is lost. So every lesion stands beside lesions of random neurons, as many in every layer.
"""

# %%
# Find networks
# -------------
import tempfile

import matplotlib.pyplot as plt

import lmri
from lmri.demo.texts import generate

folder = tempfile.TemporaryDirectory(prefix="lmri-")
model, tokenizer = lmri.load_model("lmri-demo")
recordings = [
    lmri.record(model, tokenizer, generate(kind, 24, seed=7), folder.name, corpus=kind, site="mlp_hidden")
    for kind in ("code", "news")
]
ica = lmri.NeuronICA(recordings[0].space, n_components=4).fit([img for one in recordings for img in one.imgs])
networks = lmri.NetworkSet.from_estimator(ica).threshold("z", z=3.0)  # descriptive: controls decide
print(networks.table[["network", "n_neurons", "variance", "iq"]].round(2).to_string(index=False))

# %%
# Lesion them
# -----------
# The weights stay as they are; the lesion lasts as long as the ``with`` block.
one_text = lmri.tasks.Perplexity(recordings[0].test_texts[:1])


def loss():
    """Score the text: nats a token."""
    return float(one_text.score(model, tokenizer)["value"].iloc[0])


intact = loss()
with lmri.lesion(networks[3]).on(model):
    lesioned = loss()
again = loss()
print(f"One text: {intact:.4f} nats a token, {lesioned:.4f} with the lesion, {again:.4f} after it")

# %%
# Beside matched controls
# -----------------------
# Held-out texts of both kinds, every network, and 19 draws of random neurons for each. The smallest possible p is
# 1 / (1 + 19).
scores = lmri.evaluate(
    model,
    tokenizer,
    tasks=[lmri.tasks.Perplexity(one.test_texts, one.corpus) for one in recordings],
    conditions={own.name: lmri.lesion(own) for own in networks},
    controls=lmri.MatchedControls(19),
)
summary = scores.summary()
shown = summary[summary["p"].notna()]
print(shown[["condition", "task", "diff", "control_mean", "p"]].round(3).to_string(index=False))

# %%
# Dots are lesions with their 95 % interval over texts, and ticks are their controls.
figure, axes = plt.subplots(1, len(scores.tasks), figsize=(9, 2.6), sharey=True, layout="constrained")
for axis, task in zip(axes, scores.tasks, strict=True):
    own, controls = shown[shown["task"] == task.name], scores.control_diffs(task)
    axis.axvline(0, color="#7a7f87", lw=0.8)
    for row, one in enumerate(own.itertuples()):
        drawn = controls[one.condition]
        axis.plot(drawn, [row] * len(drawn), "|", color="#7a7f87", ms=10)
        axis.plot([one.ci_low, one.ci_high], [row, row], color="#cc3821", lw=1.6)
        axis.plot(one.diff, row, "o", color="#cc3821", ms=6)
    axis.set(title=task.name, xlabel="nats per token more than intact", ylim=(len(own) - 0.5, -0.5))
    axis.set_yticks(range(len(own)), own["condition"])
plt.show()

# %%
# No network does more harm than its controls do: as many random neurons of the same layers are missed as much, or more.
# That ``|z| > 3`` looks like a network is one thing, that the model misses it another. A set of neurons that the model
# does miss is in :doc:`plot_06_localizer`.

# %%
# Which neurons were silenced
# ---------------------------
# By layer, of each network; controls have as many in every layer.
figure, axis = plt.subplots(figsize=(7, 2.4), layout="constrained")
profiles = [own.layer_profile() for own in networks]
image = axis.imshow(profiles, cmap="Blues", aspect="auto", vmin=0)
axis.set_yticks(range(len(networks)), networks.names)
axis.set(xlabel="layer", title="Neurons of each network")
for row, profile in enumerate(profiles):
    for column, count in enumerate(profile):
        axis.text(column, row, count, ha="center", va="center", fontsize=8, color="white" if count > 60 else "black")
for spine in axis.spines.values():
    spine.set_visible(False)
axis.tick_params(length=0)
plt.show()

# %%
# What this does not show
# -----------------------
# That a network which is worse than its controls is *for* something: its neurons may just be more active, and
# `lmri.EnergyMatchedControls` match that, too. And one model is one subject.
