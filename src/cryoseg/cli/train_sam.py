"""`cryoseg train head-prompt|prefix-prompt|encoder-prompt|finetune|sam`: pickers from micrographs."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

from typer import Argument, Option

from cryoseg.cli.console import BatchConsole, batch_console
from cryoseg.cli.options import (
    BATCH_HELP,
    DIAMETER_HELP,
    DIAMETER_PX_HELP,
    LEARNING_RATE_HELP,
    PICKS_HELP,
    POLARITY_HELP,
    STEPS_HELP,
    VALIDATE_EVERY_HELP,
    VALIDATION_HELP,
    Card,
    CheckpointsDir,
    Device,
    PixelSize,
    Quiet,
    Seed,
    Verbose,
)
from cryoseg.cli.train_options import MaxMinutes, RunDir
from cryoseg.config.prompt_sam import PromptConfig, PromptMethod
from cryoseg.config.segment import Polarity
from cryoseg.config.train_sam import (
    USUAL_CORE,
    PretrainConfig,
    SamLoss,
    SampleConfig,
    TrainSamConfig,
    TrainView,
)
from cryoseg.errors import ConfigError
from cryoseg.models.weights import GROUPS

if TYPE_CHECKING:
    from cryoseg.models.particle_recipe import ParticleRecipe
    from cryoseg.pipelines.micrograph_data import MicrographPair

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
LossOption = Annotated[
    Optional[SamLoss],  # noqa: UP045
    Option("--loss", help="dice-bce or dice.", show_default="dice-bce; dice if faithful"),
]
Faithful = Annotated[
    bool,
    Option("--faithful", help="Settings of the released Prompt-SAM scripts, defects that matter included."),
]
WholeImage = Annotated[
    bool, Option("--whole-image", help="Train on whole micrographs as squares, not on tiles.")
]
Blocks = Annotated[
    Texts,
    Option(
        "--blocks",
        help="Encoder blocks that get a prompt, such as 0-3,7 (adapters: 0-3:1, 4-7:3); repeat for a study.",
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
TrainSize = Annotated[
    Optional[list[int]],  # noqa: UP045
    Option("--train-size", help="Train on so many micrographs; repeat for a study."),
]
Repeat = Annotated[int, Option("--repeat", min=1, help="Trainings per condition, each with its own draw.")]
Standalone = Annotated[bool, Option("--standalone", help="Write the whole network, so no base is needed.")]


def _integers(text: str | None, option: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(",")) if text else ()
    except ValueError:
        raise ConfigError(f"{option} {text}: write numbers with commas, such as 4,5.") from None


def with_core(config: TrainSamConfig, core: float | None, picks: Sequence[Path] | None) -> TrainSamConfig:
    """The settings with the discs to learn: cores only where discs are drawn and can be learned."""
    if core is None:
        promise = config.prompt.promise
        drawn = bool(picks) and config.sample.view is TrainView.TILES
        # Points alone cannot make SAM draw less than a whole particle.
        core = USUAL_CORE if drawn and (promise is None or promise.ips) else 1.0
    return replace(config, core=core)


def train_or_study(
    console: BatchConsole,
    config: TrainSamConfig,
    base: Path,
    training: Sequence[MicrographPair],
    held_out: Sequence[MicrographPair],
    run: Path,
    *,
    recipe: ParticleRecipe | None,
    test: Sequence[str],
    picks: Sequence[Path],
    read: dict[str, Any],
    sizes: Sequence[int],
    repeats: int,
    blocks: Sequence[str] = (),
    standalone: bool,
    device: str,
    card: dict[str, Any] | None,
) -> bool:
    """Adapt once, or for every condition of a study; whether the training came to its end.

    Parameters
    ----------
    recipe
        Of the base; None for a published SAM.
    test
        Data that only judge; they make it a study, as do sizes, repeats and more than one of `blocks`.
    read
        Of `ReadOptions`, but for the scale, which is the recipe's.
    """
    from cryoseg.pipelines.micrograph_data import ReadOptions, find_micrographs
    from cryoseg.pipelines.study_sam import run_study
    from cryoseg.pipelines.train_sam import train_prompt

    options = ReadOptions(particle_pixels=24.0 if recipe is None else recipe.particle_pixels, **read)
    if sizes or repeats > 1 or test or len(blocks) > 1:
        judged = [pair for part in find_micrographs(test, picks) for pair in part] if test else []
        rows = run_study(
            config,
            base,
            training,
            held_out,
            judged,
            run,
            sizes=sizes,
            repeats=repeats,
            blocks=blocks if len(blocks) > 1 else (),
            read=options,
            device=device,
            on_event=console,
        )
        console.out.print(f"{run / 'study.csv'}: {len(rows)} trainings", markup=False)
        return True
    trained = train_prompt(
        config,
        base,
        training,
        held_out,
        run,
        read=options,
        standalone=standalone,
        device=device,
        card=card,
        on_event=console,
    )
    return trained is not None


def _train(method: PromptMethod) -> Callable[..., None]:
    """The command of a method; the four differ in the method only."""

    def command(
        data: Data,
        output_dir: RunDir,
        base: Base = "particle-tiny",
        picks: Picks = None,
        validation: Validation = None,
        test: Test = None,
        particle_diameter: Diameter = None,
        particle_diameter_px: DiameterPx = None,
        pixel_size: PixelSize = None,
        polarity: PolarityOption = Polarity.DARK,
        ignore_border: IgnoreBorder = 0,
        core: Core = None,
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
        train_size: TrainSize = None,
        repeat: Repeat = 1,
        standalone: Standalone = False,
        max_minutes: MaxMinutes = None,
        device: Device = "auto",
        checkpoints_dir: CheckpointsDir = None,
        card: Card = None,
        seed: Seed = 0,
        quiet: Quiet = False,
        verbose: Verbose = False,
    ) -> None:
        from cryoseg.models.particle_files import load_base
        from cryoseg.pipelines.study_sam import parse_blocks
        from cryoseg.pipelines.train_sam import find_base, split_micrographs

        with batch_console(quiet=quiet, verbose=verbose) as console:
            place = find_base(base, checkpoints_dir)
            geometry, recipe, _ = load_base(place)
            training, held_out = split_micrographs(data, validation or [], picks or [], seed=seed)
            options: dict[str, Any] = {
                "num_tokens": num_tokens,
                "tuned_blocks": _integers(tuned_blocks, "--tuned-blocks"),
                "tune_prompt_encoder": tune_prompt_encoder,
            }
            if blocks and len(blocks) == 1:
                options["blocks"] = parse_blocks(blocks[0], method, geometry.depth)
            if train_decoder:
                options["train_decoder"] = True
            limits: dict[str, Any] = {"max_minutes": max_minutes}
            if faithful:
                if recipe is not None:
                    console.err.print("--faithful: the base keeps its own grey values.", markup=False)
                images = min(train_size) if train_size else len(training)
                prompt = PromptConfig.faithful(method, **options)
                config = TrainSamConfig.faithful(prompt, images=images, seed=seed, **limits)
            else:
                prompt = PromptConfig(method=method, **options)
                config = TrainSamConfig.ours(prompt, steps=steps or 400, seed=seed, **limits)
                if whole_image:
                    config = replace(config, sample=SampleConfig.plain(batch=config.sample.batch))
            loop = config.loop
            config = replace(
                config,
                loss=loss or config.loss,
                loop=replace(
                    loop,
                    steps=steps or loop.steps,
                    learning_rate=learning_rate or loop.learning_rate,
                ),
                sample=replace(config.sample, batch=batch or config.sample.batch),
            )
            config = with_core(config, core, picks)
            if recipe is not None and config.sample.view is TrainView.WHOLE:
                raise ConfigError(
                    "--whole-image and --faithful train on color squares and need a published SAM as --base; "
                    "a base with a recipe of its own, such as particle-tiny, trains on tiles."
                )
            is_finished = train_or_study(
                console,
                config,
                place,
                training,
                held_out,
                output_dir,
                recipe=recipe,
                test=test or [],
                picks=picks or [],
                read={
                    "diameter_px": particle_diameter_px,
                    "diameter_angstrom": particle_diameter,
                    "pixel_size": pixel_size,
                    "polarity": polarity,
                    "border_px": ignore_border,
                },
                sizes=train_size or (),
                repeats=repeat,
                blocks=blocks or (),
                standalone=standalone,
                device=device,
                card=json.loads(card) if card else None,
            )
        if not is_finished:
            console.err.print("Stopped at --max-minutes; the same command goes on.", markup=False)

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
    seed: Seed = 0,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Train a small promptable SAM from nothing, on simulated micrographs with numbered particles.

    Example: cryoseg train sam simulated/train --validation simulated/val -o runs/sam
    """
    from cryoseg.pipelines.train_sam import pretrain, split_micrographs

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
            training,
            held_out,
            output_dir,
            start=start,
            device=device,
            card=json.loads(card) if card else None,
            on_event=console,
        )
    if trained is None:
        console.err.print("Stopped at --max-minutes; the same command goes on.", markup=False)
