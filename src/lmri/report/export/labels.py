"""Labels of components in the format of FSLeyes, Melview and FIX, which mark components as signal or noise.

The format numbers components from 1. A component is noise, and is rejected, unless one of its labels is *Signal* or
*Unknown*; its other labels do not matter.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lmri.storage.text_files import TextFile

SIGNAL, UNKNOWN, NOISE = "Signal", "Unknown", "Unclassified noise"

RESERVED = {SIGNAL.lower(), UNKNOWN.lower(), NOISE.lower()}
"""Labels that classify a component, rather than describe it."""

_LIST = re.compile(r"(?:\[([\d\s,]*)\]|([\d\s,]+))")
_ROW = re.compile(r"(\d+)\s*,(.+)", re.DOTALL)


@dataclass(frozen=True)
class ComponentLabels:
    """Manual labels of the components of a decomposition.

    Parameters
    ----------
    labels : tuple of tuple of str
        Labels of every component, at least one each.
    folder : Path, optional
        ``.ica`` folder named in the file.
    """

    labels: tuple[tuple[str, ...], ...]
    folder: Path | None = None

    @property
    def rejected(self) -> np.ndarray:
        """Mask of noise components, bool, ``(n_components,)``."""
        return np.array([is_noise(component) for component in self.labels], dtype=bool)

    @property
    def unknown(self) -> np.ndarray:
        """Mask of components labelled Unknown and not Signal, bool, ``(n_components,)``."""
        plain = [{label.lower() for label in component} for component in self.labels]
        return np.array(
            [UNKNOWN.lower() in component and SIGNAL.lower() not in component for component in plain], dtype=bool
        )

    @property
    def words(self) -> list[str]:
        """Descriptive labels of every component, without signal, unknown and noise; empty if there are no others."""
        return [", ".join(label for label in component if label.lower() not in RESERVED) for component in self.labels]


def is_noise(labels: Sequence[str]) -> bool:
    """Return whether a component with these labels is noise."""
    return not {SIGNAL.lower(), UNKNOWN.lower()} & {label.lower() for label in labels}


def format_labels(labels: Sequence[Sequence[str]], folder: str = ".") -> str:
    """Format labels for FSLeyes.

    Parameters
    ----------
    labels : sequence of sequence of str
        Labels of every component; commas become semicolons, because commas separate the fields of the format.
    folder : str, default="."
        ``.ica`` folder, relative to the folder of the file.

    Returns
    -------
    str
        Content of the file.
    """
    lines, rejected = [folder], []
    for number, component in enumerate(labels, start=1):
        plain = [" ".join(label.replace(",", ";").split()) for label in component]
        lines.append(", ".join([str(number), *plain, str(is_noise(plain))]))
        if is_noise(plain):
            rejected.append(number)
    return "\n".join([*lines, str(rejected)]) + "\n"


def read_labels(path: str | Path, n_components: int) -> ComponentLabels:
    """Read labels of components.

    Parameters
    ----------
    path : str or Path
        File in the format of FSLeyes, Melview and FIX: folder, one line ``number, label, ..., True or False`` per
        component (True for noise), and the list of noise components; or only this list, as for the training of FIX,
        or without brackets, as in ICA-AROMA.
    n_components : int
        Number of components.

    Returns
    -------
    ComponentLabels
        Labels of all components. If only noise is listed, the others are signal or, without brackets, unknown.

    Raises
    ------
    FileNotFoundError
        If the file does not exist.
    ValueError
        If the file has another format or another number of components, or contradicts itself.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(
            f"{path} does not exist. Save the labels in FSLeyes (Classification panel), or check the path."
        )
    try:
        lines = [line for line in map(str.strip, TextFile.read(path).lines()) if line]
    except ValueError as error:
        raise _malformed(path, f"it is not text ({error})") from error
    if not lines:
        raise _malformed(path, "it is empty")
    if len(lines) == 1 and _LIST.fullmatch(lines[0]):
        return _of_list(path, lines[0], n_components)
    listed = _numbers(path, lines.pop(), n_components) if _LIST.fullmatch(lines[-1]) else None
    folder = None if not lines or _ROW.fullmatch(lines[0]) else Path(lines.pop(0))
    labels = tuple(_row(path, line, number) for number, line in enumerate(lines, start=1))
    if len(labels) != n_components:
        raise _malformed(path, f"it labels {len(labels)} components, but there are {n_components}")
    component_labels = ComponentLabels(labels, None if folder is None else path.parent / folder)
    noise = set((np.flatnonzero(component_labels.rejected) + 1).tolist())
    if listed is not None and listed != noise:
        differ = ", ".join(map(str, sorted(listed ^ noise)))
        raise _malformed(path, f"its last line and its labels disagree on the noise components ({differ})")
    return component_labels


def _of_list(path: Path, line: str, n_components: int) -> ComponentLabels:
    noise = _numbers(path, line, n_components)
    other = SIGNAL if line.startswith("[") else UNKNOWN
    return ComponentLabels(tuple((NOISE if number in noise else other,) for number in range(1, n_components + 1)))


def _numbers(path: Path, line: str, n_components: int) -> set[int]:
    fields = [field.strip() for field in line.strip("[]").split(",")]
    if fields == [""]:
        return set()
    if not all(field.isdecimal() for field in fields):
        raise _malformed(path, f"{line!r} is not a list of numbers")
    numbers = {int(field) for field in fields}
    if unknown := sorted(number for number in numbers if not 1 <= number <= n_components):
        raise _malformed(
            path, f"it names component {', '.join(map(str, unknown))}, but components are numbered 1 to {n_components}"
        )
    return numbers


def _row(path: Path, line: str, number: int) -> tuple[str, ...]:
    """Parse the line of a component: ``2, Movement, True``, optionally followed by a probability."""
    match = _ROW.fullmatch(line)
    if match is None:
        raise _malformed(path, f"{line[:80]!r} is not the line of a component")
    if int(match[1]) != number:
        raise _malformed(path, f"{line[:80]!r} is in the place of component {number}")
    fields = [field.strip() for field in match[2].split(",")]
    if len(fields) > 2 and fields[-2].lower() in ("true", "false") and _is_number(fields[-1]):
        fields.pop()
    *labels, flag = fields
    if flag.lower() not in ("true", "false") or not labels or not all(labels):
        raise _malformed(path, f"{line[:80]!r} does not end with a label and True or False")
    if (flag.lower() == "true") != is_noise(labels):
        raise _malformed(
            path, f"{line[:80]!r} contradicts itself: only components labelled Signal or Unknown are False (not noise)"
        )
    return tuple(labels)


def _is_number(field: str) -> bool:
    return re.fullmatch(r"\d*\.?\d+(?:[eE][-+]?\d+)?", field) is not None


def _malformed(path: Path, why: str) -> ValueError:
    return ValueError(
        f"{path} is not a valid file of component labels: {why}. Nothing was changed. The file needs a folder, one "
        "line such as '1, Signal, False' per component, and a last line such as '[2, 5]' with the noise components. "
        "Save it again in FSLeyes."
    )
