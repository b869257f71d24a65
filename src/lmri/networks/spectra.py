"""Power spectra of time courses, tested against red noise."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import linalg, signal, stats

from lmri.networks.thresholds import z_scores
from lmri.networks.time_courses import check_runs, split_by_text


@dataclass(frozen=True, eq=False)
class Spectra:
    """Power of every network by frequency.

    Parameters
    ----------
    frequencies : ndarray of shape (n_frequencies,)
        Cycles per token, from 0 to 0.5; none if everything was too short.
    power : ndarray of shape (n_networks, n_frequencies)
        Density: variance (of the time course z-scored over all volumes) per cycle per token. White noise has 2.
    n_segments, n_left_out : int
        Texts (or runs) that were averaged, and those that were shorter than a window.
    window : int
        Volumes of a window: the resolution is ``1 / window``; neighbouring frequencies are not independent.
    degrees : float
        Degrees of freedom of the average, from which its uncertainty follows.
    """

    frequencies: np.ndarray
    power: np.ndarray
    n_segments: int
    n_left_out: int
    window: int
    degrees: float

    @property
    def peaks(self) -> np.ndarray:
        """Frequency of each network's peak, see `spectral_peak`."""
        return spectral_peak(self)


def spectra(
    time_courses: Sequence[Any], texts: Sequence[Sequence[str]] | None = None, window: int | None = None
) -> Spectra:
    """Estimate the spectrum of every network by Welch's method, per text or run, and average.

    Parameters
    ----------
    time_courses : list of ndarray of shape (n_volumes, n_networks)
        One a run.
    texts : list of sequence of str, optional
        For every run, the text of each volume. Without it windows reach over the borders between texts.
    window : int, optional
        Volumes of a window (Hann, half overlapping, around its own mean). By default the largest power of two that half
        of the texts (or runs) allow, between 16 and 256.

    Returns
    -------
    Spectra
        The mean over all texts (or runs) of at least a window, each the same.

    References
    ----------
    Welch (1967). The use of fast Fourier transform for the estimation of power spectra. IEEE Transactions on Audio and
    Electroacoustics, 15.
    """
    courses = check_runs(time_courses)
    scored = z_scores(np.concatenate(courses).T).T
    pieces = np.split(scored, np.cumsum([len(course) for course in courses])[:-1])
    segments = [course for _, course in split_by_text(pieces, texts)] if texts is not None else pieces
    if window is None:
        half = float(np.median([len(one) for one in segments]))
        window = int(np.clip(2 ** math.floor(math.log2(max(half, 1))), 16, 256))
    elif window < 8:
        raise ValueError(f"window is {window}; it must be at least 8 volumes.")
    long = [one for one in segments if len(one) >= window]
    n_left_out = len(segments) - len(long)
    if not long:
        return Spectra(np.empty(0), np.empty((scored.shape[1], 0)), 0, n_left_out, window, 0.0)
    found = [signal.welch(one, nperseg=window, detrend="constant", axis=0) for one in long]
    power = np.mean([one for _, one in found], axis=0).T
    # Half-overlapping Hann windows are nearly independent: their powers correlate by (1/6)².
    n_windows = np.array([1 + (len(one) - window) // (window // 2) for one in long])
    degrees = 2 * n_windows / (1 + 2 * (1 - 1 / n_windows) / 36)
    return Spectra(found[0][0], power, len(long), n_left_out, window, float(len(long) ** 2 / (1 / degrees).sum()))


def spectral_peak(spectra: Spectra, alpha: float = 0.05) -> np.ndarray:
    """Find the frequency at which each network most exceeds red noise, if it does.

    The largest power says little: most time courses are autocorrelated, and so largest at the lowest frequency. The
    background is the spectrum of an autoregressive process of order 1 as these very windows would show it, fitted by
    Whittle's likelihood. A peak is where the power is the largest multiple of it, and beyond what chance gives.

    Parameters
    ----------
    spectra : Spectra
        Of all networks.
    alpha : float, default=0.05
        Chance of a peak in any of the networks, if all are red or white noise (Bonferroni, chi-squared).

    Returns
    -------
    ndarray of shape (n_networks,)
        Cycles per token; NaN if nothing exceeds red noise, or all texts (or runs) were too short.

    References
    ----------
    Gilman, Fuglister & Mitchell (1963). On the power spectrum of "red noise". Journal of the Atmospheric Sciences, 20.
    """
    peaks = np.full(len(spectra.power), np.nan)
    if not len(spectra.frequencies):
        return peaks
    # Without the ends: a window's mean is taken out of it, and the last frequency has half the degrees of freedom.
    frequencies, power = spectra.frequencies[1:-1], spectra.power[:, 1:-1]
    background = _red_noise(spectra.window)[:, 1:-1]  # (n_models, n_frequencies)
    limit = stats.chi2.isf(alpha / power.size, spectra.degrees) / spectra.degrees
    for number, own in enumerate(power):
        if not (own > 0).all():
            continue
        scale = (own / background).mean(axis=1, keepdims=True)
        models = scale * background
        ratio = own / models[(np.log(models) + own / models).sum(axis=1).argmin()]
        # Higher than on both sides: a spectrum that only falls more steeply than red noise has no peak.
        is_top = np.r_[False, (ratio[1:-1] > ratio[:-2]) & (ratio[1:-1] > ratio[2:]), False]
        place = np.where(is_top, ratio, 0).argmax()
        if is_top[place] and ratio[place] > limit:
            peaks[number] = frequencies[place]
    return peaks


def _red_noise(window: int) -> np.ndarray:
    """Compute what AR(1) processes give on average in a Hann window: ``(n_models, n_frequencies)``."""
    taper = signal.get_window("hann", window)
    waves = np.exp(-2j * np.pi * np.outer(np.arange(window // 2 + 1), np.arange(window)) / window) * taper
    waves = waves - waves.mean(axis=1, keepdims=True)  # takes the mean out of what it is applied to
    lags = np.arange(window)
    models = []
    for rho in np.r_[np.arange(-0.9, 0.9, 0.05), np.arange(0.9, 0.995, 0.01)]:
        covariance = linalg.toeplitz(rho**lags)
        models.append(np.einsum("ft,ft->f", (waves @ covariance), waves.conj()).real)
    return np.array(models) / (taper**2).sum()
