"""Compare temporal FastICA of lmri and scikit-learn: time, and agreement of the maps."""

import time
import warnings

import numpy as np
from scipy.optimize import linear_sum_assignment
from sklearn.decomposition import FastICA as SklearnFastICA
from threadpoolctl import threadpool_limits

from lmri.decomposition import FastICA
from lmri.decomposition.standardization import StandardizedRuns
from lmri.space import NeuronSpace

N_VOLUMES, WIDTHS, K, REPEATS = 3000, [768] * 12, 20, 3


def simulated(space: NeuronSpace, seed: int) -> list:
    rng = np.random.default_rng(seed)
    maps = rng.laplace(size=(K, space.n_neurons)) * (rng.random((K, space.n_neurons)) < 0.02)
    courses = rng.laplace(size=(N_VOLUMES, K))
    return [space.to_img((courses @ maps + rng.normal(size=(N_VOLUMES, space.n_neurons))).astype(np.float32))]


def main() -> None:
    warnings.simplefilter("ignore")
    space = NeuronSpace.build(WIDTHS)
    ours_s, theirs_s = [], []
    with threadpool_limits(2):
        for repeat in range(REPEATS):
            imgs = simulated(space, repeat)
            start = time.perf_counter()
            ours = FastICA(space, K, max_iter=200).fit(imgs)
            ours_s.append(time.perf_counter() - start)
            start = time.perf_counter()
            X = np.concatenate(list(StandardizedRuns(space, imgs, "zscore", "run")))
            theirs = SklearnFastICA(K, random_state=0, max_iter=200).fit(X)
            theirs_s.append(time.perf_counter() - start)
            r = np.abs(np.corrcoef(ours.components_, theirs.mixing_.T)[:K, K:])
            rows, columns = linear_sum_assignment(-r)
            print(f"repeat {repeat}: ours {ours_s[-1]:.1f} s, scikit-learn {theirs_s[-1]:.1f} s, "
                  f"smallest matched |r| {r[rows, columns].min():.5f}")  # fmt: skip
    ratio = np.median(theirs_s) / np.median(ours_s)
    print(f"{N_VOLUMES} x {space.n_neurons}, K = {K}, 2 threads, standardization in both: {ratio:.1f} times faster")


if __name__ == "__main__":
    main()
