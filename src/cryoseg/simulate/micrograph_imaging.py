"""From thickness maps to a micrograph: contrast, electrons, detector, and what is done after."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.fft
from scipy import ndimage

from cryoseg.config.simulate_micrographs import MicrographRecipe
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
# Lengths after which 1/e of the electrons is left in a zero-loss image, angstrom, rounded.
ICE_LENGTH, CARBON_LENGTH, GOLD_LENGTH = 3000.0, 1500.0, 150.0
PHASE_LIMIT = 0.9  # thicker crystals are no weak phase objects; beyond this their phase saturates
DETECTABILITY = (6.0, 60.0)


@dataclass(frozen=True, kw_only=True)
class MicrographImaging:
    """One way of recording a micrograph, and of treating it afterwards.

    Attributes
    ----------
    defocus, astigmatism, astigmatism_angle
        Angstrom (underfocus positive), angstrom, radian.
    amplitude_contrast, phase_shift
        The latter in degrees.
    b_factor
        Envelope exp(-b q^2 / 4), square angstrom.
    dose
        Electrons per square angstrom.
    efficiency
        Share of them that the detector counts, and of the contrast that motion has left, in one.
    structure_noise
        Deviation of the ice's own granularity, relative to that of counting.
    detector_falloff
        Signal and noise that are left at the highest frequency.
    finish
        `raw`, `flat` (background taken off, 8 bit) or `denoised` (band-passed, 8 bit).
    low_pass, high_pass
        Deviations of the Gaussians of `denoised`, in particle diameters.
    frame
        Pixels at each side that repeat the image's edge, as denoising scripts leave them.
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


def draw_micrograph_imaging(
    rng: np.random.Generator, recipe: MicrographRecipe, shape: tuple[int, int]
) -> MicrographImaging:
    """A microscope, a dose, and a way of treating images."""
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
    """The microscope's transfer for images of one shape, (y, x) pixels."""

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
        """Contrast of a thin phase object, (y, x), given as twice its phase; dense is positive."""
        spectrum = scipy.fft.rfft2(phase)
        spectrum *= self.transfer
        return np.asarray(scipy.fft.irfft2(spectrum, s=self.shape), np.float32)

    def detect(self, counts: FloatArray) -> FloatArray:
        """(y, x) counts, blurred by the detector."""
        spectrum = scipy.fft.rfft2(counts)
        spectrum *= self.detector
        return np.asarray(scipy.fft.irfft2(spectrum, s=self.shape), np.float32)


def transmitted(surroundings: Surroundings) -> FloatArray:
    """Share of the electrons that pass, (y, x)."""
    loss = (surroundings.ice + surroundings.frost) / np.float32(ICE_LENGTH)
    loss += surroundings.carbon / np.float32(CARBON_LENGTH) + surroundings.metal / np.float32(GOLD_LENGTH)
    return np.asarray(np.exp(-loss), np.float32)


def background_phase(surroundings: Surroundings) -> FloatArray:
    """(y, x) twice the phase of everything but particles, saturating."""
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
    """Counted electrons of one exposure, relative to their mean without specimen.

    Parameters
    ----------
    particles
        (y, x) thickness of protein in angstrom.
    surroundings
        The rest.
    count
        How many particles there are, for the detectability.

    Returns
    -------
    image, figures
        (y, x) float32, dense is dark. The signal-to-noise ratio, and the detectability: of a matched
        filter, the square root of (energy of the mean particle / noise per pixel).
    """
    lens = Lens(imaging, particles.shape, pixel_size)
    signal = lens.image(particles * np.float32(CONTRAST_PER_VOLT_ANGSTROM * PROTEIN_OVER_ICE_VOLT))
    rest = lens.image(background_phase(surroundings))
    passed = transmitted(surroundings)
    counts = imaging.dose * imaging.efficiency * pixel_size**2 * float(passed.mean())
    energy = float(np.sum(np.square(signal), dtype=np.float64)) / max(count, 1)
    variance = (1 + imaging.structure_noise**2) / counts
    detectability = float(np.sqrt(energy / variance))
    wanted = float(np.clip(detectability, *DETECTABILITY)) if energy > 0 else detectability
    if wanted > 0:
        counts *= (wanted / detectability) ** 2
        variance = (1 + imaging.structure_noise**2) / counts
    grain = rng.standard_normal(particles.shape, dtype=np.float32)
    # Amorphous films scatter at random; how much grows with the root of what lies in the beam.
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
    figures = {
        "signal_to_noise": float(signal.var(dtype=np.float64)) / variance,
        "detectability": wanted,
        "counts_per_pixel": counts,
    }
    return lens.detect(bright + noise), figures


def finish(
    rng: np.random.Generator, image: FloatArray, imaging: MicrographImaging, *, diameter_px: float
) -> tuple[FloatArray, dict[str, float]]:
    """What is done to a micrograph between the camera and the picker.

    Returns
    -------
    image, figures
        (y, x) float32, and gain and offset.
    """
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
    """Hot and dead pixels, in place."""
    n = sometimes(rng, 0.5, 1, 40)
    y, x = rng.integers(0, image.shape[0], n), rng.integers(0, image.shape[1], n)
    image[y, x] = image.mean() * rng.choice([0.0, 3.0, 10.0], n).astype(np.float32)
