"""`cryoseg train promise`: train a SAM that prompts itself, on micrographs or ordinary pictures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated

from typer import Argument, echo

from cryoseg.cli.option_groups import Changes, Shown, given_options
from cryoseg.cli.train.options import RunDir, say_unfinished
from cryoseg.cli.train.sam_options import (
    AdaptOptions,
    Base,
    TrainingMicrographs,
    WholeImage,
    train_on_micrographs,
)
from cryoseg.config.pictures import prepare_setting
from cryoseg.config.promise import PromiseConfig, Prompter
from cryoseg.config.prompt_sam import PromptConfig, PromptMethod
from cryoseg.config.setting import setting
from cryoseg.config.train import LoopConfig
from cryoseg.config.train_sam import USUAL_STEPS, SamLoss, SampleConfig, TrainSamConfig
from cryoseg.errors import ConfigError

_LOOP = {
    "steps": str(USUAL_STEPS),
    "learning_rate": "the method's",
    "validate_every": "an eighth of --steps",
}


def _refuse(reason: str, options: Mapping[str, object]) -> None:
    """Refuse options that were given but are not used."""
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
    *,
    output_dir: RunDir,
    base: Base = "particle-tiny",
    promised: PromiseConfig,
    double_sigmoid: Annotated[
        bool, setting(help="Use the published loss, which cannot reach zero, to compare with.")
    ] = False,
    prepare: Annotated[bool | None, prepare_setting(shown="no-prepare")] = None,
    augment: Annotated[
        bool, setting(help="Pictures: the published augmentation. Needs the extra `train`.")
    ] = True,
    micrographs: TrainingMicrographs,
    loop: Annotated[Changes[LoopConfig], Shown(_LOOP)],
    sample: Annotated[Changes[SampleConfig], Shown({"batch": f"{SampleConfig.batch}; 1 of whole images"})],
    whole_image: WholeImage = False,
    run: AdaptOptions,
) -> None:
    """Adapt a frozen SAM by a network that places its points, and a shift of its mask tokens.

    Example: cryoseg train promise empiar10017 -o runs/promise --prompter apm --ips

    Example: cryoseg train promise pictures.csv -o runs/pictures --base sam_vit_b --prepare
    """
    prompt = PromptConfig(method=PromptMethod.PROMISE, promise=promised)
    config = TrainSamConfig.ours(prompt, steps=loop.value("steps", default=USUAL_STEPS))
    lists = [name for name in data if name.lower().endswith(".csv")]
    if lists and len(lists) < len(data):
        raise ConfigError("DATA: give CSV lists of pictures or folders of micrographs, not both.")
    if lists:
        _refuse(
            "is for micrographs; a CSV list says with train_type what each picture is for",
            # The list gives the use of its pictures.
            {name: value for name, value in given_options(micrographs).items() if name != "--polarity"},
        )
    else:
        _refuse("is for pictures in CSV lists", {"--prepare": prepare, "--no-augment": not augment})
    if whole_image or lists:
        config = replace(config, sample=SampleConfig.plain(batch=config.sample.batch))
    config = replace(
        config,
        loss=SamLoss.DOUBLE_SIGMOID if double_sigmoid else config.loss,
        loop=loop.over(config.loop),
        sample=sample.over(config.sample),
    )
    from cryoseg.methods.particles.train import find_base

    place = find_base(base, run.checkpoints_dir)
    if promised.prompter is Prompter.GT:
        echo("--prompter gt: its metrics are an upper bound; it cannot pick.", err=True)
    if not lists:
        train_on_micrographs(config, place, data, output_dir, micrographs, run)
        return
    from cryoseg.methods.device import select_device
    from cryoseg.methods.particles.train_pictures import PictureData, train_pictures
    from cryoseg.methods.particles.trained import ModelOutput
    from cryoseg.methods.training.run import Runtime

    with run.console() as console:
        trained = train_pictures(
            micrographs.with_core(config),
            place,
            PictureData(lists=[Path(name) for name in lists], prepare=bool(prepare), augment=augment),
            output_dir,
            output=ModelOutput(standalone=run.standalone, card=run.model_card()),
            runtime=Runtime(device=select_device(run.device), on_event=console),
        )
    if trained is None:
        say_unfinished()
