"""Options of the trainings that adapt a SAM on micrographs, and what they start."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

from typer import Argument, Option

from cryoseg.cli.console import BatchConsole
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
    PixelSize,
    Quiet,
    Seed,
    Verbose,
)
from cryoseg.cli.train.options import MaxMinutes, read_card
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
Test = Annotated[Texts, Option("--test", help="Data that only judge; makes the run a study.")]
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
TrainSize = Annotated[
    Optional[list[int]],  # noqa: UP045
    Option("--train-size", help="Train on so many micrographs; repeat for a study."),
]
Repeat = Annotated[int, Option("--repeat", min=1, help="Trainings per condition, each with its own draw.")]
Standalone = Annotated[bool, Option("--standalone", help="Write the whole network, so no base is needed.")]


@dataclass(frozen=True, kw_only=True)
class TrainingMicrographs(OptionGroup):
    """Micrographs to learn from and to judge by, and how they are read."""

    picks: Picks = None
    validation: Validation = None
    test: Test = None
    particle_diameter: Diameter = None
    particle_diameter_px: DiameterPx = None
    pixel_size: PixelSize = None
    polarity: PolarityOption = Polarity.DARK
    ignore_border: IgnoreBorder = 0
    core: Core = None

    def split(self, data: Sequence[str], *, seed: int) -> tuple[list[MicrographPair], list[MicrographPair]]:
        """Those to learn from and those to choose by."""
        from cryoseg.methods.particles.train import split_micrographs

        return split_micrographs(data, self.validation or [], self.picks or [], seed=seed)

    def judged(self) -> list[MicrographPair]:
        """Those that only judge."""
        from cryoseg.methods.particles.data import find_micrographs

        parts = find_micrographs(self.test, self.picks or []) if self.test else ()
        return [pair for part in parts for pair in part]

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
class StudyOptions(OptionGroup):
    """Many trainings instead of one."""

    train_size: TrainSize = None
    repeat: Repeat = 1


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


def train_or_study(
    console: BatchConsole,
    config: TrainSamConfig,
    base: Path,
    data: Sequence[str],
    output_dir: Path,
    *,
    recipe: ParticleRecipe | None,
    micrographs: TrainingMicrographs,
    study: StudyOptions,
    run: RunOptions,
    blocks: Sequence[str] = (),
) -> bool:
    """Adapt once, or for every condition of a study; whether the training came to its end.

    Parameters
    ----------
    recipe
        Of the base; None for a published SAM.
    micrographs, study
        Data that only judge make a study, as do sizes, repeats and more than one of `blocks`.
    """
    from cryoseg.methods.particles.train import train_prompt
    from cryoseg.pipelines.study_sam import run_study

    if recipe is not None and config.sample.view is TrainView.WHOLE:
        raise ConfigError(
            "--whole-image and --faithful train on color squares and need a published SAM as --base; a base "
            "with a recipe of its own, such as particle-tiny, trains on tiles."
        )
    training, held_out = micrographs.split(data, seed=run.seed)
    read = micrographs.read(recipe)
    if study.train_size or study.repeat > 1 or micrographs.test or len(blocks) > 1:
        rows = run_study(
            config,
            base,
            training,
            held_out,
            micrographs.judged(),
            output_dir,
            sizes=study.train_size or (),
            repeats=study.repeat,
            blocks=blocks if len(blocks) > 1 else (),
            read=read,
            device=run.device,
            on_event=console,
        )
        console.out.print(f"{output_dir / 'study.csv'}: {len(rows)} trainings", markup=False)
        return True
    trained = train_prompt(
        config,
        base,
        training,
        held_out,
        output_dir,
        read=read,
        standalone=run.standalone,
        device=run.device,
        card=run.facts(),
        on_event=console,
    )
    return trained is not None
