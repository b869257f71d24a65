"""
Effects of spatial smoothing on simulated networks
==================================================

In a brain, neighbouring voxels have similar functions, and smoothing increases the signal-to-noise ratio. In a neuron
space, the neighbour of neuron 17 is neuron 18, and the two neurons are unrelated. By default, nilearn's CanICA smooths
by 6 mm. This example shows the effect of smoothing on simulated recordings with known networks.
"""

# %%
# Simulate networks
# -----------------
# Six sparse networks are distributed over twelve layers. The effect of each network is one standard deviation of the
# noise.
import warnings

import matplotlib.pyplot as plt
import numpy as np
from nilearn.image import smooth_img

import lmri
from lmri.exceptions import LMRIWarning
from lmri.phantom import measure, plant

space = lmri.NeuronSpace.build([256] * 12)
phantom = plant(space, n_networks=6, share=0.02, n_runs=4, n_volumes=200, random_state=3)
print(phantom)

# %%
# Decompose with and without smoothing
# ------------------------------------
# lmri refuses to smooth, unless smoothing is explicitly allowed.
try:
    lmri.CanICA(space, 6, smoothing_fwhm=6.0).fit(phantom.imgs)
except ValueError as error:
    print(error)

r = {}
for label, options in {
    "as they are": {},
    "smoothed by 2 mm": {"smoothing_fwhm": 2.0, "allow_smoothing": True},
    "smoothed by 6 mm": {"smoothing_fwhm": 6.0, "allow_smoothing": True},
}.items():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LMRIWarning)  # about smoothing, and about initializations without convergence
        maps = lmri.NetworkSet.from_estimator(lmri.CanICA(space, 6, n_init=3, **options).fit(phantom.imgs))
    found = measure(phantom, maps)
    r[label] = found.loc[found["planted"] >= 0, "r"].abs().to_numpy()
    print(f"{label}: |r| with what was planted {np.round(np.sort(r[label]), 2)}")

# %%
figure, axis = plt.subplots(figsize=(7, 2.6), layout="constrained")
for row, (_label, values) in enumerate(r.items()):
    axis.plot(values, np.full(len(values), row), "o", color="#2166ac" if row == 0 else "#cc3821", ms=8, alpha=0.65)
axis.axvline(0.8, color="#7a7f87", lw=0.8, ls="--")
axis.text(0.79, -0.42, "found", ha="right", va="center", color="#5a636d", fontsize=8)
axis.set_yticks(range(len(r)), r)
axis.set(xlim=(0, 1.03), ylim=(2.5, -0.65), xlabel="|r| of a planted network with its map")
axis.set_title("Planted networks, found again")
plt.show()

# %%
# Compare the original and the smoothed map
# -----------------------------------------
# The upper row ("planted") shows the first simulated network in four of its layers. The lower row shows the same
# network after smoothing. Smoothing reduces the amplitude of the map, so the values in the lower row are multiplied by
# the factor in the label.
truth = space.to_img(phantom.maps[0])
blurred = smooth_img(truth, 6)
times = float(np.abs(truth.get_fdata()).max() / np.abs(blurred.get_fdata()).max())
rows = {"planted": (truth, 1.0), f"smoothed by 6 mm,\n{times:.0f} × enlarged": (blurred, times)}
figure, axes = plt.subplots(2, 4, figsize=(7, 3.7), layout="constrained")
for row, (label, (img, scale)) in enumerate(rows.items()):
    data = scale * img.get_fdata()
    for column, axis in enumerate(axes[row]):
        axis.imshow(data[:, :, column].T, cmap="RdBu_r", vmin=-1, vmax=1, origin="lower", interpolation="nearest")
        axis.set(xticks=[], yticks=[])
        if row == 0:
            axis.set_title(f"layer {column}", fontsize=9, fontweight="normal")
    axes[row, 0].set_ylabel(label)
plt.show()

# %%
# Limitations
# -----------
# This example does not show that smoothing is wrong in every neuron space. If neurons were sorted by a property,
# neighbouring neurons would be related, and smoothing would be an option. Here the order of neurons is that of the
# model, which is arbitrary. The same is true of all other methods that rely on neighbourhood: cluster thresholds,
# searchlights and parcellations.
