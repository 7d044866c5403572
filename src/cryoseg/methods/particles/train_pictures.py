"""Train a promptable network on ordinary pictures with masks."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cryoseg.config.train_sam import TrainSamConfig
from cryoseg.core.metrics.picture import PictureScore, score_picture
from cryoseg.core.picture_frame import open_mask
from cryoseg.errors import InputError
from cryoseg.events import Note
from cryoseg.io.images.pictures import PictureRow, Split, read_picture_list
from cryoseg.io.outputs import write_rows
from cryoseg.methods.particles.fit import TrainedPart, sam_loss, truth_points
from cryoseg.methods.particles.picture_samples import (
    Augment,
    PictureSamples,
    check_sizes,
    picture_input,
    picture_logits,
    published_augmentation,
    soft_target,
)
from cryoseg.methods.particles.train import hold_out
from cryoseg.methods.particles.trained import (
    UPPER_BOUND,
    ModelOutput,
    TrainedModel,
    begin_adaptation,
    fit_by_dice,
    write_model,
)
from cryoseg.methods.prompt_sam.network import PromptSam
from cryoseg.methods.training.learner import dice_by_threshold
from cryoseg.methods.training.run import Runtime

TEST_TABLE = "test.csv"
OPENING = 5  # side of the morphological opening in the published evaluation, in pixels


def split_pictures(lists: Sequence[Path], *, seed: int) -> dict[Split, list[PictureRow]]:
    """Return the rows of all lists by their part: training, validation or test.

    Without a `val` row a fifth of the `train` rows is held out. No picture may be in two parts.
    """
    parts: dict[Split, list[PictureRow]] = {split: [] for split in Split}
    for path in lists:
        for row in read_picture_list(path):
            parts[row.split].append(row)
    training = parts[Split.TRAIN]
    if not parts[Split.VAL] and len(training) > 1:
        parts[Split.TRAIN], parts[Split.VAL] = hold_out(training, seed)
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


@dataclass(frozen=True, kw_only=True)
class PictureData:
    """Pictures of one training and their preprocessing.

    Attributes
    ----------
    lists
        CSV files for `io.images.pictures.read_picture_list`.
    prepare, augment
        Whether to crop black borders, also later with the trained model, and to augment as published.
    """

    lists: Sequence[Path]
    prepare: bool = False
    augment: bool = True


def train_pictures(
    config: TrainSamConfig,
    base: Path,
    data: PictureData,
    folder: Path,
    *,
    output: ModelOutput = ModelOutput(),
    runtime: Runtime = Runtime(),
) -> TrainedModel | None:
    """Adapt a SAM to pictures; continue where an earlier call in `folder` stopped.

    `folder` also gets `test.csv` if a list has test rows. The other parameters and the result are those of
    `train_prompt`.
    """
    parts = split_pictures(data.lists, seed=config.loop.seed)
    for row in itertools.chain.from_iterable(parts.values()):
        check_sizes(row)
    run, start, config = begin_adaptation(config, base, folder, runtime)
    network, side = start.network, start.network.geometry.image_size
    training, held_out, tested = (
        PictureSamples(parts[split], side, crop_black=data.prepare)
        for split in (Split.TRAIN, Split.VAL, Split.TEST)
    )
    change = published_augmentation(side) if data.augment else None
    network.to(runtime.device).eval()
    chosen = fit_by_dice(
        run,
        TrainedPart(network),
        picture_loss(network, training, config, change, runtime.device),
        lambda: picture_curves(network, held_out, runtime.device),
        {
            "config": {**config.to_dict(), "prepare": data.prepare, "augment": data.augment},
            "training": [row.image.name for row in training.rows],
            "validation": [row.image.name for row in held_out.rows],
            "base": start.base_record,
        },
    )
    if chosen is None:
        return None
    threshold, dice = chosen
    entries: dict[str, Any] = {"validation_pictures": len(held_out), "training_pictures": len(training)}
    if len(tested):
        means = score_pictures(network, tested, threshold, folder / TEST_TABLE, runtime)
        entries["test"] = {"pictures": len(tested), "upper_bound": network.needs_truth, **means}
        bound = UPPER_BOUND if network.needs_truth else ""
        runtime.on_event(Note(text=f"test Dice {means['dice']:.4f}, IoU {means['iou']:.4f}{bound}"))
    recipe = replace(start.recipe, logit_threshold=threshold, crop_black=data.prepare)
    return write_model(run, replace(start, recipe=recipe, dice=dice), output, entries)


def picture_loss(
    network: PromptSam,
    samples: PictureSamples,
    config: TrainSamConfig,
    augment: Augment | None,
    device: torch.device,
) -> Callable[[int], Tensor]:
    """Return the function from the number of a step to the loss of its pictures."""
    seed = config.loop.seed

    def loss(step: int) -> Tensor:
        images, masks = samples.batch(config.sample.batch, seed=seed, step=step, augment=augment)
        target = soft_target(masks, network.geometry.logit_side).to(device)
        given = truth_points(network, masks.astype(np.int8), (seed, step), device)
        logits = network(picture_input(network, images).to(device), given)[0][:, 0]
        return config.loss_scale * sam_loss(logits.float(), target, kind=config.loss).mean()

    return loss


def picture_curves(
    network: PromptSam, samples: PictureSamples, device: torch.device
) -> list[NDArray[np.float64]]:
    """Return the Dice curve, (bins,), of every picture at the resolution of the network's masks."""
    network.eval()
    curves = []
    for i in range(len(samples)):
        logits, truth = _one(network, samples, i, device)
        curves.append(dice_by_threshold(logits, truth.astype(np.int8)))
    return curves


def _one(
    network: PromptSam, samples: PictureSamples, number: int, device: torch.device
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    image, mask = samples[number]
    given = truth_points(network, mask[None].astype(np.int8), (number,), device)
    logits = picture_logits(network, image, given, device)
    return logits, soft_target(mask[None], len(logits))[0].numpy() > 0.5


def score_pictures(
    network: PromptSam, samples: PictureSamples, threshold: float, table: Path, runtime: Runtime
) -> dict[str, float]:
    """Score test pictures, write a row for each to `table`, and return the mean scores.

    As in the publication, masks of 256 pixels are scored at this resolution after an opening by 5 x 5 pixels;
    the opening is proportional to the size of the masks.
    """
    names = [field.name for field in fields(PictureScore)]
    rows = [["method", "name", *names]]
    metrics = []
    numbered = list(enumerate(samples.rows))
    for i, row in runtime.progress(numbered, "scoring test pictures", "pictures"):
        logits, truth = _one(network, samples, i, runtime.device)
        kernel = max(1, round(OPENING * len(logits) / 256))
        score = score_picture(open_mask(logits > threshold, kernel), truth)
        metrics.append([getattr(score, name) for name in names])
        rows.append([network.config.label, row.image.name, *(f"{value:.6g}" for value in metrics[-1])])
    write_rows(table, rows, overwrite=True)
    columns = np.array(metrics)
    return {
        name: round(float(np.nanmean(column)), 4)
        for name, column in zip(names, columns.T, strict=True)
        if not np.isnan(column).all()
    }
