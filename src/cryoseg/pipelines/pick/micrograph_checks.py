"""Check that particles can be picked in a micrograph."""

from __future__ import annotations

from dataclasses import replace

from cryoseg.config.pick_micrograph import SMALLEST_PARTICLE_PX, MicrographPickConfig, PickView
from cryoseg.core.grids.blank import find_blank_pixels, signal_box
from cryoseg.core.grids.robust import view_shape
from cryoseg.core.picking.contrast import is_constant
from cryoseg.errors import InputError
from cryoseg.events import OnEvent, Warn, ignore
from cryoseg.io.images.memory import GIB, available_memory
from cryoseg.methods.particles.files import ParticleRecipe
from cryoseg.types import BoolArray, Micrograph

MOST_ENLARGED = 2.5  # a larger factor takes long and adds no detail
VIEW_BYTES = 40  # per pixel at the scale of the network; measured with tracemalloc
LARGEST_PARTICLE = 0.5  # fraction of the shorter side of the image


def check_micrograph(
    micrograph: Micrograph,
    recipe: ParticleRecipe,
    config: MicrographPickConfig,
    *,
    on_event: OnEvent = ignore,
) -> BoolArray | None:
    """Check a micrograph, with the errors of `pick_micrograph`; return its blank pixels (y, x), if any."""
    blank = find_blank_pixels(micrograph.data)
    if is_constant(micrograph.data) or (blank is not None and blank.all()):
        raise InputError(
            f"{micrograph.source}: every pixel has the value {float(micrograph.data.flat[0]):g}; there is "
            "no signal. Export the image again."
        )
    signal = micrograph if blank is None else replace(micrograph, data=micrograph.data[signal_box(blank)])
    diameter = particle_diameter(signal, config)
    if diameter is None and not recipe.score_threshold:
        raise InputError(
            "--particle-diameter auto: needs a model with calibrated scores, such as particle-mixed. Give "
            "the diameter."
        )
    if diameter is not None and config.view is not PickView.WHOLE:
        _check_scale(signal, recipe, diameter, on_event)
    for option, length in (
        ("--low-pass", config.low_pass_angstrom),
        ("--min-distance", config.min_distance_angstrom),
        ("--border", config.border_angstrom),
    ):
        if length:
            length_in_pixels(length, micrograph, config, option)
    return blank


def length_in_pixels(
    length_angstrom: float, micrograph: Micrograph, config: MicrographPickConfig, option: str
) -> float:
    """Convert a length in angstrom to pixels of the micrograph.

    Raises
    ------
    InputError
        If the pixel size is unknown; the message names `option`.
    """
    size = config.pixel_size or micrograph.pixel_size
    if size <= 0:
        raise InputError(
            f"{micrograph.source}: {option} is in angstrom, and the file gives no pixel size. Pass "
            "--pixel-size."
        )
    return length_angstrom / size


def particle_diameter(micrograph: Micrograph, config: MicrographPickConfig) -> float | None:
    """Return the given diameter of the particle in pixels of the micrograph; None for `auto`.

    Raises
    ------
    InputError
        If the particle is larger than half of the image or smaller than five pixels, or the pixel size
        is needed but unknown.
    """
    if config.estimates_diameter:
        return None
    if config.particle_diameter_px is not None:
        diameter, how = config.particle_diameter_px, "--particle-diameter-px"
    else:
        angstrom = config.particle_diameter_angstrom or 0.0
        diameter = length_in_pixels(angstrom, micrograph, config, "--particle-diameter")
        size = config.pixel_size or micrograph.pixel_size
        how = f"--particle-diameter {angstrom:g} A at {size:.4g} A per pixel"
    height, width = micrograph.data.shape
    if diameter > LARGEST_PARTICLE * min(height, width):
        raise InputError(
            f"{micrograph.source}: a particle would be {diameter:.0f} pixels wide ({how}) in an image of "
            f"{width} x {height}. Check --particle-diameter and --pixel-size."
        )
    if diameter < SMALLEST_PARTICLE_PX:
        raise InputError(
            f"{micrograph.source}: a particle would be {diameter:.1f} pixels wide ({how}), too small to "
            "be seen. Check --particle-diameter and --pixel-size."
        )
    return diameter


def _check_scale(micrograph: Micrograph, recipe: ParticleRecipe, diameter: float, on_event: OnEvent) -> None:
    """Warn if an image must be enlarged much, and refuse it if it does not fit into memory then."""
    if recipe.particle_pixels / diameter <= MOST_ENLARGED:
        return
    height, width = micrograph.data.shape
    rows, columns = view_shape((height, width), diameter_px=diameter, particle_pixels=recipe.particle_pixels)
    found = (
        f"the particle is {diameter:.0f} pixels wide and the model needs {recipe.particle_pixels:g}, so "
        f"the image is enlarged to {columns} x {rows}"
    )
    advice = "Check --particle-diameter and --pixel-size, or use less binned images."
    needed, free = VIEW_BYTES * rows * columns, available_memory()
    if free is not None and needed > free:
        raise InputError(
            f"{micrograph.source}: {found}; that needs {needed / GIB:.1f} GiB of memory, and "
            f"{free / GIB:.1f} GiB are free. {advice}"
        )
    on_event(Warn(text=f"{micrograph.source.name}: {found}, which takes long and adds no detail. {advice}"))
