"""Single-axis tilt imaging in Fourier space: parameters, reconstruction, noise, filter and storage.

By the central slice theorem each tilt image fills one plane of the Fourier transform of the volume. The plane
is modeled as a slab with a thickness of one sample. The slabs are summed with the weights of back-projection
and include the contrast transfer, dose weighting, misalignment and noise of their tilts.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np
import scipy.fft
from numpy.typing import NDArray

from cryoseg.config.simulate import TomogramRecipe
from cryoseg.simulate.fields import log_uniform
from cryoseg.types import FloatArray

ELECTRON_WAVELENGTH_300KV_ANGSTROM = 0.0197
SPHERICAL_ABERRATION_ANGSTROM = 2.7e7


class Reconstruction(StrEnum):
    """Methods of reconstruction.

    `wbp` weights each tilt by a ramp, `sirt` by a power of the ramp below one, which keeps more of the low
    frequencies. `mask` removes a sharp wedge from the transform without a tilt series.
    """

    WBP = "wbp"
    SIRT = "sirt"
    MASK = "mask"


class CtfMode(StrEnum):
    """Correction of the CTF: `raw` none, `flipped` phases, `wiener` also amplitudes; `none` has no CTF."""

    NONE = "none"
    RAW = "raw"
    FLIPPED = "flipped"
    WIENER = "wiener"


@dataclass(frozen=True, kw_only=True)
class Imaging:
    """Parameters of the recording and reconstruction of a tomogram.

    Attributes
    ----------
    tilt_axis
        `y` (missing wedge in x and z) or `x`.
    tilt_angles
        Tilt angles in degrees, ascending.
    doses
        Dose before the middle of each tilt in electrons per square angstrom.
    jitter
        (n_tilts, 2) shifts across and along the tilt axis that the alignment missed, in voxels.
    reconstruction, ramp_power
        Method of reconstruction and power of the ramp, which is 1 for `wbp`.
    rolloff_start, rolloff_width
        Start and standard deviation of the Gaussian falloff of the ramp in cycles per voxel.
    interpolation
        Whether high frequencies across the tilt axis are damped as by linear interpolation.
    ctf, defocus, amplitude_contrast, phase_shift
        Correction of the CTF, defocus in angstrom (underfocus is positive), amplitude contrast, and phase
        shift in degrees.
    detector_falloff
        Contrast at the highest frequency, from 0 to 1.
    local_mean_sigma
        Standard deviation in voxels of the Gaussian local mean that is subtracted; 0 for none.
    noise_color, noise_corner
        Parameters of the noise power 1 + color * (corner / frequency)^2; frequencies in cycles per voxel.
    noise_after_wedge
        Share of the variance of the noise that is white and has no missing wedge.
    """

    tilt_axis: str
    tilt_angles: tuple[float, ...]
    doses: tuple[float, ...]
    jitter: tuple[tuple[float, float], ...]
    reconstruction: Reconstruction = Reconstruction.WBP
    ramp_power: float = 1.0
    rolloff_start: float = 0.35
    rolloff_width: float = 0.05
    interpolation: bool = True
    ctf: CtfMode = CtfMode.NONE
    defocus: float = 40000.0
    amplitude_contrast: float = 0.08
    phase_shift: float = 0.0
    detector_falloff: float = 1.0
    local_mean_sigma: float = 0.0
    noise_color: float = 0.0
    noise_corner: float = 0.05
    noise_after_wedge: float = 0.0


def contrast_transfer(frequency: NDArray[Any], imaging: Imaging) -> NDArray[Any]:
    """Return the contrast of density at `frequency` (1/angstrom, any shape); dense matter is bright."""
    if imaging.ctf is CtfMode.NONE:
        return np.ones_like(frequency)
    q2 = np.square(frequency)
    wavelength = ELECTRON_WAVELENGTH_300KV_ANGSTROM
    phase = np.pi * wavelength * imaging.defocus * q2
    phase -= 0.5 * np.pi * SPHERICAL_ABERRATION_ANGSTROM * wavelength**3 * q2 * q2
    phase += np.arcsin(imaging.amplitude_contrast) + np.deg2rad(imaging.phase_shift)
    transfer = np.sin(phase)
    if imaging.ctf is CtfMode.FLIPPED:
        return np.asarray(np.abs(transfer))
    if imaging.ctf is CtfMode.WIENER:
        return np.asarray(transfer * transfer / (transfer * transfer + 0.1))
    return np.asarray(transfer)


def dose_envelope(frequency: NDArray[Any], dose: float) -> NDArray[Any]:
    """Return the share of contrast at `frequency` (1/angstrom, any shape) that remains after `dose` e/A^2.

    Source: Grant and Grigorieff 2015, eLife 4:e06980, equation 3 (critical exposure at 300 kV).
    """
    critical = 0.24499 * np.power(np.maximum(frequency, 1e-4), -1.6649) + 2.8141
    return np.asarray(np.exp(-0.5 * dose / critical))


def _noise_power(frequency_px: NDArray[Any], imaging: Imaging) -> NDArray[Any]:
    corner = imaging.noise_corner / np.maximum(frequency_px, 0.25 * imaging.noise_corner)
    return np.asarray(1.0 + imaging.noise_color * np.square(corner))


def build_transfer(
    shape: tuple[int, int, int], voxel_size: float, imaging: Imaging
) -> tuple[NDArray[np.complex64], FloatArray]:
    """Compute the Fourier weights of signal and noise for volumes of a shape (z, u, t) in voxels.

    u is perpendicular and t is parallel to the tilt axis. The weights have the shape (z, u, t//2 + 1). Those
    of the signal are factors of the transform of the density, those of the noise factors of unit white noise.
    """
    nz, nu, nt = shape
    # Spatial frequencies in cycles per voxel along z, across and along the tilt axis.
    kz = scipy.fft.fftfreq(nz).astype(np.float32)[:, None]
    ku = scipy.fft.fftfreq(nu).astype(np.float32)[None, :]
    kt = scipy.fft.rfftfreq(nt).astype(np.float32)
    signal = np.zeros((nz * nu, kt.size), dtype=np.complex64)
    noise = np.zeros((nz * nu, kt.size), dtype=np.float32)
    fill = _fill_mask if imaging.reconstruction is Reconstruction.MASK else _fill_tilts
    fill(signal, noise, (kz, ku, kt), voxel_size, imaging)
    return signal.reshape(nz, nu, -1), np.sqrt(noise).reshape(nz, nu, -1)


def _fill_mask(
    signal: NDArray[np.complex64],
    noise: FloatArray,
    frequencies: tuple[FloatArray, FloatArray, FloatArray],
    voxel_size: float,
    imaging: Imaging,
) -> None:
    kz, ku, kt = frequencies
    largest = np.tan(np.deg2rad(max(abs(imaging.tilt_angles[0]), abs(imaging.tilt_angles[-1]))))
    inside = np.flatnonzero(np.abs(kz) <= largest * np.abs(ku) + 0.5 / kz.size)
    across2 = (kz**2 + ku**2).ravel()[inside]
    frequency = np.sqrt(across2[:, None] + kt[None, :] ** 2)
    signal[inside] = contrast_transfer(frequency / voxel_size, imaging) * _local_mean(frequency, imaging)
    noise[inside] = _noise_power(frequency, imaging) * np.square(_local_mean(frequency, imaging))


def _local_mean(frequency_px: NDArray[Any], imaging: Imaging) -> NDArray[Any]:
    if imaging.local_mean_sigma <= 0:
        return np.ones_like(frequency_px)
    return np.asarray(1.0 - np.exp(-2.0 * np.square(np.pi * imaging.local_mean_sigma * frequency_px)))


def _fill_tilts(
    signal: NDArray[np.complex64],
    noise: FloatArray,
    frequencies: tuple[FloatArray, FloatArray, FloatArray],
    voxel_size: float,
    imaging: Imaging,
) -> None:
    kz, ku, kt = frequencies
    depth = float(kz.size)
    angles = np.deg2rad(np.asarray(imaging.tilt_angles))
    step = float(np.mean(np.diff(angles))) if angles.size > 1 else 0.05
    for angle, dose, (shift_u, shift_t) in zip(angles, imaging.doses, imaging.jitter, strict=True):
        sine, cosine = np.float32(np.sin(angle)), np.float32(np.cos(angle))
        slab = (1.0 - depth * np.abs(kz * cosine - ku * sine)).ravel()
        rows = np.flatnonzero(slab > 0)
        along = (ku * cosine + kz * sine).ravel()[rows]
        # At a radius k the slabs overlap 1 / (k * step * depth) times, which the ramp compensates.
        ramp = np.maximum(np.abs(along) * step * depth, 1.0 / angles.size) ** imaging.ramp_power
        excess = np.maximum(np.abs(along) - imaging.rolloff_start, 0.0)
        ramp *= np.exp(-0.5 * np.square(excess / imaging.rolloff_width))
        if imaging.interpolation:
            ramp *= np.square(np.sinc(along))
        weight = (slab[rows] * ramp).astype(np.float32)[:, None]
        frequency = np.sqrt(along[:, None] ** 2 + kt[None, :] ** 2)
        common = weight * _local_mean(frequency, imaging)
        # Inelastic scattering reduces the number of electrons at high tilt, which increases the noise.
        noise[rows] += np.square(common) * _noise_power(frequency, imaging) / cosine
        transfer = common * contrast_transfer(frequency / voxel_size, imaging)
        transfer *= dose_envelope(frequency / voxel_size, dose)
        if imaging.detector_falloff < 1.0:
            transfer *= np.exp(np.log(max(imaging.detector_falloff, 1e-3)) * np.square(2.0 * frequency))
        shift = np.exp(-2j * np.pi * shift_u * along)[:, None] * np.exp(-2j * np.pi * shift_t * kt)[None, :]
        signal[rows] += transfer * shift


def image(
    rng: np.random.Generator, density: FloatArray, *, voxel_size: float, imaging: Imaging
) -> tuple[FloatArray, FloatArray]:
    """Reconstruct a (z, y, x) density, in which dense matter is positive, without noise, and the noise alone.

    In both float32 volumes dense matter is bright. The scale of the noise is arbitrary.
    """
    # The transfer needs the tilt axis as the last axis.
    turned = density if imaging.tilt_axis == "x" else np.ascontiguousarray(density.swapaxes(1, 2))
    shape = (turned.shape[0], turned.shape[1], turned.shape[2])
    signal_weights, noise_weights = build_transfer(shape, voxel_size, imaging)
    spectrum = scipy.fft.rfftn(turned)
    spectrum *= signal_weights
    noise_free = scipy.fft.irfftn(spectrum, s=shape)
    white = rng.standard_normal(spectrum.shape, dtype=np.float32) + 1j * rng.standard_normal(
        spectrum.shape, dtype=np.float32
    )
    white *= noise_weights
    noise = scipy.fft.irfftn(white, s=shape)
    if imaging.noise_after_wedge > 0:
        share = np.float32(imaging.noise_after_wedge)
        noise = noise * np.sqrt((1 - share) / noise.var()) + np.sqrt(share) * rng.standard_normal(
            shape, dtype=np.float32
        )
    if imaging.tilt_axis != "x":
        noise_free, noise = noise_free.swapaxes(1, 2), noise.swapaxes(1, 2)
    return np.ascontiguousarray(noise_free, dtype=np.float32), np.ascontiguousarray(noise, dtype=np.float32)


def scale_noise(noise_free: FloatArray, noise: FloatArray, snr: float) -> FloatArray:
    """Scale (z, y, x) noise so that var(noise_free) / var(noise) is `snr`."""
    signal = float(noise_free.var(dtype=np.float64))
    power = float(noise.var(dtype=np.float64))
    return np.asarray(noise * np.float32(np.sqrt(signal / (snr * power))), dtype=np.float32)


STORAGES = ("int8", "float32", "int16")
FILTERS = ("none", "lowpass", "wiener")


def draw_imaging(rng: np.random.Generator, recipe: TomogramRecipe) -> Imaging:
    """Draw a tilt scheme, contrast transfer, reconstruction and noise spectrum."""
    limit = {
        TomogramRecipe.TRAIN: (40.0, 70.0),
        TomogramRecipe.HELDOUT: (40.0, 60.0),
        TomogramRecipe.CELL: (45.0, 65.0),
        TomogramRecipe.SAMPLE: (60.0, 60.0),
    }[recipe]
    top = rng.uniform(*limit)
    step = float(rng.choice([1.5, 2.0, 2.5, 3.0, 4.0], p=[0.1, 0.3, 0.1, 0.4, 0.1]))
    n = int(2 * np.floor(top / step) + 1)
    angles = (np.arange(n) - (n - 1) / 2) * step
    # A pre-tilted lamella or missing tilts make the range asymmetric.
    symmetric = recipe in (TomogramRecipe.HELDOUT, TomogramRecipe.SAMPLE)
    offset = 0.0 if symmetric else float(rng.choice([0.0, rng.uniform(-4.0, 4.0)]))
    angles = np.clip(angles + offset, -72.0, 72.0)
    jitter = rng.normal(0.0, 1.0, (n, 2)) * rng.choice([0.0, rng.uniform(0.1, 0.5), rng.uniform(0.4, 1.2)])
    reconstruction = Reconstruction(str(rng.choice(["wbp", "sirt", "mask"], p=[0.6, 0.22, 0.18])))
    ctf = CtfMode(str(rng.choice(["none", "raw", "flipped", "wiener"], p=[0.3, 0.25, 0.3, 0.15])))
    if recipe is TomogramRecipe.SAMPLE:
        reconstruction, ctf, jitter = Reconstruction.WBP, CtfMode.FLIPPED, 0.3 * rng.normal(0.0, 1.0, (n, 2))
    return Imaging(
        tilt_axis="x" if rng.random() < 0.2 else "y",
        tilt_angles=tuple(float(a) for a in angles),
        doses=tuple(float(d) for d in _doses(rng, angles, total=rng.uniform(60.0, 160.0))),
        jitter=tuple((float(u), float(t)) for u, t in jitter),
        reconstruction=reconstruction,
        ramp_power=1.0 if reconstruction is not Reconstruction.SIRT else rng.uniform(0.4, 0.9),
        rolloff_start=rng.uniform(0.12, 0.48),
        rolloff_width=rng.uniform(0.03, 0.12),
        interpolation=rng.random() < 0.6,
        ctf=ctf,
        defocus=rng.uniform(15000.0, 70000.0),
        amplitude_contrast=rng.uniform(0.07, 0.15),
        phase_shift=rng.uniform(60.0, 110.0) if rng.random() < 0.12 else 0.0,
        detector_falloff=rng.uniform(0.25, 1.0),
        local_mean_sigma=log_uniform(rng, 12.0, 80.0) if rng.random() < 0.45 else 0.0,
        noise_color=float(rng.choice([0.0, rng.uniform(0.3, 4.0)], p=[0.35, 0.65])),
        noise_corner=rng.uniform(0.03, 0.12),
        noise_after_wedge=float(rng.choice([0.0, rng.uniform(0.2, 1.0)], p=[0.85, 0.15])),
    )


def _doses(rng: np.random.Generator, angles: NDArray[np.float64], *, total: float) -> NDArray[np.float64]:
    """Return the dose before the middle of each tilt for a dose-symmetric or a bidirectional scheme."""
    per_tilt = total / len(angles)
    if rng.random() < 0.7:
        order = np.argsort(np.abs(angles), kind="stable")
    else:
        order = np.concatenate([np.flatnonzero(angles >= 0), np.flatnonzero(angles < 0)[::-1]])
    doses = np.empty(len(angles))
    doses[order] = (np.arange(len(angles)) + 0.5) * per_tilt
    return doses


def draw_filter(rng: np.random.Generator, recipe: TomogramRecipe) -> tuple[str, float]:
    """Draw the name and strength of a filter for `apply_filter`."""
    if recipe is TomogramRecipe.SAMPLE:
        return "none", 0.0
    chances = {
        TomogramRecipe.TRAIN: [0.65, 0.22, 0.13],
        TomogramRecipe.HELDOUT: [0.8, 0.15, 0.05],
        TomogramRecipe.CELL: [0.35, 0.2, 0.45],
    }[recipe]
    name = str(rng.choice(FILTERS, p=chances))
    strength = {"none": 0.0, "lowpass": rng.uniform(0.4, 1.2), "wiener": rng.uniform(0.3, 1.5)}[name]
    return name, strength


def apply_filter(
    noise_free: FloatArray, noise: FloatArray, name: str, strength: float
) -> tuple[FloatArray, FloatArray]:
    """Apply the same linear filter to signal and noise, (z, y, x) volumes at their final scales.

    Parameters
    ----------
    noise_free, noise
        (z, y, x) signal and noise.
    name
        Filter: `none`; `lowpass`, a Gaussian; or `wiener`, which weights each shell of frequencies by
        signal / (signal + strength * noise), as an ideal denoiser.
    strength
        Standard deviation of the Gaussian in voxels, or weight of the noise.
    """
    if name == "none":
        return noise_free, noise
    signal_ft, noise_ft = scipy.fft.rfftn(noise_free), scipy.fft.rfftn(noise)
    nz, ny, nx = noise_free.shape
    kz = scipy.fft.fftfreq(nz).astype(np.float32)[:, None, None]
    ky = scipy.fft.fftfreq(ny).astype(np.float32)[None, :, None]
    kx = scipy.fft.rfftfreq(nx).astype(np.float32)[None, None, :]
    frequency = np.sqrt(kz**2 + ky**2 + kx**2)
    if name == "lowpass":
        weight = np.exp(-2.0 * np.square(np.pi * strength * frequency))
    else:
        shell = np.minimum((frequency * 2 * 48).astype(np.int64), 95).ravel()
        signal_power = np.bincount(shell, np.square(np.abs(signal_ft)).ravel(), minlength=96)
        noise_power = np.bincount(shell, np.square(np.abs(noise_ft)).ravel(), minlength=96)
        gain = signal_power / np.maximum(signal_power + strength * noise_power, 1e-30)
        weight = gain.astype(np.float32)[shell].reshape(frequency.shape)
    shape = noise_free.shape
    filtered = [
        np.asarray(scipy.fft.irfftn(ft * weight, s=shape), dtype=np.float32) for ft in (signal_ft, noise_ft)
    ]
    return filtered[0], filtered[1]


def store(
    rng: np.random.Generator, volume: FloatArray, storage: str
) -> tuple[NDArray[np.generic], dict[str, float]]:
    """Scale a (z, y, x) volume to a usual range of intensities; return its mean and deviation too.

    `storage` is the data type: `int8` with mean 0, `float32` with any mean and deviation, or `int16` with
    positive values.
    """
    unit = (volume - volume.mean(dtype=np.float64)) / max(float(volume.std(dtype=np.float64)), 1e-12)
    if storage == "int8":
        spread, mean = rng.uniform(18.0, 30.0), 0.0
        return np.clip(np.rint(unit * spread), -128, 127).astype(np.int8), {"mean": mean, "std": spread}
    if storage == "int16":
        spread, mean = rng.uniform(80.0, 400.0), rng.uniform(3000.0, 9000.0)
        return np.clip(np.rint(unit * spread + mean), 0, 32767).astype(np.int16), {
            "mean": mean,
            "std": spread,
        }
    spread, mean = 1.0, 0.0
    if rng.random() < 0.4:
        spread, mean = float(np.exp(rng.uniform(-4.0, 3.0))), rng.normal(0.0, 2.0)
    return (unit * spread + mean).astype(np.float32), {"mean": mean, "std": spread}
