"""Small charts, written directly as SVG: every network has several, and they use the colours of the page.

They contain only computed numbers, never text of a study.
"""

from collections.abc import Sequence

import numpy as np
from markupsafe import Markup

MOST_BINS = 500
"""Number of bins of a longer time course, of which each is drawn as the range of its values."""

WIDTH, HEIGHT = 1000, 200
"""Size of a chart in SVG units; the page stretches it to its container."""


def course_chart(values: np.ndarray, bounds: Sequence[int] = ()) -> Markup:
    """Draw a time course from its lowest to its highest value.

    Parameters
    ----------
    values : ndarray of shape (n_volumes,)
        Time course; not empty.
    bounds : sequence of int
        First volumes of runs, each marked by a line.
    """
    n = len(values)
    low, high = course_range(values)
    edges = np.linspace(0, n, min(n, MOST_BINS) + 1).astype(int)
    x = np.round((edges[:-1] + edges[1:]) * WIDTH / (2 * n)).astype(int)
    top, bottom = (_heights(part.reduceat(values, edges[:-1]), low, high) for part in (np.maximum, np.minimum))
    line = _path(x, top)
    if n > MOST_BINS:
        line += "L" + _path(x[::-1], bottom[::-1])[1:] + "Z"
    zero = f'<path class="zero" d="M0,{_heights(np.zeros(1), low, high)[0]}H{WIDTH}"/>'
    marks = "".join(f"M{round(bound * WIDTH / n)},0V{HEIGHT}" for bound in bounds if 0 < bound < n)
    lines = f'<path class="bound" d="{marks}"/>' if marks else ""
    kind = "range" if n > MOST_BINS else "line"
    return _svg(f'{lines}{zero}<path class="{kind}" d="{line}"/>', WIDTH, HEIGHT, stretched=True)


def course_range(values: np.ndarray) -> tuple[float, float]:
    """Return a range that includes all values and 0, with two different limits."""
    low, high = min(float(values.min()), 0.0), max(float(values.max()), 0.0)
    return (low, high) if high > low else (-1.0, 1.0)


def _heights(values: np.ndarray, low: float, high: float) -> np.ndarray:
    margin = 4
    return np.round(margin + (high - values) / (high - low) * (HEIGHT - 2 * margin)).astype(int)


def _path(x: np.ndarray, y: np.ndarray) -> str:
    return "M" + "L".join(f"{a},{b}" for a, b in zip(x, y, strict=True))


def _svg(content: str, width: int, height: int, stretched: bool = False, label: str = "") -> Markup:
    shape = ' preserveAspectRatio="none"' if stretched else ""
    named = f' role="img" aria-label="{label}"' if label else ' aria-hidden="true"'
    return Markup(f'<svg viewBox="0 0 {width} {height}"{shape}{named}>{content}</svg>')


def spectrum_chart(frequencies: np.ndarray, power: np.ndarray, peak: float, unit: str) -> Markup:
    """Draw a power spectrum on a logarithmic axis, from 0 to 0.5 cycles per volume.

    Parameters
    ----------
    frequencies, power : ndarray of shape (n_frequencies,)
        Values of a `lmri.connectivity.Spectra`; frequency 0 is not drawn, because means were removed.
    peak : float
        Frequency to mark; NaN if there is none.
    unit : {"token", "word", "sentence", "volume"}
        Unit of a volume, from `lmri.recording.volume_unit`.
    """
    left, right, top, bottom = 40, 392, 8, 118
    shown = (frequencies > 0) & (power > 0)
    if not shown.any():
        return Markup("")
    log_power = np.log10(power[shown])
    # The range includes white noise as a reference.
    low, high = min(float(log_power.min()), np.log10(1.0)), max(float(log_power.max()), np.log10(5.0))

    def to_y(values: np.ndarray) -> np.ndarray:
        return np.round(bottom - (values - low) / (high - low) * (bottom - top)).astype(int)

    x = np.round(left + frequencies[shown] / 0.5 * (right - left)).astype(int)
    parts = [f'<path class="axis" d="M{left},{top}V{bottom}H{right}"/>']
    for tick in _log_ticks(low, high):
        y = to_y(np.log10([tick]))[0]
        parts.append(f'<path class="grid" d="M{left},{y}H{right}"/><text x="{left - 5}" y="{y + 4}" class="end">')
        parts.append(f"{tick:g}</text>")
    for share in range(6):
        at = left + round(share / 5 * (right - left))
        parts.append(f'<text x="{at}" y="{bottom + 15}" class="mid">{share / 10:g}</text>')
    parts.append(f'<path class="line" d="{_path(x, to_y(log_power))}"/>')
    if np.isfinite(peak):
        at = round(left + peak / 0.5 * (right - left))
        parts.append(f'<path class="peak" d="M{at},{top}V{bottom}"/>')
    marked = f", peak at {peak:.3f} cycles per {unit}" if np.isfinite(peak) else ""
    return _svg("".join(parts), 400, 138, label=f"Power spectrum{marked}")


def _log_ticks(low: float, high: float) -> list[float]:
    """Choose round ticks between two powers of ten: 1, 2 and 5 per decade, or only 1 in wide ranges."""
    steps, stride = ((1, 2, 5), 1) if high - low < 2 else ((1,), max(1, int((high - low) // 4)))
    powers = range(int(np.floor(low)), int(np.ceil(high)) + 1, stride)
    every = [step * 10.0**power for power in powers for step in steps]
    return [tick for tick in every if low - 1e-9 <= np.log10(tick) <= high + 1e-9]


def profile_chart(positive: np.ndarray, negative: np.ndarray, what: str = "layer") -> Markup:
    """Draw the number of members of every layer, positive members stacked on negative members.

    Parameters
    ----------
    positive, negative : ndarray of int, shape (n_layers,)
        Numbers of members.
    what : str
        Noun for a slice.
    """
    n, most = len(positive), int((positive + negative).max())
    left, right, top, bottom = 40, 392, 8, 118
    step = (right - left) / n
    width = max(1.0, step * 0.82)
    scale = (bottom - top) / max(most, 1)
    parts = []
    for layer, (up, down) in enumerate(zip(positive, negative, strict=True)):
        x = left + step * layer + (step - width) / 2
        y = float(bottom)
        for count, kind in ((down, "negative"), (up, "positive")):
            if count:
                y -= count * scale
                parts.append(
                    f'<rect class="{kind}" x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{count * scale:.1f}"/>'
                )
    parts.append(f'<path class="axis" d="M{left},{top}V{bottom}H{right}"/>')
    parts.append(f'<text x="{left - 5}" y="{top + 9}" class="end">{most}</text>')
    parts.append(f'<text x="{left - 5}" y="{bottom}" class="end">0</text>')
    for layer in range(0, n, -(-n // 16)):
        parts.append(f'<text x="{left + step * (layer + 0.5):.0f}" y="{bottom + 15}" class="mid">{layer}</text>')
    counts = ", ".join(f"{up + down} in {what} {layer}" for layer, (up, down) in _both(positive, negative))
    return _svg("".join(parts), 400, 138, label=f"Members: {counts}")


def _both(positive: np.ndarray, negative: np.ndarray) -> list[tuple[int, tuple[int, int]]]:
    return list(enumerate(zip(positive.tolist(), negative.tolist(), strict=True)))


def sparkline(profile: np.ndarray) -> Markup:
    """Draw a layer profile as a sparkline; empty markup for an empty profile."""
    most = int(profile.max(initial=0))
    if not most:
        return Markup("")
    n = len(profile)
    heights = np.round(16 * profile / most, 1)
    bars = "".join(f"M{4 * layer + 1.5:g},16V{16 - height:g}" for layer, height in enumerate(heights) if height)
    return _svg(f'<path class="spark" d="{bars}"/>', 4 * n, 16, stretched=True)


def stability_chart(series: Sequence[tuple[str, np.ndarray]], null: np.ndarray | None) -> Markup:
    """Draw stability measures, from 0 to 1, for every map.

    Parameters
    ----------
    series : sequence of (str, ndarray of shape (n_maps,))
        CSS class of the marks, and values; NaN is not drawn.
    null : ndarray of shape (n_maps,), optional
        Null of each map, drawn as a bar.
    """
    n = len(series[0][1])
    left, right, top, bottom = 40, 992, 8, 148
    step = (right - left) / n

    def to_y(value: float) -> float:
        return float(bottom - np.clip(value, 0, 1) * (bottom - top))

    parts = []
    for tick in (0, 0.25, 0.5, 0.75, 1):
        parts.append(f'<path class="grid" d="M{left},{to_y(tick):g}H{right}"/>')
        parts.append(f'<text x="{left - 5}" y="{to_y(tick) + 4:g}" class="end">{tick:g}</text>')
    for number in range(0, n, -(-n // 25)):
        parts.append(f'<text x="{left + step * (number + 0.5):.0f}" y="{bottom + 16}" class="mid">{number:02d}</text>')
    if null is not None:
        for number, value in enumerate(null):
            if np.isfinite(value):
                x, y = left + step * (number + 0.15), to_y(value)
                parts.append(f'<path class="null" d="M{x:.1f},{y:.1f}h{step * 0.7:.1f}"/>')
    for kind, values in series:
        for number, value in enumerate(values):
            if np.isfinite(value):
                x, y = left + step * (number + 0.5), to_y(value)
                parts.append(f'<circle class="{kind}" cx="{x:.1f}" cy="{y:.1f}" r="4"/>')
    return _svg("".join(parts), 1000, 170, label="Stability of every map, from 0 to 1")
