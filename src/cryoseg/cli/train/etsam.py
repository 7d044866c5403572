"""`cryoseg train etsam-stage1` and `etsam-stage2`: one stage, of either recipe."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

from typer import Option

from cryoseg.cli.console import batch_console
from cryoseg.cli.option_groups import OptionGroup
from cryoseg.cli.options import (
    BATCH_HELP,
    CLIP_LENGTH_HELP,
    LEARNING_RATE_HELP,
    POLARITY_HELP,
    SAM2_CONFIG_HELP,
    STEPS_HELP,
    VALIDATE_EVERY_HELP,
    Device,
    Mode0Option,
    PrecisionOption,
    Quiet,
    Verbose,
)
from cryoseg.cli.train.options import (
    CropSize,
    Data,
    Devices,
    MaxMinutes,
    RunDir,
    Start,
    Tensorboard,
    Validation,
    membrane_config,
)
from cryoseg.config import Mode0
from cryoseg.config.common import Precision
from cryoseg.config.segment import Polarity
from cryoseg.config.train import ClipConfig, LoopConfig, TrainMembraneConfig
from cryoseg.config.train_sam2 import (
    ClipPrompts,
    Part,
    Recipe,
    Sam2ClipConfig,
    TrainSam2Config,
    etsam_loop,
)
from cryoseg.errors import ConfigError

if TYPE_CHECKING:
    from cryoseg.methods.training.run import Runtime

BY_RECIPE = "by the recipe"
RecipeOption = Annotated[
    Recipe,
    Option(
        help="membrane-tiny: the bundled model's network and settings. etsam: any SAM 2 network with the "
        "published settings. Needs the extra `train`."
    ),
]
Steps = Annotated[Optional[int], Option(min=1, help=STEPS_HELP, show_default=BY_RECIPE)]  # noqa: UP045
LearningRate = Annotated[
    Optional[float],  # noqa: UP045
    Option(help=LEARNING_RATE_HELP, show_default=BY_RECIPE),
]
Batch = Annotated[
    Optional[int],  # noqa: UP045
    Option(min=1, help=BATCH_HELP, show_default=BY_RECIPE),
]
ClipLength = Annotated[
    Optional[int],  # noqa: UP045
    Option(min=1, help=CLIP_LENGTH_HELP, show_default=BY_RECIPE),
]
ValidateEvery = Annotated[
    Optional[int],  # noqa: UP045
    Option(min=1, help=VALIDATE_EVERY_HELP, show_default=BY_RECIPE),
]
SeedOption = Annotated[
    Optional[int],  # noqa: UP045
    Option("--seed", help="Seed of the random numbers (at least 0).", show_default=BY_RECIPE),
]
PolarityOption = Annotated[
    Optional[Polarity],  # noqa: UP045
    Option(help=POLARITY_HELP, show_default=BY_RECIPE),
]
Sam2Config = Annotated[str, Option("--sam2-config", help=SAM2_CONFIG_HELP)]
Prompts = Annotated[
    ClipPrompts,
    Option(help="With --recipe etsam. sam2: clicks, boxes and masks as published. inference: as segment."),
]
Freeze = Annotated[
    Optional[list[Part]],  # noqa: UP045
    Option("--freeze", help="With --recipe etsam: a part that keeps its weights. Repeatable."),
]


@dataclass(frozen=True, kw_only=True)
class StageOptions(OptionGroup):
    """What both commands ask for, besides data and folder."""

    validation: Validation = None
    recipe: RecipeOption = Recipe.MEMBRANE_TINY
    start: Start = None
    steps: Steps = None
    learning_rate: LearningRate = None
    batch: Batch = None
    clip_length: ClipLength = None
    crop_size: CropSize = ClipConfig.size
    validate_every: ValidateEvery = None
    max_minutes: MaxMinutes = None
    polarity: PolarityOption = None
    mode0: Mode0Option = Mode0.AUTO
    sam2_config: Sam2Config = TrainSam2Config.sam2_config
    prompts: Prompts = ClipPrompts.SAM2
    freeze: Freeze = None
    device: Device = "auto"
    devices: Devices = 1
    precision: PrecisionOption = Precision.AUTO
    tensorboard: Tensorboard = False
    seed: SeedOption = None
    quiet: Quiet = False
    verbose: Verbose = False

    def membrane(self, stage: int) -> TrainMembraneConfig:
        """Settings of the bundled model's recipe."""
        values = {
            "steps": LoopConfig.steps,
            "learning_rate": LoopConfig.learning_rate,
            "validate_every": LoopConfig.validate_every,
            "max_minutes": None,
            "seed": LoopConfig.seed,
            "batch": ClipConfig.batch,
            "clip_length": ClipConfig.length,
            **self._loop(),
            **_given(batch=self.batch, clip_length=self.clip_length),
        }
        return membrane_config(stage, crop_size=self.crop_size, **values)

    def refuse_published(self) -> None:
        """Stop at an option that only `--recipe etsam` has a place for.

        Raises
        ------
        ConfigError
            With the option's name.
        """
        given = self.given()
        for name in ("--sam2-config", "--prompts", "--freeze", "--precision"):
            if given[name]:
                raise ConfigError(f"{name}: needs --recipe etsam; the bundled model's recipe has none.")

    def sam2(self, stage: int) -> TrainSam2Config:
        """Settings of the published recipe."""
        clip = replace(Sam2ClipConfig(), **_given(length=self.clip_length, batch=self.batch))
        return TrainSam2Config(
            stage=stage,
            sam2_config=self.sam2_config,
            loop=replace(etsam_loop(stage, batch=clip.batch), **self._loop()),
            clip=clip,
            prompts=self.prompts,
            freeze=tuple(self.freeze or ()),
            precision=self.precision,
        )

    def _loop(self) -> dict[str, Any]:
        return _given(
            steps=self.steps,
            learning_rate=self.learning_rate,
            validate_every=self.validate_every,
            max_minutes=self.max_minutes,
            seed=self.seed,
        )


@dataclass(frozen=True, kw_only=True)
class _Run:
    """One training: what it learns from, where it goes, and how."""

    data: list[str]
    output_dir: Path
    stage: int
    stage1: Path | None
    options: StageOptions


def _given(**values: Any) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def _train(run: _Run) -> None:
    from cryoseg.methods.device import select_device
    from cryoseg.methods.training.processes import launch
    from cryoseg.methods.training.run import Runtime

    options = run.options
    device = select_device(options.device)
    processes = launch(options.devices, device)
    if processes.fabric is not None:
        device = processes.fabric.device
    with batch_console(quiet=options.quiet or not processes.first, verbose=options.verbose) as console:
        train = _train_etsam if options.recipe is Recipe.ETSAM else _train_membrane
        train(
            run,
            Runtime(device=device, processes=processes, tensorboard=options.tensorboard, on_event=console),
        )


def _train_membrane(run: _Run, runtime: Runtime) -> None:
    from cryoseg.methods.membrane_tiny.runs import load_start, write_logits_of_run
    from cryoseg.methods.membrane_tiny.train import train_stage
    from cryoseg.methods.membranes.data import logits_folder, split_pairs
    from cryoseg.methods.membranes.training import TrainingPairs
    from cryoseg.methods.training.loop import BEST

    options, stage = run.options, run.stage
    options.refuse_published()
    config = options.membrane(stage)
    polarity = options.polarity or Polarity.DARK
    training, held_out = split_pairs(
        run.data, options.validation or [], seed=config.loop.seed, mode0=options.mode0
    )
    data = TrainingPairs(training=training, held_out=held_out, polarity=polarity)
    weights = load_start(options.start, stage) if options.start is not None else None
    if run.stage1 is not None:
        data = replace(data, logits=logits_folder(run.output_dir, run.stage1 / BEST, polarity))
        write_logits_of_run(TrainMembraneConfig(stage=1, clip=config.clip), run.stage1, data, runtime)
        weights = weights or load_start(run.stage1 / BEST, 1)
    train_stage(config, data, run.output_dir, start=weights, runtime=runtime)


def _train_etsam(run: _Run, runtime: Runtime) -> None:
    from cryoseg.methods.etsam.train import train_sam2_stage, write_sam2_logits
    from cryoseg.methods.membranes.data import logits_folder, split_pairs
    from cryoseg.methods.membranes.training import TrainingPairs
    from cryoseg.methods.training.loop import BEST
    from cryoseg.methods.weights import canonical_name, require

    options, stage1 = run.options, run.stage1
    config = options.sam2(run.stage)
    start = options.start
    if start is not None and not start.exists() and (known := canonical_name(str(start))) is not None:
        start = require(known)
    polarity = options.polarity or Polarity.AS_IS
    training, held_out = split_pairs(
        run.data, options.validation or [], seed=config.loop.seed, mode0=options.mode0
    )
    data = TrainingPairs(training=training, held_out=held_out, polarity=polarity)
    if stage1 is not None:
        checkpoint = stage1 / BEST if stage1.is_dir() else stage1
        data = replace(data, logits=logits_folder(run.output_dir, checkpoint, polarity))
        write_sam2_logits(config, checkpoint, data, runtime)
    train_sam2_stage(config, data, run.output_dir, start=start, runtime=runtime)


def etsam_stage1(data: Data, output_dir: RunDir, options: StageOptions = StageOptions()) -> None:
    """Train the first stage: tomogram in, logits out.

    Example: cryoseg train etsam-stage1 simulated/train --validation simulated/val -o runs/stage1
    """
    _train(_Run(data=data, output_dir=output_dir, stage=1, stage1=None, options=options))


def etsam_stage2(
    data: Data,
    output_dir: RunDir,
    stage1: Annotated[
        Path, Option("--stage1", help="Stage-1 run (or ETSAM checkpoint) whose logits stage 2 learns from.")
    ],
    options: StageOptions = StageOptions(),
) -> None:
    """Train the second stage: tomogram and stage-1 logits in, better logits out.

    The logits of stage 1 are computed for all volumes first and kept in the run's folder.

    Example: cryoseg train etsam-stage2 simulated/train --stage1 runs/stage1 -o runs/stage2
    """
    _train(_Run(data=data, output_dir=output_dir, stage=2, stage1=stage1, options=options))
