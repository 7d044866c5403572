"""Simulate the recording of a micrograph from thickness maps, and its later processing."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.fft
from scipy import ndimage

from cryoseg.config.simulate import MicrographRecipe
from cryoseg.simulate.fields import log_uniform
from cryoseg.simulate.imaging import ELECTRON_WAVELENGTH_300KV_ANGSTROM, SPHERICAL_ABERRATION_ANGSTROM
from cryoseg.simulate.micrograph_surroundings import Surroundings, plane_noise, sometimes
from cryoseg.types import FloatArray

# Contrast of a phase object is twice its phase; the phase per volt and angstrom at 300 kV is 6.5e-4.
# Source: Reimer and Kohl 2008, Transmission Electron Microscopy, interaction constant.
CONTRAST_PER_VOLT_ANGSTROM = 2 * 6.5e-4
# Mean inner potentials over vitreous ice or vacuum, volt, rounded.
PROTEIN_OVER_ICE_VOLT = 2.5
FROST_VOLT = 3.5
CARBON_VOLT = 8.0
GOLD_VOLT = 25.0
# Mean free paths, after which 1/e of the electrons remains in a zero-loss image, in angstrom, rounded.
ICE_LENGTH, CARBON_LENGTH, GOLD_LENGTH = 3000.0, 1500.0, 150.0
PHASE_LIMIT = 0.9  # The phase saturates here, because thick crystals are not weak phase objects.
DETECTABILITY = (6.0, 60.0)


@dataclass(frozen=True, kw_only=True)
class MicrographImaging:
    """Parameters of the recording and processing of a micrograph.

    Attributes
    ----------
    defocus, astigmatism, astigmatism_angle
        Defocus (underfocus is positive) and astigmatism in angstrom, and its angle in radians.
    amplitude_contrast, phase_shift
        Amplitude contrast, and phase shift in degrees.
    b_factor
        B-factor of the envelope exp(-b q^2 / 4) in square angstrom.
    dose
        Dose in electrons per square angstrom.
    efficiency
        Product of the detective efficiency and of the contrast that remains after motion.
    structure_noise
        Standard deviation of the structure of the ice relative to that of the shot noise.
    detector_falloff
        Signal and noise at the highest frequency, from 0 to 1.
    finish
        Processing: `raw`, `flat` (background subtracted, 8 bits) or `denoised` (band-passed, 8 bits).
    low_pass, high_pass
        Standard deviations of the Gaussians of `denoised` in particle diameters.
    frame
        Width in pixels of a border that repeats the last row or column, as denoising programs produce it.
    detectability
        Smallest and largest detectability; the dose is changed until that of the exposure lies between.
    """

    defocus: float
    astigmatism: float
    astigmatism_angle: float
    amplitude_contrast: float
    phase_shift: float
    b_factor: float
    dose: float
    efficiency: float
    structure_noise: float
    detector_falloff: float
    finish: str
    low_pass: float
    high_pass: float
    frame: int
    detectability: tuple[float, float] = DETECTABILITY


def draw_micrograph_imaging(
    rng: np.random.Generator, recipe: MicrographRecipe, shape: tuple[int, int]
) -> MicrographImaging:
    """Draw the parameters of recording and processing."""
    easy = recipe is MicrographRecipe.SAMPLE
    finish = "raw" if easy else str(rng.choice(["raw", "flat", "denoised"], p=[0.4, 0.2, 0.4]))
    framed = finish == "denoised" and rng.random() < 0.3
    return MicrographImaging(
        defocus=20000.0 if easy else rng.uniform(7000.0, 40000.0),
        astigmatism=rng.uniform(0.0, 800.0),
        astigmatism_angle=rng.uniform(0, np.pi),
        amplitude_contrast=rng.uniform(0.07, 0.12),
        phase_shift=rng.uniform(40.0, 110.0) if not easy and rng.random() < 0.08 else 0.0,
        b_factor=rng.uniform(40.0, 250.0),
        dose=rng.uniform(15.0, 70.0),
        efficiency=0.5 if easy else log_uniform(rng, 0.05, 0.7),
        structure_noise=rng.uniform(0.1, 0.6),
        detector_falloff=rng.uniform(0.3, 1.0),
        finish=finish,
        low_pass=log_uniform(rng, 0.03, 0.13),
        high_pass=log_uniform(rng, 0.35, 2.0),
        frame=int(rng.integers(4, max(5, min(shape) // 30))) if framed else 0,
    )


class Lens:
    """Contrast transfer and detector response for images of one (y, x) shape."""

    def __init__(self, imaging: MicrographImaging, shape: tuple[int, int], pixel_size: float) -> None:
        self.shape = shape
        fy = scipy.fft.fftfreq(shape[0]).astype(np.float32)[:, None]
        fx = scipy.fft.rfftfreq(shape[1]).astype(np.float32)[None, :]
        frequency_px = np.sqrt(fy**2 + fx**2)
        frequency = frequency_px / np.float32(pixel_size)
        angle = np.arctan2(fy, fx) - np.float32(imaging.astigmatism_angle)
        q2 = np.square(frequency)
        defocus = np.float32(imaging.defocus) + np.float32(imaging.astigmatism) * np.cos(2 * angle)
        phase = np.float32(np.pi * ELECTRON_WAVELENGTH_300KV_ANGSTROM) * defocus * q2
        phase -= (
            np.float32(0.5 * np.pi * SPHERICAL_ABERRATION_ANGSTROM * ELECTRON_WAVELENGTH_300KV_ANGSTROM**3)
            * q2
            * q2
        )
        phase += np.float32(np.arcsin(imaging.amplitude_contrast) + np.deg2rad(imaging.phase_shift))
        transfer = np.sin(phase)
        self.transfer = (transfer * np.exp(-0.25 * imaging.b_factor * frequency**2)).astype(np.float32)
        self.detector = np.exp(np.log(imaging.detector_falloff) * np.square(2 * frequency_px)).astype(
            np.float32
        )

    def image(self, phase: FloatArray) -> FloatArray:
        """Return the (y, x) contrast of a thin object from twice its phase; dense matter is positive."""
        return self._filtered(phase, self.transfer)

    def detect(self, counts: FloatArray) -> FloatArray:
        """Return (y, x) counts after the blur by the detector."""
        return self._filtered(counts, self.detector)

    def _filtered(self, image: FloatArray, weights: FloatArray) -> FloatArray:
        spectrum = scipy.fft.rfft2(image)
        spectrum *= weights
        return np.asarray(scipy.fft.irfft2(spectrum, s=self.shape), np.float32)


def transmitted(surroundings: Surroundings) -> FloatArray:
    """Return the (y, x) share of electrons that the specimen transmits."""
    loss = (surroundings.ice + surroundings.frost) / np.float32(ICE_LENGTH)
    loss += surroundings.carbon / np.float32(CARBON_LENGTH) + surroundings.metal / np.float32(GOLD_LENGTH)
    return np.asarray(np.exp(-loss), np.float32)


def background_phase(surroundings: Surroundings) -> FloatArray:
    """Return twice the saturating phase of everything but particles, (y, x)."""
    volts = (
        FROST_VOLT * surroundings.frost + CARBON_VOLT * surroundings.carbon + GOLD_VOLT * surroundings.metal
    )
    phase = np.float32(CONTRAST_PER_VOLT_ANGSTROM) * volts
    return np.asarray(PHASE_LIMIT * np.tanh(phase / PHASE_LIMIT), np.float32)


def expose(
    rng: np.random.Generator,
    particles: FloatArray,
    surroundings: Surroundings,
    imaging: MicrographImaging,
    *,
    pixel_size: float,
    count: int,
) -> tuple[FloatArray, dict[str, float]]:
    """Simulate the counted electrons of an exposure relative to their mean without a specimen.

    `particles` is the (y, x) thickness of protein in angstrom, and `count` the number of particles, for the
    detectability.

    Returns
    -------
    image, metrics
        (y, x) float32 image in which dense matter is dark; signal-to-noise ratio, counts per pixel and
        detectability. The latter is the square root of (energy of the mean particle / variance of the noise
        per pixel), the signal-to-noise ratio of a matched filter.
    """
    lens = Lens(imaging, particles.shape, pixel_size)
    signal = lens.image(particles * np.float32(CONTRAST_PER_VOLT_ANGSTROM * PROTEIN_OVER_ICE_VOLT))
    rest = lens.image(background_phase(surroundings))
    passed = transmitted(surroundings)
    counts = imaging.dose * imaging.efficiency * pixel_size**2 * float(passed.mean())
    energy = float(np.sum(np.square(signal), dtype=np.float64)) / max(count, 1)
    variance = (1 + imaging.structure_noise**2) / counts
    detectability = float(np.sqrt(energy / variance))
    wanted = float(np.clip(detectability, *imaging.detectability)) if energy > 0 else detectability
    if wanted > 0:
        counts *= (wanted / detectability) ** 2
        variance = (1 + imaging.structure_noise**2) / counts
    grain = rng.standard_normal(particles.shape, dtype=np.float32)
    # The random scattering of amorphous films grows with the square root of their thickness.
    weight = np.sqrt((surroundings.ice + 0.3 * surroundings.frost) / max(float(surroundings.ice.mean()), 1.0))
    weight += np.float32(3.0) * np.sqrt(surroundings.carbon / 150.0)
    grain = lens.image(grain * weight)
    level = float(np.sqrt(np.mean(np.square(lens.transfer))))
    grain *= np.float32(imaging.structure_noise / np.sqrt(counts) / max(level, 1e-6))
    bright = np.clip(passed * np.clip(1 - signal - rest - grain, 0.02, 3.0), 0, None)
    mean = float(bright.mean())
    noise = (
        rng.standard_normal(particles.shape, dtype=np.float32)
        * np.sqrt(bright / np.float32(mean * counts))
        * mean
    )
    metrics = {
        "signal_to_noise": float(signal.var(dtype=np.float64)) / variance,
        "detectability": wanted,
        "counts_per_pixel": counts,
    }
    return lens.detect(bright + noise), metrics


def finish(
    rng: np.random.Generator, image: FloatArray, imaging: MicrographImaging, *, diameter_px: float
) -> tuple[FloatArray, dict[str, float]]:
    """Process a recorded micrograph; return the (y, x) float32 image, and its gain and offset."""
    frame = imaging.frame
    if imaging.finish == "raw":
        shading = 1 + np.float32(rng.uniform(0.0, 0.06)) * _shading(rng, image.shape)
        image = image * shading
        _add_defects(rng, image)
        gain = log_uniform(rng, 1.0, 1000.0)
        offset = float(rng.choice([0.0, rng.uniform(-100, 100), 6800.0])) * gain / 10
        return np.asarray(image * gain + offset, np.float32), {"gain": gain, "offset": offset}
    wide = imaging.high_pass * diameter_px if imaging.finish == "denoised" else 0.12 * min(image.shape)
    image = image - ndimage.gaussian_filter(image, wide, mode="nearest", truncate=2.5)
    if imaging.finish == "denoised":
        image = ndimage.gaussian_filter(image, imaging.low_pass * diameter_px, mode="nearest")
    low, high = np.quantile(image[::3, ::3], [0.25, 0.75])
    spread = float(high - low) / 1.349 or 1.0
    gain = rng.uniform(17.0, 40.0) / spread
    image = np.clip(np.rint(128 + gain * (image - 0.5 * (low + high))), 0, 255)
    if frame:
        image = np.pad(image[frame:-frame, frame:-frame], frame, mode="edge")
    return np.asarray(image, np.float32), {"gain": gain, "offset": 128.0}


def _shading(rng: np.random.Generator, shape: tuple[int, ...]) -> FloatArray:
    coarse = (shape[0] // 16 + 2, shape[1] // 16 + 2)
    field = plane_noise(rng, coarse, spacing_px=max(coarse) / 1.5)
    return np.asarray(ndimage.zoom(field, 16, order=1)[: shape[0], : shape[1]], np.float32)


def _add_defects(rng: np.random.Generator, image: FloatArray) -> None:
    """Add hot and dead pixels in place."""
    n = sometimes(rng, 0.5, 1, 40)
    y, x = rng.integers(0, image.shape[0], n), rng.integers(0, image.shape[1], n)
    image[y, x] = image.mean() * rng.choice([0.0, 3.0, 10.0], n).astype(np.float32)
