"""
What does a recording look like?
================================

A model reads twelve short news items. What its MLPs do meanwhile is stored as 4D images, one volume a token and one
slice a layer, which anything that reads NIfTI can open. Here nilearn draws them, with nothing in between.
"""

# %%
# Record
# ------
# The texts are written by a generator, so that this runs anywhere. A quarter of them is held out, for tests to come;
# the first token of each text is kept out of the images, as dummy scans are.
import tempfile

import matplotlib.pyplot as plt
import nibabel as nib
import numpy as np
from nilearn.plotting import plot_stat_map

import lmri
from lmri.demo.texts import generate

folder = tempfile.TemporaryDirectory(prefix="lmri-")
model, tokenizer = lmri.load_model("lmri-demo")
recording = lmri.record(
    model, tokenizer, generate("news", 12, seed=7), folder.name, corpus="news", site="mlp_hidden", run_tokens=400
)
print(recording)

# %%
# One token is one volume
# -----------------------
# The images lie on disk, and the events beside them say which volume is which token.
img, events = nib.load(recording.imgs[0]), recording.events[0]
print(f"{img.shape[3]} volumes of {img.shape[:3]} voxels, {len(events)} events")
print(events.loc[:5, ["onset", "text_id", "token", "position"]].to_string(index=False))

# %%
# Slice *z* is layer *z*, and neuron *n* of a layer is the voxel ``x = n % nx, y = n // nx``. There is no head to look
# for: neighbours have nothing to do with each other. So draw without background, and never smooth.
number = int(events["token"].str.strip().str.len().idxmax())
word = events["token"][number].strip()
volume = np.asarray(img.dataobj[..., number])

figure, axes = plt.subplots(2, 3, figsize=(9, 3.4), layout="constrained")
for layer, axis in enumerate(axes.flat):
    image = axis.imshow(volume[:, :, layer].T, cmap="RdBu_r", vmin=-4, vmax=4, origin="lower", interpolation="nearest")
    axis.set_title(f"layer {layer}", fontweight="normal", fontsize=9)
    axis.set(xticks=[], yticks=[])
    axis.spines[["left", "bottom"]].set_visible(False)
figure.colorbar(image, ax=axes, label=f"activation at “{word}”", shrink=0.9)
plt.show()

# %%
# The same by nilearn, from the same file.
plot_stat_map(
    img.slicer[..., number],
    bg_img=None,
    display_mode="z",
    cut_coords=list(range(recording.space.n_layers)),
    draw_cross=False,
    annotate=False,
    resampling_interpolation="nearest",
    cmap="RdBu_r",
    symmetric_cbar=True,
    vmax=4,
    figure=plt.figure(figsize=(9, 1.4)),
)
plt.show()

# %%
# One neuron over time
# --------------------
# The neuron that varies most in the first text, beside the tokens that it varies with.
values = recording.space.from_img(recording.imgs[0])  # (n_volumes, n_neurons), in (layer, neuron) order
first = (events["text_id"] == events["text_id"][0]).to_numpy()
neuron = int(values[first].std(axis=0).argmax())
tokens = events.loc[first, "token"].str.strip().head(40)
place = f"layer {recording.space.layer_of[neuron]}, neuron {recording.space.neuron_of[neuron]}"

figure, axis = plt.subplots(figsize=(9, 2.6), layout="constrained")
axis.plot(values[first, neuron][: len(tokens)], color="#cc3821", lw=1.2, marker="o", ms=3)
axis.set_xticks(range(len(tokens)), tokens, rotation=90, fontsize=7)
axis.set(ylabel="activation", title=place, xlim=(-0.5, len(tokens) - 0.5))
plt.show()

# %%
# All neurons over time
# ---------------------
# The carpet of the run, layer by layer, z-scored for the eye. The lines are where texts begin.
z = (values - values.mean(axis=0)) / values.std(axis=0)
starts = np.flatnonzero(events["text_id"] != events["text_id"].shift())
figure, axis = plt.subplots(figsize=(9, 3.6), layout="constrained")
axis.imshow(z.T, aspect="auto", cmap="gray", vmin=-2, vmax=2, interpolation="nearest")
for start in starts[1:]:
    axis.axvline(start - 0.5, color="#cc3821", lw=0.8)
middles = recording.space.offsets[:-1] + np.diff(recording.space.offsets) / 2
axis.set_yticks(middles, range(recording.space.n_layers))
axis.hlines(recording.space.offsets[1:-1] - 0.5, -0.5, len(z) - 0.5, color="white", lw=0.8)
axis.set(xlabel="volume (token)", ylabel="layer", title="Carpet of one run")
plt.show()

# %%
# What this does not show
# -----------------------
# Whether any of these neurons work together. A carpet shows texts that stand out, dead neurons and spikes;
# ``lmri qc`` looks for these on every recording.
