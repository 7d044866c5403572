"""Train a prompt, a mask decoder or a whole SAM on micrographs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from torch import Tensor

from cryoseg.config.train_sam import PretrainConfig, TrainSamConfig, TrainView
from cryoseg.errors import InputError, WeightsError
from cryoseg.methods.model_file import is_model_file, load_strict
from cryoseg.methods.particles.data import MicrographPair, ReadOptions, find_micrographs, load_micrograph
from cryoseg.methods.particles.files import base_state, native_recipe
from cryoseg.methods.particles.fit import TrainedPart, adaptation_loss, pretraining_loss, validation_curves
from cryoseg.methods.particles.samples import TrainingMicrograph
from cryoseg.methods.particles.trained import (
    Adapted,
    ModelOutput,
    TrainedModel,
    begin_adaptation,
    fit_by_dice,
    with_scores,
    write_model,
)
from cryoseg.methods.prompt_sam.network import PromptSam
from cryoseg.methods.sam.geometry import TINY
from cryoseg.methods.training.run import Runtime, TrainingRun

VALIDATION_SHARE = 0.2
ANY_SCALE_ZOOM = 1.4  # A training with at least this zoom makes a model that may choose its scale.

T = TypeVar("T")
Load = Callable[..., tuple[TrainingMicrograph, float]]  # has the parameters of `load_micrograph`


@dataclass(frozen=True, kw_only=True)
class MicrographData:
    """Micrographs of one training.

    Attributes
    ----------
    training, held_out
        Training micrographs, and those for the choice of weights, threshold and calibration of scores.
    read
        Settings for reading them; None for the defaults.
    load
        Function that reads one, such as one that remembers what it has read.
    """

    training: Sequence[MicrographPair]
    held_out: Sequence[MicrographPair]
    read: ReadOptions | None = None
    load: Load = load_micrograph


def hold_out(items: Sequence[T], seed: int) -> tuple[list[T], list[T]]:
    """Split two or more items at random into four fifths for training and one fifth for validation."""
    order = np.random.default_rng(seed).permutation(len(items))
    count = max(1, round(VALIDATION_SHARE * len(items)))
    return [items[i] for i in sorted(order[count:])], [items[i] for i in sorted(order[:count])]


def split_micrographs(
    data: Sequence[str], validation_data: Sequence[str], picks: Sequence[Path] = (), *, seed: int
) -> tuple[list[MicrographPair], list[MicrographPair]]:
    """Return training and validation micrographs; without any of the latter a fifth is held out."""
    training, held_out = find_micrographs(data, picks)
    if validation_data:
        more, apart = find_micrographs(validation_data, picks)
        held_out = [*more, *apart]
    if held_out:
        known = {pair.image.resolve() for pair in held_out}
        training = [pair for pair in training if pair.image.resolve() not in known]
    elif len(training) > 1:
        training, held_out = hold_out(training, seed)
    if not training or not held_out:
        raise InputError(
            f"{data[0]}: one micrograph alone cannot be split into training and validation; "
            "give more, or name others with --validation."
        )
    return training, held_out


def load_all(
    pairs: Sequence[MicrographPair],
    options: ReadOptions,
    stage: str,
    runtime: Runtime,
    load: Load = load_micrograph,
) -> tuple[list[TrainingMicrograph], float]:
    """Read micrographs, and return them with the median particle diameter in pixels of the files.

    A pair that occurs several times, which gives it more weight, is read once.
    """
    known: dict[int, tuple[TrainingMicrograph, float]] = {}
    for pair in runtime.progress(list({id(pair): pair for pair in pairs}.values()), stage, "micrographs"):
        known[id(pair)] = load(pair, options, on_event=runtime.on_event)
    read = [known[id(pair)] for pair in pairs]
    return [micrograph for micrograph, _ in read], float(np.median([diameter for _, diameter in read]))


def train_prompt(
    config: TrainSamConfig,
    base: Path,
    data: MicrographData,
    folder: Path,
    *,
    output: ModelOutput = ModelOutput(),
    runtime: Runtime = Runtime(),
) -> TrainedModel | None:
    """Adapt a SAM to micrographs; continue where an earlier call in `folder` stopped.

    The result is None if the time limit came first.

    Parameters
    ----------
    config
        Settings of method, loop and samples.
    base
        SAM to adapt: a published file, or a model file with a whole network.
    data
        Micrographs, whose scale the model sets.
    folder
        Folder of `config.json`, `log.csv`, `last.pt`, `best.pt` and `<method>.safetensors`.
    output
        Content of the model file.
    runtime
        Device and receiver of events.
    """
    run, start, config = begin_adaptation(config, base, folder, runtime)
    network = start.network
    recipe = replace(start.recipe, core=config.core, any_scale=config.sample.zoom >= ANY_SCALE_ZOOM)
    geometry = network.geometry
    options = replace(
        data.read or ReadOptions(particle_pixels=recipe.particle_pixels),
        particle_pixels=recipe.particle_pixels,
        core=config.core,
        square=(geometry.image_size, geometry.logit_side) if config.sample.view is TrainView.WHOLE else None,
    )
    training = _Training(run=run, data=data, options=options, output=output)
    return training.model(
        replace(start, recipe=recipe),
        lambda micrographs: adaptation_loss(network, micrographs, config, runtime),
        config.to_dict(),
        {"base": start.base_record},
    )


@dataclass(frozen=True, kw_only=True)
class _Training:
    """A run on micrographs, from reading them to writing the model file."""

    run: TrainingRun
    data: MicrographData
    options: ReadOptions
    output: ModelOutput

    def model(
        self,
        start: Adapted,
        loss_on: Callable[[list[TrainingMicrograph]], Callable[[int], Tensor]],
        config: Mapping[str, Any],
        origin: Mapping[str, Any],
    ) -> TrainedModel | None:
        """Train, choose weights, threshold and calibration, and write the model; None if the time is over."""
        runtime, data, network = self.run.runtime, self.data, start.network
        (micrographs, diameter), (held_out, _) = (
            load_all(pairs, self.options, f"reading {kind} micrographs", runtime, data.load)
            for kind, pairs in (("training", data.training), ("validation", data.held_out))
        )
        network.to(runtime.device).eval()
        chosen = fit_by_dice(
            self.run,
            network if start.base is None else TrainedPart(network),
            loss_on(micrographs),
            lambda: validation_curves(network, held_out, runtime.device),
            {
                "config": config,
                "training": [pair.name for pair in data.training],
                "validation": [pair.name for pair in data.held_out],
                **origin,
            },
        )
        if chosen is None:
            return None
        recipe = replace(start.recipe, logit_threshold=chosen[0])
        recipe, metrics = with_scores(network, held_out, recipe, runtime.device)
        entries = {
            "validation_micrographs": len(held_out),
            "training_micrographs": len(micrographs),
            "particle_diameter_px": round(diameter, 2),
            **metrics,
        }
        return write_model(self.run, replace(start, recipe=recipe, dice=chosen[1]), self.output, entries)


def pretrain(
    config: PretrainConfig,
    data: MicrographData,
    folder: Path,
    *,
    start: Path | None = None,
    output: ModelOutput = ModelOutput(),
    runtime: Runtime = Runtime(),
) -> TrainedModel | None:
    """Train a small SAM from scratch with grids, points and boxes as prompts.

    The micrographs need numbered particles, such as simulated ones have; the model is
    `particle_sam.safetensors`. `start` is a model file of the same geometry with the weights to start with.
    The other parameters and the result are those of `train_prompt`.
    """
    run = TrainingRun(folder, "sam", config.loop, runtime)
    network = PromptSam(TINY, config.prompt)
    if start is not None:
        if not is_model_file(start):
            raise WeightsError(f"{start}: is not a model file of cryoseg, with which training can start.")
        load_strict(network, base_state(start), start)
    recipe = replace(native_recipe(config.prompt, TINY), particle_pixels=config.particle_pixels)
    options = ReadOptions(particle_pixels=config.particle_pixels)
    training = _Training(run=run, data=data, options=options, output=output)
    return training.model(
        Adapted(network=network, recipe=recipe),
        lambda micrographs: pretraining_loss(network, micrographs, config, runtime.device),
        {**config.to_dict(), "geometry": asdict(TINY)},
        {"start": None if start is None else start.name},
    )
