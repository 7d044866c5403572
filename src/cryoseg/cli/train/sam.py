"""`cryoseg train head-prompt|prefix-prompt|encoder-prompt|finetune|sam`: train on micrographs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Annotated

from typer import echo

from cryoseg.cli.option_groups import Changes, Shown
from cryoseg.cli.options import Card, Device, Mode0Option, Verbosity
from cryoseg.cli.train.options import RunDir, read_card, say_unfinished
from cryoseg.cli.train.sam_options import (
    AdaptOptions,
    Base,
    Data,
    TrainingMicrographs,
    WholeImage,
    train_on_micrographs,
)
from cryoseg.config import Mode0
from cryoseg.config.prompt_sam import PromptConfig, PromptMethod, parse_blocks
from cryoseg.config.setting import setting
from cryoseg.config.train import LoopConfig, validation_setting
from cryoseg.config.train_sam import (
    PUBLISHED_EPOCHS,
    USUAL_STEPS,
    PretrainConfig,
    SamLoss,
    SampleConfig,
    TrainSamConfig,
)

_LOOP = {
    "steps": f"{USUAL_STEPS}; {PUBLISHED_EPOCHS} epochs if faithful",
    "learning_rate": "the method's",
    "validate_every": "an eighth of --steps; an epoch if faithful",
}


def _train(method: PromptMethod) -> Callable[..., None]:
    """Return the command of a method."""

    def command(
        data: Data,
        *,
        output_dir: RunDir,
        base: Base = "particle-tiny",
        micrographs: TrainingMicrographs,
        loop: Annotated[Changes[LoopConfig], Shown(_LOOP)],
        sample: Annotated[Changes[SampleConfig], Shown({"batch": f"{SampleConfig.batch}; 1 if faithful"})],
        loss: Annotated[
            SamLoss | None,
            setting(help="Loss that is minimized.", shown="dice-bce; dice if faithful"),
        ] = None,
        faithful: Annotated[
            bool,
            setting(help="Take the settings of the released Prompt-SAM scripts, with their defects."),
        ] = False,
        whole_image: WholeImage = False,
        blocks: Annotated[
            str | None,
            setting(
                help="Encoder blocks that get a prompt, such as 0-3,7 (adapters: 0-3:1,4-7:3).", shown="all"
            ),
        ] = None,
        prompt: Changes[PromptConfig],
        run: AdaptOptions,
    ) -> None:
        from cryoseg.methods.particles.files import load_base
        from cryoseg.methods.particles.train import find_base

        place = find_base(base, run.checkpoints_dir)
        geometry, recipe, _ = load_base(place)
        adapted = prompt.over(PromptConfig.faithful(method) if faithful else PromptConfig(method=method))
        if blocks is not None:
            adapted = replace(adapted, blocks=parse_blocks(blocks, method, geometry.depth))
        if faithful:
            if recipe is not None:
                echo("--faithful: the base keeps its own grey values.", err=True)
            images = len(micrographs.split(data, seed=loop.value("seed", default=LoopConfig.seed))[0])
            config = TrainSamConfig.faithful(adapted, images=images)
        else:
            config = TrainSamConfig.ours(adapted, steps=loop.value("steps", default=USUAL_STEPS))
            if whole_image:
                config = replace(config, sample=SampleConfig.plain(batch=config.sample.batch))
        config = replace(
            config,
            loss=loss or config.loss,
            loop=loop.over(config.loop),
            sample=sample.over(config.sample),
        )
        train_on_micrographs(config, place, data, output_dir, micrographs, run)

    name = "finetune" if method is PromptMethod.FINETUNE else f"{method.value}-prompt"
    command.__doc__ = {
        PromptMethod.HEAD: "Adapt a SAM by a U-Net before its encoder.",
        PromptMethod.PREFIX: "Adapt a SAM by learned tokens above its token grid.",
        PromptMethod.ENCODER: "Adapt a SAM by adapters inside its blocks.",
        PromptMethod.FINETUNE: "Fine-tune a SAM's mask decoder, and more of it on request.",
    }[method] + f"\n\nExample: cryoseg train {name} empiar10017 -o runs/{method.value}"
    return command


head_prompt = _train(PromptMethod.HEAD)
prefix_prompt = _train(PromptMethod.PREFIX)
encoder_prompt = _train(PromptMethod.ENCODER)
finetune = _train(PromptMethod.FINETUNE)


def sam(
    data: Data,
    *,
    output_dir: RunDir,
    validation: Annotated[tuple[str, ...], validation_setting(shown="a fifth of the data")] = (),
    start: Annotated[Path | None, setting(help="Model file of this kind to begin with.")] = None,
    config: PretrainConfig,
    mode0: Mode0Option = Mode0.AUTO,
    device: Device = "auto",
    card: Card = None,
    verbosity: Verbosity,
) -> None:
    """Train a small promptable SAM from nothing, on simulated micrographs with numbered particles.

    Example: cryoseg train sam simulated/train --validation simulated/val -o runs/sam
    """
    from cryoseg.methods.device import select_device
    from cryoseg.methods.particles.data import ReadOptions
    from cryoseg.methods.particles.train import MicrographData, pretrain, split_micrographs
    from cryoseg.methods.particles.trained import ModelOutput
    from cryoseg.methods.training.run import Runtime

    with verbosity.console() as console:
        training, held_out = split_micrographs(data, validation, seed=config.loop.seed)
        trained = pretrain(
            replace(config, loop=config.loop.with_short_warmup()),
            MicrographData(
                training=training,
                held_out=held_out,
                read=ReadOptions(particle_pixels=config.particle_pixels, mode0=mode0),
            ),
            output_dir,
            start=start,
            output=ModelOutput(card=read_card(card)),
            runtime=Runtime(device=select_device(device), on_event=console),
        )
    if trained is None:
        say_unfinished()
