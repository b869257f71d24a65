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
    """Power spectrum of every network.

    Parameters
    ----------
    frequencies : ndarray of shape (n_frequencies,)
        Frequencies in cycles per token, from 0 to 0.5; empty if all texts (or runs) were too short.
    power : ndarray of shape (n_networks, n_frequencies)
        Power spectral density: variance (of the time course z-scored over all volumes) per cycle per token. White
        noise has a density of 2.
    n_segments, n_left_out : int
        Number of texts (or runs) that were averaged, and number that were shorter than a window.
    window : int
        Length of a window in volumes. The frequency resolution is ``1 / window``; neighbouring frequencies are not
        independent.
    degrees : float
        Degrees of freedom of the averaged power, which determine its uncertainty.
    """

    frequencies: np.ndarray
    power: np.ndarray
    n_segments: int
    n_left_out: int
    window: int
    degrees: float

    @property
    def peaks(self) -> np.ndarray:
        """Frequency of the spectral peak of each network; see `spectral_peak`."""
        return spectral_peak(self)


def spectra(
    time_courses: Sequence[Any], texts: Sequence[Sequence[str]] | None = None, window: int | None = None
) -> Spectra:
    """Estimate the power spectrum of every network by Welch's method, averaged over texts or runs.

    Parameters
    ----------
    time_courses : list of ndarray of shape (n_volumes, n_networks)
        Time courses, one array per run.
    texts : list of sequence of str, optional
        Text id of each volume, one sequence per run. Without it, windows span the boundaries between texts.
    window : int, optional
        Length of a window in volumes (Hann, 50 % overlap, mean removed). By default the largest power of two that fits
        into half of the texts (or runs), between 16 and 256.

    Returns
    -------
    Spectra
        Unweighted mean over all texts (or runs) that are at least as long as a window.

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
        half = float(np.median([len(segment) for segment in segments]))
        window = int(np.clip(2 ** math.floor(math.log2(max(half, 1))), 16, 256))
    elif window < 8:
        raise ValueError(f"window is {window}; it must be at least 8 volumes.")
    long = [segment for segment in segments if len(segment) >= window]
    n_left_out = len(segments) - len(long)
    if not long:
        return Spectra(np.empty(0), np.empty((scored.shape[1], 0)), 0, n_left_out, window, 0.0)
    estimates = [signal.welch(segment, nperseg=window, detrend="constant", axis=0) for segment in long]
    power = np.mean([density for _, density in estimates], axis=0).T
    # The powers of half-overlapping Hann windows correlate by (1/6)², so windows are nearly independent.
    n_windows = np.array([1 + (len(segment) - window) // (window // 2) for segment in long])
    degrees = 2 * n_windows / (1 + 2 * (1 - 1 / n_windows) / 36)
    return Spectra(estimates[0][0], power, len(long), n_left_out, window, float(len(long) ** 2 / (1 / degrees).sum()))


def spectral_peak(spectra: Spectra, alpha: float = 0.05) -> np.ndarray:
    """Find the frequency at which each network most exceeds red noise, if it does.

    The maximum of the power is not informative: most time courses are autocorrelated, so their power is largest at the
    lowest frequency. The background is the expected spectrum of an autoregressive process of order 1 in the same
    windows, fitted by Whittle's likelihood. A peak is the frequency with the largest ratio of power to background, if
    the ratio is significant.

    Parameters
    ----------
    spectra : Spectra
        Power spectra of all networks.
    alpha : float, default=0.05
        Probability of a peak in any of the networks if all are red or white noise (Bonferroni, chi-squared).

    Returns
    -------
    ndarray of shape (n_networks,)
        Frequency in cycles per token; NaN if no frequency exceeds red noise, or if all texts (or runs) were too short.

    References
    ----------
    Gilman, Fuglister & Mitchell (1963). On the power spectrum of "red noise". Journal of the Atmospheric Sciences, 20.
    """
    peaks = np.full(len(spectra.power), np.nan)
    if not len(spectra.frequencies):
        return peaks
    # Without the first and last frequency: the mean is removed, and the last has half the degrees of freedom.
    frequencies, power = spectra.frequencies[1:-1], spectra.power[:, 1:-1]
    background = _red_noise(spectra.window)[:, 1:-1]  # (n_models, n_frequencies)
    limit = stats.chi2.isf(alpha / power.size, spectra.degrees) / spectra.degrees
    for number, density in enumerate(power):
        if not (density > 0).all():
            continue
        scale = (density / background).mean(axis=1, keepdims=True)
        models = scale * background
        ratio = density / models[(np.log(models) + density / models).sum(axis=1).argmin()]
        # Higher than both neighbours: a spectrum that merely falls more steeply than red noise has no peak.
        is_top = np.r_[False, (ratio[1:-1] > ratio[:-2]) & (ratio[1:-1] > ratio[2:]), False]
        peak = np.where(is_top, ratio, 0).argmax()
        if is_top[peak] and ratio[peak] > limit:
            peaks[number] = frequencies[peak]
    return peaks


def _red_noise(window: int) -> np.ndarray:
    """Compute the expected spectra of AR(1) processes in a Hann window: ``(n_models, n_frequencies)``."""
    taper = signal.get_window("hann", window)
    waves = np.exp(-2j * np.pi * np.outer(np.arange(window // 2 + 1), np.arange(window)) / window) * taper
    waves = waves - waves.mean(axis=1, keepdims=True)  # removes the mean of the data they are applied to
    lags = np.arange(window)
    models = []
    for rho in np.r_[np.arange(-0.9, 0.9, 0.05), np.arange(0.9, 0.995, 0.01)]:
        covariance = linalg.toeplitz(rho**lags)
        models.append(np.einsum("ft,ft->f", (waves @ covariance), waves.conj()).real)
    return np.array(models) / (taper**2).sum()
