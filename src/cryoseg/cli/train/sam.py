"""`cryoseg train head-prompt|prefix-prompt|encoder-prompt|finetune|promise|sam`: train on micrographs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from typer import Argument, echo

from cryoseg.cli.option_groups import Changes, Shown, given_options
from cryoseg.cli.options import Mode0Option
from cryoseg.cli.train.options import ModelRun, RunDir, report_end
from cryoseg.config import Mode0
from cryoseg.config.common import (
    checkpoints_dir_setting,
    diameter_px_setting,
    diameter_setting,
    mode0_setting,
    picks_setting,
    pixel_size_setting,
)
from cryoseg.config.pictures import prepare_setting
from cryoseg.config.prompt_sam import PromiseConfig, PromptConfig, Prompter, PromptMethod, parse_blocks
from cryoseg.config.segment import Polarity, polarity_setting
from cryoseg.config.setting import Settings, setting
from cryoseg.config.train import LoopConfig, validation_setting
from cryoseg.config.train_sam import (
    PARTICLE_PIXELS,
    PUBLISHED_EPOCHS,
    USUAL_CORE,
    USUAL_STEPS,
    PretrainConfig,
    SamLoss,
    SampleConfig,
    TrainSamConfig,
    TrainView,
    core_setting,
)
from cryoseg.errors import ConfigError
from cryoseg.methods.weights import GROUPS

if TYPE_CHECKING:
    from cryoseg.methods.particles.data import MicrographPair, ReadOptions
    from cryoseg.methods.particles.files import ParticleRecipe


Micrographs = Annotated[
    list[str],
    Argument(
        help="Folders with images/ and labels/ (or masks/) of equal names, with train/ and valid/ of that "
        "form, or as simulated; with --picks, images, folders or globs.",
        show_default=False,
    ),
]
Base = Annotated[str, setting(help=f"SAM to adapt: particle-tiny, {', '.join(GROUPS['sam'])}, or a file.")]
WholeImage = Annotated[bool, setting(help="Train on whole micrographs as squares, not on tiles.")]


@dataclass(frozen=True, kw_only=True)
class TrainingMicrographs(Settings):
    """Micrographs for training and validation, and how they are read."""

    picks: tuple[Path, ...] = picks_setting((), shown="masks are used")
    validation: tuple[str, ...] = validation_setting(shown="a fifth of the data")
    particle_diameter: float | None = diameter_setting()
    particle_diameter_px: float | None = diameter_px_setting(shown="measured in masks")
    pixel_size: float | None = pixel_size_setting()
    polarity: Polarity = polarity_setting(Polarity.DARK)
    mode0: Mode0 = mode0_setting()
    ignore_border: int = setting(
        0, help="Width in pixels of the border of the images where particles are not labeled.", at_least=0
    )
    core: float | None = core_setting(None, shown=f"{USUAL_CORE:g} with --picks, 1 with masks")

    def split(self, data: Sequence[str], *, seed: int) -> tuple[list[MicrographPair], list[MicrographPair]]:
        """Return the micrographs for training, and those for validation."""
        from cryoseg.methods.particles.train import split_micrographs

        return split_micrographs(data, self.validation, self.picks, seed=seed)

    def read(self, recipe: ParticleRecipe | None) -> ReadOptions:
        """Return how micrographs are read for a base with this recipe; None for a published SAM."""
        from cryoseg.methods.particles.data import ReadOptions

        if None not in (self.particle_diameter, self.particle_diameter_px):
            raise ConfigError("Pass --particle-diameter or --particle-diameter-px, not both.")
        return ReadOptions(
            particle_pixels=PARTICLE_PIXELS if recipe is None else recipe.particle_pixels,
            diameter_px=self.particle_diameter_px,
            diameter_angstrom=self.particle_diameter,
            pixel_size=self.pixel_size,
            polarity=self.polarity,
            border_px=self.ignore_border,
            mode0=self.mode0,
        )

    def with_core(self, config: TrainSamConfig) -> TrainSamConfig:
        """Return the settings with the size of the discs; cores are used only if they can be learned."""
        core = self.core
        if core is None:
            promise = config.prompt.promise
            drawn = bool(self.picks) and config.sample.view is TrainView.TILES
            # With points alone, SAM marks whole particles.
            core = USUAL_CORE if drawn and (promise is None or promise.ips) else 1.0
        return replace(config, core=core)


@dataclass(frozen=True, kw_only=True)
class AdaptOptions(ModelRun):
    """Base network and model file of the adaptation of a SAM."""

    standalone: bool = setting(False, help="Write the whole network, so that no base is needed.")
    checkpoints_dir: Path | None = checkpoints_dir_setting()


_LOOP = {
    "steps": f"{USUAL_STEPS}; {PUBLISHED_EPOCHS} epochs if faithful",
    "learning_rate": "the method's",
    "validate_every": "an eighth of --steps; an epoch if faithful",
}


def _train_on_micrographs(
    config: TrainSamConfig,
    base: Path,
    data: Sequence[str],
    output_dir: Path,
    micrographs: TrainingMicrographs,
    run: AdaptOptions,
) -> None:
    """Adapt the SAM of a file on micrographs."""
    from cryoseg.methods.particles.files import load_base
    from cryoseg.methods.particles.train import MicrographData, train_prompt

    recipe = load_base(base)[1]
    if recipe is not None and config.sample.view is TrainView.WHOLE:
        raise ConfigError(
            "--whole-image and --faithful train on color squares and need a published SAM as --base; a base "
            "with a recipe of its own, such as particle-tiny, trains on tiles."
        )
    with run.runtime() as runtime:
        training, held_out = micrographs.split(data, seed=config.loop.seed)
        trained = train_prompt(
            micrographs.with_core(config),
            base,
            MicrographData(training=training, held_out=held_out, read=micrographs.read(recipe)),
            output_dir,
            output=run.output(standalone=run.standalone),
            runtime=runtime,
        )
    report_end(trained)


def _train(method: PromptMethod) -> Callable[..., None]:
    """Return the command of a method."""

    def command(
        data: Micrographs,
        *,
        output_dir: RunDir,
        base: Base = "particle-tiny",
        micrographs: TrainingMicrographs,
        loop: Annotated[Changes[LoopConfig], Shown(_LOOP)],
        sample: Annotated[Changes[SampleConfig], Shown({"batch": f"{SampleConfig.batch}; 1 if faithful"})],
        loss: Annotated[
            SamLoss | None, setting(help="Loss that is minimized.", shown="dice-bce; dice if faithful")
        ] = None,
        faithful: Annotated[
            bool, setting(help="Take the settings of the released Prompt-SAM scripts, with their defects.")
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
        from cryoseg.methods.weights import find_weights

        place = find_weights(base, checkpoints_dir=run.checkpoints_dir)
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
            config, loss=loss or config.loss, loop=loop.over(config.loop), sample=sample.over(config.sample)
        )
        _train_on_micrographs(config, place, data, output_dir, micrographs, run)

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
    data: Micrographs,
    *,
    output_dir: RunDir,
    validation: Annotated[tuple[str, ...], validation_setting(shown="a fifth of the data")] = (),
    start: Annotated[Path | None, setting(help="Model file of this kind to begin with.")] = None,
    config: PretrainConfig,
    mode0: Mode0Option = Mode0.AUTO,
    run: ModelRun,
) -> None:
    """Train a small promptable SAM from nothing, on simulated micrographs with numbered particles.

    Example: cryoseg train sam simulated/train --validation simulated/val -o runs/sam
    """
    from cryoseg.methods.particles.data import ReadOptions
    from cryoseg.methods.particles.train import MicrographData, pretrain, split_micrographs

    read = ReadOptions(particle_pixels=config.particle_pixels, mode0=mode0)
    with run.runtime() as runtime:
        training, held_out = split_micrographs(data, validation, seed=config.loop.seed)
        trained = pretrain(
            replace(config, loop=config.loop.with_short_warmup()),
            MicrographData(training=training, held_out=held_out, read=read),
            output_dir,
            start=start,
            output=run.output(),
            runtime=runtime,
        )
    report_end(trained)


_PROMISE_LOOP = {
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
        bool, setting(help="Use the published loss, which cannot reach zero, for comparison.")
    ] = False,
    prepare: Annotated[bool | None, prepare_setting(shown="no-prepare")] = None,
    augment: Annotated[
        bool, setting(help="For pictures: use the published augmentation. It needs the extra `train`.")
    ] = True,
    micrographs: TrainingMicrographs,
    loop: Annotated[Changes[LoopConfig], Shown(_PROMISE_LOOP)],
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
    from cryoseg.methods.weights import find_weights

    place = find_weights(base, checkpoints_dir=run.checkpoints_dir)
    if promised.prompter is Prompter.GT:
        echo("--prompter gt: its metrics are an upper bound; it cannot pick.", err=True)
    if not lists:
        _train_on_micrographs(config, place, data, output_dir, micrographs, run)
        return
    from cryoseg.methods.particles.train_pictures import PictureData, train_pictures

    with run.runtime() as runtime:
        trained = train_pictures(
            micrographs.with_core(config),
            place,
            PictureData(lists=[Path(name) for name in lists], prepare=bool(prepare), augment=augment),
            output_dir,
            output=run.output(standalone=run.standalone),
            runtime=runtime,
        )
    report_end(trained)
