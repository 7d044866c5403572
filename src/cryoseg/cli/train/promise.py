"""`cryoseg train promise`: a SAM that prompts itself, for micrographs and for ordinary pictures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Optional

from typer import Argument, Option, echo

from cryoseg.cli.console import batch_console
from cryoseg.cli.options import PREPARE_HELP
from cryoseg.cli.train.options import RunDir, say_unfinished
from cryoseg.cli.train.sam_options import (
    Base,
    Batch,
    Rate,
    RunOptions,
    Steps,
    TrainingMicrographs,
    WholeImage,
    train_on_micrographs,
)
from cryoseg.config.promise import ApmKind, FreezeType, PromiseConfig, Prompter
from cryoseg.config.prompt_sam import PromptConfig, PromptMethod
from cryoseg.config.train_sam import SamLoss, SampleConfig, TrainSamConfig
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
    micrographs: TrainingMicrographs = TrainingMicrographs(),
    steps: Steps = None,
    learning_rate: Rate = None,
    batch: Batch = None,
    whole_image: WholeImage = False,
    run: RunOptions = RunOptions(),
) -> None:
    """Adapt a frozen SAM by a network that places its points, and a shift of its mask tokens.

    Example: cryoseg train promise empiar10017 -o runs/promise --prompter apm --ips

    Example: cryoseg train promise pictures.csv -o runs/pictures --base sam_vit_b --prepare
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
    config = TrainSamConfig.ours(prompt, steps=steps or 400, seed=run.seed, max_minutes=run.max_minutes)
    lists = [name for name in data if name.lower().endswith(".csv")]
    if lists and len(lists) < len(data):
        raise ConfigError("DATA: give CSV lists of pictures or folders of micrographs, not both.")
    if lists:
        _refuse(
            "is for micrographs; a CSV list says with train_type what each picture is for",
            # What the pictures of a list are for and how they are read stands in the list.
            {name: value for name, value in micrographs.given().items() if name != "--polarity"},
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
    from cryoseg.methods.particles.train import find_base

    place = find_base(base, run.checkpoints_dir)
    if prompter is Prompter.GT:
        echo("--prompter gt: its metrics are an upper bound; it cannot pick.", err=True)
    if not lists:
        train_on_micrographs(config, place, data, output_dir, micrographs, run)
        return
    from cryoseg.methods.device import select_device
    from cryoseg.methods.particles.train_pictures import PictureData, train_pictures
    from cryoseg.methods.particles.trained import ModelOutput
    from cryoseg.methods.training.run import Runtime

    with batch_console(quiet=run.quiet, verbose=run.verbose) as console:
        trained = train_pictures(
            micrographs.with_core(config),
            place,
            PictureData(lists=[Path(name) for name in lists], prepare=bool(prepare), augment=augment),
            output_dir,
            output=ModelOutput(standalone=run.standalone, card=run.facts()),
            runtime=Runtime(device=select_device(run.device), on_event=console),
        )
    if trained is None:
        say_unfinished(console)
