"""`cryoseg train membrane|etsam-stage1|etsam-stage2`: train networks that segment membranes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cryoseg.cli.option_groups import Changes, Shown
from cryoseg.cli.options import Verbosity
from cryoseg.cli.train.options import (
    Data,
    ModelCard,
    PairTraining,
    PolarityOption,
    RunDir,
    read_model_card,
    report_end,
)
from cryoseg.config.segment import Polarity, polarity_setting
from cryoseg.config.setting import Settings, setting
from cryoseg.config.train import (
    ETSAM_GPUS,
    ClipConfig,
    LoopConfig,
    MembraneStage,
    TrainMembraneConfig,
    TrainSam2Config,
    etsam_config,
)
from cryoseg.errors import ConfigError

if TYPE_CHECKING:
    from cryoseg.methods.membranes import TrainingPairs
    from cryoseg.methods.training.run import Runtime


@dataclass(frozen=True, kw_only=True)
class StageOptions(Settings):
    """Stages to train."""

    stage: MembraneStage = setting(
        MembraneStage.BOTH, help="Train both stages and pack them into one model file, or one stage alone."
    )
    stage1: Path | None = setting(
        None, help="With --stage 2: folder of the stage-1 run whose logits stage 2 learns from."
    )
    stage2_steps: int | None = setting(
        None, help="With --stage both: number of steps of stage 2.", at_least=1, shown="half of --steps"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if (self.stage is MembraneStage.SECOND) != (self.stage1 is not None):
            raise ConfigError("--stage 2 and --stage1 go together: give both, or neither.")
        if self.stage is not MembraneStage.BOTH and self.stage2_steps is not None:
            raise ConfigError(f"--stage2-steps: is for --stage both; give --steps with --stage {self.stage}.")

    def configs(self, loop: LoopConfig, clip: ClipConfig) -> list[TrainMembraneConfig]:
        """Return the settings of the stages; stage 2 has half of the steps and the learning rate."""
        first = TrainMembraneConfig(stage=1, loop=loop.with_short_warmup(), clip=clip)
        if self.stage is not MembraneStage.BOTH:
            return [replace(first, stage=int(self.stage))]
        steps = self.stage2_steps or max(1, loop.steps // 2)
        shorter = replace(loop, steps=steps, learning_rate=loop.learning_rate / 2)
        return [first, TrainMembraneConfig(stage=2, loop=shorter.with_short_warmup(), clip=clip)]


def membrane(
    data: Data,
    *,
    output_dir: RunDir,
    stages: StageOptions,
    run: PairTraining,
    loop: LoopConfig,
    clip: ClipConfig,
    polarity: PolarityOption = Polarity.DARK,
    model_card: ModelCard = None,
    verbosity: Verbosity,
) -> None:
    """Train membrane-tiny: both stages, into one model file for `cryoseg segment --model FILE`.

    A stage that is trained alone leaves a run, and `cryoseg train package` packs two of them.

    Example: cryoseg train membrane my_pairs -o runs/mine --start membrane-tiny --steps 300
    """
    from cryoseg.methods.membrane_tiny.train import train_membrane
    from cryoseg.methods.membranes import TrainingPairs

    if stages.stage is MembraneStage.BOTH and run.devices > 1:
        raise ConfigError("--devices: is for one stage; add --stage 1 or --stage 2.")
    if stages.stage is not MembraneStage.BOTH and model_card is not None:
        raise ConfigError(
            "--model-card: is for the packed model; give it with --stage both, or to train package."
        )
    configs = stages.configs(loop, clip)
    with run.runtime(verbosity) as runtime:
        training, held_out = run.pairs(data, seed=loop.seed)
        pairs = TrainingPairs(training=training, held_out=held_out, polarity=polarity)
        if stages.stage is not MembraneStage.BOTH:
            _train_one(configs[0], pairs, output_dir, run.start, stages.stage1, runtime)
            return
        model = train_membrane(
            (configs[0], configs[1]),
            pairs,
            output_dir,
            start=run.start,
            card=read_model_card(model_card),
            runtime=runtime,
        )
    report_end(model)


def _train_one(
    config: TrainMembraneConfig,
    data: TrainingPairs,
    folder: Path,
    start: Path | None,
    stage1: Path | None,
    runtime: Runtime,
) -> None:
    from cryoseg.methods.membrane_tiny.train import load_start, train_stage, write_logits_of_run
    from cryoseg.methods.membranes import logits_folder
    from cryoseg.methods.training.loop import BEST

    weights = load_start(start, config.stage) if start is not None else None
    if stage1 is not None:
        data = replace(data, logits=logits_folder(folder, stage1 / BEST, data.polarity))
        write_logits_of_run(TrainMembraneConfig(stage=1, clip=config.clip), stage1, data, runtime)
        weights = weights or load_start(stage1 / BEST, 1)
    train_stage(config, data, folder, start=weights, runtime=runtime)


@dataclass(frozen=True, kw_only=True)
class StageTraining(PairTraining):
    """Options of both stages besides their settings."""

    polarity: Polarity = polarity_setting(Polarity.AS_IS)
    recipe: str | None = setting(None, help="Recipe of the training, which is etsam.", hidden=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.recipe not in (None, "etsam"):
            raise ConfigError(
                f"--recipe {self.recipe}: this command trains ETSAM. Train {self.recipe} with `cryoseg train "
                "membrane`, one stage with --stage 1 or --stage 2."
            )


def _train(
    data: Sequence[str],
    folder: Path,
    config: TrainSam2Config,
    run: StageTraining,
    verbosity: Verbosity,
    *,
    stage1: Path | None = None,
) -> None:
    from cryoseg.methods.etsam.train import train_sam2_stage, write_sam2_logits
    from cryoseg.methods.membranes import TrainingPairs, logits_folder
    from cryoseg.methods.training.loop import BEST

    with run.runtime(verbosity) as runtime:
        training, held_out = run.pairs(data, seed=config.loop.seed)
        pairs = TrainingPairs(training=training, held_out=held_out, polarity=run.polarity)
        if stage1 is not None:
            checkpoint = stage1 / BEST if stage1.is_dir() else stage1
            pairs = replace(pairs, logits=logits_folder(folder, checkpoint, run.polarity))
            write_sam2_logits(config, checkpoint, pairs, runtime)
        train_sam2_stage(config, pairs, folder, start=run.start, runtime=runtime)


def _config(stage: int, changes: Changes[TrainSam2Config]) -> TrainSam2Config:
    """Return the published settings for the number of clips in a step, with the given changes."""
    batch = changes.value("clip", "batch", default=ETSAM_GPUS)
    return changes.over(etsam_config(stage, batch=batch))


def etsam_stage1(
    data: Data,
    *,
    output_dir: RunDir,
    changes: Annotated[Changes[TrainSam2Config], Shown({}, base=etsam_config(1))],
    run: StageTraining,
    verbosity: Verbosity,
) -> None:
    """Train the first stage of ETSAM, any SAM 2 network: tomogram in, logits out.

    Example: cryoseg train etsam-stage1 simulated/train --validation simulated/val -o runs/stage1
    """
    _train(data, output_dir, _config(1, changes), run, verbosity)


def etsam_stage2(
    data: Data,
    *,
    output_dir: RunDir,
    stage1: Annotated[Path, setting(help="Stage-1 run, or checkpoint, whose logits stage 2 learns from.")],
    changes: Annotated[Changes[TrainSam2Config], Shown({}, base=etsam_config(2))],
    run: StageTraining,
    verbosity: Verbosity,
) -> None:
    """Train the second stage of ETSAM: tomogram and stage-1 logits in, better logits out.

    The logits of stage 1 are computed for all volumes first and kept in the run's folder.

    Example: cryoseg train etsam-stage2 simulated/train --stage1 runs/stage1 -o runs/stage2
    """
    _train(data, output_dir, _config(2, changes), run, verbosity, stage1=stage1)
