"""`cryoseg train promise LIST.csv`: from ordinary pictures with masks to a model file."""

from __future__ import annotations

import csv
import io
import itertools
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from cryoseg import __version__
from cryoseg.config.train_sam import TrainSamConfig
from cryoseg.core.metrics.picture import PictureScore, score_picture
from cryoseg.core.picture_frame import open_mask
from cryoseg.errors import ConfigError, InputError
from cryoseg.events import Note, OnEvent, StageProgress, ignore
from cryoseg.io.images.pictures import PictureRow, Split, read_picture_list
from cryoseg.io.outputs import atomic_text, make_folder
from cryoseg.methods.device import peak_device_memory, select_device
from cryoseg.methods.particles.files import adapt, note_base, save_particle_model
from cryoseg.methods.particles.fit import LOGIT_BINS, TrainedPart, dice_by_threshold, truth_points
from cryoseg.methods.particles.losses import sam_loss
from cryoseg.methods.particles.picture_samples import (
    Augment,
    PictureSamples,
    check_sizes,
    picture_input,
    picture_logits,
    published_augmentation,
    soft_target,
)
from cryoseg.methods.particles.train import (
    UPPER_BOUND,
    VALIDATION_SHARE,
    TrainedModel,
    fingerprint_of,
    run_loop,
)
from cryoseg.methods.prompt_sam.network import PromptSam
from cryoseg.methods.training.loop import BEST

TEST_TABLE = "test.csv"
OPENING = 5  # pixels, of the published evaluation


def split_pictures(
    lists: Sequence[Path], *, seed: int, share: float = VALIDATION_SHARE
) -> dict[Split, list[PictureRow]]:
    """Rows of all lists by what they are for; test rows never choose anything.

    Without a `val` row a fifth of the `train` rows is held out.

    Raises
    ------
    InputError
        If a list is broken, nothing is left to train on, or a picture is in two parts.
    """
    parts: dict[Split, list[PictureRow]] = {split: [] for split in Split}
    for path in lists:
        for row in read_picture_list(path):
            parts[row.split].append(row)
    training = parts[Split.TRAIN]
    if not parts[Split.VAL] and len(training) > 1:
        order = np.random.default_rng(seed).permutation(len(training))
        count = max(1, round(share * len(training)))
        parts[Split.VAL] = [training[i] for i in sorted(order[:count])]
        parts[Split.TRAIN] = [training[i] for i in sorted(order[count:])]
    if not parts[Split.TRAIN] or not parts[Split.VAL]:
        raise InputError(
            f"{lists[0]}: has {len(training)} train rows and no val rows; give two train rows or more."
        )
    place: dict[Path, Split] = {}
    for split, rows in parts.items():
        for row in rows:
            if place.setdefault(row.image.resolve(), split) is not split:
                raise InputError(
                    f"{row.image}: is in {place[row.image.resolve()]} and in {split}; keep one of the rows."
                )
    return parts


def train_pictures(
    config: TrainSamConfig,
    base: Path,
    lists: Sequence[Path],
    run: Path,
    *,
    prepare: bool = False,
    augment: bool = True,
    standalone: bool = False,
    device: str = "auto",
    card: Mapping[str, Any] | None = None,
    on_event: OnEvent = ignore,
) -> TrainedModel | None:
    """Adapt a SAM to pictures, going on where an earlier call in `run` stopped.

    Parameters
    ----------
    config
        Method, loop and batch.
    base
        The SAM: a published file or a whole model of ours.
    lists
        See `io.images.pictures.read_picture_list`.
    run
        Receives `config.json`, `log.csv`, `last.pt`, `best.pt`, `<method>.safetensors`, and `test.csv`
        where a list has test rows.
    prepare
        Crop black borders; the model file remembers it.
    augment
        Take the published augmentation.
    standalone, device, card, on_event
        As for `train_prompt`.

    Returns
    -------
    TrainedModel or None
        None if the time limit came first.

    Raises
    ------
    InputError
        If data are unusable.
    ConfigError
        If the batch is too small, or Albumentations is missing.
    """
    begun = time.monotonic()
    place = select_device(device)
    torch.manual_seed(config.loop.seed)
    parts = split_pictures(lists, seed=config.loop.seed)
    for row in itertools.chain.from_iterable(parts.values()):
        check_sizes(row)
    network, recipe, base_model = adapt(base, config.prompt)
    config = replace(config, prompt=network.config)
    if config.sample.batch < network.smallest_batch:
        raise ConfigError(
            f"--batch {config.sample.batch}: the point network normalizes over the batch and needs "
            f"{network.smallest_batch} samples for squares of {network.geometry.image_size} pixels."
        )
    side = network.geometry.image_size
    training, judged, tested = (
        PictureSamples(parts[split], side, crop_black=prepare)
        for split in (Split.TRAIN, Split.VAL, Split.TEST)
    )
    change = published_augmentation(side) if augment else None
    make_folder(run)
    known = {
        "version": __version__,
        "config": {**config.to_dict(), "prepare": prepare, "augment": augment},
        "training": [row.image.name for row in training.rows],
        "validation": [row.image.name for row in judged.rows],
        "base": asdict(base_model),
    }
    network.to(place).eval()
    part = TrainedPart(network)
    loss = picture_loss(network, training, config, change, place)

    def score(module: nn.Module) -> float:
        network.eval()
        return float(picture_curve(network, judged, place).max())

    fingerprint = {**fingerprint_of(config, known), "pictures": f"prepare {prepare}, augment {augment}"}
    label = config.prompt.method.value
    told = config.prompt.label
    if not run_loop(part, loss, config.loop, run, score, fingerprint, told, known, on_event):
        return None
    part.load_state_dict(torch.load(run / BEST, map_location="cpu", weights_only=True)["model"])
    network.eval()
    curve = picture_curve(network, judged, place)
    threshold, dice = float(LOGIT_BINS[curve.argmax()]), float(curve.max())
    parameters = sum(p.numel() for p in network.trained_parameters())
    recipe = replace(recipe, logit_threshold=threshold, crop_black=prepare)
    facts = {
        "version": __version__,
        "validation_dice": round(dice, 4),
        "validation_pictures": len(judged),
        "training_pictures": len(training),
        "trained_parameters": parameters,
        "upper_bound": network.needs_truth,
        "device_bytes": peak_device_memory(place),
        "training": known["config"],
    }
    bound = UPPER_BOUND if network.needs_truth else ""
    if len(tested):
        means = judge_pictures(network, tested, threshold, run / TEST_TABLE, place, on_event)
        facts["test"] = {"pictures": len(tested), "upper_bound": network.needs_truth, **means}
        on_event(Note(text=f"test Dice {means['dice']:.4f}, IoU {means['iou']:.4f}{bound}"))
    seconds = time.monotonic() - begun
    path = run / f"{label}.safetensors"
    save_particle_model(
        path,
        network,
        recipe,
        base=None if standalone else base_model,
        card={**facts, "seconds": round(seconds, 1), **(card or {})},
    )
    if not standalone:
        note_base(run, base)
    on_event(Note(text=f"{path}: threshold {threshold:+.3f}, validation Dice {dice:.4f}{bound}"))
    return TrainedModel(path=path, dice=dice, threshold=threshold, parameters=parameters, seconds=seconds)


def picture_loss(
    network: PromptSam,
    samples: PictureSamples,
    config: TrainSamConfig,
    augment: Augment | None,
    device: torch.device,
) -> Callable[[int], Tensor]:
    """Loss of step n on augmented pictures."""
    seed = config.loop.seed

    def loss(step: int) -> Tensor:
        images, masks = samples.batch(config.sample.batch, seed=seed, step=step, augment=augment)
        target = soft_target(masks, network.geometry.logit_side).to(device)
        given = truth_points(network, masks.astype(np.int8), (seed, step), device)
        logits = network(picture_input(network, images).to(device), given)[0][:, 0]
        return config.loss_scale * sam_loss(logits.float(), target, kind=config.loss).mean()

    return loss


def picture_curve(network: PromptSam, samples: PictureSamples, device: torch.device) -> NDArray[np.float64]:
    """(bins,) mean Dice over pictures at each threshold of `LOGIT_BINS`, at the resolution of the masks."""
    curves = []
    for i in range(len(samples)):
        logits, truth = _one(network, samples, i, device)
        curves.append(dice_by_threshold(logits, truth.astype(np.int8)))
    return np.asarray(np.mean(curves, axis=0))


def _one(
    network: PromptSam, samples: PictureSamples, number: int, device: torch.device
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    image, mask = samples[number]
    given = truth_points(network, mask[None].astype(np.int8), (number,), device)
    logits = picture_logits(network, image, given, device)
    return logits, soft_target(mask[None], len(logits))[0].numpy() > 0.5


def judge_pictures(
    network: PromptSam,
    samples: PictureSamples,
    threshold: float,
    table: Path,
    device: torch.device,
    on_event: OnEvent = ignore,
) -> dict[str, float]:
    """Score pictures that chose nothing, a row each in `table`, which names the method; the means.

    As the publication scores: at the resolution of the masks, after opening by 5 x 5, where
    that resolution is the published 256; smaller networks are opened by less.
    """
    names = [field.name for field in fields(PictureScore)]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["method", "name", *names])
    figures = []
    for i, row in enumerate(samples.rows):
        logits, truth = _one(network, samples, i, device)
        kernel = max(1, round(OPENING * len(logits) / 256))
        score = score_picture(open_mask(logits > threshold, kernel), truth)
        figures.append([getattr(score, name) for name in names])
        writer.writerow([network.config.label, row.image.name, *(f"{value:.6g}" for value in figures[-1])])
        on_event(StageProgress(name="test", stage="scoring", done=i + 1, total=len(samples), unit="pictures"))
    with atomic_text(table, overwrite=True) as stream:
        stream.write(text.getvalue())
    columns = np.array(figures)
    return {
        name: round(float(np.nanmean(column)), 4)
        for name, column in zip(names, columns.T, strict=True)
        if not np.isnan(column).all()
    }
