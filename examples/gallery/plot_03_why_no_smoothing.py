"""
Why is nothing smoothed?
========================

In a brain, neighbouring voxels do similar things, and smoothing helps to see it. In a neuron space the neighbour of
neuron 17 is neuron 18, which may do anything. nilearn's CanICA smooths by 6 mm unless it is told not to. What that
does to networks that are known to be there:
"""

# %%
# Plant
# -----
# Six sparse networks, scattered over twelve layers, in noise of their own strength.
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
# Look for them, with and without
# -------------------------------
# Smoothing is refused here, unless one insists.
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
        warnings.simplefilter("ignore", LMRIWarning)  # of smoothing, and of starts that do not converge
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
# For the eye
# -----------
# The first planted network in four of its layers, and what smoothing makes of it. What is left has a fraction of the
# size, so it is drawn enlarged.
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
# What this does not show
# -----------------------
# That every space has no neighbourhood. Where one has, because neurons were sorted by something, smoothing would be a
# choice; here the order is the model's, and arbitrary. The same holds for everything else that counts on neighbours:
# cluster thresholds, searchlights, parcellations.
