"""Options of the trainings that adapt a SAM on micrographs, and what they start."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

from typer import Argument, Option

from cryoseg.cli.console import batch_console
from cryoseg.cli.option_groups import OptionGroup
from cryoseg.cli.options import (
    BATCH_HELP,
    DIAMETER_HELP,
    DIAMETER_PX_HELP,
    LEARNING_RATE_HELP,
    PICKS_HELP,
    POLARITY_HELP,
    STEPS_HELP,
    VALIDATION_HELP,
    Card,
    CheckpointsDir,
    Device,
    Mode0Option,
    PixelSize,
    Quiet,
    Seed,
    Verbose,
)
from cryoseg.cli.train.options import MaxMinutes, read_card, say_unfinished
from cryoseg.config import Mode0
from cryoseg.config.segment import Polarity
from cryoseg.config.train_sam import USUAL_CORE, TrainSamConfig, TrainView
from cryoseg.errors import ConfigError
from cryoseg.methods.weights import GROUPS

if TYPE_CHECKING:
    from cryoseg.methods.particles.data import MicrographPair, ReadOptions
    from cryoseg.methods.particles.recipe import ParticleRecipe

Number = Optional[float]  # noqa: UP045
Whole = Optional[int]  # noqa: UP045
Texts = Optional[list[str]]  # noqa: UP045

Data = Annotated[
    list[str],
    Argument(
        help="Folders with images/ and labels/ (or masks/) of equal names, with train/ and valid/ of that "
        "form, or as simulated; with --picks, images, folders or globs.",
        show_default=False,
    ),
]
Picks = Annotated[
    Optional[list[Path]],  # noqa: UP045
    Option("--picks", "-p", help=PICKS_HELP, show_default="masks are used"),
]
Base = Annotated[
    str, Option("--base", help=f"SAM to adapt: particle-tiny, {', '.join(GROUPS['sam'])}, or a file.")
]
Validation = Annotated[
    Texts,
    Option("--validation", help=VALIDATION_HELP, show_default="a fifth of the data"),
]
Diameter = Annotated[Number, Option("--particle-diameter", help=DIAMETER_HELP)]
DiameterPx = Annotated[
    Number,
    Option("--particle-diameter-px", help=DIAMETER_PX_HELP, show_default="measured in masks"),
]
IgnoreBorder = Annotated[
    int, Option(min=0, help="Frame, in pixels of the images, where particles are not labelled.")
]
Core = Annotated[
    Number,
    Option(
        "--core",
        help="Learn discs of this share of the diameter, so that particles that touch stay apart.",
        show_default=f"{USUAL_CORE:g} with --picks, 1 with masks",
    ),
]
PolarityOption = Annotated[Polarity, Option(help=POLARITY_HELP)]
Steps = Annotated[Whole, Option(min=1, help=STEPS_HELP, show_default="400; 100 epochs if faithful")]
Rate = Annotated[Number, Option("--learning-rate", help=LEARNING_RATE_HELP, show_default="the method's")]
Batch = Annotated[Whole, Option(min=1, help=BATCH_HELP, show_default="4; 1 if faithful")]
WholeImage = Annotated[
    bool, Option("--whole-image", help="Train on whole micrographs as squares, not on tiles.")
]
Standalone = Annotated[bool, Option("--standalone", help="Write the whole network, so no base is needed.")]


@dataclass(frozen=True, kw_only=True)
class TrainingMicrographs(OptionGroup):
    """Micrographs to learn from and to judge by, and how they are read."""

    picks: Picks = None
    validation: Validation = None
    particle_diameter: Diameter = None
    particle_diameter_px: DiameterPx = None
    pixel_size: PixelSize = None
    mode0: Mode0Option = Mode0.AUTO
    polarity: PolarityOption = Polarity.DARK
    ignore_border: IgnoreBorder = 0
    core: Core = None

    def split(self, data: Sequence[str], *, seed: int) -> tuple[list[MicrographPair], list[MicrographPair]]:
        """Those to learn from and those to choose by."""
        from cryoseg.methods.particles.train import split_micrographs

        return split_micrographs(data, self.validation or [], self.picks or [], seed=seed)

    def read(self, recipe: ParticleRecipe | None) -> ReadOptions:
        """How they are read for a base with this recipe; None for a published SAM."""
        from cryoseg.methods.particles.data import ReadOptions

        if None not in (self.particle_diameter, self.particle_diameter_px):
            raise ConfigError("Pass --particle-diameter or --particle-diameter-px, not both.")
        return ReadOptions(
            particle_pixels=24.0 if recipe is None else recipe.particle_pixels,
            diameter_px=self.particle_diameter_px,
            diameter_angstrom=self.particle_diameter,
            pixel_size=self.pixel_size,
            mode0=self.mode0,
            polarity=self.polarity,
            border_px=self.ignore_border,
        )

    def with_core(self, config: TrainSamConfig) -> TrainSamConfig:
        """The settings with the discs to learn: cores only where discs are drawn and can be learned."""
        core = self.core
        if core is None:
            promise = config.prompt.promise
            drawn = bool(self.picks) and config.sample.view is TrainView.TILES
            # Points alone cannot make SAM draw less than a whole particle.
            core = USUAL_CORE if drawn and (promise is None or promise.ips) else 1.0
        return replace(config, core=core)


@dataclass(frozen=True, kw_only=True)
class RunOptions(OptionGroup):
    """How a training runs, whatever it learns."""

    standalone: Standalone = False
    max_minutes: MaxMinutes = None
    device: Device = "auto"
    checkpoints_dir: CheckpointsDir = None
    card: Card = None
    seed: Seed = 0
    quiet: Quiet = False
    verbose: Verbose = False

    def facts(self) -> dict[str, Any] | None:
        """What `--card` says."""
        return read_card(self.card)


def train_on_micrographs(
    config: TrainSamConfig,
    base: Path,
    data: Sequence[str],
    output_dir: Path,
    micrographs: TrainingMicrographs,
    run: RunOptions,
) -> None:
    """Adapt the SAM of a file on micrographs, and say where the training did not come to its end."""
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
    with batch_console(quiet=run.quiet, verbose=run.verbose) as console:
        training, held_out = micrographs.split(data, seed=run.seed)
        trained = train_prompt(
            micrographs.with_core(config),
            base,
            MicrographData(training=training, held_out=held_out, read=micrographs.read(recipe)),
            output_dir,
            output=ModelOutput(standalone=run.standalone, card=run.facts()),
            runtime=Runtime(device=select_device(run.device), on_event=console),
        )
    if trained is None:
        say_unfinished(console)
