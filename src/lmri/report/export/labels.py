"""Labels of components as FSLeyes, Melview and FIX write them: which are signal, and which are to be rejected.

The format counts components from 1. A component is noise, and is rejected, unless one of its labels is *Signal* or
*Unknown*, whatever other labels it has.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

SIGNAL, UNKNOWN, NOISE = "Signal", "Unknown", "Unclassified noise"

RESERVED = {SIGNAL.lower(), UNKNOWN.lower(), NOISE.lower()}
"""Labels that say what becomes of a component, and not what it is."""

_LIST = re.compile(r"(?:\[([\d\s,]*)\]|([\d\s,]+))")
_ROW = re.compile(r"(\d+)\s*,(.+)", re.DOTALL)


@dataclass(frozen=True)
class ComponentLabels:
    """What people called the components of a decomposition.

    Parameters
    ----------
    labels : tuple of tuple of str
        Of every component, at least one each.
    folder : Path, optional
        The ``.ica`` folder that the file says they are of.
    """

    labels: tuple[tuple[str, ...], ...]
    folder: Path | None = None

    @property
    def rejected(self) -> np.ndarray:
        """Which components are noise: bool, ``(n_components,)``."""
        return np.array([is_noise(one) for one in self.labels], dtype=bool)

    @property
    def unknown(self) -> np.ndarray:
        """Which components nobody decided on: bool, ``(n_components,)``."""
        plain = [{label.lower() for label in one} for one in self.labels]
        return np.array([UNKNOWN.lower() in one and SIGNAL.lower() not in one for one in plain], dtype=bool)

    @property
    def words(self) -> list[str]:
        """What every component is called beside signal, unknown and noise; empty where nothing else is said."""
        return [", ".join(label for label in one if label.lower() not in RESERVED) for one in self.labels]


def is_noise(labels: Sequence[str]) -> bool:
    """Say whether a component of these labels is rejected."""
    return not {SIGNAL.lower(), UNKNOWN.lower()} & {label.lower() for label in labels}


def format_labels(labels: Sequence[Sequence[str]], folder: str = ".") -> str:
    """Write labels as FSLeyes loads them.

    Parameters
    ----------
    labels : sequence of sequence of str
        Of every component; commas become semicolons, because the format has no other sign between fields.
    folder : str, default="."
        The ``.ica`` folder, seen from that of the file.

    Returns
    -------
    str
        The content of a file.
    """
    lines, rejected = [folder], []
    for number, own in enumerate(labels, start=1):
        plain = [" ".join(label.replace(",", ";").split()) for label in own]
        lines.append(", ".join([str(number), *plain, str(is_noise(plain))]))
        if is_noise(plain):
            rejected.append(number)
    return "\n".join([*lines, str(rejected)]) + "\n"


def read_labels(path: str | Path, n_components: int) -> ComponentLabels:
    """Read labels of components.

    Parameters
    ----------
    path : str or Path
        Either folder, a line ``number, label, ..., True or False`` for every component (True if it is noise) and the
        list of noise components, as FSLeyes, Melview and FIX write it; or that list alone, as for FIX's training and
        as ICA-AROMA writes it, without brackets.
    n_components : int
        How many there are.

    Returns
    -------
    ComponentLabels
        Of all components. Where only noise is listed, the others are signal or, without brackets, unknown.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is no such file, has another number of components, or contradicts itself.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(
            f"{path} does not exist. Save the labels in FSLeyes (Classification panel), or check the path."
        )
    try:
        content = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise _malformed(path, f"it is not text ({error})") from error
    lines = [line for line in map(str.strip, content.splitlines()) if line]
    if not lines:
        raise _malformed(path, "it is empty")
    if len(lines) == 1 and _LIST.fullmatch(lines[0]):
        return _of_list(path, lines[0], n_components)
    listed = _numbers(path, lines.pop(), n_components) if _LIST.fullmatch(lines[-1]) else None
    folder = None if not lines or _ROW.fullmatch(lines[0]) else Path(lines.pop(0))
    labels = tuple(_row(path, line, number) for number, line in enumerate(lines, start=1))
    if len(labels) != n_components:
        raise _malformed(path, f"it labels {len(labels)} components, and there are {n_components}")
    made = ComponentLabels(labels, None if folder is None else path.parent / folder)
    noise = set((np.flatnonzero(made.rejected) + 1).tolist())
    if listed is not None and listed != noise:
        differ = ", ".join(map(str, sorted(listed ^ noise)))
        raise _malformed(path, f"its last line and its labels do not agree on which components are noise ({differ})")
    return made


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
            path, f"it names component {', '.join(map(str, unknown))}, and there are {n_components}, counted from 1"
        )
    return numbers


def _row(path: Path, line: str, number: int) -> tuple[str, ...]:
    """Read one component's line: ``2, Movement, True``, perhaps with a probability behind."""
    found = _ROW.fullmatch(line)
    if found is None:
        raise _malformed(path, f"{line[:80]!r} is not the line of a component")
    if int(found[1]) != number:
        raise _malformed(path, f"{line[:80]!r} stands where component {number} is expected")
    fields = [field.strip() for field in found[2].split(",")]
    if len(fields) > 2 and fields[-2].lower() in ("true", "false") and _is_number(fields[-1]):
        fields.pop()
    *labels, flag = fields
    if flag.lower() not in ("true", "false") or not labels or not all(labels):
        raise _malformed(path, f"{line[:80]!r} does not say a label, and then True or False")
    if (flag.lower() == "true") != is_noise(labels):
        raise _malformed(
            path, f"{line[:80]!r} contradicts itself: only components called Signal or Unknown are False, not noise"
        )
    return tuple(labels)


def _is_number(field: str) -> bool:
    return re.fullmatch(r"\d*\.?\d+(?:[eE][-+]?\d+)?", field) is not None


def _malformed(path: Path, why: str) -> ValueError:
    return ValueError(
        f"{path} cannot be taken as labels of components: {why}. Nothing was changed. Such a file has a folder, a line "
        "'1, Signal, False' for every component, and a last line '[2, 5]' of those that are noise: save it in FSLeyes "
        "once more."
    )
