"""`cryoseg train etsam-stage1` and `etsam-stage2`: train SAM 2 networks as in ETSAM."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

from cryoseg.cli.option_groups import Changes, Shown
from cryoseg.cli.options import Verbosity
from cryoseg.cli.train.options import Data, PairTraining, RunDir
from cryoseg.config.segment import Polarity, polarity_setting
from cryoseg.config.setting import setting
from cryoseg.config.train_sam2 import ETSAM_GPUS, TrainSam2Config, etsam_config
from cryoseg.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class StageTraining(PairTraining):
    """Options of both stages besides their settings."""

    polarity: Polarity = polarity_setting(Polarity.AS_IS)
    recipe: str | None = setting(None, help="Only etsam, which needs not be given.", hidden=True)

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
    from cryoseg.methods.membranes import TrainingPairs, logits_folder, split_pairs
    from cryoseg.methods.training.loop import BEST
    from cryoseg.methods.weights import canonical_name, require

    with run.runtime(verbosity) as runtime:
        start = run.start
        if start is not None and not start.exists() and (known := canonical_name(str(start))) is not None:
            start = require(known)
        training, held_out = split_pairs(data, run.validation, seed=config.loop.seed, mode0=run.mode0)
        pairs = TrainingPairs(training=training, held_out=held_out, polarity=run.polarity)
        if stage1 is not None:
            checkpoint = stage1 / BEST if stage1.is_dir() else stage1
            pairs = replace(pairs, logits=logits_folder(folder, checkpoint, run.polarity))
            write_sam2_logits(config, checkpoint, pairs, runtime)
        train_sam2_stage(config, pairs, folder, start=start, runtime=runtime)


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
