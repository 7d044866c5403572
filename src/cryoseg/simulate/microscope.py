"""Draw parameters of imaging, and filter and store reconstructions."""

from __future__ import annotations

import numpy as np
import scipy.fft
from numpy.typing import NDArray

from cryoseg.config.simulate import TomogramRecipe
from cryoseg.simulate.fields import log_uniform
from cryoseg.simulate.imaging import CtfMode, Imaging, Reconstruction
from cryoseg.types import FloatArray

STORAGES = ("int8", "float32", "int16")
FILTERS = ("none", "lowpass", "wiener")


def draw_imaging(rng: np.random.Generator, recipe: TomogramRecipe) -> Imaging:
    """Draw a tilt scheme, contrast transfer, reconstruction and noise spectrum."""
    limit = {
        TomogramRecipe.TRAIN: (40.0, 70.0),
        TomogramRecipe.HELDOUT: (40.0, 60.0),
        TomogramRecipe.SAMPLE: (60.0, 60.0),
    }[recipe]
    top = rng.uniform(*limit)
    step = float(rng.choice([1.5, 2.0, 2.5, 3.0, 4.0], p=[0.1, 0.3, 0.1, 0.4, 0.1]))
    n = int(2 * np.floor(top / step) + 1)
    angles = (np.arange(n) - (n - 1) / 2) * step
    # A pre-tilted lamella or missing tilts make the range asymmetric.
    offset = float(rng.choice([0.0, rng.uniform(-4.0, 4.0)])) if recipe is TomogramRecipe.TRAIN else 0.0
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
    chances = [0.8, 0.15, 0.05] if recipe is TomogramRecipe.HELDOUT else [0.65, 0.22, 0.13]
    name = str(rng.choice(FILTERS, p=chances))
    strength = {"none": 0.0, "lowpass": rng.uniform(0.4, 1.2), "wiener": rng.uniform(0.3, 1.5)}[name]
    return name, strength


def apply_filter(
    noise_free: FloatArray, noise: FloatArray, name: str, strength: float
) -> tuple[FloatArray, FloatArray]:
    """Apply the same linear filter to signal and noise.

    Parameters
    ----------
    noise_free, noise
        (z, y, x) volumes at their final scales.
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
    """Scale a (z, y, x) volume to a usual range of intensities.

    Parameters
    ----------
    rng
        Generator of the range.
    volume
        (z, y, x) volume.
    storage
        Data type: `int8` with mean 0, `float32` with any mean and deviation, or `int16` with positive values.

    Returns
    -------
    data, scaling
        Scaled volume, and its mean and standard deviation.
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
