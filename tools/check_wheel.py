"""Check the contents of a wheel: ``python tools/check_wheel.py dist/lmri-*.whl``."""

import sys
import zipfile
from pathlib import Path

LARGEST = 12_000_000
"""Maximum size of the wheel in bytes."""

NEEDED = (
    "lmri/__init__.pyi",
    "lmri/py.typed",
    "lmri/lesions/tasks/__init__.pyi",
    "lmri/report/viewer/page/main.js",
    "lmri/demo/model/config.json",
    "lmri-stubs/py.typed",
    "lmri-stubs/tasks.pyi",
)


def problems(path: Path) -> list[str]:
    """List the problems of a wheel: missing files, unexpected files, and its size."""
    findings = []
    if (size := path.stat().st_size) > LARGEST:
        findings.append(f"{path.name} has {size:,} bytes; at most {LARGEST:,} are allowed.")
    with zipfile.ZipFile(path) as wheel:
        names = wheel.namelist()
    findings += [f"{path.name} does not contain {name}." for name in NEEDED if name not in names]
    findings += [f"{path.name} contains {name}." for name in names if "test" in name.split("/")[0] or "/tests/" in name]
    top = {name.split("/")[0] for name in names if ".dist-info" not in name}
    if top != {"lmri", "lmri-stubs"}:
        findings.append(f"{path.name} contains {', '.join(sorted(top))}; lmri and lmri-stubs are expected.")
    return findings


if __name__ == "__main__":
    lines = [line for name in sys.argv[1:] for line in problems(Path(name))]
    print(*lines, sep="\n", end="\n" if lines else "")
    sys.exit(1 if lines or not sys.argv[1:] else 0)
