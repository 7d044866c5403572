"""Single-axis tilt imaging in Fourier space: what a tomogram shows of a density, and its noise.

By the central slice theorem every tilt image fills one plane of the volume's transform. Here each
plane is a slab one sample thick; the slabs are summed with the weights of back-projection, and
carry their tilt's contrast transfer, dose damping, misalignment and noise.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np
import scipy.fft
from numpy.typing import NDArray

from cryoseg.types import FloatArray

ELECTRON_WAVELENGTH_300KV_ANGSTROM = 0.0197
SPHERICAL_ABERRATION_ANGSTROM = 2.7e7


class Reconstruction(StrEnum):
    """How tilts become a volume.

    `wbp` weights each tilt by a ramp, `sirt` by a power of the ramp below one, which keeps more of
    the low frequencies; `mask` is no tilt series at all but a sharp wedge cut out of the transform.
    """

    WBP = "wbp"
    SIRT = "sirt"
    MASK = "mask"


class CtfMode(StrEnum):
    """`raw`: as recorded; `flipped`: phases flipped; `wiener`: amplitudes restored too; `none`: no CTF."""

    NONE = "none"
    RAW = "raw"
    FLIPPED = "flipped"
    WIENER = "wiener"


@dataclass(frozen=True, kw_only=True)
class Imaging:
    """One way of recording and reconstructing a tomogram.

    Attributes
    ----------
    tilt_axis
        `y` (the wedge lies in x and z) or `x`.
    tilt_angles
        Degrees, ascending.
    doses
        Electrons per square angstrom that the specimen had received before the middle of each tilt.
    jitter
        (n_tilts, 2) shifts in voxels across and along the tilt axis that alignment has missed.
    reconstruction, ramp_power
        See `Reconstruction`; the power of the ramp is 1 for `wbp`.
    rolloff_start, rolloff_width
        The ramp falls as a Gaussian beyond the first, cycles per voxel.
    interpolation
        Damp high frequencies across the tilt axis as linear interpolation in back-projection does.
    ctf, defocus, amplitude_contrast, phase_shift
        Defocus in angstrom, underfocus positive; phase shift in degrees.
    detector_falloff
        Contrast that is left at the highest frequency, from 0 to 1.
    local_mean_sigma
        Width in voxels of the Gaussian local mean that is subtracted; 0 for none.
    noise_color, noise_corner
        Noise power is 1 + color * (corner / frequency)^2, frequency in cycles per voxel.
    noise_after_wedge
        Share of the noise's variance that is white and knows no wedge.
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


@dataclass(frozen=True, kw_only=True)
class Transfer:
    """Fourier weights of signal and noise, for a volume whose tilt axis is its last axis.

    Attributes
    ----------
    signal
        complex64 (z, u, t//2 + 1): multiplies the transform of the density.
    noise
        float32, same shape: multiplies unit white noise.
    """

    signal: NDArray[np.complex64]
    noise: FloatArray


def contrast_transfer(frequency: NDArray[Any], imaging: Imaging) -> NDArray[Any]:
    """Contrast per density at `frequency` (1/angstrom, any shape); positive where low, so dense is bright."""
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
    """What radiation leaves of the contrast at `frequency` (1/angstrom, any shape) after `dose` e/A^2.

    Source: Grant and Grigorieff 2015, eLife 4:e06980, equation 3 (critical exposure at 300 kV).
    """
    critical = 0.24499 * np.power(np.maximum(frequency, 1e-4), -1.6649) + 2.8141
    return np.asarray(np.exp(-0.5 * dose / critical))


def _noise_power(frequency_px: NDArray[Any], imaging: Imaging) -> NDArray[Any]:
    corner = imaging.noise_corner / np.maximum(frequency_px, 0.25 * imaging.noise_corner)
    return np.asarray(1.0 + imaging.noise_color * np.square(corner))


def build_transfer(shape: tuple[int, int, int], voxel_size: float, imaging: Imaging) -> Transfer:
    """Fourier weights for volumes of `shape` (z, u, t): depth, across and along the tilt axis.

    Parameters
    ----------
    shape
        Voxels.
    voxel_size
        Angstrom.
    """
    nz, nu, nt = shape
    kz = scipy.fft.fftfreq(nz).astype(np.float32)[:, None]
    ku = scipy.fft.fftfreq(nu).astype(np.float32)[None, :]
    kt = scipy.fft.rfftfreq(nt).astype(np.float32)
    frequencies = _Frequencies(kz=kz, ku=ku, kt=kt, voxel_size=voxel_size)
    signal = np.zeros((nz * nu, kt.size), dtype=np.complex64)
    noise = np.zeros((nz * nu, kt.size), dtype=np.float32)
    if imaging.reconstruction is Reconstruction.MASK:
        _fill_mask(signal, noise, frequencies, imaging)
    else:
        _fill_tilts(signal, noise, frequencies, imaging)
    return Transfer(signal=signal.reshape(nz, nu, -1), noise=np.sqrt(noise).reshape(nz, nu, -1))


@dataclass(frozen=True, kw_only=True)
class _Frequencies:
    """Spatial frequencies in cycles per voxel along z, across the tilt axis (u) and along it (t)."""

    kz: FloatArray
    ku: FloatArray
    kt: FloatArray
    voxel_size: float


def _fill_mask(
    signal: NDArray[np.complex64], noise: FloatArray, frequencies: _Frequencies, imaging: Imaging
) -> None:
    kz, ku, kt, voxel_size = frequencies.kz, frequencies.ku, frequencies.kt, frequencies.voxel_size
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
    signal: NDArray[np.complex64], noise: FloatArray, frequencies: _Frequencies, imaging: Imaging
) -> None:
    kz, ku, kt, voxel_size = frequencies.kz, frequencies.ku, frequencies.kt, frequencies.voxel_size
    depth = float(kz.size)
    angles = np.deg2rad(np.asarray(imaging.tilt_angles))
    step = float(np.mean(np.diff(angles))) if angles.size > 1 else 0.05
    for angle, dose, (shift_u, shift_t) in zip(angles, imaging.doses, imaging.jitter, strict=True):
        sine, cosine = np.float32(np.sin(angle)), np.float32(np.cos(angle))
        slab = (1.0 - depth * np.abs(kz * cosine - ku * sine)).ravel()
        rows = np.flatnonzero(slab > 0)
        along = (ku * cosine + kz * sine).ravel()[rows]
        # At a radius k the slabs of all tilts overlap 1 / (k * step * depth) times, which the ramp undoes.
        ramp = np.maximum(np.abs(along) * step * depth, 1.0 / angles.size) ** imaging.ramp_power
        excess = np.maximum(np.abs(along) - imaging.rolloff_start, 0.0)
        ramp *= np.exp(-0.5 * np.square(excess / imaging.rolloff_width))
        if imaging.interpolation:
            ramp *= np.square(np.sinc(along))
        weight = (slab[rows] * ramp).astype(np.float32)[:, None]
        frequency = np.sqrt(along[:, None] ** 2 + kt[None, :] ** 2)
        common = weight * _local_mean(frequency, imaging)
        # Inelastic scattering leaves fewer electrons, so more noise, at high tilt.
        noise[rows] += np.square(common) * _noise_power(frequency, imaging) / cosine
        transfer = common * contrast_transfer(frequency / voxel_size, imaging)
        transfer *= dose_envelope(frequency / voxel_size, dose)
        if imaging.detector_falloff < 1.0:
            transfer *= np.exp(np.log(max(imaging.detector_falloff, 1e-3)) * np.square(2.0 * frequency))
        shift = np.exp(-2j * np.pi * shift_u * along)[:, None] * np.exp(-2j * np.pi * shift_t * kt)[None, :]
        signal[rows] += transfer * shift


def _tilt_axis_last(volume: FloatArray, tilt_axis: str) -> FloatArray:
    return volume if tilt_axis == "x" else np.ascontiguousarray(volume.swapaxes(1, 2))


def image(
    rng: np.random.Generator, density: FloatArray, *, voxel_size: float, imaging: Imaging
) -> tuple[FloatArray, FloatArray]:
    """Reconstructions of the density without noise, and of the noise alone.

    Parameters
    ----------
    density
        (z, y, x), dense is positive.
    voxel_size
        Angstrom.

    Returns
    -------
    noise_free, noise
        float32, shape of `density`; dense is bright. The noise has no particular scale.
    """
    turned = _tilt_axis_last(density, imaging.tilt_axis)
    shape = (turned.shape[0], turned.shape[1], turned.shape[2])
    transfer = build_transfer(shape, voxel_size, imaging)
    spectrum = scipy.fft.rfftn(turned)
    spectrum *= transfer.signal
    noise_free = scipy.fft.irfftn(spectrum, s=shape)
    white = rng.standard_normal(spectrum.shape, dtype=np.float32) + 1j * rng.standard_normal(
        spectrum.shape, dtype=np.float32
    )
    white *= transfer.noise
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
    """`noise` (z, y, x) scaled so that var(noise_free) / var(noise) is `snr`."""
    signal = float(noise_free.var(dtype=np.float64))
    power = float(noise.var(dtype=np.float64))
    return np.asarray(noise * np.float32(np.sqrt(signal / (snr * power))), dtype=np.float32)
