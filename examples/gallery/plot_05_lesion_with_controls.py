"""
Lesion networks and compare with matched controls
=================================================

The neurons of a network are silenced while the model reads texts that were not used to find any network. The loss of
the model then shows the harm that the lesion does. However, a lesion of any set of neurons does some harm. Every
lesion is therefore compared with lesions of random neurons, with the same number of neurons in every layer.
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
networks = lmri.NetworkSet.from_estimator(ica).threshold("z", z=3.0)  # descriptive threshold
print(networks.table[["network", "n_neurons", "variance", "iq"]].round(2).to_string(index=False))

# %%
# Lesion one network
# ------------------
# The weights of the model are not changed. The lesion lasts as long as the ``with`` block.
one_text = lmri.tasks.Perplexity(recordings[0].test_texts[:1])


def loss():
    """Compute the loss of the text in nats per token."""
    return float(one_text.score(model, tokenizer)["value"].iloc[0])


intact = loss()
with lmri.lesion(networks[3]).on(model):
    lesioned = loss()
again = loss()
print(f"One text: {intact:.4f} nats a token, {lesioned:.4f} with the lesion, {again:.4f} after it")

# %%
# Compare all lesions with matched controls
# -----------------------------------------
# The model is scored on held-out texts of both kinds. Each network is lesioned, and so are 19 random sets of neurons
# per network. The smallest possible p is 1 / (1 + 19).
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
# Dots are lesions with their 95 % confidence intervals over texts. Ticks are the matched controls of each lesion.
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
# No lesion of a network does more harm than the lesions of its controls. Random neurons of the same layers, in the
# same number, are equally important to the model, or more important. A set of neurons with ``|z| > 3`` is therefore
# not necessarily important to the model. :doc:`plot_06_localizer` shows a set of neurons that is.

# %%
# Show the layers of the lesioned neurons
# ---------------------------------------
# The figure shows the number of neurons of each network per layer. Controls have the same number of neurons in every
# layer.
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
# Limitations
# -----------
# If the lesion of a network does more harm than its controls, this does not show that the network has a specific
# *function*. Its neurons may only be more active than other neurons; `lmri.EnergyMatchedControls` also match activity.
# One model is one subject.
