"""Draw the packages of lmri and the imports between them, measured from the code: ``docs/images/architecture.svg``.

``python tools/draw_architecture.py`` writes the figure. Each row is a package, highest layer first; each column is a
package that is imported. Numbers count the modules of the row that import from the column. All numbers are on one side
of the diagonal if imports have one direction.
"""

from pathlib import Path

import grimp
import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

import lmri
from lmri.space.drawing import NEGATIVE, NEUTRAL, STYLE, svg

OUT = Path(__file__).parents[1] / "docs" / "images" / "architecture.svg"

LAYERS = {
    "cli": "parse options, print results",
    "study": "the façade that users know",
    "report": "report, viewer, export, validation",
    "lesions": "interventions, tasks, scores, controls, experiments",
    "models": "load a model, find sites, record activations",
    "decomposition": "recordings to maps; quality, confounds, localizers",
    "networks": "maps, thresholds, comparison, annotation, regions",
    "storage": "the folder on disk: files, recordings, entries",
    "space": "where a neuron is: voxels, layers, masks, drawing",
    "demo": "the embedded model and its texts",
    "exceptions": "errors that callers may catch",
}
"""Purpose of each package, highest layer first."""


def count_imports() -> np.ndarray:
    """Count the modules of each package that import from each other package.

    Returns
    -------
    ndarray of int, shape (n_packages, n_packages)
        Number of modules of the row that import from the column, in the order of `LAYERS`.
    """
    graph = grimp.build_graph("lmri", exclude_type_checking_imports=True)
    order = list(LAYERS)
    counts = np.zeros((len(order), len(order)), dtype=int)
    for module in graph.modules:
        package = module.split(".")[1] if "." in module else ""
        if package not in LAYERS:
            continue
        targets = {name.split(".")[1] for name in graph.find_modules_directly_imported_by(module) if "." in name}
        for target in targets & set(LAYERS) - {package}:
            counts[order.index(package), order.index(target)] += 1
    return counts


def count_lines(package: str) -> int:
    """Count the lines of the Python files of a package or module."""
    path = Path(lmri.__file__).parent / package
    files = path.rglob("*.py") if path.is_dir() else [path.with_suffix(".py")]
    return sum(len(file.read_text(encoding="utf-8").splitlines()) for file in files)


def draw(counts: np.ndarray) -> Figure:
    """Draw the packages as rows, and the imports between them as a matrix."""
    n, left = len(LAYERS), 7.4
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(8.2, 4.9))
        axes = figure.add_axes((0.01, 0.02, 0.98, 0.88))
        axes.set(xlim=(0, left + n + 0.9), ylim=(n + 0.1, -1.9))
        axes.axis("off")
        axes.text(0.15, -0.25, "package", fontsize=8, color="#444b54", va="bottom")
        axes.text(left - 0.3, -0.25, "modules that import from →", fontsize=8, color="#444b54", va="bottom", ha="right")
        for row, (name, purpose) in enumerate(LAYERS.items()):
            axes.add_patch(mpl.patches.Rectangle((0, row + 0.06), left - 0.15, 0.88, fc="#eef1f4", ec="none"))
            axes.text(0.15, row + 0.36, name, weight="bold", va="center", fontsize=9.5)
            axes.text(0.15, row + 0.72, purpose, va="center", fontsize=7.2, color="#444b54")
            lines = f"{count_lines(name) / 1000:.1f}k lines"
            axes.text(left - 0.3, row + 0.36, lines, va="center", ha="right", fontsize=7, color="#444b54")
            axes.text(left + row + 0.5, -0.15, name, rotation=55, ha="left", va="bottom", fontsize=8)
            for column in range(n):
                value = counts[row, column]
                same = row == column
                shade = (*NEGATIVE, min(0.14 + value / 110, 0.75)) if value else "#f7f8f9"
                axes.add_patch(
                    mpl.patches.Rectangle(
                        (left + column + 0.05, row + 0.06), 0.9, 0.88, fc=NEUTRAL if same else shade, ec="none",
                        alpha=0.35 if same else None,
                    )
                )  # fmt: skip
                if value:
                    axes.text(left + column + 0.5, row + 0.5, str(value), ha="center", va="center", fontsize=8)
    return figure


def main() -> None:
    """Write the figure, and print imports against the direction of the layers."""
    counts = count_imports()
    upward = [f"{a} imports {b}" for i, a in enumerate(LAYERS) for j, b in enumerate(LAYERS) if counts[i, j] and j < i]
    print("\n".join(upward) or "All imports have one direction.")
    OUT.write_text(svg(draw(counts)) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
