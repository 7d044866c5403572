"""`cryoseg train promise`: a SAM that prompts itself, for micrographs and for ordinary pictures."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Optional

from typer import Argument, Option

from cryoseg.cli.console import batch_console
from cryoseg.cli.options import Card, CheckpointsDir, Device, PixelSize, Quiet, Seed, Verbose
from cryoseg.cli.picture_options import PREPARE_HELP
from cryoseg.cli.train_options import MaxMinutes, RunDir
from cryoseg.cli.train_sam import (
    Base,
    Batch,
    Core,
    Diameter,
    DiameterPx,
    IgnoreBorder,
    Picks,
    PolarityOption,
    Rate,
    Repeat,
    Standalone,
    Steps,
    Test,
    TrainSize,
    Validation,
    WholeImage,
    train_or_study,
    with_core,
)
from cryoseg.config.promise import ApmKind, FreezeType, PromiseConfig, Prompter
from cryoseg.config.prompt_sam import PromptConfig, PromptMethod
from cryoseg.config.segment import Polarity
from cryoseg.config.train_sam import SamLoss, SampleConfig, TrainSamConfig, TrainView
from cryoseg.errors import ConfigError

_DEFAULT = PromiseConfig()


def _refuse(reason: str, options: Mapping[str, object]) -> None:
    """Stop at the first option that was given though it means nothing here."""
    for name, value in options.items():
        if value:
            raise ConfigError(f"{name}: {reason}.")


def promise(
    data: Annotated[
        list[str],
        Argument(
            help="Micrographs as for head-prompt, or CSV lists of pictures with the columns image_name, "
            "train_type (train, val or test) and mask_name.",
            show_default=False,
        ),
    ],
    output_dir: RunDir,
    base: Base = "particle-tiny",
    prompter: Annotated[
        Prompter,
        Option(
            help="apm: a network places the points. gt: points drawn from the true mask, an upper bound and "
            "never an automatic result. grid, none: with --ips only."
        ),
    ] = _DEFAULT.prompter,
    ips: Annotated[
        bool, Option("--ips/--no-ips", help="Shift SAM's mask tokens by what the image holds.")
    ] = _DEFAULT.ips,
    points: Annotated[int, Option("--points", help="K, points per tile or picture.")] = _DEFAULT.points,
    apm: Annotated[ApmKind, Option(help="The network that places points.")] = _DEFAULT.apm,
    freeze: Annotated[
        FreezeType,
        Option(
            help="fz0: SAM is frozen. fz1: its prompt encoder learns too, fz2: its mask decoder, fz3: both, "
            "fz4: everything."
        ),
    ] = _DEFAULT.freeze,
    best_mask: Annotated[
        bool,
        Option(
            "--best-mask/--first-mask",
            help="Take the mask with the highest predicted IoU of SAM's three, or the first, as published.",
        ),
    ] = _DEFAULT.best_mask,
    random_start: Annotated[
        bool, Option("--random-start", help="Start the shift at random, as published, not at zero.")
    ] = not _DEFAULT.zero_start,
    double_sigmoid: Annotated[
        bool, Option("--double-sigmoid", help="The published loss, which cannot reach zero; to compare with.")
    ] = False,
    prepare: Annotated[
        Optional[bool],  # noqa: UP045
        Option("--prepare/--no-prepare", help=PREPARE_HELP, show_default="no-prepare"),
    ] = None,
    augment: Annotated[
        bool,
        Option(
            "--augment/--no-augment", help="Pictures: the published augmentation. Needs the extra `train`."
        ),
    ] = True,
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
    whole_image: WholeImage = False,
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
    """Adapt a frozen SAM by a network that places its points, and a shift of its mask tokens.

    Example: cryoseg train promise empiar10017 -o runs/promise --prompter apm --ips

    Example: cryoseg train promise lesions.csv -o runs/lesions --base sam_vit_b --prepare
    """
    prompt = PromptConfig(
        method=PromptMethod.PROMISE,
        promise=PromiseConfig(
            prompter=prompter,
            apm=apm,
            ips=ips,
            points=points,
            zero_start=not random_start,
            freeze=freeze,
            best_mask=best_mask,
        ),
    )
    config = TrainSamConfig.ours(prompt, steps=steps or 400, seed=seed, max_minutes=max_minutes)
    lists = [name for name in data if name.lower().endswith(".csv")]
    if lists and len(lists) < len(data):
        raise ConfigError("DATA: give CSV lists of pictures or folders of micrographs, not both.")
    if lists:
        _refuse(
            "is for micrographs; a CSV list says with train_type what each picture is for",
            {
                "--picks": picks,
                "--validation": validation,
                "--test": test,
                "--particle-diameter": particle_diameter,
                "--particle-diameter-px": particle_diameter_px,
                "--pixel-size": pixel_size,
                "--ignore-border": ignore_border,
                "--core": core,
                "--train-size": train_size,
                "--repeat": repeat > 1,
            },
        )
    else:
        _refuse("is for pictures in CSV lists", {"--prepare": prepare, "--no-augment": not augment})
    sample = SampleConfig.plain(batch=config.sample.batch) if whole_image or lists else config.sample
    config = replace(
        config,
        loss=SamLoss.DOUBLE_SIGMOID if double_sigmoid else config.loss,
        loop=replace(config.loop, learning_rate=learning_rate or config.loop.learning_rate),
        sample=replace(sample, batch=batch or sample.batch),
    )
    config = with_core(config, core, picks)
    facts = json.loads(card) if card else None
    with batch_console(quiet=quiet, verbose=verbose) as console:
        from cryoseg.pipelines.train_sam import find_base, split_micrographs

        place = find_base(base, checkpoints_dir)
        if prompter is Prompter.GT:
            console.err.print("--prompter gt: its figures are an upper bound; it cannot pick.", markup=False)
        if lists:
            from cryoseg.pipelines.train_pictures import train_pictures

            trained = train_pictures(
                config,
                place,
                [Path(name) for name in lists],
                output_dir,
                prepare=bool(prepare),
                augment=augment,
                standalone=standalone,
                device=device,
                card=facts,
                on_event=console,
            )
            is_finished = trained is not None
        else:
            from cryoseg.models.particle_files import load_base

            _, recipe, _ = load_base(place)
            if recipe is not None and config.sample.view is TrainView.WHOLE:
                raise ConfigError(
                    "--whole-image: trains on color squares and needs a published SAM as --base; a base with "
                    "a recipe of its own, such as particle-tiny, trains on tiles."
                )
            training, held_out = split_micrographs(data, validation or [], picks or [], seed=seed)
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
                standalone=standalone,
                device=device,
                card=facts,
            )
    if not is_finished:
        console.err.print("Stopped at --max-minutes; the same command goes on.", markup=False)
