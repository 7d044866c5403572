"""Options of the trainings that adapt a SAM on micrographs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from typer import Argument

from cryoseg.cli.options import Verbosity, card_setting
from cryoseg.cli.train.options import read_card, say_unfinished
from cryoseg.config.common import (
    Mode0,
    checkpoints_dir_setting,
    device_setting,
    diameter_px_setting,
    diameter_setting,
    mode0_setting,
    picks_setting,
    pixel_size_setting,
)
from cryoseg.config.segment import Polarity, polarity_setting
from cryoseg.config.setting import Settings, setting
from cryoseg.config.train import validation_setting
from cryoseg.config.train_sam import (
    PARTICLE_PIXELS,
    USUAL_CORE,
    TrainSamConfig,
    TrainView,
    core_setting,
)
from cryoseg.errors import ConfigError
from cryoseg.methods.weights import GROUPS

if TYPE_CHECKING:
    from cryoseg.methods.particles.data import MicrographPair, ReadOptions
    from cryoseg.methods.particles.files import ParticleRecipe

Data = Annotated[
    list[str],
    Argument(
        help="Folders with images/ and labels/ (or masks/) of equal names, with train/ and valid/ of that "
        "form, or as simulated; with --picks, images, folders or globs.",
        show_default=False,
    ),
]
Base = Annotated[str, setting(help=f"SAM to adapt: particle-tiny, {', '.join(GROUPS['sam'])}, or a file.")]
WholeImage = Annotated[bool, setting(help="Train on whole micrographs as squares, not on tiles.")]


@dataclass(frozen=True, kw_only=True)
class TrainingMicrographs(Settings):
    """Micrographs for training and validation, and how they are read."""

    picks: tuple[Path, ...] = picks_setting((), shown="masks are used")
    validation: tuple[str, ...] = validation_setting(shown="a fifth of the data")
    particle_diameter: float | None = diameter_setting()
    particle_diameter_px: float | None = diameter_px_setting(shown="measured in masks")
    pixel_size: float | None = pixel_size_setting()
    polarity: Polarity = polarity_setting(Polarity.DARK)
    mode0: Mode0 = mode0_setting()
    ignore_border: int = setting(
        0, help="Width in pixels of the border of the images where particles are not labeled.", at_least=0
    )
    core: float | None = core_setting(None, shown=f"{USUAL_CORE:g} with --picks, 1 with masks")

    def split(self, data: Sequence[str], *, seed: int) -> tuple[list[MicrographPair], list[MicrographPair]]:
        """Return the micrographs for training, and those for validation."""
        from cryoseg.methods.particles.train import split_micrographs

        return split_micrographs(data, self.validation, self.picks, seed=seed)

    def read(self, recipe: ParticleRecipe | None) -> ReadOptions:
        """Return how micrographs are read for a base with this recipe; None for a published SAM."""
        from cryoseg.methods.particles.data import ReadOptions

        if None not in (self.particle_diameter, self.particle_diameter_px):
            raise ConfigError("Pass --particle-diameter or --particle-diameter-px, not both.")
        return ReadOptions(
            particle_pixels=PARTICLE_PIXELS if recipe is None else recipe.particle_pixels,
            diameter_px=self.particle_diameter_px,
            diameter_angstrom=self.particle_diameter,
            pixel_size=self.pixel_size,
            polarity=self.polarity,
            border_px=self.ignore_border,
            mode0=self.mode0,
        )

    def with_core(self, config: TrainSamConfig) -> TrainSamConfig:
        """Return the settings with the size of the discs; cores are used only if they can be learned."""
        core = self.core
        if core is None:
            promise = config.prompt.promise
            drawn = bool(self.picks) and config.sample.view is TrainView.TILES
            # With points alone, SAM marks whole particles.
            core = USUAL_CORE if drawn and (promise is None or promise.ips) else 1.0
        return replace(config, core=core)


@dataclass(frozen=True, kw_only=True)
class AdaptOptions(Verbosity):
    """Device of the adaptation of a SAM, and contents of the model file."""

    standalone: bool = setting(False, help="Write the whole network, so that no base is needed.")
    device: str = device_setting()
    checkpoints_dir: Path | None = checkpoints_dir_setting()
    card: str | None = card_setting()

    def model_card(self) -> dict[str, Any] | None:
        """Return the entries of `--card` for the model card."""
        return read_card(self.card)


def train_on_micrographs(
    config: TrainSamConfig,
    base: Path,
    data: Sequence[str],
    output_dir: Path,
    micrographs: TrainingMicrographs,
    run: AdaptOptions,
) -> None:
    """Adapt the SAM of a file on micrographs, and report if the time limit ended the training."""
    from cryoseg.methods.device import select_device
    from cryoseg.methods.particles.files import load_base
    from cryoseg.methods.particles.train import MicrographData, train_prompt
    from cryoseg.methods.particles.trained import ModelOutput
    from cryoseg.methods.training.run import Runtime

    recipe = load_base(base)[1]
    if recipe is not None and config.sample.view is TrainView.WHOLE:
        raise ConfigError(
            "--whole-image and --faithful train on color squares and need a published SAM as --base; a base "
            "with a recipe of its own, such as particle-tiny, trains on tiles."
        )
    with run.console() as console:
        training, held_out = micrographs.split(data, seed=config.loop.seed)
        trained = train_prompt(
            micrographs.with_core(config),
            base,
            MicrographData(training=training, held_out=held_out, read=micrographs.read(recipe)),
            output_dir,
            output=ModelOutput(standalone=run.standalone, card=run.model_card()),
            runtime=Runtime(device=select_device(run.device), on_event=console),
        )
    if trained is None:
        say_unfinished()
