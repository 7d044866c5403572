"""`cryoseg train head-prompt|prefix-prompt|encoder-prompt|finetune|sam`: pickers from micrographs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Optional

from typer import Option, echo

from cryoseg.cli.console import batch_console
from cryoseg.cli.options import (
    BATCH_HELP,
    LEARNING_RATE_HELP,
    STEPS_HELP,
    VALIDATE_EVERY_HELP,
    Card,
    Device,
    Mode0Option,
    Quiet,
    Seed,
    Verbose,
)
from cryoseg.cli.train.options import MaxMinutes, RunDir, read_card, say_unfinished
from cryoseg.cli.train.sam_options import (
    Base,
    Batch,
    Data,
    Rate,
    RunOptions,
    Steps,
    TrainingMicrographs,
    Validation,
    Whole,
    WholeImage,
    train_on_micrographs,
)
from cryoseg.config import Mode0
from cryoseg.config.prompt_sam import PromptConfig, PromptMethod, parse_blocks
from cryoseg.config.train_sam import PretrainConfig, SamLoss, SampleConfig, TrainSamConfig
from cryoseg.errors import ConfigError

LossOption = Annotated[
    Optional[SamLoss],  # noqa: UP045
    Option("--loss", help="dice-bce or dice.", show_default="dice-bce; dice if faithful"),
]
Faithful = Annotated[
    bool,
    Option("--faithful", help="Settings of the released Prompt-SAM scripts, defects that matter included."),
]
Blocks = Annotated[
    Optional[str],  # noqa: UP045
    Option(
        "--blocks",
        help="Encoder blocks that get a prompt, such as 0-3,7 (adapters: 0-3:1,4-7:3).",
        show_default="all",
    ),
]
NumTokens = Annotated[
    Whole, Option(min=1, help="Prefix: tokens per block; rows of the grid.", show_default="one row")
]
TunedBlocks = Annotated[
    Optional[str],  # noqa: UP045
    Option(
        help="Finetune: encoder blocks to train beside the mask decoder, such as 4,5.", show_default="none"
    ),
]
TunePrompts = Annotated[bool, Option("--tune-prompt-encoder", help="Finetune: train the prompt encoder too.")]
TrainDecoder = Annotated[bool, Option("--train-decoder", help="Train the mask decoder beside the prompt.")]


def _integers(text: str | None, option: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(",")) if text else ()
    except ValueError:
        raise ConfigError(f"{option} {text}: write numbers with commas, such as 4,5.") from None


def _train(method: PromptMethod) -> Callable[..., None]:
    """The command of a method; the four differ in the method only."""

    def command(
        data: Data,
        output_dir: RunDir,
        base: Base = "particle-tiny",
        micrographs: TrainingMicrographs = TrainingMicrographs(),
        steps: Steps = None,
        learning_rate: Rate = None,
        batch: Batch = None,
        loss: LossOption = None,
        faithful: Faithful = False,
        whole_image: WholeImage = False,
        blocks: Blocks = None,
        num_tokens: NumTokens = None,
        tuned_blocks: TunedBlocks = None,
        tune_prompt_encoder: TunePrompts = False,
        train_decoder: TrainDecoder = False,
        run: RunOptions = RunOptions(),
    ) -> None:
        from cryoseg.methods.particles.files import load_base
        from cryoseg.methods.particles.train import find_base

        place = find_base(base, run.checkpoints_dir)
        geometry, recipe, _ = load_base(place)
        options: dict[str, Any] = {
            "num_tokens": num_tokens,
            "tuned_blocks": _integers(tuned_blocks, "--tuned-blocks"),
            "tune_prompt_encoder": tune_prompt_encoder,
        }
        if blocks is not None:
            options["blocks"] = parse_blocks(blocks, method, geometry.depth)
        if train_decoder:
            options["train_decoder"] = True
        limits: dict[str, Any] = {"seed": run.seed, "max_minutes": run.max_minutes}
        if faithful:
            if recipe is not None:
                echo("--faithful: the base keeps its own grey values.", err=True)
            images = len(micrographs.split(data, seed=run.seed)[0])
            config = TrainSamConfig.faithful(
                PromptConfig.faithful(method, **options), images=images, **limits
            )
        else:
            config = TrainSamConfig.ours(PromptConfig(method=method, **options), steps=steps or 400, **limits)
            if whole_image:
                config = replace(config, sample=SampleConfig.plain(batch=config.sample.batch))
        loop = config.loop
        config = replace(
            config,
            loss=loss or config.loss,
            loop=replace(loop, steps=steps or loop.steps, learning_rate=learning_rate or loop.learning_rate),
            sample=replace(config.sample, batch=batch or config.sample.batch),
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

_DEFAULT = PretrainConfig()


def sam(
    data: Data,
    output_dir: RunDir,
    validation: Validation = None,
    start: Annotated[
        Optional[Path],  # noqa: UP045
        Option("--start", help="Model file of this kind to begin with."),
    ] = None,
    steps: Annotated[int, Option(min=1, help=STEPS_HELP)] = _DEFAULT.loop.steps,
    learning_rate: Annotated[float, Option(help=LEARNING_RATE_HELP)] = _DEFAULT.loop.learning_rate,
    batch: Annotated[int, Option(min=1, help=BATCH_HELP)] = _DEFAULT.sample.batch,
    prompts: Annotated[
        int, Option(min=0, help="Particles per tile that are asked for by points, and by boxes.")
    ] = _DEFAULT.prompts,
    validate_every: Annotated[int, Option(min=1, help=VALIDATE_EVERY_HELP)] = _DEFAULT.loop.validate_every,
    max_minutes: MaxMinutes = None,
    device: Device = "auto",
    card: Card = None,
    mode0: Mode0Option = Mode0.AUTO,
    seed: Seed = 0,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Train a small promptable SAM from nothing, on simulated micrographs with numbered particles.

    Example: cryoseg train sam simulated/train --validation simulated/val -o runs/sam
    """
    from cryoseg.methods.device import select_device
    from cryoseg.methods.particles.data import ReadOptions
    from cryoseg.methods.particles.train import MicrographData, pretrain, split_micrographs
    from cryoseg.methods.particles.trained import ModelOutput
    from cryoseg.methods.training.run import Runtime

    config = replace(
        _DEFAULT,
        prompts=prompts,
        sample=replace(_DEFAULT.sample, batch=batch),
        loop=replace(
            _DEFAULT.loop,
            steps=steps,
            learning_rate=learning_rate,
            warmup_steps=min(_DEFAULT.loop.warmup_steps, steps // 10),
            validate_every=validate_every,
            max_minutes=max_minutes,
            seed=seed,
        ),
    )
    with batch_console(quiet=quiet, verbose=verbose) as console:
        training, held_out = split_micrographs(data, validation or [], seed=seed)
        trained = pretrain(
            config,
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
        say_unfinished(console)
