"""Compare two studies file by file, to verify that a change of the code does not change results.

``python tools/compare_studies.py BEFORE AFTER`` prints one line per difference, and nothing if there are none. Files
are compared by their bytes and, if these differ, by their parsed content; the line then describes the difference. The
log of a study (times and hosts) is ignored. Compute both studies on one thread, because sums over several threads
differ in their last bits.
"""

import argparse
import gzip
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

LEFT_OUT = ("lmri/log.jsonl", ".lmri-lock")
MOST = 5
"""Maximum number of differences per file that are printed."""


def differences(before: Path, after: Path) -> Iterator[str]:
    """List the differences of two folders.

    Parameters
    ----------
    before, after : Path
        Folders of studies.

    Yields
    ------
    str
        Line with the file and the difference.
    """
    sides = [
        {path.relative_to(root).as_posix(): path for path in root.rglob("*") if path.is_file()}
        for root in (before, after)
    ]
    names = sorted({name for side in sides for name in side if not name.endswith(LEFT_OUT)})
    for name in names:
        if name not in sides[0]:
            yield f"{name}: only in {after}"
        elif name not in sides[1]:
            yield f"{name}: only in {before}"
        elif sides[0][name].read_bytes() != sides[1][name].read_bytes():
            yield from (f"{name}: {what}" for what in content_differences(sides[0][name], sides[1][name]))


def content_differences(before: Path, after: Path) -> list[str]:
    """List the differences in content of two files with different bytes."""
    try:
        findings = list(_parsed(before, after))
    except (OSError, ValueError) as error:
        findings = [f"cannot be parsed ({error})"]
    if len(findings) > MOST:
        findings = [*findings[:MOST], f"and {len(findings) - MOST} more differences"]
    return findings or ["other bytes, the same content"]


def _parsed(before: Path, after: Path) -> Iterator[str]:
    name = before.name
    if name.endswith(".json"):
        yield from _json(json.loads(before.read_text("utf-8")), json.loads(after.read_text("utf-8")), "")
    elif name.endswith((".nii", ".nii.gz")):
        yield from _images(before, after)
    elif name.endswith((".tsv", ".tsv.gz", ".txt", ".md", ".html", ".csv", ".jsonl")):
        yield from _lines(_text(before), _text(after))
    else:
        yield "other bytes"


def _text(path: Path) -> list[str]:
    content = path.read_bytes()
    return (gzip.decompress(content) if path.suffix == ".gz" else content).decode("utf-8").splitlines()


def _json(old: Any, new: Any, path: str) -> Iterator[str]:
    if isinstance(old, dict) and isinstance(new, dict):
        for key in [*old, *(key for key in new if key not in old)]:
            at = f"{path}/{key}"
            if key not in new:
                yield f"{at} is gone"
            elif key not in old:
                yield f"{at} is new"
            else:
                yield from _json(old[key], new[key], at)
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for number, pair in enumerate(zip(old, new, strict=True)):
            yield from _json(*pair, f"{path}/{number}")
    elif old != new:
        yield f"{path or 'the content'} was {str(old)[:60]!r} and is {str(new)[:60]!r}"


def _images(before: Path, after: Path) -> Iterator[str]:
    images = [nib.load(path) for path in (before, after)]
    values = [np.asarray(img.dataobj) for img in images]
    if values[0].shape != values[1].shape:
        yield f"shape was {values[0].shape} and is {values[1].shape}"
    elif not np.array_equal(*values, equal_nan=True):
        worst = np.nanmax(np.abs(np.subtract(*values, dtype=np.float64)))
        yield f"{int((values[0] != values[1]).sum())} of {values[0].size} voxels differ, by {worst:.3g} at most"
    for key in images[0].header:
        if np.asarray(images[0].header[key]).tobytes() != np.asarray(images[1].header[key]).tobytes():
            yield f"header field {key} differs"


def _lines(old: list[str], new: list[str]) -> Iterator[str]:
    if len(old) != len(new):
        yield f"{len(old)} lines before, {len(new)} after"
    for number, (first, second) in enumerate(zip(old, new, strict=False), start=1):
        if first != second:
            yield f"line {number} was {first[:80]!r} and is {second[:80]!r}"


def main(arguments: list[str] | None = None) -> int:
    """Print the differences; return 1 if there are any."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("before", type=Path)
    parser.add_argument("after", type=Path)
    options = parser.parse_args(arguments)
    for root in (options.before, options.after):
        if not root.is_dir():
            parser.error(f"{root} is not a folder")
    findings = list(differences(options.before, options.after))
    print(*findings, sep="\n", end="\n" if findings else "")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
