"""
Record a model and plot its activations
=======================================

A model reads twelve short news items. The activations of its MLPs are stored as 4D images, with one volume per token
and one slice per layer. Any software that reads NIfTI can open these images. In this example, nilearn plots them
without any conversion.
"""

# %%
# Record activations
# ------------------
# The texts come from a generator, so that this example runs without a download. A quarter of the texts is held out for
# later tests. The first token of each text is excluded from the images, as dummy scans are in fMRI.
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
# The images are stored on disk. The events file of each run lists the token of each volume.
img, events = nib.load(recording.imgs[0]), recording.events[0]
print(f"{img.shape[3]} volumes of {img.shape[:3]} voxels, {len(events)} events")
print(events.loc[:5, ["onset", "text_id", "token", "position"]].to_string(index=False))

# %%
# Slice *z* is layer *z*, and neuron *n* of a layer is the voxel ``x = n % nx, y = n // nx``. There is no brain
# anatomy, and neighbouring neurons are unrelated. Therefore plot the images without a background image, and do not
# smooth them.
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
# nilearn plots the same volume from the same file.
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
# Time course of one neuron
# -------------------------
# The figure shows the neuron with the largest standard deviation in the first text. The horizontal axis shows the
# tokens.
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
# Carpet plot of all neurons
# --------------------------
# The carpet plot shows the z-scored time courses of all neurons in the run, layer by layer. Vertical lines mark the
# beginnings of texts.
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
# Limitations
# -----------
# This example does not show whether any of these neurons are active together. A carpet plot shows outlier texts, dead
# neurons and spikes; ``lmri qc`` checks every recording for these problems.
