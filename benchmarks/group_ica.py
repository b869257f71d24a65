"""Compare NeuronICA with nilearn's CanICA and scikit-learn's FastICA: time, memory, scaling, and recovered networks.

    python benchmarks/group_ica.py                    # all rows; one hour and 8 GB of disk space
    python benchmarks/group_ica.py spatial temporal   # some rows
    python benchmarks/group_ica.py --repeats 1        # a quick look

Both methods use the same .nii files, numbers of threads, starts and components, in one process and in alternation;
times include reading. Medians and ratios of pairs are printed. Data are simulated networks in noise.
"""

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
from nilearn.decomposition import CanICA
from scipy import linalg
from scipy.optimize import linear_sum_assignment
from sklearn.decomposition import FastICA
from threadpoolctl import threadpool_limits

from lmri import NeuronICA, NeuronSpace

Fit = Callable[[], np.ndarray]


def record(folder, space, n_runs, n_volumes, n_networks=20, engaged=5, strength=1.0, seed=0):
    """Write runs of simulated networks in noise, unless they exist, and return their paths and the true maps."""
    rng = np.random.default_rng(seed)
    maps = np.zeros((n_networks, space.n_neurons), dtype=np.float32)
    for network_map in maps:
        members = rng.choice(space.n_neurons, space.n_neurons // 100, replace=False)
        network_map[members] = strength * np.where(np.arange(len(members)) < len(members) // 10, -1, 1)
    order = np.concatenate([rng.permutation(n_networks) for _ in range(-(-n_runs * engaged // n_networks))])
    paths = []
    for run in range(n_runs):
        path = Path(folder) / f"{space.n_layers}x{space.widths[0]}_{n_volumes}_{engaged}_{run:03d}.nii"
        courses = np.zeros((n_volumes, n_networks), dtype=np.float32)
        active = order[run * engaged : (run + 1) * engaged]
        courses[:, active] = rng.laplace(scale=0.5**0.5, size=(n_volumes, len(active)))
        if not path.is_file():
            data = rng.standard_normal((n_volumes, space.n_neurons), dtype=np.float32)
            data += courses @ maps
            nib.save(space.to_img(data), path)
        paths.append(str(path))
    return paths, maps


def n_found(maps, truth):
    """Count the true maps that are matched at |r| >= 0.8."""
    r = correlations(maps, truth)
    return int((r >= 0.8).sum())


def correlations(maps, truth):
    """Match maps one to one, and return |r| of the pairs."""
    a, b = (values - values.mean(axis=1, keepdims=True) for values in (maps, truth))
    r = np.abs(a @ b.T) / np.maximum(np.linalg.norm(a, axis=1)[:, None] * np.linalg.norm(b, axis=1), 1e-12)
    rows, columns = linear_sum_assignment(-r)
    return r[rows, columns]


def canica(space, paths, k):
    """Fit nilearn's CanICA with settings for neurons: no smoothing, detrending or thresholding."""
    fitted = CanICA(
        n_components=k, mask=space.mask_img, smoothing_fwhm=None, detrend=False, standardize="zscore_sample",
        do_cca=False, threshold=None, n_init=10, random_state=0, n_jobs=1,
    ).fit(paths)  # fmt: skip
    return space.from_img(fitted.components_img_)


def ours(space, paths):
    """Fit NeuronICA with its default settings."""
    return NeuronICA(space, 20).fit(paths).components_


def sklearn_fastica(space, paths, k, max_iter=200):
    """Fit scikit-learn's FastICA to tokens x neurons in float32, as in the paper."""
    runs = []
    for path in paths:
        run = space.from_img(path)
        runs.append((run - run.mean(axis=0)) / run.std(axis=0))
    fitted = FastICA(k, random_state=0, max_iter=max_iter, whiten="unit-variance").fit(np.concatenate(runs))
    return fitted.mixing_.T


def pair(name, first: Fit, second: Fit, truth, repeats):
    """Time two methods in alternation, and print medians, the median ratio, and the number of recovered networks."""
    times: dict[str, list[float]] = {"ours": [], "theirs": []}
    maps = {}
    for repeat in range(repeats):
        for side in ("ours", "theirs") if repeat % 2 == 0 else ("theirs", "ours"):
            start = time.perf_counter()
            maps[side] = (first if side == "ours" else second)()
            times[side].append(time.perf_counter() - start)
    ratio = statistics.median(b / a for a, b in zip(times["ours"], times["theirs"], strict=True))
    mine, other = (statistics.median(times[side]) for side in ("ours", "theirs"))
    recovered = "" if truth is None else f" found {n_found(maps['ours'], truth)} and {n_found(maps['theirs'], truth)};"
    alike = correlations(maps["ours"], maps["theirs"])
    print(
        f"{name}: {mine:.2f} s against {other:.2f} s, {ratio:.1f} times as fast;{recovered} "
        f"|r| of the two median {np.median(alike):.4f}, least {alike.min():.3f} ({repeats} pairs)",
        flush=True,
    )
    return maps


def spatial(folder, repeats):
    """Benchmark spatial ICA: 20 runs x 300 tokens x 12 x 768, K = 20, ten starts."""
    space = NeuronSpace.build([768] * 12)
    paths, truth = record(folder, space, 20, 300)
    name = "spatial, 20 x 300 x 9,216, K = 20, against CanICA"
    pair(name, lambda: ours(space, paths), lambda: canica(space, paths, 20), truth, repeats)


def wide(folder, repeats):
    """Benchmark spatial ICA of a wide model: 4 runs x 300 tokens x 36 x 11,008, K = 20, ten starts."""
    space = NeuronSpace.build([11008] * 36)
    paths, truth = record(folder, space, 4, 300, engaged=10)
    name = "spatial, 4 x 300 x 396,288, K = 20, against CanICA"
    pair(name, lambda: ours(space, paths), lambda: canica(space, paths, 20), truth, repeats)


def temporal(folder, repeats):
    """Benchmark temporal ICA: 3,000 tokens x 9,216, K = 20, one start."""
    space = NeuronSpace.build([768] * 12)
    paths, truth = record(folder, space, 10, 300, engaged=20)
    pair("temporal, 3,000 x 9,216, K = 20, against FastICA",
         lambda: NeuronICA(space, 20, "temporal", n_init=1, max_iter=200).fit(paths).components_,
         lambda: sklearn_fastica(space, paths, 20), truth, repeats)  # fmt: skip


def temporal_512(folder, repeats):
    """Benchmark temporal ICA: 6,000 tokens x 9,216, K = 512, one start, at most 200 iterations."""
    space = NeuronSpace.build([768] * 12)
    paths, _ = record(folder, space, 20, 300, n_networks=200, engaged=200, strength=0.5)
    maps = pair("temporal, 6,000 x 9,216, K = 512, against FastICA",
                lambda: NeuronICA(space, 512, "temporal", n_init=1, max_iter=200).fit(paths).components_,
                lambda: sklearn_fastica(space, paths, 512), None, 1)  # fmt: skip
    bases = [np.linalg.qr(components.T.astype(float))[0] for components in maps.values()]
    cosines = np.linalg.svd(bases[0].T @ bases[1], compute_uv=False)
    print(f"  principal angles of the two subspaces: cosines from {cosines.min():.4f}, median {np.median(cosines):.4f}")
    runs = [space.from_img(path) for path in paths]
    X = np.concatenate([(run - run.mean(axis=0)) / run.std(axis=0) for run in runs])
    vectors = linalg.eigh(X @ X.T, subset_by_index=[len(X) - 512, len(X) - 1])[1]
    exact = np.linalg.qr((vectors.T.astype(np.float32) @ X).T.astype(float))[0]
    for name, basis in zip(maps, bases, strict=True):
        cosines = np.linalg.svd(basis.T @ exact, compute_uv=False)
        print(f"  {name} and the exact subspace: cosines from {cosines.min():.4f}, median {np.median(cosines):.4f}")


def surrogates(folder, repeats, threads):
    """Benchmark 20 surrogates relative to one fit, with the same number of threads."""
    space = NeuronSpace.build([768] * 12)
    paths, _ = record(folder, space, 20, 300)
    fits, nulls = [], []
    for _ in range(repeats):
        start = time.perf_counter()
        fitted = NeuronICA(space, 20).fit(paths)
        middle = time.perf_counter()
        fitted.surrogate_null(20, n_jobs=threads)
        fits.append(middle - start)
        nulls.append(time.perf_counter() - middle)
    ratio = statistics.median(b / a for a, b in zip(fits, nulls, strict=True))
    print(
        f"20 surrogates: {statistics.median(nulls):.2f} s, one fit: {statistics.median(fits):.2f} s; ratio "
        f"{ratio:.1f}, both on {threads} threads ({repeats} pairs)"
    )


def memory(folder, repeats):
    """Measure the peak resident memory for 100 and 200 runs x 512 tokens x 9,216."""
    space = NeuronSpace.build([768] * 12)
    record(folder, space, 200, 512)
    peaks = []
    for n_runs in (100, 200):
        out = subprocess.run(
            [sys.executable, __file__, "child", "--folder", str(folder), "--runs", str(n_runs)],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        peaks.append(float(out.stdout.split()[-1]))
    print(f"peak memory, 512 x 9,216 each: 100 runs {peaks[0]:.0f} MB, 200 runs {peaks[1]:.0f} MB "
          f"({100 * (peaks[1] / peaks[0] - 1):+.1f} %)")  # fmt: skip


def child(folder, n_runs):
    """Fit in this separate process, and print its peak resident memory in MB."""
    space = NeuronSpace.build([768] * 12)
    paths, _ = record(folder, space, n_runs, 512)
    start = time.perf_counter()
    NeuronICA(space, 20).fit(paths)
    seconds = time.perf_counter() - start
    print(f"{seconds:.1f} s", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


def growth(folder, repeats):
    """Measure time as a function of the numbers of runs and neurons: exponents of power laws, and a plot."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(7, 2.8), layout="constrained")
    series = {}
    space = NeuronSpace.build([768] * 12)
    series["runs"] = [(n, space, record(folder, space, n, 300)[0]) for n in (10, 20, 40, 80)]
    series["neurons"] = []
    for layers in (6, 12, 24, 48):
        deep = NeuronSpace.build([768] * layers)
        series["neurons"].append((deep.n_neurons, deep, record(folder, deep, 20, 300)[0]))
    for axis, (what, points) in zip(axes, series.items(), strict=True):
        counts, seconds = [], []
        for count, over, paths in points:
            times = []
            for _ in range(repeats):
                start = time.perf_counter()
                NeuronICA(over, 20).fit(paths)
                times.append(time.perf_counter() - start)
            counts.append(count)
            seconds.append(statistics.median(times))
        exponent = np.polyfit(np.log(counts), np.log(seconds), 1)[0]
        print(f"growth with {what}: exponent {exponent:.2f} ({', '.join(f'{s:.2f} s' for s in seconds)})", flush=True)
        axis.loglog(counts, seconds, "o-", color="#2166ac")
        axis.set(xlabel=f"number of {what}", ylabel="seconds", title=f"exponent {exponent:.2f}", ylim=(0.1, 10))
        axis.set_xticks(counts, [f"{count:,}" for count in counts])
        axis.set_yticks([0.1, 1, 10], ["0.1", "1", "10"])
        axis.minorticks_off()
        axis.spines[["top", "right"]].set_visible(False)
    out = Path(__file__).parents[1] / "docs" / "images" / "growth.svg"
    figure.savefig(out, metadata={"Date": None})
    print(f"plot: {out}")


ROWS = {
    "spatial": spatial, "surrogates": surrogates, "temporal": temporal, "memory": memory, "growth": growth,
    "wide": wide, "temporal_512": temporal_512,
}  # fmt: skip


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", nargs="*", help=f"rows to run: {', '.join(ROWS)}; all by default")
    parser.add_argument("--repeats", type=int, default=5, help="number of repetitions")
    parser.add_argument(
        "--threads",
        type=int,
        default=os.cpu_count() or 1,
        help="number of threads of each method; all cores by default",
    )
    parser.add_argument("--folder", help="folder in which data are kept and reused")
    parser.add_argument("--runs", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as temporary, threadpool_limits(options.threads):
        folder = options.folder or temporary
        Path(folder).mkdir(parents=True, exist_ok=True)
        if options.rows == ["child"]:
            child(folder, options.runs)
            return
        for name in options.rows or ROWS:
            row = ROWS[name]
            row(folder, options.repeats, options.threads) if row is surrogates else row(folder, options.repeats)


if __name__ == "__main__":
    main()
